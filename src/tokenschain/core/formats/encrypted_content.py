"""Encrypted content of the Responses API: items that only whoever made them can read.

A compaction item holds the summary of a conversation, a reasoning item what a model thought with
its vendor's signature. Here both are encoded, not encrypted: they hold nothing that the caller may
not read.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import msgspec

from tokenschain.core.formats.canonical import ReasoningDetail

_PREFIX = "tc1."
"""What the items made here begin with; those of OpenAI can be read by OpenAI only."""
_REASONING = "tcr1."
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(list[ReasoningDetail]).decode


def seal(summary: str) -> str:
    """The summary as `encrypted_content`."""
    return _PREFIX + base64.urlsafe_b64encode(summary.encode()).decode()


def unseal(content: object) -> str:
    """The summary in an item that was made here; nothing where it was made elsewhere."""
    return _decoded(content, _PREFIX).decode("utf-8", "replace")


def seal_reasoning(text: str, details: Sequence[ReasoningDetail]) -> str:
    """What a model thought as `encrypted_content`, in its vendor's own pieces if signed."""
    signed = [detail for detail in details if detail.signature or detail.data]
    kept = signed or [ReasoningDetail("thinking", text)]
    return _REASONING + base64.urlsafe_b64encode(_encode(kept)).decode()


def unseal_reasoning(content: object) -> list[ReasoningDetail]:
    """What a model thought, of an item that was made here; nothing where it was made elsewhere."""
    try:
        return _decode(_decoded(content, _REASONING) or b"[]")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def _decoded(content: object, prefix: str) -> bytes:
    if not isinstance(content, str) or not content.startswith(prefix):
        return b""
    try:
        return base64.urlsafe_b64decode(content.removeprefix(prefix))
    except (binascii.Error, ValueError):
        return b""
