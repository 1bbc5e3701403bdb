"""Validation of values against what is declared: names, types, ranges, and secrets in clear.

All that is wrong is found in one pass, each with the path of the value that is.
"""

from __future__ import annotations

import difflib
import math
import re
import types
from collections.abc import Callable, Iterator
from enum import Enum, auto
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec

from tokenschain.core.snapshot import UpstreamLimits
from tokenschain.infra.config import declared
from tokenschain.infra.config.groups import UpstreamSettings
from tokenschain.infra.config.renamed import RENAMED
from tokenschain.infra.config.value_types import NETWORK, Reference, UpstreamCredential

_SHOWN_MAX = 100

T = TypeVar("T")
Values = dict[str, Any]
"""Values by name, as a document holds them."""


class WrongBy(Enum):
    """How a value can be wrong."""

    VALUE = auto()
    NO_GROUP = auto()
    UNKNOWN = auto()
    RENAMED = auto()
    MISSING = auto()
    SECRET = auto()


class Wrong(NamedTuple):
    """One value that is wrong."""

    fault: WrongBy
    path: str
    """Where it stands, as `upstreams[0].limits`."""
    why: str
    """What it must be; of an unknown name the near one, of a missing one what it is for."""
    shown: str = ""
    """The value, shortened and without secrets."""


def wrongs(struct: type, values: object, path: str) -> Iterator[Wrong]:
    """What is wrong with the values of a group: names, then types and ranges."""
    if not isinstance(values, dict):
        said = _repeated(struct, values)
        yield Wrong(WrongBy.NO_GROUP, path, "must be `name: value` lines", said)
        return
    fields = declared.fields_of(struct)
    for name, value in values.items():
        full = f"{path}.{name}" if path else str(name)
        if name in fields:
            yield from _wrong(fields[name].hint, value, full)
        elif full in RENAMED:
            yield Wrong(WrongBy.RENAMED, full, f"`{RENAMED[full]}`")
        else:
            near = difflib.get_close_matches(str(name), list(fields), 1)
            yield Wrong(WrongBy.UNKNOWN, full, f"did you mean `{near[0]}`?" if near else "")
    for name, found in fields.items():
        if found.default is msgspec.NODEFAULT and name not in values:
            full = f"{path}.{name}" if path else name
            yield Wrong(WrongBy.MISSING, full, found.description)


def _wrong(hint: Any, value: object, path: str) -> Iterator[Wrong]:
    """What is wrong with one value, item by item, so that the message names the item."""
    struct, bare = declared.struct_of(hint), declared.bare_of(hint)
    optional = get_origin(_unannotated(hint)) in (Union, types.UnionType) and value is None
    if struct is not None and not optional:
        found = list(wrongs(struct, value, path))
        yield from found
        if not found and isinstance(value, dict):
            try:  # what a group checks by itself, as that no price is negative
                converted(struct, value)
            except msgspec.ValidationError as error:
                why = str(error).partition(" - at ")[0]
                yield Wrong(WrongBy.VALUE, path, why, _repeated(struct, value))
    elif get_origin(bare) is tuple and value is not None and not isinstance(value, dict):
        for number, item in enumerate(_items(bare, value)):
            yield from _wrong(get_args(bare)[0], item, f"{path}[{number}]")
    elif get_origin(bare) is dict and isinstance(value, dict):
        of_key, of_value = get_args(bare)
        for key, item in value.items():
            yield from _wrong(of_key, key, f"{path}.{key}")
            yield from _wrong(of_value, item, f"{path}.{key}")
    else:
        try:
            _convert(_literal(hint, value), hint)
            if NETWORK in getattr(hint, "__metadata__", ()):
                ip_network(str(value))
        except msgspec.ValidationError:
            why = f"must be {declared.range_of(hint)}"
            if "`sealed:NAME`" in why:
                why += "; put the secret into the environment, or use `tokenschain secrets set`"
            yield Wrong(WrongBy.VALUE, path, why, _repeated(hint, value))
        except ValueError as error:
            yield Wrong(WrongBy.VALUE, path, str(error), _repeated(hint, value))


def _unannotated(hint: Any) -> Any:
    return hint.__origin__ if hasattr(hint, "__metadata__") else hint


def _repeated(hint: Any, value: object) -> str:
    """A value that is wrong as it may be repeated: but for what holds a secret."""
    struct = declared.struct_of(hint)
    if struct is not None and isinstance(value, dict):
        fields = declared.fields_of(struct)
        secret = {name for name, found in fields.items() if declared.holds_secret(found.hint)}
        return shown({name: "…" if name in secret else one for name, one in value.items()})
    return repr("…") if declared.holds_secret(hint) else shown(value)


def shown(value: object) -> str:
    """A value as it may be repeated: shortened, and without what looks like a secret."""
    return without_secrets(repr(value))[:_SHOWN_MAX]


