"""SVG plots: the few shapes that reports are drawn with."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 760, 380, 70, 50, 40
COLOURS = ("#0b6e4f", "#c44536", "#2a6f97", "#8d6a9f", "#b08900", "#555555", "#d17a22", "#5b8e7d")
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

Curve = Sequence[tuple[float, float]]


def shares(curves: Sequence[tuple[str, Curve]], title: str, across: str, up: str) -> str:
    """A square of shares: curves of points between 0 and 1, over a diagonal.

    Args:
        across, up: what the axes say.
    """
    side = HEIGHT - TOP - BOTTOM

    def x(share: float) -> float:
        return LEFT + share * side

    def y(share: float) -> float:
        return TOP + (1 - share) * side

    parts = [text(LEFT, 22, title, 15), text(LEFT + 8, TOP + 14, up, 11)]
    for tick in SHARES:
        parts += [line(x(tick), TOP, x(tick), TOP + side), line(LEFT, y(tick), x(1), y(tick)),
                  text(x(tick), TOP + side + 18, f"{tick:.0%}", 11, "middle"),
                  text(LEFT - 8, y(tick) + 4, f"{tick:.0%}", 11, "end")]  # fmt: skip
    parts += [line(x(0), y(0), x(1), y(1)),
              text(x(0.5), HEIGHT - 10, across, 12, "middle")]  # fmt: skip
    for number, (name, points) in enumerate(curves):
        colour, at = COLOURS[number % len(COLOURS)], TOP + 10 + 18 * number
        shown = " ".join(f"{x(one):.1f},{y(other):.1f}" for one, other in points)
        parts += [
            f'<polyline fill="none" stroke="{colour}" stroke-width="2" points="{shown}"/>',
            f'<line x1="{x(1) + 20:.1f}" x2="{x(1) + 45:.1f}" y1="{at}" y2="{at}" '
            f'stroke="{colour}" stroke-width="2"/>',
            text(x(1) + 52, at + 4, name, 11),
        ]
    return document(parts)


def line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line of the grid."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def text(x: float, y: float, words: str, size: int, anchor: str = "start") -> str:
    """Words, escaped."""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
        f'font-family="sans-serif">{escape(words)}</text>'
    )


def document(parts: Sequence[str]) -> str:
    """All shapes on one white sheet."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}">\n<rect width="100%" height="100%" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )
