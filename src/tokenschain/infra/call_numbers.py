"""Numbers of a gateway process's calls: how many it gave stands in a file that survives it.

The journal keeps the calls, this file only their count, so that calls that are lost with a journal
are known by their numbers. A file holds two integers: the number of the last call, and that of the
last call that control is known to have.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import msgspec

from tokenschain.core import call_record, process_record
from tokenschain.core.process_record import ProcessRecord
from tokenschain.infra.journal import Journal, JournalFull

_BYTES = 16
_LAST, _ACKNOWLEDGED = 0, 1


class CallNumbers:
    """Of one process, which has the lock on the journal.

    That it began, how it ended and how its predecessors in the same journal did is appended to
    the journal.
    """

    def __init__(
        self, folder: Path, name: str, journal: Journal, clock: Callable[[], float] = time.time
    ) -> None:
        """
        Args:
            name: of the gateway process; another one for each.
        """
        self._name = name
        self._journal = journal
        self._clock = clock
        self._path = folder / quote(name, safe="")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        former = {path: _read(path) for path in sorted(folder.iterdir())}
        self.slots = _mapped(self._path)
        """The number of the last call, and of the last that was acknowledged; whoever numbers a
        call writes the first."""
        journal.numbers = self
        try:
            for record in _ends(former, journal, self._now_ms()):
                journal.append(process_record.encode(record))
            journal.append(process_record.encode(ProcessRecord(name, self._now_ms(), "started")))
        except JournalFull:
            return  # the next one tells of them
        for path in former:
            path.unlink(missing_ok=True)

    def last(self) -> int:
        """The number of the last call."""
        return self.slots[_LAST]

    def acknowledge(self, number: int) -> None:
        """Control has all calls to this number."""
        self.slots[_ACKNOWLEDGED] = max(number, self.slots[_ACKNOWLEDGED])

    def stop(self) -> None:
        """No call follows: append that, to be shipped with the rest."""
        ended = ProcessRecord(self._name, self._now_ms(), "stopped", self.last())
        try:
            self._journal.append(process_record.encode(ended))
        except JournalFull:
            return
        self._path.unlink(missing_ok=True)

    def _now_ms(self) -> int:
        return int(self._clock() * 1e3)


def _mapped(path: Path) -> memoryview[int]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError:
        return memoryview(bytearray(_BYTES)).cast("Q")
    try:
        os.posix_fallocate(fd, 0, _BYTES)
        return memoryview(mmap.mmap(fd, _BYTES)).cast("Q")
    except OSError:  # a full disk: they are counted in memory alone
        path.unlink(missing_ok=True)
        return memoryview(bytearray(_BYTES)).cast("Q")
    finally:
        os.close(fd)


def _read(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    if len(data) != _BYTES:
        return 0, 0
    last, acknowledged = memoryview(data).cast("Q")
    return last, acknowledged


def _ends(
    former: dict[Path, tuple[int, int]], journal: Journal, now_ms: int
) -> Iterator[ProcessRecord]:
    """What became of processes that did not stop."""
    names = {unquote(path.name) for path in former}
    survived = _last_numbers(names, journal.left_behind())
    for path, (counted, acknowledged) in former.items():
        name = unquote(path.name)
        known = max(acknowledged, survived.get(name, 0))
        last = max(counted, known)
        yield ProcessRecord(name, now_ms, "killed", last, known + 1 if known < last else 0)


def _last_numbers(names: set[str], payloads: Iterable[bytes]) -> dict[str, int]:
    """The number of the last call of each process, of payloads from the newest on."""
    found: dict[str, int] = {}
    for payload in payloads if names else ():
        try:
            record = call_record.decode(payload)
        except msgspec.DecodeError:
            continue  # of another kind
        if record.gateway in names and record.gateway not in found:
            found[record.gateway] = record.sequence
            if len(found) == len(names):
                break
    return found
