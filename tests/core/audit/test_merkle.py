"""Merkle trees against the recursive definition of RFC 9162, for all sizes to 130."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from hashlib import sha256

import pytest

from tokenschain.core.audit import merkle

SIZES = 130
LEAVES = [merkle.leaf_digest(lambda data: sha256(data).digest(), b"%d" % n) for n in range(SIZES)]


def digest(data: bytes) -> bytes:
    return sha256(data).digest()


TREE = merkle.subtrees_of(digest, LEAVES)


@cache
def defined_root(first: int, last: int) -> bytes:
    """Section 2.1.1, word for word."""
    count = last - first
    if count == 0:
        return digest(b"")
    if count == 1:
        return LEAVES[first]
    split = max(1 << power for power in range(8) if 1 << power < count)
    left, right = defined_root(first, first + split), defined_root(first + split, last)
    return digest(b"\x01" + left + right)


def forged(proof: Sequence[bytes], seed: int) -> list[list[bytes]]:
    """Other proofs than the right one."""
    chance, right = random.Random(seed), list(proof)
    made = [[*right, chance.randbytes(32)]]
    if right:
        at = chance.randrange(len(right))
        flipped = bytes((right[at][0] ^ 1, *right[at][1:]))
        made += [right[:-1], right[1:], [*right[:at], flipped, *right[at + 1 :]]]
    return made


def test_the_root_is_the_definitions_for_each_size() -> None:
    for size in range(SIZES + 1):
        assert merkle.root(digest, size, TREE) == defined_root(0, size)


def test_the_root_of_nothing_and_of_known_leaves() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.root(digest, 0, TREE).hex() == empty
    # The leaf that is empty: the digest of one zero byte.
    assert merkle.leaf_digest(digest, b"").hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )


def test_each_leaf_of_each_tree_is_proved_and_no_other() -> None:
    for size in range(1, SIZES + 1):
        root = defined_root(0, size)
        for index in range(size):
            proof = merkle.inclusion_proof(digest, index, size, TREE)
            assert merkle.includes(digest, index, size, LEAVES[index], proof, root)
            assert not merkle.includes(digest, index, size, LEAVES[index - 1], proof, root) or (
                size == 1
            )
        for wrong in forged(proof, size):
            assert not merkle.includes(digest, index, size, LEAVES[index], wrong, root)
        assert not merkle.includes(digest, size, size, LEAVES[index], proof, root)


def test_each_tree_begins_each_later_one_and_forgeries_are_refused() -> None:
    for new in range(SIZES + 1):
        for old in range(new + 1):
            proof = merkle.consistency_proof(digest, old, new, TREE)
            roots = defined_root(0, old), defined_root(0, new)
            assert merkle.is_consistent(digest, old, new, *roots, proof)
            if 0 < old < new:
                assert not merkle.is_consistent(digest, old, new, roots[1], roots[0], proof)
                for wrong in forged(proof, new * SIZES + old):
                    assert not merkle.is_consistent(digest, old, new, *roots, wrong)


def test_a_node_is_no_leaf() -> None:
    # Of two leaves, what is hashed for their node is offered as a leaf of a tree of one.
    root = defined_root(0, 2)
    offered = LEAVES[0] + LEAVES[1]
    assert merkle.leaf_digest(digest, offered) != root
    assert not merkle.includes(digest, 0, 1, merkle.leaf_digest(digest, offered), [], root)


def test_a_proof_longer_than_any_tree_needs_is_refused_unread() -> None:
    def never(_: bytes) -> bytes:
        raise AssertionError("something was hashed")

    long = [b"\0" * 32] * (merkle.PROOF_DIGESTS_MAX + 1)
    assert not merkle.includes(never, 5, 2**63, LEAVES[0], long, LEAVES[0])
    assert not merkle.is_consistent(never, 5, 2**63, LEAVES[0], LEAVES[0], long)


def test_a_log_grows_by_the_subtrees_that_each_leaf_completes() -> None:
    rows: dict[tuple[int, int], bytes] = {}

    def read(level: int, index: int) -> bytes:
        return rows[level, index]

    for size, leaf in enumerate(LEAVES):
        completed = merkle.completed_by(digest, size, leaf, read)
        rows |= {(level, index): found for level, index, found in completed}
        assert merkle.root(digest, size + 1, read) == defined_root(0, size + 1)
    assert len(rows) < 2 * SIZES


@pytest.mark.parametrize("index", [-1, 3])
def test_there_is_no_proof_of_what_is_not_there(index: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_proof(digest, index, 3, TREE)
    with pytest.raises(ValueError, match="no beginning"):
        merkle.consistency_proof(digest, 4, 3, TREE)
