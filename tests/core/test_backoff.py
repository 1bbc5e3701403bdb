"""Back-off from what may be away."""

from __future__ import annotations

from tokenschain.core.backoff import START_S, Backoff


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_pause_doubles_up_to_its_limit_and_begins_anew_after_an_answer() -> None:
    backoff = Backoff(Clock(), 1.0, 3.0)
    assert [backoff.failed() for _ in range(4)] == [1.0, 2.0, 3.0, 3.0]
    backoff.answered()
    assert backoff.failed() == 1.0


def test_it_may_be_asked_again_when_the_pause_is_over() -> None:
    clock = Clock()
    backoff = Backoff(clock, 2.0)
    assert backoff.wait_s == 0.0
    backoff.failed()
    clock.now = 1.5
    assert backoff.wait_s == 0.5 and backoff.is_lost
    clock.now = 2.0
    assert backoff.wait_s == 0.0 and backoff.is_lost, "nobody has asked it yet"
    backoff.answered()
    assert not backoff.is_lost


def test_loss_and_return_are_reported_once_each_with_cause_and_duration() -> None:
    clock, told = Clock(), []
    backoff = Backoff(
        clock,
        1.0,
        name="redis",
        report=lambda event, why="", **more: told.append((event, why, more)),
    )
    backoff.answered()
    for _ in range(3):
        backoff.failed("refused")
        clock.now += 2
    for _ in range(2):
        backoff.answered()
    assert told == [
        ("redis_lost", "refused", {"failed": 1, "retry_in_s": 1.0}),
        ("redis_back", "", {"failed": 3, "away_s": 6.0}),
    ]


def test_what_may_still_be_starting_is_awaited_and_lost_only_when_it_does_not_come() -> None:
    clock, told = Clock(), []
    backoff = Backoff(
        clock, 1.0, name="control", report=lambda event, *_, **more: told.append(event)
    )
    backoff.failed("refused")
    backoff.answered()
    assert told == ["control_awaited", "control_back"]
    told.clear()
    late = Backoff(clock, 1.0, name="control", report=lambda event, *_, **more: told.append(event))
    for _ in range(4):
        late.failed("refused")
        clock.now += START_S / 2
    assert told == ["control_awaited", "control_lost"]
