"""Key stores of three clouds: the key comes back, and what goes wrong is said without it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.vendors.key_management_clouds import (
    GARBAGE,
    KEY,
    KeyManagementClouds,
    key_management_clouds,
)
from tests.vendors.moderation_clouds import ACCESS, PROJECT, SECRET
from tokenschain.infra.security.secret_files import SecretFileRefused
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
    assert [one.lower()[:7] for one in clouds.asked] == ["encrypt", "decrypt"]


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
