"""API keys, and the admin token of the platform."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    Connection,
    RowMapping,
    bindparam,
    delete,
    insert,
    not_,
    or_,
    select,
    update,
)

from tokenschain.control import revisions
from tokenschain.control.identity import organization, shares
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import Disconnect, KeyGrant
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import api_keys
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Suite, digest_of_stored

ADMIN_HASH = "admin_token_hash"
OVERLAP_MAX_S = 30 * 86_400
"""The longest that a rotated key may go on being served beside its successor."""
_LISTS = ("models", "apis", "networks", "tags")
PLAYGROUND = "playkey"
"""What ids of the playground's keys begin with."""
PLAYGROUND_KEY_S = 900
PLAYGROUND_KEYS_MAX = 5
"""That one person has at a time; the oldest ends for another."""
PLAYGROUND_APIS = ("chat/completions",)
PLAYGROUND_TAG = "source=playground"
_KEPT_S = 86_400
"""Of an ended key of the playground; then it is no row any more."""
_OF_PLAYGROUND = api_keys.c.id.startswith(f"{PLAYGROUND}_", autoescape=True)


def create_key(
    connection: Connection,
    suite: Suite,
    *,
    name: str,
    tenant: str,
    project: str,
    environment: str,
    models: list[str] | None = None,
    expires_at_s: int | None = None,
    disconnect: Disconnect = Disconnect.CANCEL,
    apis: list[str] | None = None,
    networks: list[str] | None = None,
    tags: list[str] | None = None,
    priority: str = "",
    data_class: str = "",
    routing_details: bool = False,
    created_by: str = "",
    rotated_from: str | None = None,
    kind: str = "key",
) -> tuple[str, str]:
    """Make a key; returns its id and the key itself, which is shown this once.

    What it belongs to is made where it is missing.

    Args:
        kind: what its id begins with: `key` or `PLAYGROUND`.
    """
    in_force = api_keys.c.revoked_at_s.is_(None)
    shares.check(connection, shares.KEYS, tenant, in_force)
    account = organization.ensure(connection, tenant, project, environment)
    key = secrets.new_api_key()
    key_id = secrets.new_id(kind)
    connection.execute(
        insert(api_keys).values(
            id=key_id,
            key_hash=suite.stored_digest(key.encode()),
            prefix=secrets.shown_part(key),
            name=name,
            tenant=tenant,
            account=account,
            project=project,
            environment=environment,
            models=_list(models),
            apis=_list(apis),
            networks=_list(networks),
            tags=json.dumps(tags or []),
            priority=priority,
            data_class=data_class,
            routing_details=routing_details,
            disconnect=disconnect.value,
            created_at_s=int(time.time()),
            created_by=created_by,
            rotated_from=rotated_from,
            expires_at_s=expires_at_s,
            revision=revisions.bump(connection),
        )
    )
    return key_id, key


def create_playground_key(
    connection: Connection,
    suite: Suite,
    *,
    tenant: str,
    project: str,
    environment: str,
    models: list[str] | None,
    created_by: str,
) -> tuple[str, str, int]:
    """Make a key for one who tries models; returns its id, the key, and when it ends (Unix time).

    It ends by itself. Of those that the same person has already, only the latest go on.
    """
    now_s = int(time.time())
    ends_s = now_s + PLAYGROUND_KEY_S
    living = select(api_keys.c.id).where(
        _OF_PLAYGROUND,
        api_keys.c.tenant == tenant,
        api_keys.c.created_by == created_by,
        api_keys.c.expires_at_s > now_s,
        api_keys.c.revoked_at_s.is_(None),
    )
    latest = living.order_by(api_keys.c.created_at_s.desc(), api_keys.c.id)
    for old in connection.execute(latest.offset(PLAYGROUND_KEYS_MAX - 1)).scalars().all():
        revoke_key(connection, old)
    key_id, key = create_key(
        connection,
        suite,
        name="playground",
        tenant=tenant,
        project=project,
        environment=environment,
        models=models,
        apis=list(PLAYGROUND_APIS),
        tags=[PLAYGROUND_TAG],
        expires_at_s=ends_s,
        created_by=created_by,
        kind=PLAYGROUND,
    )
    return key_id, key, ends_s


def sweep(connection: Connection, now_s: int) -> None:
    """Forget keys of the playground a day after their end."""
    over = api_keys.c.expires_at_s < now_s - _KEPT_S
    connection.execute(delete(api_keys).where(_OF_PLAYGROUND, over))


def is_lasting(key_id: str) -> bool:
    """Whether a key may be changed and rotated: the playground's are only made and ended, so that
    one stays what it was made for."""
    return not key_id.startswith(f"{PLAYGROUND}_")


def is_over(grant: KeyGrant, now_s: float) -> bool:
    """Whether a grant is a key of the playground that has ended, which gateways need not know."""
    return (
        not is_lasting(grant.key_id)
        and grant.expires_at_s is not None
        and grant.expires_at_s < now_s
    )


def _list(values: list[str] | None) -> str | None:
    return None if values is None else json.dumps(values)


Row = dict[str, Any]


def shown(row: Row | RowMapping) -> Row:
    """A key as people see it: nothing that would let anyone use it."""
    found = dict(row)
    found.pop("key_hash")
    for name in _LISTS:
        found[name] = None if found[name] is None else json.loads(found[name])
    return found


def find_key(connection: Connection, key_id: str) -> Row:
    """A key.

    Raises:
        ApiError: `not_found`.
    """
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).mappings().first()
    if row is None:
        raise ApiError("not_found", "There is no such key.", param="key_id")
    return shown(row)


