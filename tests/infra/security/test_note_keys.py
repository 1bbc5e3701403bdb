"""Keys of signed notes, as C2SP names them."""

from __future__ import annotations

import base64
from hashlib import sha256

import pytest

from tokenschain.infra.security.note_keys import NoteSecret, note_key
from tokenschain.infra.security.suite import INTERNATIONAL

SECRET = NoteSecret(INTERNATIONAL, "s" * 43)


def test_a_key_checks_what_its_secret_signed_and_nothing_else() -> None:
    signer, key = SECRET.signer("example.com/log"), note_key(SECRET.public_key("example.com/log"))
    assert (signer.name, signer.key_id) == (key.name, key.key_id)
    assert key.verify(b"said", signer.sign(b"said"))
    assert not key.verify(b"sait", signer.sign(b"said"))
    assert not key.verify(b"said", b"short")
    other = NoteSecret(INTERNATIONAL, "t" * 43).signer("example.com/log")
    assert not key.verify(b"said", other.sign(b"said"))


def test_the_id_of_a_key_is_of_its_name_its_kind_and_itself() -> None:
    name, key_id, encoded = SECRET.public_key("example.com/log").split("+", 2)
    raw = base64.b64decode(encoded)
    assert raw[0] == 1 and len(raw) == 33
    assert sha256(name.encode() + b"\n" + raw).hexdigest()[:8] == key_id
    assert SECRET.signer("example.org/log").key_id.hex() != key_id


@pytest.mark.parametrize("line", ["", "a", "a+b", "a+00000000+AAAA", "a+zz+" + "A" * 44])
def test_what_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="no public key"):
        note_key(line)
    right = SECRET.public_key("example.com/log")
    with pytest.raises(ValueError, match="no public key"):
        note_key(right.replace("example.com", "example.org"))
