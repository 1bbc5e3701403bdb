"""A passphrase keeps a secret file's secrets, and what goes wrong is said without them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.infra.security.openssl import openssl
from tests.waiting import until
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.passphrase_store import PassphraseStore
from tokenschain.infra.security.secret_files import CLEAR, SecretFile, SecretFileRefused
from tokenschain.infra.security.suite import GM, INTERNATIONAL, SUITES, Suite

WORD, PASSPHRASE = "m" * 43, "correct horse battery"
COST = 16


def store(suite: Suite = INTERNATIONAL, passphrase: str = PASSPHRASE) -> PassphraseStore:
    return PassphraseStore(suite, passphrase, COST)


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_a_secret_comes_back_by_either_suite_and_by_no_other_passphrase(suite: Suite) -> None:
    line = store(suite).wrap(WORD)
    assert line.startswith(f"wrapped:passphrase:{suite.name}:16:") and WORD not in line
    assert line != store(suite).wrap(WORD)
    for reader in SUITES:
        assert store(reader).unwrap(line) == WORD
    with pytest.raises(SecretFileRefused, match="another passphrase"):
        store(suite, PASSPHRASE + "x").unwrap(line)
    for changed in (line.replace(":16:", ":32:"), line[:-4] + "AAA=", line[:-30]):
        with pytest.raises(SecretFileRefused):
            store(suite).unwrap(changed)


def test_what_costs_too_much_to_read_is_refused_at_once() -> None:
    for name in ("international", "gm", "other"):
        with pytest.raises(SecretFileRefused, match="did not write"):
            store().unwrap(f"wrapped:passphrase:{name}:{10**12}:AAAA")


@given(st.text(max_size=80))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    for line in (text, f"wrapped:{text}", f"wrapped:passphrase:{text}"):
        with pytest.raises(SecretFileRefused):
            store().unwrap(line)


def test_the_derived_keys_are_those_of_the_openssl_command() -> None:
    salt = bytes(range(16))
    by = ("kdf", "-keylen", "32", "-kdfopt", f"pass:{PASSPHRASE}", "-kdfopt",
          f"hexsalt:{salt.hex()}")  # fmt: skip
    scrypt = ("-kdfopt", "n:16", "-kdfopt", "r:8", "-kdfopt", "p:1", "SCRYPT")
    pbkdf2 = ("-kdfopt", "iter:16", "-kdfopt", "digest:SM3", "-kdfopt", "pkcs5:1", "PBKDF2")
    for suite, how in ((INTERNATIONAL, scrypt), (GM, pbkdf2)):
        said = openssl(*by, *how).decode().strip().replace(":", "").lower()
        assert store(suite)._key(suite, COST, salt).hex() == said


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(SecretFileRefused, match="at least 16"):
        store(passphrase="short")


def test_a_file_is_made_wrapped_and_asked_about_once(tmp_path: Path) -> None:
    path, asked = tmp_path / "master", []

    class Counting(PassphraseStore):
        def unwrap(self, line: str) -> str:
            asked.append(line)
            return super().unwrap(line)

    now = [0.0]
    counting = Counting(INTERNATIONAL, PASSPHRASE, COST)
    file = SecretFile(path, clock=lambda: now[0], store=counting)
    (secret,) = file()
    assert len(secret) == 43 and secret not in path.read_text() and len(asked) == 1
    second = secret_files.new_secret()
    secret_files.write(path, (counting.wrap(second), path.read_text().strip()))
    now[0] += 2
    until(lambda: file() == (second, secret))
    assert len(asked) == 2, "only the new line is unwrapped"
    assert secret_files.read(path, store()) == (second, secret)
    with pytest.raises(SecretFileRefused, match="key store `passphrase` wrapped it"):
        secret_files.read(path, CLEAR)
    secret_files.write(path, (secret,))
    with pytest.raises(SecretFileRefused, match="crypto wrap"):
        secret_files.read(path, store())
