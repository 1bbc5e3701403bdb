"""Configuration revisions: who changed what, why, what it did, and which gateways refused it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from tokenschain.control.audit.admin_log import Author
from tokenschain.control.configuration.model_routes import Routes
from tokenschain.control.configuration.resources import Kind, Origin, ResourceKey
from tokenschain.core.errors import ApiError
from tokenschain.core.gateway_status import RefusedRevision
from tokenschain.infra.config.validation import Values
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import config_revisions

REASON_CHARACTERS_MAX = 500
EFFECTS_MAX = 200
"""Names of one list of effects; of more, only their number is kept."""
REFUSALS_MAX = 50
FIELDS_MAX = 500


class ResourceChange(msgspec.Struct, frozen=True):
    """One resource before and after a revision; None where there was or is none."""

    kind: Kind
    tenant: str
    name: str
    before: Values | None
    after: Values | None
    managed_by: Origin = Origin.API

    @property
    def key(self) -> ResourceKey:
        """The resource."""
        return ResourceKey(self.kind, self.tenant, self.name)


class FieldChange(NamedTuple):
    """One field before and after."""

    field: str
    before: object
    after: object


class Effect(msgspec.Struct, frozen=True):
    """What becomes of names in the snapshot."""

    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    more: int = 0
    """Names beyond `EFFECTS_MAX` that are left out."""


class Effects(msgspec.Struct, frozen=True):
    """What a revision does to the snapshot."""

    upstreams: Effect = Effect()
    models: Effect = Effect()
    virtual_models: Effect = Effect()
    routing: bool = False
    """Whether policies, residency or weights changed."""
    cache: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """A gateway that could not use a revision and kept what it had."""

    gateway: str
    why: str
    at_ms: int
    applied: tuple[str, ...] = ()
    """What of it is in force there all the same."""


class ConfigRevision(NamedTuple):
    """One change of the configuration."""

    revision: int
    at_ms: int
    actor: str
    origin: Origin
    tenant: str
    reason: str
    changes: tuple[ResourceChange, ...]
    effects: Effects
    rolled_back_of: int | None
    refusals: tuple[Refusal, ...]


def effects_of(before: Routes, after: Routes, *, cache: bool) -> Effects:
    """What becomes of the snapshot."""
    return Effects(
        _effect(before.upstreams, after.upstreams),
        _effect(_models(before), _models(after)),
        _effect(_virtual_models(before), _virtual_models(after)),
        _without_models(before) != _without_models(after),
        cache,
    )


def _models(routes: Routes) -> dict[str, object]:
    """The platform's, and each tenant's as `tenant/name`."""
    own = ((tenant, one.models) for tenant, one in routes.tenants.items())
    return {**routes.models, **_qualified(own)}


def _virtual_models(routes: Routes) -> dict[str, object]:
    own = ((tenant, one.virtual_models) for tenant, one in routes.tenants.items())
    return {**routes.routing.models, **_qualified(own)}


def _qualified(own: Iterable[tuple[str, Mapping[str, object]]]) -> dict[str, object]:
    return {f"{tenant}/{name}": one for tenant, found in own for name, one in found.items()}


def _without_models(routes: Routes) -> object:
    return msgspec.structs.replace(routes.routing, models={})


def _effect(before: Mapping[str, object], after: Mapping[str, object]) -> Effect:
    gained = sorted(after.keys() - before.keys())
    lost = sorted(before.keys() - after.keys())
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    more = sum(max(0, len(names) - EFFECTS_MAX) for names in (gained, lost, changed))
    most = EFFECTS_MAX
    return Effect(tuple(gained[:most]), tuple(lost[:most]), tuple(changed[:most]), more)


def fields_of(before: object, after: object, path: str = "") -> Iterable[FieldChange]:
    """What differs between two specs, field by field; lists are taken as a whole."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            inner = f"{path}.{name}" if path else str(name)
            yield from fields_of(before.get(name), after.get(name), inner)
    elif before != after:
        yield FieldChange(path, before, after)


def write(connection: Connection, found: ConfigRevision) -> None:
    """Enter a revision."""
    connection.execute(
        insert(config_revisions).values(
            revision=found.revision, at_ms=found.at_ms, actor=found.actor,
            origin=found.origin.value, tenant=found.tenant,
            reason=found.reason[:REASON_CHARACTERS_MAX],
            changes=msgspec.json.encode(found.changes).decode(),
            effects=msgspec.json.encode(found.effects).decode(),
            rolled_back_of=found.rolled_back_of, refusals="[]",
        )
    )  # fmt: skip


