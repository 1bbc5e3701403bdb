"""The control plane on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import random
import threading

from sqlalchemy import Engine, select

from tests import web
from tests.stack import Stack
from tokenschain.control import revisions
from tokenschain.control.billing import ledger as ledger_module
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.identity import api_keys as api_keys_module
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord, CallRecord
from tokenschain.infra.database.tables import (
    api_keys,
    ledger,
    metadata,
    rejected_records,
    usage_hourly,
)
from tokenschain.infra.security.suite import INTERNATIONAL


def record(number: int, **fields: object) -> CallRecord:
    made = CallRecord(f"req_{number:08x}", 1_790_000_000_000 + number * 60_000, "chat/completions")
    made.tenant, made.project, made.environment, made.key_id = f"t{number % 3}", "p", "e", "k"
    made.model_asked, made.upstream, made.outcome, made.status = "m", "up", "ok", 200
    made.prompt_tokens, made.completion_tokens, made.cost_pico = number, 2 * number, number * 10**12
    made.currency, made.usage_source = "CNY", "provider"
    made.charge_pico, made.charge_currency = made.cost_pico, "CNY"
    made.attempts = [AttemptRecord("up", 0.1, 1.0, 2.0, "ok")]
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_a_migrated_database_has_exactly_the_tables(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_records_count_once_however_often_they_come(engine: Engine) -> None:
    payloads = [call_record.encode(record(n)) for n in range(1_000)]
    chance = random.Random(7)
    new = 0
    for _ in range(6):
        batch = chance.sample(payloads, 700)
        new += Ledger(engine).ingest(batch + batch[:50])
    new += Ledger(engine).ingest(payloads)
    assert new == 1_000
    with engine.connect() as connection:
        rows = ledger_module.usage(connection, group_by=["tenant"], from_s=0, until_s=2**40)
        assert connection.execute(select(ledger)).all().__len__() == 1_000
    assert sum(row["calls"] for row in rows) == 1_000
    assert sum(row["cost_pico"] for row in rows) == sum(range(1_000)) * 10**12
    assert sum(row["completion_tokens"] for row in rows) == 2 * sum(range(1_000))


def test_two_writers_at_once_neither_lose_nor_double(engine: Engine) -> None:
    payloads = [call_record.encode(record(n)) for n in range(400)]
    failures: list[BaseException] = []

    def write(seed: int) -> None:
        mine = payloads.copy()
        random.Random(seed).shuffle(mine)
        try:
            for at in range(0, 400, 100):
                Ledger(engine).ingest(mine[at : at + 100])
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert not failures
    with engine.connect() as connection:
        rows = ledger_module.usage(connection, group_by=[], from_s=0, until_s=2**40)
    assert [row["calls"] for row in rows] == [400]


def test_an_unreadable_record_is_kept_aside_and_blocks_nothing(engine: Engine) -> None:
    assert (
        Ledger(engine).ingest([b"\xc1nonsense", call_record.encode(record(1)), b"\xc1nonsense"])
        == 1
    )
    with engine.connect() as connection:
        kept = connection.execute(select(rejected_records.c.payload)).scalars().all()
    assert kept == [b"\xc1nonsense"]


def test_an_unknown_price_is_counted_apart_and_never_as_zero(engine: Engine) -> None:
    Ledger(engine).ingest(
        [call_record.encode(record(5, cost_pico=None, charge_pico=None, currency=""))]
    )
    with engine.connect() as connection:
        assert connection.execute(select(ledger.c.cost_pico)).scalar() is None
        assert connection.execute(select(usage_hourly.c.unpriced_calls)).scalar() == 1


def test_keys_are_stored_as_hashes_and_revoked_for_good(engine: Engine) -> None:
    with engine.begin() as connection:
        key_id, key = api_keys_module.create_key(
            connection,
            INTERNATIONAL,
            name="n",
            tenant="t",
            project="p",
            environment="e",
            models=["m"],
        )
        before = revisions.current(connection)
    with engine.begin() as connection:
        row = connection.execute(select(api_keys)).one()
        assert key not in str(row) and row.key_hash == INTERNATIONAL.hex_digest(key.encode())
        assert api_keys_module.revoke_key(connection, key_id) and api_keys_module.revoke_key(
            connection, key_id
        )
        assert not api_keys_module.revoke_key(connection, "key_nope")
        assert revisions.current(connection) == before + 1
        grant = dict(api_keys_module.grants(connection))[bytes.fromhex(row.key_hash)]
    assert grant.revoked and grant.models == ("m",)


def test_the_admin_api_needs_its_token_and_speaks_the_apis_errors(stack: Stack) -> None:

    base = f"http://127.0.0.1:{stack.control_port}"
    schema = web.get(f"{base}/openapi.json").json()
    routes = [(m, p) for p, methods in schema["paths"].items() for m in methods]
    assert len(routes) >= 5
    open_to_all = {"/api/v1/sessions", "/api/v1/oidc/start", "/api/v1/oidc/callback"}
    for method, path in routes:
        if path in open_to_all and method != "delete":
            continue
        url = base + path.replace("{key_id}", "key_x")
        for headers in ({}, {"authorization": f"Bearer {stack.key}"}):
            reply = web.request(
                method, url, headers=headers, json={} if method in ("post", "put") else None
            )
            assert reply.status_code == 401, (method, path)
            assert reply.json()["error"]["type"] == "authentication_error"
    for method, path in (("GET", "/internal/v1/snapshot"), ("POST", "/internal/v1/journal")):
        reply = stack.admin(method, path)
        assert reply.status_code == 401
    wrong = stack.admin("POST", "/api/v1/keys", json={"tenant": "../x"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "tenant")
    assert stack.admin("GET", "/api/v1/usage?group_by=nope").json()["error"]["param"] == "group_by"
    assert stack.admin("DELETE", "/api/v1/keys/key_nope").status_code == 404
    assert "TokensChain" in web.get(base).text
