"""Admin API: moderation engines as gateways find them, the local one and those of clouds."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Depends

from tokenschain.control import gateways
from tokenschain.control.api.bodies import AnswerBody, Items
from tokenschain.control.api.context import AdminRoute, Permission, RequestContext
from tokenschain.control.identity.ownership import Extent
from tokenschain.control.moderation import engine_states
from tokenschain.core.gateway_status import REPORTED_MAX_S

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["moderation"])
Seeing = Annotated[RequestContext, Depends(Permission("moderation:read", Extent.PLATFORM))]


class ModerationEngineState(AnswerBody):
    """A moderation engine at all gateways together; counts are of the last 15 minutes."""

    name: str
    vendor: str
    """`local` for the rules of the platform itself."""
    zone: str
    """The data zone that it is in; empty where that is not said."""
    breaker: str
    """`closed`, `slow start`, `trial`, `resting` or `open`, as at the gateway where it is worst;
    empty: set up here, and no gateway says anything of it."""
    retry_after_s: float
    """Until it is asked again."""
    gateways: int
    """How many tell of it."""
    without_credential: int
    """Gateways that have no key pair for it."""
    answered: int
    """Screenings that it answered; of the local engine, texts that were screened whole."""
    errors: dict[str, int]
    """Screenings without a verdict: `timeout`, `unreachable`, `throttled`, `refused`, `garbage`;
    and those for which it was not asked: `breaker`, `quota`, `no_credential`."""
    withdrawn: int
    """Given up, since another engine was faster or the caller left."""
    from_memory: int
    """Verdicts of texts that it had judged before."""
    p50_ms: float | None
    p95_ms: float | None
    """Null below 20 answers."""
    last_error: str
    last_error_s: float | None
    requests_today: int
    """Requests, of the day in UTC."""
    requests_left_today: int | None
    """Of `calls_per_day`, at all gateways; null where there is no such bound."""


@router.get("/moderation/engines")
def list_engines(asked: Seeing) -> Items[ModerationEngineState]:
    """List the moderation engines with breaker, failures by kind, waits and what is left of the
    day's requests, as gateways said it last."""
    now_s = time.time()
    found = engine_states.together(
        engine
        for one in gateways.seen(asked.db)
        if now_s - one.seen_s < REPORTED_MAX_S
        for engine in one.status.engines
    )
    known = {one.name for one in found}
    rows = [ModerationEngineState(**one._asdict()) for one in found]
    for name, engine in sorted(asked.context.settings.moderation.engines.items()):
        if name not in known:
            unknown = engine_states.unheard(name, engine.vendor, engine.zone)
            rows.append(ModerationEngineState(**unknown._asdict()))
    return Items[ModerationEngineState](data=rows)
