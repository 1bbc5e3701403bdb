"""Idempotency keys: a request that was done is answered again and not done twice."""

from __future__ import annotations

import time
from typing import NamedTuple

from sqlalchemy import Connection, delete, select

from tokenschain.core.errors import ApiError
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.tables import idempotency
from tokenschain.infra.security.suite import Place, Sealable, Sealer

KEPT_S = 24 * 3_600
KEY_CHARACTERS_MAX = 200
JSON_TYPE = "application/json"


class Answered(NamedTuple):
    """What a request was answered when it was done."""

    status: int
    body: bytes
    media_type: str


def claim(connection: Connection, key_hash: str, request_hash: str) -> bool:
    """Note that a request is being done, if it was not done before.

    A second request with the same key waits here until the first one's transaction has ended.

    Args:
        key_hash: of the caller and its idempotency key.
        request_hash: of what is asked.
    """
    now = int(time.time())
    connection.execute(delete(idempotency).where(idempotency.c.created_at_s < now - KEPT_S))
    claimed = connection.execute(
        upsert(connection.engine, idempotency)
        .values(
            key_hash=key_hash, request_hash=request_hash, status=0, sealed=b"", created_at_s=now
        )
        .on_conflict_do_nothing(index_elements=["key_hash"])
        .returning(idempotency.c.key_hash)  # a row count is not told for an insert by each driver
    ).first()
    return claimed is not None


def find(
    connection: Connection, sealer: Sealer, key_hash: str, request_hash: str
) -> Answered | None:
    """What a request was answered when it was done before.

    Args:
        key_hash: see `claim`.
        request_hash: see `claim`.

    Raises:
        ApiError: `conflict`: the key came with another request.
    """
    kept = select(idempotency).where(
        idempotency.c.key_hash == key_hash,
        idempotency.c.created_at_s >= int(time.time()) - KEPT_S,
    )
    row = connection.execute(kept).one_or_none()
    if row is None:
        return None
    if row.request_hash != request_hash:
        raise ApiError("conflict", "This idempotency key came with another request.")
    body, media_type = sealer.unseal(_place(key_hash), row.sealed), JSON_TYPE
    if body.startswith(_OTHER):
        named, _, body = body.removeprefix(_OTHER).partition(_OTHER)
        media_type = named.decode()
    return Answered(row.status, body, media_type)


def keep(connection: Connection, sealer: Sealer, key_hash: str, answer: Answered) -> None:
    """Keep the answer of a claimed request, sealed: it may hold a key that is shown once."""
    body = answer.body
    if answer.media_type != JSON_TYPE:
        body = _OTHER + answer.media_type.encode() + _OTHER + body
    connection.execute(
        idempotency.update()
        .where(idempotency.c.key_hash == key_hash)
        .values(status=answer.status, sealed=sealer.seal(_place(key_hash), body))
    )


_OTHER = b"\0"
"""Before and behind the type of what is not JSON, which never begins so."""


def _place(key_hash: str) -> Place:
    # The hash is of the caller as well.
    return Place(Sealable.IDEMPOTENT_ANSWER, "", key_hash)
