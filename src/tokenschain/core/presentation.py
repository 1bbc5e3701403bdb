"""Formatting for people: money, counts, durations, shares and times, in Chinese and English.

One place for pages, mails and invoices. Days, months and clock times are in Asia/Shanghai,
whatever machine or browser they are read on. Amounts are whole 10^-12 of the currency unit until
here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_UP, Decimal
from typing import Literal

from tokenschain.core.pricing.catalog import PICO_PER_UNIT

Language = Literal["zh", "en"]
LANGUAGES: tuple[Language, ...] = ("zh", "en")
SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")
"""The zone of days, months, quotas and invoices; China has no daylight saving time."""
PICO_DIGITS, MICRO_DIGITS = 12, 6
UNKNOWN = "—"
"""In place of what is not known; never blank, never zero."""
_SIGNS = {"CNY": "¥", "USD": "$", "": "¥"}
"""What was never charged has no currency: its zero is shown as ¥0."""
_WAN, _YI = 10**4, 10**8


def money(
    pico: int | None, currency: str = "CNY", language: Language = "zh", *, short: bool = False
) -> str:
    """An amount: two digits from 1 on, four below, six below 0.01.

    Args:
        pico: 10^-12 of the unit; None is not known.
        short: for tiles: large amounts in 万 or in K and M.
    """
    if pico is None:
        return UNKNOWN
    sign = "−" if pico < 0 else ""
    return sign + _unsigned(abs(pico), currency, language, short)


def _unsigned(pico: int, currency: str, language: Language, short: bool) -> str:
    mark = currency_sign(currency)
    if pico == 0:
        return f"{mark}0"
    amount = Decimal(pico) / PICO_PER_UNIT
    if short and amount >= _WAN:
        return mark + _large(amount, language)
    # What the digits of one step round up to the next step is written as that step.
    digits = 2 if _rounded(amount, 4) >= 1 else 4 if _rounded(amount, 6) >= Decimal("0.01") else 6
    shown = _rounded(amount, digits)
    return f"{mark}{shown:,}" if shown else f"<{mark}0.000001"


def _large(amount: Decimal, language: Language) -> str:
    if language == "zh":
        if _rounded(amount / _WAN, 2) >= _WAN:
            return f"{_rounded(amount / _YI, 2):,} 亿"
        return f"{_rounded(amount / _WAN, 2):,} 万"
    return _thousands(amount, 1)


def exact_money(pico: int | None, currency: str = "CNY") -> str:
    """An amount to its last digit, as on hover and in exports."""
    if pico is None:
        return UNKNOWN
    sign = "−" if pico < 0 else ""
    return sign + currency_sign(currency) + exact_decimal(abs(pico), PICO_DIGITS)


def price(micro: int | None, currency: str = "CNY") -> str:
    """A price per million tokens, without trailing zeros.

    Args:
        micro: 10^-6 of the unit per 1,000,000 tokens.
    """
    if micro is None:
        return UNKNOWN
    return currency_sign(currency) + exact_decimal(micro, MICRO_DIGITS)


def currency_sign(currency: str) -> str:
    """What stands before an amount: a sign, or the currency's code and a space."""
    return _SIGNS.get(currency, f"{currency} ")


def exact_decimal(number: int, digits: int, separator: Literal[",", ""] = ",") -> str:
    """So many times 10^-`digits`, not below zero, without trailing zeros.

    Args:
        separator: of thousands.
    """
    whole, part = divmod(number, 10**digits)
    behind = f"{part:0{digits}d}".rstrip("0")
    return f"{whole:{separator}}.{behind}" if behind else f"{whole:{separator}}"


def count(number: int | None, language: Language = "zh") -> str:
    """A count of calls: 万 and 亿 in Chinese, K and M in English, from 10,000 on."""
    if number is None:
        return UNKNOWN
    if number < _WAN:
        return f"{number:,}"
    exact = Decimal(number)
    if language == "en":
        return _thousands(exact, 2)
    if _rounded(exact / _WAN, 1) < _WAN:
        return f"{_rounded(exact / _WAN, 1):,} 万"
    return f"{_rounded(exact / _YI, 2):,} 亿"


