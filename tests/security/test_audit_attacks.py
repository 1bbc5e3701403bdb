"""The sixteen attacks on the audit log, as one table: how each is done, who has to find it, in which
segment, by which words; and five rows of what is found out without a witness and with one.

Each judge first sees a log that nobody touched and finds nothing: it does not say so of any log.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from sqlalchemy import delete, event, update

from tests.cli.test_audit_verify import (
    Files,
    cut_off,
    exported,
    headers,
    lines_of,
    packed,
    root_of,
    with_header,
    with_records,
)
from tests.control.audit.test_witness import WitnessedLog
from tests.house.tree import ROOT
from tests.records import record
from tests.security.platform import platform
from tokenschain.cli import audit_verify
from tokenschain.control.api.content import archive_of
from tokenschain.control.audit import log, pending
from tokenschain.control.audit.log import NotSealed, SegmentSealer
from tokenschain.control.audit.witness import Witness, WitnessRefused
from tokenschain.control.content import erasure
from tokenschain.core.audit import content, merkle, records
from tokenschain.core.audit.content import ContentBody, ContentRecord
from tokenschain.core.snapshot.kept_content import KeptContent
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.audit_tables import (
    audit_checkpoints,
    audit_keys,
    audit_segments,
)
from tokenschain.infra.security import case_texts, receipts
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

digest = INTERNATIONAL.digest
SEGMENTS = 8
Found = list[tuple[int | None, str]]
"""Segment and words of each problem."""


class Scene:
    """A log with its witness, an export of it, and what both find wrong."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.empty = folder / "empty.db"
        engine = db.connect(f"sqlite:///{self.empty}")
        db.migrate(engine)
        engine.dispose()
        self.log = WitnessedLog(folder)
        self.log.seal(SEGMENTS - 1)
        assert self.log.cosign() == []
        self.kept = self.log.last_cosigned()
        self.files = exported(self.log.engine)
        self.content = self.log.content()
        self._names = itertools.count()
        shutil.copytree(self.log.folder, folder / "as it was")

    def new_folder(self) -> Path:
        made = self.folder / f"f{next(self._names)}"
        made.mkdir()
        return made

    def judged(self, files: Files, former: str | None = None, **given: Any) -> Found:
        """What the offline verifier says."""
        path = packed(self.new_folder() / "b.tar", files)
        report = audit_verify.report_of(path, self.log.key(), former, **given)
        found = [(one["segment"], one["why"]) for one in report["problems"]]
        assert report["verified"] is (not found)
        return found

    def put_back(self) -> None:
        """The database, as it was before anybody touched it."""
        self.log.put_back(self.content)

    def put_witness_back(self) -> None:
        shutil.rmtree(self.log.folder)
        shutil.copytree(self.folder / "as it was", self.log.folder)

    def witnessed(self) -> Found:
        """What the log's control says of its witness."""
        return [(None, f"{event}: {why}") for event, why in self.log.cosign()]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    made = Scene(tmp_path_factory.mktemp("attacks"))
    yield made
    made.log.engine.dispose()


class Attack(NamedTuple):
    """One of the table."""

    number: int
    name: str
    harm: Callable[[Scene], Found]
    segment: int | None
    """That has to be named; None: what is wrong is of no segment."""
    words: str


# --- how each is done ------------------------------------------------------------------------


def flipped_byte(scene: Scene) -> Found:
    chance = random.Random(7)
    data = bytearray(b"\n".join(lines_of(scene.files, 4)))
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return scene.judged(scene.files | {"records/4": zlib.compress(bytes(data))})


def rows_changed(change: Callable[[list[bytes], bytes], list[bytes]]) -> Callable[[Scene], Found]:
    def harm(scene: Scene) -> Found:
        lines = [line for line in lines_of(scene.files, 4)]
        made = change(lines, lines_of(scene.files, 5)[0])
        return scene.judged(with_records(scene.files, 4, made))

    return harm


