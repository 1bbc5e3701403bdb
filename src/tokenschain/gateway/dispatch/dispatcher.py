"""From a plan to an upstream that answers: room, failover before and after the first token.

Within 5 s after any single fault a caller has its first token: an upstream that is silent gets
a rival; at most three are asked, and retries have a budget (docs/decisions/0009-routing.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tokenschain.core.call import Attempt, Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.ports import Answer, Upstreams
from tokenschain.core.routing.admission import Priority
from tokenschain.core.routing.health import Outcome, RetryBudget, outcome_of
from tokenschain.core.routing.selection import Endpoint, Need
from tokenschain.core.snapshot import Plan
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.router import Router
from tokenschain.gateway.dispatch.wait_queue import WaitingRoom

ATTEMPTS_MAX = 3
HANG_MIN_S, HANG_MAX_S = 1.5, 3.5
HANG_FACTOR = 1.5
HEDGE_FACTOR, HEDGE_MIN_S = 1.2, 0.05
"""What is expected leans to the worst of the last seconds, so that a little more is rare."""
RACE_ABOVE_S = 2.0
"""An upstream expected to take this long may be right to be silent: it is raced, not left."""
RACE_SHARE, RACES_SAVED_MAX = 0.02, 10.0
"""Races and hedges are at most this share of calls: each asks twice."""
CONTINUATIONS_MAX = 2
_PRIORITIES = {
    b"system": Priority.SYSTEM,
    b"interactive": Priority.INTERACTIVE,
    b"default": Priority.DEFAULT,
    b"bulk": Priority.BULK,
}


class Dispatch:
    """Opens calls; see `core.ports.Opening`."""

    def __init__(
        self,
        router: Router,
        upstreams: Upstreams,
        clock: Callable[[], float],
        random: Callable[[], float],
        report: Callable[[str, str], None],
    ) -> None:
        """
        Args:
            clock: monotonic seconds, as the router's.
            report: told when an upstream's breaker opens or closes: its id and the state.
        """
        self.router = router
        self.upstreams = upstreams
        self.clock = clock
        self._random = random
        self._report = report
        self.publish: Callable[[str, str, float], None] = lambda upstream, kind, for_s: None
        """Lets other gateways know; see `gateway.dispatch.health_sharing`."""
        self._races = RACES_SAVED_MAX
        self._budgets: dict[str, RetryBudget] = {}
        self.room = WaitingRoom(router, clock)

    async def open(self, call: Call, caller: KeyGrant, plan: Plan) -> Answer:
        """See `core.ports.Opening.open`."""
        priority = _priority_of(call, caller)
        lone = self.router.lone(call, plan, priority)
        if lone is not None and b"x-tc-route" not in call.request.headers:
            return await UpstreamAttempt(self, call, caller, plan, lone[1], lone[0]).open()
        now = self.clock()
        need = self.router.need(call, plan, priority)
        budget = self._budgets.get(plan.route.name)
        if budget is None:
            budget = self._budgets[plan.route.name] = RetryBudget()
        budget.call(now)
        self._races = min(self._races + RACE_SHARE, RACES_SAVED_MAX)
        tried: set[Endpoint] = set()
        failure: ApiError | None = None
        if call.parsed.stream:
            call.resumable = self._resumable(plan)
        for number in range(ATTEMPTS_MAX):
            if number and not budget.take():
                break
            decision = self.router.place(call, caller, plan, need, tried)
            if decision.endpoint is None:
                if decision.reason == "all tried":
                    break
                decision = await self.room.wait(call, caller, plan, need, tried, priority, failure)
            endpoint = decision.endpoint
            assert endpoint is not None
            if call.decision is None:
                call.decision = decision
            try:
                tried.add(endpoint)
                visit = UpstreamAttempt(
                    self, call, caller, plan, need, endpoint, decision.cached_tokens
                )
                return await self._try(visit, tried, budget)
            except ApiError as error:
                failure = error
                if not error.kind.retry:
                    break
        assert failure is not None, "something was tried"
        raise failure

    def explain(self, call: Call, caller: KeyGrant, plan: Plan) -> dict[str, object]:
        """See `core.ports.Opening.explain`."""
        need = self.router.need(call, plan, _priority_of(call, caller))
        decision = self.router.place(call, caller, plan, need, set())
        now = self.clock()
        return {
            "model": call.parsed.model,
            "tiers": [tier.route.name for tier in (plan, *plan.others)],
            "policy": self.router.policy_name(caller, call.parsed.model),
            "prompt_tokens": need.prompt_tokens,
            "output_tokens": need.output_tokens,
            "first_token_slo_s": need.slo_s,
            "chosen": decision.endpoint.name if decision.endpoint is not None else None,
            "reason": decision.reason,
            "propensity": decision.propensity,
            "waiting": self.room.waiting,
            "candidates": [
                {
                    "upstream": row.endpoint.name,
                    "model": row.endpoint.candidate.offer.model,
                    "first_token_s": row.first_token_s,
                    "cost_pico_cny": row.cost_pico,
                    "load": row.load,
                    "in_flight": row.endpoint.inflight,
                    "concurrency_limit": row.endpoint.concurrency_limit.calls,
                    "in_time": row.in_time,
                    "cached_tokens": row.cached_tokens,
                    "state": row.endpoint.health.state(now),
                    "success": row.endpoint.health.success_share(now),
                    "token_s": row.endpoint.token_s,
                    "zone": row.endpoint.candidate.upstream.zone,
                    "region": row.endpoint.candidate.upstream.region,
                }
                for row in decision.rows
            ],
            "left_out": dict(decision.filtered),
        }

    # --- one attempt ---------------------------------------------------------------------

    async def _try(
        self, visit: UpstreamAttempt, tried: set[Endpoint], budget: RetryBudget
    ) -> Answer:
        """One attempt, and others beside it when it is silent for too long."""
        speaks = visit.call.parsed.stream or visit.endpoint.candidate.upstream.stream_whole
        if not speaks or len(tried) >= visit.plan.size:
            return await visit.open()
        expected = visit.endpoint.first_token_s(visit.need, self.clock())
        race = _Race(self, visit, tried, budget)
        if expected > RACE_ABOVE_S:
            # It may be right to be silent; few such are asked twice, and it is not blamed.
            race.spare_after_s = HANG_FACTOR * expected
        else:
            race.hung_after_s = min(max(HANG_FACTOR * expected, HANG_MIN_S), HANG_MAX_S)
            if self.router.hedges and visit.need.load_max >= 1:
                race.spare_after_s = max(HEDGE_FACTOR * expected, HEDGE_MIN_S)
        return await race.run()

    def take_spare(self) -> bool:
        """Whether a call may be asked twice that nothing is known to be wrong with."""
        if self._races < 1:
            return False
        self._races -= 1
        return True

    def rival(
        self, first: UpstreamAttempt, tried: set[Endpoint], budget: RetryBudget
    ) -> UpstreamAttempt | None:
        """Another upstream to ask beside the first, if one may be asked."""
        if len(tried) >= ATTEMPTS_MAX or not budget.take():
            return None
        decision = self.router.place(first.call, first.caller, first.plan, first.need, tried)
        if decision.endpoint is None:
            return None
        tried.add(decision.endpoint)
        return first.beside(decision.endpoint)

    # --- outcomes ----------------------------------------------------------------------------

    def failed(self, endpoint: Endpoint, error: ApiError) -> None:
        """What a failure means for the upstream."""
        outcome = outcome_of(error.code)
        now = self.clock()
        if outcome is Outcome.RATE:
            endpoint.concurrency_limit.refused(endpoint.inflight, now)
        health = endpoint.health
        opened = health.failed(outcome, now, error.retry_after_s, self._random())
        if outcome is Outcome.RATE or outcome is Outcome.AUTH:
            self.publish(endpoint.name, "rests", health.rests_until - now)
        elif outcome is Outcome.HARD and health.is_open:
            self.publish(endpoint.name, "open", health.reopens_at - now)
        if opened:
            self._report(endpoint.name, "open")
            for other in self.router.breaker_opened(endpoint):
                self._report(other, "open_with_its_region")

    def succeeded(self, endpoint: Endpoint) -> None:
        """An upstream began to answer."""
        was_open = endpoint.health.is_open
        endpoint.health.succeeded(self.clock())
        if was_open and not endpoint.health.is_open:
            self._report(endpoint.name, "closed")
            self.publish(endpoint.name, "closed", 0.0)

    def _resumable(self, plan: Plan) -> bool:
        """Whether another upstream could go on where one breaks off."""
        return len(plan.candidates) > 1 and any(map(self.upstreams.can_resume, plan.candidates))

    async def continue_elsewhere(self, visit: UpstreamAttempt, error: ApiError) -> Answer:
        """Go on with a text stream that died, at another upstream of the same model.

        Raises:
            ApiError: `error` itself, when that cannot be done safely.
        """
        call = visit.call
        said = visit.partial_output() if visit.continuations < CONTINUATIONS_MAX else None
        if said is None or not error.kind.retry:
            raise error
        tried = visit.seen
        same_model = Plan(visit.plan.route, visit.plan.candidates)
        while True:
            decision = self.router.place(call, visit.caller, same_model, visit.need, tried)
            if decision.endpoint is None:
                _winner(visit)
                if decision.reason == "all tried":
                    raise error
                # Many may have broken off at once: they go before all who have not begun.
                decision = await self.room.wait(
                    call, visit.caller, same_model, visit.need, tried, Priority.SYSTEM, error
                )
            endpoint = decision.endpoint
            assert endpoint is not None, "who waits is given a place"
            tried.add(endpoint)
            if not self.upstreams.can_resume(endpoint.candidate):
                continue
            nearby = visit.beside(endpoint)
            nearby.continuations = visit.continuations + 1
            try:
                async with asyncio.timeout(HANG_MAX_S):
                    return await nearby.open(said)
            except TimeoutError:
                nearby.hung(HANG_MAX_S)
            except ApiError:
                continue


class _Race:
    """An attempt that others are started beside when it is silent; the first to speak is taken.

    Nothing that may still answer is given up before another has: a slow upstream is not lost.
    """

    __slots__ = (
        "_began", "_budget", "_dispatch", "_first", "_first_failed", "_hung", "_moments",
        "_rivals", "_task", "_timer", "_tried", "_won", "hung_after_s", "spare_after_s",
    )  # fmt: skip

    def __init__(
        self,
        dispatch: Dispatch,
        first: UpstreamAttempt,
        tried: set[Endpoint],
        budget: RetryBudget,
    ) -> None:
        self.spare_after_s: float | None = None
        """When a rival may be asked though nothing need be wrong, if the few that may are not
        used up."""
        self.hung_after_s: float | None = None
        """When it is wrong, and to blame."""
        self._began = 0.0
        self._hung = self._first_failed = False
        self._moments: list[tuple[float, bool]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._dispatch = dispatch
        self._first = first
        self._tried = tried
        self._budget = budget
        self._rivals: dict[asyncio.Task[Answer], UpstreamAttempt] = {}
        self._task: asyncio.Task[object] | None = None
        self._won: asyncio.Task[Answer] | None = None

    async def run(self) -> Answer:
        """Wait for whoever speaks first.

        Raises:
            ApiError: of the last one that failed.
        """
        self._task = asyncio.current_task()
        self._began = self._dispatch.clock()
        if self.spare_after_s is not None:
            self._moments.append((self.spare_after_s, False))
        if self.hung_after_s is not None:
            self._moments.append((self.hung_after_s, True))
        self._moments.sort()
        self._set_timer()
        try:
            answer = await self._first.open()
        except asyncio.CancelledError:
            task, won = self._task, self._won
            if won is None or task is None or task.uncancel():
                self._won = None  # the caller left: nobody takes what was won
                raise
            if self._hung:
                self._first.hung(self._dispatch.clock() - self._began)
            else:
                self._first.lose()
            return _winner(won.result())
        except ApiError as error:
            if not self._rivals:
                raise
            return await self._rest(error)
        else:
            return _winner(answer) if self._rivals else answer
        finally:
            self._task = None
            if self._timer is not None:
                self._timer.cancel()
            if self._rivals:
                await self._stop()

    def _set_timer(self) -> None:
        """For the next moment at which a rival may be asked."""
        self._timer = None
        if not self._moments:
            return
        after_s, hung = self._moments.pop(0)
        waited_s = self._dispatch.clock() - self._began
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, after_s - waited_s), self._due, hung)

    def _due(self, hung: bool) -> None:
        """The first has been silent for long, unless it only has not finished."""
        attempt = self._first.attempt
        if attempt is not None and attempt.first_token_at is not None:
            return
        self._hung = self._hung or hung
        if hung or self._dispatch.take_spare():
            self._start()
        self._set_timer()

    def _start(self) -> None:
        rival = self._dispatch.rival(self._first, self._tried, self._budget)
        if rival is None or self._task is None:
            return
        task = asyncio.ensure_future(rival.open())
        self._rivals[task] = rival
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Answer]) -> None:
        if task.cancelled() or self._task is None or self._first_failed or self._won is not None:
            return
        if task.exception() is None:
            self._won = task
            self._task.cancel()
        else:
            self._start()

    async def _rest(self, failure: ApiError) -> Answer:
        """The first failed: its rivals may not."""
        self._first_failed = True
        while True:
            waiting = [task for task in self._rivals if not task.done()]
            for task in self._rivals:
                if task.done() and task.exception() is None:
                    self._won = task
                    return _winner(task.result())
            if not waiting:
                raise failure
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)

    async def _stop(self) -> None:
        """All but the winner are told to go."""
        losers = {t: v for t, v in self._rivals.items() if not t.done()}
        for task in losers:
            task.cancel()
        await asyncio.gather(*losers, return_exceptions=True)
        for visit in losers.values():
            visit.lose()
        for task, visit in self._rivals.items():
            if task in losers or task is self._won or task.cancelled():
                continue
            if task.exception() is None:
                visit.abort()


class UpstreamAttempt:
    """One call at one upstream, counted there until it is over."""

    __slots__ = (
        "_ahead", "_answer", "_began", "_dispatch", "_fresh", "_over", "_spoke_at",
        "call", "caller", "candidate", "continuations", "endpoint", "need", "plan", "seen",
    )  # fmt: skip

    def __init__(
        self,
        dispatch: Dispatch,
        call: Call,
        caller: KeyGrant,
        plan: Plan,
        need: Need,
        endpoint: Endpoint,
        cached_tokens: int = 0,
    ) -> None:
        self._dispatch = dispatch
        self._fresh = max(0, need.prompt_tokens - cached_tokens)
        self._answer: Answer | None = None
        self._began = 0.0
        self._ahead = 0
        self._spoke_at = 0.0
        self._over = False
        self.call = call
        self.caller = caller
        self.plan = plan
        self.need = need
        self.endpoint = endpoint
        self.candidate = endpoint.candidate
        """As it was when the call went there; a new snapshot brings others."""
        self.continuations = 0
        self.seen = {endpoint}

    def beside(self, endpoint: Endpoint) -> UpstreamAttempt:
        """The same call at another upstream."""
        other = UpstreamAttempt(
            self._dispatch, self.call, self.caller, self.plan, self.need, endpoint
        )
        other.seen = self.seen
        self.seen.add(endpoint)
        return other

    async def open(self, said: PartialOutput | None = None) -> Answer:
        """Send the call and wait until it begins to answer."""
        dispatch, endpoint, need = self._dispatch, self.endpoint, self.need
        self._began = dispatch.clock()
        self._ahead = endpoint.begin(self._fresh)
        try:
            self._answer = await dispatch.upstreams.open(self.call, self.candidate, said)
        except ApiError as error:
            self._end(0)
            dispatch.failed(endpoint, error)
            raise
        except BaseException:
            self._end(0)
            endpoint.health.withdrawn()
            raise
        now = dispatch.clock()
        if self.call.parsed.stream:
            self._spoke_at = now
            endpoint.spoke(self._fresh, self._ahead, now - self._began, now)
            dispatch.room.free_at(endpoint)
        else:
            self._note_whole()
        dispatch.succeeded(endpoint)
        dispatch.router.opened(endpoint, need)
        if not self.call.parsed.stream:
            self._settle()
        return self

    def _note_whole(self) -> None:
        """A whole answer came; when it began is known only if it was a stream on the way."""
        endpoint, attempt = self.endpoint, self.attempt
        first = attempt.first_token_at if attempt is not None else None
        if first is not None and self.candidate.upstream.stream_whole:
            took_s = max(0.0, first - self._began)
            endpoint.spoke(self._fresh, self._ahead, took_s, self._dispatch.clock())
        else:
            endpoint.silent(self._fresh)

    async def deliver(self, call: Call) -> bytes:
        """Relay the answer; when it breaks off, go on with another's."""
        assert self._answer is not None
        if self._over:
            return await self._answer.deliver(call)
        try:
            last = await self._answer.deliver(call)
        except ApiError as error:
            self._settle()
            self._dispatch.failed(self.endpoint, error)
            answer = await self._dispatch.continue_elsewhere(self, error)
            return await answer.deliver(call)
        except BaseException:
            self._settle()
            raise
        self._settle()
        return last

    def partial_output(self) -> PartialOutput | None:
        """What the caller has of the answer, when another can go on from there."""
        return None if self._answer is None else self._answer.partial_output()

    def hung(self, waited_s: float) -> ApiError:
        """It was silent for too long: a failure of the upstream."""
        error = ApiError(
            "upstream_timeout",
            f"The upstream `{self.endpoint.name}` was silent for {waited_s:.1f} s.",
        )
        self._mark("upstream_timeout")
        self._dispatch.failed(self.endpoint, error)
        return error

    def abort(self) -> None:
        """It spoke, but nobody takes it: its upstream is told to stop."""
        if self._answer is not None:
            self._answer.abort()
        self._settle()
        self.lose()

    def lose(self) -> None:
        """Another was faster."""
        self._mark("lost_race")

    def _mark(self, outcome: str) -> None:
        attempt = self.attempt
        if attempt is not None:
            attempt.outcome = outcome
            if not self._spoke_at:
                attempt.usage = None  # nothing was produced for anybody

    @property
    def attempt(self) -> Attempt | None:
        """What was noted of it on the call."""
        for attempt in reversed(self.call.attempts):
            if attempt.candidate is self.candidate:
                return attempt
        return None

    def _settle(self) -> None:
        """The answer is over, well or not."""
        attempt = self.attempt
        usage = attempt.usage if attempt is not None else None
        tokens = usage.completion_tokens if usage is not None else 0
        self._end(tokens)
        if usage is not None:
            router = self._dispatch.router
            if attempt is not None and attempt.outcome == "ok":
                router.learned(self.plan.route, tokens)
            router.service.charge(self.caller.tenant, usage.prompt_tokens, tokens, 1.0)

    def _end(self, tokens: int) -> None:
        if self._over:
            return
        self._over = True
        now = self._dispatch.clock()
        endpoint = self.endpoint
        took_s = now - self._began
        if self._spoke_at:
            endpoint.ended(self._fresh, tokens, now - self._spoke_at, took_s)
        else:
            if self._answer is None:
                endpoint.silent(self._fresh)
            endpoint.ended(self._fresh, tokens, 0.0, took_s)
        self._dispatch.room.free_at(endpoint)


def _winner(answer: Answer) -> Answer:
    """The attempt that is delivered is the last of the call's."""
    if isinstance(answer, UpstreamAttempt):
        attempts, attempt = answer.call.attempts, answer.attempt
        if attempt is not None:
            attempts.remove(attempt)
            attempts.append(attempt)
    return answer


def _priority_of(call: Call, caller: KeyGrant) -> Priority:
    given = call.request.headers.get(b"x-tc-priority") or caller.priority.encode()
    if not given:
        return Priority.INTERACTIVE if call.parsed.stream else Priority.DEFAULT
    found = _PRIORITIES.get(given)
    if found is None or found is Priority.SYSTEM:
        raise ApiError(
            "invalid_value",
            "`x-tc-priority` is one of: interactive, default, bulk.",
            param="x-tc-priority",
        )
    return found
