"""Simulated world: replicas of the gateway over modeled upstreams, in virtual time."""

from __future__ import annotations

import asyncio
import random
import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from tokenschain.core.call import Attempt, Call, CallRequest
from tokenschain.core.call_record import CallRecord
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.formats.formats import API_FORMATS
from tokenschain.core.formats.openai_chat import UNREAD
from tokenschain.core.log_events import silent
from tokenschain.core.ports import Answer, NoCache, NoModeration, NoQuota
from tokenschain.core.pricing.catalog import (
    MICRO_PER_UNIT,
    Price,
    PriceTier,
    Usage,
)
from tokenschain.core.routing.selection import Endpoint
from tokenschain.core.routing.shared_load import Row, SharedLoad
from tokenschain.core.snapshot import (
    Candidate,
    ModelRoute,
    Offer,
    Routing,
    Served,
    Snapshot,
    Upstream,
)
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.health_sharing import TELL_S
from tokenschain.gateway.dispatch.router import Router
from tokenschain.gateway.pipeline import Steps, serve
from tokenschain.simulation.answer_cache import SimulatedAnswers, SimulatedCache
from tokenschain.simulation.clock import VirtualLoop, run
from tokenschain.simulation.engines import (
    A100,
    H100,
    NPU,
    Engine,
    Machine,
    Outage,
    calls_per_s,
)
from tokenschain.simulation.fleet import Fleet, Scaler
from tokenschain.simulation.policies import ALL_SEEING, BASELINES, AllSeeing, Baseline
from tokenschain.simulation.traces import Arrival

MODEL = "model"
NO_RECORD = CallRecord("", 0, "")
REPLICAS = 2
CLOUDS = (
    Machine("alibaba", H100, 4.0, 12.0, 0.010, "cn-hangzhou"),
    Machine("volcano", A100, 2.6, 8.0, 0.030, "cn-beijing"),
    Machine("tencent", A100, 3.0, 9.0, 0.025, "cn-guangzhou"),
    Machine("huawei", NPU, 2.0, 6.0, 0.035, "cn-guiyang"),
    Machine("baidu", H100, 5.0, 15.0, 0.030, "cn-beijing"),
)
"""Five clouds that sell one model; speeds are measured ones, prices stand for list prices."""
SLO_S = 2.0
_BYTES_PER_TOKEN = 4
_REFUSED_S = 0.002
NEWS_S = 0.002
"""From one gateway to another, by way of Redis."""


class SimulatedCall(NamedTuple):
    """One call as its caller saw it."""

    arrival: Arrival
    first_token_s: float | None
    total_s: float
    outcome: str
    """`ok`, `partial` or an error's code."""
    cost_yuan: float
    """Of tokens; own engines are paid by the hour."""
    upstream: str
    attempts: int


class Setup(NamedTuple):
    """What is simulated."""

    trace: list[Arrival]
    policy: str
    seed: int
    machines: Sequence[Machine] = CLOUDS
    faults: Sequence[Outage] = ()
    replicas: int = REPLICAS
    slo_s: float = SLO_S
    shares_load: bool = True
    """Whether gateways tell each other their load, as they do where there is a Redis."""
    recall: float | None = None
    """Of the response cache, for other wordings of a question; None: no cache."""
    asked_before: Sequence[Arrival] = ()
    """What the cache knows from the beginning."""
    fleet: Fleet | None = None
    """Own engines beside the machines."""


def capacity(machines: Sequence[Machine], trace: Sequence[Arrival]) -> float:
    """Calls a second that all machines can do together, of the trace's mean size."""
    prompt = statistics.fmean(a.prompt_tokens for a in trace)
    output = statistics.fmean(a.output_tokens for a in trace)
    return sum(calls_per_s(machine, prompt, output) for machine in machines)


def cheapest_feasible(setup: Setup) -> float:
    """Yuan for all calls if the cheapest machines took all they can: what a router that knew
    everything beforehand would pay. Fills each to 80 % of its capacity in the order of cost."""
    prompt = statistics.fmean(a.prompt_tokens for a in setup.trace)
    output = statistics.fmean(a.output_tokens for a in setup.trace)
    rate = len(setup.trace) / max(setup.trace[-1].at_s, 1e-9)
    priced = sorted(
        ((m.input_yuan * prompt + m.output_yuan * output) / 1e6, m) for m in setup.machines
    )
    left, spent = rate, 0.0
    for cost, machine in priced:
        part = min(left, 0.8 * calls_per_s(machine, prompt, output))
        spent += part * cost
        left -= part
    spent += left * priced[-1][0]
    return spent / rate * len(setup.trace)