def truncated(scene: Scene) -> Found:
    """The tail is cut off in the database, and the checkpoint of then put back."""
    scene.put_back()
    with db.reading(scene.log.engine) as connection:
        before = log.latest_checkpoint(connection)
    assert before is not None
    size = SEGMENTS
    scene.log.seal(3)
    assert scene.log.cosign() == []
    kept = scene.log.last_cosigned()
    cut_off(scene.log.engine, size, before)
    files = exported(scene.log.engine)
    assert scene.judged(files) == [], "by itself it is whole: that is why there is a witness"
    assert any("cut off" in why for _, why in scene.witnessed())
    return scene.judged(files, former=kept)


def rewritten(secret: NoteSecret | None) -> Callable[[Scene], Found]:
    """From segment 6 on it is sealed anew, with the log's key or with one of the attacker's."""

    def harm(scene: Scene) -> Found:
        scene.put_back()
        cut_off(scene.log.engine, 6, scene.kept)
        with scene.log.engine.begin() as connection:
            connection.execute(delete(audit_checkpoints))
            if secret is not None:
                connection.execute(delete(audit_keys))
        own, scene.log.secret = scene.log.secret, secret or scene.log.secret
        try:
            scene.log.seal(SEGMENTS - 6, tenant="rewritten")
        finally:
            scene.log.secret = own
        files = exported(scene.log.engine)
        if secret is not None:
            return scene.judged(files)
        assert scene.judged(files) == []
        assert any("contradicts" in why for _, why in scene.witnessed())
        return scene.judged(files, former=scene.kept)

    return harm


def split_view(scene: Scene) -> Found:
    """Two heads of one size: the witness takes the first, and both together are the proof."""
    scene.put_back()
    scene.log.seal(1, tenant="mine")
    assert scene.log.cosign() == []
    first = scene.log.last_cosigned()
    scene.put_back()
    scene.log.seal(1, tenant="yours")
    assert any("another log" in why for _, why in scene.witnessed())
    return scene.judged(exported(scene.log.engine), former=first)


def clock_rolled_back(scene: Scene) -> Found:
    scene.put_back()
    sealer = SegmentSealer(scene.log.engine, INTERNATIONAL, scene.log.secret, 1.0, lambda: 1.0)
    with pytest.raises(NotSealed, match="behind the last segment"):
        sealer.seal()
    return scene.judged(with_header(scene.files, 5, until_ms=1))


def torn_segment(scene: Scene) -> Found:
    """The sealer dies at each step; then what it might have left half is looked at."""
    scene.put_back()

    class Died(Exception):
        pass

    for table in ("audit_segments", "audit_nodes", "audit_checkpoints"):

        def die(_c: object, _cur: object, said: str, *_: object, table: str = table) -> None:
            if said.startswith(f"INSERT INTO {table}"):
                raise Died

        event.listen(scene.log.engine, "after_cursor_execute", die)
        try:
            with pytest.raises(Died):
                scene.log.seal(2)
        finally:
            event.remove(scene.log.engine, "after_cursor_execute", die)
        assert scene.judged(exported(scene.log.engine)) == [], "nothing is half there"
    return scene.judged(with_records(scene.files, 5, [lines_of(scene.files, 5)[0][:-9]]))


def numbered(scene: Scene, left_out: set[int]) -> Files:
    """Another log, of a gateway that numbers its nine calls, some of which never arrive."""
    engine = db.connect(f"sqlite:///{shutil.copy(scene.empty, scene.new_folder())}")
    now = [1_790_000_000.0]
    sealer = SegmentSealer(engine, INTERNATIONAL, scene.log.secret, 1.0, lambda: now[0], idle_s=0.5)
    for first in (1, 4, 7):
        now[0] += 1
        calls = [
            record(n, gateway="gw-1", sequence=n, started_ms=int(now[0] * 1e3))
            for n in range(first, first + 3)
            if n not in left_out
        ]
        with engine.begin() as connection:
            pending.add_calls(connection, calls, {})
        assert sealer.seal() is not None
    now[0] += 7_200
    assert sealer.seal() is not None
    files = exported(engine)
    engine.dispose()
    return files


