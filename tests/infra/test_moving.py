"""Moving between databases, broken off and resumed, and backups of a running platform."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, insert, select, text

from tests.records import record
from tests.servers import Postgres
from tests.stack import Stack
from tokenschain.control.billing import ledger as ledger_module
from tokenschain.control.billing import limits
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.identity import api_keys as api_keys_module
from tokenschain.core import call_record
from tokenschain.core.limits import Budget
from tokenschain.infra.database import engine as db
from tokenschain.infra.database import transfer
from tokenschain.infra.database.tables import api_keys, ledger, rejected_records
from tokenschain.infra.database.transfer import MovingError
from tokenschain.infra.security.suite import INTERNATIONAL


def fill(engine: Engine) -> None:
    """Rows with all that is difficult: bytes, nulls, truths, tabs, large sums, other scripts."""
    db.migrate(engine)
    with engine.begin() as connection:
        for number in range(20):
            api_keys_module.create_key(
                connection, INTERNATIONAL, name=f"钥匙\t{number}\\n\n", tenant=f"t{number % 3}",
                project="p", environment="e", models=None if number % 2 else ["m"],
            )  # fmt: skip
        limits.put(connection, Budget("all", "spend", 10**18), "")
        ledger_module.deposit(connection, "t1", "USD", 4 * 10**18, "bank")
        ledger_module.deposit(connection, "t2", "USD", 4 * 10**18, "bank")
        connection.execute(
            insert(rejected_records).values(
                payload_hash="x", received_at_s=1, reason="r", payload=b"\x00\xff\n\t\\"
            )
        )
    made = [
        record(n * 7, tags="subject=数学", cost_pico=None if n % 9 == 0 else n) for n in range(700)
    ]
    Ledger(engine).ingest([call_record.encode(r) for r in made])


@pytest.fixture(params=["sqlite to postgresql", "postgresql to sqlite"])
def ends(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Any:
    sqlite, server = f"sqlite:///{tmp_path / 'a.db'}", postgres.database()
    order = (sqlite, server) if request.param.startswith("sqlite") else (server, sqlite)
    made = [db.connect(url) for url in order]
    yield made
    for engine in made:
        engine.dispose()


def test_a_broken_off_move_goes_on_where_it_was_and_everything_arrives(
    ends: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = ends
    fill(source)
    monkeypatch.setattr(transfer, "PAGE", 90)
    steps, breaks_at, broken_off = 0, 31, 0

    class Interrupted(Exception):
        pass

    def interrupt(name: str, done: int, total: int) -> None:
        nonlocal steps, breaks_at
        steps += 1
        if steps == breaks_at:
            # Later each time, however many tables there are to pass.
            breaks_at += 31 + 10 * broken_off
            raise Interrupted

    for _ in range(100):
        try:
            found = transfer.move(source, target, interrupt)
            break
        except Interrupted:
            broken_off += 1
    assert broken_off >= 2
    assert found["ledger"].rows == 700 and found["api_keys"].rows == 20
    with source.connect() as a, target.connect() as b:
        for table in (ledger, api_keys, rejected_records):
            key = next(iter(table.primary_key.columns))
            rows = [
                sorted(tuple(row) for row in connection.execute(select(table).order_by(key)))
                for connection in (a, b)
            ]
            assert rows[0] == rows[1]
        assert ledger_module.balances_of(b, "t1")["USD"] == 4 * 10**18
    # It is a whole platform: late records still count once.
    again = [call_record.encode(record(n * 7)) for n in range(700)]
    assert Ledger(target).ingest(again) == 0
    with pytest.raises(MovingError, match="in use"):
        transfer.move(source, target, lambda *_: None)


def test_what_arrives_otherwise_is_found(ends: list[Engine]) -> None:
    source, target = ends
    fill(source)

    def meddle(name: str, done: int, total: int) -> None:
        if name == "ledger" and done == total:
            with target.begin() as connection:
                connection.execute(text("update ledger set prompt_tokens = prompt_tokens + 1"))

    with pytest.raises(MovingError, match=r"ledger arrived otherwise: prompt_tokens"):
        transfer.move(source, target, meddle)


def run(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tokenschain", *arguments],
        env=stack.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


SIM = {"max_tokens": 3, "x_sim": {"tokens": 3, "pause_s": 0}}


def test_a_running_platform_is_backed_up_moved_to_postgresql_and_restored(
    own_stack: Any, postgres: Postgres, tmp_path: Path
) -> None:
    stack: Stack = own_stack().start()
    calls = [stack.chat(**SIM).headers["x-request-id"] for _ in range(5)]
    stack.settled(5)
    saved = tmp_path / "saved.db"
    done = run(stack, "backup", str(saved))
    assert done.returncode == 0, done.stderr
    assert saved.stat().st_mode & 0o077 == 0
    assert "already" in run(stack, "backup", str(saved)).stderr
    calls.append(stack.chat(**SIM).headers["x-request-id"])
    stack.settled(6)
    # Control goes; gateways go on, and what they record waits.
    stack.stop("control")
    during = stack.chat(**SIM)
    assert during.status_code == 200
    url = postgres.database()
    plain = url.replace("postgresql+psycopg", "postgresql")
    source = str(stack.settings.data_dir / "tokenschain.db")
    moved = run(stack, "migrate", "--from", source, "--to", plain)
    assert moved.returncode == 0, moved.stderr
    assert "every count and sum agrees" in moved.stdout
    database = msgspec.structs.replace(stack.settings.database, url=url)
    stack.settings = msgspec.structs.replace(stack.settings, database=database)
    stack.environment["TOKENSCHAIN_DATABASE__URL"] = url
    stack.start("control")
    calls.append(during.headers["x-request-id"])
    assert {row["event_id"] for row in stack.settled(7)} == set(calls)
    assert stack.chat(**SIM).status_code == 200
    # And the backup, into yet another database: what there was when it was made.
    restored = postgres.database()
    done = run(stack, "migrate", "--from", str(saved), "--to", restored)
    assert done.returncode == 0, done.stderr
    engine = db.connect(restored)
    with engine.connect() as connection:
        kept = set(connection.execute(select(ledger.c.event_id)).scalars())
    engine.dispose()
    assert kept == set(calls[:5])
    wrong = run(stack, "migrate", "--from", str(saved), "--to", "postgresql://x@127.0.0.1:1/x")
    assert wrong.returncode == 1 and "error:" in wrong.stderr, wrong.stderr
