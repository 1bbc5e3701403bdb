"""Legal holds as conditions of statements: which calls' rows nothing deletes for now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, func, or_, select

from tokenschain.infra.database.content_tables import call_contents, legal_holds

subjects_of = msgspec.json.Decoder(list[str]).decode
"""The end user that a hold is of, by each hash; none: it is of the whole tenant."""


def live(connection: Connection, tenants: Sequence[str]) -> list[Any]:
    """Holds of tenants in force."""
    c = legal_holds.c
    query = select(legal_holds).where(c.released_at_ms.is_(None), c.tenant.in_(tenants))
    return list(connection.execute(query))


def is_call_held(
    tenant: ColumnElement[str], started_ms: ColumnElement[int], call_id: ColumnElement[str]
) -> ColumnElement[bool]:
    """Whether a row that stands for a call in another table is held.

    A hold of one end user reaches every call that is not known to be another's. The holds are read
    by the statement itself: all tenants' together are more than one statement can spell out.
    """
    h, c = legal_holds.c, call_contents.c
    quoted = '"' + c.subject + '"'  # `subjects` is JSON
    others = select(c.call_id).where(
        c.call_id == call_id, func.replace(h.subjects, quoted, "") == h.subjects
    )
    return (
        select(h.id)
        .where(
            h.tenant == tenant,
            h.released_at_ms.is_(None),
            h.from_ms <= started_ms,
            h.until_ms > started_ms,
            or_(h.subjects == "[]", ~others.correlate_except(call_contents).exists()),
        )
        .correlate_except(legal_holds)
        .exists()
    )
