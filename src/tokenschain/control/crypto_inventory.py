"""Inventory of cryptography: what is protected, by which algorithm and key, and how much of it."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Column, Engine, func, select

from tokenschain.control.resealing import SEALED
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.content_tables import call_contents, content_keys
from tokenschain.infra.database.tables import api_keys, recovery_codes, sign_ups, tokens, users
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.certificates import gm_cipher_suites
from tokenschain.infra.security.pack_signatures import SM2_MARK
from tokenschain.infra.security.secret_files import CLEAR, KeyStore, SecretFileRefused
from tokenschain.infra.security.suite import DUAL, GM, INTERNATIONAL, suite_named

_SEALING = {INTERNATIONAL.sealed_version: "AES-256-GCM", GM.sealed_version: "SM4-GCM"}
SEALING = frozenset(_SEALING.values())
"""Algorithms that keep what is stored from being read."""
_WRAPPING = {"file": "in clear, by file rights", "sdf": "SM4 by a device (GM/T 0018)"}
_CHECKPOINTS = {GM.name: "SM2", DUAL: "Ed25519, SM2"}
_DIGESTS = (("API keys", api_keys.c.key_hash), ("tokens and sessions", tokens.c.token_hash),
            ("recovery codes", recovery_codes.c.code_hash),
            ("sign-ups", sign_ups.c.code_hash))  # fmt: skip

_ABOVE = {"content_keys": "tenant and day keys", "call_contents": "day keys"}


class Protected(NamedTuple):
    """One kind of data under one algorithm."""

    what: str
    algorithm: str
    key: str
    """Fingerprint of the key in force, or where it is; empty where there is none."""
    rows: int | None
    """None for what is not stored as rows."""


def inventory(settings: Settings, store: KeyStore = CLEAR) -> list[Protected]:
    """Of this machine's files, and of the database where it is made already."""
    master = _key_of(settings.master_key_path, store)
    internal = _key_of(settings.internal_secret_path)
    found = list(_of_files(settings.vault_path, master))
    engine = db.connect(settings.database_url)
    try:
        if db.is_made(engine):
            found += _of_database(engine, master)
    finally:
        engine.dispose()
    return found + list(_of_channels(settings, internal))


def _of_files(folder: Path, master: str) -> Iterator[Protected]:
    counted = Counter(path.read_bytes()[:1] for path in folder.glob("*.sealed"))
    for version, count in sorted(counted.items()):
        yield Protected("secrets in files", _sealing(version), master, count)


def _of_database(engine: Engine, master: str) -> Iterator[Protected]:
    with db.reading(engine) as connection:
        for what, column in _DIGESTS:
            is_gm = column.like(f"{GM.mark}%")
            for algorithm, where in (("SM3", is_gm), ("SHA-256", ~is_gm)):
                counted = select(func.count()).where(column.is_not(None), where)
                if count := connection.execute(counted).scalar_one():
                    yield Protected(what, algorithm, "", count)
        counted = select(func.count()).where(users.c.password_hash.is_not(None))
        if count := connection.execute(counted).scalar_one():
            yield Protected("passwords", "Argon2id", "", count)
        for one in SEALED:
            for version, count in connection.execute(_by_version(one.column)):
                what = f"{one.table.name}.{one.column.name}"
                yield Protected(what, _sealing(bytes(version)), master, count)
        for below in (content_keys.c.wrapped, call_contents.c.body):
            for version, count in connection.execute(_by_version(below)):
                what = f"{below.table.name}.{below.name}"
                yield Protected(what, _sealing(bytes(version)), _ABOVE[below.table.name], count)


def _by_version(column: Column[bytes]) -> Any:
    version = func.substr(column, 1, 1).label("version")
    filled = select(version, func.count()).where(column.is_not(None), func.length(column) > 0)
    return filled.group_by(version).order_by(version)


def _of_channels(settings: Settings, internal: str) -> Iterator[Protected]:
    gm = suite_named(settings.crypto.suite) is GM
    code, sealing = ("HMAC-SM3", "SM4-GCM") if gm else ("HMAC-SHA256", "AES-256-GCM")
    yield Protected("requests between processes", code, internal, None)
    yield Protected("credentials on their way to gateways", sealing, internal, None)
    yield Protected("answers and questions in Redis", sealing, internal, None)
    yield Protected("audit log: tree", "SHA-256", "", None)
    audit = _key_of(settings.audit_key_path)
    signed = _CHECKPOINTS.get(settings.crypto.suite, "Ed25519")
    yield Protected("audit log: checkpoints", signed, audit, None)
    for key in settings.moderation.pack_keys:
        algorithm = "SM2" if key.startswith(SM2_MARK) else "Ed25519"
        yield Protected("moderation packs", algorithm, key[:12], None)
    store = settings.key_store.kind
    yield Protected("master key: key store", _WRAPPING.get(store, store), "", None)
    yield Protected("audit log: signing key's file", _WRAPPING["file"], audit, None)
    suites = ", ".join(gm_cipher_suites()) or f"none in {ssl.OPENSSL_VERSION}"
    yield Protected("TLS: suites of RFC 8998", suites, "", None)
    yield Protected("names by content, not for protection", "SHA-256", "", None)


def _sealing(version: bytes) -> str:
    return _SEALING.get(version, "of an earlier version" if version == b"\x01" else "unknown")


def _key_of(path: Path, store: KeyStore = CLEAR) -> str:
    try:
        return secret_files.fingerprints(secret_files.read(path, store))[0]
    except (OSError, SecretFileRefused):
        return ""
