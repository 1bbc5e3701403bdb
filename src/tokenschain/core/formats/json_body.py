"""JSON bodies of requests: UTF-8 checked, half characters mended, fields one level deep."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_ESCAPES = re.compile(
    rb"\\\\"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
"""Escaped backslashes and whole pairs, which stay, and halves of a pair alone."""
_REPLACEMENT = rb"\ufffd"


class Body(NamedTuple):
    """A body that was read."""

    fields: dict[str, Raw]
    mended: tuple[str, ...] = ()
    """Fields in which halves of characters were replaced by U+FFFD."""


def read_body(body: bytes) -> Body:
    """The fields of a JSON object.

    Half of an emoji, left by a client that cut a text between two UTF-16 units, is replaced:
    every strict parser on the way would refuse the conversation for ever.

    Raises:
        ApiError: `invalid_json`: no JSON object, or not UTF-8.
    """
    mended: tuple[str, ...] = ()
    try:
        try:
            fields = _decode_fields(body)
        except msgspec.DecodeError:
            whole, count = mend(body)
            if not count:
                raise
            fields = _decode_fields(whole)
            mended = tuple(n for n, raw in fields.items() if _REPLACEMENT in bytes(raw))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError("invalid_json", f"The body is not a JSON object: {error}.") from None
    except RecursionError:
        raise ApiError("invalid_json", "The body is nested too deeply.") from None
    if not body.isascii():
        _check_utf8(body, fields)
    return Body(fields, mended)


def mend(body: bytes) -> tuple[bytes, int]:
    """The text with U+FFFD for each half character, and how many there were."""
    count = 0

    def replaced(found: re.Match[bytes]) -> bytes:
        nonlocal count
        if found[1] is None:
            return found[0]
        count += 1
        return _REPLACEMENT

    return _ESCAPES.sub(replaced, body), count


def _check_utf8(body: bytes, fields: Mapping[str, Raw]) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise ApiError(
            "invalid_json",
            f"The body is not valid UTF-8: {error.reason} at byte {error.start}.",
            param=next((name for name, raw in fields.items() if not _is_utf8(raw)), None),
        ) from None


def _is_utf8(raw: Raw) -> bool:
    try:
        bytes(raw).decode()
    except UnicodeDecodeError:
        return False
    return True


def value_of(name: str, raw: Raw, decode: Callable[[Any], Any]) -> Any:
    """One field, typed.

    Raises:
        ApiError: `invalid_value` with the path to blame.
    """
    try:
        return decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(name, str(error)) from None
    except RecursionError:
        raise ApiError("invalid_json", "The field is nested too deeply.", param=name) from None


_AT = re.compile(r" - at `\$([^`]*)`$")


def invalid(field: str, text: str) -> ApiError:
    """msgspec's message with its JSON path turned into OpenAI's `param`."""
    found = _AT.search(text)
    path = field + (found.group(1) if found else "")
    text = text[: found.start()] if found else text
    return ApiError("invalid_value", f"Invalid value for `{path}`: {text}.", param=path)
