"""Content policies: what is kept of what a tenant's or project's calls say, and how long.

How long only ever rises: what law or contract has somebody keep is not given up by a slip.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, select

from tokenschain.control import revisions
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot.data_classes import Rules
from tokenschain.core.snapshot.kept_content import KeptContent
from tokenschain.infra.database import engine as database
from tokenschain.infra.database import paging
from tokenschain.infra.database.content_tables import content_policies as policies
from tokenschain.infra.database.paging import Page, Rows

SIX_MONTHS_DAYS = 184
"""The longest six months there are. Cybersecurity Law, article 21 (network logs); Measures for
Labelling AI-Generated Content, article 9."""
THREE_YEARS_DAYS = 1_096
"""Network Data Security Management Regulations, article 12; PIPL, article 56."""
RETENTION_DAYS_MAX = 36_500
CLASSES: Mapping[str, int] = {"6 months": SIX_MONTHS_DAYS, "3 years": THREE_YEARS_DAYS}
_DAYS = re.compile(r"days:([1-9][0-9]{0,4})")


def days_of(retention: str) -> int:
    """The days of a retention class: `6 months`, `3 years` or `days:N`.

    Raises:
        ApiError: `invalid_value`.
    """
    days = CLASSES.get(retention)
    if days is None:
        found = _DAYS.fullmatch(retention)
        days = int(found[1]) if found else 0
    if not 0 < days <= RETENTION_DAYS_MAX:
        why = (
            f"A retention class is `6 months`, `3 years` or `days:N`, N up to {RETENTION_DAYS_MAX}."
        )
        raise ApiError("invalid_value", why, param="retention")
    return days


def class_of(days: int) -> str:
    """A number of days as a retention class."""
    return next((name for name, of in CLASSES.items() if of == days), f"days:{days}")


def put(
    connection: Connection,
    engine: Engine,
    tenant: str,
    project: str,
    kept: KeptContent,
    retention: str,
    by: str,
    now_ms: int,
) -> dict[str, Any]:
    """Set the policy of the platform, a tenant or a project.

    Args:
        tenant: empty: of all tenants that have none.
        project: empty: of all of the tenant's projects that have none.

    Raises:
        ApiError: `invalid_value`; `conflict` where content would be kept for a shorter time.
    """
    days = days_of(retention)
    if project and not tenant:
        raise ApiError("invalid_value", "A project is a tenant's: name it.", param="tenant")
    held = days_for(in_force(connection), tenant, project)
    if days < held:
        why = (
            f"Content is kept for `{class_of(held)}` here. A retention class only goes upwards: "
            "choose one that is as long or longer."
        )
        raise ApiError("conflict", why, param="retention")
    row = {
        "tenant": tenant, "project": project, "content": kept.value, "retention_days": days,
        "changed_by": by, "changed_at_ms": now_ms,
    }  # fmt: skip
    statement = database.upsert(engine, policies).values(row)
    changed = {name: row[name] for name in row if name not in ("tenant", "project")}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["tenant", "project"], set_=changed)
    )
    revisions.bump(connection)
    return shown(row)


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A policy as the API shows it."""
    found = {name: value for name, value in row.items() if name != "retention_days"}
    return found | {"retention": class_of(row["retention_days"])}


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of policies."""
    order = (policies.c.tenant, policies.c.project)
    found = paging.read_page(connection, select(policies), page_, order, tenant=tenant)
    return found._replace(rows=[shown(row) for row in found.rows])


def in_force(connection: Connection) -> dict[tuple[str, str], tuple[KeptContent, int]]:
    """By tenant and project: what is kept, and for how many days."""
    return {
        (row.tenant, row.project): (KeptContent(row.content), row.retention_days)
        for row in connection.execute(select(policies))
    }


def published(connection: Connection) -> dict[str, KeptContent]:
    """Policies as gateways know them; see `core.snapshot.kept_content.kept_of`."""
    return {
        f"{tenant}/{project}": kept
        for (tenant, project), (kept, _) in sorted(in_force(connection).items())
    }


ReadRules = Callable[[Connection, Collection[str]], Rules]
"""(connection, tenants) -> what is said of data classes by the platform and them."""


def no_rules(connection: Connection, tenants: Collection[str]) -> Rules:
    """Nothing is said of any data class."""
    return {}


def days_for(
    given: Mapping[tuple[str, str], tuple[KeptContent, int]], tenant: str, project: str
) -> int:
    """For how many days a project's content is kept: the longest of what is said of it, the
    tenant and the platform. 0 where nothing is."""
    wider = {("", ""), (tenant, ""), (tenant, project)}
    return max((days for name, (_, days) in given.items() if name in wider), default=0)
