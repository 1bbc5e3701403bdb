"""Rules of tenants beside the platform's."""

from __future__ import annotations

import msgspec
import pytest

from tests.control.configuration.conftest import Platform, upstream
from tokenschain.control.configuration import tenant_rules
from tokenschain.control.configuration.changes import Change, ConfigurationRefused
from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.kinds import (
    CacheRulesSpec,
    LabelChoice,
    LabelRulesSpec,
    ReceiptRulesSpec,
    RoutingSpec,
    TenantCacheRulesSpec,
    TenantLabelRulesSpec,
    TenantReceiptRulesSpec,
    TenantRoutingSpec,
)
from tokenschain.control.configuration.resources import Kind, ResourceKey
from tokenschain.core.snapshot.label_rules import rule_for
from tokenschain.core.snapshot.receipt_rules import are_sent
from tokenschain.core.snapshot.zones import ZONES


def test_a_tenant_takes_zones_away_and_adds_none() -> None:
    given = Configuration(
        routing=RoutingSpec(residency={"*": ("cn", "gov"), "tenant/acme": ("cn", "own")}),
        tenant_routing={
            "acme": TenantRoutingSpec(residency={"*": ("own", "cn", "gov", "abroad")}),
            "beta": TenantRoutingSpec(residency={"project/p1": ("abroad", "cn")}),
        },
    )
    found = tenant_rules.residency(given, "none")
    assert found["tenant/acme"] == ("cn",)
    assert found["tenant/beta/project/p1"] == ("cn",)
    assert found["*"] == ("cn", "gov")


def test_modes_become_residency_rules_and_the_strictest_of_all_holds() -> None:
    given = Configuration(
        routing=RoutingSpec(
            residency={"tenant/acme": ("abroad", "cn", "gov")},
            sovereignty={"tenant/acme": "domestic-only", "class/core": "air-gapped",
                         "class/general": "none", "tenant/beta": "none"},
        ),
        tenant_routing={
            "acme": TenantRoutingSpec(sovereignty={"*": "none", "project/p1": "zone:gov"}),
            "beta": TenantRoutingSpec(sovereignty={"*": "zone:abroad"}),
        },
    )  # fmt: skip
    assert tenant_rules.residency(given, "none") == {
        "tenant/acme": ("cn", "gov"), "tenant/acme/project/p1": ("gov",),
        "class/core": ("own",), "class/general": ZONES, "tenant/beta": ("abroad",),
    }  # fmt: skip
    under = tenant_rules.residency(given, "domestic-only")
    assert under["*"] == ("cn", "mlps3", "gov", "own")
    assert under["tenant/beta"] == (), "a tenant opens nothing"


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


def test_a_tenant_is_charged_for_its_own_upstreams_whatever_it_calls_them(
    platform: Platform,
) -> None:
    def fees() -> dict[str, int]:
        return {one.id: one.call_fee_micro_cny for one in platform.state.routes.upstreams.values()}

    agreed = {"own_upstream_fees_micro_cny": {"tenant/acme": 200, "*": 50}}
    platform.put(Kind.ROUTING, "default", agreed)
    platform.put(Kind.UPSTREAM, "shared", upstream("alpha"))
    for tenant, name in (("acme", "one"), ("beta", "one")):
        platform.put(Kind.UPSTREAM, name, upstream("alpha"), tenant=tenant)
    assert fees() == {"shared": 0, "acme/one": 200, "beta/one": 50}
    platform.put(Kind.UPSTREAM, "one", None, tenant="acme")
    platform.put(Kind.UPSTREAM, "two", upstream("alpha", call_fee_micro_cny=7), tenant="acme")
    platform.put(Kind.UPSTREAM, "three", upstream("alpha"), tenant="acme")
    assert fees() == {"shared": 0, "acme/two": 200, "acme/three": 200, "beta/one": 50}
    # What the platform set at one upstream is for all of the tenant's, those made later too.
    platform.put(Kind.UPSTREAM, "dear", upstream("alpha", call_fee_micro_cny=80), tenant="beta")
    platform.put(Kind.UPSTREAM, "later", upstream("alpha"), tenant="beta")
    assert {fee for name, fee in fees().items() if name.startswith("beta/")} == {80}
    platform.put(Kind.ROUTING, "default", {"own_upstream_fees_micro_cny": {"tenant/beta": 0}})
    assert fees()["beta/dear"] == 0, "agreed by name"
    assert fees()["acme/three"] == 7, "and nothing for everybody"
    wrong = {"own_upstream_fees_micro_cny": {"tenant/acne": 1}, "own_upstreams": {"bete": "only"}}
    with pytest.raises(ConfigurationRefused) as caught:
        platform.change([Change(ResourceKey(Kind.ROUTING, "", "default"), wrong)])
    assert "there is no tenant `acne`; did you mean `acme`?" in str(caught.value)
    assert "there is no tenant `bete`; did you mean `beta`?" in str(caught.value)