def lost_journal(scene: Scene) -> Found:
    assert own_key(scene, numbered(scene, set())) == []
    return own_key(scene, numbered(scene, {5}))


def own_key(scene: Scene, files: Files, **given: Any) -> Found:
    path = packed(scene.new_folder() / "b.tar", files)
    report = audit_verify.report_of(path, **given)
    return [(one["segment"], one["why"]) for one in report["problems"]]


def left_out_before_sealing(scene: Scene) -> Found:
    """The last call is taken out before it is sealed, and its number with it; its receipt is not."""
    secrets = ("i" * 43,)
    issue = receipts.issuer(INTERNATIONAL, lambda: secrets, "gw-1")
    answered = record(9, gateway="gw-1", sequence=9, started_ms=1_790_000_003_000)
    receipt = issue(answered)
    assert own_key(scene, numbered(scene, set()), receipt=receipt) == []
    files = numbered(scene, {9})
    assert own_key(scene, files) == [], "the log itself does not know of it"
    other = record(9, gateway="gw-1", sequence=9, started_ms=1_790_000_003_000, tenant="t2")
    changed = own_key(scene, numbered(scene, set()), receipt=issue(other))
    assert changed == [(2, "its record says another thing than the caller was told")]
    return own_key(scene, files, receipt=receipt)


def witness_put_back(scene: Scene) -> Found:
    scene.put_back()
    copy = shutil.copytree(scene.log.folder, scene.new_folder() / "copy")
    for _ in range(2):
        scene.log.seal(1)
        assert scene.log.cosign() == []
    found = [(None, f"{event}: {why}") for event, why in scene.log.cosign(folder=copy)]
    for path in copy.glob("logs/*/note"):
        path.unlink()
    with pytest.raises(WitnessRefused, match="must not go on"):
        Witness(INTERNATIONAL, copy)
    return found


def of_another_log(scene: Scene) -> Found:
    other = WitnessedLog(scene.new_folder())
    other.seal(SEGMENTS - 1)
    files = exported(other.engine)
    other.engine.dispose()
    swapped = scene.judged(scene.files | {"checkpoint": files["checkpoint"]})
    assert swapped and swapped[0][0] in (None, SEGMENTS - 1)
    lines = headers(scene.files)
    lines[6] = headers(files)[6]
    return scene.judged(scene.files | {"headers/0": b"".join(one + b"\n" for one in lines)})


def of_another_tenant(scene: Scene) -> Found:
    lines = lines_of(scene.files, 4)
    assert b'"tenant":"t1"' in lines[0]
    changed = lines[0].replace(b'"tenant":"t1"', b'"tenant":"t2"')
    return scene.judged(with_records(scene.files, 4, [changed, *lines[1:]]))


def node_as_leaf(scene: Scene) -> Found:
    """The tree over two records is offered as one whose bytes are its two digests."""
    files = numbered(scene, set())
    leaves = [merkle.leaf_digest(digest, records.split(one)[0]) for one in lines_of(files, 1)]
    node = leaves[0] + leaves[1]
    return own_key(scene, with_records(files, 1, [node, lines_of(files, 1)[2]]))


CORPUS = (
    (b'"status":200', b'"status":200.0'),
    (b'"status":200', b'"status":2e2'),
    (b'"status":200', b'"status": 200'),
    (b'"outcome":"ok"', b'"outcome":"\\u006fk"'),
    (b'"outcome":"ok"', b'"outcome":"ok","outcome":"ok"'),
    (b'"account":"","api":"chat/completions"', b'"api":"chat/completions","account":""'),
    (b'"outcome":"ok"', b'"outcome":"e\xcc\x81"'),
    (b'"status":200', b'"status":99999999999999999999'),
)


