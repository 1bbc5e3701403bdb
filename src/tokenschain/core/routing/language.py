"""Language detection: the language of what a caller asks last, by its script.

Only text counts: names of fields, pictures and other parts are not a language.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Raw

SCANNED_CHARS_MAX = 16_384
"""Of the end of a text: enough to tell its language."""
_SCRIPTS = {
    "ja": re.compile("[\u3040-\u30ff]"),
    "ko": re.compile("[\uac00-\ud7af]"),
    "zh": re.compile("[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0002ffff]"),
    "ru": re.compile("[\u0400-\u04ff]"),
    "ar": re.compile("[\u0600-\u06ff]"),
    "en": re.compile("[A-Za-z]+"),
}
"""What is counted for each; a Latin word counts as one, as an ideograph does."""
_SHARE_MIN = 0.2


class _Message(msgspec.Struct):
    role: Raw = Raw(b"")
    content: Raw = Raw(b"")


class _Part(msgspec.Struct):
    text: Raw = Raw(b"")


_messages = msgspec.json.Decoder(list[_Message]).decode
_parts = msgspec.json.Decoder(list[_Part]).decode
_texts = msgspec.json.Decoder(str | list[str | int | list[int]]).decode
_text = msgspec.json.Decoder(str).decode


def language_of(text: str) -> str:
    """The language of a text, by its script; empty when nothing is written in it.

    A script that a fifth of the words are in decides before Latin letters: questions in other
    languages are full of English names.
    """
    text = text[-SCANNED_CHARS_MAX:]
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    total = sum(counts.values())
    if not total:
        return ""
    for name, count in counts.items():  # kana decide before ideographs
        if count >= _SHARE_MIN * total and name != "en":
            return name
    return "en"


def asked_text(fields: Mapping[str, Raw]) -> str:
    """What was asked last: all text of the last user turn that holds any, or the prompt.

    A turn is the user's messages in a row. Where no user says anything, the last message with
    a text in it stands for one.
    """
    raw = fields.get("messages")
    if raw is not None:
        return _last_turn(raw)
    for name in ("prompt", "query", "input"):
        raw = fields.get(name)
        if raw is not None:
            return _prompt_text(raw)
    return ""


def _last_turn(raw: Raw) -> str:
    try:
        messages = _messages(raw)
    except msgspec.DecodeError:
        return ""
    found: list[str] = []
    for message in reversed(messages):
        if bytes(message.role) == b'"user"':
            found[:0] = _texts_of(message.content)
        elif any(map(str.strip, found)):
            break
    if not any(map(str.strip, found)):
        for message in reversed(messages):
            found = list(_texts_of(message.content))
            if any(map(str.strip, found)):
                break
    return "\n".join(found)


def _texts_of(content: Raw) -> Iterator[str]:
    """The text of a message: a string, or those of its parts."""
    try:
        if bytes(content)[:1] == b'"':
            yield _text(content)
        elif bytes(content)[:1] == b"[":
            for part in _parts(content):
                if bytes(part.text)[:1] == b'"':
                    yield _text(part.text)
    except msgspec.DecodeError:
        return


def _prompt_text(raw: Raw) -> str:
    """A text or several; token arrays say nothing that could be read."""
    try:
        found = _texts(raw)
    except msgspec.DecodeError:
        return ""
    if isinstance(found, str):
        return found
    return "\n".join(text for text in found if isinstance(text, str))
