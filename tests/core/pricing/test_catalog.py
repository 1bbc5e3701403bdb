"""Money is exact; the shipped catalogue holds what it says."""

from __future__ import annotations

from datetime import datetime
from fractions import Fraction
from importlib import resources
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.errors import ERRORS
from tokenschain.core.pricing.calendar import PeakSchedule, is_peak
from tokenschain.core.pricing.catalog import (
    Occasion,
    Price,
    PriceTier,
    Usage,
    cost_of,
    format_pico,
    input_classes,
    output_classes,
    tier_of,
)
from tokenschain.infra import catalog_file

TOKENS = st.integers(0, 10_000_000)
MICRO = st.integers(0, 10**9)


@given(TOKENS, TOKENS, TOKENS, MICRO, MICRO, st.none() | MICRO)
def test_cost_is_exact(
    fresh: int, cached: int, out: int, per_in: int, per_out: int, per_cached: int | None
) -> None:
    price = Price("CNY", (PriceTier(per_in, per_out, per_cached),), "t")
    usage = Usage(fresh + cached, out, cached, source="provider")
    yuan = (
        Fraction(per_in, 10**6) * fresh
        + Fraction(per_in if per_cached is None else per_cached, 10**6) * cached
        + Fraction(per_out, 10**6) * out
    ) / 10**6
    assert Fraction(cost_of(usage, price), 10**12) == yuan


def test_the_whole_call_is_billed_at_its_length_tier() -> None:
    tiers = (PriceTier(1, 2, None, 128), PriceTier(3, 4, None, 256), PriceTier(5, 6))
    price = Price("CNY", tiers, "t")
    found = [tier_of(price, Usage(n)).input for n in (0, 128, 129, 256, 257, 10**9)]
    assert found == [1, 1, 3, 3, 5, 5]


def test_rows_hold_by_thinking_short_outputs_and_batch() -> None:
    tiers = (
        PriceTier(8, 20, input_tokens_max=32, output_tokens_max=200),
        PriceTier(8, 80, input_tokens_max=32, thinking=False),
        PriceTier(8, 90, input_tokens_max=32, thinking=True),
        PriceTier(24, 240, batch=False),
        PriceTier(12, 120, batch=True),
    )
    price = Price("CNY", tiers, "t")
    thinking, batch = Occasion(thinking=True), Occasion(batch=True)
    assert tier_of(price, Usage(32, 200)).output == 20
    assert tier_of(price, Usage(32, 201)).output == 80
    assert tier_of(price, Usage(32, 201), thinking).output == 90
    assert tier_of(price, Usage(33, 1)).output == 240
    assert tier_of(price, Usage(33, 1), batch).output == 120


@pytest.mark.parametrize(
    ("when", "peak"),
    [
        ("2026-11-24T09:00", True),  # a Tuesday
        ("2026-11-24T08:59", False),
        ("2026-11-24T12:00", False),
        ("2026-11-24T17:59", True),
        ("2026-11-28T10:00", False),  # a Saturday
        ("2026-10-05T10:00", False),  # a Monday in the National Day holiday
        ("2026-10-10T10:00", False),  # a Saturday that is worked
        ("2027-10-04T10:00", True),  # no calendar yet: billed as a working day
    ],
)
def test_off_peak_follows_the_chinese_calendar(when: str, peak: bool) -> None:
    at_s = datetime.fromisoformat(f"{when}:00+08:00").timestamp()
    model = next(m for m in catalog_file.load().models if m.id == "deepseek/deepseek-flash")
    assert model.price is not None and model.price.schedule is not None
    assert is_peak(model.price.schedule, at_s) is peak
    cost = cost_of(Usage(10**6, 10**6), model.price, Occasion(at_s=at_s))
    assert cost == (10 if peak else 5) * 10**12
    strict = PeakSchedule((("09:00", "12:00"),), worked_weekends_peak=True)
    assert is_peak(strict, datetime.fromisoformat("2026-10-10T10:00:00+08:00").timestamp())


