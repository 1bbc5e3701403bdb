"""A log and its witness over a socket: what the log alone cannot show, the witness does."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, insert, select, update

from tests.cli.test_audit_verify import exported, packed
from tests.records import record
from tokenschain.cli import audit_verify
from tokenschain.control.audit import cosigning, log, pending, witness
from tokenschain.control.audit.cosigning import CosigningJob
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.control.audit.witness import Witness, WitnessRefused
from tokenschain.control.observability import alerts as alerting
from tokenschain.core.audit import checkpoint
from tokenschain.core.errors import wire_refusal
from tokenschain.infra.config.audit import AuditSettings
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.audit_tables import (
    audit_checkpoints,
    audit_keys,
    audit_nodes,
    audit_pending,
    audit_segments,
)
from tokenschain.infra.database.tables import alerts
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.wire.client import HttpClient
from tokenschain.wire.server import HttpServer
from tokenschain.wiring.witness import WitnessApi

SECRET = NoteSecret(INTERNATIONAL, "x" * 43)
TABLES = (audit_segments, audit_nodes, audit_checkpoints, audit_pending, audit_keys)


class WitnessedLog:
    """A log, and a witness that follows it."""

    def __init__(self, folder: Path, suite: str = "international") -> None:
        self.engine = db.connect(f"sqlite:///{folder / 'x.db'}")
        db.migrate(self.engine)
        self.folder = folder / "witness"
        self.now_s = 1_790_000_000.0
        self.calls = 0
        self.said: list[tuple[str, str]] = []
        self.secret = SECRET
        self.seal()
        witness.create(self.folder, "w.example", suite)
        witness.follow(INTERNATIONAL, self.folder, self.key())

    def key(self) -> str:
        with db.reading(self.engine) as connection:
            note = log.latest_checkpoint(connection)
        assert note is not None
        return self.secret.public_key(log.checkpoint_of(note).origin)

    def seal(self, segments: int = 1, tenant: str = "t1") -> None:
        sealer = SegmentSealer(
            self.engine, INTERNATIONAL, self.secret, 1.0, lambda: self.now_s, idle_s=0.5
        )
        for _ in range(segments):
            self.now_s += 1
            self.calls += 1
            with self.engine.begin() as connection:
                pending.add_calls(connection, [record(self.calls, tenant=tenant)], {})
            assert sealer.seal() is not None

    def cosign(self, *, up: bool = True, folder: Path | None = None) -> list[tuple[str, str]]:
        """What is said while the witness is asked once."""
        self.said.clear()
        asyncio.run(self._cosign(up, folder or self.folder))
        return list(self.said)

    async def _cosign(self, up: bool, folder: Path) -> None:
        found = Witness(INTERNATIONAL, folder)
        server = HttpServer(WitnessApi(found), wire_refusal)
        port = await server.listen("127.0.0.1", 0)
        if not up:
            await server.drain(1)
        job = CosigningJob(
            self.engine, INTERNATIONAL, [f"http://127.0.0.1:{port} {found.key()}"], HttpClient(),
            lambda event, why="", **_: self.said.append((event, why)),
        )  # fmt: skip
        await job.ask_all()
        await job.ask_all()
        if up:
            await server.drain(1)

    def report(self, tmp: Path, *, witnessed: bool, former: str | None = None) -> dict[str, Any]:
        keys = [Witness(INTERNATIONAL, self.folder).key()] if witnessed else []
        path = packed(tmp, exported(self.engine, secret=self.secret))
        return audit_verify.report_of(path, self.key(), former, keys)

    def last_cosigned(self) -> str:
        (note,) = Witness(INTERNATIONAL, self.folder).notes()
        return note

    def content(self) -> list[list[dict[str, Any]]]:
        with self.engine.connect() as connection:
            return [
                [dict(row) for row in connection.execute(select(table)).mappings()]
                for table in TABLES
            ]

    def put_back(self, content: list[list[dict[str, Any]]]) -> None:
        """What an administrator of the database does with an older copy of it."""
        with self.engine.begin() as connection:
            for table, rows in zip(TABLES, content, strict=True):
                connection.execute(delete(table))
                if rows:
                    connection.execute(insert(table), rows)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[WitnessedLog]:
    found = WitnessedLog(tmp_path)
    yield found
    found.engine.dispose()


def test_a_log_is_cosigned_as_it_grows_and_verifiers_see_it(
    made: WitnessedLog, tmp_path: Path
) -> None:
    for size in (1, 2, 5, 12):
        made.seal(size)
        assert made.cosign() == []
    report = made.report(tmp_path / "b.tar", witnessed=True)
    assert report["verified"], report
    assert [one["size"] for one in report["cosigned"]] == [21]
    with made.engine.connect() as connection:
        notes = connection.execute(select(audit_checkpoints.c.note)).scalars().all()
    assert len(notes) == 1, "of an hour, the latest"
    made.seal(2)
    assert made.report(tmp_path / "b.tar", witnessed=True)["verified"], "and goes on between"
    other = NoteSecret(INTERNATIONAL, "z" * 43).witness_key("w.example")
    path = packed(tmp_path / "b.tar", exported(made.engine))
    assert not audit_verify.report_of(path, made.key(), None, [other])["verified"]


def test_a_witness_that_is_down_stops_nothing_and_is_said_once(made: WitnessedLog) -> None:
    made.seal(3)
    ((event, why),) = made.cosign(up=False)
    assert event == "audit_witness_failed" and "ConnectFailed" in why
    made.seal(3)
    assert made.cosign() == []


@pytest.mark.parametrize(("quorum", "alerted"), [(0, True), (2, True), (1, False)])
def test_fewer_witnesses_than_the_quorum_are_an_alert(
    made: WitnessedLog, quorum: int, alerted: bool
) -> None:
    made.seal(1)

    async def asked() -> None:
        up = Witness(INTERNATIONAL, made.folder)
        server = HttpServer(WitnessApi(up), wire_refusal)
        port = await server.listen("127.0.0.1", 0)
        down = NoteSecret(INTERNATIONAL, "d" * 43).witness_key("down.example")
        now = [1_790_000_000.0]
        job = CosigningJob(
            made.engine, INTERNATIONAL,
            [f"http://127.0.0.1:{port} {up.key()}", f"http://127.0.0.1:1 {down}"],
            HttpClient(), lambda *_, **__: None, quorum=quorum, alert=alerting.audit_unwitnessed, clock=lambda: now[0],
        )  # fmt: skip
        await job.ask_all()
        with made.engine.connect() as connection:
            assert connection.execute(select(alerts.c.kind)).all() == [], "it may be a restart"
        now[0] += 601
        for _ in range(2):
            await job.ask_all()
        await server.drain(1)

    asyncio.run(asked())
    with made.engine.connect() as connection:
        found = connection.execute(select(alerts.c.kind, alerts.c.detail)).all()
    assert [row.kind for row in found] == ["audit_unwitnessed"] * alerted
    assert all("down.example" in row.detail for row in found)


def test_a_witness_goes_on_where_it_was_after_a_kill_and_two_have_no_one_folder(
    made: WitnessedLog,
) -> None:
    made.seal(4)
    assert made.cosign() == []
    aside = next((made.folder / "logs").iterdir()) / "note.new"
    aside.write_text("half", "utf-8")  # it died while it wrote
    made.seal(4)
    assert made.cosign() == []
    with pytest.raises(WitnessRefused, match="already"):
        witness.create(made.folder, "w.example")
    with pytest.raises(WitnessRefused, match="followed already"):
        witness.follow(INTERNATIONAL, made.folder, made.key())


# --- the attacks that a log alone does not show ----------------------------------------------


def test_segments_that_are_cut_off_are_what_the_witness_has_seen(
    made: WitnessedLog, tmp_path: Path
) -> None:
    made.seal(3)
    assert made.cosign() == []
    before = made.content()
    made.seal(4)
    assert made.cosign() == []
    made.put_back(before)
    assert made.report(tmp_path / "b.tar", witnessed=False)["verified"], "by itself it is whole"
    report = made.report(tmp_path / "b.tar", witnessed=True, former=made.last_cosigned())
    assert report["problems"][0]["segment"] == 4 and "was longer" in report["problems"][0]["why"]
    ((event, why), *_) = made.cosign()
    assert event == "audit_witness_contradicts" and "cut off" in why
    made.seal(9, tenant="other")  # longer again, otherwise than it was
    ((event, why), *_) = made.cosign()
    assert event == "audit_witness_contradicts" and "does not begin" in why


@pytest.mark.parametrize("attack", ["edit", "delete", "insert", "reorder"])
def test_what_is_written_anew_with_the_stolen_key_is_not_what_was_cosigned(
    made: WitnessedLog, tmp_path: Path, attack: str
) -> None:
    before = made.content()
    made.seal(6)
    assert made.cosign() == []
    kept = made.last_cosigned()
    made.put_back(before)
    written: dict[str, Callable[[], None]] = {
        "edit": lambda: made.seal(6, tenant="other"),
        "delete": lambda: made.seal(5),
        "insert": lambda: made.seal(7),
        "reorder": lambda: made.seal(6),
    }
    written[attack]()
    assert made.report(tmp_path / "b.tar", witnessed=False)["verified"], "the key is right"
    assert not made.report(tmp_path / "b.tar", witnessed=True)["verified"], "nobody cosigned it"
    assert not made.report(tmp_path / "b.tar", witnessed=False, former=kept)["verified"]
    ((event, _), *_) = made.cosign()
    assert event == "audit_witness_contradicts"


def test_of_two_heads_of_one_size_one_is_cosigned(made: WitnessedLog) -> None:
    before = made.content()
    made.seal(2)
    assert made.cosign() == []
    first = made.last_cosigned()
    made.put_back(before)
    made.seal(2, tenant="other")
    with db.reading(made.engine) as connection:
        second = log.latest_checkpoint(connection)
    assert second is not None
    assert log.checkpoint_of(first).size == log.checkpoint_of(second).size
    ((event, why), *_) = made.cosign()
    assert event == "audit_witness_contradicts" and "another log" in why
    assert made.last_cosigned() == first, "both are signed by the log: that is the proof"


def test_a_witness_whose_state_was_put_back_is_said_and_one_without_it_does_not_start(
    made: WitnessedLog, tmp_path: Path
) -> None:
    made.seal(2)
    assert made.cosign() == []
    shutil.copytree(made.folder, tmp_path / "copy")
    made.seal(3)
    assert made.cosign() == []
    made.seal(1)
    ((event, why),) = made.cosign(folder=tmp_path / "copy")
    assert event == "audit_witness_contradicts" and "put back" in why
    for path in (tmp_path / "copy").glob("logs/*/note"):
        path.unlink()
    with pytest.raises(WitnessRefused, match="must not go on"):
        Witness(INTERNATIONAL, tmp_path / "copy")


def test_an_edit_of_rows_alone_is_found_without_a_witness(
    made: WitnessedLog, tmp_path: Path
) -> None:
    made.seal(3)
    with made.engine.begin() as connection:
        c = audit_segments.c
        rows = connection.execute(select(c.records).where(c.number == 2)).scalar_one()
        connection.execute(update(audit_segments).where(c.number == 1).values(records=rows))
    report = made.report(tmp_path / "b.tar", witnessed=False)
    assert [one["segment"] for one in report["problems"]] == [1]


def test_a_checkpoint_of_another_log_or_an_unknown_one_is_refused(
    made: WitnessedLog, tmp_path: Path
) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    other = WitnessedLog(folder)
    other.seal(2)
    ((event, why),) = other.cosign(folder=made.folder)
    other.engine.dispose()
    assert event == "audit_witness_failed" and "404" in why


def test_a_witness_of_the_settings_has_an_address_and_a_key(made: WitnessedLog) -> None:
    key = Witness(INTERNATIONAL, made.folder).key()
    assert cosigning.address_of(f"https://w.example/ {key}").url == "https://w.example"
    for wrong in (key, f"ftp://w.example {key}", "https://w.example", f"https://w {made.key()}"):
        with pytest.raises(ValueError, match=r"witness|no public key"):
            cosigning.address_of(wrong)


def test_a_witness_of_the_gm_suite_cosigns_with_sm2(tmp_path: Path) -> None:
    made = WitnessedLog(tmp_path, "gm")
    made.seal(2)
    assert made.cosign() == []
    report = made.report(tmp_path / "b.tar", witnessed=True, former=made.last_cosigned())
    made.engine.dispose()
    assert report["verified"] and [one["size"] for one in report["cosigned"]] == [3]
    assert len(report["cosigned"][0]["witness"].split("+", 2)[2]) > 100, "an SM2 key"
    named = {"witnesses": [f"https://w.example {report['cosigned'][0]['witness']}"]}
    assert msgspec.convert(named, AuditSettings).witnesses
    (made.folder / "suite").write_text("rot13", "utf-8")
    with pytest.raises(WitnessRefused, match="none of international, gm"):
        Witness(INTERNATIONAL, made.folder)
    (made.folder / "suite").unlink()
    assert len(Witness(INTERNATIONAL, made.folder).key()) < 100, "as it was before there were two"


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.removeprefix(checkpoint.DASH),
        lambda line: f" {line}",
        lambda line: line.replace("\n", "\r\n"),
        lambda line: line.replace(line[-4:], chr(ord(line[-4]) + 1) + line[-3:]),
        lambda line: f"{line}\n\n{line}" * 40,
        lambda line: "",
    ],
)
def test_what_a_witness_answers_cannot_spoil_the_checkpoint(
    made: WitnessedLog, monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]
) -> None:
    right = Witness.add_checkpoint
    monkeypatch.setattr(Witness, "add_checkpoint", lambda self, body: change(right(self, body)))
    made.seal(2)
    said = made.cosign()
    assert not said or said[0][0] == "audit_witness_failed"
    with db.reading(made.engine) as connection:
        note = log.latest_checkpoint(connection)
    assert note is not None and log.checkpoint_of(note).size == 3
    assert len(note.rpartition("\n\n")[2].splitlines()) <= 2


# --- another key of the log ------------------------------------------------------------------


def handed_over(suite: str, letter: str = "h") -> NoteSecret:
    return NoteSecret(INTERNATIONAL, letter * 43, suite, ("x" * 43,))


@pytest.mark.parametrize("suite", ["international", "gm", "dual"])
def test_a_witness_takes_the_key_that_the_old_one_hands_over_to(
    made: WitnessedLog, tmp_path: Path, suite: str
) -> None:
    made.seal(2)
    assert made.cosign() == []
    before, old = made.content(), made.secret
    made.secret = handed_over(suite)
    made.seal(3)  # the first of them hands over, and the witness was not asked meanwhile
    assert made.cosign() == []
    made.seal(2)
    assert made.cosign() == []
    report = made.report(tmp_path / "b.tar", witnessed=True, former=made.last_cosigned())
    assert report["verified"], report["problems"]
    assert [one["size"] for one in report["cosigned"]] == [8]
    kept = made.last_cosigned()
    # Whoever stole the old key goes on with the log as it was before, and longer.
    made.put_back(before)
    made.secret = old
    made.seal(9)
    assert made.report(tmp_path / "b.tar", witnessed=False)["verified"], "by itself it is whole"
    ((event, why), *_) = made.cosign()
    assert event == "audit_witness_failed" and "not signed by" in why
    assert made.last_cosigned() == kept
    report = made.report(tmp_path / "b.tar", witnessed=False, former=kept)
    assert not report["verified"]
    # Nor is it taken by another hand-over of the old key.
    made.put_back(before)
    made.secret = handed_over("international", "z")
    made.seal(12)
    ((event, why), *_) = made.cosign()
    assert event == "audit_witness_failed" and "not signed by" in why


def test_a_witness_that_was_put_back_to_before_a_hand_over_is_said_and_goes_on(
    made: WitnessedLog, tmp_path: Path
) -> None:
    made.seal(2)
    assert made.cosign() == []
    shutil.copytree(made.folder, tmp_path / "copy")
    made.secret = handed_over("international")
    made.seal(2)
    assert made.cosign() == []
    made.secret = NoteSecret(INTERNATIONAL, "i" * 43, former=("h" * 43,))
    made.seal(3)
    assert made.cosign() == []
    said = made.cosign(folder=tmp_path / "copy")
    assert [event for event, _ in said] == [
        "audit_witness_failed", "audit_witness_contradicts", "audit_witness_resumed",
    ]  # fmt: skip
    assert "put back" in said[1][1]
    made.seal(1)
    assert made.cosign(folder=tmp_path / "copy") == []


def test_a_new_witness_follows_a_log_whose_key_was_rotated_twice(
    made: WitnessedLog, tmp_path: Path
) -> None:
    made.secret = handed_over("international")
    made.seal(2)
    made.secret = NoteSecret(INTERNATIONAL, "i" * 43, former=("h" * 43,))
    made.seal(2)
    newer = tmp_path / "newer"
    witness.create(newer, "w.example")
    witness.follow(INTERNATIONAL, newer, made.key())
    assert made.cosign(folder=newer) == []
    made.seal(1)
    assert made.cosign(folder=newer) == []
    assert made.cosign() == [], "one that follows the first key goes on by each hand-over"
    assert made.last_cosigned().split("\n")[1] == "6"


def test_a_key_without_a_hand_over_is_taken_by_who_administers_the_witness_alone(
    made: WitnessedLog, tmp_path: Path
) -> None:
    made.seal(2)
    assert made.cosign() == []
    made.secret = handed_over("international")
    made.seal(1)
    with made.engine.begin() as connection:  # the hand-over is lost with a part of the database
        connection.execute(update(audit_keys).values(note=None))
    made.seal(1)
    ((event, why),) = made.cosign()
    assert event == "audit_witness_failed" and "not signed by" in why
    with pytest.raises(WitnessRefused, match="not followed"):
        other = made.secret.public_key("other.example")
        witness.follow(INTERNATIONAL, made.folder, other, replaced=True)
    witness.follow(INTERNATIONAL, made.folder, made.key(), replaced=True)
    assert made.cosign() == []
    assert made.last_cosigned().split("\n")[1] == "5"


def test_a_witness_of_a_log_with_two_keys_wants_both(made: WitnessedLog) -> None:
    made.secret = NoteSecret(INTERNATIONAL, "x" * 43, "dual")
    made.seal(2)
    witness.follow(INTERNATIONAL, made.folder, made.key(), replaced=True)
    assert made.cosign() == []
    made.secret = handed_over("gm")
    made.seal(2)
    assert made.cosign() == [], "and then the one that they hand over to"
    with pytest.raises(WitnessRefused, match="several logs"):
        keys = f"{made.secret.public_key('a')} {made.secret.public_key('b')}"
        witness.follow(INTERNATIONAL, made.folder, keys)
