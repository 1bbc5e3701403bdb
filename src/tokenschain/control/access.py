"""API keys and who may administer."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

from sqlalchemy import Connection, insert, select, update

from tokenschain.core.tenancy import Disconnect, KeyGrant
from tokenschain.infra import secrets
from tokenschain.infra.tables import api_keys, meta

ADMIN_HASH = "admin_token_hash"
REVISION = "revision"


def create_key(
    connection: Connection,
    *,
    name: str,
    tenant: str,
    project: str,
    environment: str,
    models: list[str] | None = None,
    expires_at_s: int | None = None,
    disconnect: Disconnect = Disconnect.CANCEL,
) -> tuple[str, str]:
    """Make a key; returns its id and the key itself, which is shown this once."""
    key = secrets.new_api_key()
    key_id = f"key_{uuid.uuid4().hex[:20]}"
    connection.execute(
        insert(api_keys).values(
            id=key_id,
            key_hash=secrets.hash_of(key),
            prefix=secrets.shown_part(key),
            name=name,
            tenant=tenant,
            project=project,
            environment=environment,
            models=None if models is None else json.dumps(models),
            disconnect=disconnect.value,
            created_at_s=int(time.time()),
            expires_at_s=expires_at_s,
        )
    )
    bump_revision(connection)
    return key_id, key


def list_keys(connection: Connection, tenant: str | None = None) -> list[dict[str, Any]]:
    """Keys without their hashes, newest first."""
    query = select(api_keys).order_by(api_keys.c.created_at_s.desc(), api_keys.c.id)
    if tenant is not None:
        query = query.where(api_keys.c.tenant == tenant)
    return [_shown(dict(row)) for row in connection.execute(query).mappings()]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    row.pop("key_hash")
    row["models"] = None if row["models"] is None else json.loads(row["models"])
    return row


def revoke_key(connection: Connection, key_id: str) -> bool:
    """Refuse a key from now on; false when there is no such key."""
    changed = connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.revoked_at_s.is_(None))
        .values(revoked_at_s=int(time.time()))
    ).rowcount
    if changed:
        bump_revision(connection)
        return True
    known = connection.execute(select(api_keys.c.id).where(api_keys.c.id == key_id)).first()
    return known is not None


def grants(connection: Connection) -> dict[str, KeyGrant]:
    """Every key's hash and what it may do, for the snapshot."""
    return {
        row.key_hash: KeyGrant(
            key_id=row.id,
            tenant=row.tenant,
            project=row.project,
            environment=row.environment,
            models=None if row.models is None else tuple(json.loads(row.models)),
            expires_at_s=row.expires_at_s,
            revoked=row.revoked_at_s is not None,
            disconnect=Disconnect(row.disconnect),
        )
        for row in connection.execute(select(api_keys))
    }


def revision(connection: Connection) -> int:
    """Counts changes of what the snapshot is made from."""
    value = connection.execute(select(meta.c.value).where(meta.c.name == REVISION)).scalar()
    return int(value) if value is not None else 0


def bump_revision(connection: Connection) -> None:
    """Note that the snapshot must be made anew."""
    put_meta(connection, REVISION, str(revision(connection) + 1))


def put_meta(connection: Connection, name: str, value: str) -> None:
    """Set a single value."""
    changed = connection.execute(
        update(meta).where(meta.c.name == name).values(value=value)
    ).rowcount
    if not changed:
        connection.execute(insert(meta).values(name=name, value=value))


def get_meta(connection: Connection, name: str) -> str | None:
    """Read a single value."""
    return connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar()


def make_admin_token(connection: Connection) -> str | None:
    """The admin token, made and shown once; None when there is one already."""
    if get_meta(connection, ADMIN_HASH) is not None:
        return None
    token = f"tca-{secrets.new_api_key()[3:]}"
    put_meta(connection, ADMIN_HASH, secrets.hash_of(token))
    return token
