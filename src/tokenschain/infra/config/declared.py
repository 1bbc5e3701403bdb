"""Declarations of the settings: names, types, ranges, defaults, descriptions."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import NODEFAULT, inspect

from tokenschain.core.snapshot import UpstreamLimits
from tokenschain.infra.config.groups import (
    Settings,
    UpstreamSettings,
)
from tokenschain.infra.config.value_types import (
    HOLDS_PASSWORD,
    PUBLIC_PLACE,
    REFERENCE_PATTERN,
    SECRET,
    UPSTREAM_CREDENTIAL_PATTERN,
)


class Declared(NamedTuple):
    """One setting as it is declared."""

    hint: Any
    """Its type, with ranges."""
    description: str
    default: object
    """`msgspec.NODEFAULT` when it must be given."""

    @property
    def holds_password(self) -> bool:
        """Whether it is an address with the password of what it leads to."""
        return HOLDS_PASSWORD in getattr(self.hint, "__metadata__", ())


@functools.cache
def fields_of(struct: type) -> Mapping[str, Declared]:
    """What may stand under a group, in order; but for its `published_only`, which are given in
    another form or not at all."""
    hints = get_type_hints(struct, include_extras=True)
    found: dict[str, Declared] = {}
    for each in msgspec.structs.fields(struct):
        if each.name not in getattr(struct, "published_only", ()):
            default = each.default
            if each.default_factory is not NODEFAULT:
                default = each.default_factory()
            found[each.name] = Declared(hints[each.name], _description(hints[each.name]), default)
    if issubclass(struct, UpstreamSettings):
        found |= fields_of(UpstreamLimits)
    return found


def settings() -> Iterator[tuple[str, Declared]]:
    """Every setting by its name with dots; `upstreams`, `routing` and `cache` as one each."""
    for name, declared in fields_of(Settings).items():
        group = struct_of(declared.hint)
        if group is None or declared.description:
            yield name, declared
        else:
            yield from ((f"{name}.{inner}", found) for inner, found in fields_of(group).items())


def struct_of(hint: Any) -> type | None:
    """The group that a type stands for, if it is one."""
    bare = bare_of(hint)
    return bare if isinstance(bare, type) and issubclass(bare, msgspec.Struct) else None


def bare_of(hint: Any) -> Any:
    """A type without its annotation and without None."""
    while hasattr(hint, "__metadata__"):
        hint = hint.__origin__
    if get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        if len(parts) == 1:
            return bare_of(parts[0])
    return hint


def holds_secret(hint: Any) -> bool:
    """Whether a secret may be in a value of a type: in itself, an item or a field of it."""
    marks = getattr(hint, "__metadata__", ())
    if SECRET in marks or HOLDS_PASSWORD in marks:
        return True
    struct = struct_of(hint)
    if struct is not None:
        return any(holds_secret(found.hint) for found in fields_of(struct).values())
    parts = (hint.__origin__,) if marks else get_args(hint)
    return any(holds_secret(part) for part in parts)


def _description(hint: Any) -> str:
    for meta in getattr(hint, "__metadata__", ()):
        if meta.description:
            return str(meta.description)
    return ""


def range_of(hint: Any) -> str:
    """What a value may be, in words: `a whole number from 0 to 65535`."""
    return _in_words(inspect.type_info(hint))


def _in_words(found: inspect.Type) -> str:
    match found:
        case inspect.Metadata():
            return _in_words(found.type)
        case inspect.UnionType():
            parts = [p for p in found.types if not isinstance(p, inspect.NoneType)]
            return " or ".join(_in_words(part) for part in parts)
        case inspect.IntType() | inspect.FloatType():
            kind = "a whole number" if isinstance(found, inspect.IntType) else "a number"
            return kind + _bounds(found)
        case inspect.LiteralType():
            return "one of " + ", ".join(f"`{value}`" for value in found.values)
        case inspect.EnumType():
            return "one of " + ", ".join(f"`{one.value}`" for one in found.cls)
        case inspect.BoolType():
            return "true or false"
        case inspect.DecimalType():
            return "an amount"
        case inspect.StrType() if found.pattern is not None:
            plain = found.pattern.replace(r"\Z", "$")
            return _TEXTS.get(found.pattern, f"text that matches `{plain}`")
        case inspect.StrType():
            return "text"
        case inspect.CustomType():
            return "a path"
        case inspect.VarTupleType() | inspect.ListType():
            return "a list"
        case _:
            return "`name: value` lines"


_TEXTS = {
    REFERENCE_PATTERN: "`env:NAME`, `file:PATH` or `sealed:NAME`",
    UPSTREAM_CREDENTIAL_PATTERN: "`env:NAME`, `file:PATH`, `sealed:NAME` or `stored:NAME`",
    r"^https?://\S+\Z": "an address that begins with http:// or https://",
    PUBLIC_PLACE: "an address that begins with http:// or https://, without a password or a query",
    r"^https?://": "an address that begins with http:// or https://",
    r"^(https?://[^/\s]+(/\S*)?)?\Z": "an address with a host that begins with http:// or https://",
    r"^([\w.@-]{1,62}/)?[a-z0-9][a-z0-9._-]{0,62}\Z": "at most 63 lower case letters, digits, `.`, "
    "`_` or `-`, a letter or digit first",
    r"^(\*|(tenant|project|model)/.+)\Z": "`tenant/NAME`, `project/NAME`, `model/NAME`, "
    "`tenant/NAME/project/NAME`, `tenant/NAME/model/NAME` or `*`",
}
"""Patterns in words."""


def _bounds(found: inspect.IntType | inspect.FloatType) -> str:
    if found.ge is not None and found.le is not None:
        return f" from {found.ge} to {found.le}"
    parts = [f" above {found.gt}"] if found.gt is not None else []
    parts += [f" of at least {found.ge}"] if found.ge is not None else []
    parts += [f" up to {found.le}"] if found.le is not None else []
    return " and".join(parts)
