"""Canonical JSON: one value, one sequence of bytes, so that a digest of it means that value.

Keys sorted, no spaces, text in NFC and as UTF-8, escapes only where JSON demands them; integers,
strings, booleans, null, lists and objects, and no floats.
"""

from __future__ import annotations

from typing import Any
from unicodedata import is_normalized, normalize

import msgspec

BYTES_MAX = 65_536
DEPTH_MAX = 8
INTEGER_MAX = 2**63 - 1
_encode = msgspec.json.Encoder(order="sorted").encode


class NotCanonical(ValueError):
    """Bytes or a value that canonical JSON has no place for; the text says why."""


def encode(value: dict[str, Any]) -> bytes:
    """An object as canonical JSON; text is brought into NFC.

    Raises:
        NotCanonical: it holds what is not allowed.
    """
    return _encoded(_composed(value, 0))


def decode(data: bytes) -> dict[str, Any]:
    """The object that bytes stand for, and nothing where they are not canonical.

    Raises:
        NotCanonical: another sequence of bytes means the same, or they are no such object.
    """
    if len(data) > BYTES_MAX:
        raise NotCanonical(f"more than {BYTES_MAX} bytes")
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotCanonical(str(error)) from None
    if not isinstance(value, dict):
        raise NotCanonical("no object")
    _check(value, 0)
    # What was written twice, in another order, spaced or escaped otherwise, is not what comes out.
    if _encode(value) != data:
        raise NotCanonical("not byte for byte what it means")
    return value


def composed(text: str) -> str:
    """Text in the one form that it may have here."""
    return text if text.isascii() else normalize("NFC", text)


def _encoded(value: dict[str, Any]) -> bytes:
    try:
        data = _encode(value)
    except UnicodeEncodeError:
        raise NotCanonical("text that is no Unicode") from None
    if len(data) > BYTES_MAX:
        raise NotCanonical(f"more than {BYTES_MAX} bytes")
    return data


def _composed(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return composed(value)
    if isinstance(value, dict):
        _check_depth(depth)
        found = {composed(k): _composed(one, depth + 1) for k, one in value.items()}
        if len(found) != len(value):
            raise NotCanonical("two keys that are one in NFC")
        return found
    if isinstance(value, list | tuple):
        _check_depth(depth)
        return [_composed(one, depth + 1) for one in value]
    _check(value, depth)
    return value


def _check(value: Any, depth: int) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int):
        if not -INTEGER_MAX <= value <= INTEGER_MAX:
            raise NotCanonical("an integer beyond 64 bits")
    elif isinstance(value, str):
        if not is_normalized("NFC", value):
            raise NotCanonical("text that is not in NFC")
    elif isinstance(value, list):
        _check_depth(depth)
        for one in value:
            _check(one, depth + 1)
    elif isinstance(value, dict):
        _check_depth(depth)
        for key, one in value.items():
            _check(key, depth + 1)
            _check(one, depth + 1)
    else:
        raise NotCanonical(f"a {type(value).__name__}")


def _check_depth(depth: int) -> None:
    if depth >= DEPTH_MAX:
        raise NotCanonical(f"more than {DEPTH_MAX} levels")
