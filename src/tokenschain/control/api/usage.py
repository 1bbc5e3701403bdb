"""The admin API: organisation, keys, limits, usage, money, alerts, audit.

(No postponed annotations here: FastAPI reads them.)
"""

import csv
import io
import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field
from sqlalchemy import select

from tokenschain.control.api.common import with_detail
from tokenschain.control.api.context import (
    Asked,
    IntMoment,
    NameQuery,
    Paged,
    RequestContext,
    TransactionRoute,
    after_of,
    listed,
    read_page,
)
from tokenschain.control.billing import (
    ledger as ledger_module,
)
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import (
    audit_events,
    ledger,
)

router = APIRouter(prefix="/api/v1", route_class=TransactionRoute)


# --- organisation ------------------------------------------------------------------------


# --- keys -----------------------------------------------------------------------------------


# --- limits ---------------------------------------------------------------------------------


_Percent = Annotated[int, Field(ge=1, le=1_000)]


def _thresholds() -> list[int]:
    return [50, 80, 100]


# --- usage ------------------------------------------------------------------------------------


@router.get("/usage", responses={200: {"content": {"text/csv": {}}}})
def usage(
    asked: Asked,
    group_by: Annotated[str, Query(max_length=100)] = "tenant,model,day",
    from_s: IntMoment = None,
    until_s: IntMoment = None,
    tenant: NameQuery = None,
    project: NameQuery = None,
    key_id: NameQuery = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Any:
    """Calls, tokens, charges and cost; amounts are 10^-12 of the currency unit, exact."""
    whose = asked.tenant(tenant, "usage:read")
    dimensions = [name.strip() for name in group_by.split(",") if name.strip()]
    for name in dimensions:
        if name not in ledger_module.DIMENSIONS:
            known = ", ".join(ledger_module.DIMENSIONS)
            raise ApiError(
                "invalid_value", f"`{name[:50]}` is not one of: {known}.", param="group_by"
            )
    named = (("project", project), ("key_id", key_id), ("model", model))
    where = [(name, value) for name, value in named if value is not None]
    where += _only_own(asked, whose, project)
    now = int(time.time())
    try:
        rows = ledger_module.usage(
            asked.db,
            group_by=list(dict.fromkeys(dimensions)),
            from_s=now - 30 * DAY_S if from_s is None else from_s,
            until_s=now + DAY_S if until_s is None else until_s,
            tenant=whose,
            where=where,
        )
    except ValueError as error:
        raise ApiError("invalid_value", f"{error}.", param="group_by") from None
    if not asked.may("billing:read", PLATFORM):
        for row in rows:  # what the platform pays is its own affair
            row.pop("cost_pico", None)
            row.pop("currency", None)
    if form == "csv":
        return _csv_answer([rows])
    return {"data": rows}


def _only_own(
    asked: RequestContext, tenant: str | None, project: str | None
) -> list[tuple[str, str]]:
    """Who is bound to a project only sees that project's usage.

    Raises:
        ApiError: `permission_denied` when it would have to be several.
    """
    if tenant is None or asked.may("usage:read", tenant):
        return []
    if project is not None and asked.may("usage:read", tenant, project=project):
        return []
    raise ApiError("permission_denied", "Name a project of yours: `project=...`.", param="project")


@router.get("/calls")
def list_calls(
    asked: Asked,
    page: Paged,
    tenant: NameQuery = None,
    project: NameQuery = None,
    key_id: NameQuery = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
    outcome: Annotated[str | None, Query(max_length=64)] = None,
    from_s: IntMoment = None,
    until_s: IntMoment = None,
) -> dict[str, Any]:
    """Single calls with their attempts and the choice among upstreams; the latest first."""
    whose = asked.tenant(tenant, "usage:export")
    named = (("project", project), ("key_id", key_id), ("model_asked", model),
             ("outcome", outcome))  # fmt: skip
    where = [(name, value) for name, value in named if value is not None]
    where += _only_own(asked, whose, project)
    now = int(time.time())
    after = after_of(page, int, str)
    rows = ledger_module.calls(
        asked.db,
        tenant=whose,
        from_ms=(now - DAY_S if from_s is None else from_s) * 1_000,
        until_ms=(now + DAY_S if until_s is None else until_s) * 1_000,
        where=where,
        after=None if after is None else (after[0], after[1]),
        count=page.limit,
    )
    order = (ledger.c.started_ms, ledger.c.event_id)
    return listed(rows, page, order, _calls_seen(asked, rows))


def _calls_seen(asked: RequestContext, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if asked.may("billing:read", PLATFORM):
        return rows
    hidden = ("cost_pico", "currency", "price_version", "route", "gateway")
    return [{k: v for k, v in row.items() if k not in hidden} for row in rows]


@router.get(
    "/calls/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}, "application/vnd.apache.parquet": {}}}},
)
def export_calls(
    asked: Asked,
    from_s: Annotated[int, Query(ge=0, le=2**53)],
    until_s: Annotated[int, Query(ge=0, le=2**53)],
    tenant: NameQuery = None,
    form: Annotated[Literal["csv", "parquet"], Query(alias="format")] = "csv",
) -> Response:
    """All calls of a time as CSV or Parquet."""
    whose = asked.tenant(tenant, "usage:export")
    asked.need("usage:export", whose or PLATFORM)
    everything = asked.may("billing:read", PLATFORM)
    engine = asked.context.engine

    def pages() -> Iterator[list[dict[str, Any]]]:
        # Read after the request's own transaction, as the answer is sent.
        for rows in ledger_module.each_call(
            engine, tenant=whose, from_ms=from_s * 1_000, until_ms=until_s * 1_000
        ):
            for row in rows:
                for name in ("attempts", "route"):
                    row[name] = msgspec.json.encode(row[name]).decode()
                if not everything:
                    for name in ("cost_pico", "currency", "price_version", "route"):
                        row.pop(name)
            yield rows

    asked.note("usage:export", whose or "", f"{from_s}..{until_s}", {"format": form})
    if form == "csv":
        return _csv_answer(pages())
    from tokenschain.infra import parquet  # noqa: PLC0415 - slow to load, seldom needed

    return StreamingResponse(parquet.encode(pages()), media_type="application/vnd.apache.parquet")


def _csv_answer(pages: Iterable[list[dict[str, Any]]]) -> Response:
    return StreamingResponse(_csv(pages), media_type="text/csv; charset=utf-8")


def _csv(pages: Iterable[list[dict[str, Any]]]) -> Iterator[str]:
    first = True
    for rows in pages:
        out = io.StringIO()
        writer = csv.writer(out)
        if rows and first:
            writer.writerow(rows[0])
            first = False
        for row in rows:
            writer.writerow([_cell(value) for value in row.values()])
        yield out.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula is shown as text (CWE-1236)."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


# --- money ------------------------------------------------------------------------------------


@router.get("/metering")
def metering(asked: Asked) -> dict[str, Any]:
    """How complete the ledger is: records received, entered, and put aside unread."""
    asked.need("billing:read", PLATFORM)
    return ledger_module.capture(asked.db, asked.context.ledger)


# --- alerts -------------------------------------------------------------------------------------


# --- audit --------------------------------------------------------------------------------------


@router.get("/audit")
def list_audit(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """Who changed what, the latest first."""
    whose = asked.tenant(tenant, "audit:read")
    order = (audit_events.c.at_ms, audit_events.c.id)
    rows = read_page(asked.db, select(audit_events), page, order, newest=True, tenant=whose)
    seen = asked.visible("audit:read", rows)
    return listed(rows, page, order, list(map(with_detail, seen)))


# --- models ---------------------------------------------------------------------------------------


@router.get("/models")
def list_models(asked: Asked) -> dict[str, Any]:
    """Models served; for operators with the upstreams behind them."""
    asked.tenant(None, "models:read")
    models = msgspec.to_builtins(list(asked.context.publisher.snapshot.models.values()))
    if not asked.may("models:read", PLATFORM):
        models = [{k: v for k, v in model.items() if k != "offers"} for model in models]
    return {"data": models}


@router.get("/upstreams")
def list_upstreams(asked: Asked) -> dict[str, Any]:
    """Upstreams with their health as last probed."""
    asked.need("models:read", PLATFORM)
    publisher = asked.context.publisher
    return {
        "data": [
            {
                "id": upstream.id,
                "provider": upstream.provider,
                "base_url": upstream.base_url,
                "health": publisher.health.get(upstream.id, "not probed"),
                "metrics": publisher.engine_metrics.get(upstream.id, {}),
            }
            for upstream in publisher.snapshot.upstreams.values()
        ]
    }
