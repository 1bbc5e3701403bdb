"""The synthetic FAQ and the rules that say it otherwise."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from tokenschain.semantic import synthetic_faq
from tokenschain.semantic.guards import Guards, vetoes
from tokenschain.semantic.paraphrases import said_otherwise, trap_of

GUARDS = Guards.shipped()
DOMAINS, QUESTIONS, WAYS = 12, 150, 5


def test_it_has_a_dozen_domains_and_says_nothing_twice() -> None:
    found = synthetic_faq.faq()
    groups = [ways for questions in found.values() for ways in questions]
    assert len(found) >= DOMAINS and len(groups) >= QUESTIONS
    assert min(map(len, groups)) >= WAYS
    texts = Counter(way for ways in groups for way in ways)
    assert texts.most_common(1)[0][1] == 1


def test_no_two_questions_have_a_text_in_common() -> None:
    owners: dict[str, str] = {}
    for question, texts in synthetic_faq.variants().items():
        assert len(texts) == len(set(texts)) == synthetic_faq.VARIANTS
        for text in texts:
            assert owners.setdefault(text, question) == question, text
    once = synthetic_faq.asked_once()
    assert len(once) == len(set(once)) and not owners.keys() & set(once)


@pytest.mark.parametrize("make", [synthetic_faq.faq_pairs, synthetic_faq.web_pairs])
def test_pairs_are_repeatable_and_balanced(make: object) -> None:
    pairs = make(4)  # type: ignore[operator]
    assert pairs == make(4)  # type: ignore[operator]
    assert 0.3 < sum(pair.same for pair in pairs) / len(pairs) < 0.7
    assert all(pair.a != pair.b for pair in pairs)


@pytest.mark.parametrize(
    "text",
    ["怎么修改收货地址", "买3张票要多少钱", "订单可以取消吗", "How do I activate my card?",
     "What happens if I return 3 items after 14 days?", "密码错了5次怎么办"],
)  # fmt: skip
def test_what_is_said_otherwise_keeps_its_numbers_and_is_not_ruled_out(text: str) -> None:
    rng = random.Random(7)
    ways = {said_otherwise(text, rng) for _ in range(60)}
    assert len(ways) > 10
    digits = re.findall(r"\d{2,}", text)
    asked = GUARDS.facts_of(text)
    ruled_out = 0
    for way in ways:
        assert re.findall(r"\d{2,}", way) == digits
        other = GUARDS.facts_of(way)
        ruled_out += bool(vetoes(asked, other, GUARDS.compare(asked, other)))
    assert ruled_out <= len(ways) * 0.35


@pytest.mark.parametrize("text", ["", "？", "嗯", "ok", "a" * 300, "怎" * 300])
def test_no_text_breaks_the_rules(text: str) -> None:
    rng = random.Random(1)
    for _ in range(50):
        said_otherwise(text, rng)
        trap_of(text, rng)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("满100元包邮吗", "number"), ("怎么开通漫游", "opposite"), ("怎么查询我的公积金", "scope"),
     ("退货运费多少钱", "aspect"), ("Can I send 3 parcels?", "number")],
)  # fmt: skip
def test_a_trap_changes_one_thing(text: str, kind: str) -> None:
    rng = random.Random(2)
    traps = [found for _ in range(60) if (found := trap_of(text, rng)) is not None]
    assert kind in {trap.kind for trap in traps}
    assert all(trap.text != text for trap in traps)