def read_in_two_ways(scene: Scene) -> Found:
    """The same record in other bytes, sealed as if it had been so: each is refused by itself."""
    found: Found = []
    for before, after in CORPUS:
        lines = lines_of(scene.files, 4)
        assert before in lines[0], before
        lines[0] = lines[0].replace(before, after, 1)
        files = with_header(with_records(scene.files, 4, lines), 4, root=root_of(lines))
        said = [one for one in scene.judged(files) if "record 0 is" in one[1]]
        assert said, after
        found += said[:1]
    return found


def downgraded(scene: Scene) -> Found:
    return scene.judged(with_header(scene.files, 4, suite="sha1"))


def abused_verifier(scene: Scene) -> Found:
    found = scene.judged(scene.files | {"proof": ("00" * 32 + "\n").encode() * 64})
    assert any("no proof of inclusion" in why for _, why in found)
    found = scene.judged(with_header(scene.files, 5, count=10**9))
    assert any("more records than" in why for _, why in found)
    notes = {f"hand-overs/{n}": b"x" for n in range(audit_verify.HAND_OVERS_MAX + 1)}
    start = {name: scene.files[name] for name in ("bundle.json", "key")}
    assert scene.judged(start | notes | scene.files)
    deep = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    assert scene.judged(with_records(scene.files, 5, [deep]))
    before, audit_verify.FILE_BYTES_MAX = audit_verify.FILE_BYTES_MAX, 100_000
    try:  # ten kilobytes that become ten megabytes
        return scene.judged(with_records(scene.files, 4, [b"x" * 10_000_000]))
    finally:
        audit_verify.FILE_BYTES_MAX = before


ATTACKS = [
    Attack(1, "a byte of a record is flipped", flipped_byte, 4, "record|sealed"),
    Attack(2, "a record is deleted", rows_changed(lambda own, other: []), 4, "no JSON"),
    Attack(2, "one is inserted", rows_changed(lambda own, other: [*own, other]), 4, "2 records"),
    Attack(2, "another stands there", rows_changed(lambda own, other: [other]), 4, "sealed"),
    Attack(2, "one stands twice", rows_changed(lambda own, other: own * 2), 4, "2 records"),
    Attack(3, "the tail is cut off", truncated, SEGMENTS, "the log was longer"),
    Attack(4, "rewritten with the key", rewritten(None), SEGMENTS - 1, "it was rewritten"),
    Attack(
        4,
        "rewritten with another key",
        rewritten(NoteSecret(INTERNATIONAL, "e" * 43)),
        None,
        "not signed with the key",
    ),
    Attack(5, "two heads of one size", split_view, SEGMENTS, "it was rewritten"),
    Attack(6, "the clock is set back", clock_rolled_back, 5, "the clock ran back"),
    Attack(7, "the sealer dies at each step", torn_segment, 5, "record 0 is"),
    Attack(8, "a gateway loses its journal", lost_journal, 1, "calls 5 to 5 of gateway"),
    Attack(9, "left out before sealing", left_out_before_sealing, None, "receipt is missing"),
    Attack(10, "the witness is put back", witness_put_back, None, "its state was put back"),
    Attack(11, "a segment of another log", of_another_log, 6, "a segment of another log"),
    Attack(11, "a record of another tenant", of_another_tenant, 4, "not those that were sealed"),
    Attack(12, "a node for a record", node_as_leaf, 1, "record"),
    Attack(13, "JSON read in two ways", read_in_two_ways, 4, "record 0 is"),
    Attack(14, "another suite", downgraded, 4, "another suite"),
    Attack(16, "a verifier that is to be exhausted", abused_verifier, 4, "too long"),
]
"""Number 15 is a test of its own below: it needs kept content and its keys."""


def test_the_table_has_all_sixteen() -> None:
    assert {one.number for one in ATTACKS} | {15} == set(range(1, 17))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda one: f"{one.number} {one.name}")
