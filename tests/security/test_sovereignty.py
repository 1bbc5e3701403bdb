"""Sovereignty: no call, failover or rescued stream ever goes outside the modes that hold for it.

Random situations through the real router and dispatcher; `PROOFS=full` tries 100,000. What is
allowed is worked out here from the modes themselves, not by the code under test.
"""

from __future__ import annotations

import asyncio
import os
from random import Random
from typing import Any

import msgspec
import pytest

from tests.security.test_own_names import EveryUpstreamFails, call, grant, route, upstream
from tokenschain.control.configuration import tenant_rules
from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.kinds import RoutingSpec, TenantRoutingSpec
from tokenschain.core.errors import ApiError
from tokenschain.core.log_events import silent
from tokenschain.core.ports import delivered
from tokenschain.core.snapshot import Routing, Served, Snapshot, TenantConfiguration
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.router import Router

SITUATIONS = 100_000 if os.environ.get("PROOFS") == "full" else 10_000
OPEN = {
    "none": {"", "abroad", "cn", "mlps3", "gov", "own"},
    "domestic-only": {"cn", "mlps3", "gov", "own"},
    "air-gapped": {"own"},
    "zone:cn": {"cn"}, "zone:gov": {"gov"}, "zone:abroad": {"abroad"},
}  # fmt: skip
"""Where a mode lets data go, said again."""
MODES = [*OPEN]
ZONES = ["", "abroad", "abroad", "cn", "mlps3", "gov", "own"]
CLASSES = ["secret", "plain", "forgotten"]
PLATFORM_SCOPES = ["*", "tenant/a", "tenant/b", "project/p", "model/m", "tenant/a/project/p",
                   "class/secret", "class/plain"]  # fmt: skip
OWN_SCOPES = ["*", "project/p", "model/m"]


class Situation:
    """One random configuration and call."""

    def __init__(self, seed: int) -> None:
        random = self.random = Random(seed)

        def modes(scopes: list[str]) -> dict[str, str]:
            return {s: random.choice(MODES) for s in scopes if random.random() < 0.12}

        few = ["none"] * 6 + ["domestic-only", "domestic-only", *MODES]
        self.deployment, self.gateways_own = random.choice(few), random.choice(few)
        self.platform, self.tenants_own = modes(PLATFORM_SCOPES), modes(OWN_SCOPES)
        if self.random.random() < 0.5:
            self.platform |= {"class/secret": "domestic-only", "class/plain": "none"}
        self.tenant = random.choice(["a", "b"])
        self.classes = random.sample(CLASSES, random.choice([0, 0, 0, 0, 1, 2]))
        self.model = random.choice(["m", "n", "v"])
        self.breaks = random.random() < 0.5

    def snapshot(self) -> Snapshot:
        random = self.random
        ups = [upstream(f"u{n}", random.choice(["", "", "", "a"]), random.choice(ZONES),
                        drain=random.random() < 0.1) for n in range(random.randint(1, 5))]  # fmt: skip
        ids = [one.id for one in ups]

        def routes(names: str) -> dict[str, Any]:
            return {n: route(n, *random.sample(ids, random.randint(1, len(ids)))) for n in names}

        spec = RoutingSpec(sovereignty=self.platform)
        given = Configuration(
            routing=spec, tenant_routing={"a": TenantRoutingSpec(sovereignty=self.tenants_own)}
        )
        routing = Routing(
            models={"v": (VirtualModelEntry("m"), VirtualModelEntry("n"))},
            explore=0.2,
            hedge=random.random() < 0.5,
            residency=tenant_rules.residency(given, self.deployment),
        )
        own = {"a": TenantConfiguration(routes("m"), {})} if random.random() < 0.4 else {}
        return Snapshot("1", {u.id: u for u in ups}, routes("mn"), routing, tenants=own)

    def allowed(self, model: str) -> set[str]:
        """Zones where this call's data may go when a model of this name answers it."""
        found = OPEN[self.deployment] & OPEN[self.gateways_own]
        mine = {"*", f"tenant/{self.tenant}", "project/p", f"tenant/{self.tenant}/project/p"}
        mine |= {f"model/{self.model}", f"model/{model}"}
        for scope in mine & self.platform.keys():
            found &= OPEN[self.platform[scope]]
        if self.tenant == "a":
            for scope in {"*", "project/p", f"model/{self.model}", f"model/{model}"}:
                found &= OPEN[self.tenants_own.get(scope, "none")]
        for name in self.classes:
            # A class that nothing is said of may go nowhere.
            mode = self.platform.get(f"class/{name}")
            found &= OPEN[mode] - {""} if mode is not None else set()
        return found


