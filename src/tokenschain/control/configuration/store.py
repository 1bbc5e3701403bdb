"""Resource store: the configuration in the database, and the secrets of its credentials."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from tokenschain.control.configuration import kinds
from tokenschain.control.configuration.kinds import CredentialSpec, Spec
from tokenschain.control.configuration.resources import Kind, Origin, ResourceKey
from tokenschain.core.log_events import Reporter
from tokenschain.core.snapshot import own_id
from tokenschain.core.snapshot.data_classes import DataClassRule
from tokenschain.infra.config.validation import Values
from tokenschain.infra.database import paging
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.paging import Page
from tokenschain.infra.database.tables import credential_values, resources
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Suite, Unsealable

REPLACED_KEPT_S = 7 * 86_400
"""How long a secret that was replaced or removed stays, sealed, for a rollback."""
_FINGERPRINT_CHARACTERS = 12


class StoredResource(NamedTuple):
    """One resource as it is kept."""

    key: ResourceKey
    spec: Spec
    managed_by: Origin
    revision: int
    """Of its last change."""
    changed_at_ms: int

    @property
    def values(self) -> Values:
        """Its spec in the canonical form."""
        return kinds.canonical(self.spec)


class ResourceStore:
    """Reads all resources; those that have not changed are decoded once."""

    def __init__(self, report: Reporter) -> None:
        """
        Args:
            report: told `resource_unreadable` of one that this version cannot read.
        """
        self._report = report
        self._known: Mapping[ResourceKey, tuple[str, StoredResource]] = {}
        """With the text that each was decoded from."""

    def read(self, connection: Connection) -> dict[ResourceKey, StoredResource]:
        """Every resource; one that cannot be read is left out."""
        known, found = self._known, dict[ResourceKey, tuple[str, StoredResource]]()
        for row in connection.execute(select(resources)):
            key = ResourceKey(Kind(row.kind), row.tenant, row.name)
            text, before = known.get(key, ("", None))
            if before is not None and text == row.spec:
                spec = before.spec
            else:
                try:
                    spec = kinds.stored(key, msgspec.json.decode(row.spec))
                except msgspec.DecodeError as error:
                    self._report("resource_unreadable", f"{key}: {error}")
                    continue
            origin = Origin(row.managed_by)
            made = StoredResource(key, spec, origin, row.revision, row.changed_at_ms)
            found[key] = row.spec, made
        self._known = found
        return {key: made for key, (_, made) in found.items()}


def find(connection: Connection, key: ResourceKey) -> StoredResource | None:
    """One resource; None where there is none, or this version cannot read it."""
    row = connection.execute(select(resources).where(_at(key))).mappings().first()
    return None if row is None else _decoded(key, row)


class ResourcePage(NamedTuple):
    """One page of the resources of a kind."""

    resources: list[StoredResource]
    next_cursor: str | None


def page(connection: Connection, kind: Kind, page_: Page, tenant: str | None) -> ResourcePage:
    """One page of the resources of a kind, by tenant and name; unreadable ones are left out.

    Args:
        tenant: only this tenant's.
    """
    query, order = select(resources).where(resources.c.kind == kind.value), resources.c
    rows = paging.read_page(connection, query, page_, (order.tenant, order.name), tenant=tenant)
    found = [_decoded(ResourceKey(kind, row["tenant"], row["name"]), row) for row in rows.rows]
    return ResourcePage([one for one in found if one is not None], rows.next_cursor)


def of_tenants(
    connection: Connection, kind: Kind, tenants: Collection[str]
) -> list[StoredResource]:
    """All resources of a kind of some tenants, by tenant and name; unreadable ones are left out.

    Args:
        tenants: `` for the platform.
    """
    order = resources.c
    query = (
        select(resources)
        .where(order.kind == kind.value, order.tenant.in_(sorted(tenants)))
        .order_by(order.tenant, order.name)
    )
    rows = connection.execute(query).mappings()
    found = [_decoded(ResourceKey(kind, row["tenant"], row["name"]), row) for row in rows]
    return [one for one in found if one is not None]


def data_classes(connection: Connection, tenants: Collection[str]) -> dict[str, DataClassRule]:
    """What is said of data classes by the platform and some tenants, by name; a tenant's own as
    `TENANT/NAME`."""
    found = of_tenants(connection, Kind.DATA_CLASS, {"", *tenants})
    return {
        own_id(one.key.tenant, one.key.name): one.spec
        for one in found
        if isinstance(one.spec, DataClassRule)
    }


def _decoded(key: ResourceKey, row: Mapping[Any, Any]) -> StoredResource | None:
    try:
        spec = kinds.stored(key, msgspec.json.decode(row["spec"]))
    except msgspec.DecodeError:
        return None
    origin = Origin(row["managed_by"])
    return StoredResource(key, spec, origin, row["revision"], row["changed_at_ms"])


def _at(key: ResourceKey) -> ColumnElement[bool]:
    table = resources.c
    return and_(table.kind == key.kind.value, table.tenant == key.tenant, table.name == key.name)


def put(connection: Connection, resource: StoredResource) -> None:
    """Write a resource down, anew or changed."""
    values = {
        "spec": msgspec.json.encode(resource.values).decode(),
        "managed_by": resource.managed_by.value,
        "revision": resource.revision,
        "changed_at_ms": resource.changed_at_ms,
    }
    kind, tenant, name = resource.key
    connection.execute(
        upsert(connection.engine, resources)
        .values(kind=kind.value, tenant=tenant, name=name, **values)
        .on_conflict_do_update(index_elements=["kind", "tenant", "name"], set_=values)
    )


def remove(connection: Connection, key: ResourceKey) -> None:
    """Take a resource away."""
    connection.execute(delete(resources).where(_at(key)))


# --- secrets of credentials ----------------------------------------------------------------


def fingerprint(suite: Suite, key: ResourceKey, secret: str) -> str:
    """Tells whether two secrets of one credential are the same, and nothing else of them."""
    said = f"{key.tenant}/{key.name}\n{secret}".encode()
    return suite.hex_digest(said)[:_FINGERPRINT_CHARACTERS]


def keep_secret(
    connection: Connection, sealer: Sealer, key: ResourceKey, mark: str, secret: str
) -> None:
    """Keep the secret of a credential, sealed.

    Args:
        mark: its fingerprint.
    """
    name = _id_of(key, mark)
    connection.execute(
        upsert(connection.engine, credential_values)
        .values(id=name, sealed=sealer.seal(place_of(name), secret.encode()))
        .on_conflict_do_nothing(index_elements=["id"])
    )


def has_secret(connection: Connection, key: ResourceKey, mark: str) -> bool:
    """Whether the secret with this fingerprint is kept."""
    found = select(credential_values.c.id).where(credential_values.c.id == _id_of(key, mark))
    return connection.execute(found).first() is not None


def name_secret(connection: Connection, key: ResourceKey, before: str, after: str) -> None:
    """Note which secret a credential names from now on; the one before stays for a while.

    Args:
        before: the former fingerprint; empty where there was none.
        after: empty where the credential is removed.
    """
    table = credential_values
    if before and before != after:
        replaced = update(table).where(table.c.id == _id_of(key, before))
        connection.execute(replaced.values(replaced_at_s=int(time.time())))
    if after:
        named = update(table).where(table.c.id == _id_of(key, after))
        connection.execute(named.values(replaced_at_s=None))


def secrets_of(
    connection: Connection, sealer: Sealer, found: Mapping[ResourceKey, StoredResource]
) -> dict[str, bytes]:
    """The secrets of all credentials, by `tenant/name`; one that no key opens is left out."""
    sealed = {
        row.id: row.sealed
        for row in connection.execute(
            select(credential_values).where(credential_values.c.replaced_at_s.is_(None))
        )
    }
    opened = {}
    for key, resource in found.items():
        if isinstance(resource.spec, CredentialSpec):
            name = _id_of(key, resource.spec.fingerprint)
            try:
                opened[f"{key.tenant}/{key.name}"] = sealer.unseal(place_of(name), sealed[name])
            except (KeyError, Unsealable):
                continue
    return opened


def sweep(connection: Connection, now_s: float) -> None:
    """Delete secrets that were replaced or removed long enough ago."""
    table = credential_values
    connection.execute(delete(table).where(table.c.replaced_at_s < now_s - REPLACED_KEPT_S))


def place_of(name: str) -> Place:
    """Where the secret of a credential is sealed for; its tenant is part of the name."""
    return Place(Sealable.STORED_CREDENTIAL, "", name)


def _id_of(key: ResourceKey, mark: str) -> str:
    return f"{key.tenant}/{key.name}/{mark}"
