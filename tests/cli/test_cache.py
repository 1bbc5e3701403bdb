"""Cache commands: files of pairs are read strictly, and their bad lines are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import shell
from tokenschain.cli import cache

GOOD = {"a": "How do I reset it?", "b": "how to reset it", "y": 1}


def test_bad_lines_of_a_file_of_pairs_are_named_and_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = [
        json.dumps(GOOD), "", "not json", "[1]", json.dumps(GOOD | {"y": 2}),
        json.dumps(GOOD | {"y": True}), json.dumps(GOOD | {"b": ""}),
        json.dumps(GOOD | {"a": "x" * 2_001}), json.dumps({"a": "x"}), json.dumps(GOOD),
    ]  # fmt: skip
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(cache, "call", lambda *given: pytest.fail("it was sent"))
    with shell(monkeypatch, capsys) as run:
        done = run("cache", "learn", "--pairs", str(path), "--model", "m")
    assert done.code == 1
    assert [said.split(":")[1] for said in done.err.splitlines() if str(path) in said] == [
        "3", "4", "5", "6", "7", "8", "9"
    ]  # fmt: skip
    assert "nothing was learned" in done.err


def test_pairs_are_sent_some_at_a_time_and_what_came_of_them_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join([json.dumps(GOOD | {"cat": "x"})] * 50), encoding="utf-8")
    sent: list[Any] = []

    def answer(method: str, path: str, body: Any) -> Any:
        sent.append(body)
        learned = len(body["pairs"]) - 1
        return {"learned": learned, "unlike": 1, "pairs": 60 * len(sent), "pairs_needed": 150,
                "threshold": 0.8125 if len(sent) == 3 else None, "processes": 1}  # fmt: skip

    monkeypatch.setattr(cache, "call", answer)
    with shell(monkeypatch, capsys) as run:
        done = run("cache", "learn", "--pairs", str(path), "--model", "m", "--project", "faq")
    assert [len(body["pairs"]) for body in sent] == [20, 20, 10]
    assert sent[0]["project"] == "faq" and sent[0]["pairs"][0] == GOOD
    assert "47 pairs" in done.out and "3 are so unlike" in done.out
    assert "from a confidence of 0.812" in done.out


def test_pairs_of_long_questions_are_sent_in_smaller_pieces() -> None:
    long, longest = ({"a": text, "b": text, "y": 1} for text in ("x" * 2_000, "长" * 2_000))
    assert [len(some) for some in cache._pieces([GOOD, *[long] * 9, longest, longest])] == [
        4, 4, 2, 1, 1,
    ]  # fmt: skip


def test_an_faq_becomes_pairs_and_its_bad_lines_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, bad = tmp_path / "faq.jsonl", tmp_path / "bad.jsonl"
    entries = [["怎么退货", "如何申请退货", "退货流程"], ["怎么换货"], ["How do I pay by card?"]]
    path.write_text("\n".join(json.dumps({"questions": ways, "answer": "x"}) for ways in entries))
    bad.write_text('{"questions": []}\n{"questions": ["a", 1]}\n{"questions": "a"}\n')
    sent: list[Any] = []

    def answer(method: str, path: str, body: Any) -> Any:
        sent.extend(body["pairs"])
        return {"learned": 1, "unlike": 0, "pairs": 9, "pairs_needed": 150, "threshold": None,
                "processes": 1}  # fmt: skip

    monkeypatch.setattr(cache, "call", answer)
    with shell(monkeypatch, capsys) as run:
        assert run("cache", "learn", "--faq", str(path), "--model", "m").code == 0
        done = run("cache", "learn", "--faq", str(bad), "--model", "m")
        both = run("cache", "learn", "--faq", str(path), "--pairs", str(path), "--model", "m")
    same = {frozenset((p["a"], p["b"])) for p in sent if p["y"]}
    other = {frozenset((p["a"], p["b"])) for p in sent if not p["y"]}
    assert frozenset(("怎么退货", "如何申请退货")) in same and not same & other
    assert any("怎么换货" in pair for pair in same), "an entry with one way is said otherwise"
    assert any("怎么换货" in pair and pair & set(entries[0]) for pair in other)
    assert done.code == 1 and done.err.count(str(bad)) == 3
    assert both.code == 1 and "either --pairs or --faq" in both.err
