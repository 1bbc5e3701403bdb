"""What a tenant has of its own: its names and upstreams serve its calls and no others'."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import FakeAnswer, call_of, price
from tokenschain.core.call import Attempt, Call
from tokenschain.core.call_record import CHARACTERS_MAX
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import openai_chat
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.log_events import silent
from tokenschain.core.ports import Answer, delivered
from tokenschain.core.pricing.catalog import DatedPrice
from tokenschain.core.snapshot import (
    OWN_UPSTREAM_PRICE,
    UPSTREAM_ID_CHARACTERS_MAX,
    Candidate,
    ModelRoute,
    Offer,
    Routing,
    Served,
    Snapshot,
    TenantConfiguration,
    Upstream,
    own_id,
)
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.api import models
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.router import Router

TENANTS = ("a", "b", "c")
MODELS = ("m", "n", "faq")
ZONES = ("cn", "abroad", "own")


def grant(tenant: str, project: str = "p", **more: object) -> KeyGrant:
    return KeyGrant(f"key_{tenant}_{project}", tenant, project, "e", **more)  # type: ignore[arg-type]


def call(model: str, *, stream: bool = False) -> Call:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    raw = msgspec.json.encode(body)
    made = call_of(raw)
    made.parsed = openai_chat.parse(openai_chat.Api.CHAT, raw)
    return made


def router_of(snapshot: Snapshot) -> Router:
    return Router(Served(snapshot), lambda: 1.0, lambda: 1.0, lambda: 0.5)


def upstream(name: str, tenant: str = "", zone: str = "cn", **more: object) -> Upstream:
    given_ = {"id": own_id(tenant, name), "tenant": tenant, "zone": zone, **more}
    return Upstream(provider="sim", base_url="http://127.0.0.1/v1", **given_)  # type: ignore[arg-type]


def route(name: str, *upstreams: str) -> ModelRoute:
    return ModelRoute(name, "chat", tuple(Offer(u, name, price(0)) for u in upstreams))


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any snapshot, well made or not: routes may name the upstreams of anybody."""
    upstreams = {}
    for tenant in ("", *TENANTS):
        for name in draw(st.sets(st.sampled_from(["x", "y"]))):
            made = upstream(name, tenant, draw(st.sampled_from(ZONES)), drain=draw(st.booleans()))
            upstreams[made.id] = made
    ids = [*upstreams, "gone"]

    def routes() -> dict[str, ModelRoute]:
        names = draw(st.sets(st.sampled_from(MODELS)))
        return {n: route(n, *draw(st.lists(st.sampled_from(ids), max_size=4))) for n in names}

    def virtual() -> dict[str, tuple[VirtualModelEntry, ...]]:
        entry = st.builds(
            VirtualModelEntry,
            st.sampled_from(MODELS),
            st.sampled_from([None, None, *ids]),
        )
        names = draw(st.sets(st.sampled_from(["v", "faq"])))
        return {n: tuple(draw(st.lists(entry, min_size=1, max_size=3))) for n in names}

    tenants = {t: TenantConfiguration(routes(), virtual()) for t in TENANTS if draw(st.booleans())}
    modes = {t: draw(st.sampled_from(["first", "only", "also"])) for t in TENANTS}
    scope = st.sampled_from(
        ["*", "tenant/a", "project/p", "model/m", "tenant/a/model/m", "tenant/b/project/p"]
    )
    residency = draw(
        st.dictionaries(scope, st.lists(st.sampled_from(ZONES)).map(tuple), max_size=3)
    )
    routing = Routing(models=virtual(), own_upstreams=modes, residency=residency)  # type: ignore[arg-type]
    return Snapshot("1", upstreams, routes(), routing, tenants=tenants)


class EveryUpstreamFails:
    """Notes who is asked; each attempt fails, or breaks off after its first words."""

    def __init__(self, *, breaks: bool) -> None:
        self.asked: list[Upstream] = []
        self._breaks = breaks

    def can_resume(self, candidate: Candidate) -> bool:
        return True

    async def open(
        self, call: Call, candidate: Candidate, said: PartialOutput | None = None
    ) -> Answer:
        self.asked.append(candidate.upstream)
        call.attempts.append(Attempt(candidate, 0.0))
        if self._breaks:
            return BrokenAnswer()
        raise ApiError("upstream_failed", "no")


class BrokenAnswer(FakeAnswer):
    def __init__(self) -> None:
        super().__init__([])

    async def deliver(self, call: Call) -> bytes:
        raise ApiError("upstream_failed", "it broke off")

    def partial_output(self) -> PartialOutput | None:
        return PartialOutput("so far", "chatcmpl-1", 1, "m", 2)


