"""Offline verifier of audit bundles and proofs: `python audit_verify.py FILE [--key KEY]`.

Needs this file and Python 3.11 alone: no network, no database, no package. It prints a report as
JSON and ends with 0 where all is proved, 1 where something is not, 2 where it cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

SUITE = "international"
HEADER_BYTES_MAX = 65_536
FILE_BYTES_MAX = 268_435_456
PROOF_BYTES_MAX = 1_048_576
RECORDS_MAX = 65_536
RECORD_BYTES_MAX = 65_536
PROOF_MAX = 63
PAUSE_MS = 90_000
"""A log seals each minute, also where nothing happened."""
PROBLEMS_MAX = 100
_INTEGER_MAX = 2**63 - 1
_HEADER_FIELDS = {
    "v": int, "log": str, "number": int, "first_sequence": int, "count": int, "from_ms": int,
    "until_ms": int, "gateways": dict, "root": str, "previous": str, "suite": str, "key_id": str,
}  # fmt: skip


class NotProved(Exception):
    """What is not proved, and why; `segment` where it is one segment's."""

    def __init__(self, why: str, segment: int | None = None) -> None:
        super().__init__(why)
        self.segment = segment


# --- Ed25519 (RFC 8032, 5.1), verification alone ---------------------------------------------

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]


def _recover_x(y: int, sign: int) -> int:
    if y >= _P:
        raise NotProved("a point of the signature is none")
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    if (x * x - square) % _P or (x == 0 and sign):
        raise NotProved("a point of the signature is none")
    return _P - x if x & 1 != sign else x


def _point(data: bytes) -> _Point:
    number = int.from_bytes(data, "little")
    y = number & (1 << 255) - 1
    x = _recover_x(y, number >> 255)
    return x, y, 1, x * y % _P


def _sum(p: _Point, q: _Point) -> _Point:
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % _P, (p[1] + p[0]) * (q[1] + q[0]) % _P
    c, d = 2 * p[3] * q[3] * _D % _P, 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _times(count: int, point: _Point) -> _Point:
    found: _Point = (0, 1, 1, 0)
    while count:
        if count & 1:
            found = _sum(found, point)
        point, count = _sum(point, point), count >> 1
    return found


_BASE_Y = 4 * pow(5, _P - 2, _P) % _P
_BASE_X = _recover_x(_BASE_Y, 0)
_BASE: _Point = (_BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P)


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature is right."""
    if len(public) != 32 or len(signature) != 64:
        return False
    scalar = int.from_bytes(signature[32:], "little")
    if scalar >= _L:
        return False
    try:
        key, commitment = _point(public), _point(signature[:32])
    except NotProved:
        return False
    data = hashlib.sha512(signature[:32] + public + message).digest()
    challenge = int.from_bytes(data, "little") % _L
    left, right = _times(scalar, _BASE), _sum(commitment, _times(challenge, key))
    return not (
        (left[0] * right[2] - right[0] * left[2]) % _P
        or (left[1] * right[2] - right[1] * left[2]) % _P
    )


_SM2_TYPE = b"\xfftokenschain/sm2-sm3\n"
_SM2_COSIGNATURE = b"\xfftokenschain/sm2-sm3/cosignature\n"
_SM2_KEY = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")


def is_signed_sm2(point: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an SM2 signature with SM3 (GB/T 32918.2) is right, by the openssl command."""
    key = base64.encodebytes(_SM2_KEY + point)
    pem = b"-----BEGIN PUBLIC KEY-----\n" + key + b"-----END PUBLIC KEY-----\n"
    command = ["openssl", "dgst", "-sm3", "-sigopt", "distid:1234567812345678"]
    with tempfile.NamedTemporaryFile() as key_file, tempfile.NamedTemporaryFile() as signed:
        for file, data in ((key_file, pem), (signed, signature)):
            file.write(data)
            file.flush()
        command += ["-verify", key_file.name, "-signature", signed.name]
        try:
            done = subprocess.run(command, input=message, capture_output=True)  # noqa: S603, PLW1510  # nosec
        except OSError:
            raise NotProved("an SM2 signature, which needs the openssl command, 3.0+") from None
    return done.returncode == 0


