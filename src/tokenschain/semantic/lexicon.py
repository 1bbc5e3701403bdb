"""Lexicon of the guards: the word lists of `data/lexicon.yaml`, Chinese and English."""

from __future__ import annotations

from importlib import resources
from typing import NamedTuple

import msgspec

Groups = tuple[tuple[str, ...], ...]


class Lexicon(NamedTuple):
    """The lists by what they are for; see the comments in the file."""

    opposites: Groups
    aspects: Groups
    roles: Groups
    times: Groups
    synonyms: Groups
    """Of each group, the first word stands for all."""
    negations_en: frozenset[str]
    negations_zh: tuple[str, ...]
    no_negation_zh: tuple[str, ...]
    stop_en: frozenset[str]
    names_zh: tuple[str, ...]
    places_en: frozenset[str]
    fillers_zh: tuple[str, ...]
    prefixes_en: tuple[str, ...]
    aliases: dict[str, str]
    numbers_en: dict[str, float]
    units: dict[str, str]
    """By word: the unit it names."""
    same_units: dict[str, tuple[float, str]]
    """By unit: how many of which other unit it is."""

    @staticmethod
    def shipped() -> Lexicon:
        """The lists that come with the platform; reads the file, so once a process."""
        path = resources.files("tokenschain") / "data" / "lexicon.yaml"
        words = msgspec.yaml.decode(path.read_text(encoding="utf-8"), type=_File)
        return Lexicon(
            words.opposites, words.aspects, words.roles, words.times, words.synonyms,
            words.negations_en, words.negations_zh, words.no_negation_zh, words.stop_en,
            words.names_zh, words.places_en, words.fillers_zh, words.prefixes_en, words.aliases,
            words.numbers_en,
            {word: unit for unit, words_of in words.units.items() for word in words_of},
            words.same_units,
        )  # fmt: skip


class _File(msgspec.Struct, forbid_unknown_fields=True):
    opposites: Groups
    aspects: Groups
    roles: Groups
    times: Groups
    synonyms: Groups
    negations_en: frozenset[str]
    negations_zh: tuple[str, ...]
    no_negation_zh: tuple[str, ...]
    stop_en: frozenset[str]
    names_zh: tuple[str, ...]
    places_en: frozenset[str]
    fillers_zh: tuple[str, ...]
    prefixes_en: tuple[str, ...]
    aliases: dict[str, str]
    numbers_en: dict[str, float]
    units: dict[str, tuple[str, ...]]
    same_units: dict[str, tuple[float, str]]
