"""Silences: which alerts are not sent for a while, by whom and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, get_args

from sqlalchemy import Connection, insert, or_, select, update

from tokenschain.control.identity import shares
from tokenschain.core.errors import ApiError
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import alert_silences
from tokenschain.infra.security import secrets

SilencedKind = Literal[
    "budget_reached", "budget_forecast", "cache_false_hits", "records_rejected",
    "configuration_refused", "moderation_packs_stale", "upstream_down",
    "incident_report_due",
]  # fmt: skip
"""What may be silenced. Not what protects accounts: whoever takes one over would begin with it;
and a test message is asked for by somebody who waits."""
SILENCED_KINDS = get_args(SilencedKind)
LASTS_MAX_S = 30 * 86_400
KEPT_S = 90 * 86_400
"""After it has ended."""


def add(
    connection: Connection,
    *,
    tenant: str,
    kind: str,
    upstream: str,
    from_s: int | None,
    expires_at_s: int,
    reason: str,
    by: str,
    now_s: int,
) -> dict[str, Any]:
    """Let a silence begin.

    Args:
        tenant: whose alerts; empty: the platform's and those of all tenants.
        kind: of alerts; empty: all that may be silenced.
        upstream: which they are about; empty: about anything.
        from_s: Unix time; None: now.

    Raises:
        ApiError: `invalid_value` where it would last too long or is over, `conflict` where the
            tenant has too many.
    """
    begins_s = now_s if from_s is None else from_s
    if expires_at_s <= max(begins_s, now_s):
        raise ApiError(
            "invalid_value", "It ends before it begins, or is over.", param="expires_at_s"
        )
    if expires_at_s - min(begins_s, now_s) > LASTS_MAX_S:
        why = "A silence ends within 30 days of now, and lasts no longer."
        raise ApiError("invalid_value", why, param="expires_at_s")
    table = alert_silences.c
    shares.check(connection, shares.ALERT_SILENCES, tenant, table.expires_at_s > now_s)
    row = {
        "id": secrets.new_id("sil"), "tenant": tenant, "kind": kind, "upstream": upstream,
        "from_s": begins_s, "expires_at_s": expires_at_s, "reason": reason, "created_by": by,
        "created_at_s": now_s, "ended_by": None,
    }  # fmt: skip
    connection.execute(insert(alert_silences).values(row))
    return row


def find(connection: Connection, silence_id: str) -> dict[str, Any] | None:
    """One silence."""
    wanted = select(alert_silences).where(alert_silences.c.id == silence_id)
    row = connection.execute(wanted).mappings().first()
    return None if row is None else dict(row)


def end(connection: Connection, silence_id: str, by: str, now_s: int) -> bool:
    """Let a silence end now; whether it had not ended yet."""
    table = alert_silences.c
    done = connection.execute(
        update(alert_silences)
        .where(table.id == silence_id, table.expires_at_s > now_s)
        .values(expires_at_s=now_s, ended_by=by)
    )
    return done.rowcount == 1


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of silences, those that last longest first."""
    order = (alert_silences.c.expires_at_s, alert_silences.c.id)
    return paging.read_page(
        connection, select(alert_silences), page_, order, newest=True, tenant=tenant
    )


def in_force(
    connection: Connection, tenants: Collection[str], now_s: int
) -> list[Mapping[str, Any]]:
    """The silences of now that may hold for alerts of these tenants."""
    table = alert_silences.c
    wanted = select(alert_silences).where(
        table.expires_at_s > now_s, table.from_s <= now_s,
        or_(table.tenant == "", table.tenant.in_(tenants)),
    )  # fmt: skip
    return [dict(row) for row in connection.execute(wanted.order_by(table.id)).mappings()]


def silence_of(
    silences: Sequence[Mapping[str, Any]], tenant: str, kind: str, detail: Mapping[str, Any]
) -> str | None:
    """The id of a silence that holds for an alert; None: it is sent."""
    if kind not in SILENCED_KINDS:
        return None
    for one in silences:
        if (
            one["tenant"] in ("", tenant)
            and one["kind"] in ("", kind)
            and one["upstream"] in ("", detail.get("upstream"))
        ):
            return str(one["id"])
    return None


def sweep(connection: Connection, now_s: float) -> None:
    """Forget silences that ended long ago."""
    table = alert_silences.c
    connection.execute(alert_silences.delete().where(table.expires_at_s < int(now_s) - KEPT_S))