def simulate(setup: Setup, each: Callable[[int], None] = lambda _: None) -> list[SimulatedCall]:
    """Run one setup; the same setup gives the same result.

    Args:
        each: told how many calls are over, for a progress bar.
    """
    return simulate_world(setup, each).seen


def simulate_world(setup: Setup, each: Callable[[int], None] = lambda _: None) -> World:
    """Run one setup and give all that became of it."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    try:
        world = World(setup, loop, each)
        run(world.run(), loop)
        return world
    finally:
        asyncio.set_event_loop(None)


class World:
    """Replicas of the gateway, and what they call.

    Attributes:
        seen: the calls that are over.
        scaler: of the own engines, if there are any.
    """

    def __init__(self, setup: Setup, loop: VirtualLoop, each: Callable[[int], None]) -> None:
        self._setup = setup
        self._loop = loop
        self._each = each
        self._random = random.Random(setup.seed)  # noqa: S311  # nosec B311  # to be repeated
        self.engines = {machine.name: Engine(machine) for machine in setup.machines}
        for fault in setup.faults:
            self.engines[fault.machine].faults.append(fault)
        self.seen: list[SimulatedCall] = []
        self._loads: list[SharedLoad] = []
        self._served: list[Served] = []
        self._revision = 0
        self.answers = None if setup.recall is None else SimulatedAnswers(setup.recall, setup.seed)
        if self.answers is not None:
            for arrival in setup.asked_before:
                self.answers.add(arrival)
        self._machines = list(setup.machines)
        self.scaler: Scaler | None = None
        if setup.fleet is not None:
            own = [setup.fleet.machine(number) for number in range(setup.fleet.nodes_max)]
            self.engines |= {machine.name: Engine(machine) for machine in own}
            self.scaler = Scaler(setup.fleet, [self.engines[m.name] for m in own], self._configure)
            self._machines += own[: setup.fleet.nodes]
        self._gateways = [self._gateway() for _ in range(setup.replicas)]

    async def run(self) -> None:
        """Let all calls of the trace come, and end."""
        beside = [asyncio.ensure_future(self._tell_loads())] if self._setup.shares_load else []
        if self.scaler is not None:
            beside.append(asyncio.ensure_future(self.scaler.run()))
        async with asyncio.TaskGroup() as tasks:
            for number, arrival in enumerate(self._setup.trace):
                wait_s = arrival.at_s - self._loop.now
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                steps = self._gateways[number % len(self._gateways)]
                tasks.create_task(self._call(number, arrival, steps))
        for task in beside:
            task.cancel()

    def _configure(self, nodes: int) -> None:
        """The fleet has so many nodes: a new revision of the configuration for all gateways."""
        fleet = self._setup.fleet
        assert fleet is not None
        self._machines = [*self._setup.machines, *(fleet.machine(n) for n in range(nodes))]
        for served in self._served:
            served.replace(self._snapshot())

    async def _tell_loads(self) -> None:
        """As `gateway.dispatch.health_sharing` does, by way of Redis."""
        while len(self._loads) > 1:
            for number, load in enumerate(self._loads):
                rows = load.changes(self._loop.now)
                if rows:
                    self._loop.call_later(NEWS_S, self._hear_load, number, rows)
            await asyncio.sleep(TELL_S)

    def _hear_load(self, teller: int, rows: list[Row]) -> None:
        for number, load in enumerate(self._loads):
            if number != teller:
                load.heard(str(teller), rows, self._loop.now)

    def _gateway(self) -> Steps:
        setup = self._setup
        self._served.append(Served(self._snapshot()))
        given = (self._served[-1], self._clock, self._clock, self._random.random)
        pick = BASELINES.get(setup.policy)
        router = Router(*given) if pick is None else Baseline(pick, *given)
        if setup.policy == ALL_SEEING:
            router = AllSeeing(self._first_token_s, *given)
        self._loads.append(SharedLoad(lambda: router.endpoints_by_key))
        upstreams = _Upstreams(self)
        dispatch = Dispatch(router, upstreams, self._clock, self._random.random, silent)
        upstreams.baseline = router if isinstance(router, Baseline) else None
        null = _Null()
        cache = NoCache() if self.answers is None else SimulatedCache(self.answers)
        return Steps(null, null, null, router, NoQuota(), NoModeration(), cache, dispatch)

    def _clock(self) -> float:
        return self._loop.now

    def _first_token_s(self, call: Call, endpoint: Endpoint) -> float:
        """What is in an engine, for who may see it."""
        writer = call.writer
        assert isinstance(writer, _Writer)
        arrival, engine = writer.arrival, self.engines[endpoint.name]
        cached = engine.known(arrival.blocks, arrival.block_tokens, arrival.prompt_tokens)
        return engine.first_token_s(
            arrival.prompt_tokens - cached, arrival.output_tokens, self._loop.now
        )

    def _snapshot(self) -> Snapshot:
        upstreams, offers = {}, []
        for machine in self._machines:
            upstreams[machine.name] = Upstream(
                machine.name,
                "simulated",
                "http://simulated/v1",
                region=machine.region,
                concurrency_max=max(1, machine.curve.calls_max // self._setup.replicas),
            )
            fresh = int(machine.input_yuan * MICRO_PER_UNIT)
            tier = PriceTier(
                fresh,
                int(machine.output_yuan * MICRO_PER_UNIT),
                int(fresh * machine.cached_share),
            )
            offers.append(Offer(machine.name, MODEL, Price("CNY", (tier,), "simulated")))
        of_ours = self._setup.policy not in (*BASELINES, ALL_SEEING)
        policy = self._setup.policy if of_ours else "balanced"
        rules = Routing(policy=policy, first_token_slo_s=self._setup.slo_s, region="cn-shanghai")
        models = {MODEL: ModelRoute(MODEL, "chat", tuple(offers))}
        self._revision += 1
        return Snapshot(str(self._revision), upstreams, models, rules)

    async def _call(self, number: int, arrival: Arrival, steps: Steps) -> None:
        writer = _Writer(self._loop)
        headers = {b"x-tc-priority": arrival.priority.encode()}
        request = CallRequest(
            str(number), API_FORMATS[0], _body(number, arrival), arrival.tenant.encode(), headers,
            self._loop.now, 0,
        )  # fmt: skip
        call = Call(request, writer, writer, UNREAD)
        writer.arrival = arrival
        began = self._loop.now
        await serve(call, steps)
        error = call.error
        outcome = "ok" if error is None else "partial" if call.partial else error.code
        first = None if writer.began_at is None else writer.began_at - began
        if self.answers is not None and call.attempts and outcome == "ok":
            self.answers.add(arrival)
        if self.answers is not None and writer.leads:
            self.answers.close(arrival)
        cost = sum(_cost(self.engines[a.candidate.upstream.id].machine, a) for a in call.attempts)
        served = call.attempts[-1].candidate.upstream.id if call.attempts else ""
        self.seen.append(
            SimulatedCall(
                arrival, first, self._loop.now - began, outcome, cost, served, len(call.attempts)
            )
        )
        self._each(len(self.seen))


def _cost(machine: Machine, attempt: Attempt) -> float:
    usage = attempt.usage or Usage()
    fresh = usage.prompt_tokens - usage.cached_tokens * (1 - machine.cached_share)
    return (fresh * machine.input_yuan + usage.completion_tokens * machine.output_yuan) / 1e6


def _body(number: int, arrival: Arrival) -> bytes:
    """A request whose text is as long as the trace says, and alike where its blocks are."""
    size = arrival.prompt_tokens * _BYTES_PER_TOKEN
    width = arrival.block_tokens * _BYTES_PER_TOKEN
    text = "".join(f"{block:x} ".ljust(width, "x") for block in arrival.blocks)
    text = (text + f"{number} ").ljust(size, "x")[: max(size, 1)]
    message = {"role": "user", "content": text}
    return msgspec.json.encode({"model": MODEL, "stream": True, "messages": [message]})


class _Null:
    """Pipeline steps without effect here."""

    def admit(self, call: Call) -> None: ...

    def settle(self, call: Call, unsent: int = 0) -> CallRecord:
        return NO_RECORD

    def authenticate(self, call: Call) -> KeyGrant:
        tenant = call.request.key_digest.decode()
        call.caller = KeyGrant(tenant, tenant, tenant, "simulated")
        return call.caller

    async def load(self, call: Call, caller: KeyGrant) -> bytes:
        return call.request.body


class _Writer:
    """A response writer that notes when the answer began."""

    arrival: Arrival

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.began_at: float | None = None
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.bytes_out = 0
        self.takes_raw = True
        self.ends_long = False
        self.leads = False

    def begin_stream(self, call: Call) -> None:
        if self.began_at is None:
            self.began_at = self._loop.now

    def add_headers(self, lines: bytes) -> None: ...

    def write(self, data: bytes) -> None: ...

    def event(self, data: bytes) -> None: ...

    def native(self, data: bytes, chunks: list[bytes]) -> None: ...

    def complete(self, call: Call, last: bytes) -> bytes:
        return last

    def keeps_long(self, call: Call, last: bytes) -> bool:
        return False

    def keep(self, call: Call, last: bytes) -> bytes:
        return last

    def close(self, call: Call, last: bytes) -> None: ...


class _Upstreams:
    """The port to the clouds, modeled."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.baseline: Baseline | None = None

    def can_resume(self, candidate: Candidate) -> bool:
        return True

    async def open(
        self, call: Call, candidate: Candidate, said: PartialOutput | None = None
    ) -> Answer:
        writer = call.writer
        assert isinstance(writer, _Writer)
        arrival = writer.arrival
        engine = self._world.engines[candidate.upstream.id]
        loop = asyncio.get_running_loop()
        attempt = Attempt(candidate, loop.time())
        call.attempts.append(attempt)
        done = said.tokens if said is not None else 0
        prompt = arrival.prompt_tokens + done
        fresh = prompt - engine.known(arrival.blocks, arrival.block_tokens, prompt)
        engine.coming[attempt] = fresh, arrival.output_tokens - done
        try:
            try:
                await self._arrive(engine, candidate)
            finally:
                del engine.coming[attempt]
            cached = engine.cached(arrival.blocks, arrival.block_tokens, prompt)
            job = engine.submit(prompt - cached, arrival.output_tokens - done)
            try:
                await job.first
                await asyncio.sleep(engine.machine.round_trip_s / 2)
            except asyncio.CancelledError:
                engine.cancel(job)
                raise
        except ApiError as error:
            attempt.outcome = error.code
            raise
        attempt.first_token_at = loop.time()
        if self._world.answers is not None:
            self._world.answers.begin(arrival)
        if self.baseline is not None:
            endpoint = self.baseline.endpoint_of(candidate)
            self.baseline.observe(endpoint, attempt.first_token_at - attempt.started_at)
        return _Answer(engine, job, attempt, arrival, cached, done)

    async def _arrive(self, engine: Engine, candidate: Candidate) -> None:
        name = candidate.upstream.id
        loop = asyncio.get_running_loop()
        fault = engine.fault(loop.time())
        if fault == "black hole":
            await asyncio.sleep(candidate.upstream.limits.first_byte_max_s)
            raise ApiError("upstream_timeout", name)
        await asyncio.sleep(engine.machine.round_trip_s / 2)
        if fault == "down":
            raise ApiError("upstream_unreachable", name)
        if fault == "error":
            raise ApiError("upstream_failed", name)
        if fault == "429":
            raise ApiError("upstream_rate_limited", name, retry_after_s=5.0)
        engine.check_rate(loop.time())


