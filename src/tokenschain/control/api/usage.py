"""Admin API: usage, calls, metering, the audit trail, models and upstreams.

(No postponed annotations here: FastAPI reads them.)
"""

import csv
import io
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import JsonValue

from tokenschain.control import gateways
from tokenschain.control.api.approvals import need_second_person
from tokenschain.control.api.bodies import AnswerBody, Items, ListAnswer, listed
from tokenschain.control.api.context import (
    AdminRoute,
    IntMoment,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.api.metrics import METRICS_TYPE, metrics_text
from tokenschain.control.api.money import PriceList
from tokenschain.control.api.request_checks import dimensions_of
from tokenschain.control.audit import admin_log
from tokenschain.control.billing import ledger
from tokenschain.control.billing.limits import CHINA_S
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.control.identity import ownership
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.call_record import CallResult
from tokenschain.core.errors import ApiError
from tokenschain.core.pricing.catalog import Price, selling_price, to_yuan
from tokenschain.core.snapshot import Upstream
from tokenschain.core.spreadsheet import text_cell
from tokenschain.core.tags import TAG_CHARACTERS_MAX
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1", route_class=AdminRoute)
ReadingUsage = Annotated[
    RequestContext, Depends(Permission("usage:read", Extent.ROWS, by_model=True))
]
ReadingMetrics = Annotated[RequestContext, Depends(Permission("usage:read", Extent.PLATFORM))]
ListingCalls = Annotated[
    RequestContext, Depends(Permission("usage:read", Extent.ROWS, by_model=True))
]
ReadingCall = Annotated[
    RequestContext, Depends(Permission("usage:read", Extent.PART, by_model=True))
]
Exporting = Annotated[RequestContext, Depends(Permission("usage:export", Extent.TENANT))]
ReadingMetering = Annotated[RequestContext, Depends(Permission("billing:read", Extent.PLATFORM))]
ReadingAudit = Annotated[RequestContext, Depends(Permission("audit:read", Extent.ROWS))]
ReadingModels = Annotated[
    RequestContext, Depends(Permission("models:read", Extent.ROWS, by_model=True))
]
ReadingUpstreams = Annotated[RequestContext, Depends(Permission("models:read", Extent.PLATFORM))]


ZONES_S = {"UTC": 0, "Asia/Shanghai": CHINA_S}
"""How far their days begin before those of UTC."""
_ROWS_AT_ONCE = 1_000
"""Written of a long answer at a time."""


class UsageRow(AnswerBody):
    """Sums of calls; the fields asked for by `group_by`, and exact amounts of 10^-12 of the
    currency unit."""

    tenant: str | None = None
    account: str | None = None
    project: str | None = None
    environment: str | None = None
    key_id: str | None = None
    model: str | None = None
    upstream: str | None = None
    cloud: str | None = None
    tag: str | None = None
    day: str | None = None
    hour: str | None = None
    currency: str | None = None
    """Of `cost_pico`."""
    charge_currency: str
    calls: int
    failed_calls: int | None = None
    """That failed because of the platform or an upstream; neither what callers did wrong nor what
    limits and moderation refused."""
    estimated_calls: int | None = None
    unpriced_calls: int | None = None
    prompt_tokens: int
    cached_tokens: int | None = None
    completion_tokens: int
    reasoning_tokens: int | None = None
    cost_pico: int | None = None
    """Of the answers that callers had."""
    charge_pico: int
    """What the customer is charged, in 10^-12 of `charge_currency`: divided by
    1,000,000,000,000 it is yuan (or dollars). Exact; it is rounded once, on the invoice."""
    platform_prompt_tokens: int | None = None
    """Of attempts that no caller pays for: failovers, lost races, answers that failed."""
    platform_completion_tokens: int | None = None
    platform_cost_pico: int | None = None
    """What upstreams are owed for those, beside `cost_pico`; both together are their bill."""


class UsageAnswer(AnswerBody):
    """Sums of calls, and until when they are complete."""

    data: list[UsageRow]
    complete_to_s: int
    """Calls that ended later may still be on their way from gateways; Unix time."""


class Attempt(AnswerBody):
    """One upstream tried for a call; see `core.call_record.AttemptRecord`."""

    upstream: str
    started_ms: float
    first_byte_ms: float | None
    ended_ms: float | None
    outcome: str
    prompt_tokens: int
    completion_tokens: int
    model: str = ""
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: str = "none"
    price_version: str | None = None
    currency: str | None = None
    cost_pico: int | None = None
    overhead: str | None = None
    """Why the platform bears this cost: `failover_overhead`, `hedge_overhead`,
    `translation_failure` or `failed_call`; empty where it is the call's own."""


class RouteCandidate(AnswerBody):
    """One upstream as the first choice weighed it; see `core.call_record.RouteRecord`."""

    upstream: str
    first_token_ms: float
    cost_pico: float
    load: float
    meets_slo: bool
    excluded: str


class CallRow(AnswerBody):
    """One call; see `core.call_record.CallRecord`. Fields that are only the platform's to see
    are left out for others."""

    event_id: str
    started_ms: int
    api: str
    tenant: str
    project: str
    environment: str
    key_id: str
    model_asked: str
    model_served: str
    upstream: str
    attempts: list[Attempt]
    status: int
    outcome: str
    fault: str
    error: str
    streamed: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    usage_source: str
    price_version: str | None = None
    currency: str | None = None
    cost_pico: int | None = None
    cache: str
    moderation: str
    first_token_ms: float | None
    total_ms: float
    bytes_in: int
    bytes_out: int
    finish_reason: str
    trace_id: str
    tags: str
    snapshot_version: str
    cache_write_tokens: int
    cache_write_1h_tokens: int
    audio_prompt_tokens: int
    image_prompt_tokens: int
    audio_completion_tokens: int
    thinking: bool
    route: list[RouteCandidate] | None = None
    route_reason: str
    route_propensity: float
    account: str
    gateway: str | None = None
    charge_pico: int | None
    charge_currency: str
    charge_version: str
    cache_reason: str
    cache_key: str
    saved_tokens: int
    saved_pico: int
    cache_confidence: float
    cache_age_s: float
    requests: int = 1
    """As how many requests it counts in limits: its choices times its prompts."""
    moderation_detail: str = ""
    """Categories, levels and rules of what moderation found; never a caller's words."""
    filing: str = ""
    """The filing or registration number under which the model answered, where a policy asks."""
    data_class: str = ""
    """Data classes that held for it, with `+` between."""


class Metering(AnswerBody):
    """How complete the ledger is."""

    received: int
    """Records, since control started."""
    entered: int
    rejected: int
    """Put aside unread."""
    capture_rate: float


class AuditEvent(AnswerBody):
    """Who changed what."""

    id: str
    at_ms: int
    actor: str
    tenant: str
    action: str
    target: str
    detail: dict[str, JsonValue]
    address: str


class ModelOffer(AnswerBody):
    """One model as one upstream sells it."""

    upstream: str
    model: str
    price: PriceList | None
    output_tokens_max: int | None
    context_window: int | None
    abilities: list[str] | None


class Model(AnswerBody):
    """A model that is served; `offers` are only operators' to see."""

    name: str
    kind: str
    owned_by: str
    created_s: int
    prices: list[PriceList]
    """What the asker's tenant is charged: its selling price, or the general one. Without either a
    call is sold at what its upstream asks: the least and the most of that."""
    offers: list[ModelOffer] | None = None


class UpstreamKeyState(AnswerBody):
    """One key of an upstream, as at the gateway where it fares worst."""

    number: int
    """From 1, in the order of the upstream's `credential`."""
    state: str
    """`ready`, `cooling`, `exhausted`, `denied`, `dead` or `missing`."""
    retry_after_s: float
    """Seconds until it is tried again."""


class UpstreamState(AnswerBody):
    """An upstream with its health as last probed, and as gateways and recent calls found it."""

    id: str
    provider: str
    base_url: str
    zone: str
    health: str
    drain: bool
    """Whether it gets no new calls."""
    running: int
    """Calls that run there now, at all gateways as they said it last."""
    breaker: str
    """`closed`, `slow start`, `trial`, `resting` or `open`, at the gateway where it fares worst;
    empty where no call came to it yet."""
    keys: list[UpstreamKeyState]
    succeeded: int
    """Of the last attempts, at most 20."""
    failed: int
    last_error: str
    """Code of the last failure among them."""
    first_byte_p50_ms: float | None
    """Wait for the first byte of an answer, of the last 100 within 15 minutes."""
    first_byte_p95_ms: float | None
    """Null below 20 answers."""
    metrics: dict[str, float]


@router.get(
    "/usage",
    response_model=UsageAnswer,
    response_model_exclude_unset=True,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
    tags=["usage"],
)
def usage(
    asked: ReadingUsage,
    group_by: Annotated[
        str, Query(max_length=100, examples=["tenant,model,day"])
    ] = "tenant,model,day",
    from_s: IntMoment = None,
    until_s: IntMoment = None,
    tenant: NameQuery = None,
    project: NameQuery = None,
    key_id: NameQuery = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
    zone: Literal["UTC", "Asia/Shanghai"] = "UTC",
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response:
    """Add up calls, tokens, charges and cost; amounts are 10^-12 of the currency unit, exact.

    Days are those of `zone`, hours are UTC; the header of a CSV says so, as in
    `day (Asia/Shanghai)`. `charge_pico` divided by 1,000,000,000,000 is what is charged, in
    `charge_currency`.
    """
    whose = asked.tenant(tenant)
    dimensions = dimensions_of(group_by, ledger.DIMENSIONS)
    named = (("project", project), ("key_id", key_id), ("model", model))
    where = [(name, value) for name, value in named if value is not None]
    models = _only_own(asked, whose, project)
    hidden = ownership.hidden_fields(asked, "GET /usage")
    now = int(time.time())
    try:
        rows = ledger.usage(
            asked.db,
            group_by=dimensions,
            from_s=now - 30 * DAY_S if from_s is None else from_s,
            until_s=now + DAY_S if until_s is None else until_s,
            tenant=whose,
            where=where,
            models=models,
            zone_s=ZONES_S[zone],
            with_costs=not hidden,
        )
    except ValueError as error:
        raise ApiError("invalid_value", f"{error}.", param="group_by") from None
    if hidden:
        # What only the platform's own costs are in is no row of a customer's.
        rows = ownership.without((r for r in rows if r["calls"] or r["charge_pico"]), hidden)
    if form == "csv":
        slices = (rows[at : at + _ROWS_AT_ONCE] for at in range(0, len(rows), _ROWS_AT_ONCE))
        return _csv_answer(slices, {"day": f"day ({zone})", "hour": "hour (UTC)"})
    complete_to_s = int(asked.context.ledger.shipping.complete_to_s(now))
    return StreamingResponse(_json(rows, complete_to_s), media_type="application/json")


def _only_own(
    asked: RequestContext, tenant: str | None, project: str | None
) -> frozenset[str] | None:
    """Who is bound to a project only sees that project's usage, and whose role is for certain
    models only theirs, which are returned; None: all.

    Raises:
        ApiError: `permission_denied` when it would have to be several projects.
    """
    whose = tenant or PLATFORM
    models = asked.models_in(whose)
    if models is not None and project is not None:
        models = asked.models_in(whose, project=project)
    if models is None or models:
        return models
    raise ApiError("permission_denied", "Name a project of yours: `project=...`.", param="project")


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    tags=["usage"],
)
def metrics(asked: ReadingMetrics) -> Response:
    """Show control's metrics in Prometheus' text format."""
    return Response(metrics_text(asked.context), media_type=METRICS_TYPE)


@router.get("/calls", response_model_exclude_unset=True, tags=["usage"])
def list_calls(
    asked: ListingCalls,
    page: Paged,
    tenant: NameQuery = None,
    project: NameQuery = None,
    key_id: NameQuery = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
    outcome: Annotated[str | None, Query(max_length=64)] = None,
    result: Annotated[CallResult | None, Query()] = None,
    upstream: NameQuery = None,
    tag: Annotated[str | None, Query(max_length=TAG_CHARACTERS_MAX)] = None,
    from_s: IntMoment = None,
    until_s: IntMoment = None,
) -> ListAnswer[CallRow]:
    """List single calls with their attempts and the choice among upstreams; the latest first.

    Of the last day by default. `result` is what became of the call in one word; `upstream` was
    tried, whether or not it answered; `tag` is one of the call's tags, as `team=search`.
    """
    whose = asked.tenant(tenant)
    named = (("project", project), ("key_id", key_id), ("model_asked", model),
             ("outcome", outcome), ("result", result), ("tried", upstream),
             ("tag", tag))  # fmt: skip
    where = [(name, value) for name, value in named if value is not None]
    models = _only_own(asked, whose, project)
    now = int(time.time())
    found = ledger.calls_page(
        asked.db,
        page,
        tenant=whose,
        from_ms=(now - DAY_S if from_s is None else from_s) * 1_000,
        until_ms=(now + DAY_S if until_s is None else until_s) * 1_000,
        where=where,
        models=models,
    )
    rows = ownership.without(found.rows, ownership.hidden_fields(asked, "GET /calls"))
    return listed(ListAnswer[CallRow], found, rows)


@router.get(
    "/calls/export",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "text/csv": {"schema": {"type": "string"}},
                "application/vnd.apache.parquet": {"schema": {"type": "string"}},
            }
        }
    },
    tags=["usage"],
)
def export_calls(
    asked: Exporting,
    from_s: Annotated[int, Query(ge=0, le=2**53, examples=[1_764_000_000])],
    until_s: Annotated[int, Query(ge=0, le=2**53, examples=[1_764_086_400])],
    tenant: NameQuery = None,
    form: Annotated[Literal["csv", "parquet"], Query(alias="format")] = "csv",
) -> Response:
    """Export all calls of a time as CSV or Parquet."""
    whose = asked.tenant(tenant)
    asked.need(whose or PLATFORM)
    target = f"{from_s}..{until_s}"
    need_second_person(asked, "calls:export", whose or PLATFORM, target, form)
    hidden = ownership.hidden_fields(asked, "GET /calls/export")
    engine = asked.context.engine

    def pages() -> Iterator[list[ledger.Row]]:
        # Read after the request's own transaction, as the answer is sent.
        for rows in ledger.each_call(
            engine, tenant=whose, from_ms=from_s * 1_000, until_ms=until_s * 1_000
        ):
            shown = ownership.without(rows, hidden)
            for row in shown:
                for name in ("attempts", "route"):
                    if name in row:
                        row[name] = msgspec.json.encode(row[name]).decode()
            yield shown

    asked.note(whose or "", target, {"format": form})
    if form == "csv":
        return _csv_answer(pages())
    from tokenschain.infra import parquet  # noqa: PLC0415 - slow to load, seldom needed

    return StreamingResponse(parquet.encode(pages()), media_type="application/vnd.apache.parquet")