# --- trees (RFC 9162, 2.1) -------------------------------------------------------------------


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that grows leaf by leaf; it holds its complete subtrees alone."""

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []
        self.size = 0

    def add(self, leaf: bytes) -> None:
        """Add the digest of a leaf."""
        level = 0
        while self._peaks and self._peaks[-1][0] == level:
            leaf = _node(self._peaks.pop()[1], leaf)
            level += 1
        self._peaks.append((level, leaf))
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves so far."""
        if not self._peaks:
            return hashlib.sha256(b"").digest()
        found = self._peaks[-1][1]
        for _, peak in reversed(self._peaks[:-1]):
            found = _node(peak, found)
        return found


def _root_from(index: int, size: int, leaf: bytes, proof: list[bytes]) -> bytes | None:
    """The root that a proof of inclusion leads to; None where it is none for this size."""
    at, last = index, size - 1
    for one in proof:
        if last == 0:
            return None
        if at & 1 or at == last:
            leaf = _node(one, leaf)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            leaf = _node(leaf, one)
        at, last = at >> 1, last >> 1
    return leaf if last == 0 else None


# --- canonical JSON --------------------------------------------------------------------------


def _no_float(text: str) -> Any:
    raise NotProved(f"the number {text[:30]}, which is no integer")


def _integer(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > _INTEGER_MAX:
        raise NotProved("an integer beyond 64 bits")
    return int(text)


_JSON = json.JSONDecoder(parse_float=_no_float, parse_constant=_no_float, parse_int=_integer)


def read_canonical(data: bytes) -> dict[str, Any]:
    """An object, where the bytes are the only ones that mean it."""
    try:
        text = data.decode()
        value = _JSON.decode(text)
    except (ValueError, RecursionError):
        raise NotProved("what is no JSON") from None
    again = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if not isinstance(value, dict) or again != text:
        raise NotProved("JSON that is not canonical")
    if not unicodedata.is_normalized("NFC", text):
        raise NotProved("text that is not in NFC")
    return value


# --- headers and records ---------------------------------------------------------------------


def read_header(line: bytes) -> dict[str, Any]:
    """The header of a segment."""
    if len(line) > HEADER_BYTES_MAX:
        raise NotProved("a header that is too long")
    header = read_canonical(line)
    kinds = {name: type(value) for name, value in header.items()}
    if kinds != _HEADER_FIELDS or header["v"] != 1:
        raise NotProved("no header of version 1")
    if header["suite"] != SUITE:
        raise NotProved(f"another suite than {SUITE}")
    if not 0 <= header["count"] <= RECORDS_MAX:
        raise NotProved("more records than a segment may have")
    return header


def read_record(record: bytes, part: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record and the platform's part of it, which the record has the digest of; empty where
    neither has one."""
    if max(len(record), len(part)) > RECORD_BYTES_MAX:
        raise NotProved("too long")
    found = read_canonical(record)
    if not part:
        return found, {}
    if found.get("platform") != hashlib.sha256(b"\x02" + part).hexdigest():
        raise NotProved("one with another platform's part than was sealed")
    return found, read_canonical(part)


def gateway_label(name: str) -> str:
    """What stands for a gateway in headers."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


# --- the bundle ------------------------------------------------------------------------------


class BundleVerifier:
    """Reads a bundle once, from its beginning to its end."""

    def __init__(
        self, key: str | None = None, former: str | None = None, witnesses: Sequence[str] = ()
    ) -> None:
        """
        Args:
            key: the log's public key, known from elsewhere; else that of the bundle is taken.
            former: a checkpoint of the log that was kept before.
            witnesses: public keys; each must have cosigned a checkpoint of the bundle.
        """
        self._witnesses = witnesses
        self.cosigned: list[dict[str, Any]] = []
        self._key = key
        self._former = former
        self.problems: list[dict[str, Any]] = []
        self.records = 0
        self.segments = 0
        self.pauses: list[dict[str, int]] = []
        self._tree = Tree()
        self._expected: dict[int, dict[str, Any]] = {}
        self._before: tuple[dict[str, Any], bytes] | None = None
        self._kept: list[tuple[str, int, bytes]] = []
        self._kept_roots: dict[int, bytes] = {}

    def verify(self, path: str) -> dict[str, Any]:
        """The report of a bundle.

        Raises:
            OSError, tarfile.TarError, NotProved: it cannot be read as one.
        """
        with tarfile.open(path, mode="r|") as tar:
            files = self._files(tar)
            about = self._about(next(files))
            key_text = _next(files, "key").decode().strip()
            note = _next(files, "checkpoint").decode()
            proof_text = _next(files, "proof").decode()
            key = self._key or key_text
            stated = self._signed_by(note, key, kept=False)
            if self._former is not None:
                self._signed_by(self._former, key, kept=True)
            for name, data in files:
                kind, _, number = name.partition("/")
                if name == "cosigned" and not self.segments:
                    self._read_cosigned(data.decode(), key)
                elif kind == "headers":
                    self._end_of_part()
                    self._read_headers(about, data)
                elif kind == "records" and number.isdigit():
                    self._read_records(int(number), data)
                else:
                    self._wrong(NotProved(f"a file {name[:60]!r} that belongs to no bundle"))
            self._end_of_part()
        self._check_end(about, stated, proof_text)
        for one in self._witnesses:
            if not any(cosigned["witness"] == one for cosigned in self.cosigned):
                self._wrong(NotProved(f"nothing is cosigned by {one.partition('+')[0]}"))
        self.problems.sort(key=lambda one: (one["segment"] is None, one["segment"] or 0))
        return {
            "verified": not self.problems,
            **{name: about[name] for name in ("log", "first", "until", "size")},
            "segments": self.segments, "records": self.records, "pauses": self.pauses,
            "cosigned": self.cosigned, "problems": self.problems,
            "key": key, "key_from": "argument" if self._key else "bundle",
        }  # fmt: skip

    def _wrong(self, error: NotProved, segment: int | None = None) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            at = error.segment if segment is None else segment
            self.problems.append({"segment": at, "why": str(error)})

    def _files(self, tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
        for one in tar:
            file = tar.extractfile(one) if one.isreg() else None
            if file is None or one.size > FILE_BYTES_MAX:
                raise NotProved(f"{one.name[:60]!r} is no file, or too large")
            yield one.name, file.read()

    def _about(self, file: tuple[str, bytes]) -> dict[str, Any]:
        name, data = file
        try:
            about = json.loads(data)
            numbers = [about[key] for key in ("first", "until", "size")]
        except (ValueError, KeyError, TypeError):
            raise NotProved("no bundle of an audit log") from None
        if name != "bundle.json" or about.get("v") != 1 or not isinstance(about.get("log"), str):
            raise NotProved("no bundle of version 1")
        if not all(isinstance(n, int) for n in numbers):
            raise NotProved("no bundle of an audit log")
        if not 0 <= numbers[0] < numbers[1] <= numbers[2] <= _INTEGER_MAX:
            raise NotProved("a bundle of no segments")
        return dict(about)

    def _signed_by(self, note: str, key: str, *, kept: bool) -> tuple[str, int, bytes] | None:
        try:
            stated = signed_checkpoint(note, key, every=not kept)
        except NotProved as error:
            self._wrong(error)
            return None
        self._kept += [stated] if kept else []
        return stated

    def _read_cosigned(self, note: str, key: str) -> None:
        if (stated := self._signed_by(note, key, kept=True)) is None:
            return
        for one in self._witnesses:
            at_s = cosigned_at(note, one)
            if at_s is not None:
                self.cosigned.append({"witness": one, "size": stated[1], "at_s": at_s})

    def _read_headers(self, about: dict[str, Any], data: bytes) -> None:
        for line in data.split(b"\n")[:-1]:
            number = about["first"] + self.segments
            try:
                header = self._header(line, number)
                if self.segments == 0:
                    self._check_first(header, about)
                else:
                    self._check_next(header, number)
            except NotProved as error:
                self._wrong(error, number)
                header = None
            self.segments += 1
            self._tree.add(_leaf(line))
            if about["first"] == 0 and any(self._tree.size == one[1] for one in self._kept):
                self._kept_roots[self._tree.size] = self._tree.root()
            self._before = (header, line) if header else None
            if header and header["count"]:
                self._expected[number] = header
            elif header and header["root"] != Tree().root().hex():
                self._wrong(NotProved("a root over no records that is another", number))

    def _header(self, line: bytes, number: int) -> dict[str, Any]:
        header = read_header(line)
        if header["number"] != number:
            raise NotProved(f"number {header['number']} stands in the place of {number}")
        if header["until_ms"] < header["from_ms"]:
            raise NotProved("it ends before it begins: the clock ran back")
        if header["until_ms"] - header["from_ms"] > PAUSE_MS and len(self.pauses) < PROBLEMS_MAX:
            span = {name: header[name] for name in ("from_ms", "until_ms")}
            self.pauses.append({"segment": number} | span)
        return header

    def _check_first(self, header: dict[str, Any], about: dict[str, Any]) -> None:
        if header["log"] != about["log"]:
            raise NotProved("a segment of another log")
        if about["first"] == 0 and (header["previous"] or header["first_sequence"]):
            raise NotProved("the first segment of a log has something before it")

    def _check_next(self, header: dict[str, Any], number: int) -> None:
        if self._before is None:
            return  # the one before was wrong, and has been named
        before, line = self._before
        if header["log"] != before["log"]:
            raise NotProved("a segment of another log")
        if header["previous"] != _leaf(line).hex():
            raise NotProved(f"it does not follow segment {number - 1} as that stands here")
        if header["first_sequence"] != before["first_sequence"] + before["count"]:
            raise NotProved("its records do not go on where those before it ended")
        if header["from_ms"] != before["until_ms"]:
            raise NotProved("it does not begin when the one before it ended")

    def _read_records(self, number: int, data: bytes) -> None:
        header = self._expected.pop(number, None)
        if header is None:
            self._wrong(NotProved("records that no header tells of, or that stand twice", number))
            return
        try:
            self.records += self._count_records(header, data)
        except NotProved as error:
            self._wrong(error, number)

    def _count_records(self, header: dict[str, Any], data: bytes) -> int:
        inflate = zlib.decompressobj()
        try:
            lines = inflate.decompress(data, FILE_BYTES_MAX).split(b"\n")
        except zlib.error:
            raise NotProved("records that cannot be decompressed") from None
        if not inflate.eof or inflate.unused_data:
            raise NotProved("records that are too long, or go on after their end")
        if len(lines) != header["count"]:
            raise NotProved(f"{len(lines)} records, and the header says {header['count']}")
        tree, gateways = Tree(), dict.fromkeys(header["gateways"], 0)
        for position, line in enumerate(lines):
            leaf, tab, part = line.partition(b"\t")
            try:
                record, platform = read_record(leaf, part)
                if ("platform" in record) != bool(tab):
                    raise NotProved("one without the platform's part")
            except NotProved as error:
                raise NotProved(f"record {position} is {error}") from None
            if record.get("kind") == "call":
                name = gateway_label(platform.get("gateway", record.get("gateway", "")))
                name = name if name in gateways else ""
                gateways[name] = gateways.get(name, 0) + 1
            tree.add(_leaf(leaf))
        if tree.root().hex() != header["root"]:
            raise NotProved("records that are not those that were sealed")
        if gateways != header["gateways"]:
            raise NotProved("other numbers of calls of the gateways than the header says")
        return len(lines)

    def _end_of_part(self) -> None:
        for number in sorted(self._expected):
            self._wrong(NotProved("its records are missing", number))
        self._expected.clear()

    def _check_end(
        self, about: dict[str, Any], stated: tuple[str, int, bytes] | None, proof_text: str
    ) -> None:
        last = about["until"] - 1
        if self.segments != about["until"] - about["first"]:
            missing = about["first"] + self.segments
            why = "it is missing, or more stand here than the bundle says"
            self._wrong(NotProved(why, missing))
            return
        if stated is None:
            return
        origin, size, root = stated
        if origin != about["log"] or size != about["size"]:
            self._wrong(NotProved("the checkpoint is of another log, or of another size"))
        elif self._before is not None:
            self._check_proof(last, size, root, proof_text)
        if about["first"] == 0 and about["until"] == size and self._tree.root() != root:
            self._wrong(NotProved("the root of all segments is not that of the checkpoint", last))
        for kept in self._kept:
            self._check_beginning(about, kept)

    def _check_proof(self, last: int, size: int, root: bytes, proof_text: str) -> None:
        assert self._before is not None
        try:
            proof = _digests(proof_text.split())
        except NotProved as error:
            self._wrong(error, last)
            return
        if _root_from(last, size, _leaf(self._before[1]), proof) != root:
            self._wrong(NotProved("it is not in the tree of the checkpoint", last))

    def _check_beginning(self, about: dict[str, Any], kept: tuple[str, int, bytes]) -> None:
        """Whether the log still begins as a checkpoint that was kept says."""
        origin, size, root = kept
        if origin != about["log"]:
            self._wrong(NotProved("the checkpoint that was kept is of another log"))
        elif size > about["size"]:
            self._wrong(NotProved("the log was longer when the checkpoint was kept", about["size"]))
        elif about["first"] or size > about["until"]:
            self._wrong(NotProved("to compare with the checkpoint, export from the beginning"))
        elif size and self._kept_roots.get(size) != root:
            self._wrong(NotProved("it was rewritten after the checkpoint was kept", size - 1))


def _next(files: Iterator[tuple[str, bytes]], name: str) -> bytes:
    found, data = next(files, ("", b""))
    if found != name or len(data) > HEADER_BYTES_MAX:
        raise NotProved(f"the bundle has no {name}")
    return data


_Check = Callable[[bytes, bytes, bytes], bool]


def _parts_of_key(key: str, kinds: dict[bytes, _Check]) -> tuple[str, str, bytes, _Check]:
    """Name, key id, public key of a verifier key (C2SP signed-note), and what checks by it."""
    name, _, rest = key.partition("+")
    key_id, _, encoded = rest.partition("+")
    raw = _base64(encoded)
    expected = hashlib.sha256(name.encode() + b"\n" + raw).hexdigest()[:8]
    for kind, check in kinds.items():
        if raw.startswith(kind) and key_id == expected:
            return name, key_id, raw.removeprefix(kind), check
    raise NotProved("a key that is none of the form NAME+KEY_ID+KEY")


_OF_LOGS: dict[bytes, _Check] = {b"\x01": is_signed, _SM2_TYPE: is_signed_sm2}
_OF_WITNESSES: dict[bytes, _Check] = {b"\x04": is_signed, _SM2_COSIGNATURE: is_signed_sm2}


def signed_checkpoint(note: str, keys: str, *, every: bool = True) -> tuple[str, int, bytes]:
    """Origin, size and root of a note that each of these keys, with spaces between, has signed.

    `every` is false of one that was kept while other keys signed: one of them will do.
    """
    body, gap, lines = note.rpartition("\n\n")
    body += "\n"
    if not gap or not lines.endswith("\n"):
        raise NotProved("the checkpoint is no signed note")
    missing = 0
    for key in keys.split() or [""]:
        name, key_id, public, check = _parts_of_key(key, _OF_LOGS)
        signatures = []
        for line in lines.split("\n")[:16]:
            words = line.split(" ")
            if len(words) == 3 and words[0] == "\u2014" and words[1] == name:
                data = _base64(words[2])
                if data[:4].hex() == key_id:
                    signatures.append(data[4:])
        missing += not signatures
        if not all(check(public, body.encode(), one) for one in signatures):
            raise NotProved("the signature of the checkpoint is wrong")
    if missing and (every or missing == len(keys.split())):
        raise NotProved("the checkpoint is not signed with this key")
    parts = body.split("\n")
    if len(parts) < 4 or not re.fullmatch("0|[1-9][0-9]{0,18}", parts[1]):
        raise NotProved("the checkpoint has no size")
    return parts[0], int(parts[1]), _base64(parts[2])


def cosigned_at(note: str, key: str) -> int | None:
    """When a witness cosigned a note (C2SP `cosignature/v1`); None where it did not."""
    name, key_id, public, check = _parts_of_key(key, _OF_WITNESSES)
    body, _, lines = note.rpartition("\n\n")
    for words in (line.split(" ") for line in lines.split("\n")[:16]):
        data = _base64(words[2]) if len(words) == 3 and words[1] == name else b""
        at_s = int.from_bytes(data[4:12], "big")
        message = f"cosignature/v1\ntime {at_s}\n{body}\n".encode()
        if data[:4].hex() == key_id and check(public, message, data[12:]):
            return at_s
    return None


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise NotProved("what is no base64") from None


# --- a proof ---------------------------------------------------------------------------------

_PROOF_FIELDS = {
    "v": int, "log": str, "key": str, "checkpoint": str, "header": str, "header_proof": list,
    "position": int, "record": str, "record_proof": list,
}  # fmt: skip


def verify_proof(data: bytes, key: str | None = None) -> dict[str, Any]:
    """The report of a proof, which is of one record."""
    try:
        proof = json.loads(data)
        kinds = {name: type(proof[name]) for name in _PROOF_FIELDS}
        platform = proof.get("platform") or ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise NotProved("no proof of a record") from None
    if kinds != _PROOF_FIELDS or proof["v"] != 1 or not isinstance(platform, str):
        raise NotProved("no proof of version 1")
    report = {"log": proof["log"], "key": key or proof["key"],
              "key_from": "argument" if key else "proof"}  # fmt: skip
    try:
        report |= _proved(proof, platform, report["key"])
    except NotProved as error:
        problem = {"segment": error.segment, "why": str(error)}
        return report | {"verified": False, "problems": [problem]}
    return report | {"verified": True, "problems": []}


def _proved(proof: dict[str, Any], platform: str, key: str) -> dict[str, Any]:
    origin, size, root = signed_checkpoint(proof["checkpoint"], key)
    line = _utf8(proof["header"])
    header = read_header(line)
    number = header["number"]
    if not origin == header["log"] == proof["log"]:
        raise NotProved("the checkpoint is of another log", number)
    if not 0 <= number < size:
        raise NotProved("the checkpoint is older than the segment", number)
    if _root_from(number, size, _leaf(line), _digests(proof["header_proof"])) != root:
        raise NotProved("the segment is not in the tree of the checkpoint", number)
    if not 0 <= proof["position"] < header["count"]:
        raise NotProved("the segment has no such record", number)
    data = _utf8(proof["record"])
    try:
        record, _ = read_record(data, _utf8(platform))
    except NotProved as error:
        raise NotProved(f"the record is {error}", number) from None
    path = _digests(proof["record_proof"])
    above = _root_from(proof["position"], header["count"], _leaf(data), path)
    if above is None or above.hex() != header["root"]:
        raise NotProved("the record is not in the segment", number)
    return {
        "segment": number, "sequence": header["first_sequence"] + proof["position"],
        "sealed_from_ms": header["from_ms"], "sealed_until_ms": header["until_ms"],
        "size": size, "record": record,
    }  # fmt: skip


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise NotProved("text that is no Unicode") from None


def _digests(lines: list[Any]) -> list[bytes]:
    if len(lines) > PROOF_MAX or not all(
        isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one) for one in lines
    ):
        raise NotProved("no proof of inclusion")
    return [bytes.fromhex(one) for one in lines]


def report_of(
    path: str, key: str | None = None, former: str | None = None, witnesses: Sequence[str] = ()
) -> dict[str, Any]:
    """The report of a bundle, or of a proof; also of a file that is neither."""
    try:
        with open(path, "rb") as file:
            if file.read(1) == b"{":
                return verify_proof(b"{" + file.read(PROOF_BYTES_MAX), key)
        return BundleVerifier(key, former, witnesses).verify(path)
    except (OSError, tarfile.TarError, NotProved, UnicodeDecodeError, StopIteration,
            EOFError) as error:  # fmt: skip
        said = str(error) or type(error).__name__
        return {"verified": False, "unreadable": said, "problems": [{"segment": None, "why": said}]}


def ending_of(report: dict[str, Any]) -> int:
    """The exit code of a report."""
    return 2 if "unreadable" in report else int(not report["verified"])


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Verify a bundle of an audit log, offline.")
    parser.add_argument("bundle", help="the tar file, or a proof")
    parser.add_argument("--key", help="the log's public key, NAME+KEY_ID+KEY, from elsewhere")
    parser.add_argument("--former-checkpoint", type=lambda path: Path(path).read_text("utf-8"),
                        help="file with a checkpoint that you kept")  # fmt: skip
    parser.add_argument("--witness", action="append", default=[], help="a witness' public key")
    given = parser.parse_args()
    report = report_of(given.bundle, given.key, given.former_checkpoint, given.witness)
    json.dump(report, sys.stdout, indent=1)
    print()
    return ending_of(report)


if __name__ == "__main__":
    sys.exit(main())
