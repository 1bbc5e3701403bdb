"""Database transfer: moves everything to another database, verified and resumable."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    String,
    Table,
    delete,
    func,
    insert,
    inspect,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.engine import Row

from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import (
    Pico,
    api_keys,
    ledger,
    meta,
    metadata,
)

PAGE = 5_000
_MARK = "moving/"
"""Names in `meta` under which the target remembers how far each table has come."""
_SPLIT = 10**9

Progress = Callable[[str, int, int], None]
"""Told a table, how many of its rows are there, and how many there are in all."""


class MovingError(Exception):
    """It cannot be moved, or what arrived is not what was sent; says why."""


class Checked(NamedTuple):
    """What a table holds: rows, and the sums of its numbers and of its texts' lengths."""

    rows: int
    sums: tuple[tuple[str, int], ...]

    def differences(self, other: Checked) -> list[str]:
        """What is otherwise there."""
        mine, theirs = (("rows", self.rows), *self.sums), (("rows", other.rows), *other.sums)
        pairs = zip(mine, theirs, strict=True)
        return [f"{name} {a} -> {b}" for (name, a), (_, b) in pairs if a != b]


def move(source: Engine, target: Engine, progress: Progress) -> dict[str, Checked]:
    """Copy every table; returns what each holds, which is the same on both sides.

    The source is read in one transaction, so that what is copied is of one moment; a SQLite
    source takes no writes meanwhile. Each page arrives together with a note of how far it went:
    after a break the same command goes on from there.

    Raises:
        MovingError: the target is in use, or a count or sum differs.
    """
    require_platform(source)
    for engine in (source, target):
        db.migrate(engine)
    _refuse_used(target)
    level = {"isolation_level": "REPEATABLE READ"} if source.dialect.name == "postgresql" else {}
    with source.connect().execution_options(**level) as read:
        tables = metadata.sorted_tables
        for table in tables:
            _move_table(read, target, table, progress)
        found = {}
        with target.begin() as written:
            written.execute(delete(meta).where(meta.c.name.startswith(_MARK)))
            for table in tables:
                there, here = check(read, table), check(written, table)
                if wrong := there.differences(here):
                    raise MovingError(f"{table.name} arrived otherwise: {', '.join(wrong)}")
                found[table.name] = here
    return found


def require_platform(engine: Engine) -> None:
    """Refuse what is no database of the platform, before anything is made or read.

    Raises:
        MovingError: there is none, or it holds something else.
    """
    file = engine.url.database
    if engine.dialect.name == "sqlite" and not Path(file or "").is_file():
        raise MovingError(f"there is no database at {file}")
    if not inspect(engine).has_table(meta.name):
        where = engine.url.render_as_string(hide_password=True)
        raise MovingError(f"{where} is no database of this platform")


def _refuse_used(target: Engine) -> None:
    with target.begin() as connection:
        began = connection.execute(select(meta.c.name).where(meta.c.name.startswith(_MARK))).first()
        if began is not None:
            return
        for table in (api_keys, ledger):
            if connection.execute(select(table).limit(1)).first() is not None:
                raise MovingError(f"the target is in use: its table {table.name} has rows")
        connection.execute(delete(meta))


def _move_table(read: Connection, target: Engine, table: Table, progress: Progress) -> None:
    key = list(table.primary_key.columns)
    columns = [column.name for column in table.columns]
    total = read.execute(select(func.count()).select_from(table)).scalar_one()
    mark = _MARK + table.name
    with target.connect() as connection:
        noted = connection.execute(select(meta.c.value).where(meta.c.name == mark)).scalar()
        here = connection.execute(select(func.count()).select_from(table)).scalar_one()
    after = None if noted is None else json.loads(noted)
    done = 0 if after is None else min(here, total)
    progress(table.name, done, total)
    for rows in _pages(read, table, after):
        with target.begin() as connection:
            if table is ledger:
                at = columns.index("started_ms")
                db.ensure_days(target, {row[at] // db.DAY_MS for row in rows})
            _append(connection, table, columns, rows)
            last = json.dumps([getattr(rows[-1], column.name) for column in key])
            connection.execute(delete(meta).where(meta.c.name == mark))
            connection.execute(insert(meta).values(name=mark, value=last))
        done += len(rows)
        progress(table.name, done, total)


def _pages(read: Connection, table: Table, after: list[Any] | None) -> Iterator[list[Row[Any]]]:
    key = list(table.primary_key.columns)
    while True:
        query = select(table).order_by(*key).limit(PAGE)
        if after is not None:
            query = query.where(tuple_(*key) > tuple(after))
        rows = list(read.execute(query))
        if not rows:
            return
        yield rows
        after = [getattr(rows[-1], column.name) for column in key]


def _append(connection: Connection, table: Table, columns: list[str], rows: list[Row[Any]]) -> None:
    if any(isinstance(column.type, LargeBinary) for column in table.columns):
        connection.execute(insert(table), [dict(row._mapping) for row in rows])
    else:
        db.append(connection, table, columns, [tuple(row) for row in rows])


def check(connection: Connection, table: Table) -> Checked:
    """Count rows and add up columns, exactly on either database; how far a move has come
    is left out."""
    exact = connection.dialect.name == "postgresql"
    parts: list[tuple[str, list[ColumnElement[Any]]]] = []
    for column in table.columns:
        name = column.name
        if isinstance(column.type, Pico | Integer):
            if exact:
                parts.append((name, [func.sum(column)]))
            else:  # 64 bits are not enough for every sum
                halves = (f"{name} / {_SPLIT}", f"{name} % {_SPLIT}")
                parts.append((name, [func.sum(literal_column(h, BigInteger)) for h in halves]))
        elif isinstance(column.type, Boolean):
            parts.append((name, [func.count().filter(column)]))
        elif isinstance(column.type, String | LargeBinary):
            parts.append((name, [func.sum(func.length(column))]))
    query = select(func.count(), *(part for _, found in parts for part in found))
    query = query.select_from(table)
    if table is meta:
        query = query.where(~meta.c.name.startswith(_MARK))
    count, *values = connection.execute(query).one()
    numbers = iter([int(value or 0) for value in values])
    sums = []
    for name, found in parts:
        total = 0
        for _ in found:
            total = total * _SPLIT + next(numbers)
        sums.append((name, total))
    return Checked(int(count), tuple(sums))


def back_up(source: Engine, file: Path, progress: Progress) -> dict[str, Checked]:
    """Write everything into a SQLite file, while the platform runs.

    Raises:
        MovingError: the file is there already or cannot be made, there is no platform to copy, or
            what arrived is not what was sent.
    """
    require_platform(source)
    try:
        file.touch(mode=0o600, exist_ok=False)  # not readable by others while it is written
    except FileExistsError:
        raise MovingError(f"{file} is there already") from None
    except OSError as error:
        raise MovingError(f"{file} cannot be written: {error.strerror}") from None
    copy = db.connect(f"sqlite:///{file}")
    try:
        if source.dialect.name == "sqlite":
            _copy_file(Path(str(source.url.database)), file)
            with copy.connect() as connection:
                return {table.name: check(connection, table) for table in metadata.sorted_tables}
        return move(source, copy, progress)
    finally:
        copy.dispose()


def _copy_file(source: Path, target: Path) -> None:
    """SQLite's own online copy: of one moment, and writers do not wait."""
    with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as write:
        read.backup(write, pages=1_000)