_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(sk-[\w-]{12,}|tc[ao]?-[\w-]{20,}|AKIA[0-9A-Z]{12,}|AKID\w{12,}|LTAI\w{12,}"
    r"|gh[pousr]_\w{20,}|hf_\w{20,}|xox[bp]-[\w-]{20,}|eyJ[\w-]{10,}\.[\w-]+(\.[\w-]+)?"
    r"|[0-9a-f]{32}\.\w{16}|Bearer\s+\S{12,}|-----BEGIN [A-Z ]*PRIVATE KEY)"
)
"""What vendors', clouds' and our own keys look like."""
_WITH_PASSWORD = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]*@")


def raw_secrets(
    value: object, path: str, holds_password: Callable[[str], bool] = lambda _: False
) -> Iterator[Wrong]:
    """Values that hold a secret itself and not its place; the secret is not repeated.

    Args:
        holds_password: whether what stands at a path is an address that may hold the password of
            what it leads to.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from raw_secrets(inner, f"{path}.{name}" if path else str(name), holds_password)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from raw_secrets(inner, f"{path}[{number}]", holds_password)
    elif isinstance(value, str) and (
        _SECRET.search(value) or (not holds_password(path) and _WITH_PASSWORD.search(value))
    ):
        yield Wrong(
            WrongBy.SECRET,
            without_secrets(path),
            "holds a secret itself: put it into an environment variable, a file or `tokenschain "
            "secrets set NAME`, and give `env:NAME`, `file:PATH` or `sealed:NAME` where a "
            "credential is asked for",
        )


NUMBER_MAX = 2**53
"""Of whole numbers: what JSON's readers agree on (RFC 8259, 6)."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def unusable(value: object, path: str) -> Iterator[Wrong]:
    """Values that are right where they stand and that somebody could not read further on: numbers
    that are not finite or too large, and texts with control characters or half a character."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from unusable(name, path)
            yield from unusable(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from unusable(inner, f"{path}[{number}]")
    elif isinstance(value, int):
        if not -NUMBER_MAX <= value <= NUMBER_MAX:
            yield Wrong(WrongBy.VALUE, path, f"must be at most {NUMBER_MAX}", "a number")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Wrong(WrongBy.VALUE, path, "must be a finite number", shown(value))
    elif isinstance(value, str) and _CONTROL.search(value):
        yield Wrong(WrongBy.VALUE, path, "must have no control characters", "a text")


def without_secrets(text: str) -> str:
    """A text with what looks like a secret taken out."""
    return _WITH_PASSWORD.sub("…@", _SECRET.sub("…", text))


def converted(struct: type[T], values: Values) -> T:
    """Values that nothing is wrong with, as the group that is declared.

    Raises:
        msgspec.ValidationError: what a group checks by itself is wrong.
    """
    found: T = _convert(_published(struct, values), struct)
    return found


def _convert(value: object, to: Any) -> Any:
    return msgspec.convert(value, to, strict=False, dec_hook=_from_text)


def _literal(hint: Any, value: Any) -> Any:
    """`off`, `on`, `yes` and `no` as the words they are where a word is asked: YAML 1.1 reads them
    as true and false."""
    if isinstance(value, bool) and get_origin(declared.bare_of(hint)) is Literal:
        words = ("on", "yes") if value else ("off", "no")
        return next((word for word in words if word in get_args(declared.bare_of(hint))), value)
    return value


def _from_text(wanted: type, value: Any) -> Any:
    if wanted is Path and isinstance(value, str | Path):
        return Path(value)
    raise TypeError("must be a path")


def _published(struct: type, values: Values) -> Values:
    """The values of a group in the form that is declared, all groups below it included."""
    found: Values = {"zone": "", "limits": {}} if issubclass(struct, UpstreamSettings) else {}
    for name, declaration in declared.fields_of(struct).items():
        if name not in values:
            continue
        value = _in_form(declaration.hint, values[name])
        if issubclass(struct, UpstreamSettings) and name in UpstreamLimits.__struct_fields__:
            found["limits"][name] = value
        else:
            found[name] = value
    return found


def _in_form(hint: Any, value: Any) -> Any:
    """One value in the form that is declared."""
    struct, bare = declared.struct_of(hint), declared.bare_of(hint)
    if struct is not None:
        return value if value is None else _published(struct, value)
    if get_origin(bare) is tuple and not isinstance(value, dict):
        return [_in_form(get_args(bare)[0], item) for item in _items(bare, value)]
    if get_origin(bare) is dict and isinstance(value, dict):
        return {key: _in_form(get_args(bare)[1], item) for key, item in value.items()}
    return _literal(hint, value)


def _items(bare: Any, value: object) -> list[Any] | tuple[Any, ...]:
    """The items of a list: given as such, as one item, or as text with commas between them."""
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, str):
        return [value]
    if get_args(bare)[0] in (Reference, UpstreamCredential):
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]
