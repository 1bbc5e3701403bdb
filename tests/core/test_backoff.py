"""Back-off from what may be away."""

from __future__ import annotations

from tokenschain.core.backoff import Backoff


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


def test_loss_and_return_are_reported_once_each() -> None:
    told: list[tuple[str, str]] = []
    backoff = Backoff(Clock(), 1.0, name="redis", report=lambda *event: told.append(event))
    backoff.answered()
    for _ in range(3):
        backoff.failed("refused")
    for _ in range(2):
        backoff.answered()
    assert told == [("redis_lost", "refused"), ("redis_back", "")]
