"""Archive of content: what gateways kept of calls, sealed under tenant and day keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, select

from tokenschain.control.audit import pending
from tokenschain.control.content import erasure
from tokenschain.control.content.content_policies import ReadRules, no_rules
from tokenschain.control.content.key_hierarchy import ContentKeys, KeyDestroyed
from tokenschain.core.audit import content, records
from tokenschain.core.audit.content import ContentBody, ContentRecord
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot.data_classes import names_in, own_keys
from tokenschain.core.snapshot.kept_content import KeptContent
from tokenschain.infra.database import engine as database
from tokenschain.infra.database import paging
from tokenschain.infra.database.content_tables import call_contents
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.security import case_texts
from tokenschain.infra.security.suite import INTERNATIONAL, Place, Sealable, Sealer, Unsealable


class OpenedContent(NamedTuple):
    """What was kept of a call, in clear."""

    content: ContentBody
    commitments: tuple[str, str]
    """To input and output, as the audit log has them; nothing can be said of them where only
    commitments are kept."""


class ContentArchive:
    """Enters content as gateways ship it, each call once."""

    def __init__(
        self,
        engine: Engine,
        shared: Sealer,
        keys: ContentKeys,
        *,
        audited: bool,
        rules: ReadRules = no_rules,
    ) -> None:
        """
        Args:
            rules: of data classes: some have keys of their own.
            shared: opens what gateways sealed.
            audited: whether the audit log holds commitments to it.
        """
        self._engine, self._shared, self._keys, self._audited = engine, shared, keys, audited
        self._rules = rules

    def enter(self, payloads: Sequence[bytes]) -> int:
        """Enter content; returns how much of it was new. What cannot be read is dropped: its
        gateway has another secret, or is of another version.

        Args:
            payloads: each a `ContentRecord`.

        Raises:
            msgspec.DecodeError: they are none.
        """
        found = sorted(map(content.decode, payloads), key=lambda one: one.call_id)
        new = 0
        for one in found:
            # One transaction each: some have megabytes, and others wait for the database.
            with self._engine.begin() as connection:
                new += self._enter(connection, one)
        return new

    def _enter(self, connection: Connection, one: ContentRecord) -> bool:
        try:
            place = case_texts.content_place_of(one.tenant, one.call_id)
            opened = content.decode_content(self._shared.unseal(place, one.sealed))
        except (Unsealable, msgspec.DecodeError):
            return False
        subject = self._keys.subject(connection, one.tenant, opened.end_user)
        if erasure.is_erased(connection, one.tenant, subject, one.started_ms):
            return False
        day = one.started_ms // database.DAY_MS
        apart = ""
        if one.data_class:
            rules = self._rules(connection, (one.tenant,))
            apart = own_keys(rules, one.tenant, names_in(one.data_class))
        key = self._keys.key(connection, one.tenant, day, subject, apart)
        kept = msgspec.structs.replace(opened, end_user="")
        row = {
            "call_id": one.call_id, "tenant": one.tenant, "project": one.project,
            "subject": subject, "started_ms": one.started_ms, "day": day, "key_id": key.id,
            "kept": one.kept.value, "blocked": one.blocked, "data_class": one.data_class,
            "body": key.sealer.seal(_place(one.tenant, one.call_id), content.encode(kept)),
        }  # fmt: skip
        statement = database.upsert(self._engine, call_contents).on_conflict_do_nothing(
            index_elements=["call_id"]
        )
        if not connection.execute(statement, row).rowcount:
            return False
        if self._audited:
            line = records.of_content(
                one.call_id, one.started_ms, one.tenant, one.project, one.kept.value,
                (one.input_commitment, one.output_commitment),
            )  # fmt: skip
            pending.add_content(connection, line, one.started_ms)
        return True


def open_content(
    connection: Connection, keys: ContentKeys, row: Mapping[str, Any]
) -> OpenedContent:
    """What was kept of a call.

    Args:
        row: of `call_contents`, whole.

    Raises:
        KeyDestroyed: it was erased.
        ApiError: `internal_error`: it, or a key above it, was changed.
    """
    try:
        sealer = keys.sealer(connection, row["key_id"])
        said = sealer.unseal(_place(row["tenant"], row["call_id"]), bytes(row["body"]))
    except Unsealable as cause:
        why = (
            f"What call `{row['call_id']}` said does not open: it or its key was changed, or was "
            "sealed with a master key that is not here."
        )
        raise ApiError("internal_error", why) from cause
    opened = content.decode_content(said)
    committed = ("", "")
    if row["kept"] != KeptContent.HASH:
        first, second = content.commitments(INTERNATIONAL.mac, opened)
        committed = first.hex(), second.hex()
    return OpenedContent(opened, committed)


def open_all(
    connection: Connection, keys: ContentKeys, rows: Iterable[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], OpenedContent]]:
    """Those of some rows that can still be opened."""
    found = []
    for row in rows:
        with contextlib.suppress(KeyDestroyed):
            found.append((row, open_content(connection, keys, row)))
    return found


def find(connection: Connection, call_id: str) -> Mapping[str, Any] | None:
    """The row of a call's content, still sealed; None where nothing is kept of it."""
    query = select(call_contents).where(call_contents.c.call_id == call_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else dict(row)


def page(
    connection: Connection,
    page_: Page,
    tenant: str,
    subjects: Sequence[str] | None,
    from_ms: int = 0,
    until_ms: int | None = None,
) -> Rows:
    """One page of a tenant's content, still sealed, in the order of time.

    Args:
        subjects: hashes of one end user; None: of all.
    """
    c = call_contents.c
    query = select(call_contents).where(c.started_ms >= from_ms)
    if until_ms is not None:
        query = query.where(c.started_ms < until_ms)
    if subjects is not None:
        query = query.where(c.subject.in_(subjects))
    return paging.read_page(connection, query, page_, (c.started_ms, c.call_id), tenant=tenant)


def _place(tenant: str, call_id: str) -> Place:
    return Place(Sealable.CONTENT, tenant, call_id)
