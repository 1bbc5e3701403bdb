"""What keeps working when parts die, and that nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import web
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.cli import audit_ledger, audit_verify
from tokenschain.control.audit import bundle
from tokenschain.core.snapshot.manifest import SNAPSHOT_FORMAT
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

KILLS = 12


def in_ledger(stack: Stack) -> dict[str, sqlite3.Row]:
    return {row["event_id"]: row for row in stack.rows()}


def audit_report(stack: Stack) -> dict[str, Any]:
    """What the offline verifier says of the whole log, and which calls that has."""
    engine = db.connect(f"sqlite:///{stack.settings.data_dir / 'tokenschain.db'}")
    secret = NoteSecret(INTERNATIONAL, stack.settings.audit_key_path.read_text().strip())
    path = stack.folder / "log.tar"
    with path.open("wb") as file:
        bundle.write(engine, INTERNATIONAL, secret, file, 0, 2**62)
    engine.dispose()
    calls = [call["id"] for _, call in audit_ledger.sealed_calls(path)]
    assert len(set(calls)) == len(calls), "each once"
    return audit_verify.report_of(str(path)) | {"calls": set(calls)}


@pytest.mark.timeout(300)
def test_a_storm_of_kills_loses_nothing_and_doubles_nothing(
    own_stack: Any, upstream: UpstreamSimulator
) -> None:
    """Every answer the upstream gave to the end is in the ledger exactly once.

    A call whose gateway was killed has no complete answer, so its caller knows; what the
    ledger must hold is every call whose caller got the whole answer.
    """
    stack = own_stack().start()
    upstream.reset()
    complete: list[str] = []
    broken = 0
    stopping = False

    async def caller(seed: int) -> None:
        nonlocal broken
        chance = random.Random(seed)
        while not stopping:
            body = {
                "model": "sim-chat",
                "messages": [{"role": "user", "content": "x"}],
                "stream": chance.random() < 0.5,
                "x_sim": {"tokens": 3, "pause_s": 0.01},
            }
            try:
                async with httpx.AsyncClient(timeout=5) as client:
                    url = f"{stack.url}/v1/chat/completions"
                    reply = await client.post(url, json=body, headers=stack.headers)
                if reply.status_code == 200 and (not body["stream"] or "[DONE]" in reply.text):
                    complete.append(reply.headers["x-request-id"])
            except httpx.HTTPError:
                broken += 1
                await asyncio.sleep(0.05)

    async def storm() -> None:
        nonlocal stopping
        chance = random.Random(1)
        callers = [asyncio.create_task(caller(seed)) for seed in range(6)]
        for _ in range(KILLS):
            await asyncio.sleep(chance.uniform(0.1, 0.5))
            victims = chance.choice([("gateway",), ("control",), ("gateway", "control")])
            for name in victims:
                stack.kill(name)
            await asyncio.to_thread(stack.start, *victims)
        await asyncio.sleep(0.5)
        stopping = True
        await asyncio.gather(*callers)

    asyncio.run(storm())
    until(lambda: set(complete) <= set(in_ledger(stack)))
    rows = in_ledger(stack)
    assert len(complete) > 100 and len(set(complete)) == len(complete)
    assert not set(complete) - set(rows), "calls answered in full are missing from the ledger"
    assert len(stack.rows()) == len(rows)
    sums = stack.rows("select sum(calls) c, sum(completion_tokens) t from usage_hourly")[0]
    raw = stack.rows("select count(*) c, sum(completion_tokens) t from ledger")[0]
    assert (sums["c"], sums["t"]) == (raw["c"], raw["t"])
    # Answered upstream = recorded, but for those a kill tore from the gateway's hands.
    recorded = sum(row["outcome"] == "ok" for row in rows.values())
    assert len(complete) <= recorded <= upstream.answered <= recorded + broken + 6 * KILLS
    stack.stop("gateway")
    until(lambda: not stack.rows("select id from audit_pending"))
    found = audit_report(stack)
    assert found["verified"] and all(one["explained"] for one in found["gaps"]), found
    assert found["calls"] == set(rows), "the sealed log has the calls of the ledger and no others"
    print(f"{KILLS} kills: {len(complete)} complete, {broken} broken, {recorded} recorded ok, "
          f"{upstream.answered} answered upstream")  # fmt: skip


def test_calls_go_on_without_control_and_a_gateway_even_starts_without_it(own_stack: Any) -> None:
    stack = own_stack().start()
    first = stack.chat().headers["x-request-id"]
    stack.row_of(first)
    stack.kill("control")
    during = [stack.chat().headers["x-request-id"] for _ in range(10)]
    stack.stop("gateway")
    stack.start("gateway")
    during.append(stack.chat().headers["x-request-id"])
    assert web.get(f"{stack.url}/readyz").status_code == 200
    assert set(in_ledger(stack)) == {first}
    stack.start("control")
    for call in during:
        stack.row_of(call)
    assert set(in_ledger(stack)) == {first, *during}


def test_calls_go_on_while_the_database_is_locked(own_stack: Any) -> None:
    stack = own_stack().start()
    stack.row_of(stack.chat())
    lock = sqlite3.connect(stack.folder / "data" / "tokenschain.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    calls = []
    for _ in range(20):
        reply = stack.chat()
        assert reply.status_code == 200
        calls.append(reply.headers["x-request-id"])
    refused = stack.admin("POST", "/api/v1/keys", json={})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "database_unavailable")
    lock.execute("ROLLBACK")
    lock.close()
    for call in calls:
        stack.row_of(call, 30)


@pytest.mark.parametrize("former_format", [False, True])
def test_a_snapshot_of_another_secret_or_format_is_not_served_by(
    own_stack: Any, former_format: bool
) -> None:
    stack = own_stack().start()
    stack.close()
    kept = Path(stack.folder / "data" / "gateway" / "snapshot" / "0" / "manifest")
    signature, _, body = kept.read_bytes().partition(b"\n")
    if former_format:
        body = body.replace(b',"format":%d' % SNAPSHOT_FORMAT, b"")
        secret = (stack.folder / "data" / "secrets" / "internal").read_text().strip()
        signatures = Signatures(INTERNATIONAL, lambda: (secret,), time.time)
        signature = signatures.of_disk(body).encode()
    else:
        body = body.replace(b'"version":"', b'"version":"f')
    kept.write_bytes(signature + b"\n" + body)
    other = Stack.start
    process_log = stack.folder / "log"
    stack.log = process_log.open("ab")
    with pytest.raises(AssertionError, match="not ready"):
        _start_briefly(stack, other)
    assert "snapshot_ignored" in process_log.read_text()


def _start_briefly(stack: Stack, start: Any) -> None:
    import tests.stack as module

    limit, module.START_MAX_S = module.START_MAX_S, 3.0
    try:
        start(stack, "gateway")
    finally:
        module.START_MAX_S = limit


def test_ten_thousand_idle_connections_do_not_disturb_a_call(own_stack: Any) -> None:
    import resource
    import socket

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 10_000
    if hard < wanted + 500:
        pytest.skip(f"this machine allows only {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    stack = own_stack().start()
    idle = []
    try:
        for _ in range(wanted):
            idle.append(socket.create_connection(("127.0.0.1", stack.port)))
        assert stack.chat().status_code == 200
        text = stack.metrics()
        line = next(li for li in text.splitlines() if li.startswith("tokenschain_connections{"))
        assert float(line.split()[-1]) >= wanted
        memory = next(li for li in text.splitlines() if li.startswith("tokenschain_resident"))
        assert float(memory.split()[-1]) < 300e6
    finally:
        for connection in idle:
            connection.close()
