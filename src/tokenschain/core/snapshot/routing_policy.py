"""What decides among upstreams: policies by name, and those an operator adds."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

import msgspec


class Objective(StrEnum):
    """What decides among upstreams that have room."""

    LATENCY = "latency"
    COST = "cost"
    SCORE = "score"


class Policy(msgspec.Struct, frozen=True):
    """How a tenant, project or model wants its calls placed. Weights need not sum to 1."""

    objective: Objective = Objective.SCORE
    slo_share: float = 0.6
    """An upstream is in time when its expected first token takes this share of the SLO."""
    by_zone: bool = False
    """Only the most trusted zone that has an upstream is used."""
    latency: float = 2.0
    price: float = 1.0
    load: float = 2.0
    availability: float = 1.0


POLICIES = {
    "performance-first": Policy(Objective.LATENCY),
    "cost-first": Policy(Objective.COST, slo_share=1.0),
    "balanced": Policy(),
    "compliance-first": Policy(by_zone=True),
}


T = TypeVar("T")


def narrowest(rules: Mapping[str, T], tenant: str, project: str, model: str, otherwise: T) -> T:
    """Of rules by `tenant/NAME`, `project/NAME` or `model/NAME`: a model's beats a project's,
    that a tenant's."""
    if rules:
        for name in (f"model/{model}", f"project/{project}", f"tenant/{tenant}"):
            if name in rules:
                return rules[name]
    return otherwise