def check_rate(connection: Connection, tenant: str, most: int, now_ms: int) -> None:
    """Insist that a tenant's configuration may change once more in this minute.

    Args:
        tenant: whose resources change; empty: the platform's, or several tenants'.
        most: changes in a minute.

    Raises:
        ApiError: `rate_limit_exceeded`.
    """
    table = config_revisions.c
    last = select(table.at_ms).where(table.tenant == tenant).order_by(table.revision.desc())
    at_ms = connection.execute(last.offset(most - 1).limit(1)).scalar()
    left_ms = 0 if at_ms is None else int(at_ms) + 60_000 - now_ms
    if left_ms > 0:
        raise ApiError(
            "rate_limit_exceeded",
            f"The configuration may be changed {most} times a minute; put several changes into "
            "one with `POST /api/v1/configuration/apply`.",
            retry_after_s=min(left_ms, 60_000) / 1_000,
        )


def latest(connection: Connection) -> int:
    """The latest revision of the configuration; 0 where there is none."""
    return int(connection.execute(select(func.max(config_revisions.c.revision))).scalar() or 0)


def find(connection: Connection, revision: int) -> ConfigRevision | None:
    """A revision by its number."""
    query = select(config_revisions).where(config_revisions.c.revision == revision)
    row = connection.execute(query).mappings().first()
    return None if row is None else _read(dict(row))


def page(
    connection: Connection, page_: Page, tenant: str | None
) -> tuple[list[ConfigRevision], Rows]:
    """One page of revisions, the latest first."""
    query, order = select(config_revisions), (config_revisions.c.revision,)
    rows = paging.read_page(connection, query, page_, order, newest=True, tenant=tenant)
    return [_read(row) for row in rows.rows], rows


def changed_since(connection: Connection, revision: int) -> dict[ResourceKey, int]:
    """Resources that later revisions changed, each with the last one that did."""
    query = select(config_revisions.c.revision, config_revisions.c.changes)
    query = query.where(config_revisions.c.revision > revision)
    found = {}
    for number, changes in connection.execute(query.order_by(config_revisions.c.revision)):
        for one in msgspec.json.decode(changes, type=list[ResourceChange]):
            found[one.key] = number
    return found


def refuse(connection: Connection, refused: RefusedRevision, gateway: str) -> int | None:
    """Note that a gateway kept the configuration before; each is noted once.

    Args:
        refused: the snapshot that it could not use.

    Returns:
        The revision of the configuration that is in it; None where there is none, or the gateway
        has said so before.
    """
    query = select(func.max(config_revisions.c.revision))
    number = connection.execute(
        query.where(config_revisions.c.revision <= refused.revision)
    ).scalar()
    found = None if number is None else find(connection, number)
    if found is None or len(found.refusals) >= REFUSALS_MAX:
        return None
    if any(one.gateway == gateway for one in found.refusals):
        return None
    refusal = Refusal(gateway, refused.why, time.time_ns() // 1_000_000, refused.applied)
    changed = update(config_revisions).where(config_revisions.c.revision == found.revision)
    refusals = msgspec.json.encode([*found.refusals, refusal]).decode()
    connection.execute(changed.values(refusals=refusals))
    return found.revision


def written(
    revision: int,
    author: Author,
    origin: Origin,
    reason: str,
    changes: Sequence[ResourceChange],
    effects: Effects,
    rolled_back_of: int | None,
) -> ConfigRevision:
    """A revision that is made now."""
    tenants = {one.tenant for one in changes}
    tenant = tenants.pop() if len(tenants) == 1 else ""
    at_ms = time.time_ns() // 1_000_000
    return ConfigRevision(
        revision, at_ms, author.id, origin, tenant, reason, tuple(changes), effects,
        rolled_back_of, (),
    )  # fmt: skip


def _read(row: dict[str, object]) -> ConfigRevision:
    decode = msgspec.json.decode
    return ConfigRevision(
        int(str(row["revision"])), int(str(row["at_ms"])), str(row["actor"]),
        Origin(str(row["origin"])), str(row["tenant"]), str(row["reason"]),
        decode(str(row["changes"]), type=tuple[ResourceChange, ...]),
        decode(str(row["effects"]), type=Effects),
        None if row["rolled_back_of"] is None else int(str(row["rolled_back_of"])),
        decode(str(row["refusals"]), type=tuple[Refusal, ...]),
    )  # fmt: skip
