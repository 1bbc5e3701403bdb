"""Processes that die at a chosen step, as by kill -9: run as `python -m tests.doomed KIND ...`.

Each step is a process of its own, forked from one that has loaded everything; what the parent prints
is by which signal each ended. Steps are seen from outside, by the hooks of the database library and of
Python itself: the product has no code for them.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine, event

from tests.records import record
from tokenschain.control.audit import pending
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.control.audit.witness import Witness
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

SECRET = NoteSecret(INTERNATIONAL, "x" * 43)
SEAL_STEPS = (
    "SELECT audit_pending", "INSERT INTO audit_segments", "INSERT INTO audit_nodes",
    "DELETE FROM audit_checkpoints", "INSERT INTO audit_checkpoints", "DELETE FROM audit_pending",
    "before the commit", "behind the commit",
)  # fmt: skip
WITNESS_STEPS = ("before it writes", "before it renames", "behind the rename", "before it answers")
CALLS_PER_STEP = 2
BATCHES_PER_LIFE = 10_000
BEGINS_WITHIN_S = 60.0


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sealing(url: str, step: str, number: int) -> None:
    """Enter calls, and seal as far as the step."""
    engine = db.connect(url)
    enter(engine, number)

    def executed(_c: object, _cur: object, statement: str, *_: object) -> None:
        said = " ".join(statement.split())
        if said.startswith("SELECT") and "FROM audit_pending" in said and "records," in said:
            said = "SELECT audit_pending"
        if said.startswith(step):
            _die()

    event.listen(engine, "after_cursor_execute", executed)
    if step == "before the commit":
        event.listen(engine, "commit", _die)
    seal(engine)
    _die()


def enter(engine: Engine, batch: int, life: int = 0) -> None:
    """Calls of a gateway process, whose lives have a name each, and numbers from 1."""
    first = CALLS_PER_STEP * batch
    calls = [
        record(BATCHES_PER_LIFE * CALLS_PER_STEP * life + n, gateway=f"gw-{life}", sequence=n + 1)
        for n in range(first, first + CALLS_PER_STEP)
    ]
    with engine.begin() as connection:
        pending.add_calls(connection, calls, {"up": "cn"})


def seal(engine: Engine) -> None:
    """As control does, but at once."""
    sealer = SegmentSealer(engine, INTERNATIONAL, SECRET, 0.0, idle_s=0.0)
    assert sealer.seal() is not None


def sealing_on(url: str, entered: str, life: int) -> None:
    """Enter and seal until the parent kills this: what is entered is noted behind it."""
    engine = db.connect(url)
    sealer = SegmentSealer(engine, INTERNATIONAL, SECRET, 0.0, idle_s=3600.0)
    with open(entered, "ab", buffering=0) as file:
        for batch in range(BATCHES_PER_LIFE):
            enter(engine, batch, life)
            file.write(b"%d\n" % (BATCHES_PER_LIFE * life + batch))
            sealer.seal()


def witnessing(folder: str, step: str, body: str) -> None:
    """Cosign a checkpoint as far as the step."""
    witness = Witness(INTERNATIONAL, Path(folder))
    at = {
        "before it writes": lambda name, args: name == "open" and str(args[0]).endswith(".new"),
        "before it renames": lambda name, args: name == "os.rename",
        "behind the rename": lambda name, args: name == "open" and Path(str(args[0])).is_dir(),
    }.get(step, lambda name, args: False)

    def hook(name: str, args: tuple[object, ...]) -> None:
        if at(name, args):
            _die()

    sys.addaudithook(hook)
    witness.add_checkpoint(Path(body).read_bytes())
    _die()


def _forked(run: Callable[[], None], wait: Callable[[int], None] = lambda pid: None) -> int:
    child = os.fork()
    if not child:
        try:
            run()
        finally:
            sys.stderr.flush()
            os._exit(1)
    wait(child)
    return -os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _kill_after(seconds: float, entered: Path) -> Callable[[int], None]:
    """Kill it so long after it noted its first batch: how long it took to begin does not count."""
    before = _size(entered)

    def wait(pid: int) -> None:
        until_s = time.monotonic() + BEGINS_WITHIN_S
        while _size(entered) == before and time.monotonic() < until_s:
            time.sleep(0.001)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)

    return wait


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def main(kind: str, target: str, *more: str) -> None:
    """
    Args:
        more: of `seal` the steps; of `seal-on` a file for what was entered, and moments in
            seconds from then on; of `witness` a file with the request, and the step.
    """
    if kind == "seal":
        runs = [_forked(lambda: sealing(target, step, at)) for at, step in enumerate(more)]  # noqa: B023
    elif kind == "seal-on":
        noted = Path(more[0])
        runs = [
            _forked(lambda: sealing_on(target, more[0], at), _kill_after(float(moment), noted))  # noqa: B023
            for at, moment in enumerate(more[1:])
        ]
    else:
        runs = [_forked(lambda: witnessing(target, more[1], more[0]))]
    print(*runs)


if __name__ == "__main__":
    main(*sys.argv[1:])
