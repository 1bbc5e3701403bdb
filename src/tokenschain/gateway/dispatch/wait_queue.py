"""Priority queue of calls that find no upstream with room; its order: `core.routing.admission`."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import NamedTuple

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.log_events import Reporter
from tokenschain.core.routing.admission import (
    RULES,
    AdmissionQueue,
    Priority,
    Waiting,
)
from tokenschain.core.routing.selection import Decision, Endpoint, Need, fresh_tokens
from tokenschain.core.snapshot import Plan
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.router import ALL_TRIED, Router

WAIT_SLO_SHARE = 0.5
"""Share of the promised time that a call may spend in the queue, where it has one to keep."""
PASSED_MAX = 4
"""Interactive calls that others may go before because there is no room where they could be in
time; a place that suits none of them is not kept idle."""
BULK_LOOKS_S = 0.25
"""How often it is looked whether it is quiet enough for waiting bulk."""
DEADLINE_MAX_S = 300.0


class QueuedCall(NamedTuple):
    """A call that waits for room."""

    call: Call
    caller: KeyGrant
    plan: Plan
    need: Need
    tried: set[Endpoint]
    woken: asyncio.Future[Decision]
    promised_at: float
    """Since when the promised time runs; infinite where being late is better than being refused."""


class WaitQueue:
    """One queue for each model; a call that leaves an upstream wakes the next in order."""

    def __init__(self, router: Router, clock: Callable[[], float], report: Reporter) -> None:
        """
        Args:
            report: told `queue_full`.
        """
        self._report = report
        self.observe: Callable[[str, float], None] = lambda priority, wait_s: None
        """Told how long a call waited, whether or not it got a place."""
        self._router = router
        self._clock = clock
        self._queues: dict[str, AdmissionQueue[QueuedCall]] = {}
        self._queues_of: dict[Endpoint, set[str]] = {}
        self._looking: set[str] = set()
        """Models for whose bulk it is looked."""

    @property
    def waiting(self) -> int:
        """Calls that wait for room."""
        return sum(len(queue) for queue in self._queues.values())

    def waiting_of(self, priority: Priority) -> int:
        """Those of one class."""
        return sum(queue.waiting(priority) for queue in self._queues.values())

    async def wait(
        self,
        call: Call,
        caller: KeyGrant,
        plan: Plan,
        need: Need,
        tried: set[Endpoint],
        priority: Priority,
        failure: ApiError | None,
    ) -> Decision:
        """Wait in the model's queue.

        Args:
            failure: what is raised instead, when an upstream has failed before.

        Raises:
            ApiError: `overloaded`, at once when the wait would be too long; `no_upstream`, when
                none takes the call any more.
        """
        now = self._clock()
        plan = self._router.current(call, caller, plan)
        wait_max_s, promised_at = min(RULES[priority].wait_max_s, _deadline_s(call)), math.inf
        turn_s = wait_max_s
        if priority is Priority.INTERACTIVE:
            alone_s = min((e.alone_s(need) for e in self._router.endpoints(plan)), default=0.0)
            if failure is None and alone_s < need.slo_s:
                turn_s = min(_deadline_s(call), need.slo_s)
                wait_max_s = min(_deadline_s(call), need.slo_s - alone_s)
                promised_at = now
            else:
                # Late wherever it goes, or failed before: it goes soon or not at all.
                turn_s = min(wait_max_s, WAIT_SLO_SHARE * need.slo_s)
                wait_max_s = wait_max_s if failure is not None else turn_s
        name = plan.route.name
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = AdmissionQueue(self._router.service)
        woken: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        queued = QueuedCall(call, caller, plan, need, tried, woken, promised_at)
        prefix = need.prefixes[0] if need.prefixes else 0
        waiting = Waiting(queued, priority, caller.tenant, now, now + turn_s, prefix)
        if not queue.add(waiting):
            wait_s = queue.wait_s(priority)
            self._report(
                "queue_full", model=name, priority=priority.name.lower(),
                waiting=len(queue), retry_in_s=round(wait_s, 1),
            )  # fmt: skip
            raise failure or _overloaded(wait_s)
        self._watch(name, plan)
        if priority is Priority.BULK:
            self._look_later(name)
        try:
            async with asyncio.timeout(wait_max_s):
                await woken
        except TimeoutError:
            # It may have been woken in the same turn of the loop: then the place is its own.
            if not woken.done() or woken.cancelled():
                raise failure or _overloaded(queue.wait_s(priority)) from None
        except ApiError as error:
            raise failure or error from None
        except asyncio.CancelledError:
            # The caller left after a place was promised: the next in order gets it.
            if woken.done() and not woken.cancelled():
                self._give_back(woken, need, others=True)
            raise
        finally:
            queue.remove(waiting)
            self.observe(priority.name.lower(), self._clock() - now)
        self._give_back(woken, need, others=False)
        return woken.result()

    def _give_back(self, woken: asyncio.Future[Decision], need: Need, *, others: bool) -> None:
        """The promised place is taken, or left to others."""
        if woken.exception() is not None:
            return
        endpoint = woken.result().endpoint
        assert endpoint is not None, "who is woken has a place"
        endpoint.withdraw(fresh_tokens(need, woken.result()))
        if others:
            self.free_at(endpoint)

    def _watch(self, name: str, plan: Plan) -> None:
        """A model's queue is looked at when a call leaves one of these upstreams."""
        for endpoint in self._router.endpoints(plan):
            self._queues_of.setdefault(endpoint, set()).add(name)

    def free_at(self, endpoint: Endpoint) -> None:
        """An upstream may have room again: the next in order is woken."""
        names = self._queues_of.get(endpoint)
        if not names:
            return
        now = self._clock()
        for name in list(names):
            self._wake(name, now)
            if not len(self._queues[name]):
                names.discard(name)

    def _look_later(self, name: str) -> None:
        """Bulk goes when it gets quiet, which nothing tells: it is looked for."""
        if name not in self._looking:
            self._looking.add(name)
            asyncio.get_running_loop().call_later(BULK_LOOKS_S, self._look, name)

    def _look(self, name: str) -> None:
        self._looking.discard(name)
        self._wake(name, self._clock())
        if self._queues[name].waiting(Priority.BULK):
            self._look_later(name)

    def look_again(self) -> None:
        """Another configuration is in force: calls go to who takes them now, or nobody does."""
        now = self._clock()
        for name, queue in self._queues.items():
            if len(queue):
                self._wake(name, now)
            if (head := queue.head(now)) is not None:
                queued = head.item
                self._watch(name, self._router.current(queued.call, queued.caller, queued.plan))

    def forget_idle(self) -> None:
        """Let go of upstreams that no queue waits for."""
        self._queues_of = {e: names for e, names in self._queues_of.items() if names}

    def _wake(self, name: str, now: float) -> None:
        """Place those whose turn it is, as far as there is room."""
        queue = self._queues[name]
        passed: list[Waiting[QueuedCall]] = []
        while (head := queue.head(now, passed)) is not None:
            queued = head.item
            try:
                decision = self._router.place(
                    queued.call,
                    queued.caller,
                    queued.plan,
                    queued.need,
                    queued.tried,
                    now - queued.promised_at,
                    now - head.since > RULES[head.priority].starved_s,
                )
            except ApiError as error:
                # Nobody takes it any more; that is not for the call to hear that made room.
                _refuse(queue, head, error)
                continue
            if decision.endpoint is None and decision.reason == ALL_TRIED:
                gone = "Those that are left of the model's upstreams take no calls any more."
                _refuse(queue, head, ApiError("no_upstream", gone, param="model"))
                continue
            if decision.endpoint is None and any(why != "late" for _, why in decision.filtered):
                if head.priority is not Priority.INTERACTIVE or len(passed) >= PASSED_MAX:
                    break
                passed.append(head)
                continue
            if decision.endpoint is None:
                _refuse(queue, head, _overloaded(queue.wait_s(head.priority)))
                continue
            queue.take(head, now)
            if not queued.woken.done():
                # The place is taken now, not when the call's task runs: others look before.
                decision.endpoint.promise(fresh_tokens(queued.need, decision))
                queued.woken.set_result(decision)
        victim = queue.shed(now)
        if victim is not None and not victim.item.woken.done():
            victim.item.woken.set_exception(_overloaded(queue.wait_s(victim.priority)))


def _refuse(queue: AdmissionQueue[QueuedCall], head: Waiting[QueuedCall], error: ApiError) -> None:
    queue.remove(head)
    if not head.item.woken.done():
        head.item.woken.set_exception(error)


def _overloaded(wait_s: float) -> ApiError:
    return ApiError(
        "overloaded",
        "All upstreams of this model are at their limits; come back later.",
        retry_after_s=max(1.0, wait_s),
    )


def _deadline_s(call: Call) -> float:
    given = call.request.headers.get(b"x-tc-deadline-ms")
    if given is None:
        return DEADLINE_MAX_S
    if not given.isdigit() or len(given) > 9:
        raise ApiError("invalid_value", "`x-tc-deadline-ms` is a number.", param="x-tc-deadline-ms")
    return min(int(given) / 1e3, DEADLINE_MAX_S)
