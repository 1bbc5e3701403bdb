"""Secrets that gateways and controls accept, as they report it: a rotation waits for all."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from sqlalchemy import Connection, Engine, delete, select
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control import gateways, revisions
from tokenschain.core.log_events import Reporter
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.engine import first_line
from tokenschain.infra.database.tables import meta
from tokenschain.infra.gateway_status_files import read_statuses
from tokenschain.infra.security import rotation, secret_files
from tokenschain.infra.security.rotation import RotatedSecret
from tokenschain.infra.security.secret_files import SecretFileRefused

REPORT_S = 2.0
"""Between two looks of a control at its own secrets; what has not changed is told less often."""
REPEAT_S = 10.0
SILENT_S = 30.0
"""Who was not heard for so long is gone, or learns of the secret when it is back."""
WAIT_MAX_S = 60.0
"""How long a rotation waits for reports."""
_LOOK_S = 0.25
_PREFIX = "ctl/"


class ControlReport(msgspec.Struct, frozen=True):
    """What a control process said of itself."""

    name: str
    seen_s: float
    """Unix time."""
    secrets: dict[str, tuple[str, ...]]
    """See `core.gateway_status.GatewayStatus.secrets`."""


class SecretReports:
    """Reports which secrets this control accepts."""

    def __init__(
        self,
        engine: Engine,
        node_name: str,
        internal: Callable[[], Sequence[str]],
        master: Callable[[], Sequence[str]],
        report: Reporter,
    ) -> None:
        self._engine = engine
        self._name = f"{node_name}-{os.getpid()}-{os.urandom(4).hex()}"
        self._internal, self._master = internal, master
        self._report = report

    async def run(self) -> None:
        """Until cancelled."""
        told: Mapping[str, tuple[str, ...]] = {}
        told_at = 0.0
        while True:
            found = rotation.secrets_of(self._internal(), secret_files.fingerprints(self._master()))
            if found != told or time.monotonic() - told_at >= REPEAT_S:
                try:
                    await asyncio.to_thread(self._note, found)
                    told, told_at = found, time.monotonic()
                except SQLAlchemyError as error:
                    self._report("chore_failed", first_line(error))
            await asyncio.sleep(REPORT_S)

    def _note(self, found: dict[str, tuple[str, ...]]) -> None:
        now_s = time.time()
        said = ControlReport(self._name, now_s, found)
        with self._engine.begin() as connection:
            value = msgspec.json.encode(said).decode()
            revisions.put_meta(connection, _PREFIX + self._name, value)
            gone = [
                _PREFIX + one.name
                for one in controls(connection)
                if now_s - one.seen_s >= gateways.FORGOTTEN_S
            ]
            if gone:
                connection.execute(delete(meta).where(meta.c.name.in_(gone)))


def controls(connection: Connection) -> list[ControlReport]:
    """What controls said last, by name."""
    query = select(meta.c.value).where(meta.c.name.like(f"{_PREFIX}%")).order_by(meta.c.name)
    return [msgspec.json.decode(value, type=ControlReport) for value in connection.scalars(query)]


def until_reported(
    settings: Settings,
    secret: RotatedSecret,
    wanted: str,
    *,
    in_force: bool,
    wait_max_s: float = WAIT_MAX_S,
) -> None:
    """Wait until every gateway and control that is heard has the new secret.

    Args:
        wanted: the new secret's fingerprint.
        in_force: whether they must use it; else they only have to accept it.

    Raises:
        SecretFileRefused: some have not reported it in time; the text names them.
    """
    ends_at = time.monotonic() + wait_max_s
    while late := lagging(settings, secret, wanted, in_force=in_force):
        if time.monotonic() >= ends_at:
            raise SecretFileRefused(
                f"{', '.join(late)}: not known to {'use' if in_force else 'accept'} the new "
                f"{secret} secret after {wait_max_s:g} s. See whether they read a file that has "
                "it, then go on with --stage; --force leaves them behind"
            )
        time.sleep(_LOOK_S)


def lagging(settings: Settings, secret: RotatedSecret, wanted: str, *, in_force: bool) -> list[str]:
    """Gateways and controls that do not have the new secret yet, as far as they were heard; see
    `until_reported`."""
    latest: dict[str, tuple[float, tuple[str, ...]]] = {}
    for name, seen_s, found in _reports(settings):
        accepted = found.get(secret.value)
        if accepted is not None and latest.get(name, (0.0, ()))[0] < seen_s:
            latest[name] = seen_s, accepted
    now_s = time.time()
    return [
        name
        for name, (seen_s, accepted) in sorted(latest.items())
        if now_s - seen_s < SILENT_S and wanted not in (accepted[:1] if in_force else accepted)
    ]


def _reports(settings: Settings) -> Iterator[tuple[str, float, dict[str, tuple[str, ...]]]]:
    """Who said what, and when: workers of this machine in files, all others in the database."""
    for status in read_statuses(settings.data_dir):
        yield f"gateway {status.name}", status.at_s, status.secrets
    engine = db.connect(settings.database_url)
    try:
        if not db.is_made(engine):
            return
        with db.reading(engine) as connection:
            for one in gateways.seen(connection):
                yield f"gateway {one.status.name}", one.seen_s, one.status.secrets
            for control in controls(connection):
                yield f"control {control.name}", control.seen_s, control.secrets
    finally:
        engine.dispose()
