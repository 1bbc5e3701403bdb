"""Health, admission, rules and scoring: the decisions without a clock or a socket."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tokenschain.core.errors import ERRORS
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.pricing.catalog import Price, PriceTier
from tokenschain.core.routing import virtual_models
from tokenschain.core.routing.admission import (
    RULES,
    AdmissionQueue,
    ConcurrencyLimit,
    Priority,
    Service,
    Waiting,
)
from tokenschain.core.routing.health import (
    RETRIES_LEFT_MAX,
    AttemptOutcome,
    Health,
    RetryBudget,
    outcome_of,
)
from tokenschain.core.routing.regions import round_trip_s
from tokenschain.core.routing.selection import (
    MANY,
    NO_DEADLINE,
    Endpoint,
    Need,
    decide,
)
from tokenschain.core.snapshot import Candidate, Offer, Upstream
from tokenschain.core.snapshot.routing_policy import POLICIES
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry, When
from tokenschain.core.tags import tags_of

HARD, RATE = AttemptOutcome.HARD, AttemptOutcome.RATE


# --- health ------------------------------------------------------------------------------


def opened(now: float = 0.0) -> Health:
    health = Health()
    for _ in range(3):
        health.failed(HARD, now, None, 0.5)
    return health


def test_three_failures_on_end_open_the_breaker_for_a_second_and_one_trial_closes_it() -> None:
    health = opened()
    assert health.is_open and not health.allows(0.9)
    assert health.allows(1.0)
    health.begin()
    assert not health.allows(1.0), "one trial at a time"
    health.succeeded(1.1)
    assert not health.is_open and health.allows(1.1)


def test_each_failed_trial_doubles_the_time_it_stays_open_up_to_half_a_minute() -> None:
    health, now, waits = opened(), 0.0, []
    for _ in range(8):
        waits.append(health.reopens_at - now)
        now = health.reopens_at
        health.begin()
        health.failed(HARD, now, None, 0.5)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]


def test_a_trial_that_is_limited_is_a_failed_trial() -> None:
    health = opened()
    health.begin()
    health.failed(RATE, 1.0, None, 0.5)
    assert health.is_open and not health.allows(1.0)


def test_success_between_failures_keeps_it_closed_but_a_bad_window_opens_it() -> None:
    health = Health()
    for number in range(30):
        now = number / 10
        health.failed(HARD, now, None, 0.5) if number % 2 else health.succeeded(now)
    assert health.is_open, "half of 20 calls failed within 10 s"


@pytest.mark.parametrize("outcome", [AttemptOutcome.CLIENT, AttemptOutcome.CANCEL])
def test_a_callers_fault_never_opens_the_breaker(outcome: AttemptOutcome) -> None:
    health = Health()
    for number in range(500):
        health.failed(outcome, number / 100, None, 0.5)
    assert health.state(5.0) == "closed" and health.success_share(5.0) == 1.0


def test_a_limited_upstream_rests_as_long_as_it_asked() -> None:
    health = Health()
    health.failed(RATE, 0.0, 7.0, 0.5)
    assert health.state(6.9) == "resting" and health.allows(7.0)
    health.failed(RATE, 7.0, 9_999.0, 0.5)
    assert health.ready_in_s(7.0) == 60.0


def test_a_trial_whose_caller_leaves_makes_room_for_another() -> None:
    health = opened()
    health.begin()
    assert not health.allows(1.0)
    health.withdrawn()
    assert health.allows(1.0)


def test_load_comes_back_slowly_after_the_breaker_closed() -> None:
    health = opened()
    health.begin()
    health.succeeded(1.0)
    assert health.share(1.0) == pytest.approx(0.1)
    assert health.share(6.0) == pytest.approx(0.5)
    for _ in range(3):
        health.succeeded(6.0)
    assert health.share(11.0) == 1.0 and health.state(11.0) == "closed"


def test_every_error_has_an_outcome() -> None:
    for code in ERRORS:
        outcome_of(code)
    assert outcome_of("upstream_failed") is HARD
    assert outcome_of("upstream_rate_limited") is RATE
    assert outcome_of("upstream_out_of_funds") is AttemptOutcome.AUTH
    assert outcome_of("context_length_exceeded") is AttemptOutcome.CLIENT
    assert outcome_of("caller_gone") is AttemptOutcome.CANCEL


def test_retries_are_a_fifth_of_calls_and_three_a_second() -> None:
    budget = RetryBudget()
    assert sum(budget.take(0.0) for _ in range(1_000)) == 30
    budget.calls += 100
    assert sum(budget.take(0.0) for _ in range(1_000)) == 20
    assert sum(budget.take(2.0) for _ in range(1_000)) == 6
    budget.calls += 1_000_000
    assert sum(budget.take(2.0) for _ in range(1_000)) == RETRIES_LEFT_MAX, "not for ever"


def test_a_region_that_goes_at_once_is_left_alone_as_a_whole() -> None:
    from tests.fakes import price
    from tokenschain.core.snapshot import ModelRoute, Served, Snapshot
    from tokenschain.gateway.dispatch.router import Router

    regions = {"a": "cn-beijing", "b": "cn-beijing", "c": "cn-beijing", "d": "cn-shanghai"}
    upstreams = {n: Upstream(n, "sim", "http://x/v1", region=r) for n, r in regions.items()}
    offers = tuple(Offer(name, "m", price(0)) for name in upstreams)
    served = Served(Snapshot("1", upstreams, {"m": ModelRoute("m", "chat", offers)}))
    router = Router(served, lambda: 1.0, lambda: 1.0, lambda: 0.5)
    plan = served.directory("").known("m", "chat")
    assert plan is not None
    by_name = {e.name: e for e in router.endpoints(plan)}
    for name in ("a", "b"):
        for _ in range(3):
            opened = by_name[name].health.failed(HARD, 1.0, None, 0.5)
        assert opened
        others = router.breaker_opened(by_name[name])
    assert list(others) == ["c"] and by_name["c"].health.is_open
    assert not by_name["d"].health.is_open


# --- admission ---------------------------------------------------------------------------


def wait(priority: Priority, tenant: str = "t", since: float = 0.0, deadline: float = 10.0):
    return Waiting(f"{tenant}{since}", priority, tenant, since, deadline)


def test_classes_go_first_and_deadlines_decide_within_one() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(Service())
    late = wait(Priority.INTERACTIVE, deadline=9)
    soon = wait(Priority.INTERACTIVE, deadline=3)
    bulk = wait(Priority.BULK, deadline=1)
    for one in (bulk, late, soon):
        assert queue.add(one)
    order = []
    while (head := queue.head(0.1)) is not None:
        queue.take(head, 0.1)
        order.append(head)
    assert order == [soon, late, bulk]


def test_bulk_is_not_starved() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(Service())
    old = wait(Priority.BULK, deadline=1_000)
    queue.add(old)
    queue.add(wait(Priority.INTERACTIVE, since=119, deadline=130))
    assert queue.head(119) is not old
    assert queue.head(RULES[Priority.BULK].starved_s + 1) is old


def test_service_is_fair_between_busy_tenants_whatever_they_send() -> None:
    """VTC: the gap between two tenants that always wait stays bounded."""
    service = Service()
    queue: AdmissionQueue[str] = AdmissionQueue(service)
    rng = random.Random(1)
    served = {"small": 0, "large": 0}
    size = {"small": 200, "large": 4_000}
    for tenant in served:
        for number in range(400):
            queue.add(wait(Priority.DEFAULT, tenant, number / 1e6, 1_000 + rng.random()))
    for step in range(300):
        head = queue.head(step / 100)
        assert head is not None
        queue.take(head, step / 100)
        served[head.tenant] += size[head.tenant]
        service.charge(head.tenant, size[head.tenant], 0, 1.0)
        if served["small"] >= 60_000:
            break
    assert abs(served["small"] - served["large"]) <= 2 * 5_000 + 4_000


def order_of(priority: Priority, prefixes: list[int], apart_s: float = 0.0) -> list[int]:
    """Prefixes in the order in which calls that came one after the other get their places."""
    queue: AdmissionQueue[str] = AdmissionQueue(Service())
    for number, prefix in enumerate(prefixes):
        since = number * apart_s
        waiting = Waiting(str(number), priority, "t", since, since + 1_000, prefix)
        assert queue.add(waiting)
    order = []
    while (head := queue.head(len(prefixes) * apart_s)) is not None:
        queue.take(head, 0.0)
        order.append(head.prefix)
    return order


def test_calls_that_begin_alike_go_together_where_nobody_watches() -> None:
    mixed = [1, 2, 3] * 4
    assert order_of(Priority.BULK, mixed) == [1] * 4 + [2] * 4 + [3] * 4
    assert order_of(Priority.DEFAULT, mixed) == [1] * 4 + [2] * 4 + [3] * 4
    assert order_of(Priority.INTERACTIVE, mixed) == mixed
    assert order_of(Priority.BULK, [0] * 3 + [1, 0, 1]) == [0] * 3 + [1, 1, 0], "0 says nothing"


def test_nobody_waits_long_for_others_that_begin_alike() -> None:
    # One kind comes all the time: the other has its turn after nine of it.
    assert order_of(Priority.BULK, [1, 2] + [1] * 30)[:10] == [1] * 9 + [2]
    # Who waits for long is not passed by, nor by those whose turn is far off.
    waited = RULES[Priority.BULK].wait_max_s * 0.2 + 1
    assert order_of(Priority.BULK, [1, 2, 1], waited / 2) == [1, 2, 1]


def test_engines_find_more_of_what_they_have_just_worked_off() -> None:
    """Of six kinds in random order an engine that remembers two finds a third; now two thirds."""
    rng = random.Random(3)
    kinds = [rng.randrange(1, 7) for _ in range(300)]

    def found(order: list[int]) -> float:
        kept: list[int] = []
        hits = 0
        for kind in order:
            hits += kind in kept
            kept = [kind, *(other for other in kept if other != kind)][:2]
        return hits / len(order)

    assert found(kinds) < 0.4
    assert found(order_of(Priority.BULK, kinds)) > 0.66


def test_an_idle_tenant_saves_nothing_up() -> None:
    service = Service()
    queue: AdmissionQueue[str] = AdmissionQueue(service)
    queue.add(wait(Priority.DEFAULT, "busy"))
    service.charge("busy", 1_000_000, 0, 1.0)
    queue.add(wait(Priority.DEFAULT, "new"))
    assert service.of("new") == service.of("busy")


def test_a_queue_that_stands_sheds_the_newest_of_the_lowest_class_first() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(Service())
    kept = wait(Priority.INTERACTIVE, "a", 0.0)
    shed = wait(Priority.DEFAULT, "a", 0.2)
    queue.add(wait(Priority.DEFAULT, "a", 0.1))
    queue.add(shed)
    queue.add(kept)
    assert queue.shed(0.05) is None
    assert queue.shed(0.2) is None, "above the target, but not for long enough"
    assert queue.shed(1.3) is shed
    assert queue.shed(1.31) is None, "one an interval"


def test_who_would_wait_too_long_is_refused_at_once() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(Service())
    taken = []
    for second in range(60):  # two a second come, one a second gets a place
        taken += [queue.add(wait(Priority.INTERACTIVE, "a", second, second + 2)) for _ in range(2)]
        head = queue.head(second)
        assert head is not None
        queue.take(head, second)
    most = RULES[Priority.INTERACTIVE].wait_max_s
    assert not all(taken[-20:]) and any(taken[-20:])
    assert len(queue) <= most + 2
    assert queue.add(wait(Priority.SYSTEM, "a", 60, 1_000)), "classes above do not wait for it"


def test_a_limit_climbs_to_the_peak_of_throughput() -> None:
    """Twice the work at 32 of what 64 bring, as a machine does that runs out of memory."""
    limit = ConcurrencyLimit(64)
    for _ in range(3_000):
        calls = limit.calls
        rate = 20.0 * calls if calls <= 32 else 640.0 - 10 * (calls - 32)
        limit.answered(0, 100, 100 * calls / rate, calls)
    assert 24 <= limit.calls <= 42


def test_a_limit_that_is_not_used_up_stays_and_a_refusal_makes_it_smaller() -> None:
    limit = ConcurrencyLimit(64)
    for _ in range(1_000):
        limit.answered(0, 100, 1.0, 10)
    assert limit.calls == 64
    limit.refused(40, 200.0)
    assert limit.calls == int(41 * 0.7)


def test_a_refusal_with_few_calls_in_flight_is_about_their_rate() -> None:
    limit = ConcurrencyLimit(1_000)
    for number in range(20):
        limit.refused(0, float(number))
    assert limit.calls == 8
    small = ConcurrencyLimit(2)
    small.refused(1, 1.0)
    assert small.calls == 2


def test_what_the_operator_allows_may_change_and_what_was_learned_stays() -> None:
    limit = ConcurrencyLimit(64)
    limit.allow(100)
    assert limit.calls == 100
    limit.refused(40, 1.0)
    limit.allow(200)
    assert limit.calls == 28
    limit.allow(10)
    assert limit.calls == 10


# --- rules -------------------------------------------------------------------------------


def facts(text: str, tags: str = "", **fields: object) -> virtual_models.CallTraits:
    import msgspec

    body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
    return virtual_models.CallTraits(
        parse(Api.CHAT, msgspec.json.encode(body)), tags_of(tags.encode())
    )


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("请审阅这份采购合同的违约条款", "zh"),
        ("Please summarise this quarterly report.", "en"),
        ("この契約書を要約してください", "ja"),
        ("이 계약서를 요약해 주세요", "ko"),
        ("Обобщите этот договор", "ru"),
        ("用 Python 写一个 HTTP server", "zh"),
        ("12345 !!!", ""),
    ],
)
def test_the_language_of_the_last_message(text: str, language: str) -> None:
    assert facts(text).language == language


CONTRACTS = (
    VirtualModelEntry("glm", when=When(language="zh", tags=("contract",))),
    VirtualModelEntry("llama", when=When(language="en")),
    VirtualModelEntry("qwen"),
)


def test_chinese_contracts_go_to_glm_and_english_reports_to_llama() -> None:
    def models(text: str, tags: str = "") -> list[str]:
        return [e.model for e in virtual_models.ordered(CONTRACTS, facts(text, tags), lambda: 0.5)]

    assert models("请审阅这份合同", "contract") == ["glm", "qwen"]
    assert models("Summarise this report.") == ["llama", "qwen"]
    assert models("请审阅这份合同") == ["qwen"]


def test_needs_and_lengths_are_conditions_too() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    assert virtual_models.holds(When(needs=("tools",)), facts("x", tools=[tool]))
    assert not virtual_models.holds(When(needs=("vision",)), facts("x", tools=[tool]))
    assert virtual_models.holds(When(prompt_tokens_min=100), facts("word " * 200))
    assert not virtual_models.holds(When(prompt_tokens_max=100), facts("word " * 200))


def test_weights_share_the_turn() -> None:
    rng = random.Random(1).random
    entries = (
        VirtualModelEntry("a", weight=3),
        VirtualModelEntry("b", weight=1),
        VirtualModelEntry("c"),
    )
    first = [virtual_models.ordered(entries, facts("x"), rng)[0].model for _ in range(4_000)]
    assert first.count("a") / 4_000 == pytest.approx(0.75, abs=0.03)
    assert "c" not in first


# --- scoring -----------------------------------------------------------------------------


def endpoint(name: str, price: int = 100, base_s: float = 0.1, zone: str = "cn") -> Endpoint:
    offer = Offer(name, "m", Price("CNY", (PriceTier(price, price),), "t"))
    made = Endpoint(
        Candidate(Upstream(name, "sim", "http://x/v1", zone=zone), offer), ConcurrencyLimit(10)
    )
    made.spoke(0, made.begin(0), base_s, 0.0)
    made.inflight = 0
    return made


NEED = Need(1_000, 100, 2.0, bucket=1)


def choose(endpoints: list[Endpoint], policy: str, now: float = 0.0, **more: float) -> str | None:
    found = decide(endpoints, NEED, POLICIES[policy], now, lambda: 0.5, **more)
    return found.endpoint.name if found.endpoint is not None else None


def test_each_policy_has_its_own_best() -> None:
    fast, cheap = endpoint("fast", 300, 0.1), endpoint("cheap", 100, 1.0)
    assert choose([fast, cheap], "performance-first") == "fast"
    assert choose([fast, cheap], "cost-first") == "cheap"
    trusted = endpoint("trusted", 900, 1.0, zone="gov")
    assert choose([fast, cheap, trusted], "compliance-first") == "trusted"


def test_cheap_is_no_excuse_for_being_late() -> None:
    slow, fast = endpoint("slow", 100, 5.0), endpoint("fast", 300, 0.2)
    assert choose([slow, fast], "cost-first") == "fast"
    assert choose([slow, endpoint("slower", 50, 9.0)], "cost-first") == "slow"


def test_a_full_upstream_is_passed_over_and_all_full_is_no_room() -> None:
    one, two = endpoint("one", 100), endpoint("two", 200)
    one.inflight = 10
    assert choose([one, two], "cost-first") == "two"
    two.inflight = 10
    assert choose([one, two], "cost-first") is None


def test_open_breakers_are_left_alone_until_all_are_open() -> None:
    one, two = endpoint("one"), endpoint("two", 200)
    for sick in (one, two):
        for _ in range(3):
            sick.health.failed(HARD, 0.0 if sick is one else 0.5, None, 0.5)
    one.health.succeeded(0.1)
    assert choose([one, two], "cost-first", 0.2) == "one"
    for _ in range(3):
        one.health.failed(HARD, 0.2, None, 0.5)
    assert choose([one, two], "cost-first", 0.3) is not None, "never nobody"


def test_what_is_dearer_by_the_hour_or_by_length_is_known() -> None:
    tiers = (PriceTier(100, 100, input_tokens_max=500), PriceTier(900, 900))
    stepped = endpoint("stepped")
    stepped.renew(
        Candidate(stepped.candidate.upstream, Offer("stepped", "m", Price("CNY", tiers, "t"))), 7.0
    )
    flat = endpoint("flat", 200)
    assert choose([stepped, flat], "cost-first") == "flat"
    need = structs.replace(NEED, prompt_tokens=100, bucket=0)
    short = decide([stepped, flat], need, POLICIES["cost-first"], 0.0, lambda: 0.5)
    assert short.endpoint is stepped


def test_a_cached_prompt_is_cheaper_where_it_is_cached() -> None:
    one, two = endpoint("one", 100), endpoint("two", 101)
    tier = PriceTier(101, 101, cached_input=10)
    two.renew(Candidate(two.candidate.upstream, Offer("two", "m", Price("CNY", (tier,), "t"))), 7.0)
    found = decide([one, two], NEED, POLICIES["cost-first"], 0.0, lambda: 0.5, affinity={two: 900})
    assert found.endpoint is two and found.cached_tokens == 900


def test_a_new_snapshot_may_put_an_upstream_into_another_zone() -> None:
    moved = endpoint("moved", 100, zone="abroad")
    other = endpoint("other", 900, zone="cn")
    assert choose([moved, other], "compliance-first") == "other"
    upstream = Upstream("moved", "sim", "http://x/v1", zone="gov")
    moved.renew(Candidate(upstream, moved.candidate.offer), 7.0)
    assert choose([moved, other], "compliance-first") == "moved"


def test_a_picture_in_a_short_prompt_needs_a_model_that_sees() -> None:
    import msgspec

    from tests.fakes import GRANT, FakeHouse, price
    from tokenschain.core.snapshot import ModelRoute, Served, Snapshot
    from tokenschain.gateway.dispatch.router import Router

    upstreams = {name: Upstream(name, "sim", "http://x/v1") for name in ("blind", "sees")}
    offers = (
        Offer("blind", "m", price(0), abilities=("tools",)),
        Offer("sees", "m", price(900), abilities=("tools", "vision")),
    )
    served = Served(Snapshot("1", upstreams, {"m": ModelRoute("m", "chat", offers)}))
    router = Router(served, lambda: 1.0, lambda: 1.0, lambda: 0.5)
    picture = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}
    for content, wanted in (("what?", "blind"), ([picture], "sees")):
        call = FakeHouse(a=["x"]).call()
        message = {"role": "user", "content": content}
        call.parsed = parse(Api.CHAT, msgspec.json.encode({"model": "m", "messages": [message]}))
        plan = router.plan(call, GRANT)
        need = router.need(call, plan, Priority.DEFAULT)
        chosen = router.place(call, GRANT, plan, need, set()).endpoint
        assert chosen is not None and chosen.name == wanted


def test_an_unknown_price_is_the_last_choice() -> None:
    unknown = endpoint("unknown")
    unknown.renew(Candidate(unknown.candidate.upstream, Offer("unknown", "m")), 7.0)
    assert choose([unknown, endpoint("dear", 10**9)], "cost-first") == "dear"


_PRICE_AND_TIME = st.tuples(st.integers(100, 999), st.floats(0.01, 1.0))


@given(st.lists(_PRICE_AND_TIME, min_size=2, max_size=7, unique=True))
def test_the_choice_does_not_change_when_another_comes_or_goes(
    given_: list[tuple[int, float]],
) -> None:
    cheapest = endpoint("cheapest", 99, 1.05)
    endpoints = [endpoint(str(n), price, base) for n, (price, base) in enumerate(given_)]
    best = choose([cheapest, *endpoints], "balanced")
    for gone in [e for e in endpoints if e.name != best]:
        left = [e for e in endpoints if e is not gone]
        assert choose([cheapest, *left], "balanced") == best


def test_exploration_is_rare_and_says_how_likely_it_was() -> None:
    rng = random.Random(1).random
    endpoints = [endpoint("a", 100), endpoint("b", 200), endpoint("c", 300)]
    found = [
        decide(endpoints, NEED, POLICIES["cost-first"], 0.0, rng, explore=0.02)
        for _ in range(5_000)
    ]
    explored = [d for d in found if d.reason == "explored"]
    assert 0.01 < len(explored) / 5_000 < 0.03
    assert {d.propensity for d in explored} == {0.02 / 3}


def test_of_many_candidates_few_are_looked_at() -> None:
    endpoints = [endpoint(str(n), 100 + n) for n in range(300)]
    found = decide(endpoints, NEED, POLICIES["balanced"], 0.0, random.Random(1).random)
    assert found.endpoint is not None and len(found.rows) <= 4


def test_nearer_regions_answer_sooner_before_anything_was_measured() -> None:
    assert round_trip_s("cn-beijing", "cn-zhangjiakou") < round_trip_s("cn-beijing", "cn-shenzhen")
    assert 0.02 < round_trip_s("cn-north-4", "cn-south-1") < 0.04
    assert round_trip_s("cn-beijing", "nowhere") == 0.0


@pytest.mark.parametrize("place", [0.0, 0.123, 0.5, 0.9999999])
@pytest.mark.parametrize("count", [MANY + 1, 60, 300])
def test_of_many_the_last_one_and_two_others_are_looked_at(count: int, place: float) -> None:
    many, policy = [endpoint(str(n)) for n in range(count)], POLICIES["balanced"]
    drawn = decide(many, NEED, policy, 0.0, lambda: place).rows
    assert len({row.endpoint for row in drawn}) == 4
    last = many[3]
    seen = [row.endpoint for row in decide(many, NEED, policy, 0.0, lambda: place, last=last).rows]
    assert len(set(seen)) == len(seen) and last in seen
    last.inflight = 10
    chosen = decide(many, NEED, policy, 0.0, lambda: place, last=last).endpoint
    assert chosen is not None and chosen is not last, "it is full"


def test_the_last_one_is_left_as_soon_as_another_is_better() -> None:
    """Calls come faster than they end: load is spread, though each begins with the last one."""
    many, chance = [endpoint(str(n)) for n in range(60)], random.Random(16)
    last, chosen = None, []
    for _ in range(240):
        last = decide(many, NEED, POLICIES["balanced"], 0.0, chance.random, last=last).endpoint
        assert last is not None
        last.begin(10)
        chosen.append(last.name)
    assert len(set(chosen)) > 50 and max(map(chosen.count, set(chosen))) <= 8


# --- admission by the first token expected ------------------------------------------------


def test_promised_places_bring_their_prompts() -> None:
    busy, idle = endpoint("busy", base_s=0.01), endpoint("idle", base_s=0.01)
    for _ in range(4):
        busy.promise(8_000)
    assert busy.reserved == 4 and busy.prefill_tokens == 32_000
    decision = decide([busy, idle], NEED, POLICIES["balanced"], 0.0, lambda: 0.5)
    assert decision.endpoint is idle and ("busy", "behind") in decision.filtered
    busy.withdraw(8_000)
    assert busy.begin(8_000) == 8_000, "those promised later come after it"


def test_a_call_that_has_waited_goes_only_where_it_is_in_time() -> None:
    one, two = endpoint("one", base_s=0.01), endpoint("two", base_s=0.01)
    for each in (one, two):
        each.begin(3_000)
    fresh = decide([one, two], NEED, POLICIES["balanced"], 0.0, lambda: 0.5)
    assert fresh.endpoint is not None
    waited_s = NEED.slo_s - 0.1
    late = decide([one, two], NEED, POLICIES["balanced"], 0.0, lambda: 0.5, waited_s=waited_s)
    assert late.endpoint is None and {why for _, why in late.filtered} == {"late"}
    kept = decide([one, two], NEED, POLICIES["balanced"], 0.0, lambda: 0.5, waited_s=NO_DEADLINE)
    assert kept.endpoint is not None, "better late than never"


def test_a_prompt_that_is_late_everywhere_is_not_kept_waiting() -> None:
    long = structs.replace(NEED, prompt_tokens=100_000, slo_s=2.0)
    decision = decide(
        [endpoint("one"), endpoint("two")], long, POLICIES["balanced"], 0.0, lambda: 0.5
    )
    assert decision.endpoint is not None


@given(
    st.lists(st.tuples(st.integers(0, 40_000), st.floats(0.01, 1.0)), min_size=2, max_size=8),
    st.integers(1, 40_000),
    st.floats(0, 4),
)
def test_nobody_is_sent_where_the_prompts_before_it_make_it_late(
    given_: list[tuple[int, float]], tokens: int, waited_s: float
) -> None:
    endpoints = [endpoint(str(n), base_s=base) for n, (_, base) in enumerate(given_)]
    for each, (ahead, _) in zip(endpoints, given_, strict=True):
        if ahead:
            each.begin(ahead)
    need = structs.replace(NEED, prompt_tokens=tokens, slo_s=2.0 + 1e-4 * tokens)
    chosen = decide(
        endpoints, need, POLICIES["balanced"], 0.0, lambda: 0.5, waited_s=waited_s
    ).endpoint
    hopeless = all(each.alone_s(need) > need.slo_s for each in endpoints)
    if chosen is not None and chosen.prefill_tokens and not hopeless:
        expected_s = chosen.alone_s(need) + chosen.backlog_s
        assert waited_s + expected_s <= need.slo_s + 1e-9


def test_what_a_prompt_takes_is_learned_whoever_is_ahead_and_long_or_short() -> None:
    rng = random.Random(3)
    learned = endpoint("learned", base_s=0.02)
    now = 0.0
    for _ in range(300):
        now += 1.0
        sizes = [rng.choice((50, 900, 4_000, 20_000)) for _ in range(rng.randrange(1, 5))]
        aheads = [learned.begin(size) for size in sizes]
        for size, ahead in zip(sizes, aheads, strict=True):
            learned.spoke(size, ahead, 0.05 + 6e-5 * ahead, now)
            learned.ended(size, 0, 0.0, 1.0)
    need = structs.replace(NEED, prompt_tokens=30_000)
    assert learned.first_token_s(need, now + 60) == pytest.approx(0.05 + 1.8, rel=0.35)
    learned.begin(40_000)
    assert learned.first_token_s(need, now + 60) == pytest.approx(0.05 + 4.2, rel=0.35)


def test_others_may_go_before_a_call_that_finds_no_room() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(Service())
    first, second = wait(Priority.INTERACTIVE, deadline=1), wait(Priority.INTERACTIVE, deadline=2)
    assert queue.add(first) and queue.add(second)
    assert queue.head(0.0) is first
    assert queue.head(0.0, [first]) is second
    assert queue.head(0.0, [first, second]) is None


def test_a_queue_that_ran_empty_says_nothing_of_the_next_burst() -> None:
    queue: AdmissionQueue[str] = AdmissionQueue(Service())
    for second in range(20):
        one = wait(Priority.INTERACTIVE, "a", second, second + 2)
        assert queue.add(one)
        queue.take(one, second)
    assert all(queue.add(wait(Priority.INTERACTIVE, "a", 30, 32)) for _ in range(50))
