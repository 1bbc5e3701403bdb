"""The words of `data/lexicon.yaml`."""

from __future__ import annotations

from importlib import resources
from typing import Any

import yaml

_words: dict[str, Any] = yaml.safe_load(
    (resources.files("tokenschain") / "data" / "lexicon.yaml").read_text(encoding="utf-8")
)


def _groups(name: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group) for group in _words[name])


OPPOSITES = _groups("opposites")
ASPECTS, ROLES, TIMES, SYNONYMS = map(_groups, ("aspects", "roles", "times", "synonyms"))
NEGATIONS_EN, STOP_EN = frozenset(_words["negations_en"]), frozenset(_words["stop_en"])
NEGATIONS_ZH, NO_NEGATION_ZH = tuple(_words["negations_zh"]), tuple(_words["no_negation_zh"])
NAMES_ZH, PLACES_EN = tuple(_words["names_zh"]), frozenset(_words["places_en"])
FILLERS_ZH, PREFIXES_EN = tuple(_words["fillers_zh"]), tuple(_words["prefixes_en"])
ALIASES: dict[str, str] = _words["aliases"]
NUMBERS_EN: dict[str, float] = _words["numbers_en"]
UNITS: dict[str, str] = {word: unit for unit, words in _words["units"].items() for word in words}
SAME_UNITS: dict[str, tuple[float, str]] = {
    unit: (float(factor), same) for unit, (factor, same) in _words["same_units"].items()
}
