"""kill -9 of what makes the audit log: nothing is half, twice or missing, and verifiers say so.

`PROOFS=full` kills the sealer 300 times at moments of chance.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from tests import doomed
from tests.cli.test_audit_verify import exported, packed
from tests.control.audit.test_log import contents
from tests.control.audit.test_witness import WitnessedLog
from tests.proofs import FULL, numbered
from tokenschain.cli import audit_verify
from tokenschain.control.audit import cosigning, log
from tokenschain.core.audit import merkle, witnessing
from tokenschain.core.audit.witnessing import CosigningRequest
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.audit_tables import audit_pending, audit_segments
from tokenschain.infra.security.suite import INTERNATIONAL

KILLS = 300 if FULL else 12


def died(*arguments: str | Path) -> list[int]:
    """By which signals the processes of `tests.doomed` ended."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.doomed", *map(str, arguments)], capture_output=True, text=True,
        timeout=3_000, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [int(one) for one in done.stdout.split()]


def report_of(engine: Engine, folder: Path) -> dict[str, object]:
    path = packed(folder / "log.tar", exported(engine))
    return audit_verify.report_of(path)


def test_a_sealer_that_is_killed_at_any_step_leaves_a_whole_log(
    database: str, engine: Engine, tmp_path: Path
) -> None:
    doomed.seal(engine)
    doomed.seal(engine)  # so that the third one completes no node and the fourth does
    steps = [step for step in doomed.SEAL_STEPS for _ in range(2)]  # odd and even sizes of the tree
    before = 2
    assert died("seal", database, *steps) == [signal.SIGKILL] * len(steps)
    with db.reading(engine) as connection:
        sealed = log.size_of(connection)
        waiting = connection.execute(select(audit_pending.c.id)).all()
    # Behind the commit a segment is whole; whatever waited before is in it.
    assert sealed > before and not waiting, "the last step is behind the commit"
    doomed.enter(engine, len(steps))
    doomed.seal(engine)
    names = [one["id"] for one in contents(engine)]
    expected = doomed.CALLS_PER_STEP * (len(steps) + 1)
    assert names == [f"req_{number:08x}" for number in range(expected)], "once, and in order"
    report = report_of(engine, tmp_path)
    assert report["verified"] and report["gaps"] == [], report


def test_a_sealer_that_is_killed_at_any_moment_loses_and_doubles_nothing(
    database: str, engine: Engine, tmp_path: Path
) -> None:
    moments = [f"{chance.uniform(0.005, 0.06):.4f}" for _, chance in numbered("seal", KILLS)]
    entered = tmp_path / "entered"
    assert died("seal-on", database, entered, *moments) == [signal.SIGKILL] * len(moments)
    while log_waits(engine):
        doomed.seal(engine)
    counts = Counter(one["id"] for one in contents(engine))
    assert set(counts.values()) == {1}, "no record is twice"
    first = [doomed.CALLS_PER_STEP * int(line) for line in entered.read_text().split()]
    known = {f"req_{at + n:08x}" for at in first for n in range(doomed.CALLS_PER_STEP)}
    assert known and known <= set(counts), "what was entered is sealed"
    # Between the commit of the calls and the note of it a process may die: one batch each.
    assert len(counts) - len(known) <= doomed.CALLS_PER_STEP * (len(moments) + 1)
    with db.reading(engine) as connection:
        numbers = connection.execute(select(audit_segments.c.number)).scalars().all()
    assert sorted(numbers) == list(range(len(numbers)))
    report = report_of(engine, tmp_path)
    assert report["verified"] and report["gaps"] == [], report


def log_waits(engine: Engine) -> int:
    with db.reading(engine) as connection:
        return log.waiting_count(connection)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[WitnessedLog]:
    found = WitnessedLog(tmp_path)
    yield found
    found.engine.dispose()


def test_a_witness_that_is_killed_at_any_step_goes_on_and_contradicts_nothing(
    made: WitnessedLog, tmp_path: Path
) -> None:
    made.seal(3)
    assert made.cosign() == []
    body = tmp_path / "request"
    for at, step in enumerate(doomed.WITNESS_STEPS):
        old = log.checkpoint_of(made.last_cosigned()).size
        made.seal(2)
        with db.reading(made.engine) as connection:
            note = log.latest_checkpoint(connection)
            assert note is not None
            size = log.checkpoint_of(note).size
            read = log.subtrees(connection, INTERNATIONAL.digest)
            proof = merkle.consistency_proof(INTERNATIONAL.digest, old, size, read)
        body.write_bytes(witnessing.encode(CosigningRequest(old, proof, note)))
        assert died("witness", made.folder, body, step) == [signal.SIGKILL]
        cosigned = log.checkpoint_of(made.last_cosigned()).size
        assert cosigned == (size if at >= 2 else old), f"{step}: what is on disk is old or new"
        assert made.cosign() == [], f"{step}: it goes on, and nobody is contradicted"
    report = made.report(tmp_path / "b.tar", witnessed=True, former=made.last_cosigned())
    assert report["verified"], report
    with db.reading(made.engine) as connection:
        assert cosigning.latest_cosigned(connection, report["log"]) is not None
