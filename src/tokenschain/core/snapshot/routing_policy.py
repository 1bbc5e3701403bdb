"""Routing policies: how candidates are ordered; the built-in ones and an operator's own."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta


class Objective(StrEnum):
    """What decides among upstreams that have room."""

    LATENCY = "latency"
    COST = "cost"
    SCORE = "score"


class Policy(msgspec.Struct, frozen=True):
    """How a tenant, project or model wants its calls placed. Weights need not sum to 1."""

    objective: Annotated[
        Objective,
        Meta(
            description="What decides among upstreams that meet the SLO: `latency`, `cost` or the "
            "`score`."
        ),
    ] = Objective.SCORE
    slo_share: Annotated[
        float,
        Meta(
            gt=0,
            le=10,
            description="An upstream meets the SLO when its first token is expected within this "
            "share of `routing.first_token_slo_s`.",
        ),
    ] = 0.6
    by_zone: Annotated[
        bool, Meta(description="Whether only the most trusted zone that has an upstream is used.")
    ] = False
    latency: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="Weight in the score of the expected time to the first token over the SLO.",
        ),
    ] = 2.0
    price: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="Weight in the score of the expected cost over the cheapest, less one.",
        ),
    ] = 1.0
    load: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="Weight in the score of the square of the share of the concurrency limit "
            "in use.",
        ),
    ] = 2.0
    availability: Annotated[
        float,
        Meta(
            ge=0,
            le=100,
            description="Weight in the score of the logarithm of the recent share of successes.",
        ),
    ] = 1.0


POLICIES = {
    "performance-first": Policy(Objective.LATENCY),
    "cost-first": Policy(Objective.COST, slo_share=1.0),
    "balanced": Policy(),
    "compliance-first": Policy(by_zone=True),
}

RuleScope = Annotated[str, Meta(pattern=r"^(\*|(tenant|project|model)/.+)\Z")]
"""Whose calls a rule is for: `*` for all, `tenant/NAME`, `project/NAME` or `model/NAME` whoever's
it is, and `tenant/NAME/project/NAME` or `tenant/NAME/model/NAME` for one tenant's."""

T = TypeVar("T")


def scopes(tenant: str, project: str, model: str) -> tuple[str, ...]:
    """The scopes of rules that a call falls under, the narrowest first: a model's before a
    project's, that before a tenant's."""
    own = f"tenant/{tenant}"
    return (
        f"{own}/model/{model}", f"model/{model}",
        f"{own}/project/{project}", f"project/{project}",
        own,
    )  # fmt: skip


def narrowest(rules: Mapping[str, T], tenant: str, project: str, model: str, otherwise: T) -> T:
    """The rule of the narrowest scope that a call falls under; see `scopes`."""
    if rules:
        for name in scopes(tenant, project, model):
            if name in rules:
                return rules[name]
    return otherwise
