"""Regions of clouds, and the least network latency between them."""

from __future__ import annotations

import math

PLACES = {
    "beijing": (39.9, 116.4), "north": (39.9, 116.4), "zhangjiakou": (40.8, 114.9),
    "ulanqab": (41.0, 113.1), "huhehaote": (40.8, 111.7), "guiyang": (26.6, 106.7),
    "southwest": (26.6, 106.7), "chengdu": (30.7, 104.1), "chongqing": (29.6, 106.5),
    "shanghai": (31.2, 121.5), "east": (31.2, 121.5), "hangzhou": (30.3, 120.2),
    "nanjing": (32.1, 118.8), "suzhou": (31.3, 120.6), "wuhan": (30.6, 114.3),
    "guangzhou": (23.1, 113.3), "south": (23.1, 113.3), "shenzhen": (22.5, 114.1),
    "hongkong": (22.3, 114.2), "singapore": (1.35, 103.8), "tokyo": (35.7, 139.7),
    "frankfurt": (50.1, 8.7), "virginia": (38.9, -77.4), "california": (37.4, -122.0),
}  # fmt: skip
"""City, or the part of the country that clouds name a region after, to latitude and longitude."""
_FIBRE_KM_PER_S = 200_000.0
_DETOUR = 1.5
"""Cables are longer than the great circle; rough."""
_EARTH_KM = 6_371.0


def place_of(region: str) -> tuple[float, float] | None:
    """The coordinates of a region like `cn-beijing` or `ap-shanghai-2`; None when unknown."""
    for part in region.lower().replace("_", "-").split("-"):
        found = PLACES.get(part.rstrip("0123456789"))
        if found is not None:
            return found
    return None


def round_trip_s(one: str, other: str) -> float:
    """The least time there and back between two regions; 0 when either is unknown."""
    here, there = place_of(one), place_of(other)
    if here is None or there is None:
        return 0.0
    (lat1, lon1), (lat2, lon2) = (
        (math.radians(lat), math.radians(lon)) for lat, lon in (here, there)
    )
    inner = (
        math.sin((lat2 - lat1) / 2) ** 2
        + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    )
    return 2 * _DETOUR * 2 * _EARTH_KM * math.asin(math.sqrt(inner)) / _FIBRE_KM_PER_S
