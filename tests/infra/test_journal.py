"""The journal: what is appended survives, whatever happens to the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.infra.journal import (
    BadFrame,
    Journal,
    JournalFull,
    JournalLimits,
    frame,
    read_frames,
)

SMALL = JournalLimits(segment_bytes=65_536, total_bytes_max=65_536 * 6)


def drain(journal: Journal) -> list[bytes]:
    found: list[bytes] = []
    while (batch := journal.next_batch(10_000, 50)) is not None:
        found += read_frames(batch.frames)
        journal.acknowledge(batch)
    return found


def test_records_come_out_once_and_in_order_over_many_segments(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SMALL)
    sent = [b"%d:" % n + b"x" * 300 for n in range(2_000)]
    got: list[bytes] = []
    for number, record in enumerate(sent):
        journal.append(record)
        if number % 97 == 0:
            got += drain(journal)
            journal.make_room()
    got += drain(journal)
    assert got == sent
    assert journal.unshipped_bytes <= 3 * SMALL.segment_bytes


def test_an_unacknowledged_batch_comes_again_and_a_new_owner_ships_the_rest(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SMALL)
    journal.append(b"one")
    journal.append(b"two")
    first = journal.next_batch(10_000, 1)
    assert first is not None and first == journal.next_batch(10_000, 1)
    with pytest.raises(BlockingIOError):
        Journal(tmp_path, SMALL)
    journal.close()
    heir = Journal(tmp_path, SMALL)
    heir.append(b"three")
    assert drain(heir) == [b"one", b"two", b"three"]
    heir.close()


def test_a_full_journal_refuses_before_a_call_and_never_in_its_middle(tmp_path: Path) -> None:
    journal = Journal(tmp_path, SMALL)
    accepted = 0
    with pytest.raises(JournalFull):
        while True:
            journal.check_room()
            journal.append(b"x" * 500)
            accepted += 1
    for _ in range(10):  # calls in flight when the limit was reached
        journal.append(b"late")
    assert len(drain(journal)) == accepted + 10
    journal.make_room()
    journal.check_room()


def test_a_full_disk_refuses_calls_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path, SMALL)
    journal.append(b"kept")

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(JournalFull):
        for _ in range(1_000):
            journal.check_room()
            journal.append(b"x" * 500)
    monkeypatch.undo()
    journal.make_room()
    journal.check_room()
    assert drain(journal)[0] == b"kept"


WRITER = """
import sys
from pathlib import Path
from tokenschain.infra.journal import Journal, JournalLimits
journal = Journal(Path(sys.argv[1]), JournalLimits(segment_bytes=65536))
number = 0
while True:
    journal.append(b"%d" % number + b"." * (number % 200))
    sys.stdout.write(f"{number}\\n"); sys.stdout.flush()
    number += 1
    journal.make_room()
"""


def test_what_was_appended_survives_kill_9(tmp_path: Path) -> None:
    for _ in range(5):
        folder = tmp_path / os.urandom(4).hex()
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        said = b"".join(writer.stdout.readline() for _ in range(20))
        time.sleep(0.1)  # in the midst of whatever it is at
        writer.send_signal(signal.SIGKILL)
        promised = [int(line) for line in (said + writer.stdout.read()).split(b"\n")[:-1]]
        writer.stdout.close()
        writer.wait()
        journal = Journal(folder, JournalLimits(segment_bytes=65_536))
        found = [int(record.split(b".")[0]) for record in drain(journal)]
        journal.close()
        assert found[: len(promised)] == promised
        assert len(found) <= len(promised) + 1


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1), st.integers(0, 10_000))
def test_damage_to_frames_is_noticed(payloads: list[bytes], at: int) -> None:
    data = b"".join(map(frame, payloads))
    assert list(read_frames(data)) == payloads
    broken = bytearray(data)
    broken[at % len(data)] ^= 0x55
    with pytest.raises(BadFrame):
        assert list(read_frames(bytes(broken))) != payloads
        raise BadFrame("a length may still frame other bytes, never the same ones")
    with pytest.raises(BadFrame):
        list(read_frames(data[:-1]))
