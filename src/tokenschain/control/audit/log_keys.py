"""Keys of the sealed log: which one is in force, and how the log was handed over to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection, Engine, select

from tokenschain.core.audit import checkpoint, key_chain
from tokenschain.infra.database.audit_tables import audit_checkpoints, audit_keys
from tokenschain.infra.database.engine import reading
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.secret_files import KeyStore
from tokenschain.infra.security.suite import INTERNATIONAL

TRIES = 40
_TRY_S = 0.25


class NotHandedOver(Exception):
    """The log goes on with the key that it has; the text says why."""


def ids_in_force(connection: Connection, origin: str) -> frozenset[bytes]:
    """Which keys sign the next checkpoint; none where nothing is sealed yet."""
    key = connection.execute(_LATEST).scalar()
    if key is not None:
        return key_chain.key_ids(tuple(key.split()))
    c = audit_checkpoints.c
    note = connection.execute(select(c.note).order_by(c.size.desc()).limit(1)).scalar()
    return frozenset() if note is None else checkpoint.signers_of(note, origin)


def is_known(connection: Connection) -> bool:
    """Whether the public key in force stands in the database: not before the log goes on after an
    upgrade."""
    return connection.execute(_LATEST).scalar() is not None


def public_key(connection: Connection, secret: NoteSecret | None, origin: str) -> str:
    """The public key in force, two of the suite `dual`.

    Args:
        secret: what signs, where the key may not stand in the database yet.

    Raises:
        LookupError: it does not, and there is no secret.
    """
    key = connection.execute(_LATEST).scalar()
    if key is not None:
        return str(key)
    if secret is None:
        raise LookupError("the public key of the log is not known here")
    signs = secret.signing_with(origin, ids_in_force(connection, origin))
    return (signs or secret).public_key(origin)


def hand_overs(connection: Connection, above: int, until: int) -> list[str]:
    """The notes by which the log was handed over, of sizes above one and up to another."""
    c = audit_keys.c
    query = select(c.note).where(c.note.is_not(None), c.size > above, c.size <= until)
    return list(connection.execute(query.order_by(c.size)).scalars())


_LATEST = select(audit_keys.c.key).order_by(audit_keys.c.size.desc()).limit(1)


# --- rotation --------------------------------------------------------------------------------


def rotate(
    engine: Engine,
    path: Path,
    store: KeyStore,
    signatures: str,
    seal: Callable[[NoteSecret], object],
    pause: Callable[[float], object] = time.sleep,
) -> str:
    """Put a new secret into the key file, hand the log over to its key, and destroy the old one.

    A rotation that was interrupted goes on where it was: the file has both secrets until the log is
    handed over.

    Args:
        signatures: see `NoteSecret`.
        seal: makes the next segment, unless another control just did.

    Returns:
        The hand-over, a signed note.

    Raises:
        NotHandedOver: nothing is sealed yet, or the file's secrets are not those of the log.
        SecretFileRefused: see `secret_files.read` and `write`.
    """
    found = secret_files.read(path, store)
    with reading(engine) as connection:
        origin = _origin(connection)
        ids = ids_in_force(connection, origin)
    signs = NoteSecret(INTERNATIONAL, found[0], signatures, found[1:])
    if signs.signing_with(origin, ids) is None:
        raise NotHandedOver("the key file has no secret that the log is signed with")
    if len(found) == 1:
        found = (secret_files.new_secret(), *found)
        secret_files.write(path, [store.wrap(one) for one in found])
        signs = NoteSecret(INTERNATIONAL, found[0], signatures, found[1:])
    wanted = key_chain.key_ids(tuple(signs.public_key(origin).split()))
    for _ in range(TRIES):
        with reading(engine) as connection:
            if ids_in_force(connection, origin) == wanted:
                note = hand_overs(connection, -1, checkpoint.SIZE_MAX)[-1]
                break
        if seal(signs) is None:
            pause(_TRY_S)  # another control just sealed
    else:
        raise NotHandedOver("the log was not handed over: run it again")
    secret_files.write(path, [store.wrap(found[0])])
    return note


def _origin(connection: Connection) -> str:
    c = audit_checkpoints.c
    note = connection.execute(select(c.note).order_by(c.size.desc()).limit(1)).scalar()
    if note is None:
        raise NotHandedOver("nothing is sealed yet")
    return checkpoint.opened(note, []).origin
