"""Settings as people see them: by name, in the file's words, masked, and which are not defaults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from operator import attrgetter
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from tokenschain.core.redaction import Redactor
from tokenschain.infra.config import declared, loading
from tokenschain.infra.config.groups import Settings

MASK = "…"
_QUERY = re.compile(r"\?[^\s#]*")


class ShownSetting(NamedTuple):
    """One setting for the eye."""

    name: str
    """With dots; entries of lists and mappings by their names, as `upstreams.bailian.zone`."""
    value: str
    origin: str
    """`environment`, the file, or `default`."""
    is_default: bool


def shown_settings(settings: Settings) -> Iterator[ShownSetting]:
    """Every setting in force; what an address or a text holds that is secret is masked."""
    origins = loading.sources()
    for name, found in declared.settings():
        origin = origins[name]
        for full, value, is_default in _leaves(name, found, attrgetter(name)(settings)):
            yield ShownSetting(full, value, "default" if is_default else origin, is_default)


def _leaves(name: str, found: declared.Declared, value: object) -> Iterator[tuple[str, str, bool]]:
    """The single values below a setting: name, text, whether it is the default."""
    if isinstance(value, msgspec.Struct):
        yield from _fields(name, value)
    elif isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
        for number, item in enumerate(value):
            yield from _fields(f"{name}.{getattr(item, 'id', number)}", item)
    elif isinstance(value, Mapping) and value and _has_structs(value):
        for key, item in value.items():
            items = item if isinstance(item, tuple) else (item,)
            for number, each in enumerate(items):
                at = f"{name}.{key}" if len(items) == 1 else f"{name}.{key}[{number}]"
                yield from _fields(at, each)
    else:
        yield name, in_words(value, found.holds_password), value == found.default


def _has_structs(values: Mapping[str, object]) -> bool:
    first = next(iter(values.values()))
    if isinstance(first, tuple):
        first = first[0] if first else None
    return isinstance(first, msgspec.Struct)


def _fields(name: str, group: msgspec.Struct) -> Iterator[tuple[str, str, bool]]:
    own = declared.fields_of(type(group))
    limits = getattr(group, "limits", None)
    for field, found in own.items():
        holder = group if hasattr(group, field) else limits
        yield from _leaves(f"{name}.{field}", found, getattr(holder, field, found.default))


def in_words(value: object, holds_password: bool = False) -> str:
    """A value as one would write it, without what is secret in it."""
    if value is None or value in ((), {}, [], ""):
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, str):
        return _masked(value) if holds_password or "://" in value else _REDACTOR.secret_free(value)
    if isinstance(value, tuple | list | frozenset):
        return ", ".join(in_words(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {in_words(item)}" for key, item in value.items())
    if isinstance(value, msgspec.Struct):
        return in_words(msgspec.structs.asdict(value))
    return str(value)


_REDACTOR = Redactor()


def _masked(url: str) -> str:
    """An address without who signs in there, and without what is asked for there."""
    scheme, found, rest = url.partition("://")
    if not found:
        return MASK
    host = rest.rpartition("@")[2]
    if "@" in rest and urlsplit(url).username is None:
        # The sign does not part a name from a host: nothing of it can be told apart.
        return f"{scheme}://{MASK}"
    return _REDACTOR.secret_free(f"{scheme}://" + _QUERY.sub(f"?{MASK}", host))
