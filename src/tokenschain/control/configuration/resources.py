"""Resources: what the configuration consists of, by kind, tenant and name, each with its spec."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

import msgspec

from tokenschain.core.snapshot import Routing
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry
from tokenschain.infra.config import Settings, UpstreamSettings

SINGLE = "default"
"""The name of resources of which there is one for the platform and one for each tenant."""


class Kind(StrEnum):
    """Kinds of resources, as documents name them."""

    UPSTREAM = "upstream"
    CREDENTIAL = "credential"
    MODEL = "model"
    VIRTUAL_MODEL = "virtual-model"
    ROUTING = "routing"
    CACHE_RULES = "cache-rules"


class Owned(NamedTuple):
    """A name, and whose it is."""

    tenant: str
    """Empty for the platform's."""
    name: str


class Problem(NamedTuple):
    """What is wrong with one resource, and what to change."""

    kind: Kind
    tenant: str
    name: str
    field: str
    """Of its spec, as `entries[0].model`; empty: the resource as a whole."""
    why: str
    """Says by itself what to change."""

    def __str__(self) -> str:
        whose = f" of tenant {self.tenant}" if self.tenant else ""
        return f"{self.kind} {self.name}{whose}: {self.why}"


class Configuration(msgspec.Struct, frozen=True):
    """Everything that is published but for keys, limits and prices."""

    upstreams: Mapping[Owned, UpstreamSettings] = {}
    """In the order in which they are preferred, all else being equal."""
    virtual_models: Mapping[Owned, tuple[VirtualModelEntry, ...]] = {}
    routing: Routing = Routing()
    """The platform's, without virtual models."""
    cache: CacheRules = CacheRules()
    """The platform's, without flushes."""

    @property
    def virtual_names(self) -> frozenset[str]:
        """Names of the platform's virtual models."""
        return frozenset(name for tenant, name in self.virtual_models if not tenant)


def of_settings(settings: Settings) -> Configuration:
    """What the settings say of upstreams, routing and cache."""
    rules = {name: getattr(settings.cache, name) for name in CacheRules.__struct_fields__}
    return Configuration(
        upstreams={
            Owned(upstream.tenant, upstream.id): upstream for upstream in settings.upstreams
        },
        virtual_models={
            Owned("", name): entries for name, entries in settings.routing.models.items()
        },
        routing=msgspec.structs.replace(settings.routing, models={}),
        cache=CacheRules(**rules),
    )
