"""Rules of tenants beside the platform's: which hold, and how gateways are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, get_args

from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.kinds import LabelChoice
from tokenschain.core.snapshot import OwnUpstreams, own_id
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.core.snapshot.data_classes import ClassCache, DataClassRule
from tokenschain.core.snapshot.effective_policy import resolved
from tokenschain.core.snapshot.label_rules import LabelRule
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy
from tokenschain.core.snapshot.receipt_rules import Send
from tokenschain.core.snapshot.routing_policy import POLICIES
from tokenschain.core.snapshot.zones import EVERYBODY, Sovereignty, Zone, under, zones_of

T = TypeVar("T")


def policies(given: Configuration) -> dict[str, str]:
    """Routing policies by whose calls they are for.

    A tenant's rule for a policy that the platform has taken away since is left out: gateways
    refuse a configuration that names one.
    """
    found = dict(given.routing.policy_overrides)
    known = {*POLICIES, *given.routing.custom_policies}
    for tenant, spec in given.tenant_routing.items():
        own = dict(spec.policy_overrides)
        if spec.policy is not None:
            own.setdefault("*", spec.policy)
        _add(found, tenant, {scope: name for scope, name in own.items() if name in known})
    return found


def own_upstreams(given: Configuration) -> dict[str, OwnUpstreams]:
    """By tenant, when its own upstreams are asked."""
    own = {tenant: spec.own_upstreams for tenant, spec in given.tenant_routing.items()}
    return own | given.routing.own_upstreams


def residency(given: Configuration, deployment: Sovereignty) -> dict[str, tuple[Zone, ...]]:
    """Zones by whose data may go there, by rules and modes, the strictest of all. A tenant only
    takes zones away: where the platform has a rule for the same calls, both hold.

    Args:
        deployment: the mode of the platform as a whole.
    """
    platform = under(given.routing.residency, given.routing.sovereignty)
    platform = under(platform, {EVERYBODY: deployment})
    found = dict(platform)
    for tenant, spec in given.tenant_routing.items():
        for scope, zones in under(spec.residency, spec.sovereignty).items():
            name = _scope(tenant, scope)
            for rule in ("*", name):
                allowed = platform.get(rule)
                if allowed is not None:
                    zones = tuple(zone for zone in allowed if zone in zones)  # noqa: PLW2901
            found[name] = zones
    for (owner, data_class), of_class in given.data_classes.items():
        scope = f"tenant/{owner}/class/{data_class}" if owner else f"class/{data_class}"
        left = zones_of(of_class.sovereignty) or get_args(Zone)
        found[scope] = tuple(zone for zone in found.get(scope, left) if zone in left)
    return found


def data_classes(given: Configuration) -> dict[str, DataClassRule]:
    """What is known of data classes, by name; a tenant's own as `TENANT/NAME`."""
    return {own_id(*whose): spec for whose, spec in given.data_classes.items()}


def cache(given: Configuration) -> CacheRules:
    """Cache rules, tenants' among them."""
    rules = {name: getattr(given.cache, name) for name in CacheRules.__struct_fields__}
    modes, rates = dict(given.cache.mode_overrides), dict(given.cache.false_hit_rate_max)
    for tenant, spec in given.tenant_cache.items():
        own = dict(spec.mode_overrides)
        if spec.mode is not None:
            own.setdefault("*", spec.mode)
        _add(modes, tenant, own)
        _add(rates, tenant, spec.false_hit_rate_max)
    classes: dict[str, ClassCache] = {
        name: rule.cache for name, rule in data_classes(given).items() if rule.cache != "shared"
    }
    return CacheRules(
        **rules | {"mode_overrides": modes, "false_hit_rate_max": rates, "classes": classes}
    )


def moderation(given: Configuration) -> dict[str, ModerationPolicy]:
    """Moderation policies by name, each with whose calls it is for and its sector's defaults."""
    return {
        own_id(*whose): published_policy(whose.tenant, spec)
        for whose, spec in sorted(given.moderation.items())
    }


def published_policy(tenant: str, spec: ModerationPolicy) -> ModerationPolicy:
    """A policy as gateways get it."""
    fields = {field: getattr(spec, field) for field in ModerationPolicy.__struct_fields__}
    if tenant:
        fields["scope"] = _scope(tenant, spec.scope)
    return resolved(ModerationPolicy(**fields))


def labels(given: Configuration) -> dict[str, LabelRule]:
    """Label rules by scope, each of them whole; none where nothing is labelled.

    A tenant takes nothing away of what the platform does, but for the notice where it was agreed
    that it may.
    """
    base = LabelRule(**{name: getattr(given.labels, name) for name in LabelRule.__struct_fields__})
    found = {"*": base}
    for tenant, spec in sorted(given.tenant_labels.items()):
        may_omit = tenant in given.labels.agreed
        own = found[_scope(tenant, "*")] = _chosen(base, spec, base, may_omit=may_omit)
        for scope, choice in spec.overrides.items():
            found[_scope(tenant, scope)] = _chosen(own, choice, base, may_omit=may_omit)
    return found if any(rule.labels for rule in found.values()) else {}


def _chosen(
    otherwise: LabelRule, own: LabelChoice, platform: LabelRule, *, may_omit: bool
) -> LabelRule:
    """A rule where something is chosen for oneself."""
    fields = {name: getattr(otherwise, name) for name in LabelRule.__struct_fields__}
    fields |= {name: value for name in fields if (value := getattr(own, name)) is not None}
    if fields["explicit"] == "none" and not may_omit:
        fields["explicit"] = platform.explicit
    if fields["implicit"] == "off":
        fields["implicit"] = platform.implicit
    return LabelRule(**fields)


def receipts(given: Configuration) -> dict[str, Send]:
    """Whose answers have a receipt, by scope; none where nobody's have one unasked. A tenant's own
    word goes before the platform's: receipts are for whoever calls."""
    found: dict[str, Send] = {"*": given.receipts.send}
    for tenant, spec in sorted(given.tenant_receipts.items()):
        if spec.send is not None:
            found[_scope(tenant, "*")] = spec.send
        found |= {_scope(tenant, scope): send for scope, send in spec.overrides.items()}
    return found if "always" in found.values() else {}


def _add(found: dict[str, T], tenant: str, own: Mapping[str, T]) -> None:
    """A tenant's own rules: what the platform has set for the same calls goes before."""
    for scope, rule in own.items():
        found.setdefault(_scope(tenant, scope), rule)


def _scope(tenant: str, scope: str) -> str:
    return f"tenant/{tenant}" if scope == "*" else f"tenant/{tenant}/{scope}"
