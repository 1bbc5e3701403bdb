"""Revision counter of the published configuration, and single stored values."""

from __future__ import annotations

import time

from sqlalchemy import Connection, cast, insert, select, update
from sqlalchemy.types import BigInteger, Text

from tokenschain.infra.database.tables import meta

REVISION = "revision"


def current(connection: Connection) -> int:
    """The latest revision."""
    value = get_meta(connection, REVISION)
    return int(value) if value is not None else 0


def bump(connection: Connection) -> int:
    """A new revision, for what this transaction changes.

    The row stays locked until the transaction ends, so that revisions are seen in order. The
    first one of a database is the time, so that gateways which served by another database before
    take it for later.
    """
    bumped = (
        update(meta)
        .where(meta.c.name == REVISION)
        .values(value=cast(cast(meta.c.value, BigInteger) + 1, Text))
        .returning(meta.c.value)
    )
    value = connection.execute(bumped).scalar()
    if value is None:
        return _put_time(connection, 0)
    return int(value)


def advance(connection: Connection) -> int:
    """Go on from a revision that no gateway can have seen: what a database that was restored
    from a backup needs, since gateways refuse an older configuration than they served by."""
    return _put_time(connection, current(connection))


def _put_time(connection: Connection, at_least: int) -> int:
    revision = max(at_least + 1, time.time_ns() // 1_000_000)
    put_meta(connection, REVISION, str(revision))
    return revision


def put_meta(connection: Connection, name: str, value: str) -> None:
    """Set a single value."""
    changed = connection.execute(
        update(meta).where(meta.c.name == name).values(value=value)
    ).rowcount
    if not changed:
        connection.execute(insert(meta).values(name=name, value=value))


def get_meta(connection: Connection, name: str) -> str | None:
    """Read a single value."""
    return connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()
