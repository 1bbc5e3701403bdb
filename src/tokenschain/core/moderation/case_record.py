"""Case record: what the journal keeps of a call that people are to look at, beside its call record.

Only calls that a policy marked for review or blocked have one; it goes the way of call records,
into the review queue instead of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

TEXTS_MAX = 8
TEXT_BYTES_MAX = 3_000
"""Of one text, around what was found in it."""
TEXTS_BYTES_MAX = 9_000
"""Of all of them: sealed, they fit into one record of the journal."""
SPANS_MAX = 20
APPEAL_CHARACTERS_MAX = 10_000
APPEAL_BYTES_MAX = 12_000
"""In UTF-8, which some 4,000 Chinese characters have: sealed, it fits into one record, too."""
APPEAL = "appeal"
"""The direction of what a caller says against a verdict."""


class KeptText(msgspec.Struct, array_like=True, frozen=True):
    """A text, or the part of it that something was found in."""

    direction: str
    """`input`, `output` or `appeal`."""
    text: str
    spans: tuple[tuple[int, int], ...] = ()
    """From and to of what was found, in characters."""
    cut: bool = False
    """Whether it is only a part."""


class CaseRecord(msgspec.Struct, array_like=True, tag="case", frozen=True):
    """A call for the review queue; no words of callers but those that are sealed."""

    event_id: str
    started_ms: int
    tenant: str
    project: str
    key_id: str
    api: str
    model: str
    moderation: str
    """See `CallRecord.moderation`."""
    detail: str
    """See `CallRecord.moderation_detail`."""
    sealed: bytes = b""
    """`KeptText`s, sealed for its call; empty where the policies keep none."""
    appeal_of: str = ""
    """The call whose verdict its caller appeals against; the appeal has an id of its own as
    `event_id`, and what is known of the call is the ledger's to say."""
    end_user: str = ""
    """The end user, as a keyed hash; empty where no policy counts blocked calls by it."""
    queued: bool = True
    """Whether people are to look at it; else it is only counted for its end user."""


encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(CaseRecord).decode
_encode_texts = msgspec.msgpack.Encoder().encode
decode_texts = msgspec.msgpack.Decoder(list[KeptText]).decode
_HEAD = msgspec.msgpack.encode("case")


def is_case(payload: bytes | memoryview) -> bool:
    """Whether a record of the journal is one of these, and no call record."""
    head = bytes(payload[: 4 + len(_HEAD)])
    return head[1 : 1 + len(_HEAD)] == _HEAD


def appeal_id_of(call_id: str) -> str:
    """The id of the one appeal that there may be about a call."""
    return f"appeal_{call_id}"


def encode_appeal(reason: str) -> bytes:
    """A reason as it is sealed."""
    return _encode_texts([KeptText(APPEAL, reason)])


def encode_texts(texts: Sequence[KeptText]) -> bytes:
    """As many of the texts as may be kept."""
    kept, left = [], TEXTS_BYTES_MAX
    for one in texts[:TEXTS_MAX]:
        size = len(one.text.encode())
        if size <= left:
            kept.append(one)
            left -= size
    return _encode_texts(kept)


def kept_text(direction: str, text: str, spans: Iterable[tuple[int, int]]) -> KeptText:
    """A text as it is kept: whole, or what is around the first thing found in it."""
    found = sorted(set(spans))[:SPANS_MAX]
    text = text.encode("utf-8", "replace").decode()
    if len(text.encode()) <= TEXT_BYTES_MAX:
        return KeptText(direction, text, tuple(found))
    # A character has 4 bytes at most: so many fit whatever they are.
    size = TEXT_BYTES_MAX // 4
    begin = max(0, (found[0][0] if found else 0) - size // 3)
    part = text[begin : begin + size]
    inside = tuple(
        (max(0, start - begin), min(end - begin, len(part)))
        for start, end in found
        if begin < end and start < begin + size
    )
    return KeptText(direction, part, inside, cut=True)
