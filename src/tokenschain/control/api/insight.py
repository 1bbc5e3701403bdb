"""Admin API: how fast models answered and whether they did, over the last day."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from tokenschain.control.api.bodies import AnswerBody
from tokenschain.control.api.context import AdminRoute, NameQuery, Permission, RequestContext
from tokenschain.control.identity.ownership import Extent
from tokenschain.control.model_latency import KEPT_S, MINUTE_S, MinuteFigures, percentiles
from tokenschain.core.call_record import MODEL_CHARACTERS_MAX
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1/insight", route_class=AdminRoute, tags=["usage"])
Reading = Annotated[RequestContext, Depends(Permission("usage:read", Extent.TENANT))]


class LatencyFigures(AnswerBody):
    """Calls that a model answered itself or that failed, and how long answers took, from
    histograms: up to a tenth off. Null where too few calls tell: below 20 for p95, 200 for p99."""

    answered: int
    failed: int
    """By no fault of the caller's."""
    first_token_p50_ms: float | None
    first_token_p95_ms: float | None
    first_token_p99_ms: float | None
    total_p50_ms: float | None
    total_p95_ms: float | None
    total_p99_ms: float | None


class LatencyStep(LatencyFigures):
    """Those of one step."""

    at_s: int
    """When it begins; Unix time."""


class LatencySeries(LatencyFigures):
    """Those of one model over the whole range."""

    model: str
    steps: list[LatencyStep]
    """Those with calls, the oldest first; none unless one model was asked for."""


class LatencyAnswer(AnswerBody):
    """What was measured."""

    data: list[LatencySeries]
    """By model, the most called first."""
    steps: list[LatencyStep]
    """Of all these models together: those with calls, the oldest first."""
    first_token_slo_ms: float
    """As `routing.first_token_slo_s` promises it."""
    since_s: int
    """Calls before this are not in it; Unix time."""


@router.get("/latency")
def read_latency(
    asked: Reading,
    tenant: NameQuery = None,
    model: Annotated[str | None, Query(max_length=MODEL_CHARACTERS_MAX)] = None,
    range_s: Annotated[int, Query(ge=MINUTE_S, le=KEPT_S)] = KEPT_S,
    step_s: Annotated[int, Query(ge=MINUTE_S, le=3_600)] = 900,
) -> LatencyAnswer:
    """Read how fast models answered and how many calls failed, by time for one or all together."""
    whose = asked.tenant(tenant)
    asked.need(whose or PLATFORM)
    measured, now_s = asked.context.ledger.model_latency, time.time()
    step_s -= step_s % MINUTE_S
    found = measured.read(now_s - range_s, now_s + MINUTE_S, step_s, whose, model)
    series = [
        LatencySeries(
            model=name,
            steps=[] if model is None else _by_time(steps),
            **_figures(_sum(steps.values())),
        )
        for name, steps in found.items()
    ]  # fmt: skip
    series.sort(key=lambda one: (-one.answered - one.failed, one.model))
    since_s = max(measured.since_s, now_s - range_s)
    together: dict[int, MinuteFigures] = {}
    for steps in found.values():
        for at_s, figures in steps.items():
            together.setdefault(at_s, MinuteFigures()).add(figures)
    goal_ms = asked.context.publisher.snapshot.routing.first_token_slo_s * 1_000
    return LatencyAnswer(
        data=series, steps=_by_time(together), first_token_slo_ms=goal_ms, since_s=int(since_s)
    )


def _by_time(steps: Mapping[int, MinuteFigures]) -> list[LatencyStep]:
    return [LatencyStep(at_s=at_s, **_figures(steps[at_s])) for at_s in sorted(steps)]


def _sum(figures: Iterable[MinuteFigures]) -> MinuteFigures:
    total = MinuteFigures()
    for one in figures:
        total.add(one)
    return total


def _figures(found: MinuteFigures) -> dict[str, Any]:
    first, total = percentiles(found.first_token), percentiles(found.total)
    return {
        "answered": found.answered,
        "failed": found.failed,
        **{f"first_token_{name}_ms": value for name, value in first._asdict().items()},
        **{f"total_{name}_ms": value for name, value in total._asdict().items()},
    }
