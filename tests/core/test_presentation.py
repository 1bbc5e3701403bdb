"""Numbers and times as people read them."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core import presentation as shown
from tokenschain.core.presentation import Language

YUAN = 10**12


@pytest.mark.parametrize(
    ("pico", "text"),
    [
        (None, "—"),
        (0, "¥0"),
        (3_021_850_000_000_000, "¥3,021.85"),
        (10_500_000_000, "¥0.0105"),
        (734_000_000, "¥0.000734"),
        (999_990_000_000, "¥1.00"),
        (996_000_000_000, "¥0.9960"),
        (9_960_000_000, "¥0.009960"),
        (9_999_900_000, "¥0.0100"),
        (1, "<¥0.000001"),
        (-2 * YUAN, "−¥2.00"),
        (9_999_996_000_000_000, "¥10,000.00"),
    ],
)
def test_money_has_two_four_or_six_digits(pico: int | None, text: str) -> None:
    assert shown.money(pico) == text


def test_what_was_never_charged_costs_zero_of_the_yuan() -> None:
    assert shown.money(0, "") == shown.exact_money(0, "") == shown.money(0, "CNY") == "¥0"


@pytest.mark.parametrize(
    ("pico", "zh", "en"),
    [
        (123_450 * YUAN, "¥12.35 万", "¥123.5K"),
        (9_999 * YUAN, "¥9,999.00", "¥9,999.00"),
        (123_450_000 * YUAN, "¥1.23 亿", "¥123.5M"),
        (99_999_999 * YUAN, "¥1.00 亿", "¥100.0M"),
    ],
)
def test_tiles_show_large_amounts_short(pico: int, zh: str, en: str) -> None:
    assert shown.money(pico, short=True) == zh
    assert shown.money(pico, language="en", short=True) == en


@given(st.integers(1, 10**24))
def test_money_is_never_off_by_more_than_half_of_its_last_digit(pico: int) -> None:
    text = shown.money(pico)
    if text.startswith("<"):
        assert pico < 500_000
        return
    number = Decimal(text.removeprefix("¥").replace(",", ""))
    last = Decimal(1).scaleb(int(number.as_tuple().exponent))
    assert abs(number - Decimal(pico) / YUAN) <= last / 2


@given(st.integers(-(10**24), 10**24))
def test_exact_money_is_exact(pico: int) -> None:
    text = shown.exact_money(pico).replace("¥", "").replace(",", "").replace("−", "-")
    assert Decimal(text) * YUAN == pico


@pytest.mark.parametrize(
    ("number", "zh", "en", "tokens"),
    [
        (9_999, "9,999", "9,999", "9,999"),
        (12_400, "1.2 万", "12.4K", "12.4K"),
        (128_500, "12.9 万", "128.5K", "128.5K"),
        (999_960, "100.0 万", "1.00M", "1.00M"),
        (1_285_000, "128.5 万", "1.29M", "1.29M"),
        (99_999_999, "1.00 亿", "100.00M", "100.00M"),
        (120_000_000, "1.20 亿", "120.00M", "120.00M"),
    ],
)
def test_counts_are_short_from_ten_thousand_on(number: int, zh: str, en: str, tokens: str) -> None:
    assert shown.count(number, "zh") == zh
    assert shown.count(number, "en") == en
    assert shown.tokens(number) == tokens


@pytest.mark.parametrize(
    ("ms", "zh", "en"),
    [
        (0.2, "0 ms", "0 ms"),
        (412, "412 ms", "412 ms"),
        (999.6, "1.00 s", "1.00 s"),
        (1_460, "1.46 s", "1.46 s"),
        (59_996, "1 分 0 秒", "1 min 0 s"),
        (125_000, "2 分 5 秒", "2 min 5 s"),
        (3_900_000, "1 小时 5 分", "1 h 5 min"),
    ],
)
def test_durations(ms: float, zh: str, en: str) -> None:
    assert (shown.duration(ms, "zh"), shown.duration(ms, "en")) == (zh, en)


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 3))
def test_a_share_that_is_not_all_is_never_shown_as_all(part: float, digits: int) -> None:
    assert not shown.share(part, digits).startswith("100")


def test_shares_points_and_prices() -> None:
    assert shown.share(0.342) == "34.2%" and shown.share(0.99974, 3) == "99.974%"
    assert shown.share(1.0) == "100.0%" and shown.share(None) == "—"
    assert shown.points(0.028) == "+2.8 pp" and shown.points(-0.0002) == "−0.02 pp"
    assert shown.points(0.0) == "0 pp" and shown.change(0.124) == "+12.4%"
    assert shown.price(2_000_000) == "¥2" and shown.price(500_000, "USD") == "$0.5"
    assert shown.context_window(131_072) == "128K" and shown.context_window(1 << 20) == "1M"


@pytest.mark.parametrize("language", ["zh", "en"])
@given(number=st.integers(0, 10**13))
def test_a_larger_count_is_never_shown_longer_than_nine_characters(
    language: Language, number: int
) -> None:
    assert re.fullmatch(r"[\d,.]+( [万亿]|[KM])?", shown.count(number, language))


def test_times_are_of_shanghai_whatever_the_machine_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    at = 1_795_718_999.172
    assert shown.stamp(at) == "2026-11-27 02:49:59.172 +08:00"
    assert shown.clock(at, at + 60) == "02:49:59"
    assert shown.clock(at, at + 86_400) == "11-27 02:49"
    assert shown.date(at) == "2026-11-27"
    assert shown.stamp(shown.midnight(at)) == "2026-11-27 00:00:00.000 +08:00"
