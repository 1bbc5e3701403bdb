"""Compaction items: the summary of a conversation as an item of the Responses API."""

from __future__ import annotations

import base64
import binascii

_PREFIX = "tc1."
"""What the items made here begin with; those of OpenAI can be read by OpenAI only."""


def seal(summary: str) -> str:
    """The summary as `encrypted_content`."""
    return _PREFIX + base64.urlsafe_b64encode(summary.encode()).decode()


def unseal(content: object) -> str:
    """The summary in an item that was made here; nothing where it was made elsewhere."""
    if not isinstance(content, str) or not content.startswith(_PREFIX):
        return ""
    try:
        return base64.urlsafe_b64decode(content.removeprefix(_PREFIX)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
