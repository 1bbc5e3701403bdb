"""Data zones and sovereignty modes: where data may go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, get_args

from msgspec import Meta

Zone = Literal["abroad", "cn", "mlps3", "gov", "own"]
"""Data zones by trust: outside the country, in it, in it and certified for MLPS 2.0 level 3,
a government cloud, machines of one's own."""
ZONES: tuple[str, ...] = get_args(Zone)
DOMESTIC_ZONES: tuple[Zone, ...] = ("cn", "mlps3", "gov", "own")
"""What is not sent abroad goes here. Abroad is outside the mainland's border: Hong Kong, Macao and
Taiwan count as abroad for exports of data (PIPL, articles 38 to 43; Exit and Entry Administration
Law, article 89)."""
ResidencyScope = Annotated[
    str, Meta(pattern=r"^(\*|(tenant|project|model)/.+|class/[\w-]{1,32})\Z")
]
"""Whose data a residency rule is for: a `RuleScope`, or `class/NAME` for keys of a data class."""
Sovereignty = Annotated[
    str, Meta(pattern=r"^(none|domestic-only|air-gapped|zone:(abroad|cn|mlps3|gov|own))\Z")
]
"""A mode: nothing said, inside the country, on machines of one's own only, in one zone only."""
NONE, DOMESTIC_ONLY, AIR_GAPPED = "none", "domestic-only", "air-gapped"
EVERYBODY = "*"

Rules = Mapping[str, tuple[Zone, ...]]
"""Zones that data may go to, by whose data it is."""


def zones_of(mode: Sovereignty) -> tuple[Zone, ...] | None:
    """The zones that a mode leaves open; None where it says nothing.

    Raises:
        ValueError: there is no such mode.
    """
    match mode:
        case "none":
            return None
        case "domestic-only":
            return DOMESTIC_ZONES
        case "air-gapped":
            return ("own",)
    for zone in get_args(Zone):
        if mode == f"zone:{zone}":
            return (zone,)
    raise ValueError(f"there is no sovereignty mode `{mode[:40]}`")


def under(rules: Rules, modes: Mapping[str, Sovereignty]) -> dict[str, tuple[Zone, ...]]:
    """Residency rules, each within the mode of the same scope: the stricter of both holds.

    A mode becomes a residency rule like any other, so that whatever asks where data may go,
    now and later, keeps to it.
    """
    found = dict(rules)
    for scope, mode in modes.items():
        zones = zones_of(mode)
        if zones is None and scope.startswith("class/"):
            found.setdefault(scope, get_args(Zone))  # known, and held back nowhere
        if zones is not None:
            found[scope] = tuple(zone for zone in found.get(scope, zones) if zone in zones)
    return found
