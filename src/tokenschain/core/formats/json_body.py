"""JSON bodies of requests: UTF-8 checked, half characters mended, fields one level deep."""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_bounds import LONG_BYTES, TooManyParts, check_parts

_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_ESCAPES = re.compile(
    rb"(?:\\\\)+"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
"""Escaped backslashes and whole pairs, which stay, and halves of a pair alone."""
_REPLACEMENT = rb"\ufffd"
_MENDED_AT_ONCE_BYTES = 262_144
_CUT_STEP_BYTES = 4_096
_ESCAPE_PAIR_BYTES = 12
_CUT = re.compile(
    rb"(?<!\\)(?:[^\\0-9a-fA-Fu]|\\(?!u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\)", re.DOTALL
)
"""Where a text may be cut: in no escape, and not between two halves."""


class Body(msgspec.Struct, frozen=True, gc=False):
    """A body that was read."""

    fields: dict[str, Raw]
    mended: tuple[str, ...] = ()
    """Fields in which halves of characters were replaced by U+FFFD."""


def read_body(body: bytes) -> Body:
    """The fields of a JSON object.

    Half of an emoji, left by a client that cut a text between two UTF-16 units, is replaced:
    every strict parser on the way would refuse the conversation for ever.

    Raises:
        ApiError: `invalid_json`: no JSON object, not UTF-8, or of too many parts.
    """
    try:
        if len(body) > LONG_BYTES:
            check_parts(body)
    except TooManyParts as error:
        raise ApiError("invalid_json", f"The body has {error}.") from None
    mended: tuple[str, ...] = ()
    try:
        try:
            fields = _decode_fields(body)
        except msgspec.DecodeError:
            halves = b"\\ud" in body or b"\\uD" in body
            unmarked = without_mark(body)
            whole, count = mend(unmarked) if halves else (unmarked, 0)
            if not count and len(whole) == len(body):
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


def without_mark(body: bytes) -> bytes:
    """A body without the mark of UTF-8 that editors write before it, as RFC 8259 (8.1) allows."""
    return body.removeprefix(BOM_UTF8)


def mend(body: bytes) -> tuple[bytes, int]:
    """The text with U+FFFD for each half character, and how many there were."""
    count = 0

    def replaced(found: re.Match[bytes]) -> bytes:
        nonlocal count
        if found[1] is None:
            return found[0]
        count += 1
        return _REPLACEMENT

    pieces, start = [], 0
    while start < len(body):
        end = _cut_after(body, start + _MENDED_AT_ONCE_BYTES)
        pieces.append(_ESCAPES.sub(replaced, body[start:end]))
        start = end
    return b"".join(pieces), count


def _cut_after(body: bytes, at: int) -> int:
    while at < len(body):
        found = _CUT.search(body, at, at + _CUT_STEP_BYTES)
        if found is not None:
            return found.start()
        at += _CUT_STEP_BYTES
        if b"\\" not in body[at - _ESCAPE_PAIR_BYTES : at]:
            return at
    return len(body)


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
_BOUND = re.compile(r"Expected `(\w+)`( of length)? (<=|>=) ([0-9.-]+)")
_TYPE = re.compile(r"Expected `([^`]+)`, got `(\w+)`")
_MISSING = re.compile(r"Object missing required field `([^`]+)`")
_CODES = {
    ("int", "", ">="): "integer_below_min_value",
    ("int", "", "<="): "integer_above_max_value",
    ("float", "", ">="): "decimal_below_min_value",
    ("float", "", "<="): "decimal_above_max_value",
    ("array", " of length", ">="): "empty_array",
    ("array", " of length", "<="): "array_above_max_length",
    ("str", " of length", ">="): "empty_string",
    ("str", " of length", "<="): "string_above_max_length",
    ("object", " of length", "<="): "object_above_max_properties",
}
"""OpenAI's codes by what msgspec says; a lower bound of a length is 1 everywhere."""
_WORDS = {
    "int": "a whole number", "float": "a number", "str": "a text", "array": "a list",
    "object": "an object", "bool": "true or false", "null": "null",
}  # fmt: skip


def invalid(field: str, text: str) -> ApiError:
    """msgspec's message as OpenAI's error: its code, and the JSON path in `param`."""
    found = _AT.search(text)
    path = field + (found.group(1) if found else "")
    text = text[: found.start()] if found else text
    lacks = _MISSING.match(text)
    if lacks is not None:
        path = f"{path}.{lacks[1]}"
        return ApiError(
            "missing_required_parameter", f"Missing required parameter: `{path}`.", param=path
        )
    kind = _TYPE.match(text)
    if kind is not None:
        wanted = " or ".join(_WORDS.get(word, word) for word in kind[1].split(" | "))
        got = _WORDS.get(kind[2], kind[2])
        return ApiError(
            "invalid_type",
            f"Invalid type for `{path}`: expected {wanted}, but got {got} instead.",
            param=path,
        )
    bound = _BOUND.match(text)
    code = None if bound is None else _CODES.get((bound[1], bound[2] or "", bound[3]))
    return ApiError(code or "invalid_value", f"Invalid value for `{path}`: {text}.", param=path)
