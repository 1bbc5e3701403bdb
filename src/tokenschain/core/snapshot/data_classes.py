"""Data classes: what holds for data of a class, and which of several classes' rules decide.

The order of the grades is in `core.data_class`. A class of one's own has no place in it: it holds
beside the highest grade, and of all that hold the strictest rule decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tokenschain.core.snapshot.zones import NONE, Sovereignty
from tokenschain.core.tenancy import CLASSES_APART

ClassCache = Literal["shared", "exact", "none"]
CACHES: tuple[ClassCache, ...] = ("shared", "exact", "none")
"""From the loosest to the strictest."""


class DataClassRule(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for data of a class."""

    sovereignty: Annotated[
        Sovereignty,
        Meta(
            description="Where data of the class may go: `domestic-only`, `zone:NAME`, "
            "`air-gapped` or `none`; beside what `routing` says, the strictest of all."
        ),
    ] = NONE
    cache: Annotated[
        ClassCache,
        Meta(
            description="`shared`: as the cache rules say, never across projects; `exact`: for the "
            "same request only, no question is compared by meaning; `none`: nothing is kept."
        ),
    ] = "shared"


def names_in(joined: str) -> tuple[str, ...]:
    """The classes of a call, as its record and its key's grant have them."""
    return tuple(joined.split(CLASSES_APART)) if joined else ()


def strictest_cache(modes: Iterable[ClassCache]) -> ClassCache:
    """Of several, the one that keeps least."""
    return max(modes, key=CACHES.index, default=CACHES[0])
