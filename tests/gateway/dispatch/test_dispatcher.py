"""Rivals: who is asked beside a silent upstream, and what becomes of the others."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.fakes import GRANT, FakeHouse, call_of
from tokenschain.core.call import Attempt, Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.log_events import silent
from tokenschain.core.ports import delivered
from tokenschain.core.routing.health import AttemptOutcome
from tokenschain.core.snapshot import Candidate, Routing
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.router import Router
from tokenschain.simulation.clock import VirtualLoop, run

BODY = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'


class Spoken:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def deliver(self, call: Call) -> bytes:
        call.attempts[-1].outcome = "ok"
        return self.name.encode()

    def abort(self) -> None:
        self.log.append(f"abort {self.name}")

    def partial_output(self) -> None:
        return None


class Clouds:
    """Each speaks after its time, or fails then."""

    def __init__(self, **waits: float | tuple[float, str]) -> None:
        self.waits = waits
        self.log: list[str] = []

    def can_resume(self, candidate: Candidate) -> bool:
        return False

    async def open(self, call: Call, candidate: Candidate, said: Any = None) -> Any:
        name = candidate.upstream.id
        self.log.append(f"ask {name}")
        call.attempts.append(Attempt(candidate, 0.0))
        wait = self.waits[name]
        try:
            await asyncio.sleep(wait if isinstance(wait, float) else wait[0])
        except asyncio.CancelledError:
            self.log.append(f"cancel {name}")
            raise
        if not isinstance(wait, float):
            raise ApiError(wait[1], name)
        return Spoken(name, self.log)


def place(
    clouds: Clouds,
    leave_after_s: float | None = None,
    hedge: bool = False,
    prepare: Callable[[Router], None] = lambda _: None,
) -> tuple[Any, Any, Call, float]:
    """Who answered (or the error), the router, the call and when it was over."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    served = FakeHouse(**{name: ["x"] for name in clouds.waits}).served()
    if hedge:
        rules = Routing(hedge=True)
        served.replace(msgspec.structs.replace(served.get(), version="2", routing=rules))
    router = Router(served, lambda: loop.now, lambda: loop.now, random.Random(1).random)
    prepare(router)
    dispatch = Dispatch(router, clouds, lambda: loop.now, lambda: 0.5, silent)  # type: ignore[arg-type]
    call = call_of(BODY)
    call.parsed = parse(Api.CHAT, BODY)
    call.caller = GRANT

    async def one() -> Any:
        plan = router.plan(call, GRANT)
        task = asyncio.ensure_future(dispatch.open(call, GRANT, plan))
        if leave_after_s is not None:
            await asyncio.sleep(leave_after_s)
            task.cancel()
        try:
            answer = await task
            over = loop.now
            return (await delivered(answer, call)).decode(), over
        except (ApiError, asyncio.CancelledError) as error:
            return error, loop.now

    try:
        result, over = run(one(), loop)
    finally:
        asyncio.set_event_loop(None)
    for endpoint in router.endpoints(router._served.directory("").known("m", "chat")):  # type: ignore[arg-type]
        assert (endpoint.inflight, endpoint.prefill_tokens, endpoint.reserved) == (0, 0, 0)
    return result, router, call, over


def test_who_is_quick_is_asked_alone() -> None:
    clouds = Clouds(a=0.2, b=0.1)
    assert place(clouds)[0] == "a" and clouds.log == ["ask a"]


def test_a_silent_upstream_gets_a_rival_and_the_first_to_speak_is_taken() -> None:
    clouds = Clouds(a=60.0, b=0.2)
    answer, _, call, over = place(clouds)
    assert answer == "b" and over == pytest.approx(1.7)
    assert clouds.log == ["ask a", "ask b", "cancel a"]
    outcomes = [(a.candidate.upstream.id, a.outcome) for a in call.attempts]
    assert outcomes == [("a", "upstream_timeout"), ("b", "ok")]


def test_a_slow_upstream_that_speaks_before_its_rival_is_not_lost() -> None:
    clouds = Clouds(a=2.0, b=5.0)
    answer, _, call, over = place(clouds)
    assert answer == "a" and over == pytest.approx(2.0)
    assert clouds.log == ["ask a", "ask b", "cancel b"]
    assert [a.outcome for a in call.attempts] == ["lost_race", "ok"]


