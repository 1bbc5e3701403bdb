"""The commands made from the table: each operation has one, and they do what the API does."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import typer.main
from docs import command_operations, generate, http_reference

from tests.cli.shell import Shell, shell
from tests.small_server import JsonHandler, serving
from tests.stack import Stack
from tokenschain import cli
from tokenschain.cli import admin_client, api_commands, command_table, operations
from tokenschain.cli.command_table import BY_HAND, COMMANDS, WITHOUT
from tokenschain.cli.operations import Field, Operation
from tokenschain.infra.config import ADMIN_TOKEN_VARIABLE


def commands(group: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, child in getattr(group, "commands", {}).items():
        full = f"{path} {name}".strip()
        if hasattr(child, "commands"):
            yield from commands(child, full)
        else:
            yield full, child


@pytest.fixture(scope="module")
def known() -> dict[str, Any]:
    return dict(commands(typer.main.get_command(cli.app)))


# --- the table against the running application --------------------------------------------------


def test_each_operation_of_the_running_api_has_a_command(known: dict[str, Any]) -> None:
    document = http_reference.control_app().openapi()
    running = {
        f"{one.method} {one.path.removeprefix('/api/v1')}"
        for one in http_reference.admin_operations(document)
    }
    assert running == set(operations.operations()), "run `make docs`"
    assert len(running) > 60
    by_table = command_table.all_commands(operations.operations().values())
    found = {command.operation: command.name for command in by_table} | BY_HAND
    for operation in sorted(running - set(WITHOUT)):
        assert found[operation] in known, operation
    assert set(WITHOUT) <= running and not set(WITHOUT) & set(found)
    assert set(found) <= running, "commands of operations that are gone"


def test_what_the_commands_know_of_the_api_is_current() -> None:
    assert generate.OPERATIONS.read_bytes() == command_operations.document(), "run `make docs`"


def test_each_option_and_argument_says_what_it_is(known: dict[str, Any]) -> None:
    without = [
        f"{name} {parameter.name}"
        for name, command in known.items()
        for parameter in command.params
        if not getattr(parameter, "hidden", False) and not getattr(parameter, "help", None)
    ]
    assert not without, " | ".join(without)


def test_columns_and_fields_of_the_table_are_those_of_the_operation() -> None:
    known = operations.operations()
    for command in COMMANDS:
        operation = known[command.operation]
        fields = {field.name for field in operation.fields}
        said = {*command.arguments.split(), *command.asks.split(), *command.offers.split()}
        assert said | set(command.fixed) <= fields, command.name
        columns = {*command.columns.split(), *([command.shown_once] if command.shown_once else ())}
        assert columns - {"state"} <= set(operation.columns), command.name


def test_an_operation_without_a_row_gets_a_command_by_convention() -> None:
    def name(method: str, path: str, answers: Any = "object") -> str:
        return command_table.by_convention(Operation(method, path, "", answers=answers)).name

    assert name("GET", "/virtual-models", "pages") == "virtual-models list"
    assert name("GET", "/virtual-models/{name}") == "virtual-models show"
    assert name("PUT", "/virtual-models/{name}") == "virtual-models set"
    assert name("PATCH", "/virtual-models/{name}") == "virtual-models change"
    assert name("DELETE", "/virtual-models/{name}") == "virtual-models remove"
    assert name("POST", "/things") == "things create"
    assert name("POST", "/revisions/{revision}/rollback") == "revisions rollback"


# --- values ---------------------------------------------------------------------------------


def test_times_are_a_while_ago_or_chinas_days() -> None:
    now = int(time.time())
    assert abs(api_commands._since("7d") - (now - 7 * 86_400)) < 60
    assert abs(api_commands._since("7d ago") - (now - 7 * 86_400)) < 60
    assert abs(api_commands._since("now") - now) < 60 and abs(api_commands._until("now") - now) < 60
    assert abs(api_commands._until("12h") - (now + 12 * 3_600)) < 60
    assert api_commands._since("2026-11-25") == 1_795_536_000, "midnight in China"
    assert api_commands._since("2026-11-25T00:00Z") == 1_795_564_800
    assert api_commands._since("1764000000") == 1_764_000_000
    assert api_commands._duration("90") == 90 and api_commands._duration("1.5h") == 5_400
    for wrong in ("soon", "", "7y", "2026-13-01"):
        with pytest.raises(typer.BadParameter):
            api_commands._since(wrong)


def test_a_structure_is_json_yaml_or_a_file(tmp_path: Any) -> None:
    assert api_commands.structure('{"a": [1]}') == {"a": [1]}
    (tmp_path / "spec.yaml").write_text("a: [1]\nname: 百炼\n")
    assert api_commands.structure(f"@{tmp_path}/spec.yaml") == {"a": [1], "name": "百炼"}
    for wrong in ("{", "@/nowhere.yaml"):
        with pytest.raises(typer.BadParameter):
            api_commands.structure(wrong)


def test_names_of_options_have_no_units() -> None:
    assert Field("from_s", "query").option == "from"
    assert Field("expires_at_s", "body").option == "expires-at"
    assert Field("networks", "body", "texts").option == "network"
    assert Field("data_class", "body").option == "data-class"


# --- against a running control ------------------------------------------------------------------


@pytest.fixture
def run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    with shell(
        monkeypatch, capsys,
        TOKENSCHAIN_CONTROL__URL=f"http://127.0.0.1:{stack.control_port}", TOKENSCHAIN_ADMIN_TOKEN=stack.admin_token,
    ) as made:  # fmt: skip
        yield made


def test_a_tenant_its_projects_and_keys(run: Shell) -> None:
    assert run("tenants", "create", "shop", "--title", "Shop", "--prepaid").code == 0
    assert run("projects", "create", "shop", "faq").code == 0
    (tenant,) = [row for row in run("tenants", "list").rows if row["name"] == "shop"]
    assert tenant["prepaid"] == "yes" and tenant["state"] == "active"
    made = run("keys", "create", "--tenant", "shop", "--project", "faq", "--tag", "team=a",
               "--tag", "vip", "--network", "10.0.0.0/8", "--priority", "bulk",
               "--expires-at", "30d")  # fmt: skip
    assert made.code == 0 and re.fullmatch(r"tc-[\w-]{43}\n", made.out), made
    assert "not shown again" in made.err
    (key,) = json.loads(run("keys", "list", "--tenant", "shop", "-o", "json").out)
    assert key["tags"] == ["team=a", "vip"] and key["networks"] == ["10.0.0.0/8"]
    assert abs(key["expires_at_s"] - time.time() - 30 * 86_400) < 600
    assert run("keys", "change", key["id"], "--no-routing-details", "--name", "night").code == 0
    assert "name\tnight" in run("keys", "show", key["id"]).out
    stale = run("keys", "change", key["id"], "--name", "x", "--if-match", "999999")
    assert stale.code == 1 and "changed since" in stale.err
    assert run("keys", "revoke", key["id"]).out.strip() == key["id"]
    (row,) = run("keys", "list", "--tenant", "shop").rows
    assert row["state"] == "revoked"
    assert run("tenants", "change", tenant["id"], "--closed").code == 0
    assert "state" not in run("tenants", "show", tenant["id"]).err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_what_has_to_be_shown_again_is_asked_for(
    run: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "a long password 1"
    run("tenants", "create", "desk")
    run("users", "create", "an@desk.example", "--tenant", "desk", "--role", "owner",
        given=f"{password}\n")  # fmt: skip
    token = run("me", "sign-in", "an@desk.example", given=f"{password}\n").out.strip()
    monkeypatch.setenv(ADMIN_TOKEN_VARIABLE, token)
    new = ("users", "create", "bo@desk.example", "--tenant", "desk", "--service")
    refused = run(*new)
    assert refused.code == 1 and "step-up" in refused.err
    asked: list[str] = []

    def answer(text: str, **_: object) -> str:
        asked.append(text)
        return password if text == "password" else ""

    monkeypatch.setattr(typer, "prompt", answer)
    monkeypatch.setattr("tests.cli.shell.io", SimpleNamespace(StringIO=_Terminal))
    assert run(*new).out.startswith("svc_")
    assert len(asked) == 2
    assert run("users", "create", "cy@desk.example", "--tenant", "desk", "--service").code == 0
    assert len(asked) == 2, "it was shown a moment ago"


def test_people_roles_and_tokens(run: Shell) -> None:
    run("tenants", "create", "crew")
    wrong = run("users", "create", "li@crew.example", "--tenant", "crew", "--role", "develper",
                given="a long password 1\n")  # fmt: skip
    assert wrong.code == 2 and "developer" in wrong.err
    assert not run("users", "list", "--tenant", "crew").out, "nobody is made without a role"
    made = run("users", "create", "li@crew.example", "--tenant", "crew", "--role", "developer",
               given="a long password 1\n")  # fmt: skip
    user = made.out.strip()
    assert made.code == 0 and user.startswith("usr_")
    token = run("me", "sign-in", "li@crew.example", given="a long password 1\n").out.strip()
    assert token.startswith("tcs-")
    assert run("users", "disable", user).code == 0
    assert run("users", "list", "--tenant", "crew").rows[0]["state"] == "disabled"
    assert run("users", "enable", user).code == 0
    assert run("roles", "set", "crew", "helper", "--permission", "keys:read").code == 0
    assert [r["name"] for r in run("roles", "list", "--tenant", "crew").rows][-1] == "helper"
    bound = run("users", "grant", user, "helper", "--tenant", "crew").out.strip()
    held = run("roles", "remove", "crew", "helper")
    assert held.code == 1 and "take them away first" in held.err
    assert run("users", "revoke", bound).code == 0
    assert run("roles", "remove", "crew", "helper").code == 0


def test_money(run: Shell) -> None:
    run("tenants", "create", "payer")
    paid = run("wallet", "deposit", "payer", "20.00", "--reference", "bank 1").out.strip()
    assert "balances_pico\t20 CNY" in run("wallet", "show", "payer").out
    twice = run("wallet", "deposit", "payer", "20.00", "--reference", "bank 1")
    assert twice.code == 1 and paid in twice.err
    rows = run("ledger", "list", "--tenant", "payer").rows
    assert {row["transaction_id"] for row in rows} == {paid}
    assert run("ledger", "reverse", paid, "--reason", "twice").code == 0
    priced = run("prices", "set", "sim-chat", "--tenant", "payer", "--input", "0.8",
                 "--output", "2")  # fmt: skip
    assert priced.code == 0, priced
    prices = run("prices", "list", "--tenant", "payer").rows  # and the platform's, if it has any
    assert [row["price"] for row in prices if row["tenant"] == "payer"] == ["0.8 / 2 CNY"]
    assert run("fx", "set", "2026-11-25", "7.0805", "--source", "CFETS").code == 0
    assert {"day": "2026-11-25", "usd_cny_micro": "7.0805", "source": "CFETS"} in run(
        "fx", "list"
    ).rows
    again = run("ledger", "rerate", "--tenant", "payer", "--model", "sim-chat", "--from", "1d",
                "--until", "0d", "--reason", "late")  # fmt: skip
    assert again.code == 0, again


def test_calls_by_filter_and_by_request_id(run: Shell, stack: Stack) -> None:
    reply = stack.chat(max_tokens=3)
    assert reply.status_code == 200, reply.text
    stack.row_of(reply)
    event = reply.headers["x-request-id"]
    upstream = reply.headers["x-tc-upstream"]
    listed = run("calls", "list", "--upstream", upstream, "--limit", "0").rows
    assert event in {row["event_id"] for row in listed}
    assert f"event_id\t{event}" in run("calls", "show", event).out
    away = run("calls", "show", "req_nowhere")
    assert away.code == 1 and "no such call" in away.err
    few = run("calls", "list", "--limit", "1")
    assert len(few.rows) == 1
    out = run("calls", "export", "--from", "1d", "--until", "2099-01-01")
    assert event in out.out and out.out.startswith("event_id,")
    used = run("usage", "--by", "model,day")
    days = [(row["model"], row["day"]) for row in used.rows]
    assert days and len(days) == len(set(days)), "no day stands twice"
    for by in ("tag", "day,tag", "tag,model", "model,"):
        assert run("usage", "--by", by).code == 0, by
    assert "one of" in run("usage", "--by", "modle").err


def test_limits_for_everyone_are_asked_for(run: Shell) -> None:
    bare = run("limits", "set", "all-rpm", "10")
    assert bare.code == 2 and "--everyone" in bare.err
    typo = run("limits", "set", "all-rpm", "10", "--match", "tennant=acme")
    assert typo.code == 2 and "did you mean tenant" in " ".join(typo.err.split()), typo.err
    assert "VALUE" in run("limits", "set", "x", "10", "--match", "tenant").err
    assert "whole number" in run("limits", "set", "x", "12.50", "--everyone").err
    assert run("limits", "set", "all-rpm", "1000000", "--everyone").code == 0
    (row,) = [row for row in run("limits", "list").rows if row["id"] == "all-rpm"]
    assert (row["limit"], row["match"]) == ("1,000,000", "everyone")
    assert run("limits", "remove", "all-rpm").code == 0


def test_empty_lists_and_names_that_are_not_there(run: Shell) -> None:
    run("tenants", "create", "emptyhall")
    empty = run("keys", "list", "--tenant", "emptyhall")
    assert (empty.code, empty.out) == (0, "") and "nothing found" in empty.err
    for command in (("keys", "list"), ("usage",), ("calls", "list"), ("cache", "stats")):
        near = run(*command, "--tenant", "emptyhal")
        assert near.code == 1 and "did you mean emptyhall" in near.err, command
    assert run("model", "list", "--provider", "aliyun").code == 1
    assert run("keys", "lst").code == 2


def test_where_control_is_not_reached_the_exit_code_says_so(
    run: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKENSCHAIN_CONTROL__URL", "http://127.0.0.1:9")
    for command in (("keys", "list"), ("usage",), ("records", "retry"), ("calls", "export",
                    "--from", "1d", "--until", "0d")):  # fmt: skip
        away = run(*command)
        assert away.code == 3 and "cannot be reached" in away.err, command
        assert len(away.err.strip().splitlines()) == 1


def test_chinese_by_locale(run: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert "租户" in run("tenants", "list", "--help").out
    assert "没有找到" in run("keys", "list", "--tenant", "default", "--project", "none").err
    monkeypatch.setenv("TOKENSCHAIN_LANG", "en")
    assert "List" in run("tenants", "list", "--help").out


# --- texts for people ---------------------------------------------------------------------------


def test_a_report_is_printed_as_it_is_and_by_its_fields_for_programs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    report = {"markdown": "# Report\n\n- one\x1b[31m\n", "missing": ["who"], "complete": True}

    class Handler(JsonHandler):
        def do_GET(self) -> None:
            self._send(200, report)

    monkeypatch.chdir(tmp_path)
    with (
        serving(Handler) as url,
        shell(
            monkeypatch, capsys, TOKENSCHAIN_CONTROL__URL=url, TOKENSCHAIN_ADMIN_TOKEN="t"
        ) as run,
    ):
        assert run("incidents", "draft", "inc_1").out == "# Report\n\n- one [31m\n"
        assert json.loads(run("incidents", "draft", "inc_1", "-o", "json").out) == report


# --- a server that is watched ---------------------------------------------------------------------


def test_what_calls_said_is_exported_and_what_an_erasure_would_do_is_counted(run: Shell) -> None:
    asked = ("--tenant", "default", "--reason", "request 12")
    assert run("audit", "export-content", *asked, "-o", "json").out.strip() == "[]"
    assert run("audit", "export-content", *asked).code == 0
    done = run("audit", "erase", *asked, "--dry-run")
    assert done.code == 0 and "contents" in done.out and "held" in done.out


def test_pages_of_a_list_that_is_asked_for_with_a_body_are_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[admin_client.AdminRequest] = []

    def send(_: object, request: admin_client.AdminRequest) -> dict[str, Any]:
        asked.append(request)
        return {"data": [len(asked)] * 2, "next_cursor": "c" if len(asked) < 3 else None}

    monkeypatch.setattr(admin_client, "send", send)
    request = admin_client.AdminRequest("POST", "/x", {"tenant": "t"})
    assert admin_client.pages(None, request, None) == ([1, 1, 2, 2, 3, 3], True)  # type: ignore[arg-type]
    assert [one.body for one in asked] == [
        {"tenant": "t"}, *[{"tenant": "t", "cursor": "c"}] * 2
    ]  # fmt: skip
    assert not any(one.query for one in asked)
    asked.clear()
    assert admin_client.pages(None, request, 3) == ([1, 1, 2], False)  # type: ignore[arg-type]


def test_watch_shows_again_and_pages_are_followed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    asked: list[str] = []
    enough = threading.Event()

    class Handler(JsonHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            more = "cursor" not in self.path
            self._send(200, {"data": [{"event_id": f"req_{len(asked)}"}],
                             "next_cursor": "next" if more else None})  # fmt: skip
            if len(asked) >= 4:
                enough.set()

    def sleep(seconds: float) -> None:
        assert seconds == api_commands.WATCH_S
        if enough.is_set():
            raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "sleep", sleep)
    with (
        serving(Handler) as url,
        shell(
            monkeypatch, capsys, TOKENSCHAIN_CONTROL__URL=url, TOKENSCHAIN_ADMIN_TOKEN="t"
        ) as run,
    ):
        done = run("calls", "list", "--watch", "--limit", "0")
    assert done.code == 0 and done.out.count("event_id") == 2
    assert len(asked) == 4 and "cursor=next" in asked[1]
