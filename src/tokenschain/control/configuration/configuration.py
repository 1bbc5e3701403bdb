"""Configuration: everything that is published but for keys, limits and prices, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from tokenschain.control.configuration.kinds import (
    SINGLE,
    CacheRulesSpec,
    CredentialSpec,
    DataClassSpec,
    FilingSpec,
    LabelRulesSpec,
    ModelSpec,
    ModerationPolicySpec,
    ProcessorSpec,
    ReceiptRulesSpec,
    RoutingSpec,
    Spec,
    TenantCacheRulesSpec,
    TenantLabelRulesSpec,
    TenantModerationPolicySpec,
    TenantReceiptRulesSpec,
    TenantRoutingSpec,
    UpstreamSpec,
    VirtualModelSpec,
)
from tokenschain.control.configuration.resources import Kind, Owned, ResourceKey
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry
from tokenschain.infra.config import Settings

T = TypeVar("T", bound=msgspec.Struct)


class Configuration(msgspec.Struct, frozen=True):
    """Everything that is published but for keys, limits and prices; the same resources always
    make the same one."""

    upstreams: Mapping[Owned, UpstreamSpec] = {}
    """In the order in which they are preferred, all else being equal."""
    credentials: Mapping[Owned, CredentialSpec] = {}
    models: Mapping[str, ModelSpec] = {}
    virtual_models: Mapping[Owned, tuple[VirtualModelEntry, ...]] = {}
    routing: RoutingSpec = RoutingSpec()
    tenant_routing: Mapping[str, TenantRoutingSpec] = {}
    cache: CacheRulesSpec = CacheRulesSpec()
    tenant_cache: Mapping[str, TenantCacheRulesSpec] = {}
    moderation: Mapping[Owned, ModerationPolicySpec | TenantModerationPolicySpec] = {}
    filings: Mapping[str, FilingSpec] = {}
    labels: LabelRulesSpec = LabelRulesSpec()
    tenant_labels: Mapping[str, TenantLabelRulesSpec] = {}
    data_classes: Mapping[Owned, DataClassSpec] = {}
    processors: Mapping[str, ProcessorSpec] = {}
    receipts: ReceiptRulesSpec = ReceiptRulesSpec()
    tenant_receipts: Mapping[str, TenantReceiptRulesSpec] = {}

    @property
    def virtual_names(self) -> frozenset[str]:
        """Names of the platform's virtual models."""
        return frozenset(name for tenant, name in self.virtual_models if not tenant)

    def is_virtual(self, tenant: str, model: str) -> bool:
        """Whether a name is a virtual model to a tenant: one of its own, or of the platform's."""
        virtual = self.virtual_models
        return Owned(tenant, model) in virtual or Owned("", model) in virtual

    @property
    def compares_meanings(self) -> bool:
        """Whether anyone's questions are compared by meaning."""
        own = self.tenant_cache.values()
        return self.cache.compares_meanings or any(
            "semantic" in (rules.mode, *rules.mode_overrides.values()) for rules in own
        )


def of_specs(specs: Mapping[ResourceKey, Spec]) -> Configuration:
    """The configuration that resources make up."""
    upstreams: list[tuple[Owned, UpstreamSpec]] = []
    credentials: dict[Owned, CredentialSpec] = {}
    models: dict[str, ModelSpec] = {}
    virtual: dict[Owned, tuple[VirtualModelEntry, ...]] = {}
    routing, cache, labels = RoutingSpec(), CacheRulesSpec(), LabelRulesSpec()
    receipts = ReceiptRulesSpec()
    tenant_labels: dict[str, TenantLabelRulesSpec] = {}
    tenant_receipts: dict[str, TenantReceiptRulesSpec] = {}
    tenant_routing: dict[str, TenantRoutingSpec] = {}
    tenant_cache: dict[str, TenantCacheRulesSpec] = {}
    moderation: dict[Owned, ModerationPolicySpec | TenantModerationPolicySpec] = {}
    filings: dict[str, FilingSpec] = {}
    data_classes: dict[Owned, DataClassSpec] = {}
    processors: dict[str, ProcessorSpec] = {}
    for key in sorted(specs):
        spec, whose = specs[key], Owned(key.tenant, key.name)
        match spec:
            case UpstreamSpec():
                upstreams.append((whose, spec))
            case CredentialSpec():
                credentials[whose] = spec
            case ModelSpec():
                models[key.name] = spec
            case VirtualModelSpec():
                virtual[whose] = spec.entries
            case RoutingSpec():
                routing = spec
            case TenantRoutingSpec():
                tenant_routing[key.tenant] = spec
            case CacheRulesSpec():
                cache = spec
            case TenantCacheRulesSpec():
                tenant_cache[key.tenant] = spec
            case ModerationPolicySpec() | TenantModerationPolicySpec():
                moderation[whose] = spec
            case FilingSpec():
                filings[key.name] = spec
            case DataClassSpec():
                data_classes[whose] = spec
            case ProcessorSpec():
                processors[key.name] = spec
            case LabelRulesSpec():
                labels = spec
            case TenantLabelRulesSpec():
                tenant_labels[key.tenant] = spec
            case ReceiptRulesSpec():
                receipts = spec
            case TenantReceiptRulesSpec():
                tenant_receipts[key.tenant] = spec
    # Names follow their order within a tenant; the platform's upstreams come first.
    upstreams.sort(key=lambda one: (one[0].tenant, one[1].preference))
    return Configuration(
        dict(upstreams), credentials, models, virtual, routing, tenant_routing, cache,
        tenant_cache, moderation, filings, labels, tenant_labels, data_classes, processors,
        receipts, tenant_receipts,
    )  # fmt: skip


def specs_of(settings: Settings) -> dict[ResourceKey, Spec]:
    """What the settings say of upstreams, routing and cache, as resources of the platform."""
    found: dict[ResourceKey, Spec] = {}
    for number, upstream in enumerate(settings.upstreams):
        fields = {name: getattr(upstream, name) for name in upstream.__struct_fields__}
        key = ResourceKey(Kind.UPSTREAM, fields.get("tenant", ""), upstream.id)
        found[key] = UpstreamSpec(**fields, preference=number)
    for name, entries in settings.routing.models.items():
        found[ResourceKey(Kind.VIRTUAL_MODEL, "", name)] = VirtualModelSpec(entries=entries)
    routing = _only(RoutingSpec, msgspec.structs.replace(settings.routing, models={}))
    if routing != RoutingSpec():
        found[ResourceKey(Kind.ROUTING, "", SINGLE)] = routing
    cache = _only(CacheRulesSpec, settings.cache)
    if cache != CacheRulesSpec():
        found[ResourceKey(Kind.CACHE_RULES, "", SINGLE)] = cache
    return found


def place_in_file(key: ResourceKey) -> str:
    """Where the settings have a resource that they manage."""
    match key.kind:
        case Kind.UPSTREAM:
            return f"`upstreams`, id `{key.name}`"
        case Kind.VIRTUAL_MODEL:
            return f"`routing.models.{key.name}`"
        case Kind.ROUTING:
            return "`routing`"
    return "`cache`"


def of_settings(settings: Settings) -> Configuration:
    """What the settings alone make up."""
    return of_specs(specs_of(settings))


def _only(wanted: type[T], given: msgspec.Struct) -> T:
    """A spec from a group that has its fields, and others."""
    return wanted(**{name: getattr(given, name) for name in wanted.__struct_fields__})