def test_when_the_first_fails_its_rival_goes_on() -> None:
    clouds = Clouds(a=(1.6, "upstream_failed"), b=1.0)
    answer, _, _, over = place(clouds)
    assert answer == "b" and over == pytest.approx(2.5)


def test_a_failed_rival_is_followed_by_another_up_to_three() -> None:
    clouds = Clouds(a=60.0, b=(0.1, "upstream_failed"), c=0.1, d=0.1)
    answer, _, _, over = place(clouds)
    assert answer == "c" and over == pytest.approx(1.7)
    assert "ask d" not in clouds.log


def test_failures_follow_one_another_up_to_three_and_the_last_is_told() -> None:
    clouds = Clouds(**{name: (0.1, "upstream_failed") for name in "abcd"})
    answer, _, _, _ = place(clouds)
    assert isinstance(answer, ApiError) and answer.message == "c"
    assert clouds.log == ["ask a", "ask b", "ask c"]


def test_a_callers_own_mistake_is_not_tried_elsewhere() -> None:
    clouds = Clouds(a=(0.1, "context_length_exceeded"), b=0.1)
    answer, _, _, _ = place(clouds)
    assert isinstance(answer, ApiError) and clouds.log == ["ask a"]


def test_a_caller_who_leaves_takes_all_with_him() -> None:
    clouds = Clouds(a=60.0, b=60.0)
    answer, _, _, _ = place(clouds, leave_after_s=2.0)
    assert isinstance(answer, asyncio.CancelledError)
    assert sorted(clouds.log) == ["ask a", "ask b", "cancel a", "cancel b"]


def test_a_caller_who_leaves_as_a_rival_speaks_leaves_nothing_behind() -> None:
    clouds = Clouds(a=60.0, b=0.5)
    answer, _, _, _ = place(clouds, leave_after_s=2.0)
    assert isinstance(answer, asyncio.CancelledError | str)
    if not isinstance(answer, str):
        assert "abort b" in clouds.log or "cancel b" in clouds.log


def test_a_hedge_is_asked_early_and_nobody_is_blamed() -> None:
    clouds = Clouds(a=1.0, b=0.1)
    answer, router, call, over = place(clouds, hedge=True)
    assert answer == "b" and over < 0.3
    assert [a.outcome for a in call.attempts] == ["lost_race", "ok"]
    assert all(h.success_share(9.0) == 1.0 for h in router._healths.values())


def test_a_hedge_does_not_stop_a_hung_upstream_from_being_noticed() -> None:
    clouds = Clouds(a=60.0, b=60.0, c=0.1)
    answer, _, _, over = place(clouds, hedge=True)
    assert answer == "c" and over == pytest.approx(1.6)
    assert clouds.log[:3] == ["ask a", "ask b", "ask c"]


def test_a_trial_that_is_left_does_not_keep_an_upstream_out_for_ever() -> None:
    def give_up(router: Router) -> None:
        router.endpoints(router._served.directory("").known("m", "chat"))  # type: ignore[arg-type]
        for _ in range(3):
            router._healths["a"].failed(AttemptOutcome.HARD, 0.0, None, 0.5)

    clouds = Clouds(a=60.0)
    answer, router, _, _ = place(clouds, leave_after_s=2.0, prepare=give_up)
    assert isinstance(answer, asyncio.CancelledError) and clouds.log == ["ask a", "cancel a"]
    assert router._healths["a"].is_open and router._healths["a"].allows(2.0)


