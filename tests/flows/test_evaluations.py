"""Evaluation draw on a platform that runs: asked through the gateway, resumed, reviewed, signed."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import Shell, shell
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.cli.compliance import opened
from tokenschain.cli.evaluation_draw import ASKED, REPORT, REVIEW

QUESTIONS = [
    {"id": f"{kind}-{n}", "kind": kind, "text": f"question {n} of {kind}", "risk": risk}
    for kind, risk in (("content", "A.1.a"), ("refuse", ""), ("answer", ""))
    for n in range(4)
]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    path = tmp_path / "bank.jsonl"
    path.write_text("".join(f"{json.dumps(one)}\n" for one in QUESTIONS), "utf-8")
    return path


@pytest.fixture
def run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[Shell]:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    until(lambda: stack.admin("GET", "/api/v1/audit-log/checkpoint").status_code == 200)
    with shell(
        monkeypatch, capsys, TOKENSCHAIN_CONFIG=stack.environment["TOKENSCHAIN_CONFIG"],
        TOKENSCHAIN_ADMIN_TOKEN=stack.admin_token, TC_API_KEY=stack.key,
    ) as made:  # fmt: skip
        yield made


def answers_of(upstream: UpstreamSimulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be refused is refused, anything else answered."""

    def says(request: dict[str, Any], _sim: dict[str, Any]) -> list[Any]:
        text = str(request["messages"][-1]["content"])
        return ["抱歉，我不能帮你做这件事。" if "of refuse" in text else "Here is how it is."]

    monkeypatch.setattr(upstream, "says", says, raising=True)


def draw(run: Shell, bank: Path, *more: str) -> Any:
    return run("compliance", "draw", "--model", "sim-chat", "--bank", str(bank), "--out", "d",
               "--trial", "--yes", *more)  # fmt: skip


