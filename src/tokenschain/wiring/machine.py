"""One machine: what is made on the first start, and which processes run."""

from __future__ import annotations

import asyncio
import urllib.request
from typing import NamedTuple

from tokenschain.control.identity import api_keys
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.infra.supervisor import Child

_PROBE_MAX_S = 5.0


class FirstRun(NamedTuple):
    """Credentials made just now; each is shown this once."""

    admin_token: str | None
    api_key: str | None


def prepare(settings: Settings) -> FirstRun:
    """Bring the database up to date; on a fresh one, make the first credentials."""
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = db.connect(settings.database_url)
    try:
        db.migrate(engine)
        with engine.begin() as connection:
            token = api_keys.make_admin_token(connection, INTERNATIONAL)
            key = None
            if token is not None and not api_keys.list_keys(connection):
                _, key = api_keys.create_key(
                    connection,
                    INTERNATIONAL,
                    name="first key",
                    tenant="default",
                    project="default",
                    environment="default",
                )
    finally:
        engine.dispose()
    return FirstRun(token, key)


def children(settings: Settings, *, everything: bool) -> list[Child]:
    """The processes of one machine: the gateway's workers, and the rest if wanted."""
    found = [
        Child(f"gateway-{worker}", ["gateway", "--worker", str(worker)])
        for worker in range(settings.server.workers)
    ]
    if everything:
        # Gateways end first: their streams come from the engine, their records go to control.
        workers = [child.name for child in found]
        found.insert(0, Child("control", ["control"], serves=workers))
        if settings.cache.compares_meanings:
            semantic = f"http://{settings.semantic.host}:{settings.semantic.port}"
            found.append(Child("semantic", ["semantic"], lambda: answers(f"{semantic}/health")))
        if settings.runs_engine:
            address = f"http://{settings.engine.host}:{settings.engine.port}"
            probe = lambda: answers(f"{address}/health")  # noqa: E731
            found.append(Child("engine", ["engine"], probe, workers))
    return found


async def answers(url: str) -> bool:
    """Whether a GET of the URL is answered with 200, within a limit."""

    def ask() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=_PROBE_MAX_S) as reply:  # noqa: S310
                return bool(reply.status == 200)
        except OSError:
            return False

    return await asyncio.to_thread(ask)
