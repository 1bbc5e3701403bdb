"""Lenient JSON of upstreams: what fits a type is taken, what does not is left at its default.

Vendors' replies are read for what is needed. A field that is null, of another type or missing
costs that field and never the answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, inspect

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_NUMBER_MAX = 100_000_000_000
_Reply = TypeVar("_Reply", bound=msgspec.Struct)


class _Unfit(Exception):
    """A value is not of the type, and cannot be taken for it."""


def reader(kind: type[_Reply]) -> Callable[[bytes], _Reply]:
    """A decoder of a struct: strict at first, and lenient where that fails.

    The decoder raises `ValueError` for what is no JSON object.
    """
    strict = msgspec.json.Decoder(kind).decode
    known = inspect.type_info(kind)

    def read(data: bytes) -> _Reply:
        try:
            return strict(data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        try:
            made: _Reply = _fit(patiently(data), known)
        except _Unfit:
            raise ValueError("not a JSON object") from None
        return made

    return read


def patiently(data: bytes) -> Any:
    """Any JSON, halves of characters and bytes that are no UTF-8 included.

    Raises:
        ValueError: it is none.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        text = data.decode("utf-8-sig", "replace")
        return json.loads(text, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def encode(value: Any) -> bytes:
    """JSON; halves of characters stay as escapes, so that the next reader can join them."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(value)).encode()


def count_of(value: Any) -> int | None:
    """A whole number in any writing (7, 7.0, "7"), or None."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, float):
        if not math.isfinite(value) or value != int(value):
            return None
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return value if abs(value) <= _NUMBER_MAX else None


def whole_characters(text: str) -> str:
    """Halves of characters joined, and replaced where the other half is missing."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encodable(value: Any) -> Any:
    """A value without halves of characters and numbers that no encoder takes."""
    if isinstance(value, str):
        return whole_characters(value)
    if isinstance(value, dict):
        return {whole_characters(str(k)): encodable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [encodable(entry) for entry in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value) if abs(value) < 2**1_000 else None
    return value


def _fit(value: Any, known: inspect.Type) -> Any:
    match known:
        case inspect.StructType():
            return _fit_struct(value, known)
        case inspect.ListType():
            return _fit_list(value, known.item_type)
        case inspect.UnionType():
            return _fit_union(value, known)
        case inspect.StrType():
            if isinstance(value, str):
                return value
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
            raise _Unfit
        case inspect.IntType():
            count = count_of(value)
            if count is None:
                raise _Unfit
            return count
        case inspect.FloatType():
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            raise _Unfit
        case inspect.NoneType():
            if value is None:
                return None
            raise _Unfit
        case inspect.RawType():
            return Raw(encode(value))
        case inspect.DictType():
            if isinstance(value, dict):
                return value
            raise _Unfit
    return value


def _fit_struct(value: Any, known: inspect.StructType) -> Any:
    if not isinstance(value, dict):
        raise _Unfit
    fields = {}
    for field in known.fields:
        try:
            if field.encode_name in value:
                fields[field.name] = _fit(value[field.encode_name], field.type)
        except _Unfit:
            pass
        if field.required and field.name not in fields:
            raise _Unfit
    return known.cls(**fields)


def _fit_list(value: Any, known: inspect.Type) -> list[Any]:
    if not isinstance(value, list):
        raise _Unfit
    made = []
    for entry in value:
        try:
            made.append(_fit(entry, known))
        except _Unfit:
            continue
    return made


def _fit_union(value: Any, known: inspect.UnionType) -> Any:
    for kind in known.types:
        try:
            return _fit(value, kind)
        except _Unfit:
            continue
    raise _Unfit
