"""Bridged requests: what a request became in a vendor's dialect, and where it came from."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.formats.translation_changes import OPENAI_NAMES, CallerNames, Loss

NO_NAMES: Mapping[str, str] = MappingProxyType({})


class Origin(NamedTuple):
    """What is known of a request beside its canonical fields."""

    names: CallerNames = OPENAI_NAMES
    losses: tuple[Loss, ...] = ()
    """What the canonical form does not hold of it."""
    translated: bool = False
    """Whether it came in by another API than OpenAI's chat."""
    output_tokens_max: int | None = None
    """The most that the upstream's model gives."""


class Bridged(msgspec.Struct, frozen=True, gc=False):
    """A request in a vendor's dialect, and what was changed on the way."""

    fields: dict[str, Raw]
    dropped: tuple[str, ...] = ()
    emulated: tuple[str, ...] = ()
    thinking: bool | None = None
    schema: bytes | None = None
    """The JSON schema that was emulated: to be checked, since it was only asked for."""
    adapted: tuple[str, ...] = ()
    freeform: frozenset[str] = frozenset()
    """Freeform tools sent as functions: the answer's calls of them are to be turned back."""
    older_functions: bool = False
    """Whether `functions` were sent as `tools`: the answer's call is to be turned back."""
    tool_names: Mapping[str, str] = NO_NAMES
    """The callers' names of tools that were sent under others."""
    called_by_schema: bool = False
    """Whether the answer is a call written as JSON: see `forced_calls`."""
    relays: bool = False
    """Whether the fields are the caller's own, in the protocol that the vendor speaks."""
    untouched: bool = False
    """Whether they are as the caller wrote them, in OpenAI's form: nothing else is set here."""
