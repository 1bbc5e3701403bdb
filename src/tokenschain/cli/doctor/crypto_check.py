"""Check of cryptography: self test of the suite, the key store, what TLS here can do."""

from __future__ import annotations

import ssl

from tokenschain.cli.doctor.findings import Findings
from tokenschain.cli.doctor.machine_checks import ThisMachine
from tokenschain.infra.security import self_test
from tokenschain.infra.security.certificates import gm_cipher_suites
from tokenschain.infra.security.secret_files import SecretFileRefused, read
from tokenschain.infra.security.self_test import SelfTestFailed
from tokenschain.wiring import key_stores


def check_cryptography(machine: ThisMachine, found: Findings) -> None:
    """The suite gives the right answers, and the key store the master key."""
    settings = machine.settings
    try:
        self_test.suite_in_force(settings.crypto.suite)
    except SelfTestFailed as error:
        found.fail(str(error), "install OpenSSL 3 (Debian: libssl3)")
    kind = settings.key_store.kind
    if kind != "file":
        try:
            held = read(settings.master_key_path, key_stores.store_of(settings))
            if len(held) > 1:
                path = settings.master_key_path
                found.warn(f"{path} holds a former secret", "tokenschain secrets rotate")
        except FileNotFoundError:
            pass  # it is made at the first start
        except SecretFileRefused as error:
            found.fail(str(error), "see key_store in the guide to cryptography")
    if not found:
        offered = ", ".join(gm_cipher_suites()) or "none"
        found.ok(
            f"suite {settings.crypto.suite}, key store {kind}; cipher suites of RFC 8998 in "
            f"{ssl.OPENSSL_VERSION}: {offered}"
        )