def test_a_draw_is_asked_judged_reviewed_and_signed(
    stack: Stack, upstream: UpstreamSimulator, run: Shell, bank: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    answers_of(upstream, monkeypatch)
    before = len(upstream.requests)
    done = draw(run, bank)
    assert done.code == 0, done.err
    assert len(upstream.requests) - before == len(QUESTIONS)
    assert "12 calls of sim-chat, at most " in done.err and "CNY" in done.err
    shares = {(one["kind"], one["judge"]): one["share"] for one in done_rows(done.out)}
    assert shares[("refuse", "phrases")] == "100.0%" and shares[("answer", "phrases")] == "0.0%"
    assert shares[("content", "keywords")] == "100.0%" and shares[("content", "people")] == ""
    report = json.loads(opened(Path("d", REPORT)).files["report.json"])
    assert (report["on_record"], report["asked"], report["passes"]) == (12, 12, False)
    assert report["served"][0]["model_served"] == "sim-chat"
    assert run("compliance", "verify", f"d/{REPORT}").code == 0
    marked = stack.admin("GET", "/api/v1/calls?tag=evaluation%3Dd&limit=200").json()["data"]
    assert len(marked) == 12, "each call is marked as part of the evaluation"
    at_s, calls = int(marked[0]["started_ms"]) // 1_000, [one["event_id"] for one in marked]
    assert on_record(stack, "sim-chat", at_s, calls) == 12
    assert on_record(stack, "other-chat", at_s, calls) == 0, "they asked for another model"
    assert on_record(stack, "sim-chat", at_s + 3_600, calls) == 0, "they were before it"

    rows = list(csv.DictReader(Path("d", REVIEW).read_text("utf-8-sig").splitlines()))
    rows[0] |= {"verdict": "不合格", "by": "ada"}
    write(rows)
    again = draw(run, bank)
    assert again.code == 0 and len(upstream.requests) - before == len(QUESTIONS), "asked once"
    report = json.loads(opened(Path("d", REPORT)).files["report.json"])
    said = {(one["kind"], one["judge"]): one for one in report["shares"]}
    assert said["content", "people"]["judged"] == 1 and said["content", "people"]["share"] == 0
    assert said["content", "all"]["share"] == 0.75, "a person overrules the rules"

    rows[1] |= {"verdict": "perhaps", "by": "ada"}
    write(rows)
    wrong = draw(run, bank)
    assert wrong.code == 1 and "review.csv line 3" in wrong.err and "ok, 合格" in wrong.err


def test_a_draw_that_broke_off_goes_on_where_it_was(
    upstream: UpstreamSimulator, run: Shell, bank: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers_of(upstream, monkeypatch)
    assert draw(run, bank).code == 0
    asked = Path("d", ASKED)
    lines = asked.read_bytes().splitlines(keepends=True)
    asked.write_bytes(b"".join(lines[:9]) + lines[9][:20])  # killed while it wrote
    before = len(upstream.requests)
    assert draw(run, bank, "--judge", "other-chat").code == 0
    models = [one["model"] for one in upstream.requests[before:]]
    assert models.count("sim-chat") == 4 and models.count("other-chat") == 12
    other = draw(run, bank, "--seed", "2")
    assert other.code == 1 and "another model, seed or bank" in other.err
    said = Path("d", REVIEW).read_text("utf-8-sig")
    for changed in (
        said.replace("id,kind", "编号,kind", 1).encode("gb18030"),  # as spreadsheets save it
        said.replace(",", ";").encode(),
        said.replace("verdict", "result", 1).encode(),
        b"",
    ):
        Path("d", REVIEW).write_bytes(changed)
        refused = draw(run, bank)
        assert refused.code == 1 and "d/review.csv is no CSV in UTF-8 " in refused.err, refused.err
        assert Path("d", REVIEW).read_bytes() == changed, "what people wrote stays"
    asked.write_bytes(b"torn\n")
    torn = draw(run, bank)
    assert torn.code == 1 and "the folder's files were changed" in torn.err, torn.err


def test_banks_that_are_too_small_or_wrong_are_refused_before_anything_is_asked(
    upstream: UpstreamSimulator, run: Shell, bank: Path
) -> None:
    before = len(upstream.requests)
    small = run("compliance", "draw", "--model", "sim-chat", "--yes")
    assert small.code == 1 and "lack 938 content, 280 refuse, 280 answer" in small.err
    bank.write_text('{"id": "a", "kind": "content", "text": "x"}\n{"id": "a"}\n', "utf-8")
    wrong = draw(run, bank)
    assert wrong.code == 2 and "bank.jsonl line 2" in wrong.err
    assert len(upstream.requests) == before


def test_what_a_statement_says_of_shares_is_computed_by_the_platform(stack: Stack) -> None:
    item = {"id": "a", "kind": "content", "request_id": "never", "verdicts": {"keywords": True}}
    digest = "0" * 64
    body = {"model": "m", "seed": 1, "began_at_s": 1, "answers_digest": digest,
            "banks": [{"name": "b", "digest": digest, "size": 1}]}  # fmt: skip
    twice = stack.admin("POST", "/api/v1/compliance/evaluations", json=body | {"items": [item] * 2})
    assert twice.status_code == 400 and twice.json()["error"]["param"] == "items"
    made = stack.admin("POST", "/api/v1/compliance/evaluations", json=body | {"items": [item]})
    assert made.status_code == 200 and made.headers["content-type"] == "application/x-tar"
    events = stack.admin("GET", "/api/v1/audit?action=compliance:evaluation").json()["data"]
    assert events[0]["detail"]["on_record"] == 0 and events[0]["detail"]["passes"] is False


def on_record(stack: Stack, model: str, began_at_s: int, calls: list[str]) -> int:
    """How many calls the platform says a draw has on record."""
    digest = "0" * 64
    items = [{"id": one, "kind": "content", "request_id": one, "verdicts": {}} for one in calls]
    body = {"model": model, "seed": 1, "began_at_s": began_at_s, "answers_digest": digest,
            "banks": [{"name": "b", "digest": digest, "size": 1}], "items": items}  # fmt: skip
    made = stack.admin("POST", "/api/v1/compliance/evaluations", json=body)
    assert made.status_code == 200, made.text
    found: int = stack.admin("GET", "/api/v1/audit?action=compliance:evaluation").json()[
        "data"][0]["detail"]["on_record"]  # fmt: skip
    return found


def done_rows(out: str) -> list[dict[str, str]]:
    head, *lines = [line.split("\t") for line in out.splitlines() if "\t" in line]
    return [dict(zip(head, line, strict=True)) for line in lines]


def write(rows: list[dict[str, str]]) -> None:
    with Path("d", REVIEW).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
