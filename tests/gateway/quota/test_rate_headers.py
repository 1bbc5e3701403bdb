"""What callers are told of their rates: the tightest of each kind, and never of an old second."""

from __future__ import annotations

import random

from tokenschain.core.limits import ONE, TOKENS, Pool, Window
from tokenschain.gateway.quota.rate_headers import RateHeaders, RateLines, _duration


def told(headers: RateHeaders, now: float) -> dict[str, str]:
    lines = headers.lines(now).decode().split("\r\n")[:-1]
    return dict(line.removeprefix("x-ratelimit-").split(": ") for line in lines)


def of(*rates: tuple[int, Window | Pool]) -> RateHeaders:
    return RateHeaders([RateLines(kind, c.amount, c) for kind, c in rates])


def test_the_rate_with_the_least_left_speaks_for_its_kind() -> None:
    minute, second, tokens = Window(100, 60), Window(50, 1), Window(1_000, 60)
    headers = of((ONE, minute), (ONE, second), (TOKENS, tokens))
    for window, amount in ((minute, 10), (second, 1), (tokens, 300)):
        assert window.take(amount, 1_000.25)
    assert told(headers, 1_000.25) == {
        "limit-requests": "50", "remaining-requests": "49", "reset-requests": "2s",
        "limit-tokens": "1000", "remaining-tokens": "700", "reset-tokens": "1m1s",
    }  # fmt: skip
    assert minute.take(60, 1_000.25)
    assert told(headers, 1_000.25)["limit-requests"] == "100"
    tokens.settle(0, 5_000, 1_000.25)  # used beyond the limit
    assert told(headers, 1_000.25)["remaining-tokens"] == "0"


def test_a_lease_tells_what_it_and_its_owner_have_left() -> None:
    pool, window = Pool(100), Window(100, 60)
    pool.granted(10, 40)
    pool.reset_at_s = 1_002.0
    assert pool.take(3, 1_000.0) and window.take(10, 1_000.0)
    answer = told(of((ONE, window), (ONE, pool)), 1_000.5)
    assert answer == {
        "limit-requests": "100", "remaining-requests": "47", "reset-requests": "2s",
    }  # fmt: skip


def test_no_rates_are_no_headers() -> None:
    assert of().lines(1_000.0) == b""


def test_a_reset_that_was_kept_is_that_of_now() -> None:
    """Whatever happened since the lines were written: compared with those of a first answer."""
    chance, now = random.Random(16), 1_000.0
    windows = [Window(10**12, seconds) for seconds in (1, 60, 3_600)]
    kept = [of((ONE, window)) for window in windows]
    open_calls: list[int] = []
    for _ in range(3_000):
        now += chance.choice((0.0, 0.01, 0.3, 1.0, 20.0))
        amount = chance.randint(1, 9)
        for window in windows:
            window.take(amount, now)
            if open_calls and chance.random() < 0.5:
                window.settle(open_calls[0], chance.choice((0, open_calls[0])), now)
        open_calls = [*open_calls[-5:], amount]
        for window, headers in zip(windows, kept, strict=True):
            assert headers.lines(now) == of((ONE, window)).lines(now)


def test_a_time_is_written_as_openai_writes_it_and_never_less_than_it_is() -> None:
    for seconds, text in ((0.0001, "1ms"), (0.5, "500ms"), (1.2, "2s"), (61.0, "1m1s")):
        assert _duration(seconds) == text
