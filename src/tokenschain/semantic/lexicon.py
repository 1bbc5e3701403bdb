"""Lexicon of the guards: the word lists of `data/lexicon.yaml`, Chinese and English."""

from __future__ import annotations

from importlib import resources

import msgspec

Groups = tuple[tuple[str, ...], ...]
Classes = tuple[Groups, ...]
"""Of each class the members that exclude each other, and of each the words that say the same."""


class Lexicon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lists by what they are for; see the comments in the file."""

    opposites: tuple[str, ...]
    prefixes_en: tuple[str, ...]
    prefix_pairs: Groups
    scopes: tuple[str, ...]
    aspects: tuple[str, ...]
    akin_aspects: Groups
    """Of each group, an answer to one aspect answers the others."""
    roles: tuple[str, ...]
    kinds: tuple[str, ...]
    names: tuple[str, ...]
    times: tuple[str, ...]
    moments: tuple[str, ...]
    negations_en: frozenset[str]
    negations_zh: frozenset[str]
    neutral_zh: frozenset[str]
    stop_en: frozenset[str]
    fillers_zh: frozenset[str]
    heads: frozenset[str]
    substance_endings: tuple[str, ...]
    traditional: str
    simplified: str
    units: dict[str, tuple[str, ...]]
    """By unit: the words that name it."""
    same_units: dict[str, tuple[float, str]]
    """By unit: how many of which other unit it is."""
    synonyms: Groups
    """Of each group, the first word stands for all."""

    @staticmethod
    def shipped() -> Lexicon:
        """The lists that come with the platform; reads the file, so once a process."""
        path = resources.files("tokenschain") / "data" / "lexicon.yaml"
        return msgspec.yaml.decode(path.read_text(encoding="utf-8"), type=Lexicon)


def classes(lines: tuple[str, ...]) -> Classes:
    """Classes from the lines of the file: members parted by `|`, their words by commas."""
    return tuple(
        tuple(tuple(word.strip() for word in member.split(",")) for member in line.split("|"))
        for line in lines
    )
