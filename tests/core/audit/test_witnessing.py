"""What a witness is asked, what it refuses, and what its signature says."""

from __future__ import annotations

from hashlib import sha256

import pytest

from tokenschain.core.audit import checkpoint, merkle, witnessing
from tokenschain.core.audit.checkpoint import Checkpoint
from tokenschain.core.audit.witnessing import CosigningRequest, NotCosigned
from tokenschain.infra.security.note_keys import NoteSecret, note_key, witness_key
from tokenschain.infra.security.suite import INTERNATIONAL

LOG, OTHER = NoteSecret(INTERNATIONAL, "l" * 43), NoteSecret(INTERNATIONAL, "o" * 43)
KEY = note_key(LOG.public_key("log"))


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


LEAVES = [digest(bytes([n])) for n in range(20)]
TREE = merkle.subtrees_of(digest, LEAVES)


def stated(size: int) -> Checkpoint:
    return Checkpoint("log", size, merkle.root(digest, size, TREE))


def asked(old: int, new: int, secret: NoteSecret = LOG) -> CosigningRequest:
    note = checkpoint.signed(stated(new), secret.signer("log"))
    return CosigningRequest(old, merkle.consistency_proof(digest, old, new, TREE), note)


def refusal(request: CosigningRequest, before: Checkpoint | None) -> NotCosigned:
    with pytest.raises(NotCosigned) as found:
        witnessing.accepted(digest, request, [KEY], before)
    return found.value


def test_each_checkpoint_that_goes_on_is_accepted() -> None:
    for old in range(20):
        for new in range(max(old, 1), 20):
            request = asked(old, new)
            assert witnessing.decode(witnessing.encode(request)) == request
            before = stated(old) if old else None
            assert witnessing.accepted(digest, request, [KEY], before) == stated(new)


def test_each_refusal_has_the_status_that_the_protocol_gives_it() -> None:
    assert refusal(asked(0, 5, OTHER), None).status == 403
    wrong = asked(5, 9)
    assert refusal(wrong._replace(old_size=10), stated(5)).status == 400
    behind = refusal(asked(3, 9), stated(5))
    assert (behind.status, behind.body) == (409, "5\n")
    assert refusal(wrong._replace(proof=wrong.proof[:-1]), stated(5)).status == 422
    other = Checkpoint("log", 5, digest(b"other"))
    assert refusal(asked(5, 5), other).status == 409, "two roots of one size"
    assert refusal(asked(5, 9), other).status == 422


@pytest.mark.parametrize(
    "body",
    [b"", b"old 1", b"old x\n\nlog\n", b"old -1\n\nlog\n", b"old 01\n\nlog\n", b"new 1\n\nlog\n",
     b"old 1\nno base64!\n\nlog\n", b"old 1\n" + b"AAAA\n" * 64 + b"\nlog\n", b"\xff\n\n",
     b"old 99999999999999999999\n\nlog\n"],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(NotCosigned) as found:
        witnessing.decode(body)
    assert found.value.status == 400


def test_a_cosignature_is_of_one_note_one_time_and_one_key() -> None:
    note = asked(0, 5).note
    line = witnessing.cosignature(note, OTHER.cosigner("w"), 1_790_000_000)
    key = witness_key(OTHER.witness_key("w"))
    assert witnessing.cosigned_at(note, [line], key) == 1_790_000_000
    assert witnessing.cosigned_at(asked(0, 6).note, [line], key) is None
    for other in (LOG.witness_key("w"), OTHER.witness_key("v")):
        assert witnessing.cosigned_at(note, [line, "\u2014 w AAAA"], witness_key(other)) is None
    with pytest.raises(ValueError, match="no public key"):
        witness_key(OTHER.public_key("w"))
    assert checkpoint.opened(note + line, [KEY]) == stated(5)
    assert checkpoint.signed_by(note + line, [KEY]) == note
