"""Moderation rules for tests: character tables read once, packs made on the spot."""

from __future__ import annotations

from typing import Any

from tokenschain.core.moderation.normalization import Normalizer
from tokenschain.core.moderation.packs import Keywords, Pack, PackWord
from tokenschain.core.moderation.rules import Rules
from tokenschain.infra.moderation_packs import character_tables

TABLES = character_tables()
NORMALIZER = Normalizer(TABLES.simplified)
TODAY = "2026-11-27"


def word(text: str, risk: str = "A.1.h", **more: Any) -> PackWord:
    return PackWord(text, risk, **more)


def pack_of(*words: PackWord, name: str = "made", expires: str = "2030-01-01") -> Pack:
    return Pack(name, "1", "an author", "a reviewer", expires, words)


def rules_of(*words: PackWord) -> Rules:
    keywords = Keywords([pack_of(*words)], NORMALIZER, TABLES.syllables, TODAY)
    return Rules(NORMALIZER, keywords, TABLES.syllables)
