"""End user of a call: the id that the caller gives of whoever uses its application."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from msgspec import Raw

SAFETY_IDENTIFIER, USER = "safety_identifier", "user"
FIELDS = (SAFETY_IDENTIFIER, USER)
"""OpenAI's; `metadata.user_id` of Anthropic's API is read as `user`."""
_text = msgspec.json.Decoder(str | None).decode


def end_user_of(fields: Mapping[str, Raw]) -> str:
    """The id as the caller gives it; empty where there is none."""
    for name in FIELDS:
        if name in fields:
            try:
                found: str | None = _text(fields[name])
            except msgspec.DecodeError:  # what passes on unchecked may be anything
                continue
            if found:
                return found
    return ""
