"""Gateways count what the others have sent, and forget who is gone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.routing.admission import ConcurrencyLimit
from tokenschain.core.routing.selection import Endpoint
from tokenschain.core.routing.shared_load import FRESH_S, RETELL_S, SharedLoad
from tokenschain.core.snapshot import Candidate, Offer, Upstream

KEY = ("u", "m")


def endpoint() -> Endpoint:
    upstream = Upstream("u", "custom", "http://u/v1")
    return Endpoint(Candidate(upstream, Offer("u", "m")), ConcurrencyLimit(64))


def gateways(count: int) -> list[tuple[Endpoint, SharedLoad]]:
    made = []
    for _ in range(count):
        own = endpoint()
        made.append((own, SharedLoad(lambda own=own: {KEY: own})))  # type: ignore[misc]
    return made


def tell(all_: list[tuple[Endpoint, SharedLoad]], now: float) -> None:
    told = [load.changes(now) for _, load in all_]
    for teller, rows in enumerate(told):
        for number, (_, load) in enumerate(all_):
            if number != teller and rows:
                load.heard(str(teller), rows, now)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 50_000)), max_size=30))
def test_each_gateway_counts_what_all_have_sent(sent: list[tuple[int, int]]) -> None:
    all_ = gateways(4)
    for at, (who, tokens) in enumerate(sent):
        all_[who][0].begin(tokens)
        tell(all_, 0.05 * at)
    tell(all_, 2.0)
    total = sum(tokens for _, tokens in sent)
    assert [e.prefill_tokens for e, _ in all_] == [total] * 4
    for who, tokens in sent:
        all_[who][0].silent(tokens)
    tell(all_, 2.1)
    assert [e.prefill_tokens for e, _ in all_] == [0] * 4


def test_before_they_tell_the_others_are_taken_to_do_the_same() -> None:
    (mine, load), (other, _) = all_ = gateways(2)
    other.begin(10)
    tell(all_, 0.0)
    load.changes(RETELL_S)
    assert mine.others == 1
    assert mine.begin(1_000) == 1_010, "what is ahead of it is what is known"
    assert mine.prefill_tokens == 10 + 2_000
    tell(all_, RETELL_S + 0.05)
    assert mine.prefill_tokens == 1_010


def test_a_gateway_that_falls_silent_is_forgotten_and_one_that_waits_is_not() -> None:
    (mine, load), (other, theirs) = all_ = gateways(2)
    other.begin(700)
    tell(all_, 0.0)
    for step in range(1, 10):
        load.heard("1", theirs.changes(step * RETELL_S), step * RETELL_S)
        load.changes(step * RETELL_S)
    assert mine.prefill_tokens == 700
    load.changes(9 * RETELL_S + FRESH_S + 0.1)
    assert mine.prefill_tokens == 0


def test_alone_again_nothing_of_the_others_counts() -> None:
    (mine, load), (other, _) = all_ = gateways(2)
    other.begin(700)
    mine.begin(300)
    tell(all_, 0.0)
    load.alone()
    assert mine.prefill_tokens == 300