def _json(rows: list[ledger.Row], complete_to_s: int) -> Iterator[bytes]:
    """`UsageAnswer`, slice by slice: many rows at once would keep the event loop waiting."""
    yield b'{"data":['
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        encoded = msgspec.json.encode(rows[start : start + _ROWS_AT_ONCE])
        yield (b"," if start else b"") + encoded[1:-1]
    yield b'],"complete_to_s":%d}' % complete_to_s


def _csv_answer(
    pages: Iterable[list[ledger.Row]], headings: Mapping[str, str] = MappingProxyType({})
) -> Response:
    return StreamingResponse(_csv(pages, headings), media_type="text/csv; charset=utf-8")


def _csv(pages: Iterable[list[ledger.Row]], headings: Mapping[str, str]) -> Iterator[str]:
    first = True
    for rows in pages:
        out = io.StringIO()
        writer = csv.writer(out)
        if rows and first:
            writer.writerow(headings.get(name, name) for name in rows[0])
            first = False
        for row in rows:
            writer.writerow([_cell(value) for value in row.values()])
        yield out.getvalue()


def _cell(value: object) -> object:
    return text_cell(value) if isinstance(value, str) else value


@router.get("/calls/{event_id}", response_model_exclude_unset=True, tags=["usage"])
def read_call(asked: ReadingCall, event_id: str) -> CallRow:
    """Read one call by its id, the `x-request-id` of its answer."""
    row = ledger.call(asked.db, event_id)
    if row is None or not asked.permitted(
        row["tenant"],
        account=row["account"],
        project=row["project"],
        environment=row["environment"],
        model=row["model_asked"],
    ):
        raise ApiError("not_found", "There is no such call.", param="event_id")
    hidden = ownership.hidden_fields(asked, "GET /calls/{event_id}")
    return CallRow(**ownership.without([row], hidden)[0])


