"""The offline verifier: each attack on a log is caught, and the segment named."""

from __future__ import annotations

import base64
import io
import json
import random
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, delete, insert, select

from tests.infra.security import plain_sm2
from tests.records import record
from tokenschain.cli import audit_verify
from tokenschain.control.audit import bundle, log, pending, search
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.core import process_record
from tokenschain.core.audit import merkle, records, segment
from tokenschain.core.process_record import ProcessRecord
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.audit_tables import (
    audit_checkpoints,
    audit_nodes,
    audit_segments,
)
from tokenschain.infra.security import receipts
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.sm2 import SIGNER_ID
from tokenschain.infra.security.suite import DUAL, GM, INTERNATIONAL

SECRET = NoteSecret(INTERNATIONAL, "x" * 43)
SEGMENTS = 12
Files = dict[str, bytes]
digest = INTERNATIONAL.digest


def sealed_log(folder: Path, segments: int = SEGMENTS, secret: NoteSecret = SECRET) -> Engine:
    """A log of segments with three calls each, but for every fourth, which is empty."""
    engine = db.connect(f"sqlite:///{folder / 'x.db'}")
    db.migrate(engine)
    now = [1_790_000_000.0]
    sealer = SegmentSealer(engine, INTERNATIONAL, secret, 1.0, lambda: now[0], idle_s=0.5)
    for number in range(segments):
        now[0] += 1
        if number % 4 != 3:
            calls = [record(3 * number + n, gateway=f"gw-{n % 2}") for n in range(3)]
            with engine.begin() as connection:
                pending.add_calls(connection, calls, {"up": "cn"})
        assert sealer.seal() is not None
    return engine


def exported(
    engine: Engine, from_ms: int = 0, until_ms: int = 2**42, secret: NoteSecret = SECRET
) -> Files:
    out = io.BytesIO()
    bundle.write(engine, INTERNATIONAL, secret, out, from_ms, until_ms)
    out.seek(0)
    with tarfile.open(fileobj=out) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    made = sealed_log(tmp_path_factory.mktemp("log"))
    yield made
    made.dispose()


@pytest.fixture(scope="module")
def whole(engine: Engine) -> Files:
    return exported(engine)


def packed(path: Path, files: Files) -> str:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


