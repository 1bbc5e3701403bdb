"""Numbers of a gateway's calls survive the gateway, and its successor says how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.records import record
from tokenschain.core import call_record, process_record
from tokenschain.core.process_record import ProcessRecord
from tokenschain.infra.call_numbers import CallNumbers
from tokenschain.infra.journal import Journal, JournalLimits, read_frames

LIMITS = JournalLimits(segment_bytes=65_536)
WRITER = """
import sys, time
from pathlib import Path
from tests.infra.test_call_numbers import Gateway
gateway = Gateway(Path(sys.argv[1]), "first")
for _ in range(500):
    gateway.call()
    if gateway.numbers.last() == 300:
        gateway.ship()
print("ready", flush=True)
time.sleep(60)
"""


class Gateway:
    """What a gateway process does with its journal."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.journal = Journal(folder / "journal", LIMITS)
        self.numbers = CallNumbers(folder / "numbers", name, self.journal, lambda: 1_790_000_000.0)

    def call(self) -> None:
        number = self.numbers.last() + 1
        self.journal.append(call_record.encode(record(1, gateway=self.name, sequence=number)))
        self.numbers.slots[0] = number

    def ship(self) -> list[bytes]:
        found: list[bytes] = []
        while (batch := self.journal.next_batch(100_000, 1_000)) is not None:
            found += read_frames(batch.frames)
            self.journal.acknowledge(batch)
        return found


def processes(payloads: list[bytes]) -> list[ProcessRecord]:
    return [process_record.decode(one) for one in payloads if process_record.is_process(one)]


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """The folder of a gateway that was killed when it had numbered 500 calls and shipped 300."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    return tmp_path


def test_a_gateway_that_was_killed_lost_nothing_and_its_successor_says_so(killed: Path) -> None:
    shipped = Gateway(killed, "second").ship()
    calls = [call_record.decode(p) for p in shipped if not process_record.is_process(p)]
    assert [one.sequence for one in calls][-200:] == list(range(301, 501))
    ended, began = processes(shipped)[-2:]
    assert (ended.gateway, ended.state, ended.last, ended.lost_from) == ("first", "killed", 500, 0)
    assert (began.gateway, began.state) == ("second", "started")
    assert shipped.index(process_record.encode(ended)) > shipped.index(
        call_record.encode(calls[-1])
    )


@pytest.mark.parametrize("newest_only", [True, False])
def test_calls_that_were_lost_with_the_journal_are_known_by_their_numbers(
    killed: Path, newest_only: bool
) -> None:
    segments = sorted((killed / "journal").glob("*.segment"))
    for path in segments[-2:] if newest_only else segments:
        path.unlink()
    shipped = Gateway(killed, "second").ship()
    calls = [call_record.decode(p) for p in shipped if not process_record.is_process(p)]
    survived = max([300, *(one.sequence for one in calls)])
    (ended,) = (one for one in processes(shipped) if one.state == "killed")
    assert (ended.last, ended.lost_from) == (500, survived + 1)


def test_a_gateway_that_stops_says_how_many_calls_it_had(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, "first")
    gateway.call()
    gateway.numbers.stop()
    began, ended = processes(gateway.ship())
    assert (began.state, ended.state, ended.last) == ("started", "stopped", 1)
    gateway.journal.close()
    heir = Gateway(tmp_path, "second")
    # A segment that was not full is shipped again.
    assert [one.gateway for one in processes(heir.ship())] == ["first", "first", "second"]
    assert heir.numbers.last() == 0
    heir.journal.close()