def tokens(number: int | None) -> str:
    """A count of tokens: K and M in both languages, as vendors write them."""
    if number is None:
        return UNKNOWN
    return f"{number:,}" if number < _WAN else _thousands(Decimal(number), 2)


def _thousands(number: Decimal, millions_digits: int) -> str:
    if _rounded(number / 1_000, 1) < 1_000:
        return f"{_rounded(number / 1_000, 1):,}K"
    return f"{_rounded(number / 1_000_000, millions_digits):,}M"


def context_window(number: int | None) -> str:
    """How many tokens fit: in binary K and M, as vendors write them."""
    if number is None:
        return UNKNOWN
    if number >= 1 << 20 and number % (1 << 20) == 0:
        return f"{number >> 20}M"
    return f"{number // 1024}K" if number % 1024 == 0 else tokens(number)


def duration(milliseconds: float | None, language: Language = "zh") -> str:
    """A time: 412 ms; 1.46 s; 2 分 5 秒 or 2 min 5 s; from an hour on in hours and minutes."""
    if milliseconds is None:
        return UNKNOWN
    if round(milliseconds) < 1_000:
        return f"{round(milliseconds)} ms"
    if round(milliseconds / 1_000, 2) < 60:
        return f"{milliseconds / 1_000:.2f} s"
    seconds = round(milliseconds / 1_000)
    if seconds < 3_600:
        large, small, words = *divmod(seconds, 60), ("分", "秒", "min", "s")
    else:
        large, small, words = *divmod(round(seconds / 60), 60), ("小时", "分", "h", "min")
    one, other = words[:2] if language == "zh" else words[2:]
    return f"{large} {one} {small} {other}"


def share(part: float | None, digits: int = 1) -> str:
    """A share of one, in per cent; what is not all is never rounded up to it."""
    if part is None:
        return UNKNOWN
    shown = _rounded(Decimal(repr(part)) * 100, digits)
    if shown >= 100 > part * 100:
        shown = Decimal(100) - Decimal(1).scaleb(-digits)
    return f"{shown}%"


def points(difference: float) -> str:
    """A difference of two shares: in percentage points, never in per cent."""
    shown = _rounded(Decimal(repr(abs(difference))) * 100, 2).normalize()
    return f"{_sign(difference) if shown else ''}{shown:f} pp"


def change(difference: float) -> str:
    """A relative difference of two amounts, with its sign."""
    return f"{_sign(difference)}{_rounded(Decimal(repr(abs(difference))) * 100, 1)}%"


def _sign(number: float) -> str:
    return "−" if number < 0 else "+"


def clock(at_s: float, now_s: float) -> str:
    """A time of today as 02:50:57, of another day as 11-26 02:50."""
    at, now = _moment(at_s), _moment(now_s)
    return at.strftime("%H:%M:%S" if at.date() == now.date() else "%m-%d %H:%M")


def stamp(at_s: float) -> str:
    """A time in full, to the millisecond and with its zone."""
    at = _moment(at_s)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1_000:03d} +08:00"


def zoned_stamp(at_ms: int) -> str:
    """A time with its zone, as RFC 3339: `2026-11-27T02:50:49.172+08:00`."""
    return _moment(at_ms / 1_000).isoformat(timespec="milliseconds")


def date(at_s: float) -> str:
    """A day."""
    return f"{_moment(at_s):%Y-%m-%d}"


def midnight(at_s: float) -> int:
    """When the day began that a time is of."""
    return int(_moment(at_s).replace(hour=0, minute=0, second=0, microsecond=0).timestamp())


def month_start(at_s: float) -> int:
    """When the month began that a time is of."""
    return int(_moment(midnight(at_s)).replace(day=1).timestamp())


def _moment(at_s: float) -> datetime:
    return datetime.fromtimestamp(round(at_s * 1_000) / 1_000, UTC).astimezone(SHANGHAI)


def _rounded(number: Decimal, digits: int) -> Decimal:
    return number.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
