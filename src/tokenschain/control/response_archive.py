"""Response archive: stored responses of the Responses API, sealed, until they expire."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, Engine, delete, select

from tokenschain.core.formats.stored_responses import Stored
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.tables import api_keys, ledger, stored_responses
from tokenschain.infra.security.suite import Place, Sealable, Sealer


class ResponseArchive:
    """Stored responses; a tenant finds its own only."""

    def __init__(self, engine: Engine, sealer: Sealer, ttl_s: int) -> None:
        """
        Args:
            sealer: seals what callers and models said.
            ttl_s: how long a response is kept.
        """
        self._engine = engine
        self._sealer = sealer
        self._ttl_s = ttl_s

    def keep(self, payloads: Sequence[bytes]) -> int:
        """Keep responses as a gateway shipped them; each counts once. Returns how many are new."""
        rows = {}
        for payload in payloads:
            stored = msgspec.msgpack.decode(payload, type=Stored)
            rows[stored.id] = {
                "id": stored.id,
                "tenant": stored.tenant,
                "expires_at_s": int(stored.created_s) + self._ttl_s,
                "sealed": self._sealer.seal(_place(stored.tenant, stored.id), payload),
            }
        if not rows:
            return 0
        statement = (
            upsert(self._engine, stored_responses)
            .on_conflict_do_nothing(index_elements=["id"])
            .returning(stored_responses.c.id)
        )
        with self._engine.begin() as connection:
            # In one order by all, so that two writers cannot deadlock.
            found = connection.execute(statement, [rows[name] for name in sorted(rows)])
            return len(found.scalars().all())

    def find(self, connection: Connection, tenant: str, response_id: str) -> bytes | None:
        """A tenant's response as it was shipped, or None."""
        row = connection.execute(
            select(stored_responses.c.sealed).where(
                stored_responses.c.id == response_id,
                stored_responses.c.tenant == tenant,
                stored_responses.c.expires_at_s > int(time.time()),
            )
        ).scalar()
        if row is None:
            return None
        return _owned(connection, self._sealer.unseal(_place(tenant, response_id), row))

    def delete(self, connection: Connection, tenant: str, response_id: str) -> bool:
        """Forget a tenant's response; false when there is none."""
        result = connection.execute(
            delete(stored_responses).where(
                stored_responses.c.id == response_id, stored_responses.c.tenant == tenant
            )
        )
        return bool(result.rowcount)

    def sweep(self) -> int:
        """Forget what has expired; returns how many."""
        with self._engine.begin() as connection:
            result = connection.execute(
                delete(stored_responses).where(stored_responses.c.expires_at_s <= int(time.time()))
            )
        return int(result.rowcount)


def _owned(connection: Connection, payload: bytes) -> bytes:
    """A response with the place it belongs to; of those that were kept before they held it, as
    the ledger knows it. Where that has forgotten the call, it is nobody's."""
    stored = msgspec.msgpack.decode(payload, type=Stored)
    if stored.project:
        return payload
    row = connection.execute(
        select(
            ledger.c.project, ledger.c.environment, ledger.c.model_asked, api_keys.c.data_class,
            api_keys.c.networks,
        )
        .join(api_keys, api_keys.c.id == ledger.c.key_id)
        .where(
            ledger.c.event_id == stored.id.removeprefix("resp_"), ledger.c.tenant == stored.tenant
        )
    ).first()  # fmt: skip
    if row is not None:
        stored.project, stored.environment = row.project, row.environment
        stored.data_class, stored.models = row.data_class, (row.model_asked,)
        stored.networks = None if row.networks is None else tuple(json.loads(row.networks))
    return msgspec.msgpack.encode(stored)


def _place(tenant: str, response_id: str) -> Place:
    return Place(Sealable.RESPONSE, tenant, response_id)
