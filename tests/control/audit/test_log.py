"""The sealed audit log, on both databases: what happened is in it once, in order, and proved."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, insert, select

from tests.records import record
from tokenschain.control.audit import admin_log, log, pending
from tokenschain.control.audit.log import NotSealed, Sealed, SealingJob, SegmentSealer
from tokenschain.control.billing.ledger import Ledger
from tokenschain.core import call_record
from tokenschain.core.audit import canonical_json, checkpoint, merkle, records, segment
from tokenschain.core.audit.checkpoint import NoteSigner
from tokenschain.core.audit.records import AuditedCall
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.audit_tables import (
    audit_checkpoints,
    audit_nodes,
    audit_pending,
    audit_segments,
)
from tokenschain.infra.security.note_keys import NoteSecret, note_key
from tokenschain.infra.security.suite import INTERNATIONAL

SECRET = NoteSecret(INTERNATIONAL, "x" * 43)
digest = INTERNATIONAL.digest


class Clock:
    now_s = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sealer_of(engine: Engine, clock: Clock, secret: NoteSecret = SECRET) -> SegmentSealer:
    return SegmentSealer(engine, INTERNATIONAL, secret, 1.0, clock, idle_s=0.5)


def enter(engine: Engine, *numbers: int, **fields: object) -> None:
    Ledger(engine).ingest(
        [call_record.encode(record(n, gateway="gw-1", **fields)) for n in numbers]
    )


def do(engine: Engine, action: str) -> None:
    with engine.begin() as connection:
        admin_log.note(connection, admin_log.Author("ann", "::1"), action, "t1", "key_1", {"a": 1})


def sealed(sealer: SegmentSealer, clock: Clock) -> Sealed:
    clock.now_s += 1
    found = sealer.seal()
    assert found is not None
    return found


def contents(engine: Engine) -> list[dict[str, Any]]:
    """All records, each checked to be canonical."""
    with engine.connect() as connection:
        segments = log.read_segments(connection, 0, 10_000)
    lines = [line for one in segments for line in one.lines()]
    return [canonical_json.decode(records.split(line)[0]) for line in lines]


def check(engine: Engine) -> int:
    """Everything follows from everything else; gives the size."""
    with engine.connect() as connection:
        note = log.latest_checkpoint(connection)
        assert note is not None
        stated = log.checkpoint_of(note)
        key = note_key(SECRET.public_key(stated.origin))
        assert checkpoint.opened(note, [key]) == stated
        before, leaves = None, []
        for one in log.read_segments(connection, 0, 10_000):
            header = segment.decode(one.header)
            assert segment.problem_after(digest, before, header) == ""
            sealed_lines = [records.split(line)[0] for line in one.lines()]
            assert segment.records_root(digest, sealed_lines).hex() == header.root
            assert len(one.lines()) == header.count
            before = header, one.header
            leaves.append(merkle.leaf_digest(digest, one.header))
        assert stated.size == len(leaves)
        read = log.subtrees(connection, digest)
        assert merkle.root(digest, stated.size, read) == stated.root
        memory = merkle.subtrees_of(digest, leaves)
        assert merkle.root(digest, stated.size, memory) == stated.root
    return stated.size


def test_calls_and_changes_are_sealed_once_and_in_order(engine: Engine, clock: Clock) -> None:
    sealer = sealer_of(engine, clock)
    enter(engine, 1, 2, 3)
    enter(engine, 2, 3, 4)
    do(engine, "keys:create")
    assert sealed(sealer, clock).header.count == 5
    assert sealed(sealer, clock).header.count == 0
    enter(engine, 5)
    found = sealed(sealer, clock).header
    assert (found.number, found.first_sequence, found.gateways) == (
        2,
        5,
        {segment.gateway_label(digest, "gw-1"): 1},
    )
    for _ in range(20):
        sealed(sealer_of(engine, clock), clock)
    assert check(engine) == 23
    names = [r["id"] if r["kind"] == "call" else r["action"] for r in contents(engine)]
    calls = [f"req_{n:08x}" for n in range(1, 5)]
    assert names == [*calls, "keys:create", "req_00000005"]
    with engine.connect() as connection:
        assert log.waiting_count(connection) == 0
        assert connection.scalar(select(func.count()).select_from(audit_checkpoints)) == 1
        assert connection.scalar(select(func.count()).select_from(audit_nodes)) < 23


def test_a_call_keeps_who_asked_what_and_what_it_cost() -> None:
    names = list(AuditedCall.__struct_fields__)
    assert names == sorted(names)
    content = {"prompt", "messages", "content", "error", "tags"}
    assert not content & set(names)


def test_text_of_a_call_is_in_one_form(engine: Engine, clock: Clock) -> None:
    enter(engine, 1, model_asked="cafe\u0301 \u6a21\u578b", outcome="a\nb")
    sealed(sealer_of(engine, clock), clock)
    assert contents(engine)[0]["model_asked"] == "caf\u00e9 \u6a21\u578b"
    check(engine)


def test_a_clock_that_ran_back_seals_nothing_until_it_is_there_again(
    engine: Engine, clock: Clock
) -> None:
    sealer, said = sealer_of(engine, clock), list[str]()
    sealed(sealer, clock)
    passed, alerted = [0.0], list[str]()
    job = SealingJob(
        lambda: sealer, 1.0, lambda event, *_, **__: said.append(event), alerted.append,
        lambda: passed[0],
    )  # fmt: skip
    clock.now_s -= 30
    enter(engine, 1)
    with pytest.raises(NotSealed, match=r"30\.0 s behind"):
        sealer.seal()
    job.seal_waiting()
    passed[0] += 59
    job.seal_waiting()
    assert alerted == []
    passed[0] += 1
    job.seal_waiting()
    job.seal_waiting()
    assert alerted == ["the clock is 30.0 s behind the last segment"]
    clock.now_s += 31
    job.seal_waiting()
    job.seal_waiting()
    assert said == ["audit_sealing_stopped", "audit_sealing_resumed"]
    assert [r["id"] for r in contents(engine)] == ["req_00000001"]
    check(engine)


def test_calls_that_enter_while_the_clock_is_back_and_forth_are_sealed_once(
    engine: Engine, clock: Clock
) -> None:
    sealer, said = sealer_of(engine, clock), list[str]()
    job = SealingJob(lambda: sealer, 1.0, lambda event, *_, **__: said.append(event))
    chance = random.Random(21)
    for number in range(60):
        clock.now_s += 1 if number % 3 else chance.uniform(-20, 25)
        enter(engine, number)
        job.seal_waiting()
    clock.now_s += 100
    job.seal_waiting()
    assert [r["id"] for r in contents(engine)] == [f"req_{n:08x}" for n in range(60)]
    assert said and set(said) == {"audit_sealing_stopped", "audit_sealing_resumed"}
    check(engine)


def test_a_full_disk_stops_sealing_is_said_and_loses_nothing(tmp_path: Path, clock: Clock) -> None:
    """Of the database: SQLite is told that it may not grow, and then that it may."""
    engine = db.connect(f"sqlite:///{tmp_path / 'x.db'}")
    db.migrate(engine)
    pages_max: list[int] = []

    @event.listens_for(engine, "checkout")
    def limit(connection: Any, *_: object) -> None:
        if pages_max:
            connection.cursor().execute(f"pragma max_page_count = {pages_max[0]}")

    sealer, said = sealer_of(engine, clock), list[tuple[str, str]]()
    job = SealingJob(lambda: sealer, 1.0, lambda event, /, why="", **_: said.append((event, why)))
    sealed(sealer, clock)
    size = 3_000
    enter(engine, *range(size))
    with engine.connect() as connection:
        pages_max.append(int(connection.exec_driver_sql("pragma page_count").scalar_one()))
        connection.exec_driver_sql("create table filler as select randomblob(100) as x")
    for _ in range(3):
        clock.now_s += 1
        job.seal_waiting()
    assert [event for event, _ in said] == ["audit_sealing_stopped"] and "full" in said[0][1]
    assert check(engine) == 1 and not contents(engine), "nothing is half"
    pages_max[0] = 2**30
    clock.now_s += 1
    job.seal_waiting()
    assert [event for event, _ in said] == ["audit_sealing_stopped", "audit_sealing_resumed"]
    assert [r["id"] for r in contents(engine)] == [f"req_{n:08x}" for n in range(size)]
    check(engine)
    engine.dispose()


def test_another_key_does_not_go_on_with_a_log(engine: Engine, clock: Clock) -> None:
    sealed(sealer_of(engine, clock), clock)
    other = sealer_of(engine, clock, NoteSecret(INTERNATIONAL, "y" * 43))
    clock.now_s += 1
    with pytest.raises(NotSealed, match="same key file"):
        other.seal()


def test_a_log_goes_on_when_the_suite_is_another(engine: Engine, clock: Clock) -> None:
    notes = []
    for suite in ("international", "dual", "gm", "international"):
        clock.now_s += 1
        enter(engine, 1)
        secret = NoteSecret(INTERNATIONAL, "x" * 43, suite)
        assert sealer_of(engine, clock, secret).seal() is not None
        with engine.connect() as connection:
            note = log.latest_checkpoint(connection)
        keys = [
            note_key(line) for line in secret.public_key(log.checkpoint_of(note).origin).split()
        ]
        checkpoint.opened(note, keys)
        notes.append((note, len(keys)))
    assert [count for _, count in notes] == [1, 2, 1, 1]
    assert check(engine) == 4
    with engine.connect() as connection:
        kept = connection.execute(select(audit_checkpoints.c.size)).scalars().all()
    assert kept == [4], "those with two signatures of the log are none that a witness cosigned"


class Overtaken(NoteSecret):
    """Signs when another sealer has just made the same segment."""

    def __init__(self, other: SegmentSealer) -> None:
        super().__init__(INTERNATIONAL, "x" * 43)
        self.other = other
        self.made: Sealed | None = None

    def signers(self, name: str) -> list[NoteSigner]:
        if self.made is None:  # what waits has been read, and nothing is written yet
            self.made = self.other.seal()
        return super().signers(name)


def test_of_two_that_seal_at_once_one_does(engine: Engine, clock: Clock) -> None:
    first = sealer_of(engine, clock)
    sealed(first, clock)
    assert sealer_of(engine, clock).seal() is None, "it was sealed a moment ago"
    clock.now_s += 1
    enter(engine, 1, 2)
    secret = Overtaken(first)
    assert sealer_of(engine, clock, secret).seal() is None
    assert secret.made is not None and secret.made.header.count == 2
    assert check(engine) == 2 and len(contents(engine)) == 2


@pytest.mark.parametrize(
    "table", ["audit_segments", "audit_nodes", "audit_checkpoints", "audit_pending"]
)
def test_a_sealer_that_dies_at_any_step_sealed_linesnothing_half(
    engine: Engine, clock: Clock, table: str
) -> None:
    sealer = sealer_of(engine, clock)
    sealed(sealer, clock)  # so that the next one completes a node
    enter(engine, 1, 2)

    class Died(Exception):
        pass

    def die(_c: object, _cur: object, statement: str, *_: object) -> None:
        if statement.startswith((f"INSERT INTO {table}", f"DELETE FROM {table}")):
            raise Died

    event.listen(engine, "after_cursor_execute", die)
    clock.now_s += 1
    with pytest.raises(Died):
        sealer.seal()
    event.remove(engine, "after_cursor_execute", die)
    assert check(engine) == 1 and not contents(engine)
    sealed(sealer_of(engine, clock), clock)
    assert check(engine) == 2 and len(contents(engine)) == 2


def test_many_that_wait_become_several_segments(engine: Engine, clock: Clock) -> None:
    with engine.begin() as connection:
        for at in range(0, 6_000, 2_000):
            pending.add_calls(connection, [record(n) for n in range(at, at + 2_000)], {})
    first = sealed(sealer_of(engine, clock), clock)
    assert first.is_full and first.header.count == 6_000
    enter(engine, *range(10))
    job = SealingJob(lambda: sealer_of(engine, clock), 1.0, lambda *_, **__: None)
    clock.now_s += 1
    job.seal_waiting()
    with engine.connect() as connection:
        assert [segment.decode(one.header).count for one in log.read_segments(connection, 0, 9)] == [
            6_000, 10,
        ]  # fmt: skip
        assert connection.scalar(select(func.count()).select_from(audit_pending)) == 0


def test_a_log_in_which_nothing_happens_is_sealed_each_minute(engine: Engine, clock: Clock) -> None:
    sealer = SegmentSealer(engine, INTERNATIONAL, SECRET, 1.0, clock)
    sealed(sealer, clock)
    made = 0
    for _ in range(125):
        clock.now_s += 1
        made += sealer.seal() is not None
    assert made == 2
    enter(engine, 1)
    found = sealed(sealer, clock).header
    assert found.count == 1 and found.until_ms - found.from_ms == 6_000
    assert check(engine) == 4


def test_records_that_waited_as_lines_are_sealed_too(engine: Engine, clock: Clock) -> None:
    """As version 0.2 left them."""
    line = canonical_json.encode({"id": "req_old", "kind": "call", "tenant": "t1"})
    with engine.begin() as connection:
        connection.execute(
            insert(audit_pending).values(
                at_ms=1, id="aud_1", records_count=1, records=line, gateways='{"gw-1":1}'
            )
        )
    assert sealed(sealer_of(engine, clock), clock).header.count == 1
    assert [r["id"] for r in contents(engine)] == ["req_old"]


def test_the_first_segment_after_a_moment_is_found(engine: Engine, clock: Clock) -> None:
    sealer = sealer_of(engine, clock)
    for _ in range(9):
        sealed(sealer, clock)
    with engine.connect() as connection:
        start_ms = 1_790_000_001_000
        assert log.first_ending_after(connection, 9, 0) == 0
        assert log.first_ending_after(connection, 9, start_ms + 3_500) == 4
        assert log.first_ending_after(connection, 9, start_ms + 60_000) == 9
        assert connection.scalar(select(func.count()).select_from(audit_segments)) == 9