def test_a_new_snapshot_while_rivals_race_bills_the_one_who_won() -> None:
    renewed: list[Router] = []

    class Renewing(Clouds):
        async def open(self, call: Call, candidate: Candidate, said: Any = None) -> Any:
            try:
                return await super().open(call, candidate, said)
            finally:
                for router in renewed:
                    snapshot = router._served.get()
                    copied = msgspec.json.decode(msgspec.json.encode(snapshot), type=type(snapshot))
                    router._served.replace(msgspec.structs.replace(copied, version="3"))
                    router.plan(call, GRANT)
                    router.endpoints(router._served.directory("").known("m", "chat"))  # type: ignore[arg-type]

    clouds = Renewing(a=2.0, b=5.0)
    answer, _, call, _ = place(clouds, prepare=renewed.append)
    assert answer == "a"
    assert call.attempts[-1].candidate.upstream.id == "a"
    assert [a.outcome for a in call.attempts] == ["lost_race", "ok"]


class Timed(Clouds):
    """Notes when each was asked."""

    def __init__(self, loop: VirtualLoop, **waits: float) -> None:
        super().__init__(**waits)
        self.loop = loop
        self.asked: list[tuple[str, float]] = []

    async def open(self, call: Call, candidate: Candidate, said: Any = None) -> Any:
        kind = call.request.headers[b"x-tc-priority"].decode()
        self.asked.append((kind, round(self.loop.now, 1)))
        return await super().open(call, candidate)


def asked_when(
    speaks_s: float, *calls: tuple[float, str], body: bytes = BODY
) -> list[tuple[str, float]]:
    """Of calls with a time and a priority: when one upstream that begins after 0.4 s was asked."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    clouds = Timed(loop, a=0.4)
    served = FakeHouse(a=["x"]).served()
    router = Router(served, lambda: loop.now, lambda: loop.now, random.Random(1).random)
    dispatch = Dispatch(router, clouds, lambda: loop.now, lambda: 0.5, silent)  # type: ignore[arg-type]
    (endpoint,) = router.endpoints(router.plan(_call("bulk"), GRANT))
    endpoint.concurrency_limit.calls = 20.0

    async def one(at_s: float, priority: str) -> None:
        await asyncio.sleep(at_s)
        call = _call(priority, body)
        answer = await dispatch.open(call, GRANT, router.plan(call, GRANT))
        await asyncio.sleep(speaks_s)
        await delivered(answer, call)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(*call) for call in calls))

    try:
        run(all_of_them(), loop)
    finally:
        asyncio.set_event_loop(None)
    assert (endpoint.inflight, endpoint.bulk, endpoint.prefill_tokens) == (0, 0, 0)
    return clouds.asked


def _call(priority: str, body: bytes = BODY) -> Call:
    call = call_of(body)
    call.request.headers[b"x-tc-priority"] = priority.encode()
    call.parsed = parse(Api.CHAT, body)
    call.caller = GRANT
    return call


def test_bulk_takes_one_place_after_another_while_interactive_calls_come() -> None:
    asked = asked_when(0.0, (0.0, "interactive"), *[(0.5, "bulk")] * 3)
    assert [kind for kind, _ in asked] == ["interactive", "bulk", "bulk", "bulk"]
    times = [at for _, at in asked[1:]]
    assert times == [0.5, 0.9, 1.3], "a prompt of bulk waits for the one before it"


def test_bulk_takes_a_tenth_of_the_places_while_interactive_calls_come() -> None:
    asked = asked_when(20.0, (0.0, "interactive"), *[(0.5, "bulk")] * 4)
    assert [at for kind, at in asked if kind == "bulk"][:2] == [0.5, 0.9]
    assert min(at for kind, at in asked if kind == "bulk" and at > 0.9) >= 5.0, "then it is quiet"


def test_whole_bulk_answers_give_their_places_back() -> None:
    whole = BODY.replace(b"true", b"false")
    calls = [(0.0, "interactive"), *[(0.5 + n, "bulk") for n in range(4)]]
    asked = asked_when(0.0, *calls, body=whole)
    assert asked[1:] == [("bulk", 0.5 + n) for n in range(4)], "one after another, none waits"


def test_bulk_goes_at_once_when_it_is_quiet() -> None:
    assert asked_when(1.0, *[(0.0, "bulk")] * 3) == [("bulk", 0.0)] * 3
    asked = asked_when(1.0, (0.0, "interactive"), *[(6.0, "bulk")] * 3)
    assert asked == [("interactive", 0.0), *[("bulk", 6.0)] * 3]
