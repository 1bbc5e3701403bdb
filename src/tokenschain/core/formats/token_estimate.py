"""Token estimates of prompts: for reservations, limits and bills where the vendor counts nothing.

Text counts by its bytes. Pictures, sound and files come as base64 in JSON: they never count as
text, but for about what vendors charge for their content.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-\\"
"""Slashes may be escaped."""
_DATA_URL_MARK = b";base64,"
_DATA_URL_HEAD_MAX = 512
_KIND = re.compile(rb"data:([a-z]{0,40})")
_TEXT_FIELDS = (b'"text"', b'"content"', b'"prompt"')
_FIELD_MAX = 64
"""Before a value: its name, a colon and blanks."""
_MEDIA_FIELDS = {
    b'"data"': b"application", b'"file_data"': b"application", b'"audio"': b"audio",
    b'"image"': b"image", b'"video"': b"video",
}  # fmt: skip
"""That hold base64 without a data URL around it."""
_PICTURE = b"image"
_PICTURE_FIELDS = (b'"image_url"', b'"input_image"')
_TEXT_BEGINS = re.compile(rb'\s*+:\s*+"')
_PICTURE_TYPE = re.compile(rb'\s*+:\s*+"(?:image_url|image|input_image)"')
_PICTURE_BEGINS = re.compile(rb'\s*+:\s*+(?:\{\s*+"url"\s*+:\s*+)?"https?:')


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
    """The media of a prompt.

    Looked for by plain searches: an expression that may match anywhere in megabytes takes
    seconds, and nobody else is served meanwhile.
    """
    media = [*_data_urls(prompt), *_bare_media(prompt)]
    pictures = sum(kind == _PICTURE for kind, _ in media)
    for field in _PICTURE_FIELDS:
        pictures += _count_after(prompt, field, _PICTURE_BEGINS)
    # Parts that are pictures by their type, however they are written.
    pictures = max(pictures, _count_after(prompt, b'"type"', _PICTURE_TYPE))
    tokens = sum(_tokens(kind, length) for kind, length in media)
    size = sum(length for _, length in media)
    return Media(size, tokens + PICTURE_TOKENS * pictures, pictures)


def _count_after(prompt: bytes, field: bytes, value: re.Pattern[bytes]) -> int:
    return sum(value.match(prompt, at) is not None for at in _ends_of(prompt, field))


def _data_urls(prompt: bytes) -> Iterator[tuple[bytes, int]]:
    """Kinds and lengths of the strings that are data URLs. One that is the value of a text is
    text."""
    at = prompt.find(_DATA_URL_MARK)
    while at >= 0:
        begin = at + len(_DATA_URL_MARK)
        quote = prompt.rfind(b'"', max(0, at - _DATA_URL_HEAD_MAX), at)
        kind = _KIND.match(prompt, quote + 1, at)
        end = begin
        if quote >= 0 and kind is not None and b"," not in prompt[quote:at]:
            length = _base64_length(prompt, begin)
            if length is not None:
                end += length
                if not quote or not _is_text(prompt[max(0, quote - _FIELD_MAX) : quote]):
                    yield kind[1], length
        at = prompt.find(_DATA_URL_MARK, end)


def _is_text(before: bytes) -> bool:
    """Whether a string is the value of a text, by what stands before it; where that is nothing
    but blanks, it counts as one."""
    field = before.rstrip()
    if field.endswith(b":"):
        field = field[:-1].rstrip()
        return not field or field.endswith(_TEXT_FIELDS)
    return not field


def _bare_media(prompt: bytes) -> Iterator[tuple[bytes, int]]:
    sound = b'"input_audio"' in prompt
    for field, kind in _MEDIA_FIELDS.items():
        for at in _ends_of(prompt, field):
            begins = _TEXT_BEGINS.match(prompt, at)
            length = None if begins is None else _base64_length(prompt, begins.end())
            if length is not None and length >= _BASE64_CHARS_MIN:
                yield b"audio" if sound and field == b'"data"' else kind, length


def _ends_of(prompt: bytes, word: bytes) -> Iterator[int]:
    """Where each occurrence ends."""
    at = prompt.find(word)
    while at >= 0:
        at += len(word)
        yield at
        at = prompt.find(word, at)


def _base64_length(prompt: bytes, begin: int) -> int | None:
    """Of the rest of a string; None where it is anything else than base64."""
    end = prompt.find(b'"', begin)
    if end < 0 or prompt[begin:end].translate(None, _BASE64):
        return None
    return end - begin


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
