"""Rules of tenants beside the platform's."""

from __future__ import annotations

from tokenschain.control.configuration import tenant_rules
from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.kinds import (
    CacheRulesSpec,
    RoutingSpec,
    TenantCacheRulesSpec,
    TenantRoutingSpec,
)


def test_a_tenant_takes_zones_away_and_adds_none() -> None:
    given = Configuration(
        routing=RoutingSpec(residency={"*": ("cn", "gov"), "tenant/acme": ("cn", "own")}),
        tenant_routing={
            "acme": TenantRoutingSpec(residency={"*": ("own", "cn", "gov", "abroad")}),
            "beta": TenantRoutingSpec(residency={"project/p1": ("abroad", "cn")}),
        },
    )
    found = tenant_rules.residency(given)
    assert found["tenant/acme"] == ("cn",)
    assert found["tenant/beta/project/p1"] == ("cn",)
    assert found["*"] == ("cn", "gov")


def test_what_the_platform_set_for_the_same_calls_goes_before() -> None:
    given = Configuration(
        routing=RoutingSpec(policy_overrides={"tenant/acme": "cost-first"}),
        tenant_routing={
            "acme": TenantRoutingSpec(policy="balanced", policy_overrides={"model/m": "balanced"})
        },
        cache=CacheRulesSpec(mode_overrides={"tenant/acme": "off"}),
        tenant_cache={"acme": TenantCacheRulesSpec(mode="exact", false_hit_rate_max={"*": 0.02})},
    )
    assert tenant_rules.policies(given) == {
        "tenant/acme": "cost-first", "tenant/acme/model/m": "balanced",
    }  # fmt: skip
    rules = tenant_rules.cache(given)
    assert rules.mode_overrides == {"tenant/acme": "off"}
    assert rules.false_hit_rate_max == {"tenant/acme": 0.02}
