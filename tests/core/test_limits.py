"""Counting: what a window, a lease and the shared counts never do."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.servers import RedisStack
from tokenschain.core.limits import (
    AT_ONCE,
    ONE,
    SLOTS,
    SPEND,
    TOKENS,
    AtOnce,
    Budget,
    Counters,
    Facts,
    LeaseRequest,
    Pool,
    Rate,
    Selector,
    SharedRates,
    Window,
    subject_of,
)
from tokenschain.core.snapshot import Served, Snapshot
from tokenschain.core.tags import parse as parse_tags
from tokenschain.infra.redis.rate_limits import RedisRateLimits

TAKES = st.lists(st.tuples(st.floats(0, 40), st.integers(1, 5)), max_size=200)


@settings(max_examples=200, deadline=None)
@given(TAKES, st.integers(1, 30), st.sampled_from(sorted(SLOTS)))
def test_no_window_of_any_place_ever_holds_more_than_its_amount(
    takes: list[tuple[float, int]], amount: int, window_s: int
) -> None:
    window = Window(amount, window_s)
    now, taken = 1_000.0, []
    for pause, size in takes:
        now += pause * window_s / 60
        if window.take(size, now):
            taken.append((now, size))
    for ends, _ in taken:
        inside = sum(size for at, size in taken if ends - window_s < at <= ends)
        assert inside <= amount


@settings(max_examples=100, deadline=None)
@given(TAKES)
def test_a_window_that_waits_as_told_has_room(takes: list[tuple[float, int]]) -> None:
    window = Window(5, 60)
    now = 0.0
    for pause, size in takes:
        now += pause
        if not window.take(size, now):
            now += window.wait_s(size, now) + 1e-6
            assert window.take(size, now)


def test_what_is_given_back_may_be_taken_again_and_what_was_more_is_counted() -> None:
    window = Window(100, 60)
    assert window.take(90, 0.0) and not window.take(20, 1.0)
    window.settle(90, 30, 2.0)
    assert window.left(2.0) == 70
    window.settle(0, 500, 3.0)  # longer than anyone thought
    assert window.left(3.0) == 0 and window.used == 530
    assert window.left(64.5) == 100


class SlowWindow:
    """The same as `Window`, slot by slot and without a short cut."""

    def __init__(self, amount: int, window_s: int) -> None:
        self.amount, self.slots = amount, SLOTS[window_s]
        self.slot_s = window_s / self.slots
        self.counts: dict[int, int] = {}

    @property
    def used(self) -> int:
        return sum(self.counts.values())

    def take(self, amount: int, now: float) -> bool:
        at = int(now / self.slot_s)
        self.counts = {slot: n for slot, n in self.counts.items() if slot >= at - self.slots}
        if self.used + amount > self.amount:
            return False
        self.counts[at] = self.counts.get(at, 0) + amount
        return True

    def settle(self, taken: int, used: int, now: float) -> None:
        self.take(self.amount + 1, now)
        change = used - taken
        if change > 0:
            at = int(now / self.slot_s)
            self.counts[at] = self.counts.get(at, 0) + change
        for slot in sorted(self.counts, reverse=True) if change < 0 else ():
            part = min(self.counts[slot], -change)
            self.counts[slot] -= part
            change += part


STEPS = st.lists(
    st.tuples(st.floats(0, 30), st.integers(0, 3), st.integers(0, 9), st.integers(0, 15)),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_counts_in_flat_loops_are_those_of_each_count_by_itself(
    steps: list[tuple[float, int, int, int]],
) -> None:
    def leased(amount: int) -> Pool:
        pool = Pool(1_000)
        pool.granted(amount, 1_000)
        return pool

    def counts() -> list[tuple[Window | AtOnce | Pool, int]]:
        return [
            (Window(12, 60), ONE), (Window(60, 60), TOKENS), (Window(400, 1), SPEND),
            (AtOnce(4), AT_ONCE), (leased(9), ONE), (leased(80), TOKENS), (leased(5), AT_ONCE),
        ]  # fmt: skip

    flat, single = counts(), counts()
    slow = [SlowWindow(12, 60), SlowWindow(60, 60), SlowWindow(400, 1)]
    counters = Counters(flat)
    now, open_calls = 1_000.0, []
    for pause, ends, tokens, really in steps:
        now += pause
        amounts = (1, tokens, 10 * tokens, 1)
        for window, _ in (*flat[:3], *single[:3]):
            window.left(now)
        room = [c.left if isinstance(c, Pool) else c.amount - c.used for c, _ in single]
        fits = all(n >= amounts[kind] for n, (_, kind) in zip(room, single, strict=True))
        assert counters.take(amounts, now) is fits
        if fits:
            open_calls.append((amounts, (1, really, 10 * really, 0)))
            for counter, kind in single:
                assert counter.take(amounts[kind], now)
        for window, kind in zip(slow, (ONE, TOKENS, SPEND), strict=True):
            assert window.take(amounts[kind] if fits else 10**9, now) is fits
        for taken, used in open_calls[:ends]:
            counters.settle(taken, used[TOKENS], used[SPEND], now)
            for counter, kind in (*single, *zip(slow, (ONE, TOKENS, SPEND), strict=True)):
                counter.settle(taken[kind], used[kind], now)
        del open_calls[:ends]
        assert [c.used for c, _ in flat[:3]] == [window.used for window in slow]
        for (one, _), (other, _) in zip(flat, single, strict=True):
            names = set(type(one).__slots__) - {"_counts", "used_since"}
            assert [getattr(one, n) for n in names] == [getattr(other, n) for n in names]


def test_tags_and_selectors_find_the_calls_they_mean() -> None:
    tags = parse_tags("subject=other, vip ,user=ann, ,=x", ("subject=math", "team=a"))
    assert tags == {"subject": "math", "team": "a", "vip": "vip", "user": "ann"}
    facts = Facts("t", "a", "p", "e", "k", "m", tags)
    assert subject_of(Rate("1", "requests", 1), facts) == ""
    assert subject_of(Rate("1", "requests", 1, match=Selector(tenant="u")), facts) is None
    by_user = Budget(
        "b", "spend", 1, match=Selector(tag="subject=math"), per=("tag:user", "key_id")
    )
    assert subject_of(by_user, facts) == "ann\x1fk"
    assert subject_of(by_user, facts._replace(tags={})) is None
    assert len(parse_tags(",".join(f"t{n}=1" for n in range(100)))) == 32


def draws(rates: list[Rate], seed: int) -> list[tuple[Rate, str, LeaseRequest]]:
    chance = random.Random(seed)
    made = []
    for _ in range(300):
        rate = chance.choice(rates)
        need = chance.randint(0, 4)
        made.append(
            (
                rate,
                chance.choice(["x", "y"]),
                LeaseRequest(rate.id, "s", need + chance.randint(0, 3), need),
            )
        )
    return made


def test_redis_and_memory_grant_the_same(redis: RedisStack) -> None:
    rates = [Rate("min", "requests", 40), Rate("hour", "tokens", 70, 3_600)]
    served = Served(Snapshot("1", {}, {}, rates=tuple(rates)))

    async def run() -> None:
        redis.flush()
        gateways = {name: RedisRateLimits(redis.url, served, name) for name in ("x", "y")}
        memory = SharedRates()
        for rate, holder, request in draws(rates, 5):
            (theirs,) = await gateways[holder].draw([request])
            ours = memory.draw(rate, request, holder, 1_000.0)
            assert (theirs.granted, theirs.left) == (ours.granted, ours.left)
        assert gateways["x"].gateways == 2
        for gateway in gateways.values():
            await gateway.close()

    asyncio.run(run())


@pytest.mark.parametrize("backend", ["memory", "redis"])
def test_calls_at_once_of_a_dead_gateway_are_free_again(backend: str, redis: RedisStack) -> None:
    rate = Rate("busy", "concurrent", 5)
    served = Served(Snapshot("1", {}, {}, rates=(rate,)))

    async def run() -> None:
        redis.flush()
        memory = SharedRates()
        made = {name: RedisRateLimits(redis.url, served, name) for name in ("dead", "alive")}

        async def draw(holder: str, want: int, held: int, now: float) -> int:
            request = LeaseRequest("busy", "", want, max(0, want), held)
            if backend == "memory":
                return memory.draw(rate, request, holder, now).granted
            return (await made[holder].draw([request]))[0].granted

        assert await draw("dead", 4, 0, 0.0) == 4
        assert await draw("alive", 3, 0, 1.0) == 1
        assert await draw("alive", -1, 1, 2.0) == -1
        assert await draw("alive", 2, 0, 3.0) == 1
        if backend == "redis":  # its clock is its own: let the holder's mark be old
            client = made["alive"]._redis
            key = "{tokenschain}:rate:busy:concurrent60:"
            await client.hset(key, "dead", "4 1")
        assert await draw("alive", 4, 1, 30.0) == 4
        for gateway in made.values():
            await gateway.close()

    asyncio.run(run())


def test_what_calls_wait_for_is_not_given_back() -> None:
    """An exchange may begin between a grant and the calls that take it."""
    pool = Pool(60)
    pool.granted(49, 10)
    assert pool.request(49) == 0 and pool.surplus(49) == 0
    assert pool.surplus(0) == 49


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6), st.booleans()), max_size=300))
def test_leases_of_three_processes_never_exceed_the_shared_window(
    steps: list[tuple[int, int, bool]],
) -> None:
    """Whatever order they draw, use, settle and give back in."""
    rate = Rate("r", "tokens", 50)
    shared = SharedRates()
    pools = [Pool(rate.amount) for _ in range(3)]
    used: dict[int, int] = defaultdict(int)
    for who, size, gives_back in steps:
        pool = pools[who]
        if gives_back:
            surplus = pool.surplus(0)
            pool.left -= surplus
            shared.draw(rate, LeaseRequest("r", "", -surplus), str(who), 0.0)
            continue
        if not pool.take(size, 0.0):
            request = LeaseRequest("r", "", pool.request(size), max(0, size - pool.left))
            lease = shared.draw(rate, request, str(who), 0.0)
            pool.granted(lease.granted, lease.left)
            if not pool.take(size, 0.0):
                continue
        pool.settle(size, size, 0.0)
        used[who] += size
    assert sum(used.values()) <= rate.amount
    held = sum(pool.left for pool in pools)
    assert sum(used.values()) + held <= rate.amount


def test_a_reset_is_when_the_last_use_is_forgotten() -> None:
    window = Window(100, 60)
    assert window.reset_s(5.0) == 0.0
    assert window.take(3, 5.0) and window.take(2, 20.5)
    reset_s = window.reset_s(30.0)
    assert 50.5 <= reset_s <= 52.0
    assert window.left(30.0 + reset_s - 0.01) == 98
    assert window.left(30.0 + reset_s) == 100 and window.reset_s(30.0 + reset_s) == 0.0