async def play(number: int) -> tuple[int, int]:
    """How many upstreams one situation asked, and whether it was refused for its data's sake."""
    now = Situation(number)
    snapshot, upstreams = now.snapshot(), EveryUpstreamFails(breaks=now.breaks)
    chance = Random(number).random
    router = Router(Served(snapshot), lambda: 1.0, lambda: 1.0, chance,
                    sovereignty=now.gateways_own)  # fmt: skip
    dispatch = Dispatch(router, upstreams, lambda: 1.0, chance, silent)
    asked, caller = call(now.model, stream=now.breaks), grant(now.tenant).of_classes(now.classes)
    asked.caller = caller
    with pytest.raises(ApiError) as refused:
        answer = await dispatch.open(asked, caller, router.plan(asked, caller))
        await delivered(answer, asked)
    for attempt in asked.attempts:
        one, model = attempt.candidate.upstream, attempt.candidate.offer.model
        assert one.zone in now.allowed(model), (number, one, vars(now), refused.value)
    assert len(upstreams.asked) == len(asked.attempts)
    return len(upstreams.asked), "data may go" in str(refused.value)


def test_no_situation_sends_a_call_outside_its_modes() -> None:
    async def all_of_them() -> list[tuple[int, int]]:
        return [await play(number) for number in range(SITUATIONS)]

    told = asyncio.run(all_of_them())
    # It would hold as well if nothing were ever sent, or nothing ever refused.
    assert sum(asked > 0 for asked, _ in told) > SITUATIONS / 10
    assert sum(asked > 1 for asked, _ in told) > SITUATIONS / 50, "failover"
    assert sum(refused for _, refused in told) > SITUATIONS / 10


def router_of(sovereignty: str, residency: dict[str, Any]) -> Router:
    ups = {"here": upstream("here"), "far": upstream("far", zone="abroad"),
           "where": upstream("where", zone="")}  # fmt: skip
    models = {"m": route("m", "far", "where"), "n": route("n", "here", "far")}
    routing = Routing(residency=residency)
    served = Served(Snapshot("1", ups, models, routing))
    return Router(served, lambda: 1.0, lambda: 1.0, lambda: 0.5, sovereignty=sovereignty)


def placed(router: Router, model: str, **more: Any) -> str:
    asked, caller = call(model), msgspec.structs.replace(grant("a"), **more)
    plan = router.plan(asked, caller)
    found = router.place(asked, caller, plan, router.need(asked, plan, 1), set())  # type: ignore[arg-type]
    assert found.endpoint is not None
    return found.endpoint.name


def test_a_gateway_keeps_to_its_own_mode_whatever_control_publishes() -> None:
    everywhere = {"*": ("abroad", "cn"), "tenant/a": ("abroad",)}
    assert placed(router_of("none", everywhere), "m") == "far"
    with pytest.raises(ApiError, match="nowhere"):
        placed(router_of("domestic-only", everywhere), "m")
    assert placed(router_of("domestic-only", {}), "n") == "here"


def test_a_refusal_names_the_rules_and_what_would_help() -> None:
    with pytest.raises(ApiError) as refused:
        placed(router_of("domestic-only", {"class/secret": ("own", "abroad")}), "m",
               data_class="secret")  # fmt: skip
    assert refused.value.code == "no_upstream" and refused.value.param == "model"
    told = str(refused.value)
    assert "It may go to `own`" in told and "`*`, `class/secret`" in told
    assert "Call a model that is served there" in told
    for name in ("far", "where"):
        assert name not in told.replace("Where", ""), "an upstream's name is not the caller's"
