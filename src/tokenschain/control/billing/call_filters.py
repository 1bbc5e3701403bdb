"""Filters of single calls: conditions on rows of the ledger."""

from __future__ import annotations

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, func, literal, not_, or_, select

from tokenschain.core import call_record
from tokenschain.core.call_record import HitKind
from tokenschain.infra.database.tables import ledger


def condition(name: str, value: str) -> ColumnElement[bool]:
    """Whether a call has this value.

    Args:
        name: of a column; `tag` is one of a call's tags, `tried` an upstream that was tried for it,
            `result` what became of it in one word.
    """
    if name == "tag":
        return _contains(literal(",") + ledger.c.tags + literal(","), f",{value},")
    if name == "tried":
        upstream = msgspec.json.encode(value).decode()
        return or_(
            ledger.c.upstream == value, _contains(ledger.c.attempts, f'"upstream":{upstream}')
        )
    if name == "result":
        return _results()[value]
    return ledger.c[name] == value


def _results() -> dict[str, ColumnElement[bool]]:
    """`call_record.result_of` of a row, as a condition for each result."""
    row = ledger.c
    limited = or_(row.status == 429, row.outcome.in_(call_record.LIMITED))
    blocked = and_(row.outcome.in_(call_record.BLOCKED), not_(limited))
    fine = and_(row.outcome == "ok", not_(limited))
    cached = row.cache.in_([kind.value for kind in HitKind])
    # No text within the JSON has this: its quotes would be escaped.
    several = _contains(row.attempts, '},{"upstream":')
    return {
        "ok": and_(fine, not_(cached), not_(several)),
        "cached": and_(fine, cached),
        "rescued": and_(fine, not_(cached), several),
        "failed": and_(row.outcome != "ok", not_(limited), not_(blocked)),
        "limited": limited,
        "blocked": blocked,
    }


def _contains(text: ColumnElement[str], part: str) -> ColumnElement[bool]:
    """Whether a text has a part, letter by letter: LIKE takes `A` for `a` on SQLite."""
    return func.replace(text, part, "") != text


def data_class_of(connection: Connection, tenant: str, event_id: str) -> str | None:
    """The data classes of a call, as its record has them; None: the ledger has no record of it,
    not yet or not any more."""
    c = ledger.c
    query = select(c.data_class).where(c.tenant == tenant, c.event_id == event_id)
    found = connection.execute(query).scalar()
    return None if found is None else str(found)
