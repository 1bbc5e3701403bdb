"""Drafts of keyword packs: what reviewers proposed and others accepted, beside words there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec

from tokenschain.core.moderation.packs import CONTEXT_WORDS_MAX, Pack, PackWord


class AcceptedProposal(msgspec.Struct, frozen=True):
    """A proposal as the admin API shows it."""

    kind: Literal["word", "hard_negative"]
    word: str
    phrase: str
    risk: str
    level: int
    proposed_by: str
    decided_by: str


class Draft(NamedTuple):
    """A pack that is not signed yet, and what there was no place for in it."""

    pack: Pack
    left_out: list[str]
    """Hard negatives of words that are not in the pack, and those of a word that has too many."""


def draft(base: Pack, accepted: Iterable[AcceptedProposal]) -> Draft:
    """A pack with what was accepted; a word keeps who proposed and who accepted it."""
    words = {one.text: one for one in base.words}
    later, left_out = [], []
    for one in accepted:
        if one.kind == "hard_negative":
            later.append(one)
        elif one.word not in words:
            words[one.word] = PackWord(
                one.word, one.risk, one.level, author=one.proposed_by, reviewer=one.decided_by
            )
    for one in later:
        word = words.get(one.word)
        if word is not None and one.phrase in word.unless:
            continue
        if word is None or len(word.unless) >= CONTEXT_WORDS_MAX:
            left_out.append(one.phrase)
            continue
        words[one.word] = msgspec.structs.replace(word, unless=(*word.unless, one.phrase))
    return Draft(msgspec.structs.replace(base, words=tuple(words.values())), left_out)
