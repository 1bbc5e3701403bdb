"""Rotation of the log's key: the old one hands over, and is worth nothing afterwards."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tests import audit_by_definition
from tests.cli.test_audit_verify import Files, exported, headers, packed
from tests.records import record
from tokenschain.cli import audit_verify
from tokenschain.control.audit import log, log_keys, pending
from tokenschain.control.audit.log import NotSealed, SegmentSealer
from tokenschain.control.audit.log_keys import NotHandedOver
from tokenschain.core.audit import checkpoint, key_chain, merkle, segment
from tokenschain.core.audit.checkpoint import Checkpoint
from tokenschain.infra.database import engine as db
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.secret_files import CLEAR
from tokenschain.infra.security.suite import DUAL, GM, INTERNATIONAL

digest = INTERNATIONAL.digest
EACH = 3
"""Segments below each key, of which the last hands over."""


class RotatedLog:
    """A log whose key is rotated, one suite after the other."""

    def __init__(self, engine: Engine, folder: Path, suites: tuple[str, ...]) -> None:
        self.engine, self.path, self.folder = engine, folder / "key", folder
        self.now_s = 1_790_000_000.0
        self.calls = 0
        secret_files.read_or_make(self.path)
        self.secrets = [self.secret(suites[0])]
        self.seal(EACH - 1)
        self.keys = [self.key()]
        for suite in suites[1:]:
            log_keys.rotate(engine, self.path, CLEAR, suite, self.seal_once, lambda _: None)
            self.secrets.append(self.secret(suite))
            self.keys.append(self.key())
            self.seal(EACH - 1)

    def secret(self, suite: str) -> NoteSecret:
        (found,) = secret_files.read(self.path)
        return NoteSecret(INTERNATIONAL, found, suite)

    def seal(self, segments: int) -> None:
        for _ in range(segments):
            self.calls += 1
            with self.engine.begin() as connection:
                pending.add_calls(connection, [record(self.calls)], {})
            self.seal_once(self.secrets[-1])

    def seal_once(self, secret: NoteSecret) -> object:
        self.now_s += 1
        sealer = SegmentSealer(
            self.engine, INTERNATIONAL, secret, 1.0, lambda: self.now_s, idle_s=0.5
        )
        found = sealer.seal()
        assert found is not None
        return found

    def key(self) -> str:
        with db.reading(self.engine) as connection:
            note = log.latest_checkpoint(connection)
            assert note is not None
            return log_keys.public_key(connection, None, log.checkpoint_of(note).origin)

    def report(self, files: Files, **given: Any) -> dict[str, Any]:
        return audit_verify.report_of(packed(self.folder / "b.tar", files), **given)

    def exported(self) -> Files:
        return exported(self.engine, secret=self.secrets[-1])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("keys")
    engine = db.connect(f"sqlite:///{folder / 'x.db'}")
    db.migrate(engine)
    yield RotatedLog(engine, folder, (INTERNATIONAL.name, GM.name, DUAL, INTERNATIONAL.name))
    engine.dispose()


@pytest.fixture(scope="module")
def whole(made: RotatedLog) -> Files:
    return made.exported()


def wrong(report: dict[str, Any]) -> list[tuple[int | None, str]]:
    assert not report["verified"]
    return [(one["segment"], one["why"]) for one in report["problems"]]


def test_a_verifier_goes_from_key_to_key_from_whichever_it_knows(
    made: RotatedLog, whole: Files
) -> None:
    report = made.report(whole)
    assert report["verified"], report["problems"]
    sizes = [one["above"] for one in report["keys"]]
    assert sizes == [0, 3, 6, 9] and [one["key"] for one in report["keys"]] == made.keys
    for key in [*made.keys, *made.keys[2].split()]:
        assert made.report(whole, key=key)["verified"], key
    for index, at in enumerate(sizes):
        used = {segment.decode(one).key_id for one in headers(whole)[at : at + EACH]}
        assert used == {made.keys[index].split("+")[1]}
    stranger = NoteSecret(INTERNATIONAL, "y" * 43).public_key(report["log"])
    found = wrong(made.report(whole, key=stranger))
    assert any("no hand-over leads" in why for _, why in found)
    part = exported(made.engine, 1_790_000_006_500, secret=made.secrets[-1])
    assert made.report(part, key=made.keys[0])["verified"], "also of a part of it"


def test_what_is_taken_out_of_a_hand_over_or_changed_is_named(
    made: RotatedLog, whole: Files
) -> None:
    names = [name for name in whole if name.startswith("hand-overs/")]
    assert len(names) == 3
    without = {name: data for name, data in whole.items() if name not in names}
    found = wrong(made.report(without))
    assert (2, "here the log was handed over to a key that is not said to have it") in found
    fewer = {name: data for name, data in whole.items() if name != "hand-overs/2"}
    assert any("another key than it has" in why for _, why in wrong(made.report(fewer)))
    for number, size in enumerate((3, 6, 9)):
        note = whole[f"hand-overs/{number}"].decode()
        body, _, lines = note.rpartition("\n\n")
        kept = lines.split("\n")
        for line in kept[:-1]:
            rest = "\n".join(one for one in kept if one != line)
            changed = whole | {f"hand-overs/{number}": f"{body}\n\n{rest}".encode()}
            found = wrong(made.report(changed))
            said = [at for at, why in found if "hand-over of its key" in why]
            assert said == [size - 1], "who gives or takes has not signed"
            assert {at for at, _ in found} <= {size - 1, None}
        grown = note.replace(f"\n{size}\n", f"\n{size + 1}\n", 1)
        changed = whole | {f"hand-overs/{number}": grown.encode()}
        assert any("hand-over of its key" in why for _, why in wrong(made.report(changed)))
    other = whole["hand-overs/1"].replace(made.keys[2].split()[0].encode(), b"x+00000000+AAAA")
    assert not made.report(whole | {"hand-overs/1": other})["verified"]
    signer = made.secrets[0].signer(made.keys[0].partition("+")[0])
    body = whole["hand-overs/0"].decode().rpartition("\n\n")[0] + "\n"
    for keys, signers in (((made.keys[0],) * 5, 1), ((made.keys[0],) * 2, 2)):
        lines = [key_chain.MARK, *(f"old {key}" for key in keys[1:]), f"new {keys[0]}"]
        text = "\n".join((*body.split("\n")[:3], *lines, ""))
        twice = checkpoint.signed_text(text, *[signer] * signers).encode()
        (why, *_) = [why for _, why in wrong(made.report(whole | {"hand-overs/0": twice}))]
        assert "more than 4 keys" in why or "signature" in why, "who made it up sets the work"
    endless = {f"hand-overs/{n}": whole["hand-overs/0"] for n in range(1_001)}
    start = {name: whole[name] for name in ("bundle.json", "key")}
    assert "unreadable" in made.report(start | endless | whole)


def test_another_implementation_says_the_same_of_this_log_and_of_whatever_changes(
    made: RotatedLog, whole: Files
) -> None:
    for key in made.keys:
        assert audit_by_definition.is_right(whole, key)
    assert not audit_by_definition.is_right(
        whole, NoteSecret(INTERNATIONAL, "y" * 43).public_key("log")
    )
    chance = random.Random(11)
    for name, data in whole.items():
        if name == "proof":  # of parts alone; the other one makes the tree of the whole
            continue
        changed = bytearray(data)
        changed[chance.randrange(len(data))] ^= 1 << chance.randrange(7)
        for files in (
            whole | {name: bytes(changed)},
            {other: one for other, one in whole.items() if other != name},
        ):
            said = audit_by_definition.is_right(files, made.keys[0])
            report = made.report(files, key=made.keys[0])
            assert report["verified"] is said, (name, report["problems"])
    for secret in made.secrets[:3]:
        assert not audit_by_definition.is_right(signed_again(made, whole, secret), made.keys[3])


def signed_again(made: RotatedLog, files: Files, secret: NoteSecret) -> Files:
    """The checkpoint, and the last segment's header, of whoever has a key that was handed over."""
    origin = audit_verify.checkpoint_of(files["checkpoint"].decode())[0]
    lines = headers(files)
    last = segment.decode(lines[-1])
    fields = segment.msgspec.structs.replace(last, key_id=secret.signer(origin).key_id.hex())
    lines[-1] = segment.encode(fields)
    tree = merkle.subtrees_of(digest, [merkle.leaf_digest(digest, one) for one in lines])
    stated = Checkpoint(origin, len(lines), merkle.root(digest, len(lines), tree))
    proof = merkle.inclusion_proof(digest, len(lines) - 1, len(lines), tree)
    return files | {
        "headers/0": b"".join(line + b"\n" for line in lines),
        "checkpoint": checkpoint.signed(stated, *secret.signers(origin)).encode(),
        "proof": "".join(f"{one.hex()}\n" for one in proof).encode(),
    }


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_stolen_old_key_signs_nothing_beyond_its_hand_over(
    made: RotatedLog, whole: Files, which: int
) -> None:
    forged = signed_again(made, whole, made.secrets[which])
    for given in (None, *made.keys):
        found = wrong(made.report(forged, key=given))
        assert (10, "it is signed with a key that was not in force") in found
        assert (None, "the checkpoint is not signed with the key in force") in found or which == 2
    # The right one could have sealed it so.
    assert made.report(signed_again(made, whole, made.secrets[3]))["verified"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("size", [2, 3])
def test_a_stolen_old_key_signs_no_shorter_log_below_a_hand_over_that_is_shown(
    made: RotatedLog, whole: Files, size: int, first: int
) -> None:
    """The hand-over is anybody's to copy: with it, who knows the new key was led to the old one."""
    origin = audit_verify.checkpoint_of(whole["checkpoint"].decode())[0]
    lines = headers(whole)[:size]
    last = segment.decode(lines[-1])
    lines[-1] = segment.encode(segment.msgspec.structs.replace(last, until_ms=last.until_ms + 1))
    tree = merkle.subtrees_of(digest, [merkle.leaf_digest(digest, one) for one in lines])
    stated = Checkpoint(origin, size, merkle.root(digest, size, tree))
    proof = merkle.inclusion_proof(digest, size - 1, size, tree)
    about = {"v": 1, "log": origin, "first": first, "until": size, "size": size}
    forged = {
        "bundle.json": json.dumps(about).encode(),
        "key": made.keys[1].encode(),
        "hand-overs/0": whole["hand-overs/0"],
        "checkpoint": checkpoint.signed(stated, *made.secrets[0].signers(origin)).encode(),
        "proof": "".join(f"{one.hex()}\n" for one in proof).encode(),
        f"headers/{first}": b"".join(line + b"\n" for line in lines[first:]),
    } | {
        name: whole[name] for name in whole if name in {f"records/{n}" for n in range(first, size)}
    }
    for key in (None, made.keys[1]):
        found = wrong(made.report(forged, key=key))
        assert (None, "it was another log when it was handed over") in found
    if first == 0:
        assert not audit_by_definition.is_right(forged, made.keys[1])
    header, (line, *_) = headers(whole)[0], zlib.decompress(whole["records/0"]).split(b"\n")
    record_, _, part = line.decode().partition("\t")
    alone = Checkpoint(origin, 1, merkle.leaf_digest(digest, header))
    proof_of_one = {
        "v": 1, "log": origin, "key": made.keys[1], "hand_overs": [whole["hand-overs/0"].decode()],
        "checkpoint": checkpoint.signed(alone, *made.secrets[0].signers(origin)),
        "header": header.decode(), "header_proof": [], "position": 0, "record": record_,
        "record_proof": [], "platform": part,
    }  # fmt: skip
    report = audit_verify.verify_proof(json.dumps(proof_of_one).encode(), made.keys[1])
    assert [one["why"] for one in report["problems"]] == [
        "it was another log when it was handed over"
    ]


def test_a_kept_checkpoint_of_an_old_key_is_believed_for_its_time_alone(
    made: RotatedLog, whole: Files
) -> None:
    origin = audit_verify.checkpoint_of(whole["checkpoint"].decode())[0]
    leaves = [merkle.leaf_digest(digest, one) for one in headers(whole)]

    def kept(size: int, which: int) -> str:
        tree = merkle.subtrees_of(digest, leaves[:size])
        stated = Checkpoint(origin, size, merkle.root(digest, size, tree))
        return checkpoint.signed(stated, *made.secrets[which].signers(origin))

    for size, which in ((2, 0), (3, 0), (4, 1), (6, 1), (7, 2), (11, 3)):
        assert made.report(whole, former=kept(size, which))["verified"], (size, which)
        earlier = kept(size, (which + 1) % 3 if which < 3 else 0)
        assert not made.report(whole, former=earlier)["verified"], (size, which)


def test_a_rotation_goes_on_where_it_was_interrupted(engine: Engine, tmp_path: Path) -> None:
    made = RotatedLog(engine, tmp_path, (INTERNATIONAL.name,))

    class Killed(Exception):
        pass

    def die(_: NoteSecret) -> None:
        raise Killed

    with pytest.raises(Killed):
        log_keys.rotate(engine, made.path, CLEAR, INTERNATIONAL.name, die)
    both = secret_files.read(made.path)
    assert len(both) == 2
    made.seal_once(NoteSecret(INTERNATIONAL, both[0], former=both[1:]))  # control goes on
    note = log_keys.rotate(engine, made.path, CLEAR, INTERNATIONAL.name, made.seal_once)
    assert secret_files.read(made.path) == both[:1], "the old one is destroyed"
    made.secrets.append(made.secret(INTERNATIONAL.name))
    made.seal(2)
    assert key_chain.new_keys(note) == (made.key(),)
    report = made.report(made.exported(), key=made.keys[0])
    assert report["verified"] and [one["above"] for one in report["keys"]] == [0, 3]
    with pytest.raises(NotSealed, match="same key file"):
        made.seal_once(made.secrets[0])


def test_a_log_of_others_or_none_is_not_handed_over(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "other"
    secret_files.read_or_make(path)

    def rotate() -> str:
        return log_keys.rotate(engine, path, CLEAR, INTERNATIONAL.name, lambda _: None)

    with pytest.raises(NotHandedOver, match="nothing is sealed"):
        rotate()
    RotatedLog(engine, tmp_path, (INTERNATIONAL.name,))
    before = path.read_bytes()
    with pytest.raises(NotHandedOver, match="no secret"):
        rotate()
    assert path.read_bytes() == before
