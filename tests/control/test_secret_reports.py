"""A rotation waits for gateways and controls that have not reported the new secret, and names them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Engine

from tokenschain.control import gateways, secret_reports
from tokenschain.control.secret_reports import SecretReports, lagging, until_reported
from tokenschain.core.gateway_status import GatewayStatus
from tokenschain.core.log_events import silent
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.gateway_status_files import status_path
from tokenschain.infra.security import rotation, secret_files
from tokenschain.infra.security.rotation import RotatedSecret, Stage
from tokenschain.infra.security.secret_files import SecretFileRefused

INTERNAL = RotatedSecret.INTERNAL


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    made = db.connect(settings.database_url)
    db.migrate(made)
    yield made
    made.dispose()


def status(name: str, secrets: tuple[str, ...]) -> GatewayStatus:
    told = rotation.secrets_of(secrets, ())
    return GatewayStatus(name, 0, 1, "0.1.0", time.time(), 5, 0.2, 0, 1, 0.0, secrets=told)


def test_a_rotation_waits_for_the_gateway_that_lags_and_names_it(
    settings: Settings, engine: Engine
) -> None:
    path = settings.internal_secret_path
    (old,) = secret_files.read_or_make(path)
    for name in ("quick", "late"):
        gateways.note(engine, status(name, (old,)))
    rotation.go(path, Stage.ADD)
    both, wanted = secret_files.read(path), rotation.new_fingerprint(path)
    assert wanted is not None and wanted not in both and len(wanted) == 8
    gateways.note(engine, status("quick", both))

    with pytest.raises(SecretFileRefused) as refused:
        until_reported(settings, INTERNAL, wanted, in_force=False, wait_max_s=0.1)
    said = str(refused.value)
    assert "gateway late" in said and "quick" not in said
    assert "accept the new internal secret" in said and "--stage" in said and "--force" in said
    assert not any(secret in said for secret in both)

    later = threading.Timer(0.3, gateways.note, (engine, status("late", both)))
    later.start()
    until_reported(settings, INTERNAL, wanted, in_force=False, wait_max_s=30)
    later.join()
    rotation.go(path, Stage.USE)
    assert rotation.new_fingerprint(path) == wanted, "the same one, now in force"
    now = secret_files.read(path)
    gateways.note(engine, status("quick", now))
    assert lagging(settings, INTERNAL, wanted, in_force=True) == ["gateway late"], (
        "it accepts the new one and still signs with the old"
    )
    gateways.note(engine, status("late", now))
    until_reported(settings, INTERNAL, wanted, in_force=True, wait_max_s=0.1)


def test_a_control_reports_its_secrets_and_is_waited_for(
    settings: Settings, engine: Engine
) -> None:
    path = settings.internal_secret_path
    secret_files.read_or_make(path)
    held = secret_files.read(path)

    async def report(internal: tuple[str, ...], master: tuple[str, ...]) -> None:
        job = SecretReports(engine, "box", lambda: internal, lambda: master, silent)
        running = asyncio.create_task(job.run())
        async with asyncio.timeout(30):
            await asyncio.to_thread(_wait_for, engine, internal)
        running.cancel()

    asyncio.run(report(held, ("m" * 40,)))
    rotation.go(path, Stage.ADD)
    wanted = rotation.new_fingerprint(path)
    assert wanted is not None
    (late,) = lagging(settings, INTERNAL, wanted, in_force=False)
    assert late.startswith("control box-")
    (other,) = secret_files.fingerprints(["n" * 40])
    assert lagging(settings, RotatedSecret.MASTER, other, in_force=False) == [late]


def _wait_for(engine: Engine, internal: tuple[str, ...]) -> None:
    """Wait until a control has told these secrets."""
    wanted, found = secret_files.fingerprints(internal), list[tuple[str, ...]]()
    while wanted not in found:
        time.sleep(0.01)
        with db.reading(engine) as connection:
            found = [one.secrets["internal"] for one in secret_reports.controls(connection)]


def test_who_is_gone_and_who_reports_no_secrets_is_not_waited_for(
    settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (old,) = secret_files.read_or_make(settings.internal_secret_path)
    gateways.note(engine, msgspec.structs.replace(status("former", (old,)), secrets={}))
    gateways.note(engine, status("gone", (old,)))
    assert lagging(settings, INTERNAL, "new", in_force=False) == ["gateway gone"]
    monkeypatch.setattr(secret_reports, "SILENT_S", 0.0)
    assert lagging(settings, INTERNAL, "new", in_force=False) == []


def test_workers_of_this_machine_are_read_from_their_files(settings: Settings) -> None:
    (old,) = secret_files.read_or_make(settings.internal_secret_path)
    path = status_path(settings.data_dir, 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(status("mine", (old,))))
    assert lagging(settings, INTERNAL, "new", in_force=False) == ["gateway mine"]
    (known,) = secret_files.fingerprints([old])
    assert lagging(settings, INTERNAL, known, in_force=True) == []