@given(st.lists(st.integers(0, 10**6), min_size=10, max_size=10))
def test_token_classes_exclude_each_other_and_add_up(counts: list[int]) -> None:
    usage = Usage(
        sum(counts[:6]), sum(counts[6:9]), counts[1], counts[7], "provider",
        counts[2], counts[3], counts[4], counts[5], counts[8], counts[9],
    )  # fmt: skip
    assert list(input_classes(usage).values()) == counts[:6]
    assert list(output_classes(usage).values()) == counts[6:9]
    tier = PriceTier(
        1, 2, 3, cache_write=5, cache_write_1h=7, audio_input=11, image_input=13,
        audio_output=17, cache_storage=19,
    )  # fmt: skip
    prices = (1, 3, 5, 7, 11, 13, 2, 2, 17, 19)
    expected = sum(count * price for count, price in zip(counts, prices, strict=True))
    assert cost_of(usage, Price("CNY", (tier,), "t")) == expected


@pytest.mark.parametrize("usage", [Usage(5, 1, 6), Usage(-1, 1), Usage(1, -1)])
def test_classes_that_do_not_add_up_are_refused(usage: Usage) -> None:
    with pytest.raises(ValueError, match="add up"):
        cost_of(usage, Price("CNY", (PriceTier(1, 1),), "t"))


@given(st.integers(0, 10**20))
def test_amounts_are_written_without_loss(pico: int) -> None:
    amount, currency = format_pico(pico, "CNY").split(" ")
    assert Fraction(amount) == Fraction(pico, 10**12) and currency == "CNY" and "e" not in amount


def test_the_shipped_catalogue_is_whole() -> None:
    catalog = catalog_file.load()
    assert len(catalog.models) >= 150 and len({m.id for m in catalog.models}) == len(catalog.models)
    providers = {p.id for p in catalog.providers}
    for model in catalog.models:
        assert model.provider in providers and model.source and model.source_date
        if model.price is not None:
            limits = [tier.input_tokens_max for tier in model.price.tiers]
            known = [limit for limit in limits if limit is not None]
            assert known == sorted(known)


def test_every_error_says_whose_fault_it_is() -> None:
    assert all(kind.meaning.endswith(".") and 400 <= kind.status < 600 for kind in ERRORS.values())
    # Whoever is to blame upstream, it is never the caller's key.
    assert all(k.status != 401 for k in ERRORS.values() if k.fault == "upstream")


def test_a_newer_catalogue_is_compared_by_what_matters(tmp_path: Path) -> None:
    text = resources.files("tokenschain").joinpath("data/catalogue.yaml").read_text("utf-8")
    raw = yaml.safe_load(text)
    gone = raw["models"].pop()
    raw["models"][0]["context_window"] = 7
    raw["models"][0]["source_date"] = "2030-01-01"  # a new source alone is no difference
    raw["models"].append({**raw["models"][1], "id": "alibaba/new", "model": "new"})
    changed = next(m for m in raw["models"] if m["id"] == "deepseek/deepseek-flash")
    changed["price"]["tiers"][1]["output"] = 9
    newer = tmp_path / "newer.yaml"
    newer.write_text(yaml.safe_dump(raw, allow_unicode=True))
    found = catalog_file.differences(catalog_file.load(), catalog_file.load(newer))
    assert ("-", gone["id"]) in found and ("+", "alibaba/new") in found
    changes = [what for kind, what in found if kind == "~"]
    assert len(changes) == 2 and len(found) == 4
    assert any("context" in change and "-> 7" in change for change in changes)
    assert any("output 8 CNY" in change and "output 9 CNY" in change for change in changes)


def test_a_misspelt_price_is_an_error_and_not_free(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    text = resources.files("tokenschain").joinpath("data/catalogue.yaml").read_text("utf-8")
    wrong.write_text(text.replace("cached_input:", "cache_input:", 1))
    with pytest.raises(catalog_file.CatalogError, match="cache_input"):
        catalog_file.load(wrong)
