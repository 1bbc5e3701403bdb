"""Merkle trees: roots, inclusion and consistency proofs, and their verification (RFC 9162, 2.1).

A tree is read through its complete subtrees, `(level, index) -> digest`: those of level 0 are the
leaves, and each further one covers two of the level below. A log of any length is so read from rows
of a table; see `completed_by` for what to store. No digest function is named here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Digest = Callable[[bytes], bytes]
Subtrees = Callable[[int, int], bytes]
"""The digest of a complete subtree: (level, index)."""
PROOF_DIGESTS_MAX = 63
"""Of a tree of 2**63 leaves; a longer proof is refused before anything is computed."""
_LEAF, _NODE = b"\x00", b"\x01"


def leaf_digest(digest: Digest, leaf: bytes) -> bytes:
    """Of a leaf; what is hashed differs from any inner node in its first byte."""
    return digest(_LEAF + leaf)


def node_digest(digest: Digest, left: bytes, right: bytes) -> bytes:
    """Of the node above two others."""
    return digest(_NODE + left + right)


# --- making ----------------------------------------------------------------------------------


def levels_of(digest: Digest, leaves: Sequence[bytes]) -> list[list[bytes]]:
    """All complete subtrees over digests of leaves, level by level."""
    levels = [list(leaves)]
    while len(levels[-1]) > 1:
        below = levels[-1]
        pairs = zip(below[::2], below[1::2], strict=False)
        levels.append([digest(_NODE + left + right) for left, right in pairs])
    return levels


def subtrees_of(digest: Digest, leaves: Sequence[bytes]) -> Subtrees:
    """A tree that is held in memory."""
    levels = levels_of(digest, leaves)
    return lambda level, index: levels[level][index]


def completed_by(
    digest: Digest, index: int, leaf: bytes, read: Subtrees
) -> list[tuple[int, int, bytes]]:
    """The subtrees that a new leaf completes, itself among them: (level, index, digest) each.

    Args:
        index: of the leaf, which is how many there were.
        leaf: its digest.
        read: the tree as it was.
    """
    found, level = [(0, index, leaf)], 0
    while index & 1:
        leaf = node_digest(digest, read(level, index - 1), leaf)
        level, index = level + 1, index >> 1
        found.append((level, index, leaf))
    return found


def root(digest: Digest, size: int, read: Subtrees) -> bytes:
    """The root over the first `size` leaves."""
    return _over(digest, 0, size, read) if size else digest(b"")


def inclusion_proof(digest: Digest, index: int, size: int, read: Subtrees) -> list[bytes]:
    """What proves that a leaf is in the tree of the first `size` leaves.

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"there is no leaf {index} among {size}")
    proof, first, last = [], 0, size
    while last - first > 1:
        middle = first + _split(last - first)
        if index < middle:
            proof.append(_over(digest, middle, last, read))
            last = middle
        else:
            proof.append(_over(digest, first, middle, read))
            first = middle
    proof.reverse()
    return proof


def consistency_proof(digest: Digest, old: int, new: int, read: Subtrees) -> list[bytes]:
    """What proves that the tree of `new` leaves begins with that of `old`.

    Raises:
        ValueError: `old` is not from 0 to `new`.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} leaves is no beginning of one of {new}")
    if old in (0, new):
        return []
    proof, first, last, whole = [], 0, new, True
    while old != last:
        middle = first + _split(last - first)
        if old <= middle:
            proof.append(_over(digest, middle, last, read))
            last = middle
        else:
            proof.append(_over(digest, first, middle, read))
            first, whole = middle, False
    if not whole:
        proof.append(_over(digest, first, last, read))
    proof.reverse()
    return proof


def _over(digest: Digest, first: int, last: int, read: Subtrees) -> bytes:
    """The digest over leaves `first` to `last` - 1, a range that the tree's own division gives."""
    count = last - first
    half = _split(count) if count > 1 else 0
    if count == 2 * half or count == 1:
        level = count.bit_length() - 1
        return read(level, first >> level)
    left = _over(digest, first, first + half, read)
    return node_digest(digest, left, _over(digest, first + half, last, read))


def _split(count: int) -> int:
    """The largest power of two below a count."""
    return 1 << ((count - 1).bit_length() - 1)


# --- verifying -------------------------------------------------------------------------------


def includes(
    digest: Digest, index: int, size: int, leaf: bytes, proof: Sequence[bytes], found_root: bytes
) -> bool:
    """Whether a proof shows that the leaf of this digest is at `index` below a root."""
    if not 0 <= index < size or len(proof) > PROOF_DIGESTS_MAX:
        return False
    at, last, above = index, size - 1, leaf
    for one in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            above = node_digest(digest, one, above)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            above = node_digest(digest, above, one)
        at, last = at >> 1, last >> 1
    return last == 0 and above == found_root


def is_consistent(
    digest: Digest,
    old: int,
    new: int,
    old_root: bytes,
    new_root: bytes,
    proof: Sequence[bytes],
) -> bool:
    """Whether a proof shows that the tree of `new` leaves begins with that of `old`."""
    if not 0 <= old <= new or len(proof) > PROOF_DIGESTS_MAX:
        return False
    if old == 0:
        return not proof and old_root == digest(b"")
    if old == new:
        return not proof and old_root == new_root
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    below_old = below_new = path[0]
    for one in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            below_old = node_digest(digest, one, below_old)
            below_new = node_digest(digest, one, below_new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            below_new = node_digest(digest, below_new, one)
        at, last = at >> 1, last >> 1
    return last == 0 and below_old == old_root and below_new == new_root
