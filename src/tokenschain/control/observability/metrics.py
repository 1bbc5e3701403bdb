"""What control's metrics say of the database: rejected records, leases, gateways, alerts."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from tokenschain.control.billing import rejected_records
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.infra.control_telemetry import Figures
from tokenschain.infra.database.tables import alerts, budget_counts, lease_streams

GATEWAY_SEEN_S = 60.0


def figures(connection: Connection, now_s: float) -> Figures:
    """By the names of `infra.control_telemetry`."""

    def count(query: object) -> int:
        return int(connection.execute(query).scalar() or 0)  # type: ignore[call-overload]

    counted = func.count()
    raised = (
        select(alerts.c.kind, counted).where(alerts.c.at_s > now_s - DAY_S).group_by(alerts.c.kind)
    )
    seen = lease_streams.c.seen_at_s > now_s - GATEWAY_SEEN_S
    return {
        "rejected_records": rejected_records.count(connection),
        "gateway_processes": count(select(counted).select_from(lease_streams).where(seen)),
        "leases": count(
            select(counted).select_from(budget_counts).where(budget_counts.c.granted > 0)
        ),
        "alerts_unsent": count(
            select(counted).select_from(alerts).where(alerts.c.sent_at_s.is_(None))
        ),
        "alerts_raised": {kind: number for kind, number in connection.execute(raised)},
    }
