"""Data classes: what holds for data of a class, and which of several classes' rules decide.

The order of the grades is in `core.data_class`. A class of one's own has no place in it: it holds
beside the highest grade, and of all that hold the strictest rule decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tokenschain.core.data_class import GRADES, Grade
from tokenschain.core.snapshot.zones import NONE, Sovereignty
from tokenschain.core.tenancy import CLASSES_APART

ClassCache = Literal["shared", "exact", "none"]
CACHES: tuple[ClassCache, ...] = ("shared", "exact", "none")
"""From the loosest to the strictest."""
RETENTION_DAYS_MAX = 36_500


class DataClassRule(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for data of a class: where it goes, who keeps it how long, and who reads it."""

    grade: Annotated[
        Grade,
        Meta(
            description="Of a class of your own, the grade whose right its readers need; a class "
            "that is named as a grade is that grade."
        ),
    ] = "general"
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
    retention_days_min: Annotated[
        int,
        Meta(
            ge=0,
            le=RETENTION_DAYS_MAX,
            description="Kept content of the class stays at least so long, whatever the content "
            "policy says.",
        ),
    ] = 0
    own_key: Annotated[
        bool,
        Meta(
            description="Whether kept content of the class is sealed under a key of its own, apart "
            "from the tenant's other content."
        ),
    ] = False
    readers: Annotated[
        Literal["all", "cleared"],
        Meta(
            description="`cleared`: to read what calls of the class said, somebody needs the right "
            "`data:GRADE` beside the others."
        ),
    ] = "all"


Rules = Mapping[str, DataClassRule]
"""By name; a tenant's own as `TENANT/NAME`."""


def names_in(joined: str) -> tuple[str, ...]:
    """The classes of a call, as its record and its key's grant have them."""
    return tuple(joined.split(CLASSES_APART)) if joined else ()


def rules_of(rules: Rules, tenant: str, names: Iterable[str]) -> list[DataClassRule]:
    """The rules that hold for data of some classes: the platform's, and the tenant's own."""
    found = []
    for name in names:
        for one in (rules.get(name), rules.get(f"{tenant}/{name}")):
            if one is not None:
                found.append(msgspec.structs.replace(one, grade=grade_of(name, one)))
    return found


def grade_of(name: str, rule: DataClassRule) -> Grade:
    """The grade that a class is, or is treated as."""
    return next((grade for grade in GRADES if grade == name), rule.grade)


def own_keys(rules: Rules, tenant: str, names: Iterable[str]) -> str:
    """Those of some classes whose content has a key of its own, with `+` between."""
    return CLASSES_APART.join(
        sorted(
            name for name in names if any(one.own_key for one in rules_of(rules, tenant, [name]))
        )
    )


def strictest_cache(modes: Iterable[ClassCache]) -> ClassCache:
    """Of several, the one that keeps least."""
    return max(modes, key=CACHES.index, default=CACHES[0])


def retention_days_min(rules: Iterable[DataClassRule]) -> int:
    """For how many days at least content of classes is kept."""
    return max((one.retention_days_min for one in rules), default=0)


def grades_to_read(rules: Iterable[DataClassRule]) -> set[Grade]:
    """The grades whose right is needed to read data of classes."""
    return {one.grade for one in rules if one.readers == "cleared"}
