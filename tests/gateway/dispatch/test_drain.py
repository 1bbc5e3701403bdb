"""Upstreams that are drained or leave: no new calls by any way, running ones end, nothing stays."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from tests.fakes import GRANT, call_of, price
from tests.gateway.dispatch.test_dispatcher import BODY, Clouds
from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.log_events import silent
from tokenschain.core.ports import delivered
from tokenschain.core.snapshot import (
    Candidate,
    ModelRoute,
    Offer,
    Plan,
    Routing,
    Served,
    Snapshot,
    TenantConfiguration,
    Upstream,
    own_id,
)
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.router import Router
from tokenschain.gateway.dispatch.upstream_status import upstream_statuses
from tokenschain.simulation.clock import VirtualLoop, run


class Resuming(Clouds):
    """Vendors that go on where another broke off."""

    def can_resume(self, candidate: Candidate) -> bool:
        return True


class Broken:
    """A stream that breaks off after some words, when the test says so."""

    def __init__(self, breaks: asyncio.Event) -> None:
        self._breaks = breaks

    async def deliver(self, call: Call) -> bytes:
        await self._breaks.wait()
        raise ApiError("upstream_failed", "broke off")

    def abort(self) -> None: ...

    def partial_output(self) -> PartialOutput | None:
        return PartialOutput("some words", "id", 0, "m", 2)


class House:
    """The dispatch of a gateway on a virtual clock, and the configuration that it serves by."""

    def __init__(self, clouds: Clouds) -> None:
        self.loop = VirtualLoop()
        asyncio.set_event_loop(self.loop)
        self.served = Served()
        self.router = Router(self.served, lambda: self.loop.now, lambda: self.loop.now, lambda: 0.5)
        self.dispatch = Dispatch(
            self.router,
            clouds,  # type: ignore[arg-type]
            lambda: self.loop.now,
            lambda: 0.5,
            silent,
        )
        self._version = 0

    def configure(self, *names: str, own: tuple[str, ...] = (), hedge: bool = False) -> None:
        """Serve by these upstreams of one place each; `-a` is drained."""
        drained = {name.strip("-"): name.startswith("-") for name in (*names, *own)}
        mine = [name.strip("-") for name in own]
        upstreams = {}
        for name, drain in drained.items():
            tenant = GRANT.tenant if name in mine else ""
            found = Upstream(
                own_id(tenant, name), "sim", "http://127.0.0.1/v1", concurrency_max=1,
                drain=drain, tenant=tenant,
            )  # fmt: skip
            upstreams[found.id] = found
        shared = [u for u in upstreams.values() if not u.tenant]
        models = {"m": _route(shared)} if shared else {}
        owned = [u for u in upstreams.values() if u.tenant]
        tenants = {GRANT.tenant: TenantConfiguration({"m": _route(owned)})} if owned else {}
        self._version += 1
        self.served.replace(
            Snapshot(
                str(self._version), upstreams, models, Routing(hedge=hedge, explore=0.0),
                tenants=tenants,
            )
        )  # fmt: skip
        self.dispatch.reconfigure()

    def plan(self) -> tuple[Call, Plan]:
        call = call_of(BODY)
        call.parsed = parse(Api.CHAT, BODY)
        call.caller = GRANT
        return call, self.router.plan(call, GRANT)

    async def ask(self, call: Call, plan: Plan) -> str:
        """Who answered, or the code of the error."""
        try:
            answer = await self.dispatch.open(call, GRANT, plan)
            return (await delivered(answer, call)).decode()
        except ApiError as error:
            return error.code

    def send(self) -> asyncio.Task[str]:
        return asyncio.ensure_future(self.ask(*self.plan()))

    def leaving(self) -> dict[str, int]:
        """Calls that run at upstreams that get no new ones, as the gateway tells it."""
        told = upstream_statuses(self.router, self.dispatch.health, {}, self.loop.now)
        return {one.id: one.running for one in told if one.leaves}

    def run(self, what: Coroutine[Any, Any, None]) -> None:
        run(what, self.loop)


def _route(upstreams: list[Upstream]) -> ModelRoute:
    offers = tuple(Offer(one.id, "m", price(at)) for at, one in enumerate(upstreams))
    return ModelRoute("m", "chat", offers)


@pytest.fixture(autouse=True)
def no_loop_is_left() -> Iterator[None]:
    yield
    asyncio.set_event_loop(None)


def test_a_call_that_was_planned_before_goes_where_the_configuration_says_now() -> None:
    for now in (("-a", "b"), ("b",)):
        house = House(Clouds(a=0.1, b=0.1))
        house.configure("a")
        call, plan = house.plan()
        house.configure(*now)

        async def one(house: House = house, call: Call = call, plan: Plan = plan) -> None:
            assert await house.ask(call, plan) == "b"

        house.run(one())


def test_running_calls_end_where_they_are_and_no_new_ones_come() -> None:
    clouds = Clouds(a=5.0, b=0.1)
    house = House(clouds)

    async def some() -> None:
        house.configure("a")
        running = house.send()
        await asyncio.sleep(0.1)
        house.configure("-a", "b")
        for _ in range(20):
            assert await house.send() == "b"
        house.dispatch.forget_gone()
        (drained,) = [one for one in house.router.known if one.name == "a"]
        assert drained.inflight == 1
        assert house.leaving() == {"a": 1}
        assert await running == "a" and drained.inflight == 0
        assert house.leaving() == {"a": 0}

    house.run(some())
    assert clouds.log.count("ask a") == 1


@pytest.mark.parametrize("hedge", [True, False])
def test_neither_rivals_nor_failover_go_to_a_drained_upstream(hedge: bool) -> None:
    clouds = Clouds(a=(4.0, "upstream_failed"), b=0.1, c=0.1)
    house = House(clouds)

    async def some() -> None:
        house.configure("a", "b", "c", hedge=hedge)
        running = house.send()
        await asyncio.sleep(0.01)
        house.configure("a", "-b", "c", hedge=hedge)
        assert await running == "c"

    house.run(some())
    assert "ask b" not in clouds.log


def test_a_stream_that_breaks_off_does_not_go_on_at_a_drained_upstream() -> None:
    breaks = asyncio.Event()

    class Breaking(Resuming):
        async def open(self, call: Call, candidate: Candidate, said: Any = None) -> Any:
            spoken = await super().open(call, candidate, said)
            return spoken if said is not None else Broken(breaks)

    clouds = Breaking(a=0.1, b=0.1, c=0.1)
    house = House(clouds)

    async def some() -> None:
        house.configure("a", "b", "c")
        running = house.send()
        await asyncio.sleep(0.2)
        house.configure("a", "-b", "c")
        breaks.set()
        assert await running == "c"

    house.run(some())
    assert clouds.log == ["ask a", "ask c"]


def test_waiting_calls_go_to_a_new_upstream_at_once() -> None:
    clouds = Clouds(a=50.0, b=0.1)
    house = House(clouds)

    async def some() -> None:
        house.configure("a")
        running = house.send()
        await asyncio.sleep(0.1)
        waiting = house.send()
        await asyncio.sleep(0.1)
        assert house.dispatch.wait_queue.waiting == 1
        house.configure("-a", "b")
        began = house.loop.now
        assert await waiting == "b" and house.loop.now - began < 0.2
        assert not running.done() and await running == "a"

    house.run(some())


def test_waiting_calls_hear_at_once_that_nobody_is_left() -> None:
    house = House(Clouds(a=1.0))

    async def some() -> None:
        house.configure("a")
        running = house.send()
        await asyncio.sleep(0.1)
        waiting = [house.send() for _ in range(3)]
        await asyncio.sleep(0.1)
        house.configure("-a")
        began = house.loop.now
        assert [await one for one in waiting] == ["no_upstream"] * 3
        assert house.loop.now == began
        # Who makes room does not answer for those that waited for it.
        assert await running == "a"
        assert house.dispatch.wait_queue.waiting == 0

    house.run(some())


def test_a_tenants_own_upstream_is_drained_like_any() -> None:
    clouds = Clouds(**{"a": 0.1, f"{GRANT.tenant}/mine": 0.1})
    house = House(clouds)

    async def some() -> None:
        house.configure("a", own=("mine",))
        assert await house.send() == f"{GRANT.tenant}/mine"
        call, plan = house.plan()
        house.configure("a", own=("-mine",))
        assert await house.ask(call, plan) == "a"
        assert await house.send() == "a"

    house.run(some())


def test_nothing_stays_of_upstreams_that_came_and_went() -> None:
    names = [f"u{n}" for n in range(50)]
    house = House(Clouds(**dict.fromkeys(names, (0.5, "upstream_failed")), last=0.1))

    async def some() -> None:
        for name in names:
            house.configure(name)
            running = house.send()
            await asyncio.sleep(0.1)
            waiting = house.send()
            await asyncio.sleep(0.1)
            house.configure("last")
            house.dispatch.forget_gone()
            assert [one.name for one in house.router.known if one.inflight] == [name]
            assert (await running, await waiting) == ("upstream_failed", "last")
            house.dispatch.forget_gone()

    house.run(some())
    router, queue = house.router, house.dispatch.wait_queue
    assert {one.name for one in router.known} == {"last"} == set(router.healths)
    assert {one.name for one in queue._queues_of} <= {"last"}
    assert set(house.dispatch.health.last_failures) <= {"last"}