def test_each_attack_is_found_and_the_segment_named(scene: Scene, attack: Attack) -> None:
    scene.put_back()
    assert scene.judged(scene.files, former=scene.kept) == [], "nobody touched it"
    scene.put_witness_back()
    found = attack.harm(scene)
    said = [at for at, why in found if re.search(attack.words, why)]
    assert said and set(said) == {attack.segment}, found


# --- 15: content that was erased --------------------------------------------------------------


def guessed(commitment: bytes, guesses: list[bytes], haystack: bytes) -> bool:
    """Whether somebody with all bytes of a database finds what was said: each 32 of them that
    follow one another may be the salt, or there is none."""
    for one in guesses:
        said = content.INPUT + one
        if commitment in (INTERNATIONAL.mac(b"", said), digest(one), digest(said)):
            return True
        mac = INTERNATIONAL.mac
        for at in range(len(haystack)):
            window = haystack[at : at + content.SALT_BYTES]
            # What is random is no text, and has hardly a zero in it.
            if not window.isascii() and window.count(0) < 4 and mac(window, said) == commitment:
                return True
    return False


def test_15_erased_content_is_not_found_by_trying(tmp_path: Path) -> None:
    with platform(tmp_path) as house:
        context = house.app.state.context
        salt, said = os.urandom(content.SALT_BYTES), b'"13812345678"'
        body = ContentBody(salt, said, b"{}")
        committed = content.commitments(INTERNATIONAL.mac, body)
        place = case_texts.content_place_of("acme", "req_15")
        sealed = context.sealer.seal(place, content.encode(body))
        made = ContentRecord(
            "req_15", 1_790_000_000_000, "acme", "p", KeptContent.FULL, False, *committed, sealed
        )
        archive = archive_of(context, house.app.state.internal.cases.shared)
        assert archive.enter([content.encode(made)]) == 1
        opened = house.operator("POST", "/audit-log/content/req_15/open", {"reason": "x"}).json()
        assert bytes.fromhex(opened["salt"]) == salt
        # Who has the salt finds it at once: it is the salt that has to go.
        assert guessed(committed[0], [said], b"junk" + salt)
        assert guessed(digest(said), [said], b""), "an unsalted digest falls at once"
        house.have_tenants("acme")
        wanted = {"tenant": "acme", "reason": "asked for"}
        assert house.operator("POST", "/content-erasures", wanted).json()["contents"] == 1
        erasure.clean(house.engine)
        house.engine.dispose()
        everything = b"".join(
            path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()
        )
        assert committed[0] in everything or committed[0].hex().encode() in everything
        assert salt not in everything and salt.hex().encode() not in everything
        assert said[1:-1] not in everything
        database = (tmp_path / "tokenschain.db").read_bytes()
        assert not guessed(committed[0], [said], database)
        gone = house.operator("POST", "/audit-log/content/req_15/open", {"reason": "x"})
        assert gone.status_code == 404


# --- the five rows of what is found out --------------------------------------------------------


def rows_harmed(scene: Scene, kind: str) -> Files:
    """Rows of the database are changed, and no digest."""
    made: dict[str, Callable[[Files], list[bytes]]] = {
        "edit": lambda f: [lines_of(f, 4)[0].replace(b'"status":200', b'"status":500')],
        "delete": lambda f: [],
        "reorder": lambda f: lines_of(f, 5),
        "insert": lambda f: [*lines_of(f, 4), lines_of(f, 5)[0]],
    }
    changed = with_records(scene.files, 4, made[kind](scene.files))["records/4"]
    scene.put_back()
    with scene.log.engine.begin() as connection:
        row = update(audit_segments).where(audit_segments.c.number == 4)
        connection.execute(row.values(records=changed))
    return exported(scene.log.engine)


KINDS = ("edit", "delete", "reorder", "insert")


