"""Resources: what the configuration consists of, by kind, tenant and name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

PROBLEMS_MAX = 100
"""More than these are not looked for: somebody mends what is said first."""


MANAGED_BY = "managed_by"
"""The field of a problem that is none of the spec: the settings file keeps the resource up."""


class Kind(StrEnum):
    """Kinds of resources, as documents name them."""

    UPSTREAM = "upstream"
    CREDENTIAL = "credential"
    MODEL = "model"
    VIRTUAL_MODEL = "virtual-model"
    ROUTING = "routing"
    CACHE_RULES = "cache-rules"
    MODERATION_POLICY = "moderation-policy"
    FILING = "filing"
    DATA_CLASS = "data-class"
    PROCESSOR = "processor"
    LABEL_RULES = "label-rules"
    RECEIPT_RULES = "receipt-rules"


class Origin(StrEnum):
    """Who keeps a resource up."""

    API = "api"
    FILE = "file"
    """The settings file: what is to change is changed there."""


class Owned(NamedTuple):
    """A name, and whose it is."""

    tenant: str
    """Empty for the platform's."""
    name: str


class ResourceKey(NamedTuple):
    """What tells resources apart."""

    kind: Kind
    tenant: str
    """Empty for the platform's."""
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" + (f" of tenant {self.tenant}" if self.tenant else "")


class NamedInVain(NamedTuple):
    """What a spec names, and there is none of."""

    kind: Kind
    tenant: str
    """Whose it would be; a tenant may name the platform's, too."""
    name: str
    field: str = ""
    """Of the resource that would define it, as `custom_policies`; empty: the resource itself."""


def _no_hint() -> str:
    return ""


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one resource, and what to change."""

    kind: Kind
    tenant: str
    name: str
    field: str
    """Of its spec, as `entries[0].model`; empty: the resource as a whole."""
    why: str
    """Says by itself what to change."""
    names: NamedInVain | None = None
    """What is missing, where that is the problem: another resource may mend it."""
    because: tuple[str, ...] = ()
    """Other fields of the same spec that it comes from."""
    hint: Callable[[], str] = dataclasses.field(default=_no_hint, compare=False, repr=False)
    """What is said after it, as near names: found when it is shown, since of a large configuration
    much may be wrong that nobody reads."""

    @property
    def key(self) -> ResourceKey:
        """The resource."""
        return ResourceKey(self.kind, self.tenant, self.name)

    def __str__(self) -> str:
        return f"{self.key}: {self.why}{self.hint()}"
