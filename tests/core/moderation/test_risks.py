"""Categories of moderation: the 31 risks of the standard's annex, and attacks."""

from __future__ import annotations

from collections import Counter

from tokenschain.core.moderation.risks import BY_CATEGORY, BY_ID, RISKS


def test_the_risks_are_the_31_of_the_annex_and_attacks() -> None:
    parts = Counter(risk.id.rpartition(".")[0] for risk in RISKS)
    assert parts == {"A.1": 8, "A.2": 9, "A.3": 5, "A.4": 7, "A.5": 2, "T": 3}


def test_ids_and_categories_name_one_risk_each_in_both_languages() -> None:
    assert len(BY_ID) == len(BY_CATEGORY) == len(RISKS)
    assert all(risk.zh and risk.en for risk in RISKS)


def test_a_pack_must_cover_the_17_risks_that_need_words() -> None:
    needed = Counter(risk.words_min for risk in RISKS if risk.words_min)
    assert needed == {200: 8, 100: 9}
