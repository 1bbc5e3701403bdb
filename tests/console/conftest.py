"""The console over an admin API in the same process, with two tenants that have called."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.visitors import House, unseen
from tests.records import record
from tests.security.platform import platform
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord
from tokenschain.infra.security.suite import INTERNATIONAL


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = tmp_path_factory.mktemp("console")
    with platform(folder) as made:
        now_ms = int(time.time() * 1e3) - 60_000
        for tenant in ("alpha", "beta"):
            made.operator(
                "POST", "/keys", {"tenant": tenant, "project": "p1", "name": f"{tenant} key"}
            )
        calls = [
            record(n, event_id=f"{tenant}-{n}", tenant=tenant, project="p1", started_ms=now_ms - n * 1_000,
                   model_asked=f"{tenant}-model", upstream="two",
                   attempts=[AttemptRecord("one", 1.0), AttemptRecord("two", 2.0)][n % 2:])
            for tenant in ("alpha", "beta") for n in range(1, 4)
        ]  # fmt: skip
        made.app.state.context.ledger.ingest([call_record.encode(call) for call in calls])
        for tenant in ("alpha", "beta"):
            limit = {"measure": "requests", "amount": 600, "match": {"tenant": tenant}}
            made.operator("PUT", f"/limits/{tenant}-rate", limit | {"kind": "rate"})
            limit |= {"measure": "spend", "amount": 8 * 10**12, "per": ["project"]}
            made.operator("PUT", f"/limits/{tenant}-budget", limit | {"kind": "budget"})
            paid = {"amount": "100", "reference": f"{tenant} bank 1"}
            made.operator("POST", f"/wallets/{tenant}/deposits", paid)
        settings = ConsoleSettings(None, False, "http://127.0.0.1:8000/v1", folder / "browser")
        yield House(made, Console(made.app, settings, INTERNATIONAL, unseen), folder / "browser")
