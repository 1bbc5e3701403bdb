"""Modeled upstreams: inference engines with continuous batching, behind a network and key limits.

Step and prefill times are linear fits to Splitwise's measurements (Llama2-70B, TP8): H100 step
29.7 + 0.32 b ms, prefill 27 + 0.055 ms a token; A100 44.7 + 0.42 b and 33 + 0.118. A step that
prefills takes the prefill's time too: Orca's iteration-level batching (OSDI 2022), without
chunked prefill.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import OrderedDict, deque
from typing import NamedTuple

from tokenschain.core.errors import ApiError

PREFIX_BLOCKS_MAX = 20_000


class Curve(NamedTuple):
    """How fast a kind of machine is; milliseconds."""

    step_ms: float
    step_ms_per_call: float
    prefill_ms: float
    prefill_ms_per_token: float
    calls_max: int = 64
    measured: tuple[tuple[int, float], ...] = ()
    """Step times by calls at once, where they are no straight line."""

    def step(self, calls: int) -> float:
        """How long a step with so many calls takes."""
        if not self.measured:
            return self.step_ms + self.step_ms_per_call * calls
        before = self.measured[0]
        for point in self.measured:
            if calls <= point[0]:
                part = (calls - before[0]) / max(1, point[0] - before[0])
                return before[1] + part * (point[1] - before[1])
            before = point
        return before[1] * calls / before[0]


H100 = Curve(29.7, 0.32, 27.0, 0.055)
A100 = Curve(44.7, 0.42, 33.0, 0.118)
NPU = Curve(58.1, 0.55, 43.0, 0.153)
"""A100 times 1.3: an assumption, no public curve was found."""


A100_TP2 = Curve(
    55.0, 0.0, 100.0, 0.18,
    measured=((1, 55.0), (4, 65.0), (8, 72.9), (16, 89.8), (32, 144.0), (64, 1_255.0)),
)  # fmt: skip
"""Llama2-70B on two A100, medians of Splitwise's rows with 512 tokens in and 128 out."""


class Machine(NamedTuple):
    """One upstream as it really is; the router has to learn it."""

    name: str
    curve: Curve
    input_yuan: float
    output_yuan: float
    """Per 1M tokens."""
    round_trip_s: float
    region: str = ""
    calls_per_minute_max: int = 0
    """The platform's own key there; 0: none."""
    cached_share: float = 0.1
    """What a cached prompt token costs, as a share of a fresh one."""


class Outage(NamedTuple):
    """What goes wrong at a machine, from when to when."""

    machine: str
    kind: str
    """`down`, `error`, `black hole`, `drip`, `429`, `cut` or `slow`."""
    start_s: float
    end_s: float


class _Job:
    __slots__ = ("first", "last", "output", "prompt")

    def __init__(self, prompt: int, output: int) -> None:
        loop = asyncio.get_running_loop()
        self.prompt = prompt
        self.output = output
        self.first: asyncio.Future[None] = loop.create_future()
        self.last: asyncio.Future[None] = loop.create_future()


