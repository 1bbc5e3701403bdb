"""Costs over time for charts: the dearest apart, what is left over together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from tokenschain.core.pricing.catalog import PICO_PER_UNIT

SERIES_SHOWN = 6


class CostSeries(NamedTuple):
    """What one thing cost, step by step."""

    name: str
    amounts: list[float]
    """Of the currency unit; what is exact is the total."""
    total_pico: int
    is_other: bool = False
    """All that are not shown apart."""


class Charged(Protocol):
    """Sums of calls in one currency."""

    charge_currency: str
    calls: int


def dearest(
    cells: Iterable[tuple[str, int, int]], steps: int, other: str, shown_max: int = SERIES_SHOWN
) -> list[CostSeries]:
    """Series by what they cost, the dearest first.

    Args:
        cells: of each name and step, pico-units.
        other: what all that are not shown apart are called.
    """
    amounts: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for name, step, pico in cells:
        amounts[name][step] += pico
    totals = {name: sum(by_step.values()) for name, by_step in amounts.items()}
    ranked = sorted(totals, key=lambda name: (-totals[name], name))

    def together(name: str, of: Sequence[str], *, is_other: bool) -> CostSeries:
        course = [sum(amounts[one][step] for one in of) / PICO_PER_UNIT for step in range(steps)]
        return CostSeries(name, course, sum(totals[one] for one in of), is_other)

    found = [together(name, [name], is_other=False) for name in ranked[:shown_max]]
    rest = ranked[shown_max:]
    return [*found, together(other, rest, is_other=True)] if rest else found


def main_currency(rows: Iterable[Charged]) -> str:
    """The currency of most calls; a tenant has one."""
    calls: dict[str, int] = defaultdict(int)
    for row in rows:
        calls[row.charge_currency] += row.calls
    return max(calls, key=lambda name: (calls[name], name), default="") or "CNY"
