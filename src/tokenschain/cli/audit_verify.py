"""Offline verifier of audit bundles and proofs: `python audit_verify.py FILE [--key KEY]`.

Needs this file and Python 3.11 alone: no network, no database, no package. It prints a report as
JSON and ends with 0 where all is proved, 1 where something is not, 2 where it cannot be read.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import itertools
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SUITE = "international"
HEADER_BYTES_MAX = RECORDS_MAX = RECORD_BYTES_MAX = 65_536
FILE_BYTES_MAX = 268_435_456
PROOF_BYTES_MAX = 1_048_576
PROOF_MAX = 63
PAUSE_MS = 90_000
"""A log seals each minute, also where nothing happened."""
PROBLEMS_MAX = 100
HAND_OVERS_MAX = 1_000
HAND_OVER = "key-hand-over/v1"
KEYS_MAX = 4
"""Of a hand-over: two that give and two that take, of the suite `dual`."""
_INTEGER_MAX = 2**63 - 1
_HEADER_FIELDS = {
    "v": int, "log": str, "number": int, "first_sequence": int, "count": int, "from_ms": int,
    "until_ms": int, "gateways": dict, "root": str, "previous": str, "suite": str, "key_id": str,
}  # fmt: skip
_BUNDLE_FIELDS = {"first": int, "until": int, "size": int, "log": str, "v": int}


class NotProved(Exception):
    """What is not proved, and why; `segment` where it is one segment's."""

    def __init__(self, why: str, segment: int | None = None) -> None:
        super().__init__(why)
        self.segment = segment


def _insist(is_right: object, why: str, segment: int | None = None) -> None:
    if not is_right:
        raise NotProved(why, segment)


