"""Keys of signed notes, as C2SP names them."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest

from tests.infra.security import plain_sm2
from tokenschain.infra.security.note_keys import NoteSecret, note_key, witness_key
from tokenschain.infra.security.suite import INTERNATIONAL, Suite

SECRET = NoteSecret(INTERNATIONAL, "s" * 43)


def test_a_key_checks_what_its_secret_signed_and_nothing_else(suite: Suite) -> None:
    ours, others = (NoteSecret(suite, one * 43, suite.name) for one in "st")
    signer, key = ours.signer("example.com/log"), note_key(ours.public_key("example.com/log"))
    assert (signer.name, signer.key_id) == (key.name, key.key_id)
    assert key.verify(b"said", signer.sign(b"said"))
    assert not key.verify(b"sait", signer.sign(b"said"))
    assert not key.verify(b"said", b"short")
    assert not key.verify(b"said", others.signer("example.com/log").sign(b"said"))


def test_the_id_of_a_key_is_of_its_name_its_kind_and_itself() -> None:
    name, key_id, encoded = SECRET.public_key("example.com/log").split("+", 2)
    raw = base64.b64decode(encoded)
    assert raw[0] == 1 and len(raw) == 33
    assert sha256(name.encode() + b"\n" + raw).hexdigest()[:8] == key_id
    assert SECRET.signer("example.org/log").key_id.hex() != key_id


def test_sm2_signs_under_a_type_of_its_own_and_dual_with_both() -> None:
    gm, dual = (NoteSecret(INTERNATIONAL, "s" * 43, suite) for suite in ("gm", "dual"))
    (signer,), line = gm.signers("example.com/log"), gm.public_key("example.com/log")
    raw = base64.b64decode(line.split("+", 2)[2])
    kind, point = raw[:-65], raw[-65:]
    assert kind == b"\xfftokenschain/sm2-sm3\n" and point[0] == 4
    assert sha256(b"example.com/log\n" + raw).digest()[:4] == signer.key_id
    assert plain_sm2.is_signed(point, b"said", signer.sign(b"said"), b"1234567812345678")
    key = note_key(line)
    assert key.verify(b"said", signer.sign(b"said"))
    assert not key.verify(b"sait", signer.sign(b"said"))
    assert not key.verify(b"said", SECRET.signer("example.com/log").sign(b"said"))
    assert dual.public_key("x") == f"{SECRET.public_key('x')} {gm.public_key('x')}"
    assert [one.key_id for one in dual.signers("x")] == [
        SECRET.signer("x").key_id, gm.signer("x").key_id,
    ]  # fmt: skip


def test_a_witness_cosigns_with_sm2_under_another_type_than_logs() -> None:
    gm = NoteSecret(INTERNATIONAL, "s" * 43, "gm")
    line = gm.witness_key("w")
    assert witness_key(line).verify(b"said", gm.cosigner("w").sign(b"said"))
    with pytest.raises(ValueError, match="no public key"):
        note_key(line)
    with pytest.raises(ValueError, match="no public key"):
        witness_key(gm.public_key("w"))


@pytest.mark.parametrize("line", ["", "a", "a+b", "a+00000000+AAAA", "a+zz+" + "A" * 44])
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no public key"):
        note_key(line)
    right = SECRET.public_key("example.com/log")
    with pytest.raises(ValueError, match="no public key"):
        note_key(right.replace("example.com", "example.org"))