class _Answer:
    def __init__(
        self, engine: Engine, job: object, attempt: Attempt, arrival: Arrival, cached: int,
        done: int,
    ) -> None:  # fmt: skip
        self._engine = engine
        self._job = job
        self._attempt = attempt
        self._arrival = arrival
        self._cached = cached
        self._done = done
        self._said: PartialOutput | None = None

    async def deliver(self, call: Call) -> bytes:
        loop = asyncio.get_running_loop()
        call.partial = True
        call.writer.begin_stream(call)
        attempt, arrival, engine = self._attempt, self._arrival, self._engine
        began = loop.time()
        tokens = arrival.output_tokens - self._done
        try:
            job = self._job
            while not job.last.done():  # type: ignore[attr-defined]
                if engine.fault(loop.time()) in ("cut", "down"):
                    share = min(1.0, (loop.time() - began) / 30)
                    tokens = max(1, int(tokens * share))
                    said = self._done + tokens
                    self._said = PartialOutput("x", "", 0, MODEL, said)
                    engine.cancel(job)  # type: ignore[arg-type]
                    raise ApiError("upstream_interrupted", engine.machine.name)
                await asyncio.wait([job.last], timeout=0.25)  # type: ignore[attr-defined]
            attempt.outcome = "ok"
            call.partial = False
            return b""
        except ApiError as error:
            attempt.outcome = error.code
            raise
        finally:
            attempt.ended_at = loop.time()
            attempt.usage = Usage(
                arrival.prompt_tokens, tokens, min(self._cached, arrival.prompt_tokens),
                source="provider",
            )  # fmt: skip

    def abort(self) -> None:
        self._engine.cancel(self._job)  # type: ignore[arg-type]

    def partial_output(self) -> PartialOutput | None:
        return self._said
