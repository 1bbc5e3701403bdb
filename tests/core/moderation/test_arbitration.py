"""Arbitration: what verdicts of different engines come to under each rule."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.moderation.arbitration import FLAGGED, ArbitrationRule, arbitrate
from tokenschain.core.moderation.risks import CATEGORIES
from tokenschain.core.moderation.verdict import EngineVerdict, Level, RiskFinding

POLITICS, TERROR, ADS = "values/national_security", "values/terrorism", "commercial/other"


def verdict(engine: str, *found: tuple[str, Level]) -> EngineVerdict:
    return EngineVerdict(engine, tuple(RiskFinding(category, level) for category, level in found))


def levels(findings: Sequence[RiskFinding]) -> dict[str, Level]:
    return {finding.category: finding.level for finding in findings}


def test_no_verdict_is_never_a_harmless_one() -> None:
    with pytest.raises(ValueError, match="no verdict"):
        arbitrate([], ArbitrationRule.STRICTER)


@pytest.mark.parametrize("rule", ArbitrationRule)
def test_engines_that_agree_are_believed(rule: ArbitrationRule) -> None:
    both = [verdict("a", (POLITICS, Level.HIGH)), verdict("b", (TERROR, Level.HIGH))]
    decision = arbitrate(both, rule)
    # Of one family: vendors divide it in their own ways.
    assert levels(decision.findings) == {POLITICS: Level.HIGH, TERROR: Level.HIGH}
    assert decision.disputes == () and not decision.needs_third
    assert arbitrate([verdict("a"), verdict("b")], rule).findings == ()


def test_the_stricter_engine_wins_and_the_disagreement_is_named() -> None:
    decision = arbitrate(
        [verdict("a", (POLITICS, Level.HIGH)), verdict("b")], ArbitrationRule.STRICTER
    )
    assert levels(decision.findings) == {POLITICS: Level.HIGH}
    (dispute,) = decision.disputes
    assert dispute.category == POLITICS
    assert dispute.levels == (("a", Level.HIGH), ("b", Level.NONE))


def test_what_one_engine_alone_flags_is_for_review_where_they_must_agree() -> None:
    decision = arbitrate(
        [
            verdict("a", (POLITICS, Level.HIGH), (ADS, Level.HIGH)),
            verdict("b", (ADS, Level.MEDIUM)),
        ],
        ArbitrationRule.AGREE,
    )
    assert levels(decision.findings) == {POLITICS: Level.LOW, ADS: Level.MEDIUM}
    assert [dispute.category for dispute in decision.disputes] == [POLITICS]


@pytest.mark.parametrize(("third", "level"), [(Level.HIGH, Level.HIGH), (Level.NONE, Level.LOW)])
def test_a_third_engine_decides(third: Level, level: Level) -> None:
    two = [verdict("a", (POLITICS, Level.HIGH)), verdict("b")]
    before = arbitrate(two, ArbitrationRule.THIRD)
    assert before.needs_third
    assert levels(before.findings) == {POLITICS: Level.HIGH}, "stricter while the third is silent"
    found = [(POLITICS, third)] if third else []
    decision = arbitrate([*two, verdict("c", *found)], ArbitrationRule.THIRD)
    assert not decision.needs_third and len(decision.disputes) == 1
    assert max(levels(decision.findings).values()) == level


def test_the_same_words_in_two_texts_are_two_questions() -> None:
    a = EngineVerdict("a", (RiskFinding(POLITICS, Level.HIGH, text=0),))
    b = EngineVerdict("b", (RiskFinding(POLITICS, Level.HIGH, text=1),))
    assert [dispute.text for dispute in arbitrate([a, b], ArbitrationRule.STRICTER).disputes] == [
        0, 1,
    ]  # fmt: skip


_FINDINGS = st.lists(
    st.builds(
        RiskFinding,
        category=st.sampled_from(sorted(CATEGORIES)),
        level=st.sampled_from(list(Level)[1:]),
        text=st.integers(0, 2),
    ),
    max_size=6,
).map(tuple)


@given(st.lists(_FINDINGS, min_size=1, max_size=3), st.sampled_from(list(ArbitrationRule)))
def test_nothing_found_is_lost_and_nothing_grows(
    found: list[tuple[RiskFinding, ...]], rule: ArbitrationRule
) -> None:
    verdicts = [EngineVerdict(str(number), each) for number, each in enumerate(found)]
    decision = arbitrate(verdicts, rule)
    before = {(f.text, f.category) for verdict in verdicts for f in verdict.findings}
    assert {(f.text, f.category) for f in decision.findings} == before
    worst = max((verdict.level for verdict in verdicts), default=Level.NONE)
    assert all(Level.LOW <= f.level <= worst for f in decision.findings)
    if rule is ArbitrationRule.STRICTER and worst >= FLAGGED:
        assert max(f.level for f in decision.findings) == worst
    # Whoever is asked first makes no difference.
    turned = arbitrate(verdicts[::-1], rule)
    assert set(turned.findings) == set(decision.findings)