def test_a_policy_that_was_taken_away_holds_for_no_tenant(platform: Platform) -> None:
    platform.put(Kind.ROUTING, "default", {"custom_policies": {"mine": {}}})
    platform.put(Kind.ROUTING, "default", {"policy": "mine"}, tenant="acme")
    assert platform.state.routes.routing.policy_overrides == {"tenant/acme": "mine"}
    done = platform.put(Kind.ROUTING, "default", None)
    assert "there is no policy `mine`" in str(done.warnings[0])
    assert platform.state.routes.routing.policy_overrides == {}


def test_a_tenant_leaves_out_the_notice_only_where_it_was_agreed() -> None:
    own = TenantLabelRulesSpec(
        explicit="none",
        implicit="off",
        producer="theirs",
        overrides={"project/web": LabelChoice(explicit="start")},
    )
    platform = LabelRulesSpec(explicit="end", implicit="on", producer="ours")
    given = Configuration(labels=platform, tenant_labels={"acme": own})
    found = tenant_rules.labels(given)
    shown = {name: (one.explicit, one.implicit, one.producer) for name, one in found.items()}
    assert shown == {
        "*": ("end", "on", "ours"),
        "tenant/acme": ("end", "on", "theirs"),
        "tenant/acme/project/web": ("start", "on", "theirs"),
    }
    agreed = msgspec.structs.replace(platform, agreed={"acme": "2026-11"})
    found = tenant_rules.labels(msgspec.structs.replace(given, labels=agreed))
    assert (found["tenant/acme"].explicit, found["tenant/acme"].implicit) == ("none", "on")
    assert rule_for(found, "acme", "web") == found["tenant/acme/project/web"]
    assert rule_for(found, "beta", "web") == found["*"]
    quiet = Configuration(tenant_labels={"acme": TenantLabelRulesSpec(explicit="none")})
    assert tenant_rules.labels(quiet) == {}, "nothing is looked for on a call"


def test_the_narrowest_rule_says_who_gets_receipts() -> None:
    own = TenantReceiptRulesSpec(overrides={"project/web": "always"})
    found = tenant_rules.receipts(Configuration(tenant_receipts={"acme": own}))
    assert are_sent(found, "acme", "web")
    assert not are_sent(found, "acme", "app") and not are_sent(found, "beta", "web")
    quiet = TenantReceiptRulesSpec(send="asked", overrides={"project/web": "always"})
    platform = ReceiptRulesSpec(send="always")
    found = tenant_rules.receipts(Configuration(receipts=platform, tenant_receipts={"acme": quiet}))
    assert are_sent(found, "beta", "web") and are_sent(found, "acme", "web")
    assert not are_sent(found, "acme", "app")
    none = Configuration(tenant_receipts={"acme": TenantReceiptRulesSpec(send="asked")})
    assert tenant_rules.receipts(none) == {}, "nothing is looked for when a key is read"