def any_keys(connection: Connection) -> bool:
    """Whether there is a key at all."""
    return connection.execute(select(api_keys.c.id).limit(1)).first() is not None


def page(connection: Connection, page_: Page, tenant: str | None, project: str | None) -> Rows:
    """One page of keys without their hashes, the newest first; of the playground's, those that
    have not ended."""
    query = select(api_keys).where(
        or_(not_(_OF_PLAYGROUND), api_keys.c.expires_at_s > int(time.time()))
    )
    if project is not None:
        query = query.where(api_keys.c.project == project)
    order = (api_keys.c.created_at_s, api_keys.c.id)
    found = paging.read_page(connection, query, page_, order, newest=True, tenant=tenant)
    return found._replace(rows=list(map(shown, found.rows)))


def change_key(connection: Connection, key_id: str, values: dict[str, Any]) -> None:
    """Change what a key may do, from now on."""
    for name in _LISTS:
        if name in values and (values[name] is not None or name != "tags"):
            values[name] = _list(values[name])
    connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id)
        .values(**values, revision=revisions.bump(connection))
    )


def revoke_key(connection: Connection, key_id: str) -> bool:
    """Refuse a key from now on; false when there is no such key."""
    known = connection.execute(
        select(api_keys.c.revoked_at_s).where(api_keys.c.id == key_id)
    ).first()
    if known is None:
        return False
    if known.revoked_at_s is None:
        change_key(connection, key_id, {"revoked_at_s": int(time.time())})
    return True


def rotate_key(
    connection: Connection, suite: Suite, key_id: str, overlap_s: int, created_by: str
) -> tuple[str, str]:
    """Make a successor; the old key is served for `overlap_s` more. Returns id and key.

    Raises:
        ApiError: `not_found`; `conflict` when the key is revoked or rotated already.
    """
    old = find_key(connection, key_id)
    if old["revoked_at_s"] is not None:
        raise ApiError("conflict", "The key is revoked.", param="key_id")
    successor = connection.execute(
        select(api_keys.c.id).where(
            api_keys.c.rotated_from == key_id, api_keys.c.revoked_at_s.is_(None)
        )
    ).scalar()
    if successor is not None:
        raise ApiError("conflict", f"The key was rotated to {successor}.", param="key_id")
    made = create_key(
        connection,
        suite,
        **{
            name: old[name]
            for name in (
                "name", "tenant", "project", "environment", "models", "apis", "networks",
                "tags", "priority", "data_class", "expires_at_s", "routing_details",
            )
        },
        disconnect=Disconnect(old["disconnect"]),
        created_by=created_by,
        rotated_from=key_id,
    )  # fmt: skip
    ends = int(time.time()) + overlap_s
    if old["expires_at_s"] is None or old["expires_at_s"] > ends:
        change_key(connection, key_id, {"expires_at_s": ends})
    return made


def note_use(connection: Connection, used: dict[str, int]) -> None:
    """When keys were used last, by their ids; Unix time."""
    if not used:
        return
    later = update(api_keys).where(
        api_keys.c.id == bindparam("key"),
        or_(api_keys.c.last_used_at_s.is_(None), api_keys.c.last_used_at_s < bindparam("at")),
    )
    connection.execute(
        later.values(last_used_at_s=bindparam("at")),
        [{"key": key, "at": used[key]} for key in sorted(used)],
    )


def grants(connection: Connection, since: int = -1) -> Iterable[tuple[bytes, KeyGrant]]:
    """Keys changed after a revision: the SHA-256 of each, and what it may do."""
    shut, classes = organization.closed(connection), organization.data_classes(connection)
    query = select(api_keys)
    if since >= 0:
        query = query.where(api_keys.c.revision > since)
    for row in connection.execution_options(yield_per=2_000).execute(query):
        yield digest_of_stored(row.key_hash), _grant(row, shut, classes)


def _grant(
    row: Any, shut: dict[tuple[str, str, str], str], classes: Mapping[tuple[str, str], str]
) -> KeyGrant:
    suspended = ""
    if shut:
        for kind, name in (
            ("tenant", f"/{row.tenant}"),
            ("account", f"/{row.account}"),
            ("project", f"/{row.project}"),
            ("environment", f"{row.project}/{row.environment}"),
        ):
            suspended = suspended or shut.get((kind, row.tenant, name), "")
    wider = () if not classes else (classes.get((row.tenant, at), "") for at in ("", row.project))
    grant = KeyGrant(
        key_id=row.id,
        tenant=row.tenant,
        project=row.project,
        environment=row.environment,
        models=_tuple(row.models),
        expires_at_s=row.expires_at_s,
        revoked=row.revoked_at_s is not None,
        disconnect=Disconnect(row.disconnect),
        account=row.account,
        apis=_tuple(row.apis),
        networks=_tuple(row.networks),
        tags=tuple(json.loads(row.tags)),
        priority=row.priority,
        data_class=row.data_class,
        routing_details=row.routing_details,
        suspended=suspended,
    )
    above = frozenset(filter(None, wider))
    return grant.of_classes(above) if above else grant


def _tuple(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(json.loads(text))


def make_admin_token(connection: Connection, suite: Suite) -> str | None:
    """The admin token, made and shown once; None when there is one already."""
    if revisions.get_meta(connection, ADMIN_HASH) is not None:
        return None
    return renew_admin_token(connection, suite)


def renew_admin_token(connection: Connection, suite: Suite) -> str:
    """Another admin token in place of the one there is, which is worth nothing any more."""
    token = secrets.new_token("tca-")
    revisions.put_meta(connection, ADMIN_HASH, suite.stored_digest(token.encode()))
    return token
