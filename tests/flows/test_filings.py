"""Filings on whole calls: only filed models answer where a policy says so, under their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import web
from tests.cli.shell import shell
from tests.stack import Stack
from tests.waiting import until

NUMBER = "Example-GenAI-202611280001"
POLICY, FILING = "/api/v1/moderation-policies/filed", "/api/v1/filings"


@pytest.fixture
def closed(stack: Stack) -> Iterator[Stack]:
    """A platform that serves filed models only; `sim-chat` is one."""
    spec: dict[str, Any] = {"state": "active", "directions": ["input"], "require_filed": True}
    put(stack, f"{FILING}/sim", filing("sim-chat"))
    put(stack, POLICY, spec)
    until(lambda: stack.chat(model="other-chat").status_code == 403)
    yield stack
    for path in (POLICY, f"{FILING}/sim"):
        assert stack.admin("DELETE", path).status_code == 200
    until(lambda: stack.chat(model="other-chat").status_code == 200)


def filing(*models: str, **more: Any) -> dict[str, Any]:
    return {"number": NUMBER, "models": models, "source": "https://notice.example/1"} | more


def put(stack: Stack, path: str, spec: dict[str, Any]) -> Any:
    reply = stack.admin("PUT", path, json={"spec": spec})
    assert reply.status_code == 200, reply.text
    return reply.json()


def embed(stack: Stack) -> httpx.Response:
    body = {"model": "sim-embed", "input": "x"}
    return web.post(f"{stack.url}/v1/embeddings", json=body, headers=stack.headers, timeout=30)


def test_only_filed_models_answer_and_the_number_is_on_record_and_in_the_audit_log(
    closed: Stack,
) -> None:
    refused = closed.chat(model="other-chat")
    error = refused.json()["error"]
    assert error["code"] == "model_not_filed" and "`other-chat`" in error["message"]
    assert closed.row_of(refused)["outcome"] == "model_not_filed"
    assert closed.row_of(refused)["filing"] == ""
    answered = closed.chat(model="sim-chat")
    assert answered.status_code == 200 and closed.row_of(answered)["filing"] == NUMBER
    assert embed(closed).status_code == 200, "which generates nothing"
    call = closed.row_of(answered)["event_id"]
    shown = closed.admin("GET", f"/api/v1/calls/{call}").json()
    assert shown["filing"] == NUMBER
    until(lambda: NUMBER in closed.admin("GET", f"/api/v1/audit-log/proofs/{call}").text)


def test_a_virtual_model_is_served_by_the_filed_models_behind_it(closed: Stack) -> None:
    entries = [{"model": "other-chat"}, {"model": "sim-chat"}]
    put(closed, "/api/v1/virtual-models/both", {"entries": entries})
    until(lambda: closed.chat(model="both").status_code == 200)
    for _ in range(3):
        row = closed.row_of(closed.chat(model="both"))
        assert row["model_served"] == "sim-chat" and row["filing"] == NUMBER
    assert closed.admin("DELETE", "/api/v1/virtual-models/both").status_code == 200


def test_a_number_that_ended_or_is_to_come_serves_nobody(closed: Stack) -> None:
    for more in ({"ended_on": "2026-01-01"}, {"filed_on": "2999-01-01"}, {"kind": "algorithm"}):
        put(closed, f"{FILING}/sim", filing("sim-chat", **more))
        until(lambda: closed.chat(model="sim-chat").status_code == 403)
        put(closed, f"{FILING}/sim", filing("sim-chat"))
        until(lambda: closed.chat(model="sim-chat").status_code == 200)


def test_what_is_wrong_with_a_filing_is_said_and_training_asks_for_more(stack: Stack) -> None:
    for more, field in (
        ({"filed_on": "2026-02-30"}, "filed_on"),
        ({"filed_on": "2026-02-02", "ended_on": "2026-02-01"}, "ended_on"),
        ({"source": ""}, "source"),
        ({"models": []}, "models"),
        ({"link": "javascript:alert(1)"}, "link"),
    ):
        reply = stack.admin("PUT", f"{FILING}/sim", json={"spec": filing("sim-chat") | more})
        assert reply.status_code == 400, reply.text
        assert field in reply.json()["error"]["message"]
    own = {"spec": filing("sim-chat")}
    assert stack.admin("PUT", f"{FILING}/sim?tenant=default", json=own).status_code == 400
    trained = filing("sim-chat", kind="registration", modified=True)
    reply = stack.admin("PUT", f"{FILING}/sim?dry_run=true", json={"spec": trained})
    assert "is to be filed" in reply.json()["warnings"][0]


def test_a_table_of_filings_is_imported_whole_or_not_at_all(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    table = tmp_path / "filings.csv"
    url = f"http://127.0.0.1:{stack.control_port}"
    token = stack.admin_token
    with shell(
        monkeypatch, capsys, TOKENSCHAIN_CONTROL__URL=url, TOKENSCHAIN_ADMIN_TOKEN=token
    ) as run:
        head = "name,number,models,kind,filer,source"
        table.write_text(f"{head}\nfirst,1,sim-chat;other-chat,,某公司,公告\nsecond,,m,,,x\n")
        wrong = run("filings", "import", str(table))
        assert wrong.code == 1 and "line 3" in wrong.err and "number" in wrong.err
        assert "first" not in run("filings", "list").out
        table.write_text("\ufeff" + table.read_text().replace("second,,m", "second,2,m"), "utf-8")
        done = run("filings", "import", str(table), "--reason", "the notice")
        assert done.code == 0 and "+ filing first" in done.out
        rows = {row["name"]: row["spec"] for row in run("filings", "list").rows}
        assert "models: (sim-chat, other-chat)" in rows["first"]
        table.write_text("number\n1\n")
        assert run("filings", "import", str(table)).code == 2
        for name in ("first", "second"):
            assert run("filings", "remove", name).code == 0
