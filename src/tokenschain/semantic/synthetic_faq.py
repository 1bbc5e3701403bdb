"""Synthetic Chinese FAQ and web questions: natural paraphrases, and neighbours that ask otherwise.

The texts are our own, in `data/faq_zh.yaml` and `data/web_questions.yaml`. For training the
verifier and for measuring streams of calls without customers' data.
"""

from __future__ import annotations

import itertools
import random
from importlib import resources
from typing import NamedTuple

import msgspec

from tokenschain.semantic.paraphrases import said_otherwise, trap_of
from tokenschain.semantic.synthetic_questions import QuestionPair

VALUES_OF_TOPIC = 4
"""Of a slot's values, how many a topic is asked about in pairs: topics should outnumber values."""
VARIANTS = 16
"""Texts of each question of `variants`."""


class _WebQuestions(msgspec.Struct, forbid_unknown_fields=True):
    slots: dict[str, list[str]]
    topics: list[list[str]]


def faq() -> dict[str, list[tuple[str, ...]]]:
    """By domain: the ways to ask each question."""
    return msgspec.yaml.decode(_read("faq_zh"), type=dict[str, list[tuple[str, ...]]])


def variants() -> dict[str, list[str]]:
    """By question of the FAQ: texts in which people ask it."""
    rng = random.Random(23)  # noqa: S311  # nosec B311  # to be repeated
    found = {}
    for domain, questions in faq().items():
        for number, ways in enumerate(questions):
            texts = dict.fromkeys(ways)
            while len(texts) < VARIANTS:
                texts[said_otherwise(rng.choice(ways), rng)] = None
            found[f"{domain}{number}"] = list(texts)
    return found


def asked_once() -> list[str]:
    """Web questions, each in one way: no two of them ask the same."""
    rng = random.Random(29)  # noqa: S311  # nosec B311  # to be repeated
    return [rng.choice(group.ways) for group in web_questions(99)]


class WebQuestion(NamedTuple):
    """One question, asked in several ways."""

    topic: int
    value: str
    ways: tuple[str, ...]


def web_questions(values_max: int = VALUES_OF_TOPIC) -> list[WebQuestion]:
    """Every topic, with so many values of its slot."""
    found = msgspec.yaml.decode(_read("web_questions"), type=_WebQuestions)
    made = []
    for number, ways in enumerate(found.topics):
        slot = next((name for name in found.slots if f"{{{name}}}" in ways[0]), None)
        if slot is None:
            made.append(WebQuestion(number, "", tuple(ways)))
            continue
        values = found.slots[slot][:values_max]
        for value in values:
            said = tuple(way.format(**{slot: value}) for way in ways)
            made.append(WebQuestion(number, value, said))
    return made


def faq_pairs(seed: int) -> list[QuestionPair]:
    """Ways of one question, and ways of others of the same domain."""
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    found = []
    for questions in faq().values():
        for at, ways in enumerate(questions):
            found += [QuestionPair(a, b, True) for a, b in itertools.combinations(ways, 2)]
            others = questions[:at] + questions[at + 1 :]
            for way in (*ways, *ways):
                found.append(QuestionPair(way, rng.choice(rng.choice(others)), False))
    return found


def web_pairs(seed: int) -> list[QuestionPair]:
    """Ways of one question; the same with another value; another topic with the same value."""
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    made = web_questions()
    found = []
    for group in made:
        pairs = list(itertools.combinations(group.ways, 2))
        found += [QuestionPair(a, b, True) for a, b in rng.sample(pairs, min(3, len(pairs)))]
        twins = [g for g in made if g.topic == group.topic and g is not group]
        cousins = [g for g in made if g.topic != group.topic and g.value == group.value]
        for others in (twins, cousins, cousins):
            if others:
                found.append(
                    QuestionPair(rng.choice(group.ways), rng.choice(rng.choice(others).ways), False)
                )
    return found


def rule_pairs(texts: list[str], seed: int) -> list[QuestionPair]:
    """Each text as somebody else would type it, and with one change that makes it another."""
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    found = []
    for text in texts:
        other = said_otherwise(said_otherwise(text, rng), rng)
        if other != text:
            found.append(QuestionPair(text, other, True))
        trap = trap_of(text, rng)
        if trap is not None:
            typed = said_otherwise(trap.text, rng) if rng.random() < 0.6 else trap.text
            found.append(QuestionPair(text, typed, False))
    return found


def _read(name: str) -> str:
    path = resources.files("tokenschain") / "data" / f"{name}.yaml"
    return path.read_text(encoding="utf-8")
