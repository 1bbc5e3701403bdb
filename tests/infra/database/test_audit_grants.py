"""With the rights that are granted, control seals, and cannot change what it sealed."""

from __future__ import annotations

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from tests.records import record
from tests.servers import Postgres
from tokenschain.control.audit import log, pending
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.infra.database import audit_grants
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

ROLE = 'control "x"'


def test_control_adds_to_the_log_and_changes_nothing_of_it(postgres: Postgres) -> None:
    url = str(postgres.database())
    boss = db.connect(url)
    db.migrate(boss)
    quoted = ROLE.replace('"', '""')
    with boss.begin() as connection:
        run = connection.exec_driver_sql
        for statement in (
            f"create role \"{quoted}\" login password 'secret'",
            f'grant usage on schema public to "{quoted}"',
            f'grant all on all tables in schema public to "{quoted}"',
            "create role reader login password 'secret'",
        ):
            run(statement)
    for _ in range(2):
        with boss.begin() as connection:
            for statement in audit_grants.statements(ROLE, "reader"):
                connection.exec_driver_sql(statement)

    def connected(role: str) -> str:
        made = make_url(url).set(username=role, password="secret")
        return made.render_as_string(hide_password=False)

    control, reader = db.connect(connected(ROLE)), db.connect(connected("reader"))
    now = [1_790_000_000.0]
    secret = NoteSecret(INTERNATIONAL, "x" * 43)
    sealer = SegmentSealer(control, INTERNATIONAL, secret, 1.0, lambda: now[0], idle_s=0.5)
    for number in range(4):
        now[0] += 1
        with control.begin() as connection:
            pending.add_calls(connection, [record(number)], {})
        assert sealer.seal() is not None
    for engine, statements in (
        (control, ("update {} set {} = {}", "delete from {}", "truncate {}", "drop table {}")),
        (reader, ("insert into {} default values", "delete from {}")),
    ):
        for table in audit_grants.SEALED:
            column = table.columns[0].name
            for statement in statements:
                refused = pytest.raises(DBAPIError, match=r"permission denied|must be owner")
                with refused, engine.begin() as connection:
                    connection.execute(text(statement.format(table.name, column, column)))
    with reader.connect() as connection:
        assert log.size_of(connection) == 4 and len(log.read_segments(connection, 0, 9)) == 4
        with pytest.raises(DBAPIError, match="permission denied"):
            connection.execute(text("select * from ledger"))
    for engine in (boss, control, reader):
        engine.dispose()
