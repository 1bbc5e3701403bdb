"""Second implementation of the verifier of audit bundles: by the definitions of RFC 9162 and C2SP,
recursive and without limits, with signatures checked by other code than the platform's and
`audit_verify.py`. It says whether a bundle is right, and no more."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.infra.security import plain_sm2

_SM2 = b"\xfftokenschain/sm2-sm3\n"
_SIGNER = b"1234567812345678"


def is_right(files: dict[str, bytes], known: str) -> bool:
    """Whether a whole bundle, from the log's beginning on, is proved by a key that is known."""
    try:
        _check(files, known)
    except (AssertionError, LookupError, ValueError, TypeError, zlib.error):
        return False
    return True


def _check(files: dict[str, bytes], known: str) -> None:
    about = json.loads(files["bundle.json"])
    assert about["first"] == 0 and about["until"] == about["size"]
    lines = files["headers/0"].split(b"\n")[:-1]
    log, sequence, handed = about["log"], 0, dict[int, list[str]]()
    for number, line in enumerate(lines):
        header = json.loads(line)
        assert (header["log"], header["number"]) == (log, number)
        assert header["first_sequence"] == sequence and header["suite"] == "international"
        assert header["previous"] == (_leaf(lines[number - 1]).hex() if number else "")
        rows = files.get(f"records/{number}")
        found = zlib.decompress(rows).split(b"\n") if rows is not None else []
        assert header["count"] == len(found)
        assert header["root"] == _root([_leaf(one.split(b"\t")[0]) for one in found]).hex()
        sequence += len(found)
        for one in found:
            record = json.loads(one.split(b"\t")[0])
            if record.get("action") == "audit:hand-over":
                handed[number + 1] = json.loads(record["detail"])["new"]
    leaves = [_leaf(line) for line in lines]
    periods = _periods(files, leaves, handed)
    assert any(set(known.split()) <= set(keys) for _, keys in periods)
    assert files["key"].decode().split() == periods[-1][1]
    _stated(files["checkpoint"].decode(), log, leaves, len(leaves), _at(periods, len(leaves)))
    for number, line in enumerate(lines):
        signed_by = {key.split("+")[1] for key in _at(periods, number + 1)}
        assert json.loads(line)["key_id"] in signed_by


def _periods(
    files: dict[str, bytes], leaves: list[bytes], handed: dict[int, list[str]]
) -> list[tuple[int, list[str]]]:
    """Above which size each key, or pair of keys, is in force."""
    log = json.loads(files["bundle.json"])["log"]
    notes = [files[name].decode() for name in files if name.startswith("hand-overs/")]
    periods: list[tuple[int, list[str]]] = []
    for note in notes:
        body = note.split("\n\n")[0].split("\n")
        size = int(body[1])
        assert body[3] == "key-hand-over/v1"
        old = [one[4:] for one in body[4:] if one.startswith("old ")]
        new = [one[4:] for one in body[4:] if one.startswith("new ")]
        periods = periods or [(0, old)]
        assert periods[-1][1] == old and size > periods[-1][0] and handed.pop(size) == new
        _stated(note, log, leaves, size, old + new)
        periods.append((size, new))
    assert not handed
    return periods or [(0, files["key"].decode().split())]


def _at(periods: list[tuple[int, list[str]]], size: int) -> list[str]:
    return [keys for above, keys in periods if above < size][-1]


def _stated(note: str, log: str, leaves: list[bytes], size: int, keys: list[str]) -> None:
    body, signatures = note.rsplit("\n\n", 1)
    origin, said, root = body.split("\n")[:3]
    assert (origin, said) == (log, str(size))
    assert base64.b64decode(root) == _root(leaves[:size])
    found = [line.split(" ") for line in signatures.split("\n") if line]
    for key in keys:
        name, key_id, encoded = key.split("+", 2)
        raw = base64.b64decode(encoded)
        assert hashlib.sha256(f"{name}\n".encode() + raw).hexdigest()[:8] == key_id
        mine = [base64.b64decode(one[2]) for one in found if one[1] == name]
        mine = [data[4:] for data in mine if data[:4].hex() == key_id]
        assert mine and all(_is_signed(raw, f"{body}\n".encode(), one) for one in mine)


def _is_signed(raw: bytes, message: bytes, signature: bytes) -> bool:
    if raw.startswith(_SM2):
        return plain_sm2.is_signed(raw.removeprefix(_SM2), message, signature, _SIGNER)
    try:
        Ed25519PublicKey.from_public_bytes(raw[1:]).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _root(leaves: list[bytes]) -> bytes:
    """RFC 9162, 2.1.1, as it stands there."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    left = 1
    while 2 * left < len(leaves):
        left *= 2
    return hashlib.sha256(b"\x01" + _root(leaves[:left]) + _root(leaves[left:])).digest()
