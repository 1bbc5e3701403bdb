"""The pipeline on fakes: the order of the steps, what each way out settles, who is tried next."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from tests.fakes import BODY, CHAT, FakeHouse, LoggedReservation, LoggedSteps
from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import UNREAD
from tokenschain.core.snapshot import Plan
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.pipeline import answer_at_once, serve


def down(code: str = "upstream_unreachable") -> ApiError:
    return ApiError(code, "down")


STEPS = (
    "admit",
    "authenticate",
    "load conversation",
    "parse",
    "plan",
    "reserve",
    "screen input",
    "look up",
    "record the output",
    "open",
    "deliver",
)
"""In the order that the pipeline promises."""
MAY_FAIL = [step for step in STEPS if step != "record the output"]


def begun_by(step: str) -> list[str]:
    """What has to be settled when the call ends in this step, in order."""
    at = STEPS.index(step)
    settled = ["record"]
    if at >= STEPS.index("reserve"):
        settled.append("settle reservation")
    if at >= STEPS.index("look up"):
        settled.append("settle flight")
    return settled


class ReadySteps(LoggedSteps):
    """Steps of which none waits, and an answer that stands ready."""

    parsed = CHAT.parse(BODY)

    def reserve(self, call: Call, caller: KeyGrant, plan: Plan) -> None:  # type: ignore[override]
        call.reservation = LoggedReservation(self.log)
        self._do("reserve")

    def screen_input(self, call: Call, caller: KeyGrant, plan: Plan) -> None:  # type: ignore[override]
        self._do("screen input")

    def holds(self, call: Call, plan: Plan) -> bool:
        self._do("hold")
        return True

    def give(self, call: Call) -> bytes:
        self._do("give")
        return b"ready"


READY_STEPS = ("admit", "authenticate", "plan", "hold", "screen input", "reserve", "give")


def test_an_answer_that_stands_ready_is_given_by_the_same_steps_without_waiting() -> None:
    steps = ReadySteps()
    assert answer_at_once(steps.call(), steps.steps, steps)
    assert steps.log == [*READY_STEPS, "record", "settle reservation", "close ready"]


@pytest.mark.parametrize("step", READY_STEPS[:-1])
def test_a_call_that_is_refused_before_its_ready_answer_is_left_untouched(step: str) -> None:
    steps = ReadySteps(step, down("invalid_value"))
    call = steps.call()
    assert not answer_at_once(call, steps.steps, steps)
    assert steps.log == list(READY_STEPS[: READY_STEPS.index(step) + 1])
    assert call.parsed is UNREAD and call.reservation is None and call.error is None


@pytest.mark.parametrize("waits", ["reserve", "screen_input"])
def test_a_call_that_would_have_to_wait_for_a_step_is_left_before_it(
    waits: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = ReadySteps()
    monkeypatch.setattr(steps, waits, partial(getattr(LoggedSteps, waits), steps))
    assert not answer_at_once(steps.call(), steps.steps, steps)
    assert waits.replace("_", " ") not in steps.log and "give" not in steps.log


def test_a_fault_while_a_ready_answer_is_given_settles_what_was_begun() -> None:
    steps = ReadySteps("give", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        answer_at_once(steps.call(), steps.steps, steps)
    assert steps.log == [*READY_STEPS, "record", "settle reservation"]


def test_each_step_comes_in_its_place() -> None:
    all_steps = LoggedSteps()
    asyncio.run(serve(all_steps.call(), all_steps.steps))
    assert all_steps.log == [
        *STEPS, "recorded first", "record", "settle reservation", "settle flight last",
        "close last",
    ]  # fmt: skip


@pytest.mark.parametrize("step", MAY_FAIL)
def test_a_refusal_ends_the_call_there_and_settles_what_was_begun(step: str) -> None:
    all_steps = LoggedSteps(step, down("invalid_value"))
    asyncio.run(serve(all_steps.call(), all_steps.steps))
    before = list(STEPS[: STEPS.index(step) + 1])
    assert all_steps.log == [*before, *begun_by(step), "close invalid_value"]


@pytest.mark.parametrize("step", MAY_FAIL)
@pytest.mark.parametrize("fault", [ZeroDivisionError(), asyncio.CancelledError()])
def test_a_fault_or_a_caller_who_leaves_settles_what_was_begun(
    step: str, fault: BaseException
) -> None:
    all_steps = LoggedSteps(step, fault)
    call = all_steps.call()
    with pytest.raises(type(fault)):
        asyncio.run(serve(call, all_steps.steps))
    before = list(STEPS[: STEPS.index(step) + 1])
    assert all_steps.log == [*before, *begun_by(step)], "whoever runs the call closes it"


def test_what_the_cache_has_needs_no_upstream_and_is_not_recorded_again() -> None:
    all_steps = LoggedSteps()
    all_steps.hit = True
    asyncio.run(serve(all_steps.call(), all_steps.steps))
    looked_up = list(STEPS[: STEPS.index("look up") + 1])
    assert all_steps.log == [
        *looked_up, "deliver", "first", "record", "settle reservation", "close last",
    ]  # fmt: skip


def test_the_first_cause_is_told_when_a_call_fails_twice() -> None:
    all_steps = LoggedSteps("deliver", down("upstream_interrupted"))
    call = all_steps.call()
    call.fail(down("caller_gone"))
    asyncio.run(serve(call, all_steps.steps))
    assert all_steps.log[-1] == "close caller_gone"


def test_a_failed_upstream_is_followed_by_the_next_one() -> None:
    house = FakeHouse(first=down(), second=["a", "b"])
    asyncio.run(serve(house.call(), house.steps))
    assert house.log == ["open first", "open second", "a", "settle ok", "close b"]


def test_an_upstream_that_blames_the_call_ends_it() -> None:
    house = FakeHouse(first=down("invalid_request"), second=["a"])
    asyncio.run(serve(house.call(), house.steps))
    assert house.log == ["open first", "settle invalid_request", "close invalid_request"]


def test_when_all_fail_the_last_failure_is_told() -> None:
    house = FakeHouse(first=down(), second=down("upstream_timeout"))
    asyncio.run(serve(house.call(), house.steps))
    assert house.log[-2:] == ["settle upstream_timeout", "close upstream_timeout"]


def test_without_room_in_the_journal_no_upstream_is_troubled() -> None:
    house = FakeHouse(first=["a"])
    house.room = down("journal_full")
    asyncio.run(serve(house.call(), house.steps))
    assert house.log == ["settle journal_full", "close journal_full"]


def test_a_bad_body_is_settled_as_what_it_is() -> None:
    house = FakeHouse(first=["a"])
    asyncio.run(serve(house.call(b"{"), house.steps))
    assert house.log == ["settle invalid_json", "close invalid_json"]


def test_a_fault_of_our_own_is_recorded_as_one_and_goes_up() -> None:
    house = FakeHouse(first=ZeroDivisionError("secret inside"))
    call = house.call()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(serve(call, house.steps))
    assert house.log == ["open first", "settle internal_error"]
    assert call.error is not None and "secret" not in call.error.message