@settings(max_examples=300, deadline=None)
@given(
    snapshot=snapshots(),
    tenant=st.sampled_from([*TENANTS, "stranger"]),
    model=st.sampled_from([*MODELS, "v", "nothing"]),
    breaks=st.booleans(),
)
def test_no_call_reaches_another_tenants_upstream(
    snapshot: Snapshot, tenant: str, model: str, breaks: bool
) -> None:
    upstreams, router = EveryUpstreamFails(breaks=breaks), router_of(snapshot)
    dispatch = Dispatch(router, upstreams, lambda: 1.0, lambda: 0.5, silent)
    asked, caller = call(model, stream=breaks), grant(tenant)

    async def serve() -> None:
        plan = router.plan(asked, caller)
        dispatch.explain(asked, caller, plan)
        answer = await dispatch.open(asked, caller, plan)
        await delivered(answer, asked)

    with pytest.raises(ApiError):
        asyncio.run(serve())
    mode = snapshot.routing.own_upstreams.get(tenant, "first")
    has_own = tenant in snapshot.tenants
    for one in upstreams.asked:
        assert one.tenant in ("", tenant)
        assert not one.drain
        assert one.tenant == tenant or not (mode == "only" and has_own)
        for scope, zones in snapshot.routing.residency.items():
            # Of the names only the asked one is known here: `model/m` may hold for more calls.
            if scope in ("*", f"tenant/{tenant}", "project/p", f"tenant/{tenant}/project/p"):
                assert one.zone in zones
            if scope in (f"model/{model}", f"tenant/{tenant}/model/{model}"):
                assert one.zone in zones
    if breaks and upstreams.asked:
        # Who pays the vendor does not change in the middle of an answer.
        assert len({one.tenant for one in upstreams.asked}) == 1


# --- names -----------------------------------------------------------------------------------


def two_tenants() -> Snapshot:
    return Snapshot(
        "1",
        {u.id: u for u in (upstream("x"), upstream("y"), upstream("x", "a"))},
        {"m": route("m", "x"), "n": route("n", "y")},
        Routing(models={"faq": (VirtualModelEntry("n"),)}),
        tenants={
            "a": TenantConfiguration(
                {"mine": route("mine", "a/x")},
                {"faq": (VirtualModelEntry("m"),), "secret-a": (VirtualModelEntry("mine"),)},
            ),
            "b": TenantConfiguration({}, {"faq": (VirtualModelEntry("n", "y"),)}),
        },
    )


def served_by(router: Router, model: str, tenant: str) -> list[str]:
    plan = router.plan(call(model), grant(tenant))
    return [e.name for e in router.endpoints(plan)]


def test_one_name_means_to_each_tenant_what_it_made_of_it() -> None:
    router = router_of(two_tenants())
    assert served_by(router, "faq", "a") == ["x"]
    assert served_by(router, "faq", "b") == ["y"]
    assert served_by(router, "faq", "stranger") == ["y"]
    assert served_by(router, "secret-a", "a") == ["a/x"]


@pytest.mark.parametrize("name", ["secret-a", "mine"])
def test_a_tenants_names_are_not_there_for_others(name: str) -> None:
    router = router_of(two_tenants())
    for tenant in ("b", "stranger"):
        with pytest.raises(ApiError) as refused:
            router.plan(call(name), grant(tenant))
        with pytest.raises(ApiError) as nothing:
            router.plan(call("x" * len(name)), grant(tenant))
        assert refused.value.code == "model_not_found"
        assert str(refused.value).replace(name, "") == str(nothing.value).replace(
            "x" * len(name), ""
        )
        # A near miss of the name names it to its owner only.
        with pytest.raises(ApiError) as near:
            router.plan(call(name + "2"), grant(tenant))
        assert f"`{name}`" not in str(near.value)
    with pytest.raises(ApiError, match=f"`{name}`"):
        router.plan(call(name + "2"), grant("a"))


def test_each_tenant_lists_its_own_names() -> None:
    served = Served(two_tenants())
    listed = {
        tenant: sorted(m.name for m in models.usable(served.directory(tenant), grant(tenant)))
        for tenant in ("a", "b", "stranger")
    }
    assert listed == {
        "a": ["faq", "m", "mine", "n", "secret-a"],
        "b": ["faq", "m", "n"],
        "stranger": ["faq", "m", "n"],
    }


# --- whose upstreams, and when ---------------------------------------------------------------


def with_own(mode: str) -> Snapshot:
    return Snapshot(
        "1",
        {u.id: u for u in (upstream("x"), upstream("k", "a"))},
        {"m": route("m", "x"), "n": route("n", "x")},
        Routing(own_upstreams={"a": mode}),  # type: ignore[dict-item]
        tenants={"a": TenantConfiguration({"m": route("m", "a/k")})},
    )


@pytest.mark.parametrize(
    ("mode", "tiers"),
    [("first", [["a/k"], ["x"]]), ("only", [["a/k"]]), ("also", [["a/k", "x"]])],
)
def test_own_upstreams_are_asked_first_only_or_among_others(
    mode: str, tiers: list[list[str]]
) -> None:
    router = router_of(with_own(mode))
    plan = router.plan(call("m"), grant("a"))
    assert [[c.upstream.id for c in t.candidates] for t in (plan, *plan.others)] == tiers
    assert served_by(router, "m", "b") == ["x"]
    if mode == "only":
        with pytest.raises(ApiError, match="does not exist"):
            router.plan(call("n"), grant("a"))
    else:
        assert served_by(router, "n", "a") == ["x"]


