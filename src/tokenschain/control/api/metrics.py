"""Control's metrics for Prometheus: ledger lag, backlog, database, configuration, leases, alerts.

(No postponed annotations here: FastAPI reads them.)
"""

import time

from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control.api.context import ApiContext, context_of
from tokenschain.control.observability import metrics
from tokenschain.core.errors import ApiError
from tokenschain.infra.control_telemetry import ControlMetrics, Figures
from tokenschain.infra.database.engine import pool_use, reading
from tokenschain.infra.security.secrets import same
from tokenschain.infra.telemetry import resident_bytes

METRICS_TYPE = "text/plain; version=0.0.4"
router = APIRouter(include_in_schema=False)


@router.get("/metrics")
def read_metrics(request: Request) -> Response:
    """Control's metrics, with the token for metrics."""
    context = context_of(request)
    given = request.headers.get("authorization", "").removeprefix("Bearer ")
    if not context.metrics_token or not same(given, context.metrics_token):
        raise ApiError("invalid_api_key", "Metrics need the token of `secrets.metrics_token_file`.")
    return Response(metrics_text(context), media_type=METRICS_TYPE)


def metrics_text(context: ApiContext) -> bytes:
    """In Prometheus' text format; while the database is lost, without what is in it."""
    ledger, publisher, now_s = context.ledger, context.publisher, time.time()
    in_use, most = pool_use(context.engine)
    figures: Figures = {
        "records_received": ledger.received,
        "records_entered": ledger.entered,
        "ledger_lag_seconds": ledger.shipping.lag_s(now_s),
        "journal_backlog_bytes": ledger.shipping.backlog_bytes(now_s),
        "revision": publisher.revision,
        "database_connections": in_use,
        "database_connections_max": most,
        "resident_bytes": resident_bytes(),
        "log_events": context.log_events,
    }
    is_up = publisher.database_up
    if is_up:
        try:
            with reading(context.engine) as connection:
                figures |= metrics.figures(connection, now_s)
        except SQLAlchemyError:
            is_up = False
    return ControlMetrics(figures | {"database_up": float(is_up)}).text()