@pytest.fixture
def verify(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def run(files: Files, **given: str | None) -> dict[str, Any]:
        return audit_verify.report_of(packed(tmp_path / "b.tar", files), **given)

    return run


def named(report: dict[str, Any]) -> set[int | None]:
    """The segments that are wrong; at least one problem is there."""
    assert not report["verified"] and report["problems"]
    return {one["segment"] for one in report["problems"]}


def headers(files: Files) -> list[bytes]:
    return files["headers/0"].split(b"\n")[:-1]


def with_header(files: Files, number: int, **fields: object) -> Files:
    lines = headers(files)
    header = msgspec.structs.replace(segment.decode(lines[number]), **fields)
    lines[number] = segment.encode(header)
    return files | {"headers/0": b"".join(line + b"\n" for line in lines)}


def with_records(files: Files, number: int, lines: list[bytes]) -> Files:
    return files | {f"records/{number}": zlib.compress(b"\n".join(lines))}


def root_of(lines: list[bytes]) -> str:
    return segment.records_root(digest, [records.split(line)[0] for line in lines]).hex()


def lines_of(files: Files, number: int) -> list[bytes]:
    return zlib.decompress(files[f"records/{number}"]).split(b"\n")


def test_a_log_that_nobody_touched_is_verified(
    whole: Files, engine: Engine, verify: Callable[..., dict[str, Any]]
) -> None:
    report = verify(whole)
    assert report["verified"] and report["records"] == 27 and report["segments"] == SEGMENTS
    assert verify(whole, key=report["key"])["key_from"] == "argument"
    part = exported(engine, 1_790_000_005_500, 1_790_000_007_500)
    report = verify(part)
    assert report["verified"] and (report["first"], report["until"]) == (5, 8)
    assert verify(whole, former=whole["checkpoint"].decode())["verified"]


@pytest.fixture(scope="module")
def signed_by_both(tmp_path_factory: pytest.TempPathFactory) -> Files:
    secret = NoteSecret(INTERNATIONAL, "x" * 43, DUAL)
    engine = sealed_log(tmp_path_factory.mktemp("dual"), 2, secret)
    try:
        return exported(engine, secret=secret)
    finally:
        engine.dispose()


def test_checkpoints_of_sm2_and_of_both_are_verified(
    signed_by_both: Files, verify: Callable[..., dict[str, Any]]
) -> None:
    report = verify(signed_by_both)
    assert report["verified"] and report["key"].count(" ") == 1
    ed25519, sm2 = report["key"].split()
    for key in (ed25519, sm2, report["key"]):
        assert verify(signed_by_both, key=key)["verified"]
    note = signed_by_both["checkpoint"].decode()
    body, _, lines = note.rpartition("\n\n")
    first, second = lines.split("\n")[:2]
    point = base64.b64decode(sm2.split("+", 2)[2])[-65:]
    signature = base64.b64decode(second.rpartition(" ")[2])[4:]
    assert plain_sm2.is_signed(point, f"{body}\n".encode(), signature, SIGNER_ID)
    # One line is taken out: whoever knows both keys misses it.
    for line, key, missing in ((first, ed25519, sm2), (second, sm2, ed25519)):
        files = signed_by_both | {"checkpoint": f"{body}\n\n{line}\n".encode()}
        assert verify(files, key=key)["verified"]
        for wanted in (missing, report["key"], ""):
            assert "not signed" in verify(files, key=wanted or None)["problems"][0]["why"]
        # A checkpoint that was kept while one of them signed is enough.
        kept = verify(signed_by_both, former=files["checkpoint"].decode())
        assert kept["verified"], kept
    stranger = NoteSecret(INTERNATIONAL, "y" * 43, GM.name).public_key(report["log"])
    assert not verify(signed_by_both, key=stranger)["verified"]


def test_an_sm2_signature_that_was_changed_is_wrong_and_without_openssl_nothing_is_proved(
    signed_by_both: Files, verify: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    note = signed_by_both["checkpoint"].decode()
    sm2 = signed_by_both["key"].decode().split()[1]
    head, _, encoded = note[:-1].rpartition(" ")
    data = base64.b64decode(encoded)
    changed = (data[:-1] + bytes([data[-1] ^ 1]), data[:8], data + b"\0")
    for one in changed:
        files = signed_by_both | {
            "checkpoint": f"{head} {base64.b64encode(one).decode()}\n".encode()
        }
        assert "signature" in verify(files, key=sm2)["problems"][0]["why"]
    grown = note.replace("\n2\n", "\n3\n")
    assert not verify(signed_by_both | {"checkpoint": grown.encode()}, key=sm2)["verified"]
    monkeypatch.setenv("PATH", "/nowhere")
    assert "openssl" in verify(signed_by_both, key=sm2)["problems"][0]["why"]


def test_it_is_one_file_that_needs_nothing_but_python(whole: Files, tmp_path: Path) -> None:
    path = packed(tmp_path / "b.tar", whole)
    command = [sys.executable, "-I", "-S", audit_verify.__file__, path]
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["verified"], done.stderr
    kept = tmp_path / "kept"
    kept.write_bytes(whole["checkpoint"])
    compared = [*command, "--former-checkpoint", str(kept)]
    done = subprocess.run(compared, capture_output=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["verified"], done.stderr
    kept.write_bytes(whole["key"] + b"\n" + whole["checkpoint"])  # what `audit key` prints
    done = subprocess.run(compared, capture_output=True, check=False)
    assert done.returncode == 0 and json.loads(done.stdout)["verified"], done.stdout
    Path(path).write_bytes(b"no tar")
    assert subprocess.run(command, capture_output=True, check=False).returncode == 2


def test_a_note_is_found_below_its_key_and_among_those_of_other_logs(whole: Files) -> None:
    note = whole["checkpoint"].decode()
    log = note.partition("\n")[0]
    other = note.replace(log, "log.example")
    for kept in (note, f"{whole['key'].decode()}\n{note}", f"{note}\n{other}", f"{other}\n{note}"):
        assert audit_verify.note_in(kept, log) == note
    assert audit_verify.note_in(f"{other}\n{note}") == other
    for kept in ("", "key", "key\n\n", other):
        assert audit_verify.note_in(kept, log) == kept


def test_names_within_names_without_end_are_no_bundle(tmp_path: Path) -> None:
    nested = tarfile.TarInfo("x")
    nested.type, nested.size = tarfile.GNUTYPE_LONGNAME, 1
    path = tmp_path / "b.tar"
    path.write_bytes((nested.tobuf(tarfile.GNU_FORMAT) + b"a" + bytes(511)) * 3_000)
    assert audit_verify.ending_of(audit_verify.report_of(str(path))) == 2


def test_any_byte_of_any_record_that_changes_is_found(
    whole: Files, verify: Callable[..., dict[str, Any]]
) -> None:
    chance = random.Random(3)
    for _ in range(60):
        number = chance.choice([n for n in range(SEGMENTS) if n % 4 != 3])
        data = bytearray(b"\n".join(lines_of(whole, number)))
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        changed = whole | {f"records/{number}": zlib.compress(bytes(data))}
        assert named(verify(changed)) == {number}


@pytest.mark.parametrize("attack", ["delete", "insert", "reorder", "duplicate"])
def test_records_that_are_not_those_that_were_sealed(
    whole: Files, verify: Callable[..., dict[str, Any]], attack: str
) -> None:
    one = lines_of(whole, 4)
    made = {
        "delete": one[:-1],
        "insert": [*one, lines_of(whole, 5)[0]],
        "reorder": [one[1], one[0], one[2]],
        "duplicate": [one[0], one[0], one[2]],
    }[attack]
    assert named(verify(with_records(whole, 4, made))) == {4}


def test_a_segment_that_is_gone_or_whose_records_are(
    whole: Files, verify: Callable[..., dict[str, Any]]
) -> None:
    without = {name: data for name, data in whole.items() if name != "records/6"}
    assert named(verify(without)) == {6}
    lines = headers(whole)
    cut = b"".join(line + b"\n" for n, line in enumerate(lines) if n != 6)
    assert 6 in named(verify(whole | {"headers/0": cut}))


def resealed(files: Files, number: int, until: int = SEGMENTS) -> Files:
    """All that can be made again without the key: one record gone, every later digest right."""
    before = None
    lines, made = headers(files), dict(files)
    for at, line in enumerate(lines):
        header = segment.decode(line)
        if at == number:
            kept = lines_of(files, at)[1:]
            made = with_records(made, at, kept)
            gateways = {segment.gateway_label(digest, f"gw-{n}"): 1 for n in range(2)}
            header = msgspec.structs.replace(header, count=2, root=root_of(kept), gateways=gateways)
        if at > number and before is not None:
            following = segment.next_position(digest, *before)
            header = msgspec.structs.replace(header, **following._asdict())
        lines[at] = segment.encode(header)
        before = header, lines[at]
    made["headers/0"] = b"".join(line + b"\n" for line in lines[:until])
    leaves = [merkle.leaf_digest(digest, line) for line in lines]
    tree = merkle.subtrees_of(digest, leaves)
    proof = merkle.inclusion_proof(digest, until - 1, SEGMENTS, tree)
    made["proof"] = "".join(f"{one.hex()}\n" for one in proof).encode()
    return made


def test_what_is_made_again_without_the_key_has_no_signature(
    whole: Files, verify: Callable[..., dict[str, Any]]
) -> None:
    assert named(verify(resealed(whole, 4))) == {SEGMENTS - 1}


def cut_off(engine: Engine, size: int, note: str) -> None:
    """What an administrator of the database does: the last segments go, an old checkpoint comes."""
    with engine.begin() as connection:
        connection.execute(delete(audit_segments).where(audit_segments.c.number >= size))
        connection.execute(delete(audit_checkpoints))
        connection.execute(insert(audit_checkpoints).values(size=size, note=note))
        for level, position in connection.execute(
            select(audit_nodes.c.level, audit_nodes.c.position)
        ).all():
            if (position + 1) << level > size:
                connection.execute(
                    delete(audit_nodes).where(
                        audit_nodes.c.level == level, audit_nodes.c.position == position
                    )
                )


def test_a_checkpoint_that_was_kept_shows_what_a_key_cannot_hide(
    tmp_path: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    now = [1_790_001_000.0]
    engine = sealed_log(tmp_path, 9)
    sealer = SegmentSealer(engine, INTERNATIONAL, SECRET, 1.0, lambda: now[0], idle_s=0.5)
    early = exported(engine)["checkpoint"].decode()
    for _ in range(3):
        now[0] += 1
        assert sealer.seal() is not None
    kept = exported(engine)["checkpoint"].decode()
    cut_off(engine, 9, early)
    cut = exported(engine)
    assert verify(cut)["verified"], "by itself, a log that was cut off is whole"
    assert named(verify(cut, former=kept)) == {9}
    # Who has the key writes the log on, otherwise than it was.
    again = SegmentSealer(engine, INTERNATIONAL, SECRET, 1.0, lambda: now[0], idle_s=0.5)
    for _ in range(5):
        now[0] += 1
        assert again.seal() is not None
    rewritten = exported(engine)
    engine.dispose()
    assert verify(rewritten)["verified"] and verify(rewritten, former=early)["verified"]
    assert named(verify(rewritten, former=kept)) == {11}
    part = rewritten | {
        "bundle.json": rewritten["bundle.json"].replace(b'"first": 0', b'"first": 1')
    }
    assert named(verify(part, former=kept))


def test_a_clock_that_ran_back_or_a_gap_is_named(
    whole: Files, verify: Callable[..., dict[str, Any]]
) -> None:
    assert 5 in named(verify(with_header(whole, 5, until_ms=1)))
    assert 5 in named(verify(with_header(whole, 5, from_ms=1_790_000_000_001)))
    assert 5 in named(verify(with_header(whole, 5, first_sequence=0)))


def test_a_segment_or_checkpoint_of_another_log_is_refused(
    whole: Files, tmp_path: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    other = sealed_log(tmp_path)
    files = exported(other)
    other.dispose()
    assert named(verify(whole | {"checkpoint": files["checkpoint"]}))
    assert named(verify(whole, key=files["key"].decode().strip())), "a key is of one log's name"
    lines = headers(whole)
    lines[7] = headers(files)[7]
    mixed = b"".join(line + b"\n" for line in lines)
    assert 7 in named(verify(whole | {"headers/0": mixed}))


def test_a_node_is_no_record(whole: Files, verify: Callable[..., dict[str, Any]]) -> None:
    leaves = [merkle.leaf_digest(digest, records.split(line)[0]) for line in lines_of(whole, 4)]
    node = leaves[0] + leaves[1]
    assert named(verify(with_records(whole, 4, [node, lines_of(whole, 4)[2]]))) == {4}


@pytest.mark.parametrize(
    "change",
    [
        (b'"status":200', b'"status":200.0'),
        (b'"status":200', b'"status": 200'),
        (b'"outcome":"ok"', b'"outcome":"\\u006fk"'),
        (b'"outcome":"ok"', b'"outcome":"ok","outcome":"ok"'),
        (b'"outcome":"ok"', b'"outcome":"e\xcc\x81"'),
        (b'"status":200', b'"status":99999999999999999999'),
    ],
    ids=["float", "space", "escape", "twice", "NFD", "large"],
)
def test_what_could_be_read_in_two_ways_is_refused(
    whole: Files, verify: Callable[..., dict[str, Any]], change: tuple[bytes, bytes]
) -> None:
    lines = [lines_of(whole, 4)[0].replace(*change), *lines_of(whole, 4)[1:]]
    changed = with_records(whole, 4, lines)
    root = root_of(lines)  # as if it had been sealed so
    report = verify(with_header(changed, 4, root=root))
    assert any("canonical" in p["why"] or "record 0" in p["why"] for p in report["problems"])
    assert 4 in named(report)


def test_another_suite_is_refused_before_anything_is_believed(
    whole: Files, verify: Callable[..., dict[str, Any]]
) -> None:
    assert 4 in named(verify(with_header(whole, 4, suite="gm")))


def test_what_would_cost_too_much_is_refused(
    whole: Files, verify: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = zlib.compress(b"x" * 1_000_000)
    monkeypatch.setattr(audit_verify, "FILE_BYTES_MAX", 100_000)
    assert named(verify(whole | {"records/4": bomb})) == {4}
    long = ("00" * 32 + "\n") * 64
    assert named(verify(whole | {"proof": long.encode()})) == {SEGMENTS - 1}
    assert named(verify(with_header(whole, 4, count=65_536))) >= {4}


def test_no_file_makes_it_fail_otherwise_than_by_saying_so(whole: Files, tmp_path: Path) -> None:
    data = Path(packed(tmp_path / "right.tar", whole)).read_bytes()
    chance = random.Random(5)
    for _ in range(60):
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 5)):
            changed[chance.randrange(len(data))] = chance.randrange(256)
        cut = bytes(changed[: chance.choice([len(data), chance.randrange(len(data))])])
        path = tmp_path / "wrong.tar"
        path.write_bytes(cut)
        assert audit_verify.ending_of(audit_verify.report_of(str(path))) in (0, 1, 2)


def test_signatures_are_checked_as_another_implementation_does() -> None:
    chance = random.Random(1)
    for _ in range(10):
        private = Ed25519PrivateKey.from_private_bytes(chance.randbytes(32))
        public, message = private.public_key().public_bytes_raw(), chance.randbytes(50)
        signature = private.sign(message)
        assert audit_verify.is_signed(public, message, signature)
        wrong = bytearray(signature)
        wrong[chance.randrange(64)] ^= 1
        assert not audit_verify.is_signed(public, message, bytes(wrong))
        assert not audit_verify.is_signed(public, message + b"x", signature)
    # RFC 8032, 7.1, test 2.
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert audit_verify.is_signed(public, b"\x72", signature)


# --- proofs ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proof(engine: Engine) -> dict[str, Any]:
    with db.reading(engine) as connection:
        entry = next(
            search.FoundRecord(one, at, line)
            for one in log.read_segments(connection, 4, 5)
            for at, line in enumerate(one.lines())
            if b"req_0000000d" in line
        )
        found = search.prove(connection, digest, entry)
    origin = log.checkpoint_of(found.checkpoint).origin
    return {
        "v": 1,
        "log": origin,
        "key": SECRET.public_key(origin),
        "checkpoint": found.checkpoint,
        "header": found.header.decode(),
        "header_proof": [one.hex() for one in found.header_proof],
        "position": found.position,
        "record": found.record.decode(),
        "record_proof": [one.hex() for one in found.record_proof],
        "platform": entry.part(),
    }


def test_a_proof_of_one_call_is_checked_with_and_without_the_platforms_part(
    proof: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "proof.json"
    for shown in (proof, {k: v for k, v in proof.items() if k != "platform"}):
        path.write_text(json.dumps(shown), "utf-8")
        report = audit_verify.report_of(str(path), proof["key"])
        assert report["verified"] and report["key_from"] == "argument"
        assert (report["segment"], report["sequence"]) == (4, 10)
        assert report["record"]["id"] == "req_0000000d"
    other = NoteSecret(INTERNATIONAL, "y" * 43).public_key(proof["log"])
    assert audit_verify.ending_of(audit_verify.report_of(str(path), other)) == 1
    text = json.dumps(proof)
    others = [f"req_{n:08x}" for n in range(36) if n != 13]
    assert not any(one in text for one in others), "of other records it has digests alone"


def test_whatever_changes_in_a_proof_is_found(proof: dict[str, Any]) -> None:
    chance = random.Random(8)
    for name, value in proof.items():
        for _ in range(6):
            changed: Any = value
            if isinstance(value, int):
                changed = value + chance.choice([-1, 1, 2])
            elif isinstance(value, list):
                changed = chance.choice([value[:-1], [*value, "00" * 32], [value[0]] * len(value)])
            else:
                at = chance.randrange(len(value))
                letter = "A" if value[at] != "A" else "B"
                changed = value[:at] + letter + value[at + 1 :]
            data = json.dumps(proof | {name: changed}).encode()
            try:
                report = audit_verify.verify_proof(data, proof["key"])
            except audit_verify.NotProved:
                continue
            assert not report["verified"] or name == "key", (name, changed)
    for wrong in (b"{", b"{}", b'{"v":1}', json.dumps(proof | {"record": "\ud800"}).encode()):
        path_report = None
        try:
            path_report = audit_verify.verify_proof(wrong)
        except audit_verify.NotProved:
            continue
        assert not path_report["verified"]


def test_a_receipt_is_checked_offline_against_a_bundle_and_against_a_proof(
    whole: Files, proof: dict[str, Any], tmp_path: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    issue = receipts.issuer(INTERNATIONAL, lambda: ("i" * 43,), "gw-1")
    kept = issue(record(13, gateway="gw-1"))
    report = verify(whole, receipt=kept)
    assert report["verified"] and report["receipt"] == {"state": "sealed", "segment": 4}
    data = json.dumps(proof).encode()
    assert audit_verify.verify_proof(data, proof["key"], kept)["verified"]
    changed = issue(record(13, gateway="gw-1", completion_tokens=27))
    report = verify(whole, receipt=changed)
    assert named(report) == {4} and report["receipt"]["state"] == "contradicted"
    # Of a time that the bundle does not reach, and of a call that is another's.
    other = issue(record(99, gateway="gw-1"))
    report = verify(whole, receipt=other)
    assert named(report) == {None} and report["receipt"]["state"] == "not here"
    for wrong in (changed, other):
        assert not audit_verify.verify_proof(data, proof["key"], wrong)["verified"]
    for wrong in ("r1", "r2." + kept[3:], kept.replace(".", ",")):
        assert "no receipt" in str(verify(whole, receipt=wrong))


# --- numbers of calls ------------------------------------------------------------------------


def say(engine: Engine, state: Any, *numbers: int) -> None:
    said = ProcessRecord("gw-1", 1_790_000_000_000, state, *numbers)
    assert pending.add_processes(engine, [process_record.encode(said)]) == []


def numbered_log(folder: Path, lost_from: int = 0) -> Engine:
    """A gateway numbers nine calls in three segments; it says that it began, and how it ended."""
    engine = db.connect(f"sqlite:///{folder / 'n.db'}")
    db.migrate(engine)
    now = [1_790_000_000.0]
    sealer = SegmentSealer(engine, INTERNATIONAL, SECRET, 1.0, lambda: now[0], idle_s=0.5)
    for part in range(3):
        now[0] += 1
        numbers = range(3 * part + 1, 3 * part + 4)
        if part == 0:
            say(engine, "started")
        calls = [record(n, gateway="gw-1", sequence=n) for n in numbers if not 0 < lost_from <= n]
        with engine.begin() as connection:
            pending.add_calls(connection, calls, {})
        if part == 2:
            say(engine, "killed" if lost_from else "stopped", 9, lost_from)
        assert sealer.seal() is not None
    return engine


@pytest.mark.parametrize("numbers", [[1], [5], [4, 5, 6], [9], [1, 5, 9]])
def test_calls_that_were_left_out_before_they_were_sealed_are_named(
    tmp_path: Path, verify: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
    numbers: list[int],
) -> None:  # fmt: skip
    add = pending.add_calls

    def left_out(connection: Any, calls: list[Any], zones: dict[str, str]) -> None:
        add(connection, [one for one in calls if one.sequence not in numbers], zones)

    monkeypatch.setattr(pending, "add_calls", left_out)
    engine = numbered_log(tmp_path)
    report = verify(exported(engine))
    engine.dispose()
    assert not report["verified"]
    missing = [n for gap in report["gaps"] for n in range(gap["first"], gap["last"] + 1)]
    assert missing == numbers and not any(gap["explained"] for gap in report["gaps"])
    assert named(report) <= {0, 1, 2}


def test_calls_that_a_gateway_says_were_lost_are_named_and_explained(
    tmp_path: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    engine = numbered_log(tmp_path, lost_from=8)
    report = verify(exported(engine))
    engine.dispose()
    assert report["verified"]
    label = audit_verify.gateway_label("gw-1")
    assert report["gaps"] == [
        {"gateway": label, "first": 8, "last": 9, "segment": 2, "explained": True}
    ]


def test_a_header_tells_no_other_numbers_than_its_calls_have(
    tmp_path: Path, verify: Callable[..., dict[str, Any]]
) -> None:
    engine = numbered_log(tmp_path)
    files = exported(engine)
    engine.dispose()
    assert verify(files)["verified"] and verify(files)["gaps"] == []
    label = audit_verify.gateway_label("gw-1")
    for wrong in ([4, 7], [4, 5], [6, 4], [4], []):
        assert 1 in named(verify(with_header(files, 1, sequences={label: wrong})))
