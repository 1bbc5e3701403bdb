"""Legal values for every field of a request type, made from the type itself.

`examples` walks a TypedDict of an official SDK: one value for each field it has at any depth, with
all that is required around it and nothing else, and the same value without that field to compare.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Iterator, Mapping
from typing import (
    Any,
    Literal,
    NamedTuple,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel
from typing_extensions import is_typeddict

from tests.vendors.strict.anthropic import SIGNATURE

MARK = "markword"
MARK_BASE64 = "bWFya3dvcmQ="
DEPTH_MAX = 7
"""Types that hold themselves are not followed further."""
_PLAIN_SCHEMA = {"type": "object", "properties": {}}
_MARKED_SCHEMA = {"type": "object", "properties": {MARK: {"type": "string"}}}

# What a field's type does not say: by the field's name, plain and marked.
VALUES: Mapping[str, tuple[Any, Any]] = {
    "url": ("https://lab.example/plain.png", f"https://lab.example/{MARK}.png"),
    "image_url": ("https://lab.example/plain.png", f"https://lab.example/{MARK}.png"),
    "file_url": ("https://lab.example/plain.pdf", f"https://lab.example/{MARK}.pdf"),
    "file_data": (
        "data:application/pdf;base64,cGxhaW4=", f"data:application/pdf;base64,{MARK_BASE64}",
    ),
    "data": ("cGxhaW4=", MARK_BASE64),
    "schema": (_PLAIN_SCHEMA, _MARKED_SCHEMA),
    "parameters": (_PLAIN_SCHEMA, _MARKED_SCHEMA),
    "input_schema": (_PLAIN_SCHEMA, _MARKED_SCHEMA),
    "output_schema": (_PLAIN_SCHEMA, _MARKED_SCHEMA),
    "arguments": ("{}", f'{{"of":"{MARK}"}}'),
    "temperature": (0.7, 0.5),
    "top_p": (0.9, 0.5),
    "presence_penalty": (0.1, 0.5),
    "frequency_penalty": (0.1, 0.5),
    "max_tokens": (4_000, 3_000),
    "max_completion_tokens": (4_000, 3_000),
    "max_output_tokens": (4_000, 3_000),
    "budget_tokens": (1_100, 1_500),
    "n": (2, 2),
    "best_of": (2, 2),
    "top_logprobs": (2, 3),
    "logit_bias": ({"5": 1}, {"50256": 7}),
    "metadata": ({"k": "v"}, {"k": MARK}),
    "media_type": ("image/png", "image/webp"),
    "mime_type": ("image/png", "image/webp"),
    "signature": (SIGNATURE, SIGNATURE),
}  # fmt: skip


class Example(NamedTuple):
    """A value with one field of interest in it."""

    path: tuple[str, ...]
    """Names down to the field; the last may be `=value` where each value is a case."""
    value: Any
    without: Any
    """The same without the field, or with another value where it is required; None: no such."""


def kind_of(hint: Any) -> Any:
    """A hint without `Required` and `Annotated`."""
    while get_origin(hint) in (Required, NotRequired, typing.Annotated):
        hint = get_args(hint)[0]
    return hint


def variants(hint: Any) -> list[Any]:
    """The kinds of a union, flat; None and the SDK's own answers left out."""
    hint = kind_of(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return [kind for arg in get_args(hint) for kind in variants(arg)]
    answers = isinstance(hint, type) and issubclass(hint, BaseModel)
    return [] if answers or hint in (type(None), None) else [hint]


def hints_of(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _items_of(kind: Any) -> Any | None:
    origin = get_origin(kind)
    if origin in (list, collections.abc.Iterable, collections.abc.Sequence):
        return get_args(kind)[0]
    return None


def _required(kind: Any) -> frozenset[str]:
    """Names marked so; the SDKs' annotations are strings, which `TypedDict` itself cannot see."""
    total = getattr(kind, "__total__", True)
    hints = hints_of(kind)
    return frozenset(
        name
        for name, hint in hints.items()
        if get_origin(hint) is Required or (total and get_origin(hint) is not NotRequired)
    )


def plain(hint: Any, name: str = "", depth: int = 0) -> Any:
    """A legal value of a kind with nothing more than it must have."""
    kind = variants(hint)[0]
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    if name in VALUES and not is_typeddict(kind) and _items_of(kind) is None:
        return VALUES[name][0]
    if is_typeddict(kind):
        hints = hints_of(kind)
        return {
            field: plain(hints[field], field, depth + 1)
            for field in sorted(_required(kind))
            if depth < 2 * DEPTH_MAX
        }
    items = _items_of(kind)
    if items is not None:
        return [plain(items, name, depth + 1)]
    if kind is bool:
        return False
    if kind is int:
        return 5
    if kind is float:
        return 0.25
    if kind is str:
        return "plain"
    return {"k": "plain"}


def examples(hint: Any, name: str = "", depth: int = 0) -> Iterator[Example]:
    """Every field below a kind, one at a time."""
    for kind in variants(hint):
        if get_origin(kind) is Literal:
            values = get_args(kind)
            for value in values:
                yield Example((f"={value}",), value, values[0] if value != values[0] else None)
        elif name in VALUES and not is_typeddict(kind) and _items_of(kind) is None:
            before, marked = VALUES[name]
            yield Example((), marked, before if before != marked else None)
        elif is_typeddict(kind):
            yield from _fields(kind, depth)
        elif (items := _items_of(kind)) is not None:
            for found in examples(items, name, depth + 1):
                without = None if found.without is None else [found.without]
                yield Example(found.path, [found.value], without)
        elif kind is bool:
            yield Example((), True, False)
        elif kind is int:
            yield Example((), 7, 5)
        elif kind is float:
            yield Example((), 0.5, 0.25)
        elif kind is str:
            yield Example((), MARK, "plain")
        else:
            yield Example((), {"k": MARK}, {"k": "plain"})


def _fields(kind: type, depth: int) -> Iterator[Example]:
    if depth > DEPTH_MAX:
        return
    hints, base = hints_of(kind), plain(kind, depth=depth)
    required = _required(kind)
    for field, hint in hints.items():
        for found in examples(hint, field, depth + 1):
            value = base | {field: found.value}
            if found.without is not None and (field in required or found.path):
                without: Any = base | {field: found.without}
            else:
                without = base if field not in required else None
            yield Example((field, *found.path), value, without)


def fields_of(kind: type) -> Iterator[tuple[str, Example]]:
    """The fields of a request itself, each with its examples."""
    for field, hint in hints_of(kind).items():
        for found in examples(hint, field, 1):
            yield field, found
