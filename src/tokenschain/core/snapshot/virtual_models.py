"""Virtual models as published: entries and their conditions."""

from __future__ import annotations

import msgspec


class When(msgspec.Struct, frozen=True):
    """Conditions of an entry; all that are given must hold."""

    language: str | None = None
    """Of the last message: `zh`, `en`, `ja`, `ko`, `ru` or `ar`."""
    tags: tuple[str, ...] = ()
    """Words of `x-tc-tags` that must all be there, as `contract` or `subject=math`."""
    needs: tuple[str, ...] = ()
    """Of `tools`, `vision`, `json_schema`, `thinking`."""
    prompt_tokens_min: int = 0
    prompt_tokens_max: int | None = None


class Entry(msgspec.Struct, frozen=True):
    """One line of a virtual model."""

    model: str
    upstream: str | None = None
    """Only at this upstream."""
    weight: int | None = None
    when: When | None = None
