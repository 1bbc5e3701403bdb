"""Checkpoints: signed notes that are read only as they were signed."""

from __future__ import annotations

import hmac
from functools import partial

import pytest

from tokenschain.core.audit import checkpoint
from tokenschain.core.audit.checkpoint import BadCheckpoint, Checkpoint, NoteKey, NoteSigner

CHECKPOINT = Checkpoint("example.com/log", 7, bytes(range(32)))


def mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def key(name: str) -> NoteKey:
    secret = name.encode()
    return NoteKey(name, secret[:4], lambda message, found: mac(secret, message) == found)


def signer(name: str) -> NoteSigner:
    return NoteSigner(name, name.encode()[:4], partial(mac, name.encode()))


NOTE = checkpoint.signed(CHECKPOINT, signer("first"))


def test_a_checkpoint_is_read_back_when_all_that_are_asked_for_have_signed() -> None:
    assert NOTE.startswith("example.com/log\n7\nAAECAwQF")
    assert checkpoint.opened(NOTE, [key("first")]) == CHECKPOINT
    second = checkpoint.signed(CHECKPOINT, signer("second")).rpartition("\n\n")[2]
    both = [key("first"), key("second")]
    assert checkpoint.opened(NOTE + second, both) == CHECKPOINT
    assert checkpoint.opened(NOTE + second, [key("first")]) == CHECKPOINT
    with pytest.raises(BadCheckpoint, match="not signed by second"):
        checkpoint.opened(NOTE, both)


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace("\n7\n", "\n8\n"),
        NOTE.replace("example.com", "example.org"),
        NOTE.replace("AAECAwQF", "AAECAwQG"),
        NOTE[:-1],
        NOTE[:-3] + "A=\n",
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("\u2014 ", "- "),
        "\n" + NOTE,
        NOTE + NOTE,
        NOTE + "\u2014 x AAAA\n" * 20,
        NOTE + "\u2014 first " + NOTE.split()[-1][:-8] + "AAAAAAA=\n",
        "x" * (checkpoint.BYTES_MAX + 1),
        "",
    ],
)
def test_what_was_not_signed_so_is_refused(note: str) -> None:
    with pytest.raises(BadCheckpoint):
        checkpoint.opened(note, [key("first")])


@pytest.mark.parametrize("size", ["07", "-1", "+7", "\u0667", str(2**63), "9" * 400, ""])
def test_a_size_has_one_way_to_be_written(size: str) -> None:
    body = f"example.com/log\n{size}\nAAAA\n"
    signature = checkpoint.signed(CHECKPOINT, signer("first")).rpartition("\n\n")[2]
    with pytest.raises(BadCheckpoint):
        checkpoint.opened(f"{body}\n{signature}", [])