class Measured:
    """What is found out of each row, without a witness and with one."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.rows: dict[str, tuple[bool, bool]] = {}

    def enter(self, name: str, files: list[Files], kept: str) -> None:
        alone = [bool(self.scene.judged(one)) for one in files]
        beside = [bool(self.scene.judged(one, former=kept)) for one in files]
        assert len(set(alone)) == len(set(beside)) == 1, (name, alone, beside)
        self.rows[name] = alone[0], beside[0]


def measured(scene: Scene) -> dict[str, tuple[bool, bool]]:
    """Each row of the matrix, done to a real log in SQLite."""
    found = Measured(scene)
    whole, kept = scene.files, scene.kept
    found.enter("nothing", [whole], kept)
    found.enter("rows", [rows_harmed(scene, kind) for kind in KINDS], kept)
    tail = b"".join(line + b"\n" for line in headers(whole)[:-2])
    cut = {n: d for n, d in whole.items() if n not in (f"records/{k}" for k in (6, 7))}
    shorter = cut | {"headers/0": tail}
    said = msgspec.json.decode(whole["bundle.json"]) | {"until": SEGMENTS - 2, "size": SEGMENTS - 2}
    found.enter("tail, rows", [shorter | {"bundle.json": json.dumps(said).encode()}], kept)
    found.enter("digests anew", [anew(scene, kind, "e") for kind in KINDS], kept)
    # The old head is of the same size as the log that is left.
    scene.put_back()
    early = exported(scene.log.engine)["checkpoint"].decode()
    scene.log.seal(3)
    scene.put_witness_back()
    assert scene.log.cosign() == []
    later = scene.log.last_cosigned()
    cut_off(scene.log.engine, SEGMENTS, early)
    found.enter("tail, old head", [exported(scene.log.engine)], later)
    found.enter("stolen key", [anew(scene, kind, "x") for kind in KINDS], kept)
    return found.rows


def anew(scene: Scene, kind: str, letter: str) -> Files:
    """From segment 4 on all is sealed anew, otherwise than it was."""
    scene.put_back()
    cut_off(scene.log.engine, 4, scene.kept)
    with scene.log.engine.begin() as connection:
        connection.execute(delete(audit_keys))
        connection.execute(delete(audit_checkpoints))
    own = scene.log.secret
    scene.log.secret = NoteSecret(INTERNATIONAL, letter * 43)
    written: dict[str, Callable[[], None]] = {
        "edit": lambda: scene.log.seal(4, tenant="other"),
        "delete": lambda: scene.log.seal(5),
        "reorder": lambda: scene.log.seal(4),
        "insert": lambda: scene.log.seal(6),
    }
    try:
        written[kind]()
        return exported(scene.log.engine)
    finally:
        scene.log.secret = own


MATRIX = {
    "nothing": (False, False),
    "rows": (True, True),
    "tail, rows": (True, True),
    "digests anew": (True, True),
    "tail, old head": (False, True),
    "stolen key": (False, True),
}
IN_THE_GUIDE = {
    "rows": "a record is changed, deleted, inserted or moved",
    "tail, rows": "the newest segments are deleted",
    "digests anew": "all digests are computed anew, without the signing key",
    "tail, old head": "the newest segments are cut off and an older checkpoint is put back",
    "stolen key": "the log is written anew with the stolen signing key",
}


def test_what_is_found_out_without_a_witness_and_with_one_and_the_guide_says_so(
    scene: Scene,
) -> None:
    found = measured(scene)
    assert found == MATRIX
    guide = (ROOT / "docs/guides/audit.md").read_text("utf-8")
    told = {
        cells[0].strip(): tuple(cell.strip() == "yes" for cell in cells[1:3])
        for line in guide.splitlines()
        if len(cells := line.strip("|").split("|")) == 3
    }
    assert {name: told[words] for name, words in IN_THE_GUIDE.items()} == {
        name: found[name] for name in IN_THE_GUIDE
    }
