"""Reviews by several engines: who is asked, who counts, and what happens when some fail.

In the fault matrix, one rule is held for every combination: where an engine is to fail closed, no
call goes on without the verdicts that are wanted.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from tests.providers.moderation.engines import LONG_S, PRICE_PICO, Scripted, context, engine
from tests.vendors.moderation_clouds import GRAVE, ModerationClouds, moderation_clouds
from tokenschain.core.moderation.arbitration import ArbitrationRule, OnFailure
from tokenschain.core.moderation.engine_events import EngineEvent, EngineEventKind
from tokenschain.core.moderation.verdict import (
    Direction,
    EngineContext,
    EngineCost,
    EngineFailed,
    EngineFailure,
    EngineVerdict,
    Level,
)
from tokenschain.core.ports import ModerationEngine
from tokenschain.providers.moderation.review import ReviewedByEngines, Reviewer
from tokenschain.wire.client import HttpClient

SOON = 0.01
"""Of `LONG_S`, after which a slow engine is hedged."""
SHORT_S = 0.3
SLOW_S = 0.1
"""In the fault matrix: it may be too short for an engine that is well, which is one more fault."""


@pytest.fixture(scope="module")
def _running() -> Iterator[ModerationClouds]:
    with moderation_clouds() as clouds:
        yield clouds


@pytest.fixture
def clouds(_running: ModerationClouds) -> Iterator[ModerationClouds]:
    yield _running
    _running.heal()


def costs_of(verdict: EngineVerdict | None) -> int:
    assert verdict is not None
    return sum(one.cost_pico for one in verdict.costs)


class Heard:
    """Outcome and audit events of one review."""

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.verdict: EngineVerdict | None = None
        self.failed: EngineFailed | None = None

    @property
    def kinds(self) -> list[EngineEventKind]:
        return [event.kind for event in self.events]

    async def of(
        self,
        engines: Sequence[ModerationEngine],
        rule: ArbitrationRule = ArbitrationRule.STRICTER,
        *,
        dual: bool = False,
        on_failure: Sequence[OnFailure] = (),
        deadline_s: float = LONG_S,
        text: str = "早上好",
    ) -> Heard:
        policies = itertools.chain(on_failure, itertools.repeat(OnFailure.BLOCK))
        reviewers = [Reviewer(one, policy) for one, policy in zip(engines, policies, strict=False)]
        review = ReviewedByEngines(
            reviewers, rule, self.events.append, time.monotonic, dual=dual, hedge_share=SOON
        )
        try:
            self.verdict = await review.screen((text,), Direction.INPUT, context(deadline_s))
        except EngineFailed as error:
            self.failed = error
        return self


def heard(*engines: Scripted, **options: object) -> Heard:
    return asyncio.run(Heard().of(engines, **options))  # type: ignore[arg-type]


# --- one verdict ---------------------------------------------------------------------------------


def test_the_first_engine_answers_and_no_other_is_asked() -> None:
    a, b = Scripted("a", Level.HIGH), Scripted("b")
    found = heard(a, b)
    assert found.verdict is not None and found.verdict.level is Level.HIGH
    assert (found.verdict.engine, costs_of(found.verdict), b.asked) == ("a", PRICE_PICO, 0)
    assert found.events == []


def test_a_slow_engine_is_hedged_by_the_next_and_given_up() -> None:
    a, b = Scripted("a", silent=True), Scripted("b", Level.MEDIUM)
    found = heard(a, b)
    assert found.verdict is not None and found.verdict.engine == "b"
    assert found.kinds == [EngineEventKind.HEDGED] and found.events[0].engine == "a"
    assert a.cancelled == 1


class Owing(Scripted):
    """A silent engine whose vendor charges what is withdrawn."""

    async def screen(
        self,
        texts: Sequence[str],
        direction: Direction,
        asked_for: EngineContext,
        images: Sequence[str] = (),
    ) -> EngineVerdict:
        try:
            return await super().screen(texts, direction, asked_for, images)
        except asyncio.CancelledError:
            assert asked_for.owe is not None
            asked_for.owe(EngineCost(self.name, 1, PRICE_PICO))
            raise


def test_what_is_withdrawn_is_owed_and_what_is_late_is_not() -> None:
    found = heard(Owing("a", silent=True), Scripted("b"))
    assert costs_of(found.verdict) == 2 * PRICE_PICO
    found = heard(
        Scripted("a"), Owing("b", silent=True),
        dual=True, on_failure=[OnFailure.LOCAL] * 2, deadline_s=SHORT_S,
    )  # fmt: skip
    assert found.kinds[-1] is EngineEventKind.SINGLE and costs_of(found.verdict) == PRICE_PICO


def test_an_engine_that_fails_is_replaced_at_once() -> None:
    found = heard(Scripted("a", fails=EngineFailure.THROTTLED), Scripted("b", Level.LOW))
    assert found.verdict is not None and found.verdict.engine == "b"
    (event,) = found.events
    assert (event.kind, event.engine, event.failure, event.detail) == (
        EngineEventKind.FAILED, "a", EngineFailure.THROTTLED, "code",
    )  # fmt: skip
    assert (event.call_id, event.tenant) == ("call-1", "bank")


def test_a_policy_decides_where_an_engine_does_not() -> None:
    for closed in (True, False):
        asked = msgspec.structs.replace(context(), fails_closed=closed)
        events: list[EngineEvent] = []
        engines = [Scripted("a", Level.LOW), Scripted("b", fails=EngineFailure.THROTTLED)]
        review = ReviewedByEngines(
            [Reviewer(one) for one in engines],
            ArbitrationRule.STRICTER, events.append, time.monotonic, dual=True,
        )  # fmt: skip
        screening = review.screen(("x",), Direction.INPUT, asked)
        if closed:
            with pytest.raises(EngineFailed) as caught:
                asyncio.run(screening)
            assert caught.value.closed
        else:
            assert asyncio.run(screening).engine == "a"
            assert events[-1].kind is EngineEventKind.SINGLE


@pytest.mark.parametrize("policy", OnFailure)
def test_nobody_answers(policy: OnFailure) -> None:
    a, b = Scripted("a", fails=EngineFailure.REFUSED), Scripted("b", silent=True)
    found = heard(a, b, on_failure=[policy, OnFailure.LOCAL], deadline_s=SHORT_S)
    assert found.verdict is None and found.failed is not None
    assert found.failed.closed is (policy is OnFailure.BLOCK)
    assert found.kinds == [
        EngineEventKind.FAILED, EngineEventKind.FAILED, EngineEventKind.NO_VERDICT,
    ]  # fmt: skip
    assert b.cancelled == 1


def test_without_time_nobody_is_asked_and_nothing_passes() -> None:
    a = Scripted("a")
    found = heard(a, Scripted("b"), deadline_s=0.0)
    assert found.failed is not None and found.failed.closed and a.asked == 0


# --- two verdicts --------------------------------------------------------------------------------


def test_two_engines_are_asked_at_once_and_both_count() -> None:
    found = heard(Scripted("a", Level.HIGH), Scripted("b", Level.HIGH), dual=True)
    assert found.verdict is not None and found.verdict.engine == "a+b"
    assert costs_of(found.verdict) == 2 * PRICE_PICO
    assert found.verdict.request_id == "id-a,id-b" and found.verdict.disputed == ()
    assert found.events == []


def test_a_disagreement_is_for_review_and_counted_by_category() -> None:
    found = heard(Scripted("a", Level.HIGH), Scripted("b"), dual=True)
    assert found.verdict is not None and found.verdict.level is Level.HIGH
    assert found.verdict.disputed == ("values/other",)
    (event,) = found.events
    assert (event.kind, event.category) == (EngineEventKind.DISPUTED, "values/other")
    assert event.detail == "a=HIGH b=NONE"


@pytest.mark.parametrize(("third", "level"), [(Level.HIGH, Level.HIGH), (Level.NONE, Level.LOW)])
def test_a_third_engine_is_asked_only_where_two_disagree(third: Level, level: Level) -> None:
    c = Scripted("c", third)
    agreed = heard(Scripted("a"), Scripted("b"), c, rule=ArbitrationRule.THIRD, dual=True)
    assert agreed.verdict is not None and c.asked == 0
    found = heard(
        Scripted("a", Level.HIGH), Scripted("b"), c, rule=ArbitrationRule.THIRD, dual=True
    )
    assert found.verdict is not None and found.verdict.level is level
    assert (c.asked, found.verdict.engine) == (1, "a+b+c")
    assert found.kinds == [EngineEventKind.DISPUTED]


@pytest.mark.parametrize("third", [[], [Scripted("c", fails=EngineFailure.TIMEOUT)]])
def test_the_stricter_counts_where_no_third_decides(third: list[Scripted]) -> None:
    engines = [Scripted("a"), Scripted("b", Level.HIGH), *third]
    found = heard(*engines, rule=ArbitrationRule.THIRD, dual=True)
    assert found.verdict is not None and found.verdict.level is Level.HIGH


def test_a_third_engine_stands_in_for_one_that_fails() -> None:
    found = heard(
        Scripted("a", fails=EngineFailure.GARBAGE), Scripted("b"), Scripted("c"), dual=True
    )
    assert found.verdict is not None and found.verdict.engine == "b+c"
    assert found.kinds == [EngineEventKind.FAILED]


@pytest.mark.parametrize("policy", OnFailure)
def test_one_verdict_of_two_counts_only_where_the_other_may_be_missing(policy: OnFailure) -> None:
    found = heard(
        Scripted("a", Level.LOW), Scripted("b", fails=EngineFailure.UNREACHABLE),
        dual=True, on_failure=[OnFailure.BLOCK, policy],
    )  # fmt: skip
    if policy is OnFailure.BLOCK:
        assert found.failed is not None and found.failed.closed
        assert found.kinds == [EngineEventKind.FAILED, EngineEventKind.NO_VERDICT]
    else:
        assert found.verdict is not None and found.verdict.engine == "a"
        assert found.kinds == [EngineEventKind.FAILED, EngineEventKind.SINGLE]


def test_two_verdicts_are_not_wanted_of_one_engine() -> None:
    with pytest.raises(ValueError, match="2 engines"):
        ReviewedByEngines(
            [Reviewer(Scripted("a"))], ArbitrationRule.AGREE, print, time.monotonic, dual=True
        )


def test_a_caller_who_leaves_takes_every_question_along() -> None:
    a, b = Scripted("a", silent=True), Scripted("b", silent=True)

    async def leave() -> None:
        asked = asyncio.ensure_future(Heard().of([a, b], dual=True))
        await asyncio.wait_for(b.reached.wait(), LONG_S)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

    asyncio.run(leave())
    assert a.cancelled == b.cancelled == 1


def test_pictures_go_to_engines_that_take_them() -> None:
    a, b = Scripted("a", Level.HIGH), Scripted("b", Level.MEDIUM)
    b.takes_images = True
    review = ReviewedByEngines(
        [Reviewer(a), Reviewer(b)], ArbitrationRule.AGREE, print, time.monotonic, dual=False
    )
    assert review.takes_images
    picture = ("https://example.com/a.png",)
    found = asyncio.run(review.screen(("x",), Direction.INPUT, context(), picture))
    assert found.engine == "b"
    both = ReviewedByEngines(
        [Reviewer(a), Reviewer(b)], ArbitrationRule.AGREE, print, time.monotonic, dual=True
    )
    assert not both.takes_images
    with pytest.raises(EngineFailed) as caught:
        asyncio.run(both.screen(("x",), Direction.INPUT, context(), picture))
    assert caught.value.closed


# --- faults of real engines over sockets ---------------------------------------------------------

FAULTS = ("", "slow", "down", "garbage", "unjust", "throttled", "blind")


@pytest.mark.parametrize("policy", OnFailure)
@pytest.mark.parametrize("dual", [False, True])
def test_no_combination_of_faults_lets_a_call_pass_that_must_not(
    clouds: ModerationClouds, dual: bool, policy: OnFailure
) -> None:
    """Two engines, each in every state, a text that is prohibited."""
    outcomes: Counter[str] = Counter()

    async def ask(first: str, second: str) -> Heard:
        clouds.heal()
        for cloud, fault in ((clouds.alibaba, first), (clouds.tencent, second)):
            cloud.fault, cloud.left = fault, 0 if fault == "throttled" else None
        client = HttpClient()
        engines = [engine(name, clouds.url, client) for name in ("alibaba", "tencent")]
        slow = "slow" in (first, second)
        try:
            return await Heard().of(
                engines, dual=dual, on_failure=[policy, policy], text=f"说{GRAVE}",
                deadline_s=SLOW_S if slow else LONG_S,
            )  # fmt: skip
        finally:
            client.close()

    for first, second in itertools.product(FAULTS, FAULTS):
        found = asyncio.run(ask(first, second))
        broken = [fault for fault in (first, second) if fault not in ("", "blind")]
        kinds = set(found.kinds)
        where = (first, second, found.events)
        if found.failed is not None:
            outcomes["failed"] += 1
            assert broken, where
            assert found.failed.closed is (policy is OnFailure.BLOCK), where
            assert EngineEventKind.NO_VERDICT in kinds and EngineEventKind.FAILED in kinds, where
            continue
        assert found.verdict is not None
        passed = found.verdict.level < Level.HIGH
        outcomes["passed" if passed else "blocked"] += 1
        # It passes only by the word of an engine that sees nothing, and with no other to object.
        assert not passed or "blind" in (first, second), where
        if dual:
            assert not passed or "" not in (first, second), where
            if policy is OnFailure.BLOCK:
                assert not broken, ("closed, and yet it went on", where)
            if {first, second} == {"", "blind"}:
                assert kinds == {EngineEventKind.DISPUTED}, where
        if broken and (dual or first == broken[0]):
            assert kinds, ("a degradation without an audit event", where)
    assert outcomes["failed"] and outcomes["blocked"] and outcomes["passed"]
    assert sum(outcomes.values()) == len(FAULTS) ** 2
