"""One call at one upstream: counted there until it is over; its outcome moves the health state."""

from __future__ import annotations

from collections.abc import Callable, Coroutine

import msgspec

from tokenschain.core.call import Attempt, Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.ports import Answer, Upstreams, delivered
from tokenschain.core.pricing.catalog import Usage
from tokenschain.core.routing.selection import BULK_LOAD_MAX, Endpoint, Need
from tokenschain.core.snapshot import Plan
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.health_events import HealthEvents
from tokenschain.gateway.dispatch.router import Router
from tokenschain.gateway.dispatch.wait_queue import WaitQueue


class AttemptContext(msgspec.Struct, frozen=True):
    """What attempts share; none of it knows of an attempt."""

    upstreams: Upstreams
    router: Router
    wait_queue: WaitQueue
    health: HealthEvents
    clock: Callable[[], float]
    """Monotonic seconds, as the router's."""


OnFailure = Callable[["UpstreamAttempt", ApiError], Coroutine[None, None, "UpstreamAttempt"]]
"""What is done instead of raising the error of an attempt."""


class UpstreamAttempt:
    """One call at one upstream, counted there until it is over."""

    __slots__ = (
        "_ahead", "_answer", "_began", "_context", "_fresh", "_over", "_seen", "_spoke_at",
        "call", "caller", "candidate", "endpoint", "need", "plan",
    )  # fmt: skip

    def __init__(
        self,
        context: AttemptContext,
        call: Call,
        caller: KeyGrant,
        plan: Plan,
        need: Need,
        endpoint: Endpoint,
        cached_tokens: int = 0,
    ) -> None:
        self._context = context
        fresh = need.prompt_tokens - cached_tokens
        self._fresh = fresh if fresh > 0 else 0
        self._answer: Answer | None = None
        self._began = 0.0
        self._ahead = 0.0
        self._spoke_at = 0.0
        self._over = False
        self.call = call
        self.caller = caller
        self.plan = plan
        self.need = need
        self.endpoint = endpoint
        self.candidate = endpoint.candidate
        """As it was when the call went there; a new snapshot brings others."""
        self._seen: set[Endpoint] | None = None

    @property
    def seen(self) -> set[Endpoint]:
        """The upstreams that were asked beside it or went on for it, and its own."""
        if self._seen is None:
            self._seen = {self.endpoint}
        return self._seen

    def beside(self, endpoint: Endpoint) -> UpstreamAttempt:
        """The same call at another upstream."""
        other = UpstreamAttempt(
            self._context, self.call, self.caller, self.plan, self.need, endpoint
        )
        other._seen = self.seen
        self.seen.add(endpoint)
        return other

    async def open(
        self, said: PartialOutput | None = None, on_failure: OnFailure | None = None
    ) -> UpstreamAttempt:
        """Send the call and wait until the upstream begins to answer; gives itself, or what
        `on_failure` gives instead.

        Raises:
            ApiError: the upstream failed, and there is no `on_failure`; its health knows.
        """
        context, endpoint = self._context, self.endpoint
        self._began = context.clock()
        self._ahead = endpoint.begin(self._fresh, bulk=self.need.load_max <= BULK_LOAD_MAX)
        if endpoint.health.is_open:
            context.health.trial(endpoint, self.call.request.id)
        try:
            self._answer = await context.upstreams.open(self.call, self.candidate, said)
        except ApiError as error:
            self._end(0, context.clock())
            context.health.failed(endpoint, error, self.call.request.id)
            if on_failure is None:
                raise
            return await on_failure(self, error)
        except BaseException:
            # Cancelled: the caller left, or another upstream was faster. That says nothing of
            # this one; if it was the trial of an open breaker, another call may make it.
            self._end(0, context.clock())
            endpoint.health.withdrawn()
            raise
        now = context.clock()
        if endpoint.health.is_open:
            context.health.succeeded(endpoint, now)
        else:
            endpoint.health.succeeded(now)
        if self.need.prefixes:
            context.router.opened(endpoint, self.need)
        if self.call.parsed.stream:
            self._spoke_at = now
            endpoint.spoke(self._fresh, self._ahead, now - self._began, now)
            # Its backlog of prompts is shorter now: a call that waits for that may go.
            context.wait_queue.free_at(endpoint)
        else:
            self._settle_whole(now)
        return self

    def _settle_whole(self, now: float) -> None:
        """A whole answer came, and is over with that; when it began is known only if it was a
        stream on the way."""
        endpoint, attempts = self.endpoint, self.call.attempts
        attempt = attempts[-1] if attempts else None
        if attempt is not None and attempt.candidate is not self.candidate:
            attempt = self.attempt
        if attempt is None or self.candidate.upstream.stream_whole:
            first = None if attempt is None else attempt.first_token_at
            if first is not None:
                endpoint.spoke(self._fresh, self._ahead, max(0.0, first - self._began), now)
            else:
                endpoint.silent(self._fresh)
            self._settle(now)
            return
        self._over = True
        usage = attempt.usage
        endpoint.answered(
            self._fresh,
            0 if usage is None else usage.completion_tokens,
            now - self._began,
            bulk=self.need.load_max <= BULK_LOAD_MAX,
        )
        self._context.wait_queue.free_at(endpoint)
        if usage is not None:
            self._learn(attempt, usage)

    def deliver(self, call: Call) -> bytes | Coroutine[None, None, bytes]:
        """See `core.ports.Answer.deliver`."""
        assert self._answer is not None
        return self._answer.deliver(call) if self._over else self._deliver(self._answer, call)

    async def _deliver(self, answer: Answer, call: Call) -> bytes:
        try:
            return await delivered(answer, call)
        except ApiError as error:
            self._settle()
            self._context.health.failed(self.endpoint, error, self.call.request.id)
            raise
        finally:
            self._settle()

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
        self._context.health.failed(self.endpoint, error)
        return error

    def abort(self) -> None:
        """It answered, but is not used: its upstream is told to stop."""
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
            if attempt.first_token_at is None:
                attempt.usage = None  # nothing was produced for anybody

    def make_last(self) -> None:
        """The attempt whose answer is delivered becomes the call's last: the one charged for."""
        attempts, attempt = self.call.attempts, self.attempt
        if attempt is not None and attempts[-1] is not attempt:
            attempts.remove(attempt)
            attempts.append(attempt)

    @property
    def attempt(self) -> Attempt | None:
        """What was noted of it on the call."""
        attempts = self.call.attempts
        if attempts and attempts[-1].candidate is self.candidate:
            return attempts[-1]
        for attempt in reversed(attempts):
            if attempt.candidate is self.candidate:
                return attempt
        return None

    def _settle(self, now: float | None = None) -> None:
        """The answer is over, well or not; nothing happens the second time."""
        if self._over:
            return
        if now is None:
            now = self._context.clock()
        attempt = self.attempt
        usage = attempt.usage if attempt is not None else None
        if attempt is None or usage is None:
            self._end(0, now)
        else:
            self._end(usage.completion_tokens, now)
            self._learn(attempt, usage)

    def _learn(self, attempt: Attempt, usage: Usage) -> None:
        tokens, router = usage.completion_tokens, self._context.router
        # What a tenant's own upstream says of its answers is no word on the platform's.
        if attempt.outcome == "ok" and not self.candidate.upstream.tenant:
            router.learned(self.plan.route, tokens)
        router.service.charge(self.caller.tenant, usage.prompt_tokens, tokens, 1.0)

    def _end(self, tokens: int, now: float) -> None:
        if self._over:
            return
        self._over = True
        endpoint, spoke_s = self.endpoint, 0.0
        if self._spoke_at:
            spoke_s = now - self._spoke_at
        elif self._answer is None:
            endpoint.silent(self._fresh)
        bulk = self.need.load_max <= BULK_LOAD_MAX
        endpoint.ended(self._fresh, tokens, spoke_s, now - self._began, bulk=bulk)
        self._context.wait_queue.free_at(endpoint)
