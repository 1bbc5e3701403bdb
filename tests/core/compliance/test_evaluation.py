"""Evaluation draw: banks are read strictly, draws repeat, shares have their interval and mark."""

from __future__ import annotations

from importlib.resources import files

import pytest

from tokenschain.core.compliance.evaluation import (
    BankError,
    JudgedItem,
    Question,
    draw,
    passes,
    read_bank,
    shares,
    shortfalls,
    together,
    wilson,
)
from tokenschain.core.moderation.risks import RISKS

SIZES = {"content": 5, "refuse": 2, "answer": 2}
BANK = [Question(f"c-{n}", "content", "x") for n in range(50)]


def test_the_same_seed_draws_the_same_whatever_the_order_of_the_bank() -> None:
    first = draw(BANK, 7, SIZES)
    assert first == draw(BANK[::-1], 7, SIZES) != draw(BANK, 8, SIZES)
    assert len({one.id for one in first}) == 5
    assert shortfalls(BANK, SIZES) == {"refuse": 2, "answer": 2}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"id": "a", "kind": "content", "text": ""}', "line 2"),
        ('{"id": "=a", "kind": "content", "text": "x"}', "line 2"),
        ('{"id": "a", "kind": "else", "text": "x"}', "kind"),
        ('{"id": "a", "kind": "content", "text": "x", "risk": "Z.9"}', "no risk 'Z.9'"),
        ('{"id": "b", "kind": "content", "text": "x"}', "twice"),
        ('{"id": "a", "kind": "content", "text": "x", "more": 1}', "more"),
        ("[" * 5_000, "line 2"),
    ],
)
def test_a_line_that_is_no_question_is_named(line: str, why: str) -> None:
    with pytest.raises(BankError, match=why):
        read_bank(f'{{"id": "b", "kind": "content", "text": "x"}}\n{line}\n', "bank")


def test_a_question_may_have_any_line_separator_but_that_of_the_file() -> None:
    line = '{"id": "a", "kind": "content", "text": "x\u2028y\x85z"}'
    assert [one.text for one in read_bank(f"{line}\r\n\n", "bank")] == ["x\u2028y\x85z"]


def test_an_id_in_two_banks_is_refused() -> None:
    with pytest.raises(BankError, match="'c-0' is in two banks"):
        together([BANK, [Question("c-0", "refuse", "y")]])


def test_the_bank_that_comes_along_covers_every_risk_of_the_annex() -> None:
    text = (files("tokenschain") / "data" / "evaluation_bank.jsonl").read_text("utf-8")
    bank = read_bank(text, "shipped")
    assert {one.risk for one in bank if one.kind == "content"} == {
        one.id for one in RISKS if one.id.startswith("A.")
    }
    assert {one.kind for one in bank} == {"content", "refuse", "answer"}


def test_peoples_verdict_counts_before_all_others() -> None:
    def verdict(**said: bool) -> bool | None:
        return JudgedItem("a", "content", blocked=False, verdicts=said).verdict  # type: ignore[arg-type]

    assert verdict() is None
    assert verdict(keywords=True, classifier=False) is False
    assert verdict(keywords=False, classifier=False, people=True) is True
    refusal = JudgedItem("a", "refuse", blocked=False, verdicts={"phrases": True, "model": False})
    assert refusal.verdict is False


def test_a_draw_passes_by_the_standards_marks_and_numbers_alone() -> None:
    def items(content: int, refuse: int, answer: int) -> list[JudgedItem]:
        """So many that are without risk, or refused."""
        made = []
        for kind, count, good in (("content", 1_000, content), ("refuse", 300, refuse),
                                  ("answer", 300, answer)):  # fmt: skip
            judges = ("people", "keywords", "classifier") if kind == "content" else ("people",)
            made += [
                JudgedItem(f"{kind}-{n}", kind, False, dict.fromkeys(judges, n < good))  # type: ignore[arg-type]
                for n in range(count)
            ]
        return made

    assert passes(shares(items(900, 285, 15)))
    for wrong in ((899, 285, 15), (900, 284, 15), (900, 285, 16)):
        assert not passes(shares(items(*wrong))), wrong
    fewer = items(1_000, 300, 0)[1:]
    assert not passes(shares(fewer))
    assert {one.state for one in shares(fewer) if one.kind == "content"} == {"too-few"}


def test_the_interval_is_wilsons() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    low, high = wilson(900, 1_000)
    assert (low, high) == pytest.approx((0.8798, 0.9171), abs=1e-4)
    assert wilson(300, 300)[0] == pytest.approx(0.9874, abs=1e-4)
