"""Review by several moderation engines: hedging, dual review, arbitration and failure policy.

One verdict is enough, or two must be had (dual review). Whoever is slow is hedged by the next
engine, whoever fails is replaced by it. What is left without the verdicts it needs fails closed,
unless each engine that failed may be done without. Every degradation is one audit event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from tokenschain.core.moderation.arbitration import (
    Arbitrated,
    ArbitrationRule,
    OnFailure,
    arbitrate,
)
from tokenschain.core.moderation.engine_events import EngineEvent, EngineEventKind
from tokenschain.core.moderation.verdict import (
    Direction,
    EngineContext,
    EngineCost,
    EngineFailed,
    EngineFailure,
    EngineVerdict,
)
from tokenschain.core.ports import ModerationEngine

HEDGE_SHARE = 0.5
"""Of the time there is for a verdict: an engine silent for so long gets a hedge beside it."""
_DEGRADATIONS = {
    EngineEventKind.FAILED: "failed",
    EngineEventKind.HEDGED: "hedged",
    EngineEventKind.SINGLE: "single",
}
"""What the record of a call has of them."""


class Reviewer(NamedTuple):
    """One engine of a review."""

    engine: ModerationEngine
    on_failure: OnFailure | None = None
    """As the call's policy says, where None."""


class ReviewedByEngines:
    """See `core.ports.ModerationEngine`: several of them as one."""

    def __init__(
        self,
        reviewers: Sequence[Reviewer],
        rule: ArbitrationRule,
        report: Callable[[EngineEvent], None],
        monotonic: Callable[[], float],
        *,
        dual: bool,
        hedge_share: float = HEDGE_SHARE,
    ) -> None:
        """
        Args:
            reviewers: in the order in which they are asked.
            dual: whether two verdicts are wanted.
            hedge_share: see `HEDGE_SHARE`.

        Raises:
            ValueError: fewer engines than verdicts.
        """
        wanted = 2 if dual else 1
        if len(reviewers) < wanted:
            raise ValueError(f"{wanted} engines are wanted, not {len(reviewers)}")
        self._reviewers = tuple(reviewers)
        self._terms = _Terms(wanted, rule, report, monotonic, hedge_share)

    @property
    def name(self) -> str:
        """See `core.ports.ModerationEngine`."""
        return "+".join(reviewer.engine.name for reviewer in self._reviewers)

    @property
    def takes_images(self) -> bool:
        """See `core.ports.ModerationEngine`: whether as many do as there are to be verdicts."""
        return sum(one.engine.takes_images for one in self._reviewers) >= self._terms.wanted

    async def screen(
        self,
        texts: Sequence[str],
        direction: Direction,
        context: EngineContext,
        images: Sequence[str] = (),
    ) -> EngineVerdict:
        """See `core.ports.ModerationEngine`."""
        asking = _Asking(texts, direction, context, images)
        return await _Review(asking, self._reviewers, self._terms).run()


class _Terms(NamedTuple):
    """What holds for every review of these engines."""

    wanted: int
    """Verdicts."""
    rule: ArbitrationRule
    report: Callable[[EngineEvent], None]
    monotonic: Callable[[], float]
    hedge_share: float


class _Asking(NamedTuple):
    """What is to be judged."""

    texts: Sequence[str]
    direction: Direction
    context: EngineContext
    images: Sequence[str]


