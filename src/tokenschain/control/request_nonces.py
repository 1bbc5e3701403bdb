"""Nonces of signed requests: what one control believed, no other on its database believes again."""

from __future__ import annotations

import time

from sqlalchemy import Connection, Engine, delete

from tokenschain.infra.control_channel.signatures import WINDOW_S
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.tables import request_nonces

KEPT_S = 10 * WINDOW_S
"""Longer than a request is believed, wherever the clocks of controls are."""


def is_new(engine: Engine, nonce: str) -> bool:
    """Note a nonce; false where any control has, or this one before its restart."""
    with engine.begin() as connection:
        noted = connection.execute(
            upsert(engine, request_nonces)
            .values(nonce=nonce, at_s=int(time.time()))
            .on_conflict_do_nothing(index_elements=["nonce"])
            .returning(request_nonces.c.nonce)
        ).first()
    return noted is not None


def sweep(connection: Connection) -> None:
    """Forget those of requests that are too old to be believed."""
    before_s = int(time.time() - KEPT_S)
    connection.execute(delete(request_nonces).where(request_nonces.c.at_s < before_s))
