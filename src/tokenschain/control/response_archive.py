"""Response archive: stored responses of the Responses API, sealed, until they expire."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, delete, func, select, update

from tokenschain.core.formats.stored_responses import Stored
from tokenschain.infra.config.groups import RESPONSE_BYTES_PER_TENANT_MAX
from tokenschain.infra.database import held_calls
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.tables import api_keys, ledger, stored_responses
from tokenschain.infra.security.suite import Place, Sealable, Sealer

_COUNTED_S = 60.0
"""How long what a tenant has is counted on from the last sum over its rows."""


class Kept(NamedTuple):
    """What was made of responses."""

    new: int
    full: list[str]
    """Tenants with no room for more; what came for them is dropped."""


class ResponseArchive:
    """Stored responses; a tenant finds its own only."""

    def __init__(
        self,
        engine: Engine,
        sealer: Sealer,
        ttl_s: int,
        bytes_per_tenant_max: int = RESPONSE_BYTES_PER_TENANT_MAX,
    ) -> None:
        """
        Args:
            sealer: seals what callers and models said.
            ttl_s: how long a response is kept.
            bytes_per_tenant_max: sealed; a tenant that has more stores no further one.
        """
        self._engine = engine
        self._sealer = sealer
        self._ttl_s = ttl_s
        self._bytes_max = bytes_per_tenant_max
        self._held: dict[str, tuple[float, int]] = {}
        """Bytes of each tenant that stored lately, and when they were summed."""

    def keep(self, payloads: Sequence[bytes]) -> Kept:
        """Keep responses as a gateway shipped them; each counts once."""
        full: set[str] = set()
        rows = {}
        for payload in payloads:
            stored = msgspec.msgpack.decode(payload, type=Stored)
            sealed = self._sealer.seal(_place(stored.tenant, stored.id), payload)
            if not self._has_room(stored.tenant, len(sealed)):
                full.add(stored.tenant)
                continue
            rows[stored.id] = {
                "id": stored.id,
                "tenant": stored.tenant,
                "expires_at_s": int(stored.created_s) + self._ttl_s,
                "sealed": sealed,
            }
        if not rows:
            return Kept(0, sorted(full))
        statement = (
            upsert(self._engine, stored_responses)
            .on_conflict_do_nothing(index_elements=["id"])
            .returning(stored_responses.c.id)
        )
        with self._engine.begin() as connection:
            # In one order by all, so that two writers cannot deadlock.
            found = connection.execute(statement, [rows[name] for name in sorted(rows)])
            return Kept(len(found.scalars().all()), sorted(full))

    def _has_room(self, tenant: str, size: int) -> bool:
        """Whether a tenant may store so much more, which is counted then."""
        at_s, held = self._held.get(tenant, (float("-inf"), 0))
        if time.monotonic() - at_s > _COUNTED_S:
            at_s, held = time.monotonic(), self._sum(tenant)
        fits = held + size <= self._bytes_max
        self._held[tenant] = at_s, held + size * fits
        return fits

    def _sum(self, tenant: str) -> int:
        with self._engine.connect() as connection:
            found = connection.execute(
                select(func.sum(func.length(stored_responses.c.sealed))).where(
                    stored_responses.c.tenant == tenant
                )
            ).scalar()
        return int(found or 0)

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
        """Forget a tenant's response; false when there is none. What a legal hold keeps is taken
        from its caller, and forgotten when the hold is over."""
        self._held.pop(tenant, None)
        c = stored_responses.c
        asked = (c.id == response_id, c.tenant == tenant)
        gone = connection.execute(delete(stored_responses).where(*asked, ~self._is_held()))
        if gone.rowcount:
            return True
        taken = update(stored_responses).where(*asked, c.expires_at_s > 0)
        return bool(connection.execute(taken.values(expires_at_s=-c.expires_at_s)).rowcount)

    def sweep(self) -> int:
        """Forget what has expired; returns how many."""
        self._held.clear()
        with self._engine.begin() as connection:
            result = connection.execute(
                delete(stored_responses).where(
                    stored_responses.c.expires_at_s <= int(time.time()),
                    ~self._is_held(),
                )
            )
        return int(result.rowcount)

    def _is_held(self) -> ColumnElement[bool]:
        """Whether a legal hold keeps a stored response. Of one that was taken from its caller, the
        time stands negative."""
        c = stored_responses.c
        started_ms = (func.abs(c.expires_at_s) - self._ttl_s) * 1_000
        call_id = func.substr(c.id, len("resp_") + 1)
        return held_calls.is_call_held(c.tenant, started_ms, call_id)


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