# --- Ed25519 (RFC 8032, 5.1), verification alone ---------------------------------------------

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P
_ROOT_OF_MINUS_1 = pow(2, (_P - 1) // 4, _P)
_Point = tuple[int, int, int, int]


def _point(data: bytes) -> _Point:
    number = int.from_bytes(data, "little")
    y, sign = number & (1 << 255) - 1, number >> 255
    square = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _ROOT_OF_MINUS_1 % _P
    is_one = y < _P and (x * x - square) % _P == 0 and (x or not sign)
    _insist(is_one, "a point of the signature is none")
    x = _P - x if x & 1 != sign else x
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


_BASE = _point((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little"))


def is_signed(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature is right."""
    scalar = int.from_bytes(signature[32:], "little")
    if len(public) != 32 or len(signature) != 64 or scalar >= _L:
        return False
    digest = hashlib.sha512(signature[:32] + public + message).digest()
    challenge = int.from_bytes(digest, "little") % _L
    try:
        right = _sum(_point(signature[:32]), _times(challenge, _point(public)))
    except NotProved:
        return False
    left = _times(scalar, _BASE)
    return not any((left[n] * right[2] - right[n] * left[2]) % _P for n in (0, 1))


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
    # The command reads no more than is a signature, and passes over what stands behind it.
    return done.returncode == 0 and list(signature[1:2]) == [len(signature) - 2]


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
        found = b""
        for _, peak in reversed(self._peaks):
            found = _node(peak, found) if found else peak
        return found or hashlib.sha256(b"").digest()


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


# --- canonical JSON, headers and records -----------------------------------------------------


def _no_float(text: str) -> Any:
    raise NotProved(f"the number {text[:30]}, which is no integer")


def _integer(text: str) -> int:
    _insist(len(text) <= 20 and abs(int(text)) <= _INTEGER_MAX, "an integer beyond 64 bits")
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
    _insist(isinstance(value, dict) and again == text, "JSON that is not canonical")
    _insist(unicodedata.is_normalized("NFC", text), "text that is not in NFC")
    return dict(value)


def object_of(data: bytes, what: str, fields: dict[str, type]) -> dict[str, Any]:
    """A JSON object that has these fields, of these types."""
    try:
        value = json.loads(data)
        right = all(type(value[name]) is kind for name, kind in fields.items())
    except (ValueError, LookupError, TypeError, RecursionError):
        right = False
    _insist(right and value.get("v", 1) == 1, f"no {what} of version 1")
    return dict(value)


def read_header(line: bytes) -> dict[str, Any]:
    """The header of a segment."""
    _insist(len(line) <= HEADER_BYTES_MAX, "a header that is too long")
    header = read_canonical(line)
    kinds = {name: type(value) for name, value in header.items()}
    fields = _HEADER_FIELDS if header.get("v") == 1 else _HEADER_FIELDS | {"sequences": dict}
    _insist(kinds == fields and header["v"] in (1, 2), "no header of version 1 or 2")
    _insist(header["suite"] == SUITE, f"another suite than {SUITE}")
    _insist(0 <= header["count"] <= RECORDS_MAX, "more records than a segment may have")
    for ranges in header.setdefault("sequences", {}).values():
        integers = isinstance(ranges, list) and all(type(number) is int for number in ranges)
        _insist(integers and len(ranges) % 2 == 0 and ranges == sorted(ranges), "no ranges")
        numbers = sum(ranges[1::2]) - sum(ranges[::2]) + len(ranges) // 2
        _insist(numbers <= header["count"], "more numbers of calls than records")
    return header


def read_record(record: bytes, part: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """A record and the platform's part of it, which the record has the digest of; empty where
    neither has one."""
    _insist(max(len(record), len(part)) <= RECORD_BYTES_MAX, "too long")
    found = read_canonical(record)
    is_its = not part or found.get("platform") == hashlib.sha256(b"\x02" + part).hexdigest()
    _insist(is_its, "one with another platform's part than was sealed")
    return found, read_canonical(part) if part else {}


def is_signed_act(record: dict[str, Any]) -> bool:
    """Whether a record has the signature of the person who acts, which has to hold."""
    try:
        detail = json.loads(record.get("detail") or "{}")
    except (TypeError, ValueError):
        return False
    if not isinstance(detail, dict) or "signed" not in detail:
        return False
    fields = ("user", "public_key", "method", "target", "at_ms", "body", "signature")
    signed = detail["signed"] if isinstance(detail["signed"], dict) else {}
    user, public, *said, signature = (str(signed.get(name)) for name in fields)
    text = "\n".join(("tokenschain signed act v1", *said)).encode() + b"\n"
    verify = is_signed_sm2 if public.startswith("sm2:") else is_signed
    holds = verify(_base64(public.removeprefix("sm2:")), text, _base64(signature))
    _insist(holds and user == record.get("actor"), "an act that its person has not signed so")
    return True


def gateway_label(name: str) -> str:
    """What stands for a gateway in headers."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _pairs(flat: list[int]) -> Iterator[tuple[int, int]]:
    return zip(flat[::2], flat[1::2], strict=True)


class NumberedCalls:
    """Which calls of each gateway process a log has, by the numbers that it gave them."""

    def __init__(self) -> None:
        self._ranges: dict[str, list[list[int]]] = {}
        self._started: set[str] = set()
        self._ended: dict[str, tuple[int, int, int]] = {}

    def add(self, sequences: dict[str, list[int]], segment: int) -> None:
        """Add those of a segment."""
        for label, flat in sequences.items():
            known = self._ranges.setdefault(label, [])
            for first, last in _pairs(flat):
                if not known or known[-1][1] != first - 1:
                    known.append([first, last, segment])
                known[-1][1] = last

    def note(self, record: dict[str, Any], segment: int) -> None:
        """Note that a process began or ended."""
        label = gateway_label(str(record.get("gateway")))
        last, lost_from = record.get("last"), record.get("lost_from")
        if record.get("state") == "started":
            self._started.add(label)
        elif isinstance(last, int) and isinstance(lost_from, int):
            self._ended[label] = last, lost_from, segment

    def gaps(self) -> Iterator[dict[str, Any]]:
        """The numbers that are missing: of processes that began in the log from 1 on, and of those
        that ended there to their last. What a process said may be lost is explained."""
        for label in sorted(self._ranges.keys() | self._ended.keys()):
            last, lost_from, ended_in = self._ended.get(label, (0, 0, 0))
            ranges = sorted(self._ranges.get(label, []))
            ranges += [[last + 1, last, ended_in]] * (label in self._ended)
            due = 1 if label in self._started else ranges[0][0]
            for first, until, segment in ranges:
                if first > due:
                    yield {"gateway": label, "first": due, "last": first - 1, "segment": segment,
                           "explained": 0 < lost_from <= due and first - 1 <= last}  # fmt: skip
                twice = f"call {first} of gateway {label} stands twice"
                _insist(first >= due or first > until, twice, segment)
                due = max(due, until + 1)


_COMMITTED = ("at_ms", "id", "key_id", "model_asked", "model_served", "outcome", "prompt_tokens",
              "completion_tokens", "status", "tenant")  # fmt: skip
DUE_MS = 3_600_000
"""After a call began its record is sealed within that time."""


class KeptReceipt:
    """What a caller kept of a call: `r1.CALL.GATEWAY.NUMBER.AT_MS.SALT.COMMITMENT.TENANT.CODE`."""

    def __init__(self, text: str) -> None:
        form, *parts = text.strip().rpartition(".")[0].split(".", 7)
        _insist(form == "r1" and len(parts) == 7 and parts[3].isdecimal(), "no receipt of a call")
        self._call, self._label, self._sequence, at_ms, self._salt, self._committed, _ = parts
        self.at_ms, self.found = int(at_ms), dict[str, Any]()

    def look_at(self, record: dict[str, Any], segment: int) -> None:
        """Look whether a record is that of its call, and says what the caller was told."""
        if record.get("kind") != "call" or record.get("id") != self._call:
            return
        self.found = {"state": "contradicted", "segment": segment}
        said = {name: record.get(name) for name in _COMMITTED}
        text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256((self._salt + text).encode(errors="surrogatepass")).hexdigest()
        place = str(record.get("gateway_label")), str(record.get("sequence"))
        right = digest[:32] == self._committed and place == (self._label, self._sequence)
        _insist(right, "its record says another thing than the caller was told")
        self.found["state"] = "sealed"

    def missing(self, from_ms: int, until_ms: int) -> str:
        """Why it is not proved that a log of this time has it; empty where it is."""
        if self.found:
            return ""
        is_due = from_ms <= self.at_ms <= until_ms - DUE_MS
        self.found = {"state": "missing" if is_due else "not here", "segment": None}
        return f"the call of the receipt is {self.found['state']}"


# --- the bundle ------------------------------------------------------------------------------


class BundleVerifier:
    """Reads a bundle once, from its beginning to its end."""

    def __init__(
        self, key: str | None, former: str | None, witnesses: Sequence[str], receipt: str | None
    ) -> None:
        """The log's key, known from elsewhere, or that of the bundle is taken; a checkpoint that
        was kept before; keys of witnesses, each of which must have cosigned what the bundle has;
        the receipt of a call."""
        self._receipt = KeptReceipt(receipt) if receipt else None
        self._from_ms = 0
        self._key, self._former, self._witnesses = key, former, witnesses
        self.cosigned: list[dict[str, Any]] = []
        self.problems: list[dict[str, Any]] = []
        self.signed_acts = 0
        self.pauses: list[dict[str, int]] = []
        self.gaps: list[dict[str, Any]] = []
        self.records = self.segments = 0
        self._numbers = NumberedCalls()
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
            about = object_of(_next(files, "bundle.json"), "bundle", _BUNDLE_FIELDS)
            some = 0 <= about["first"] < about["until"] <= about["size"] <= _INTEGER_MAX
            _insist(some, "a bundle of no segments")
            key_text, notes = _next(files, "key").decode().strip(), list[str]()
            note = _next(files, "checkpoint", notes).decode()
            proof_text = _next(files, "proof").decode()
            self._chain, self._has_chain = KeyChain(self._key or key_text), not notes
            with self._checking():
                self._chain, self._has_chain = KeyChain(key_text, notes, self._key), True
            handed = self._chain.stated if about["first"] == 0 else []
            self._kept += [one for one in handed if one[1] <= about["until"]]
            stated = self._signed_by(note, kept=False)
            if self._former is not None:
                self._signed_by(note_in(self._former, about["log"]), kept=True)
            for name, data in files:
                kind, _, number = name.partition("/")
                if name == "cosigned" and not self.segments:
                    self._read_cosigned(data.decode())
                elif kind == "headers":
                    self._end_of_part()
                    self._read_headers(about, data)
                elif kind == "records" and number.isdigit():
                    self._read_records(int(number), data)
                else:
                    self._wrong(f"a file {name[:60]!r} that belongs to no bundle")
            self._end_of_part()
        self._check_end(about, stated, proof_text)
        with self._checking():
            for gap in self._numbers.gaps():
                self.gaps += [gap] if len(self.gaps) < PROBLEMS_MAX else []
                if not gap["explained"]:
                    said = "calls {first} to {last} of gateway {gateway} are missing before it"
                    self._wrong(said.format(**gap), gap["segment"])
        for size in self._chain.due:
            if about["first"] < size <= about["until"]:
                self._wrong("the log does not tell that it was handed over", size - 1)
        for one in self._witnesses:
            if not any(cosigned["witness"] == one for cosigned in self.cosigned):
                self._wrong(f"nothing is cosigned by {one.partition('+')[0]}")
        if self._receipt:
            until_ms = self._before[0]["until_ms"] if self._before else 0
            if why := self._receipt.missing(self._from_ms, until_ms):
                self._wrong(why)
        self.problems.sort(key=lambda one: (one["segment"] is None, one["segment"] or 0))
        places = {name: about[name] for name in ("log", "first", "until", "size")}
        keys = [{"key": key, "above": size} for key, size in self._chain.in_force()]
        return {"verified": not self.problems, **places, "segments": self.segments,
                "records": self.records, "signed_acts": self.signed_acts,
                "pauses": self.pauses, "gaps": self.gaps,
                "cosigned": self.cosigned, "keys": keys, "key": self._key or key_text,
                "key_from": "argument" if self._key else "bundle",
                "fingerprint": fingerprint(note),
                **({"receipt": self._receipt.found} if self._receipt else {}),
                "problems": self.problems}  # fmt: skip

    def _wrong(self, why: str, segment: int | None = None) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append({"segment": segment, "why": why})

    @contextmanager
    def _checking(self, segment: int | None = None) -> Iterator[None]:
        """What is not proved meanwhile is a problem, of this segment where it says no other."""
        try:
            yield
        except NotProved as error:
            self._wrong(str(error), segment if error.segment is None else error.segment)

    def _files(self, tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
        for one in tar:
            file = tar.extractfile(one) if one.isreg() and one.size <= FILE_BYTES_MAX else None
            if file is None:
                raise NotProved(f"{one.name[:60]!r} is no file, or too large")
            yield one.name, file.read()

    def _signed_by(self, note: str, *, kept: bool) -> tuple[str, int, bytes] | None:
        with self._checking():
            key = self._chain.at(checkpoint_of(note)[1])
            stated = signed_checkpoint(note, key, every=not kept)
            self._kept += [stated] if kept else []
            return stated
        return None

    def _read_cosigned(self, note: str) -> None:
        stated = self._signed_by(note, kept=True)
        for one in self._witnesses if stated else ():
            if (at_s := cosigned_at(note, one)) is not None:
                self.cosigned.append({"witness": one, "size": checkpoint_of(note)[1], "at_s": at_s})

    def _read_headers(self, about: dict[str, Any], data: bytes) -> None:
        for line in data.split(b"\n")[:-1]:
            number, header = about["first"] + self.segments, None
            with self._checking(number):
                header = self._header(line, number, about)
            self.segments += 1
            self._tree.add(_leaf(line))
            if about["first"] == 0 and any(self._tree.size == one[1] for one in self._kept):
                self._kept_roots[self._tree.size] = self._tree.root()
            self._before = (header, line) if header else None
            if header:
                self._numbers.add(header["sequences"], number)
            if header and header["count"]:
                self._expected[number] = header
            elif header and header["root"] != Tree().root().hex():
                self._wrong("a root over no records that is another", number)

    def _header(self, line: bytes, number: int, about: dict[str, Any]) -> dict[str, Any]:
        header = read_header(line)
        at, length_ms = header["number"], header["until_ms"] - header["from_ms"]
        _insist(at == number, f"number {at} stands in the place of {number}")
        _insist(header["log"] == about["log"], "a segment of another log")
        in_force = self._chain.may_sign(header["key_id"], number + 1)
        _insist(in_force, "it is signed with a key that was not in force")
        _insist(length_ms >= 0, "it ends before it begins: the clock ran back")
        self._from_ms = self._from_ms or header["from_ms"]
        if number == 0:
            alone = not header["previous"] and header["first_sequence"] == 0
            _insist(alone, "the first segment of a log has something before it")
        if self._before is not None:  # else that was wrong, and has been named
            before, bytes_before = self._before
            follows = header["previous"] == _leaf(bytes_before).hex()
            _insist(follows, f"it does not follow segment {number - 1} as that stands here")
            goes_on = header["first_sequence"] == before["first_sequence"] + before["count"]
            _insist(goes_on, "its records do not go on where those before it ended")
            joins = header["from_ms"] == before["until_ms"]
            _insist(joins, "it does not begin when the one before it ended")
        if length_ms > PAUSE_MS and len(self.pauses) < PROBLEMS_MAX:
            self.pauses.append({"segment": number, "from_ms": header["from_ms"],
                                "until_ms": header["until_ms"]})  # fmt: skip
        return header

    def _read_records(self, number: int, data: bytes) -> None:
        header = self._expected.pop(number, None)
        with self._checking(number):
            _insist(header, "records that no header tells of, or that stand twice")
            self.records += self._count_records(header or {}, data)

    def _count_records(self, header: dict[str, Any], data: bytes) -> int:
        inflate = zlib.decompressobj()
        try:
            lines = inflate.decompress(data, FILE_BYTES_MAX).split(b"\n")
        except zlib.error:
            raise NotProved("records that cannot be decompressed") from None
        ends = inflate.eof and not inflate.unused_data
        _insist(ends, "records that are too long, or go on after their end")
        count = header["count"]
        _insist(len(lines) == count, f"{len(lines)} records, and the header says {count}")
        tree, gateways = Tree(), dict.fromkeys(header["gateways"], 0)
        numbers: dict[str, list[int]] = {}
        for position, line in enumerate(lines):
            leaf, tab, part = line.partition(b"\t")
            try:
                record, platform = read_record(leaf, part)
                _insist(("platform" in record) == bool(tab), "one without the platform's part")
                self.signed_acts += record.get("kind") == "event" and is_signed_act(record)
            except NotProved as error:
                raise NotProved(f"record {position} is {error}") from None
            if record.get("kind") == "call":
                name = gateway_label(platform.get("gateway", record.get("gateway", "")))
                if number := record.get("sequence"):
                    numbers.setdefault(name, []).append(number)
                name = name if name in gateways else ""
                gateways[name] = gateways.get(name, 0) + 1
            elif record.get("kind") == "gateway":
                self._numbers.note(record, header["number"])
            elif record.get("action") == "audit:hand-over" and self._has_chain:
                self._chain.enter(header["number"] + 1, str(record.get("detail")))
            if self._receipt:
                self._receipt.look_at(record, header["number"])
            tree.add(_leaf(leaf))
        _insist(tree.root().hex() == header["root"], "records that are not those that were sealed")
        right = gateways == header["gateways"]
        _insist(right, "other numbers of calls of the gateways than the header says")
        for name, flat in header["sequences"].items():
            said = [n for first, last in _pairs(flat) for n in range(first, last + 1)]
            right = said == sorted(numbers.get(name, []))
            _insist(right, "calls with other numbers than the header says")
        return len(lines)

    def _end_of_part(self) -> None:
        for number in sorted(self._expected):
            self._wrong("its records are missing", number)
        self._expected.clear()

    def _check_end(
        self, about: dict[str, Any], stated: tuple[str, int, bytes] | None, proof_text: str
    ) -> None:
        last, missing = about["until"] - 1, about["first"] + self.segments
        if missing != about["until"]:
            self._wrong("it is missing, or more stand here than the bundle says", missing)
        if missing != about["until"] or stated is None:
            return
        origin, size, root = stated
        with self._checking():
            self._chain.check_end(stated)
        if origin != about["log"] or size != about["size"]:
            self._wrong("the checkpoint is of another log, or of another size")
        elif self._before is not None:
            with self._checking(last):
                above = _root_from(last, size, _leaf(self._before[1]), _digests(proof_text.split()))
                _insist(above == root, "it is not in the tree of the checkpoint")
        if about["first"] == 0 and about["until"] == size and self._tree.root() != root:
            self._wrong("the root of all segments is not that of the checkpoint", last)
        for kept in self._kept:
            self._check_beginning(about, kept)

    def _check_beginning(self, about: dict[str, Any], kept: tuple[str, int, bytes]) -> None:
        """Whether the log still begins as a checkpoint that was kept says."""
        origin, size, root = kept
        if origin != about["log"]:
            self._wrong("the checkpoint that was kept is of another log")
        elif size > about["size"]:
            self._wrong("the log was longer when the checkpoint was kept", about["size"])
        elif about["first"] or size > about["until"]:
            self._wrong("to compare with the checkpoint, export from the beginning")
        elif size and self._kept_roots.get(size) != root:
            self._wrong("it was rewritten after the checkpoint was kept", size - 1)


def _next(files: Iterator[tuple[str, bytes]], name: str, before: list[str] | None = None) -> bytes:
    """A file, and the hand-overs that may stand before it."""
    for found, data in files:
        _insist(len(data) <= HEADER_BYTES_MAX, f"{name} is too long")
        if found == name:
            return data
        if before is None or found != f"hand-overs/{len(before)}" or len(before) >= HAND_OVERS_MAX:
            break
        before.append(data.decode())
    raise NotProved(f"the bundle has no {name}")


_Check = Callable[[bytes, bytes, bytes], bool]


class VerifierKey:
    """A public key of signed notes, `NAME+KEY_ID+KEY` (C2SP signed-note), of a log or witness."""

    def __init__(self, text: str, kinds: dict[bytes, _Check]) -> None:
        self._name, _, rest = text.partition("+")
        self.id, _, encoded = rest.partition("+")
        raw = _base64(encoded)
        is_its = hashlib.sha256(self._name.encode() + b"\n" + raw).hexdigest()[:8] == self.id
        found = [kind for kind in kinds if raw.startswith(kind) and is_its]
        _insist(found, "a key that is none of the form NAME+KEY_ID+KEY")
        self._public, self._check = raw.removeprefix(found[0]), kinds[found[0]]

    def signatures(self, lines: str) -> list[bytes]:
        """Of its own, among the lines below a note."""
        words = [line.split(" ") for line in lines.split("\n")[:16]]
        found = [_base64(w[2]) for w in words if len(w) == 3 and w[:2] == ["\u2014", self._name]]
        return [data[4:] for data in found if data[:4].hex() == self.id]

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether a signature is its own."""
        return self._check(self._public, message, signature)


_OF_LOGS: dict[bytes, _Check] = {b"\x01": is_signed, _SM2_TYPE: is_signed_sm2}
_OF_WITNESSES: dict[bytes, _Check] = {b"\x04": is_signed, _SM2_COSIGNATURE: is_signed_sm2}


def checkpoint_of(note: str) -> tuple[str, int, bytes]:
    """Origin, size and root of a note, whoever signed it."""
    parts = [*note.rpartition("\n\n")[0].split("\n"), ""]
    has_size = len(parts) >= 4 and re.fullmatch("0|[1-9][0-9]{0,18}", parts[1])
    _insist(has_size, "the checkpoint has no size")
    return parts[0], int(parts[1]), _base64(parts[2])


def signed_checkpoint(note: str, keys: str, *, every: bool = True) -> tuple[str, int, bytes]:
    """Origin, size and root of a note that each of these keys, with spaces between, has signed.

    `every` is false of one that was kept while other keys signed: one of them will do.
    """
    body, gap, lines = note.rpartition("\n\n")
    _insist(gap and lines.endswith("\n"), "the checkpoint is no signed note")
    missing, signers = 0, [VerifierKey(key, _OF_LOGS) for key in keys.split() or [""]]
    _insist(len(signers) <= KEYS_MAX, f"more than {KEYS_MAX} keys")
    for signer in signers:
        signatures = signer.signatures(lines)
        right = len(signatures) <= 1 and all(
            signer.has_signed(f"{body}\n".encode(), one) for one in signatures
        )
        _insist(right, "the signature of the checkpoint is wrong")
        missing += not signatures
    enough = missing == 0 or (not every and missing < len(signers))
    _insist(enough, "the checkpoint is not signed with the key in force")
    return checkpoint_of(note)


def note_in(kept: str, log: str = "") -> str:
    """The note of a log, or the first, as it was kept: below the key, as `audit key` prints it, or
    among those of other logs, as a witness does."""
    parts = kept.rstrip("\n").split("\n\n")
    for body, lines in itertools.pairwise(parts):
        origin, gap, _ = body.partition("\n")
        if gap and log in ("", origin):
            return f"{body}\n\n{lines}\n"
    return kept


def fingerprint(note: str) -> str:
    """What two people compare a checkpoint by, over the telephone."""
    body = "".join(f"{line}\n" for line in note.split("\n")[:3]).encode()
    digits = f"{int.from_bytes(hashlib.sha256(body).digest(), 'big') % 10**40:040}"
    return " ".join(digits[at : at + 5] for at in range(0, 40, 5))


class KeyChain:
    """Which key is in force for checkpoints of which size: each was handed over to by a note that
    it and the key before it have signed, so that who knows one of them knows all."""

    def __init__(self, key: str, notes: Sequence[str] = (), given: str | None = None) -> None:
        """The key in force, the notes, and the key that is known from elsewhere."""
        self._sizes, self._keys, self.stated = [0], [key], list[tuple[str, int, bytes]]()
        for note in notes:
            size = checkpoint_of(note)[1]
            try:
                self._hand_over(note, size)
            except NotProved as error:
                raise NotProved(f"the hand-over of its key: {error}", size - 1) from None
        _insist(self._keys[-1] == key, "the log was handed over to another key than it has")
        self.due = dict(zip(self._sizes[1:], self._keys[1:], strict=True))
        """Hand-overs that the log itself has still to tell of, in the segment before."""
        wanted = set((given or "").split())
        found = [at for at, one in enumerate(self._keys) if wanted <= set(one.split())]
        _insist(found or not notes, "no hand-over leads to the key that is known")
        at = found[-1] if found else 0
        self._keys[at] = given or self._keys[at]

    def _hand_over(self, note: str, size: int) -> None:
        lines = note.rpartition("\n\n")[0].split("\n")[3:]
        old, new = (" ".join(x[4:] for x in lines if x[:4] == mark) for mark in ("old ", "new "))
        _insist(lines[:1] == [HAND_OVER] and old and new, "it names no keys")
        self.stated.append(signed_checkpoint(note, f"{old} {new}"))
        self._keys = self._keys if self._sizes[1:] else [old]
        follows = self._keys[-1] == old and size > self._sizes[-1]
        _insist(follows, "by another key than was in force")
        self._sizes.append(size)
        self._keys.append(new)

    def check_end(self, stated: tuple[str, int, bytes]) -> None:
        """Insist that a log goes on from its hand-overs: with one that lies behind its end, the key
        before would vouch for all of it."""
        for one in self.stated:
            goes_on = one == stated if one[1] == stated[1] else one[1] < stated[1]
            _insist(goes_on and one[0] == stated[0], "it was another log when it was handed over")

    def at(self, size: int) -> str:
        """The key that signs checkpoints of this size."""
        return [key for key, above in self.in_force() if above < size or not above][-1]

    def in_force(self) -> Iterator[tuple[str, int]]:
        """Each key, and above which size it signs checkpoints, up to the next one's."""
        return zip(self._keys, self._sizes, strict=True)

    def may_sign(self, key_id: str, size: int) -> bool:
        """Whether this is not the key of another time."""
        return f"+{key_id}+" in self.at(size) or f"+{key_id}+" not in " ".join(self._keys)

    def enter(self, size: int, detail: str) -> None:
        """Enter what the log itself tells of a hand-over."""
        new = object_of(detail.encode(), "hand-over", {"new": list})["new"]
        right = self.due.pop(size, "").split() == new
        _insist(right, "here the log was handed over to a key that is not said to have it")


def cosigned_at(note: str, key: str) -> int | None:
    """When a witness cosigned a note (C2SP `cosignature/v1`); None where it did not."""
    signer = VerifierKey(key, _OF_WITNESSES)
    body, _, lines = note.rpartition("\n\n")
    for data in signer.signatures(lines):
        at_s = int.from_bytes(data[:8], "big")
        message = f"cosignature/v1\ntime {at_s}\n{body}\n".encode()
        if signer.has_signed(message, data[8:]):
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


def verify_proof(data: bytes, key: str | None = None, receipt: str = "") -> dict[str, Any]:
    """The report of a proof, which is of one record, that of a receipt where one is given."""
    proof = object_of(data, "proof", _PROOF_FIELDS)
    report = {"log": proof["log"], "key": key or proof["key"],
              "key_from": "argument" if key else "proof", "problems": []}  # fmt: skip
    try:
        report |= _proved(proof, key)
        if receipt:
            kept = KeptReceipt(receipt)
            kept.look_at(report["record"], report["segment"])
            _insist(not kept.missing(0, 0), "it is the proof of another record than the receipt's")
            report["receipt"] = kept.found
    except NotProved as error:
        report["problems"] = [{"segment": error.segment, "why": str(error)}]
    return report | {"verified": not report["problems"]}


def _proved(proof: dict[str, Any], key: str | None) -> dict[str, Any]:
    notes, note = proof.get("hand_overs") or [], proof["checkpoint"]
    _insist(isinstance(notes, list), "no hand-overs")
    chain = KeyChain(proof["key"], [str(one) for one in notes[:HAND_OVERS_MAX]], key)
    origin, size, root = signed_checkpoint(note, chain.at(checkpoint_of(note)[1]))
    chain.check_end((origin, size, root))
    line, data, part = (
        str(proof.get(name) or "").encode(errors="surrogatepass")
        for name in ("header", "record", "platform")
    )
    header = read_header(line)
    number, at = header["number"], proof["position"]
    is_its = origin == header["log"] == proof["log"]
    _insist(is_its, "the checkpoint is of another log", number)
    _insist(0 <= number < size, "the checkpoint is older than the segment", number)
    above = _root_from(number, size, _leaf(line), _digests(proof["header_proof"]))
    _insist(above == root, "the segment is not in the tree of the checkpoint", number)
    _insist(0 <= at < header["count"], "the segment has no such record", number)
    try:
        record, _ = read_record(data, part)
    except NotProved as error:
        raise NotProved(f"the record is {error}", number) from None
    above = _root_from(at, header["count"], _leaf(data), _digests(proof["record_proof"]))
    is_in = above is not None and above.hex() == header["root"]
    _insist(is_in, "the record is not in the segment", number)
    return {"segment": number, "sequence": header["first_sequence"] + at,
            "sealed_from_ms": header["from_ms"], "sealed_until_ms": header["until_ms"],
            "size": size, "record": record}  # fmt: skip


def _digests(lines: list[Any]) -> list[bytes]:
    right = all(isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one) for one in lines)
    _insist(right and len(lines) <= PROOF_MAX, "no proof of inclusion")
    return [bytes.fromhex(one) for one in lines]


def report_of(
    path: str,
    key: str | None = None,
    former: str | None = None,
    witnesses: Sequence[str] = (),
    receipt: str | None = None,
) -> dict[str, Any]:
    """The report of a bundle, or of a proof; also of a file that is neither."""
    try:
        with open(path, "rb") as file:
            if file.read(1) == b"{":
                return verify_proof(b"{" + file.read(PROOF_BYTES_MAX), key, receipt or "")
        return BundleVerifier(key, former, witnesses, receipt).verify(path)
    except (OSError, tarfile.TarError, NotProved, ValueError, StopIteration, EOFError,
            RecursionError) as error:  # fmt: skip
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
    parser.add_argument("--receipt", help="of a call, as `x-tc-audit-receipt` had it")
    given = parser.parse_args()
    report = report_of(
        given.bundle, given.key, given.former_checkpoint, given.witness, given.receipt
    )
    json.dump(report, sys.stdout, indent=1)
    print()
    return ending_of(report)


if __name__ == "__main__":
    sys.exit(main())
