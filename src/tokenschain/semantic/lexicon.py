"""Lexicon of the guards: the word lists of `data/lexicon.yaml`, Chinese and English."""

from __future__ import annotations

from importlib import resources

import msgspec

Groups = tuple[tuple[str, ...], ...]


class Lexicon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
    units: dict[str, tuple[str, ...]]
    """By unit: the words that name it."""
    same_units: dict[str, tuple[float, str]]
    """By unit: how many of which other unit it is."""

    @staticmethod
    def shipped() -> Lexicon:
        """The lists that come with the platform; reads the file, so once a process."""
        path = resources.files("tokenschain") / "data" / "lexicon.yaml"
        return msgspec.yaml.decode(path.read_text(encoding="utf-8"), type=Lexicon)
