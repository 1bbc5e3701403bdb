"""Parameters by which a caller would lead a call elsewhere than its key is for."""

from __future__ import annotations

from typing import Literal, get_args

SteeringParameter = Literal[
    "models", "fallbacks", "model_list", "provider", "providerOptions", "preset", "plugins",
    "route", "transforms", "service_tier", "speed", "inference_geo",
]  # fmt: skip
"""Parameters by which a vendor, or another gateway, serves a call by another model, at another
provider or place, or at another price, than the one that the caller's key, the rules of residency
and the prices are for."""
STEERING: frozenset[str] = frozenset(get_args(SteeringParameter))
