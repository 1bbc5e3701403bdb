"""Legal holds as conditions of statements: which calls' rows nothing deletes for now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, not_, or_, select, true

from tokenschain.infra.database.content_tables import call_contents, legal_holds

subjects_of = msgspec.json.Decoder(list[str]).decode
"""The end user that a hold is of, by each hash; none: it is of the whole tenant."""


def live(connection: Connection, tenants: Sequence[str] | None) -> list[Any]:
    """Holds in force.

    Args:
        tenants: of which; None: of all.
    """
    c = legal_holds.c
    query = select(legal_holds).where(c.released_at_ms.is_(None))
    if tenants is not None:
        query = query.where(c.tenant.in_(tenants))
    return list(connection.execute(query))


def is_call_held(
    connection: Connection,
    tenants: Sequence[str] | None,
    tenant: ColumnElement[str],
    started_ms: ColumnElement[int],
    call_id: ColumnElement[str],
) -> ColumnElement[bool]:
    """Whether a row that stands for a call in another table is held.

    A hold of one end user reaches every call that is not known to be another's.

    Args:
        tenants: whose rows are asked for; None: all.
    """
    c, held = call_contents.c, []
    for one in live(connection, tenants):
        of_it = [tenant == one.tenant, started_ms >= one.from_ms, started_ms < one.until_ms]
        if subjects := subjects_of(one.subjects):
            others = select(c.call_id).where(c.call_id == call_id, c.subject.not_in(subjects))
            of_it.append(~others.exists())
        held.append(and_(*of_it))
    return or_(*held) if held else not_(true())
