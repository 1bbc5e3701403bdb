"""Token estimates of prompts: for reservations, limits and bills where the vendor counts nothing.

Text counts by its bytes. Pictures, sound and files come as base64 in JSON: they never count as
text, but for about what vendors charge for their content.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

BYTES_PER_TOKEN = 4
"""Rough, for estimates only: English has about 4 bytes a token, and Chinese at
3 bytes a character and 0.6-0.8 tokens a character comes to about the same."""
PICTURE_TOKENS = 800
"""Of a picture of a million pixels: 765 at OpenAI, about 1,300 at Anthropic and Qwen."""
PICTURE_TOKENS_MAX = 1_600
"""What is reserved for a picture where the vendor does not say what it charges at the most."""
SOUND_BYTES_PER_TOKEN = 1_600
"""20 tokens a second of 16-bit sound at 16 kHz; OpenAI counts 10, Qwen 25."""
FILE_BYTES_PER_TOKEN = 400
"""Most of a document's bytes are fonts and pictures."""
_BASE64_CHARS_MIN = 64
"""A shorter run is as likely to be text."""
_DATA_URL = re.compile(
    rb'("(?:text|content|prompt)"\s*:\s*)?'
    rb'"data:([a-z]*)[^",;]{0,120}(?:;[^",;]{0,80}){0,4};base64,([A-Za-z0-9+/=_\\-]*)"'
)
"""A JSON string that is a data URL, its kind and its base64; slashes may be escaped. One that is
the value of a text is text."""
_BARE = re.compile(
    rb'"(data|file_data|audio|image|video)"\s*:\s*"([A-Za-z0-9+/=_\\-]{%d,})"' % _BASE64_CHARS_MIN
)
"""Base64 without a data URL around it, in the fields that hold some."""
_PICTURE_PART = re.compile(rb'"type"\s*:\s*"(?:image_url|image|input_image)"')
_PICTURE_FIELD = re.compile(rb'"(?:image_url|input_image)"\s*:\s*(?:\{\s*"url"\s*:\s*)?"https?:')


class Media(NamedTuple):
    """What is in a prompt beside text."""

    base64_bytes: int
    tokens: int
    """About how many, for what vendors charge on average."""
    pictures: int


NO_MEDIA = Media(0, 0, 0)


def may_hold_media(body: bytes) -> bool:
    """A quick look, right for nearly all bodies: nothing else needs a closer one."""
    return b"base64," in body or b'data"' in body or b'_url"' in body or b'image"' in body


def text_tokens(size: int) -> int:
    """Of so many bytes of text."""
    return max(0, size) // BYTES_PER_TOKEN + 1


def media_of(prompt: bytes) -> Media:
    """The media of a prompt."""
    size = tokens = 0
    pictures = len(_PICTURE_FIELD.findall(prompt))
    for text, kind, data in _DATA_URL.findall(prompt):
        if not text:
            size += len(data)
            tokens += _tokens(kind, len(data))
            pictures += kind == _PICTURE
    sound = b'"input_audio"' in prompt
    for field, data in _BARE.findall(prompt):
        size += len(data)
        kind = b"audio" if sound and field == b"data" else _KINDS.get(field, field)
        tokens += _tokens(kind, len(data))
        pictures += kind == _PICTURE
    # Parts that are pictures by their type, however they are written.
    pictures = max(pictures, len(_PICTURE_PART.findall(prompt)))
    return Media(size, tokens + PICTURE_TOKENS * pictures, pictures)


_PICTURE = b"image"
_KINDS = {b"data": b"application", b"file_data": b"application"}


def _tokens(kind: bytes, base64_chars: int) -> int:
    size = base64_chars * 3 // 4
    if kind == _PICTURE:
        return 0  # counted by the piece
    return size // (SOUND_BYTES_PER_TOKEN if kind == b"audio" else FILE_BYTES_PER_TOKEN)


def token_array_length(prompt: object) -> int | None:
    """The tokens of prompts that are token arrays already; None where they are texts."""
    if not isinstance(prompt, Sequence) or not prompt or isinstance(prompt, str):
        return None
    if isinstance(prompt[0], int):
        return len(prompt)
    if isinstance(prompt[0], list):
        return sum(map(len, prompt))
    return None
