"""Time stamps by RFC 3161: the request is OpenSSL's own, and no answer breaks what reads it."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.vendors.anchor_places import Authority
from tokenschain.core.audit import timestamp
from tokenschain.core.audit.timestamp import NoTimestamp

DIGEST = bytes(range(32))
NONCE = 0xF123456789ABCDEF
"""Its first bit is set: as an integer it has a byte more."""


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return Authority(tmp_path_factory.mktemp("tsa")).answer(timestamp.request(DIGEST, NONCE))


def test_openssl_reads_the_request(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(timestamp.request(DIGEST, NONCE))
    shown = subprocess.run(
        ["openssl", "ts", "-query", "-in", "q", "-text"], cwd=tmp_path, capture_output=True,
        text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert "Hash Algorithm: sha256" in shown and "Nonce: 0xF123456789ABCDEF" in shown
    assert "Certificate required: yes" in shown and "00 01 02 03" in shown


def test_an_answer_says_when_and_is_of_this_request_alone(answer: bytes) -> None:
    found = timestamp.stated(answer, DIGEST, NONCE)
    assert found.at_s > 1_700_000_000 and found.serial > 0
    with pytest.raises(NoTimestamp, match="another digest"):
        timestamp.stated(answer, DIGEST[::-1], NONCE)
    with pytest.raises(NoTimestamp, match="another request"):
        timestamp.stated(answer, DIGEST, NONCE - 1)


def test_no_answer_breaks_the_reader(answer: bytes) -> None:
    chance = random.Random(21)
    for _ in range(4_000):
        data = bytearray(answer[: chance.choice((len(answer), chance.randrange(len(answer))))])
        for _ in range(chance.randrange(4)):
            if data:
                data[chance.randrange(min(len(data), 200))] = chance.randrange(256)
        try:
            timestamp.stated(bytes(data), DIGEST, NONCE)
        except NoTimestamp:
            continue