@router.get("/metering", tags=["usage"])
def metering(asked: ReadingMetering) -> Metering:
    """Read how complete the ledger is: records received, entered, and put aside unread."""
    return Metering(**ledger.capture(asked.db, asked.context.ledger))


@router.get("/audit", tags=["audit"])
def list_audit(
    asked: ReadingAudit,
    page: Paged,
    tenant: NameQuery = None,
    actor: NameQuery = None,
    action: Annotated[str | None, Query(max_length=64)] = None,
    target: Annotated[str | None, Query(max_length=300)] = None,
    from_s: IntMoment = None,
    until_s: IntMoment = None,
) -> ListAnswer[AuditEvent]:
    """List who changed what, the latest first.

    Of one `actor`, by one `action` as `keys:create` or `login`, to one `target`, or of a time.
    """
    named = {"actor": actor, "action": action, "target": target}
    where = {name: value for name, value in named.items() if value is not None}
    found = admin_log.page(asked.db, page, asked.tenant(tenant), where, from_s, until_s)
    return listed(ListAnswer[AuditEvent], found, asked.visible(found.rows))


@router.get("/served-models", response_model_exclude_unset=True, tags=["models"])
def list_served_models(asked: ReadingModels) -> Items[Model]:
    """List the models served; for operators with the upstreams behind them."""
    reach = asked.models_anywhere(asked.tenant(None))
    served = asked.context.publisher.snapshot.models.values()
    models = msgspec.to_builtins([m for m in served if reach is None or m.name in reach])
    charged = {m["name"]: _prices(asked, m["name"]) for m in models}
    models = ownership.without(models, ownership.hidden_fields(asked, "GET /served-models"))
    return Items[Model](data=[Model(**m, prices=charged[m["name"]]) for m in models])


