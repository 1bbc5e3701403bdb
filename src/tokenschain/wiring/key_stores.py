"""Key store of the settings, and what is opened by it: the master key file, the vault."""

from __future__ import annotations

from pathlib import Path

from tokenschain.core.log_events import Reporter, silent
from tokenschain.infra import log
from tokenschain.infra.config import Settings
from tokenschain.infra.config.key_store import KeyStoreSettings
from tokenschain.infra.egress_rules import Egress
from tokenschain.infra.security import secret_files, secrets
from tokenschain.infra.security.passphrase_store import PassphraseStore
from tokenschain.infra.security.sdf_store import SdfStore
from tokenschain.infra.security.secret_files import (
    CLEAR,
    KeyStore,
    SecretFile,
    SecretFileRefused,
)
from tokenschain.infra.security.secrets import SecretMissing, Vault
from tokenschain.infra.security.suite import Suite, suite_named
from tokenschain.providers.auth import key_pair
from tokenschain.providers.key_management import KMS_VENDORS, KmsStore


def store_of(settings: Settings) -> KeyStore:
    """The store that `key_store.kind` names.

    Raises:
        SecretFileRefused: a setting that it needs is missing, or it cannot be reached.
    """
    given = settings.key_store
    try:
        if given.kind == "passphrase":
            suite = suite_named(settings.crypto.suite)
            return PassphraseStore(suite, _secret(given.passphrase, "passphrase"))
        if given.kind == "sdf":
            return SdfStore(_library(given.library), given.key_index)
        if given.kind != "file":
            return _kms(settings, given)
    except SecretFileRefused as error:
        raise SecretFileRefused(f"key store `{given.kind}`: {error}") from None
    return CLEAR


def master_key(settings: Settings, report: Reporter = silent) -> SecretFile:
    """The master key as the file has it, and the store unwraps it.

    Raises:
        SecretFileRefused: it cannot be had.
    """
    return SecretFile(settings.master_key_path, report, store=store_of(settings))


def vault(settings: Settings, suite: Suite, report: Reporter = silent) -> Vault:
    """The sealed secrets of this machine. A key in clear is read when it is needed first; of
    another store the process has it before it starts, or does not start.

    Raises:
        SecretFileRefused: it cannot be had.
    """
    store = store_of(settings)
    made = Vault(settings.vault_path, settings.master_key_path, suite, store, report)
    if settings.key_store.kind != "file":
        made.open()
    return made


def vault_or_closed(settings: Settings, suite: Suite) -> Vault:
    """As `vault`; where the master key cannot be had, one that opens nothing: for who diagnoses."""
    try:
        return vault(settings, suite)
    except SecretFileRefused:
        return Vault(settings.vault_path, settings.master_key_path, suite)


def wrap(settings: Settings, *, clear: bool) -> int:
    """Put the master key file's secrets under the store of the settings, or take them out of it.

    Args:
        clear: they shall stand in the file as they are, to be put under another store.

    Returns:
        How many there are.

    Raises:
        SecretFileRefused: they are in another store, or this one does not do it.
    """
    path, store = settings.master_key_path, store_of(settings)
    lines = secret_files.read_lines(path)
    marked = secret_files.WRAPPED
    found = [store.unwrap(line) if line.startswith(marked) else line for line in lines]
    wrapped = found if clear else [store.wrap(secret) for secret in found]
    if not clear and [store.unwrap(line) for line in wrapped] != found:
        raise SecretFileRefused(f"key store `{settings.key_store.kind}` does not give back the key")
    secret_files.write(path, wrapped, secret_files.note_of(path))
    return len(wrapped)


def _kms(settings: Settings, given: KeyStoreSettings) -> KmsStore:
    credential = _secret(given.credential, "credential")
    if ":" not in credential:
        raise SecretFileRefused("`key_store.credential` is not of the form id:secret")
    missing = [name for name in ("key", "region") if not getattr(given, name)]
    if given.kind == "huawei-kms" and not given.project:
        missing.append("project")
    if missing:
        raise SecretFileRefused(f"`key_store.{missing[0]}` is not set")
    vendor = KMS_VENDORS[given.kind](given.region, given.project, given.base_url or "")
    report = log.EventLog(log.get(process="key store"))
    client = Egress(settings, report).operators_client
    suite = suite_named(settings.crypto.suite)
    return KmsStore(vendor, given.key, key_pair(credential), client, suite)


def _secret(reference: str | None, name: str) -> str:
    if reference is None:
        raise SecretFileRefused(f"`key_store.{name}` is not set")
    if reference.startswith("sealed:"):
        raise SecretFileRefused(f"`key_store.{name}` cannot be sealed with what it opens")
    try:
        return secrets.resolve(reference)
    except SecretMissing as error:
        raise SecretFileRefused(str(error)) from None


def _library(path: Path | None) -> Path:
    if path is None:
        raise SecretFileRefused("`key_store.library` is not set")
    return path
