"""Outgoing connections are opened in `infra.egress` and `wire` only, or for a reason said here."""

from __future__ import annotations

import ast

from tests.house.tree import modules, name_of, parsed

OPENERS = {"httpx", "requests", "aiohttp", "urllib3", "http", "smtplib", "ftplib", "urllib",
           "websockets", "telnetlib", "xmlrpc"}  # fmt: skip
"""Libraries that connect by themselves."""
CALLS = {"create_connection", "open_connection", "urlopen", "urlretrieve", "getaddrinfo",
         "sock_connect", "start_tls"}  # fmt: skip
HARMLESS = {"urllib.parse", "http.HTTPStatus"}
OWN = {
    "infra/egress.py": "the place for it",
    "infra/egress_rules.py": "looks up what the settings name",
    "infra/model_store.py": "a command of the operator: models from the hub that it names",
    "wiring/machine.py": "asks this machine's own engine",
    "cli/http.py": "a command: the operator's own control and gateway",
    "cli/readiness.py": "the same: processes of this machine",
    "cli/admin_client.py": "the same",
    "cli/chat_client.py": "the same",
}
CLIENTS = {
    "infra/egress_rules.py": "the place for it; each keeps to the sovereignty mode",
    "control/publisher.py": "of tests only: `wiring/control.py` gives one",
}
"""Who makes a `wire.client.HttpClient`."""


def _imports(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_nothing_else_opens_connections() -> None:
    found = set()
    for path in modules():
        name = name_of(path)
        if name.startswith("wire/"):
            continue
        imports = _imports(parsed(path))
        opens = {
            each for each in imports
            if each.partition(".")[0] in OPENERS and not any(map(each.startswith, HARMLESS))
        }  # fmt: skip
        calls = {
            node.func.attr for node in ast.walk(parsed(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        }  # fmt: skip
        if opens or calls & CALLS:
            found.add(name)
    assert found == OWN.keys(), "go through infra.egress, or say here why not"


def test_each_client_is_made_where_its_addresses_are_known() -> None:
    found = set()
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "HttpClient":
                found.add(name_of(path))
                guarded = any(keyword.arg == "resolver" for keyword in node.keywords)
                assert guarded or name_of(path) in CLIENTS
    assert found == CLIENTS.keys()


def test_what_others_name_is_asked_through_the_guard() -> None:
    for name, count in (("wiring/gateway.py", 1), ("wiring/control.py", 2)):
        text = next(path for path in modules() if name_of(path) == name).read_text("utf-8")
        assert text.count("resolver=PublicResolver(") == count, name
        assert text.count("outside_client(") == 1, name
