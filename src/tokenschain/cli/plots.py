"""Plots as SVG files: ROC and calibration curves, waits and costs; by matplotlib, an extra.

The only owner of matplotlib, which the rest of the platform does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tokenschain.simulation.report import PolicyResult

Curve = Sequence[tuple[float, float]]

_INCHES = (9.5, 4.8)
_WAIT_TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
_WAIT_MIN_S, _WAIT_MAX_S = 0.05, 60.0
_SHARE_TICKS = (1.0, 0.1, 0.01, 0.001)


class PlotsMissing(Exception):
    """Plots were asked for and matplotlib is not installed; the message says what to do."""


def check_available() -> None:
    """Insist on matplotlib, before a long run whose plots could not be drawn.

    Raises:
        PlotsMissing: it is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401, PLC0415 - an extra, and slow to load
    except ImportError:
        raise PlotsMissing(
            "plots need matplotlib, which is not installed: pip install 'tokenschain[plots]', "
            "or leave the folder for plots out"
        ) from None


def shares(file: Path, curves: Sequence[tuple[str, Curve]], title: str, x: str, y: str) -> None:
    """Draw curves of shares between 0 and 1 over a diagonal.

    Args:
        x, y: what the axes say.
    """
    figure, axes = _canvas(title, x, y)
    axes.plot([0, 1], [0, 1], color="#ddd", linewidth=1)
    for name, points in curves:
        axes.plot([p[0] for p in points], [p[1] for p in points], label=name)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_percent)
    _save(figure, axes, file)


def first_tokens(file: Path, rows: Sequence[PolicyResult], title: str) -> None:
    """Draw the share of calls that waited longer over time, both logarithmic."""
    figure, axes = _canvas(title, "time to the first token", "share of calls that waited longer")
    for number, row in enumerate(rows):
        total = max(1, len(row.first_tokens))
        left = [1 - at / total for at in range(len(row.first_tokens))]
        style = "-" if number < 10 else "--"
        axes.plot(row.first_tokens, left, style, drawstyle="steps-post", label=row.policy)
    axes.set(xscale="log", yscale="log")
    axes.set(xlim=(_WAIT_MIN_S, _WAIT_MAX_S), ylim=(_SHARE_TICKS[-1], 1))
    axes.set_xticks(_WAIT_TICKS_S, [f"{tick:g} s" for tick in _WAIT_TICKS_S])
    axes.set_yticks(_SHARE_TICKS, [f"{share:.1%}" for share in _SHARE_TICKS])
    axes.minorticks_off()
    _save(figure, axes, file)


def cost(file: Path, rows: Sequence[PolicyResult], title: str) -> None:
    """Draw what a million tokens cost against the 99th percentile of the wait."""
    figure, axes = _canvas(title, "CNY per 1M tokens", "first token, 99th percentile")
    for row in rows:
        at = row.mean.yuan_per_million, row.mean.p99_s
        axes.scatter(*at)
        axes.annotate(row.policy, at, xytext=(7, -3), textcoords="offset points", fontsize=8)
    axes.set_yscale("log")
    slowest = max(2.0, *(row.mean.p99_s for row in rows)) * 1.1
    axes.set_ylim(0.3, slowest)
    ticks = [tick for tick in (0.5, *_WAIT_TICKS_S[3:]) if tick < slowest]
    axes.set_yticks(ticks, [f"{tick:g} s" for tick in ticks])
    axes.minorticks_off()
    _save(figure, axes, file)


def _canvas(title: str, x: str, y: str) -> tuple[Figure, Axes]:
    check_available()
    from matplotlib.figure import Figure as NewFigure  # noqa: PLC0415

    figure = NewFigure(figsize=_INCHES, layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(color="#ddd")
    axes.set_axisbelow(True)
    return figure, axes


def _percent(share: float, _: float) -> str:
    return f"{share:.0%}"


def _save(figure: Figure, axes: Axes, file: Path) -> None:
    """Write the file; the same figures give the same bytes."""
    import matplotlib  # noqa: PLC0415

    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8, frameon=False)
    with matplotlib.rc_context({"svg.hashsalt": file.name, "svg.fonttype": "none"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
