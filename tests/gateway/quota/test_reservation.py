"""Reservations: never less than a call may use, whichever candidate answers, whenever."""

from __future__ import annotations

import json

import pytest

from tests.fakes import GRANT, call_of
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.formats.token_estimate import PICTURE_TOKENS_MAX
from tokenschain.core.limits import Rate
from tokenschain.core.pricing.calendar import PeakSchedule
from tokenschain.core.pricing.catalog import (
    Occasion,
    Price,
    PriceTier,
    Usage,
    cost_at_most,
    cost_of,
)
from tokenschain.core.snapshot import Candidate, ModelRoute, Offer, Plan, Served, Snapshot, Upstream
from tokenschain.gateway.quota import reservation
from tokenschain.gateway.quota.reservation import OUTPUT_FIRST, LimitQuota
from tokenschain.providers.vendor_table import VENDORS

PEAK = PeakSchedule((("09:00", "12:00"), ("14:00", "18:00")))
DEEPSEEK = Price(
    "CNY",
    (PriceTier(500_000, 4_000_000, off_peak=True), PriceTier(1_000_000, 8_000_000)),
    "d", PEAK,
)  # fmt: skip
THINKS = Price(
    "CNY",
    (PriceTier(800_000, 2_000_000, thinking=False), PriceTier(800_000, 8_000_000, thinking=True)),
    "t",
)
BY_LENGTH = Price(
    "CNY",
    (PriceTier(1_000_000, 2_000_000, input_tokens_max=1_000),
     PriceTier(3_000_000, 6_000_000, input_tokens_max=100_000), PriceTier(9_000_000, 9_000_000)),
    "l",
)  # fmt: skip
WRITES = Price("USD", (PriceTier(3_000_000, 15_000_000, cache_write=3_750_000),), "w")