def _prices(asked: RequestContext, model: str) -> list[PriceList]:
    """What a call of a model may be charged by; see `Model.prices`."""
    snapshot = asked.context.publisher.snapshot
    tenant = "" if asked.actor.tenant == PLATFORM else asked.actor.tenant
    sold = selling_price(snapshot.sell, tenant, model, time.time())
    if sold is None:
        asked_for = [offer.price for offer in snapshot.models[model].offers if offer.price]
        by_rows = {(one.currency, one.tiers): one for one in asked_for if one.tiers}
        found = sorted(by_rows.values(), key=partial(_yuan, snapshot.usd_cny_micro))
        found = found[:1] + found[1:][-1:]
    else:
        found = [sold]
    return [_shown(price) for price in found]


def _shown(price: Price) -> PriceList:
    """A price as JSON has it: its schedule has lists, where a price has tuples."""
    return PriceList(**msgspec.json.decode(msgspec.json.encode(price)))


def _yuan(usd_cny_micro: int, price: Price) -> int:
    """What a million tokens each way cost by a price's first row, in micro-yuan, to compare."""
    row = price.tiers[0]
    return to_yuan(row.input + row.output, price.currency, usd_cny_micro)


class GatewayState(AnswerBody):
    """A gateway process as it said it last."""

    name: str
    version: str
    """Of the program."""
    revision: int
    """Of the configuration that it serves by."""
    age_s: float
    """Between its last word from control and its report."""
    received_s: float
    """When it reported; Unix time."""
    rejected_revision: int | None
    """The latest configuration, where it cannot use that and keeps the one before."""
    rejected_reason: str
    applied_parts: list[str]
    """Of the rejected one, in force all the same: `keys`, `limits`, `residency`."""
    running: dict[str, int]
    """Calls that run now, by upstream; an upstream with `drain` is done when none shows any."""


