"""Key stores of three clouds: the key comes back, and what goes wrong is said without it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from urllib.parse import unquote

import pytest

from tests.vendors.key_management_clouds import (
    GARBAGE,
    KEY,
    KeyManagementClouds,
    key_management_clouds,
)
from tests.vendors.moderation_clouds import ACCESS, PROJECT, SECRET
from tokenschain.infra.security.secret_files import SecretFileRefused
from tokenschain.infra.security.suite import GM
from tokenschain.providers.key_management import KMS_VENDORS, KmsStore
from tokenschain.providers.signing import KeyPair
from tokenschain.wire.client import HttpClient

WORD = "m" * 43
each = pytest.mark.parametrize("kind", sorted(KMS_VENDORS))


@pytest.fixture(scope="module")
def served() -> Iterator[KeyManagementClouds]:
    with key_management_clouds() as made:
        yield made


@pytest.fixture
def clouds(served: KeyManagementClouds) -> KeyManagementClouds:
    served.cloud.requests.clear()
    served.cloud.fault = ""
    return served


def store(
    clouds: KeyManagementClouds, kind: str, key: str = KEY, secret: str = SECRET, url: str = ""
) -> KmsStore:
    vendor = KMS_VENDORS[kind]("cn-test-1", PROJECT, url or clouds.url)
    return KmsStore(vendor, key, KeyPair(ACCESS, secret), HttpClient)


@each
def test_the_key_is_wrapped_and_comes_back(clouds: KeyManagementClouds, kind: str) -> None:
    made = store(clouds, kind)
    line = made.wrap(WORD)
    assert line.startswith(f"wrapped:{kind}:") and WORD not in line and "\n" not in line
    assert made.unwrap(line) == WORD
    first, second = [one.lower()[:7] for one in clouds.asked]
    assert first == ("generat" if kind == "alibaba-kms" else "encrypt") and second == "decrypt"


def test_what_stands_in_a_url_opens_nothing(clouds: KeyManagementClouds) -> None:
    made = store(clouds, "alibaba-kms")
    line = made.wrap(WORD)
    assert made.unwrap(line) == WORD
    asked, decrypted = [unquote(path) for path, _, _ in clouds.cloud.requests]
    assert line.split(":")[3] in decrypted
    for path in (asked, decrypted):
        assert WORD not in path and base64.b64encode(WORD.encode()).decode() not in path
        assert line.split(":")[4] not in path, "what was sealed here stays here"


def test_a_line_of_the_other_suite_is_read(clouds: KeyManagementClouds) -> None:
    vendor, pair = (
        KMS_VENDORS["alibaba-kms"]("cn-test-1", PROJECT, clouds.url),
        KeyPair(ACCESS, SECRET),
    )
    line = KmsStore(vendor, KEY, pair, HttpClient, GM).wrap(WORD)
    assert line.startswith("wrapped:alibaba-kms:gm:")
    assert KmsStore(vendor, KEY, pair, HttpClient).unwrap(line) == WORD
    for changed in (line.replace(":gm:", ":international:"), line.replace(":gm:", ":none:")):
        with pytest.raises(SecretFileRefused, match="no key of ours"):
            KmsStore(vendor, KEY, pair, HttpClient).unwrap(changed)


@each
def test_it_is_asked_from_inside_a_loop_as_well(clouds: KeyManagementClouds, kind: str) -> None:
    made = store(clouds, kind)

    async def inside() -> str:
        return made.unwrap(made.wrap(WORD))

    assert asyncio.run(inside()) == WORD


@each
def test_what_goes_wrong_is_said_without_secrets(clouds: KeyManagementClouds, kind: str) -> None:
    made = store(clouds, kind)
    line = made.wrap(WORD)
    wrong = {
        "another secret": lambda: store(clouds, kind, secret="other").unwrap(line),
        "another key": lambda: store(clouds, kind, key="none").wrap(WORD),
        "changed": lambda: made.unwrap(line[:-8] + "AAAAAAA="),
        "of another store": lambda: made.unwrap("wrapped:sdf:1:AAAA"),
        "in clear": lambda: made.unwrap(WORD),
        "nobody there": lambda: store(clouds, kind, url="http://127.0.0.1:9").unwrap(line),
    }
    for name, act in wrong.items():
        with pytest.raises(SecretFileRefused) as refused:
            act()
        assert str(refused.value) and WORD not in str(refused.value), name
        assert SECRET not in str(refused.value), name
    for clouds.cloud.fault in GARBAGE:
        with pytest.raises(SecretFileRefused, match="no answer of a key management"):
            made.unwrap(line)
