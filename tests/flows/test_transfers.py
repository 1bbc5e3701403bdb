"""Transfers abroad on whole calls: counted by people, on record, stopped at the legal limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests import web
from tests.cli.shell import shell
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until

ID_CARD = "请核对身份证号 11010519491231002X"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    upstream = UpstreamSimulator()

    def entry(name: str, model: str, zone: str) -> dict[str, Any]:
        return {"id": name, "base_url": upstream.base_url, "models": [model], "zone": zone,
                "prices": {model: PRICES}}  # fmt: skip

    made = Stack(
        tmp_path_factory.mktemp("transfers"),
        "http://unused",
        upstreams=[entry("far", "sim-chat", "abroad"), entry("home", "home", "cn")],
        routing={"sovereignty": {"class/personal": "none"}},
        sovereignty={"transfer_basis": {"acme": "exempt"}, "sensitive_classes": ["personal"]},
    ).start()
    yield made
    made.close()
    upstream.close()


def ask(stack: Stack, key: str, text: str, model: str = "sim-chat", **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    headers = {"authorization": f"Bearer {key}"}
    return web.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers, timeout=20)


def reported(stack: Stack, tenant: str) -> dict[str, Any]:
    rows = stack.admin("GET", f"/api/v1/transfers?tenant={tenant}").json()["data"]
    return dict(rows[0]) if rows else {"calls": 0}


def sent_to(stack: Stack, reply: httpx.Response) -> str:
    path = f"/api/v1/audit-log/proofs/{reply.headers['x-request-id']}"
    until(lambda: stack.admin("GET", path).status_code == 200)
    found = stack.admin("GET", path)
    return str(msgspec.json.decode(found.json()["record"])["sent_to"])


def test_people_whose_data_went_abroad_are_counted_once_a_year(stack: Stack) -> None:
    key = stack.new_key(tenant="other")
    for user in ("ann", "bob", "ann"):
        last = ask(stack, key, "hello", user=user)
        assert last.status_code == 200, last.text
    ask(stack, key, "hello")
    at_home = ask(stack, key, "hello", "home", user="cid")
    until(lambda: reported(stack, "other")["calls"] == 4)
    stack.row_of(at_home)
    found = reported(stack, "other")
    assert (found["end_users_in_year"], found["new_end_users"], found["unnamed_calls"]) == (2, 2, 1)
    assert (found["basis"], found["warning"], found["stopped"]) == ("count", False, False)
    assert sent_to(stack, last) == "abroad" and sent_to(stack, at_home) == "cn"
    # The person is nowhere in clear: neither in the journal nor in the database.
    rows = stack.rows("select id, tenant from transfer_subjects")
    assert len(rows) == 2 and "ann" not in str(rows)


def test_a_tenant_that_reaches_its_limit_is_kept_inside(stack: Stack) -> None:
    policy = {"state": "active", "data_classes": {"resident_id": "personal"}}
    path = "/api/v1/moderation-policies/found"
    assert stack.admin("PUT", path, json={"spec": policy}).status_code == 200
    key = stack.new_key(tenant="acme")
    until(lambda: ask(stack, key, ID_CARD, user="ann").status_code != 200)
    refused = ask(stack, key, "hello", user="bob")
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "no_upstream"
    assert "`tenant/acme`" in refused.json()["error"]["message"]
    assert ask(stack, key, "hello", "home").status_code == 200
    found = reported(stack, "acme")
    assert found["stopped"] and found["warning"] and found["sensitive_end_users_in_year"] == 1
    path = "/api/v1/audit?tenant=acme&action=transfers:stopped"
    (noted,) = stack.admin("GET", path).json()["data"]
    assert noted["target"] == str(noted["detail"]["year"]) and noted["detail"]["basis"] == "exempt"
    # Others go on.
    assert ask(stack, stack.new_key(tenant="other"), "hello").status_code == 200


def test_the_register_of_processors_names_who_abroad_is_handed_data(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = "/api/v1/processors/far"
    spec = {"vendor": "=Far Cloud", "purpose": "answers", "upstreams": ["far", "gone"],
            "contract": "C-7", "region": "Singapore", "reviewed_on": "2026-11-01"}  # fmt: skip
    made = stack.admin("PUT", path, json={"spec": spec})
    assert made.status_code == 200 and "`gone`" in str(made.json()["warnings"])
    assert ask(stack, stack.new_key(tenant="third"), "hello").status_code == 200
    until(lambda: reported(stack, "third")["calls"])
    assert reported(stack, "third")["recipients"] == ["=Far Cloud"]
    late = stack.admin("PUT", path, json={"spec": spec | {"reviewed_on": "2026-02-30"}})
    assert late.status_code == 400 and late.json()["error"]["param"].endswith("reviewed_on")
    assert stack.admin("PUT", f"{path}?tenant=acme", json={"spec": spec}).status_code == 400
    environment = {"TOKENSCHAIN_CONTROL__URL": f"http://127.0.0.1:{stack.control_port}",
                   "TOKENSCHAIN_ADMIN_TOKEN": stack.admin_token}  # fmt: skip
    with shell(monkeypatch, capsys, **environment) as run:
        file = tmp_path / "register.csv"
        assert run("processors", "export", "--out", str(file)).code == 0
        head, entry = file.read_text("utf-8-sig").splitlines()
        assert head.startswith("name,vendor,purpose,upstreams") and entry.startswith("far,'=Far")
        assert "far; gone" in entry and entry.endswith("2026-11-01")
        empty = run("compliance", "transfers", "--month", "2020-02")
        assert "no call of this month" in empty.err and not empty.out


def test_the_bytes_of_a_whole_answer_are_on_record(stack: Stack) -> None:
    reply = ask(stack, stack.new_key(tenant="other"), "hello", "home")
    assert stack.row_of(reply)["bytes_out"] == len(reply.content) > 0


def test_a_month_that_there_is_not_is_said(stack: Stack) -> None:
    reply = stack.admin("GET", "/api/v1/transfers?month=2026-13")
    assert reply.status_code == 400 and reply.json()["error"]["param"] == "month"
    assert stack.admin("GET", "/api/v1/transfers?month=2020-02").json() == {"data": []}