@router.get("/gateways", tags=["models"])
def list_gateways(asked: ReadingUpstreams) -> Items[GatewayState]:
    """List the gateway processes with the configuration that each serves by."""
    rows = []
    for one in gateways.seen(asked.db):
        status, refused = one.status, one.status.refused
        rows.append(
            GatewayState(
                name=status.name,
                version=status.version,
                revision=status.revision,
                age_s=status.snapshot_age_s,
                received_s=one.seen_s,
                rejected_revision=None if refused is None else refused.revision,
                rejected_reason="" if refused is None else refused.why,
                applied_parts=[] if refused is None else list(refused.applied),
                running={u.id: u.running for u in status.upstreams if u.running},
            )
        )
    return Items[GatewayState](data=rows)


@router.get("/upstream-health", tags=["models"])
def list_upstream_health(asked: ReadingUpstreams) -> Items[UpstreamState]:
    """List upstreams with their health: own engines as last probed, others as calls found them."""
    at_gateways, now_s = gateways.upstreams(asked.db), time.time()
    return Items[UpstreamState](
        data=[
            _upstream_state(asked, upstream, at_gateways.get(upstream.id), now_s)
            for upstream in asked.context.publisher.snapshot.upstreams.values()
        ]
    )


def _upstream_state(
    asked: RequestContext,
    upstream: Upstream,
    seen: gateways.UpstreamAtGateways | None,
    now_s: float,
) -> UpstreamState:
    publisher, called = asked.context.publisher, asked.context.ledger.upstream_health
    seen = seen or gateways.UpstreamAtGateways()
    recent = called.recent(upstream.id, now_s)
    waits = called.first_byte_waits(upstream.id, now_s)
    health = publisher.health.get(upstream.id) or called.of(upstream.id, now_s)
    return UpstreamState(
        id=upstream.id,
        provider=upstream.provider,
        base_url=upstream.base_url,
        zone=upstream.zone or "unknown",
        health=health or "not probed",
        drain=upstream.drain,
        running=seen.running,
        breaker=seen.breaker,
        keys=[
            UpstreamKeyState(number=key.number, state=key.state, retry_after_s=key.rests_s)
            for key in seen.keys
        ],
        succeeded=recent.succeeded,
        failed=recent.failed,
        last_error=recent.last_error or seen.why,
        first_byte_p50_ms=waits.p50_ms,
        first_byte_p95_ms=waits.p95_ms,
        metrics=publisher.engine_metrics.get(upstream.id, {}),
    )
