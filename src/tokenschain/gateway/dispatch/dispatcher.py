"""Dispatcher: from a plan to an upstream that answers, with failover before and after a token.

Within 5 s after any single fault a caller has its first token: an upstream that is silent gets
a rival; at most three are asked, and retries have a budget (docs/decisions/0009-routing.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError, Blame
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.log_events import Reporter
from tokenschain.core.ports import Answer, Upstreams, delivered
from tokenschain.core.routing.admission import Priority
from tokenschain.core.routing.health import RetryBudget
from tokenschain.core.routing.selection import NO_DEADLINE, Decision, Endpoint, Need
from tokenschain.core.snapshot import Plan
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.attempt import AttemptContext, UpstreamAttempt
from tokenschain.gateway.dispatch.health_events import HealthEvents
from tokenschain.gateway.dispatch.race import Race
from tokenschain.gateway.dispatch.router import ALL_TRIED, Router
from tokenschain.gateway.dispatch.wait_queue import WaitQueue

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
NONE_TRIED: frozenset[Endpoint] = frozenset()
_PRIORITIES = {
    b"system": Priority.SYSTEM,
    b"interactive": Priority.INTERACTIVE,
    b"default": Priority.DEFAULT,
    b"bulk": Priority.BULK,
}
_STREAM, _WHOLE = Priority.INTERACTIVE, Priority.DEFAULT
"""Of calls that say nothing of it."""


class Dispatch:
    """Opens calls; see `core.ports.Opening`."""

    def __init__(
        self,
        router: Router,
        upstreams: Upstreams,
        clock: Callable[[], float],
        random: Callable[[], float],
        report: Reporter,
    ) -> None:
        """
        Args:
            clock: monotonic seconds, as the router's.
            report: told when an upstream's breaker changes its state, when a stream that broke
                off goes on elsewhere or cannot, and when a queue is full.
        """
        self._router = router
        self._upstreams = upstreams
        self._clock = clock
        self.health = HealthEvents(router, clock, random, report)
        self.wait_queue = WaitQueue(router, clock, report)
        self._report = report
        self._context = AttemptContext(upstreams, router, self.wait_queue, self.health, clock)
        self._races = RACES_SAVED_MAX
        self._budgets: dict[str, RetryBudget] = {}

    def open(self, call: Call, caller: KeyGrant, plan: Plan) -> Coroutine[None, None, Answer]:
        """See `core.ports.Opening.open`."""
        # No coroutine of its own: what is awaited passes through each that is on the way.
        priority, router = _priority_of(call, caller), self._router
        lone = router.lone(call, plan, priority) if len(plan.candidates) == 1 else None
        if lone is not None and b"x-tc-route" not in call.request.headers:
            return UpstreamAttempt(self._context, call, caller, plan, lone[1], lone[0]).open()
        need = router.need(call, plan, priority)
        budget = self._budgets.get(plan.route.name)
        if budget is None:
            budget = self._budgets[plan.route.name] = RetryBudget()
        budget.calls += 1
        if self._races < RACES_SAVED_MAX:
            self._races += RACE_SHARE
        decision = router.place(call, caller, plan, need, NONE_TRIED)
        endpoint = decision.endpoint
        if endpoint is None or call.parsed.stream or endpoint.candidate.upstream.stream_whole:
            return self._open_best(call, caller, plan, need, decision, set())
        call.decision = decision
        attempt = UpstreamAttempt(
            self._context, call, caller, plan, need, endpoint, decision.cached_tokens
        )
        return attempt.open(None, self._open_next)

    async def _open_next(self, first: UpstreamAttempt, failure: ApiError) -> UpstreamAttempt:
        """Ask others, as the first one that was asked for a whole answer failed."""
        budget = self._budgets[first.plan.route.name]
        if not _others_may_be_asked(failure) or not budget.take(self._clock()):
            raise failure
        call, caller, plan, need, tried = (
            first.call, first.caller, first.plan, first.need, first.seen,
        )  # fmt: skip
        decision = self._router.place(call, caller, plan, need, tried, NO_DEADLINE)
        answer = await self._open_best(call, caller, plan, need, decision, tried, failure)
        assert isinstance(answer, UpstreamAttempt), "it is no stream"
        return answer

    async def _open_best(
        self,
        call: Call,
        caller: KeyGrant,
        plan: Plan,
        need: Need,
        decision: Decision,
        tried: set[Endpoint],
        failure: ApiError | None = None,
    ) -> Answer:
        """Ask the best upstream, and others when it fails.

        Args:
            failure: of the one that was tried before.
        """
        budget = self._budgets[plan.route.name]
        if call.parsed.stream:
            call.resumable = self._resumable(plan)
        asked = len(tried)
        while True:
            if decision.endpoint is None:
                if decision.reason == ALL_TRIED:
                    break
                decision = await self.wait_queue.wait(
                    call, caller, plan, need, tried, _priority_of(call, caller), failure
                )
            endpoint = decision.endpoint
            assert endpoint is not None, "who waits is given a place"
            if call.decision is None:
                call.decision = decision
            tried.add(endpoint)
            attempt = UpstreamAttempt(
                self._context, call, caller, plan, need, endpoint, decision.cached_tokens
            )
            try:
                winner = await self._try(attempt, tried, budget)
            except ApiError as error:
                failure = error
            else:
                if len(call.attempts) > 1:
                    winner.make_last()
                return ContinuedAnswer(self, winner) if call.resumable else winner
            asked += 1
            if asked == ATTEMPTS_MAX or not _others_may_be_asked(failure):
                break
            if not budget.take(self._clock()):
                break
            decision = self._router.place(call, caller, plan, need, tried, NO_DEADLINE)
        assert failure is not None, "something was tried"
        raise failure

    def reconfigure(self) -> None:
        """Serve by another configuration at once: calls that wait go where it says."""
        self._router.renew()
        self.wait_queue.look_again()

    def forget_gone(self) -> None:
        """Let go of upstreams that have left the configuration, once their last calls are over."""
        left = self._router.forget_gone()
        self.health.forget_but(left)
        self.wait_queue.forget_idle()

    @property
    def retry_budgets(self) -> Mapping[str, RetryBudget]:
        """By model."""
        return self._budgets

    def explain(self, call: Call, caller: KeyGrant, plan: Plan) -> dict[str, object]:
        """See `core.ports.Opening.explain`."""
        need = self._router.need(call, plan, _priority_of(call, caller))
        decision = self._router.place(call, caller, plan, need, set())
        now = self._clock()
        if not caller.routing_details:
            return _outline(
                call, need, decision, self._router.policy_name(caller, call.parsed.model)
            )
        return {
            "model": call.parsed.model,
            "tiers": [tier.route.name for tier in (plan, *plan.others)],
            "policy": self._router.policy_name(caller, call.parsed.model),
            "prompt_tokens": need.prompt_tokens,
            "output_tokens": need.output_tokens,
            "first_token_slo_s": need.slo_s,
            "chosen": decision.endpoint.name if decision.endpoint is not None else None,
            "reason": decision.reason,
            "propensity": decision.propensity,
            "waiting": self.wait_queue.waiting,
            "candidates": [
                {
                    "upstream": row.endpoint.name,
                    "model": row.endpoint.candidate.offer.model,
                    "first_token_s": row.first_token_s,
                    "cost_pico_cny": row.cost_pico,
                    "load": row.load,
                    "in_flight": row.endpoint.inflight,
                    "concurrency_limit": row.endpoint.concurrency_limit.calls,
                    "meets_slo": row.meets_slo,
                    "cached_tokens": row.cached_tokens,
                    "state": row.endpoint.health.state(now),
                    "success": row.endpoint.health.success_share(now),
                    "token_s": row.endpoint.token_s,
                    "zone": row.endpoint.candidate.upstream.zone,
                    "region": row.endpoint.candidate.upstream.region,
                }
                for row in decision.rows
            ],
            "excluded": dict((*decision.filtered, *decision.left_out)),
            "left_out": dict(decision.left_out),
        }

    # --- one attempt ---------------------------------------------------------------------

    def _try(
        self, attempt: UpstreamAttempt, tried: set[Endpoint], budget: RetryBudget
    ) -> Coroutine[None, None, UpstreamAttempt]:
        """One attempt, and rivals beside it when it is silent for too long; gives the winner."""
        speaks = attempt.call.parsed.stream or attempt.endpoint.candidate.upstream.stream_whole
        if not speaks or len(tried) >= attempt.plan.size:
            return attempt.open()
        expected = attempt.endpoint.first_token_s(attempt.need, self._clock())
        race = Race(self, self._clock, attempt, tried, budget)
        if expected > RACE_ABOVE_S:
            # It may be right to be silent; few such are asked twice, and it is not blamed.
            race.spare_after_s = HANG_FACTOR * expected
        else:
            race.hung_after_s = min(max(HANG_FACTOR * expected, HANG_MIN_S), HANG_MAX_S)
            if self._router.hedges and attempt.need.load_max >= 1:
                race.spare_after_s = max(HEDGE_FACTOR * expected, HEDGE_MIN_S)
        return race.run()

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
        if len(tried) >= ATTEMPTS_MAX or not budget.take(self._clock()):
            return None
        decision = self._router.place(
            first.call, first.caller, first.plan, first.need, tried, NO_DEADLINE
        )
        if decision.endpoint is None:
            return None
        tried.add(decision.endpoint)
        return first.beside(decision.endpoint)

    # --- continuation ------------------------------------------------------------------------

    def _resumable(self, plan: Plan) -> bool:
        """Whether another upstream could go on where one breaks off."""
        return any(
            len(tier.candidates) > 1 and any(map(self._upstreams.can_resume, tier.candidates))
            for tier in ((plan, *plan.others) if plan.others else (plan,))
        )

    async def continue_elsewhere(
        self, broken: UpstreamAttempt, error: ApiError, continuations: int
    ) -> UpstreamAttempt:
        """Go on with a text stream that broke off, at another upstream of the same model.

        Args:
            continuations: how often the stream was continued before.

        Raises:
            ApiError: `error` itself, when that cannot be done safely.
        """
        call = broken.call
        said = broken.partial_output() if continuations < CONTINUATIONS_MAX else None
        if said is None or not error.kind.retry:
            self._broke_off(broken, error)
            raise error
        tried = broken.seen
        same_model = _tier_of(broken)
        while True:
            decision = self._router.place(
                call, broken.caller, same_model, broken.need, tried, NO_DEADLINE
            )
            if decision.endpoint is None:
                broken.make_last()
                if decision.reason == ALL_TRIED:
                    self._broke_off(broken, error)
                    raise error
                # Many may have broken off at once: they go before all who have not begun.
                decision = await self.wait_queue.wait(
                    call, broken.caller, same_model, broken.need, tried, Priority.SYSTEM, error
                )
            endpoint = decision.endpoint
            assert endpoint is not None, "who waits is given a place"
            tried.add(endpoint)
            if not self._upstreams.can_resume(endpoint.candidate):
                continue
            other = broken.beside(endpoint)
            try:
                async with asyncio.timeout(HANG_MAX_S):
                    went_on = await other.open(said)
            except TimeoutError:
                other.hung(HANG_MAX_S)
            except ApiError:
                continue
            self._report(
                "stream_continued", error.code, upstream=broken.endpoint.name,
                to=endpoint.name, call=call.request.id, tokens=said.tokens,
            )  # fmt: skip
            return went_on

    def _broke_off(self, broken: UpstreamAttempt, error: ApiError) -> None:
        """A stream ends with an error; said where an upstream is to blame."""
        if error.kind.blame in (Blame.UPSTREAM, Blame.KEY):
            said = broken.partial_output()
            self._report(
                "stream_broke_off", error.code, upstream=broken.endpoint.name,
                call=broken.call.request.id, tokens=said.tokens if said is not None else None,
            )  # fmt: skip


def _tier_of(broken: UpstreamAttempt) -> Plan:
    """Where a stream may go on that broke off: the same model, and at the same one's expense. What
    a tenant's own upstream began is not charged for as the platform's, nor the other way round."""
    of = broken.candidate
    payer = of.upstream.tenant
    for tier in (broken.plan, *broken.plan.others):
        mine = [c for c in tier.candidates if c.upstream.tenant == payer]
        if any(c.upstream.id == of.upstream.id and c.offer.model == of.offer.model for c in mine):
            same = len(mine) == len(tier.candidates)
            return Plan(tier.route, tier.candidates if same else tuple(mine))
    return Plan(broken.plan.route, ())


def _others_may_be_asked(failure: ApiError) -> bool:
    return failure.kind.retry or failure.code == "no_upstream"


class ContinuedAnswer:
    """A stream that goes on at another upstream when one breaks off."""

    __slots__ = ("_attempt", "_dispatch")

    def __init__(self, dispatch: Dispatch, attempt: UpstreamAttempt) -> None:
        self._dispatch = dispatch
        self._attempt = attempt

    async def deliver(self, call: Call) -> bytes:
        """See `core.ports.Answer.deliver`."""
        continuations = 0
        while True:
            try:
                return await delivered(self._attempt, call)
            except ApiError as error:
                self._attempt = await self._dispatch.continue_elsewhere(
                    self._attempt, error, continuations
                )
                continuations += 1

    def abort(self) -> None:
        self._attempt.abort()

    def partial_output(self) -> PartialOutput | None:
        return self._attempt.partial_output()


def _outline(call: Call, need: Need, decision: Decision, policy: str) -> dict[str, object]:
    """A decision for who has no right to the figures: the order of the candidates and reasons."""
    return {
        "model": call.parsed.model,
        "policy": policy,
        "prompt_tokens": need.prompt_tokens,
        "output_tokens": need.output_tokens,
        "first_token_slo_s": need.slo_s,
        "chosen": decision.endpoint.name if decision.endpoint is not None else None,
        "reason": decision.reason,
        "candidates": [
            {"chosen": row.endpoint is decision.endpoint, "meets_slo": row.meets_slo}
            for row in decision.rows
        ],
        "excluded": sorted(why for _, why in (*decision.filtered, *decision.left_out)),
    }


def _priority_of(call: Call, caller: KeyGrant) -> Priority:
    given = call.request.headers.get(b"x-tc-priority")
    if not given:
        if not caller.priority:
            return _STREAM if call.parsed.stream else _WHOLE
        given = caller.priority.encode()
    found = _PRIORITIES.get(given)
    if found is None or found is Priority.SYSTEM:
        raise ApiError(
            "invalid_value",
            "`x-tc-priority` is one of: interactive, default, bulk.",
            param="x-tc-priority",
        )
    return found
