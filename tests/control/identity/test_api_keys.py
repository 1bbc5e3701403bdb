"""API keys are stored as hashes, and revoked for good."""

from __future__ import annotations

from sqlalchemy import Engine, select

from tokenschain.control import revisions
from tokenschain.control.identity import api_keys as api_keys_module
from tokenschain.infra.database.tables import (
    api_keys,
)
from tokenschain.infra.security.suite import Suite, digest_of_stored


def test_keys_are_stored_as_hashes_and_revoked_for_good(engine: Engine, suite: Suite) -> None:
    with engine.begin() as connection:
        key_id, key = api_keys_module.create_key(
            connection,
            suite,
            name="n",
            tenant="t",
            project="p",
            environment="e",
            models=["m"],
        )
        before = revisions.current(connection)
    with engine.begin() as connection:
        row = connection.execute(select(api_keys)).one()
        assert key not in str(row) and row.key_hash == suite.stored_digest(key.encode())
        assert api_keys_module.revoke_key(connection, key_id) and api_keys_module.revoke_key(
            connection, key_id
        )
        assert not api_keys_module.revoke_key(connection, "key_nope")
        assert revisions.current(connection) == before + 1
        grant = dict(api_keys_module.grants(connection))[digest_of_stored(row.key_hash)]
    assert grant.revoked and grant.models == ("m",)
