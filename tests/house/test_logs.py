"""docs/reference/logs.md has each event that the source logs, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.house.tree import DOCS, modules, parsed
from tokenschain.core import log_events
from tokenschain.infra import access_log
from tokenschain.providers.credential_pool import KeyState

LOGGING = {"debug", "info", "warning", "error", "report", "_report"}
"""What is called with an event's name: a logger's methods, and what passes events on to one."""
EVENT = re.compile(r"[a-z]+(_[a-z]+)+|listening|stopped|serving|comparing|fault")
NEWS = {"open", "closed", "rests"}
"""What gateways tell each other of a breaker."""


def _calls(names: set[str]) -> Iterator[ast.Call]:
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Call):
                function = node.func
                if getattr(function, "attr", getattr(function, "id", "")) in names:
                    yield node


def _texts(call: ast.Call) -> list[str]:
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return [v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)]


def logged() -> set[str]:
    """Every event; of those put together from parts, each that the source can make."""
    names = {access_log.EVENT}
    for call in _calls(LOGGING):
        event = call.args[0] if call.args else None
        if isinstance(event, ast.Constant) and EVENT.fullmatch(str(event.value)):
            names.add(str(event.value))
        elif isinstance(event, ast.JoinedStr):
            parts = event.values
            names |= _made(
                "".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in parts)
            )
    return names


def _made(pattern: str) -> set[str]:
    if pattern == "*_*":
        return _of_dependencies()
    if pattern == "breaker_*_elsewhere":
        return {f"breaker_{kind}_elsewhere" for kind in NEWS}
    if pattern == "upstream_key_*":
        return {f"upstream_key_{state}" for state in KeyState}
    assert not re.fullmatch(r"[a-z_*]+", pattern), f"say here which events {pattern} can make"
    return set()


def _of_dependencies() -> set[str]:
    """Of what is asked with a back-off: awaited, lost and back, or other words for it."""
    names = set()
    for call in _calls({"Backoff"}):
        words = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
        named = [a.value for a in call.args if isinstance(getattr(a, "value", None), str)]
        if "name" in words:
            named = [words["name"]]
        elif not named and any(keyword.arg == "name" for keyword in call.keywords):
            named = [text for lease in _calls({"_leases"}) for text in _texts(lease)]
        states = ("awaited", words.get("away", "lost"), words.get("back", "back"))
        names |= {f"{name}_{state}" for name in named for state in states}
    return names


def documented() -> list[str]:
    text = (DOCS / "reference" / "logs.md").read_text("utf-8")
    cells = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)]


def test_each_logged_event_is_documented_and_no_other() -> None:
    found = logged()
    assert len(found) > 60
    assert sorted(found) == sorted(set(documented()))


def test_each_event_has_a_meaning() -> None:
    text = (DOCS / "reference" / "logs.md").read_text("utf-8")
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| `")]
    assert rows and not [row for row in rows if not row[2].strip()]


def test_no_name_reads_as_if_records_were_lost() -> None:
    for event in logged():
        assert not re.match(r"(journal|budgets|rates|records|calls)_lost", event)


def test_each_ending_of_good_news_is_that_of_an_event() -> None:
    events = logged()
    unused = [one for one in log_events.GOOD_NEWS if not any(e.endswith(one) for e in events)]
    assert not unused
