"""The console over an admin API in the same process, with two tenants that have called."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.console.visitors import House, ScriptedGateway, unseen
from tests.records import record
from tests.security.platform import platform
from tokenschain.console import app
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.console.playground import Playground
from tokenschain.console.rendering import CloudProvider
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord
from tokenschain.core.pricing.catalog import DatedPrice, Price, PriceTier
from tokenschain.core.snapshot import ModelRoute, Offer, Snapshot
from tokenschain.infra.security.suite import INTERNATIONAL


def _price(millionths: int, version: str) -> Price:
    return Price("CNY", (PriceTier(millionths, 3 * millionths),), version)


MODELS = {
    "sold": ModelRoute("sold", "chat", (Offer("one", "m", _price(1_000_000, "list")),), "maker"),
    "at-cost": ModelRoute(
        "at-cost",
        "chat",
        tuple(Offer(f"up{n}", "m", _price(n * 1_000_000, f"of {n}")) for n in (3, 1, 2)),
    ),
    "unpriced": ModelRoute("unpriced", "embedding", (Offer("one", "e"),)),
}
SOLD = {
    "sold": (DatedPrice(0, _price(5_000_000, "general")),),
    "alpha/sold": (DatedPrice(0, _price(4_250_000, "alpha's")),),
}


@pytest.fixture(scope="package", autouse=True)
def patient_pages() -> Iterator[None]:
    """Pages of a slow machine wait for what comes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "READ_MAX_S", 60.0)
        yield


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One for each file, so that no file sees what another left, in whatever order they run."""
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
        made.app.state.context.publisher.snapshot = Snapshot("", {}, MODELS, sell=SOLD)
        clouds = (CloudProvider("deepseek", "DeepSeek", True),)
        settings = ConsoleSettings(
            None, False, "http://127.0.0.1:8000/v1", folder / "browser", clouds
        )
        gateway = ScriptedGateway()
        playground = Playground(gateway, made.app.state.context.sealer)
        console = Console(made.app, settings, INTERNATIONAL, unseen, playground)
        yield House(made, console, folder / "browser", gateway)