@pytest.mark.parametrize("price", [DEEPSEEK, THINKS, BY_LENGTH, WRITES], ids=lambda p: p.version)
@pytest.mark.parametrize(("prompt", "output"), [(10, 50), (5_000, 1), (200_000, 4_000)])
def test_no_call_of_that_many_tokens_costs_more(price: Price, prompt: int, output: int) -> None:
    most = cost_at_most(prompt, output, price, writes_cache=True)
    for thinking in (False, True):
        for at_s in range(1_790_000_000, 1_790_604_800, 3_600):  # a week
            for usage in (
                Usage(prompt, output), Usage(prompt, output, cached_tokens=prompt // 2),
                Usage(prompt, output, cache_write_tokens=prompt),
            ):  # fmt: skip
                assert cost_of(usage, price, Occasion(thinking, at_s)) <= most


def quota(*prices: Price, cap: int | None = 8_192) -> tuple[LimitQuota, Plan]:
    route = ModelRoute("m", "chat", ())
    candidates = tuple(
        Candidate(Upstream(f"u{at}"), Offer(f"u{at}", "m", price, cap))
        for at, price in enumerate(prices)
    )
    served = Served(Snapshot("1", {}, {}, rates=(Rate("r", "spend", 10**15, 60),)))
    made = LimitQuota(
        served, lambda: 0.0, lambda: 0.0, lambda plan: 1.0, None, None, lambda: 1  # type: ignore[arg-type]
    )  # fmt: skip
    made._renew()
    return made, Plan(route, candidates)


def amounts(api: Api, *prices: Price, **body: object) -> tuple[int, int, int, int]:
    raw = json.dumps({"model": "m", **body}).encode()
    call = call_of(raw)
    call.parsed = parse(api, raw)
    made, plan = quota(*prices)
    return made._amounts(call, GRANT, plan)


HI = [{"role": "user", "content": "hi " * 100}]


def test_choices_and_prompts_are_that_many_requests_and_outputs() -> None:
    one = amounts(Api.CHAT, THINKS, messages=HI, max_tokens=50)
    four = amounts(Api.CHAT, THINKS, messages=HI, max_tokens=50, n=4)
    assert (one[0], four[0]) == (1, 4)
    assert four[1] == 4 * one[1] and four[2] == 4 * one[2]
    assert (one[3], four[3]) == (1, 4), "all of them run at once"
    three = amounts(Api.COMPLETIONS, THINKS, prompt=["a", "b", "c"], max_tokens=50, n=2)
    assert three[0] == three[3] == 6 and three[1] >= 6 * 50


def test_choices_of_prompts_have_a_bound() -> None:
    with pytest.raises(ApiError) as refused:
        parse(Api.COMPLETIONS, json.dumps({"model": "m", "prompt": ["a"] * 17, "n": 128}).encode())
    assert (refused.value.code, refused.value.param) == ("invalid_value", "n")
    parse(Api.COMPLETIONS, json.dumps({"model": "m", "prompt": ["a"] * 16, "n": 128}).encode())


PICTURE = {"type": "image_url", "image_url": {"detail": "high", "url": "https://example.com/a"}}


def test_pictures_are_reserved_for_what_they_count_at_the_most() -> None:
    def tokens(provider: str, *parts: object, n: int = 1) -> int:
        served = Served(Snapshot("1", {}, {}, rates=(Rate("r", "tokens", 10**9, 60),)))
        most = {name: vendor.picture_tokens for name, vendor in VENDORS.items()}
        made = LimitQuota(
            served, lambda: 0.0, lambda: 0.0, lambda plan: 1.0, None, None, lambda: 1,  # type: ignore[arg-type]
            picture_tokens=most,
        )  # fmt: skip
        made._renew()
        upstream = Upstream("u", provider=provider)
        plan = Plan(ModelRoute("m", "chat", ()), (Candidate(upstream, Offer("u", "m", THINKS)),))
        text = {"type": "text", "text": "hi"}
        body = {"model": "m", "n": n, "max_tokens": 1,
                "messages": [{"role": "user", "content": [text, *parts]}]}  # fmt: skip
        raw = json.dumps(body).encode()
        call = call_of(raw)
        call.parsed = parse(Api.CHAT, raw)
        return made._amounts(call, GRANT, plan)[1]

    for provider in ("openai", "anthropic", "alibaba", "volcengine-ark", "custom", "zhipu"):
        vendor = VENDORS.get(provider)
        most = vendor.picture_tokens if vendor is not None else PICTURE_TOKENS_MAX
        plain = tokens(provider)
        for part in (PICTURE, {"type": "image", "image": "https://example.com/a"},
                     {"type": "image_url", "image_url": "data:image/png;base64,AA=="}):  # fmt: skip
            assert most <= tokens(provider, part) - plain < most + 100, (provider, part)
            assert tokens(provider, *[part] * 3, n=2) >= 6 * most


def test_the_dearest_of_all_candidates_counts() -> None:
    cheap = Price("CNY", (PriceTier(1, 1),), "cheap")
    many = [Price("CNY", (PriceTier(at, at),), f"c{at}") for at in range(20)]
    alone = amounts(Api.CHAT, DEEPSEEK, messages=HI, max_tokens=50)
    among = amounts(Api.CHAT, cheap, *many, DEEPSEEK, messages=HI, max_tokens=50)
    assert alone == among
    prompt = alone[1] - 50
    assert alone[2] == prompt * 1_000_000 + 50 * 8_000_000, "as at the dearest hour"


@pytest.mark.parametrize(("own", "expected"), [(8_192, 8_192), (None, OUTPUT_FIRST), (20, 50)])
def test_a_cap_that_an_upstream_has_no_place_for_reserves_the_models_own(
    own: int | None, expected: int
) -> None:
    """Tencent's native Hunyuan: its answer may be longer than the caller allowed."""
    uncapped = frozenset(name for name, vendor in VENDORS.items() if not vendor.caps_output)
    assert uncapped == {"tencent-hunyuan-native"}
    native = Upstream("native", provider="tencent-hunyuan-native")
    capped = Candidate(Upstream("u"), Offer("u", "m", THINKS, 30_000))
    raw = json.dumps({"model": "m", "messages": HI, "max_tokens": 50}).encode()
    call = call_of(raw)
    call.parsed = parse(Api.CHAT, raw)
    served = Served(Snapshot("1", {"native": native}, {}, rates=(Rate("r", "spend", 1, 60),)))
    made = LimitQuota(
        served, lambda: 0.0, lambda: 0.0, lambda plan: 1.0, None, None, lambda: 1, uncapped  # type: ignore[arg-type]
    )  # fmt: skip
    made._renew()
    route = ModelRoute("m", "chat", ())
    plan = Plan(route, (capped, Candidate(native, Offer("native", "m", THINKS, own))))
    prompt = call.parsed.prompt_tokens_estimate
    assert made._amounts(call, GRANT, plan)[1] == prompt + expected
    assert made._amounts(call, GRANT, Plan(route, (capped,)))[1] == prompt + 50


def test_what_one_tenants_answers_teach_is_not_used_for_another() -> None:
    """An own upstream can be named like the platform's, and say that its answers are endless."""
    made, plan = quota(THINKS, cap=None)
    raw = json.dumps({"model": "m", "messages": HI}).encode()
    call = call_of(raw)
    call.parsed = parse(Api.CHAT, raw)
    before = made._amounts(call, GRANT, plan)
    for _ in range(400):
        made.learn(("other", "m"), 10**9)
    assert made._amounts(call, GRANT, plan) == before
    for _ in range(400):
        made.learn((GRANT.tenant, "m"), 2)
    assert made._amounts(call, GRANT, plan)[1] < before[1]


def test_models_whose_answers_are_known_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reservation, "OUTPUTS_MAX", 10)
    made, _ = quota(THINKS)
    for number in range(1_000):
        made.learn((f"tenant-{number}", "m"), 10)
    assert len(made._outputs) == 10
