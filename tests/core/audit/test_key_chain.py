"""A hand-over is a checkpoint to whoever knows nothing of it, and names both keys to who does."""

from __future__ import annotations

import pytest

from tokenschain.core.audit import checkpoint, key_chain
from tokenschain.core.audit.checkpoint import BadCheckpoint, Checkpoint, NoteSigner
from tokenschain.core.audit.key_chain import HandOver

STATED = Checkpoint("log.example", 7, b"\x01" * 32)
OLD, NEW = "log.example+01020304+AAAA", "log.example+05060708+BBBB"
SIGNER = NoteSigner("log.example", b"\1\2\3\4", lambda message: b"s" * 64)


def test_a_hand_over_is_read_as_it_was_signed() -> None:
    made = HandOver(STATED, (OLD,), (NEW, OLD))
    note = key_chain.signed(made, SIGNER)
    assert key_chain.parsed(note) == made and checkpoint.opened(note, []) == STATED
    assert key_chain.new_keys(note) == (NEW, OLD)
    assert key_chain.key_ids(made.new) == {b"\1\2\3\4", b"\5\6\7\x08"}
    plain = checkpoint.signed(STATED, SIGNER)
    assert key_chain.parsed(plain) is None and key_chain.new_keys(plain) == ()


@pytest.mark.parametrize(
    "lines",
    [
        ["old " + OLD], ["new " + NEW], ["old a", "new b", "else c"], ["old a", "new b c"],
        ["old a", "new "], ["old a", *["new b"] * 3],
    ],
)  # fmt: skip
def test_one_that_does_not_name_both_or_says_more_is_refused(lines: list[str]) -> None:
    body = checkpoint.body_of(STATED) + "".join(f"{one}\n" for one in (key_chain.MARK, *lines))
    with pytest.raises(BadCheckpoint):
        key_chain.parsed(checkpoint.signed_text(body, SIGNER))
