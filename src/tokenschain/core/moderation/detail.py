"""Moderation detail of a call record, read again: what was found, by category and engine.

Findings are joined by `;`, each as `category:level:label` with `*count` where there are several,
and `shadow:` before it where the policy only watches. It is cut at a length, so the last one may
be incomplete.
"""

from __future__ import annotations

from typing import NamedTuple

from tokenschain.core.moderation.personal_data import DataKind
from tokenschain.core.moderation.risks import BY_CATEGORY
from tokenschain.core.moderation.verdict import CLASSIFIER

SHADOW = "shadow:"
ENGINE_MARK = "@"
"""Before the name of the cloud's engine that found it, at the end of a label."""
_DATA_KINDS = frozenset(kind.value for kind in DataKind)
WORDS, PERSONAL_DATA, ATTACK_RULES, MEDIA = "words", "personal_data", "attack_rules", "media"


class RecordedFinding(NamedTuple):
    """One finding, as the record has it."""

    category: str
    """Empty where nothing of a category was found, as for media that nothing screens."""
    level: str
    """`low`, `medium`, `high`; `disputed` where engines differ."""
    engine: str
    """`words`, `classifier`, `attack_rules`, `personal_data`, `media`, or a cloud engine's name."""
    times: int


def findings_of(detail: str) -> list[RecordedFinding]:
    """What a record says was found; what cannot be read is left out."""
    found = []
    for part in detail.split(";"):
        name, _, times = part.removeprefix(SHADOW).rpartition("*")
        if not name or not times.isascii() or not times.isdigit():
            name, times = part.removeprefix(SHADOW), "1"
        if name == MEDIA:
            found.append(RecordedFinding("", "", MEDIA, int(times)))
            continue
        category, _, rest = name.partition(":")
        level, colon, label = rest.partition(":")
        if category in BY_CATEGORY and colon:
            found.append(RecordedFinding(category, level, _engine(level, label), int(times)))
    return found


def _engine(level: str, label: str) -> str:
    if level == "disputed":
        return label
    for way in ("decoded:", "split:", "backwards:", "pinyin:"):
        label = label.removeprefix(way)
    _, mark, engine = label.rpartition(ENGINE_MARK)
    if mark and engine:
        return engine
    if label == CLASSIFIER:
        return CLASSIFIER
    if label.partition(":")[0] in _DATA_KINDS:
        return PERSONAL_DATA
    return WORDS if "#" in label else ATTACK_RULES
