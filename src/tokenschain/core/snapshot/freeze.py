"""Incident freezes as published: what is not served for now."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Freeze(msgspec.Struct, frozen=True, array_like=True):
    """A model, a tenant, or a tenant's use of a model."""

    tenant: str
    """Empty: all of them."""
    model: str
    """Empty: all of the tenant's."""


def holds(freezes: Iterable[Freeze], tenant: str, models: Iterable[str]) -> bool:
    """Whether any of the freezes is for a tenant's call of one of these models."""
    names = set(models)
    names |= {name.removeprefix(f"{tenant}/") for name in names}  # as a tenant's own is published
    return any(
        one.tenant in ("", tenant) and (not one.model or one.model in names) for one in freezes
    )
