"""Key hierarchy of kept content: master key, tenant key, day key, key of an end user on a day.

Each stands in the database wrapped by the one above. A destroyed key is gone, and with it whatever
is sealed below it; rotation of the master key wraps tenant keys anew and nothing else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, Engine, select, update

from tokenschain.infra.database.content_tables import content_keys, tenant_keys
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import KEY_BYTES, Place, Sealable, Sealer, Suite

SUBJECT_BYTES = 16
_KEPT_MAX = 4_096
_AT_ONCE = 500
_DESTROYED = b""


class KeyDestroyed(Exception):
    """The key is no longer there: what it sealed is unreadable for good."""


class ContentKey(NamedTuple):
    """A key that content is sealed with, and its id."""

    id: str
    sealer: Sealer


class ContentKeys:
    """Makes and opens keys; what is destroyed is looked up in the database each time."""

    def __init__(self, engine: Engine, master: Sealer, suite: Suite) -> None:
        """
        Args:
            master: wraps tenant keys.
            suite: wraps all others with, and seals content with.
        """
        self._engine, self._master, self._suite = engine, master, suite
        self._opened: dict[tuple[str, bytes], bytes] = {}
        """Unwrapped keys, by id and wrapped key: asked only after the row was found alive."""

    def subjects(self, connection: Connection, tenant: str, end_user: str) -> list[str]:
        """The keyed hashes that an end user may be known by, that of this suite first; none where
        the tenant has no key and so no content."""
        found = self._tenant_key(connection, tenant)
        if found is None:
            return []
        said = b"end user\0" + end_user.encode()
        return [suite.mac(found[1], said)[:SUBJECT_BYTES].hex() for suite in self._suite.readers()]

    def made_subjects(self, connection: Connection, tenant: str, end_user: str) -> list[str]:
        """The same of an end user whose content may be yet to come: the tenant has a key from then
        on."""
        self._made_tenant_key(connection, tenant)
        return self.subjects(connection, tenant, end_user)

    def subject(self, connection: Connection, tenant: str, end_user: str) -> str:
        """The hash of an end user whose content comes; empty where nobody is named."""
        return self.made_subjects(connection, tenant, end_user)[0] if end_user else ""

    def key(
        self,
        connection: Connection,
        tenant: str,
        day: int,
        subject: str = "",
        data_class: str = "",
    ) -> ContentKey:
        """The key to seal with, made where there is none yet.

        Args:
            subject: an end user's hash: the day has a key for each.
            data_class: whose content hangs below a key of its own.
        """
        parent, secret = self._made_tenant_key(connection, tenant, data_class)
        for whose in ("", subject) if subject else ("",):
            place = (tenant, data_class, day, whose)
            parent, secret = self._made(connection, parent, secret, place)
        return ContentKey(parent, sealer_of(self._suite, secret))

    def sealer(self, connection: Connection, key_id: str) -> Sealer:
        """What opens by a key.

        Raises:
            KeyDestroyed: it, or one above it, is gone.
        """
        return sealer_of(self._suite, self._unwrapped(connection, key_id))

    def _unwrapped(self, connection: Connection, key_id: str) -> bytes:
        c = content_keys.c
        query = select(c.tenant, c.parent, c.wrapped).where(c.id == key_id)
        row = connection.execute(query).first()
        if row is None:
            return self._tenant_secret(connection, key_id)
        wrapped = bytes(row.wrapped)
        if wrapped == _DESTROYED:
            raise KeyDestroyed(key_id)
        above = self._unwrapped(connection, row.parent)
        return self._opening(key_id, row.tenant, wrapped, sealer_of(self._suite, above))

    def _tenant_secret(self, connection: Connection, key_id: str) -> bytes:
        c = tenant_keys.c
        row = connection.execute(select(c.tenant, c.sealed).where(c.id == key_id)).first()
        if row is None or bytes(row.sealed) == _DESTROYED:
            raise KeyDestroyed(key_id)
        return self._opening(key_id, row.tenant, bytes(row.sealed), self._master)

    def _opening(self, key_id: str, tenant: str, wrapped: bytes, by: Sealer) -> bytes:
        found = self._opened.get((key_id, wrapped))
        if found is None:
            found = by.unseal(_place(tenant, key_id), wrapped)
            if len(self._opened) >= _KEPT_MAX:
                self._opened.clear()
            self._opened[key_id, wrapped] = found
        return found

    def _tenant_key(
        self, connection: Connection, tenant: str, data_class: str = ""
    ) -> tuple[str, bytes] | None:
        c = tenant_keys.c
        query = select(c.id, c.sealed).where(
            c.tenant == tenant, c.data_class == data_class, c.destroyed_at_ms.is_(None)
        )
        row = connection.execute(query).first()
        if row is None:
            return None
        return row.id, self._opening(row.id, tenant, bytes(row.sealed), self._master)

    def _made_tenant_key(
        self, connection: Connection, tenant: str, data_class: str = ""
    ) -> tuple[str, bytes]:
        found = self._tenant_key(connection, tenant, data_class)
        if found is not None:
            return found
        name, secret = secrets.new_id("tkey"), os.urandom(KEY_BYTES)
        row = {
            "id": name, "tenant": tenant, "sealed": self._master.seal(_place(tenant, name), secret),
            "created_at_ms": _now_ms(), "data_class": data_class,
        }  # fmt: skip
        # Of two controls, the key of one counts.
        connection.execute(upsert(self._engine, tenant_keys).on_conflict_do_nothing(), row)
        made = self._tenant_key(connection, tenant, data_class)
        assert made is not None, "one of them is there"
        return made

    def _made(
        self,
        connection: Connection,
        parent: str,
        secret: bytes,
        place: tuple[str, str, int, str],
    ) -> tuple[str, bytes]:
        tenant, data_class, day, subject = place
        above = sealer_of(self._suite, secret)
        c = content_keys.c
        query = select(c.id, c.parent, c.wrapped).where(
            c.tenant == tenant, c.data_class == data_class, c.day == day, c.subject == subject,
            c.destroyed_at_ms.is_(None),
        )  # fmt: skip
        row = connection.execute(query).first()
        if row is None:
            name = secrets.new_id("ckey")
            new = {
                "id": name, "tenant": tenant, "parent": parent, "day": day, "subject": subject,
                "wrapped": above.seal(_place(tenant, name), os.urandom(KEY_BYTES)),
                "created_at_ms": _now_ms(), "data_class": data_class,
            }  # fmt: skip
            connection.execute(upsert(self._engine, content_keys).on_conflict_do_nothing(), new)
            row = connection.execute(query).one()
        return row.id, self._opening(row.id, tenant, bytes(row.wrapped), above)


def sealer_of(suite: Suite, key: bytes) -> Sealer:
    """Seals by one key of `KEY_BYTES`, and opens by it what any suite sealed."""
    ring = (key.hex(),)
    return Sealer(suite, lambda: ring, lambda suite, secret: bytes.fromhex(secret))


def living(connection: Connection, key_ids: Sequence[str]) -> list[str]:
    """Those of some keys that are there and not destroyed."""
    return [
        name
        for table in (content_keys, tenant_keys)
        for some in batches(key_ids)
        for name in connection.execute(
            select(table.c.id).where(table.c.id.in_(some), table.c.destroyed_at_ms.is_(None))
        ).scalars()
    ]


def destroy(connection: Connection, key_ids: Iterable[str], now_ms: int) -> list[str]:
    """Destroy keys by their ids, and those below them; returns all that were there."""
    wanted, gone = list(key_ids), []
    while wanted:
        done = _destroyed(connection, wanted, now_ms)
        gone += done
        c = content_keys.c
        wanted = [
            name
            for some in batches(done)
            for name in connection.execute(
                select(c.id).where(c.parent.in_(some), c.destroyed_at_ms.is_(None))
            ).scalars()
        ]
    return sorted(gone)


def _destroyed(connection: Connection, wanted: Sequence[str], now_ms: int) -> list[str]:
    gone: list[str] = []
    for table, wrapped in ((content_keys, "wrapped"), (tenant_keys, "sealed")):
        for some in batches(wanted):
            done = connection.execute(
                update(table)
                .where(table.c.id.in_(some), table.c.destroyed_at_ms.is_(None))
                .values({wrapped: _DESTROYED, "destroyed_at_ms": now_ms})
                .returning(table.c.id)
            )
            gone += done.scalars().all()
    return gone


def batches(wanted: Sequence[str]) -> Iterator[Sequence[str]]:
    """Ids, as many at a time as one statement takes."""
    for at in range(0, len(wanted), _AT_ONCE):
        yield wanted[at : at + _AT_ONCE]


def _place(tenant: str, key_id: str) -> Place:
    return Place(Sealable.CONTENT_KEY, tenant, key_id)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