class Engine:
    """One machine at work."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.faults: list[Outage] = []
        self._waiting: deque[_Job] = deque()
        self._running: list[tuple[int, int, _Job]] = []
        self._iteration = 0
        self._count = 0
        self._busy = False
        self._step_ends_at = 0.0
        self._prefilled: list[_Job] = []
        self.coming: dict[object, tuple[int, int]] = {}
        """Fresh prompt tokens and output tokens of calls that are on the way here."""
        self._prefixes: OrderedDict[int, None] = OrderedDict()
        self._minute: deque[float] = deque()
        self.served = 0
        self.busy_s = 0.0
        self.tokens = 0

    @property
    def calls(self) -> int:
        """In its batch and in front of it."""
        return len(self._running) + len(self._prefilled) + len(self._waiting)

    def fault(self, now: float) -> str:
        """What is wrong now; empty when nothing is."""
        for fault in self.faults:
            if fault.start_s <= now < fault.end_s:
                return fault.kind
        return ""

    def check_rate(self, now: float) -> None:
        """The vendor's limit on calls a minute.

        Raises:
            ApiError: `upstream_rate_limited`, with how long to wait.
        """
        most = self.machine.calls_per_minute_max
        if not most:
            return
        minute = self._minute
        while minute and minute[0] < now - 60:
            minute.popleft()
        if len(minute) >= most:
            raise ApiError(
                "upstream_rate_limited", "Too many.", retry_after_s=60 - (now - minute[0])
            )
        minute.append(now)

    def cached(self, blocks: tuple[int, ...], block_tokens: int, prompt: int) -> int:
        """Tokens of the prompt that are in its prefix cache; the rest is from now on."""
        hit = self.known(blocks, block_tokens, prompt)
        for block in blocks:
            self._prefixes[block] = None
            self._prefixes.move_to_end(block)
        while len(self._prefixes) > PREFIX_BLOCKS_MAX:
            self._prefixes.popitem(last=False)
        return hit

    def known(self, blocks: tuple[int, ...], block_tokens: int, prompt: int) -> int:
        """Tokens of the prompt that are in its prefix cache now."""
        hits = 0
        for block in blocks:
            if block not in self._prefixes:
                break
            hits += 1
        return min(hits * block_tokens, max(0, prompt - 1))

    def first_token_s(self, prompt: int, output: int, now: float) -> float:
        """How long a call's first token would take from here: what only the engine itself can
        know, since it sees the calls of all gateways."""
        curve = self.machine.curve
        took_ms = 1e3 * max(0.0, self._step_ends_at - now) if self._busy else 0.0
        iteration = self._iteration + self._busy
        ends = [end for end, _, _ in self._running]
        ends += [iteration + max(1, job.output - 1) for job in self._prefilled]
        heapq.heapify(ends)
        ahead = [(job.prompt, job.output) for job in self._waiting]
        for fresh, answer in (*ahead, *self.coming.values(), (prompt, output)):
            while ends and (ends[0] <= iteration or len(ends) >= curve.calls_max):
                end = heapq.heappop(ends)
                took_ms += max(0, end - iteration) * curve.step(len(ends) + 1)
                iteration = max(iteration, end)
            took_ms += curve.prefill_ms + curve.prefill_ms_per_token * fresh
            took_ms += curve.step(len(ends)) if ends else 0.0
            iteration += 1
            heapq.heappush(ends, iteration + max(1, answer - 1))
        slow = 10 if self.fault(now) == "slow" else 1
        return slow * took_ms / 1e3 + self.machine.round_trip_s

    def submit(self, prompt: int, output: int) -> _Job:
        """Queue a call in the engine; its futures tell of the first and the last token."""
        job = _Job(prompt, output)
        self._waiting.append(job)
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._step)
        return job

    def cancel(self, job: _Job) -> None:
        """The gateway closed the connection."""
        if job in self._waiting:
            self._waiting.remove(job)
        else:
            self._running = [entry for entry in self._running if entry[2] is not job]
            heapq.heapify(self._running)

    def _step(self) -> None:
        curve = self.machine.curve
        loop = asyncio.get_running_loop()
        now = loop.time()
        prefilled: list[_Job] = []
        took_ms = 0.0
        if self._waiting and len(self._running) < curve.calls_max:
            job = self._waiting.popleft()
            took_ms += curve.prefill_ms + curve.prefill_ms_per_token * job.prompt
            prefilled.append(job)
        batch = len(self._running)
        if batch:
            took_ms += curve.step(batch)
        if not took_ms:
            self._busy = False
            return
        if self.fault(now) == "slow":
            took_ms *= 10
        self.busy_s += took_ms / 1e3
        self.tokens += batch
        self._step_ends_at, self._prefilled = now + took_ms / 1e3, prefilled
        loop.call_later(took_ms / 1e3, self._stepped, prefilled)

    def _stepped(self, prefilled: list[_Job]) -> None:
        self._iteration += 1
        self._prefilled = []
        while self._running and self._running[0][0] <= self._iteration:
            _, _, job = heapq.heappop(self._running)
            self.served += 1
            if not job.last.done():
                job.last.set_result(None)
        for job in prefilled:
            if job.first.cancelled():
                continue
            if not job.first.done():
                job.first.set_result(None)
            self._count += 1
            ends = self._iteration + max(1, job.output - 1)
            heapq.heappush(self._running, (ends, self._count, job))
        self._step()


def calls_per_s(machine: Machine, prompt: float, output: float) -> float:
    """How many calls of a mean size a machine can do when full."""
    curve = machine.curve
    batch = curve.calls_max
    step_s = (curve.step_ms + curve.step_ms_per_call * batch) / 1e3
    prefill_s = (curve.prefill_ms + curve.prefill_ms_per_token * prompt) / 1e3
    return 1 / (prefill_s + output * step_s / batch)