def test_own_upstreams_cost_the_platform_nothing_whatever_the_snapshot_says() -> None:
    plan = Served(with_own("first")).directory("a").plan("m", "chat")
    assert plan.candidates[0].offer.price == OWN_UPSTREAM_PRICE
    assert plan.others[0].candidates[0].offer.price != OWN_UPSTREAM_PRICE


def test_queues_and_what_is_learned_are_not_shared_with_other_tenants() -> None:
    router = router_of(with_own("only"))
    own, shared = (router.plan(call("m"), grant(t)) for t in ("a", "b"))
    assert own.route.name == "a/m" and shared.route.name == "m"


def test_a_failing_upstream_of_a_tenant_says_nothing_of_a_region() -> None:
    region = {"region": "cn-beijing"}
    mine = [upstream(f"k{n}", "a", **region) for n in range(4)]
    snapshot = Snapshot(
        "1",
        {u.id: u for u in (upstream("x", **region), upstream("y", **region), *mine)},
        {"m": route("m", "x", "y")},
        tenants={"a": TenantConfiguration({"m": route("m", *(u.id for u in mine))})},
    )
    router = router_of(snapshot)
    for tenant in ("a", "b"):
        router.endpoints(router.plan(call("m"), grant(tenant)))
    for endpoint in router.known:
        if endpoint.candidate.upstream.tenant:
            endpoint.health.eject(1.0, 0.5)
            assert router.breaker_opened(endpoint) == {}
    assert not router.healths["x"].is_open and not router.healths["y"].is_open


def test_every_id_that_can_be_published_has_room_in_a_record() -> None:
    assert CHARACTERS_MAX["upstream"] == UPSTREAM_ID_CHARACTERS_MAX


# --- prices ----------------------------------------------------------------------------------


def test_a_name_that_a_tenant_gave_sets_no_price() -> None:
    sell = {name: (DatedPrice(0, price(at)),) for name, at in {"faq": 1, "m": 500}.items()}
    made = msgspec.structs.replace(two_tenants(), sell=sell)
    served = Served(made)
    offer = made.models["m"].offers[0]
    assert served.directory("stranger").selling_price("faq", offer, 1.0) == price(1)
    assert served.directory("a").selling_price("faq", offer, 1.0) == price(500)
    sell["a/faq"] = sell["a/chosen"] = (DatedPrice(0, price(7)),)
    assert served.directory("a").selling_price("faq", offer, 1.0) == price(500), "meant the shared"
    named = {"chosen": (VirtualModelEntry("m"),)}
    made = msgspec.structs.replace(made, tenants={"a": TenantConfiguration({}, named)})
    assert Served(made).directory("a").selling_price("chosen", offer, 1.0) == price(7)


def test_a_price_for_a_tenant_holds_though_it_has_nothing_else_of_its_own() -> None:
    sell = {name: (DatedPrice(0, price(at)),) for name, at in {"m": 5, "stranger/m": 3}.items()}
    made = msgspec.structs.replace(two_tenants(), sell=sell)
    served, offer = Served(made), made.models["m"].offers[0]
    assert "stranger" not in made.tenants
    assert served.directory("stranger").selling_price("m", offer, 1.0) == price(3)
    assert served.directory("nobody").selling_price("m", offer, 1.0) == price(5)
    assert served.directory("stranger").names() == served.directory("nobody").names()


# --- residency -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("residency", "allowed"),
    [
        ({}, {"x", "y", "z"}),
        ({"model/m": ("cn",)}, {"x"}),
        ({"model/v": ("abroad", "own")}, {"y", "z"}),
        ({"*": ("cn", "own"), "tenant/a": ("abroad", "own")}, {"z"}),
        ({"tenant/b/project/p": ("cn",)}, {"x", "y", "z"}),
        ({"tenant/a/project/p": ("cn",), "project/p": ("cn", "own")}, {"x"}),
        ({"tenant/a/model/m": ("own",), "model/m": ("cn", "own")}, {"z"}),
        ({"tenant/a": ("cn",), "model/m": ("abroad",)}, set()),
    ],
)
def test_data_goes_where_every_rule_that_applies_allows(
    residency: dict[str, tuple[str, ...]], allowed: set[str]
) -> None:
    upstreams = [upstream("x"), upstream("y", zone="abroad"), upstream("z", zone="own")]
    snapshot = Snapshot(
        "1",
        {u.id: u for u in upstreams},
        {"m": route("m", "x", "y", "z")},
        Routing(models={"v": (VirtualModelEntry("m"),)}, residency=residency),  # type: ignore[arg-type]
    )
    router = router_of(snapshot)
    asked, caller = call("v"), grant("a")
    plan = router.plan(asked, caller)
    need = router.need(asked, plan, 1)  # type: ignore[arg-type]
    found = set()
    tried: set[object] = set()
    while True:
        try:
            decision = router.place(asked, caller, plan, need, tried)  # type: ignore[arg-type]
        except ApiError as error:
            assert error.code == "no_upstream" and not allowed
            break
        if decision.endpoint is None:
            break
        tried.add(decision.endpoint)
        found.add(decision.endpoint.name)
    assert found == allowed
