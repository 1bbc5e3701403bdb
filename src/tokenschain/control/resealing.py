"""Seals what is in the database anew: after an upgrade, and when the master key is rotated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Engine, Table, select, update

from tokenschain.control import revisions
from tokenschain.core.log_events import Reporter
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.content_tables import tenant_keys
from tokenschain.infra.database.moderation_tables import moderation_cases
from tokenschain.infra.database.tables import (
    alert_targets,
    credential_values,
    idempotency,
    mails,
    stored_responses,
    users,
)
from tokenschain.infra.security import secrets
from tokenschain.infra.security.secret_files import (
    CLEAR,
    KeyStore,
    SecretFile,
    SecretFileRefused,
)
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Unsealable, suite_named

BATCH_ROWS = 100
_FORMAT = "sealed_format"
_PRESENT_FORMAT = "2"
"""Bound to kind, tenant and name; the first was bound to the name alone."""


class SealedColumn(NamedTuple):
    """A column of sealed texts, and how each is bound to its row."""

    table: Table
    column: Column[bytes]
    name: Column[str]
    tenant: Column[str] | None
    kind: Sealable


SEALED = (
    SealedColumn(
        stored_responses, stored_responses.c.sealed, stored_responses.c.id,
        stored_responses.c.tenant, Sealable.RESPONSE,
    ),
    SealedColumn(
        alert_targets, alert_targets.c.sealed, alert_targets.c.id, alert_targets.c.tenant,
        Sealable.ALERT_TARGET,
    ),
    SealedColumn(users, users.c.totp_sealed, users.c.id, users.c.tenant, Sealable.SECOND_FACTOR),
    SealedColumn(
        idempotency, idempotency.c.sealed, idempotency.c.key_hash, None,
        Sealable.IDEMPOTENT_ANSWER,
    ),
    SealedColumn(
        credential_values, credential_values.c.sealed, credential_values.c.id, None,
        Sealable.STORED_CREDENTIAL,
    ),
    SealedColumn(mails, mails.c.sealed, mails.c.id, None, Sealable.MAIL),
    SealedColumn(
        moderation_cases, moderation_cases.c.sealed, moderation_cases.c.id,
        moderation_cases.c.tenant, Sealable.MODERATION_CASE,
    ),
    SealedColumn(
        tenant_keys, tenant_keys.c.sealed, tenant_keys.c.id, tenant_keys.c.tenant,
        Sealable.CONTENT_KEY,
    ),
)  # fmt: skip
"""Every column that the master key seals; a test compares it with the tables."""


class Resealed(NamedTuple):
    """How many texts were sealed anew, and how many no key opens."""

    sealed: int
    unreadable: int


def bring_up_to_date(engine: Engine, sealer: Sealer, report: Reporter) -> None:
    """Seal anew what a version before bound to its name alone; once for each database.

    From then on such texts are refused: a row moved to another tenant opens for no one.

    Args:
        report: told `sealed_unreadable` where no key opens some of them.
    """
    with engine.begin() as connection:
        if revisions.get_meta(connection, _FORMAT) == _PRESENT_FORMAT:
            return
    found = reseal(engine, sealer, sealer.unseal_former)
    if found.unreadable:
        report("sealed_unreadable", f"{found.unreadable} sealed texts open with no key given")
    with engine.begin() as connection:
        revisions.put_meta(connection, _FORMAT, _PRESENT_FORMAT)


def reseal(
    engine: Engine, sealer: Sealer, unseal: Callable[[Place, bytes], bytes] | None = None
) -> Resealed:
    """Seal everything anew with the key in force, a few rows at a time beside other work.

    Args:
        unseal: how the old text is opened, if not as usual.
    """
    count = unreadable = 0
    for one in SEALED:
        last = ""
        while True:
            with engine.begin() as connection:
                rows = list(_rows(connection, one, last))
                for place, old in rows:
                    try:
                        secret = (unseal or sealer.unseal)(place, old)
                    except Unsealable:
                        unreadable += not _is_present(sealer, place, old)
                        continue
                    count += _replace(connection, one, place, old, sealer.seal(place, secret))
            if not rows:
                break
            last = rows[-1][0].name
    return Resealed(count, unreadable)


def reseal_machine(settings: Settings, store: KeyStore = CLEAR) -> int:
    """Seal anew what this machine has: its credentials, and the database where it is control's.

    Raises:
        SecretFileRefused: something opens with no key of the file, which still holds the old one.
    """
    suite = suite_named(settings.crypto.suite)
    count = secrets.Vault(settings.vault_path, settings.master_key_path, suite, store).reseal()
    engine = db.connect(settings.database_url)
    try:
        if not db.is_made(engine):
            return count
        sealer = secrets.master_sealer(SecretFile(settings.master_key_path, store=store), suite)
        found = reseal(engine, sealer)
    finally:
        engine.dispose()
    if found.unreadable:
        raise SecretFileRefused(
            f"{found.unreadable} sealed texts of the database open with no key in "
            f"{settings.master_key_path}: is it the file of this database?"
        )
    return count + found.sealed


def _rows(connection: Connection, one: SealedColumn, after: str) -> Iterator[tuple[Place, bytes]]:
    columns: list[Column[Any]] = [one.name, one.column]
    if one.tenant is not None:
        columns.append(one.tenant)
    query = select(*columns).where(one.name > after, one.column.is_not(None), one.column != b"")
    for name, sealed, *tenant in connection.execute(query.order_by(one.name).limit(BATCH_ROWS)):
        yield Place(one.kind, tenant[0] if tenant else "", name), sealed


def _is_present(sealer: Sealer, place: Place, sealed: bytes) -> bool:
    """Whether it is of the present format already: an interrupted pass goes on."""
    try:
        sealer.unseal(place, sealed)
    except Unsealable:
        return False
    return True


def _replace(
    connection: Connection, one: SealedColumn, place: Place, old: bytes, new: bytes
) -> int:
    """Put a text in place of the old one, unless it has changed meanwhile."""
    statement = (
        update(one.table).where(one.name == place.name, one.column == old).values({one.column: new})
    )
    return connection.execute(statement).rowcount