class _Review:
    """One review: who was asked, and what they said."""

    def __init__(self, asking: _Asking, reviewers: Sequence[Reviewer], terms: _Terms) -> None:
        self._asking, self._terms = asking, terms
        began, wait_max_s = terms.monotonic(), asking.context.deadline_s
        self._hedge_at = began + wait_max_s * terms.hedge_share
        self._deadline = began + wait_max_s
        self._reviewers = reviewers
        self._waiting = [r for r in reviewers if r.engine.takes_images or not asking.images]
        self._running: dict[asyncio.Task[EngineVerdict], Reviewer] = {}
        self._verdicts: list[EngineVerdict] = []
        self._failures: list[tuple[Reviewer, EngineFailed]] = []
        self._degraded: list[str] = []
        self._withdrawn: list[EngineCost] = []
        """What is owed for questions that were given up since others had answered."""

    async def run(self) -> EngineVerdict:
        """See `ReviewedByEngines.screen`."""
        wanted = self._terms.wanted
        if len(self._waiting) < wanted:
            for unfit in self._reviewers:
                if unfit not in self._waiting:
                    why = EngineFailed(unfit.engine.name, EngineFailure.REFUSED, "no images")
                    self._failed(unfit, why)
        try:
            while len(self._running) < wanted and self._ask_next():
                pass
            if not self._running:
                for reviewer in self._waiting:
                    late = EngineFailed(reviewer.engine.name, EngineFailure.TIMEOUT, "no time")
                    self._failed(reviewer, late)
            await self._collect(wanted, self._hedge_at)
            decision = await self._decide()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
        return self._joined(decision)

    def _ask_next(self) -> bool:
        """Ask the next engine with the time that is left; whether there was one."""
        left_s = self._deadline - self._terms.monotonic()
        if not self._waiting or left_s <= 0:
            return False
        reviewer = self._waiting.pop(0)
        texts, direction, context, images = self._asking
        context = msgspec.structs.replace(context, deadline_s=left_s, owe=self._withdrawn.append)
        screening = reviewer.engine.screen(texts, direction, context, images)
        self._running[asyncio.ensure_future(screening)] = reviewer
        return True

    async def _collect(self, wanted: int, hedge_at: float) -> None:
        """Wait for as many verdicts, or until nobody can give one in time."""
        while len(self._verdicts) < wanted and self._running:
            now = self._terms.monotonic()
            may_hedge = bool(self._waiting) and now < hedge_at
            until = hedge_at if may_hedge else self._deadline
            done, _ = await asyncio.wait(
                self._running,
                timeout=max(0.0, until - now),
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                self._heard(self._running.pop(task), task)
            if not done and may_hedge:
                slow = next(iter(self._running.values()))
                hedge_at = 0.0
                if self._ask_next():
                    self._note(EngineEventKind.HEDGED, slow.engine.name)
            elif not done:
                for reviewer in self._running.values():
                    late = EngineFailed(reviewer.engine.name, EngineFailure.TIMEOUT)
                    self._failed(reviewer, late)
                return

    def _heard(self, reviewer: Reviewer, task: asyncio.Task[EngineVerdict]) -> None:
        try:
            self._verdicts.append(task.result())
        except EngineFailed as error:
            self._failed(reviewer, error)
            self._ask_next()

    def _failed(self, reviewer: Reviewer, error: EngineFailed) -> None:
        self._failures.append((reviewer, error))
        self._note(EngineEventKind.FAILED, error.engine, failure=error.failure, detail=error.detail)

    async def _decide(self) -> Arbitrated:
        """
        Raises:
            EngineFailed: there are not as many verdicts as must be.
        """
        wanted, rule = self._terms.wanted, self._terms.rule
        missing = len(self._verdicts) < wanted
        closed = [error for one, error in self._failures if self._must_have(one)]
        if not self._verdicts or (missing and closed):
            first = closed[0] if closed else self._failures[0][1]
            self._note(
                EngineEventKind.NO_VERDICT,
                first.engine,
                failure=first.failure,
                detail="closed" if closed else "",
            )
            raise EngineFailed(
                first.engine, first.failure, first.detail, closed=bool(closed),
                costs=self._costs(), degraded=tuple(self._degraded),
            )  # fmt: skip
        if missing:
            self._note(EngineEventKind.SINGLE, self._verdicts[0].engine)
        decision = arbitrate(self._in_order(), rule)
        if decision.needs_third and (self._running or self._ask_next()):
            await self._collect(wanted + 1, self._deadline)
            decision = arbitrate(self._in_order(), rule)
        return decision

    def _must_have(self, reviewer: Reviewer) -> bool:
        if reviewer.on_failure is None:
            return self._asking.context.fails_closed
        return reviewer.on_failure is OnFailure.BLOCK

    def _in_order(self) -> list[EngineVerdict]:
        """By name, so that it does not matter who was first."""
        return sorted(self._verdicts, key=lambda verdict: verdict.engine)

    def _joined(self, decision: Arbitrated) -> EngineVerdict:
        verdicts = self._in_order()
        for dispute in decision.disputes:
            levels = " ".join(f"{engine}={level.name}" for engine, level in dispute.levels)
            self._note(
                EngineEventKind.DISPUTED,
                "+".join(verdict.engine for verdict in verdicts),
                detail=levels,
                category=dispute.category,
            )
        return EngineVerdict(
            "+".join(verdict.engine for verdict in verdicts),
            decision.findings,
            ",".join(verdict.request_id for verdict in verdicts if verdict.request_id),
            self._costs(),
            tuple(dict.fromkeys(dispute.category for dispute in decision.disputes)),
            tuple(self._degraded),
        )

    def _costs(self) -> tuple[EngineCost, ...]:
        """Of all that answered, whether their verdict counts or not, and of what was withdrawn: not
        of those that had no answer in time."""
        late = {error.engine for _, error in self._failures}
        had = [one for verdict in self._in_order() for one in verdict.costs]
        had += [one for one in self._withdrawn if one.engine not in late]
        return (*had, *(one for _, error in self._failures for one in error.costs))

    def _note(
        self,
        kind: EngineEventKind,
        engine: str,
        *,
        failure: EngineFailure | None = None,
        detail: str = "",
        category: str = "",
    ) -> None:
        if kind in _DEGRADATIONS:
            self._degraded.append(":".join(filter(None, (engine, _DEGRADATIONS[kind], failure))))
        context = self._asking.context
        self._terms.report(
            EngineEvent(kind, engine, context.call_id, context.tenant, failure, detail, category)
        )
