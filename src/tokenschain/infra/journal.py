"""Journal: append-only, memory-mapped segments of call records that survive kill -9.

A segment is a file of fixed size, its blocks allocated when it is created and
mapped into memory. To append is to copy a frame into the map: no system call,
no wait, and what is copied stays in the kernel's page cache when the process is
killed. (Power loss is another matter: the kernel writes pages back on its own
schedule, some 30 s.) Because the next segment is allocated ahead, a full disk
shows before a call is accepted, never while its record is being written.

Frame: length (u32), CRC-32 of the payload (u32), payload; little-endian. A
length of zero marks the end. The same frames travel to control unchanged.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from tokenschain.core.call_record import BYTES_MAX
from tokenschain.infra import folder_lock

_FRAME = struct.Struct("<II")
FRAME_OVERHEAD = _FRAME.size
SEGMENTS_READ_MAX = 8
"""Of a former owner's, to see what it wrote last: 64 MiB."""
SUFFIX = ".segment"
"""Of the file of a segment."""


class JournalLimits(NamedTuple):
    """Bounds of one process's journal."""

    segment_bytes: int = 8_388_608
    segment_age_max_s: float = 60.0
    """An unshipped segment is closed after this long, so that its space returns."""
    total_bytes_max: int = 1_073_741_824
    """Beyond this much unshipped journal, calls are refused (`journal_full`)."""
    record_bytes_max: int = BYTES_MAX


class JournalFull(Exception):
    """No room for another record: the disk is full or the limit is reached."""


class Batch(NamedTuple):
    """Frames to ship, and where to go on after they are acknowledged."""

    segment: int
    end: int
    frames: bytes
    records: int


class Numbers(Protocol):
    """Counts what is appended; `infra.call_numbers` does."""

    def last(self) -> int:
        """What was given last."""

    def acknowledge(self, number: int) -> None:
        """Control has all to this number."""


class Journal:
    """Owned by one process; the lock on its folder says so."""

    def __init__(self, folder: Path, limits: JournalLimits | None = None) -> None:
        """
        Raises:
            BlockingIOError: another live process owns the folder.
        """
        self._folder = folder
        self.limits = limits or JournalLimits()
        self._half = self.limits.segment_bytes // 2
        self._roomy_below = self.limits.segment_bytes * 3 // 4
        self._segment_bytes = self.limits.segment_bytes
        self._record_bytes_max = self.limits.record_bytes_max
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = folder_lock.hold(folder)
        # Segments a former owner left are shipped first, from their start: control
        # knows by event id what it has already.
        self._old = sorted(int(f.stem) for f in folder.glob(f"*{SUFFIX}"))
        self._next = (self._old[-1] if self._old else 0) + 1
        self._map: mmap.mmap | None = None
        self._number = 0
        self._at = 0
        self._opened_at = 0.0
        self._shipped: dict[int, int] = {}
        self.numbers: Numbers | None = None
        self._last_numbers: dict[int, int] = {}
        """Of closed segments that this owner wrote."""
        self._spare: tuple[int, mmap.mmap] | None = None
        self.make_room()

    @property
    def unshipped_bytes(self) -> int:
        """Bytes on disk that control has not acknowledged, whole segments counted."""
        live = len(self._old) + (self._map is not None) + (self._spare is not None)
        return live * self.limits.segment_bytes

    @property
    def backlog_bytes(self) -> int:
        """Bytes of records that control has not acknowledged; of closed segments all is counted."""
        shipped = self._shipped
        closed = sum(self._segment_bytes - shipped.get(number, 0) for number in self._old)
        return closed + (0 if self._map is None else self._at - shipped.get(self._number, 0))

    def check_room(self) -> None:
        """To be called before a call is accepted.

        Raises:
            JournalFull: there is no allocated room for its record.
        """
        if self._at < self._roomy_below and self._map is not None:
            return
        if self._spare is None and not self._fits(self.limits.segment_bytes // 4):
            self.make_room()
            if self._spare is None and not self._fits(self.limits.segment_bytes // 8):
                raise JournalFull("the journal has no room left")

    def _fits(self, size: int) -> bool:
        return self._map is not None and self._at + size <= self.limits.segment_bytes

    def append(self, payload: bytes) -> None:
        """Record a payload; on return it survives kill -9 of this process.

        Raises:
            JournalFull: no room, although `check_room` was asked: more calls ended
                at once than the reserve holds.
            ValueError: the payload exceeds `record_bytes_max`.
        """
        size = len(payload)
        if size > self._record_bytes_max:
            raise ValueError(f"a record of {size} bytes is over the limit")
        at = self._at
        end = at + FRAME_OVERHEAD + size
        segment = self._map
        if segment is None or end > self._segment_bytes:
            segment = self._rotate()
            at, end = 0, FRAME_OVERHEAD + size
        # Payload first: were the copy cut short, the length would still read zero.
        segment[at + FRAME_OVERHEAD : end] = payload
        _FRAME.pack_into(segment, at, size, zlib.crc32(payload))
        self._at = end

    def _rotate(self) -> mmap.mmap:
        """Close the current segment and go on in the spare one."""
        if self._spare is None:
            self.make_room()
        if self._spare is None:
            raise JournalFull("the journal has no room left")
        self.close_segment()
        self._number, segment = self._spare
        self._map = segment
        self._spare = None
        self._at = 0
        self._opened_at = time.monotonic()
        return segment

    def close_segment(self) -> None:
        """End the current segment; appending goes on in a new one."""
        if self._map is not None:
            self._map.close()
            self._map = None
            self._old.append(self._number)
            if self.numbers is not None:
                self._last_numbers[self._number] = self.numbers.last()

    def make_room(self) -> None:
        """Allocate the spare segment, if the limits and the disk allow. Off the hot path."""
        if self._spare is not None:
            return
        if self.unshipped_bytes + self.limits.segment_bytes > self.limits.total_bytes_max:
            return
        number, self._next = self._next, self._next + 1
        path = self._path(number)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError:
            return  # no descriptor is left, or the folder is gone: as a full disk
        try:
            os.posix_fallocate(fd, 0, self.limits.segment_bytes)
            self._spare = (number, mmap.mmap(fd, self.limits.segment_bytes))
        except OSError:
            path.unlink(missing_ok=True)
        finally:
            os.close(fd)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}{SUFFIX}"

    # --- shipping ----------------------------------------------------------------

    def next_batch(self, bytes_max: int, records_max: int) -> Batch | None:
        """The oldest frames not yet acknowledged, or None when all are."""
        while self._old:
            number = self._old[0]
            start = self._shipped.get(number, 0)
            batch = _batch(self._read(number, start, bytes_max), 0, bytes_max, records_max)
            if batch is not None:
                return Batch(number, start + len(batch[0]), *batch)
            self._drop(number)
        if self._map is None:
            return None
        start = self._shipped.get(self._number, 0)
        batch = _batch(self._map, start, bytes_max, records_max)
        return None if batch is None else Batch(self._number, start + len(batch[0]), *batch)

    def _read(self, number: int, start: int, bytes_max: int) -> bytes:
        """As much of a closed segment as a batch may hold: reading all of it takes so long
        that callers would notice."""
        try:
            with self._path(number).open("rb") as file:
                file.seek(start)
                return file.read(bytes_max + self.limits.record_bytes_max + FRAME_OVERHEAD)
        except FileNotFoundError:
            return b""

    def acknowledge(self, batch: Batch) -> None:
        """Control has committed the batch."""
        self._shipped[batch.segment] = batch.end
        aged = time.monotonic() - self._opened_at > self.limits.segment_age_max_s
        current = batch.segment == self._number and self._map is not None
        if current and batch.end == self._at and self.numbers is not None:
            self.numbers.acknowledge(self.numbers.last())
        # Recycle early only when most of the segment is used or it is old.
        if current and batch.end == self._at and (aged or self._at > self._half):
            self.close_segment()

    def _drop(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)
        self._shipped.pop(number, None)
        self._old.remove(number)
        if self.numbers is not None and number in self._last_numbers:
            self.numbers.acknowledge(self._last_numbers.pop(number))

    def left_behind(self) -> Iterator[bytes]:
        """Payloads that a former owner left, the newest first, of the newest segments; before
        anything is appended. Behind a damaged frame nothing is read."""
        for number in self._old[: -SEGMENTS_READ_MAX - 1 : -1]:
            found: list[bytes] = []
            with suppress(BadFrame, OSError):
                found.extend(read_segment(self._path(number)))
            yield from reversed(found)

    def close(self) -> None:
        """Release the folder. Unshipped records stay for the next owner."""
        if self._map is not None:
            self._map.close()
            self._map = None
        if self._spare is not None:
            number, spare = self._spare
            spare.close()
            self._path(number).unlink(missing_ok=True)
            self._spare = None
        os.close(self._lock)


def _batch(
    data: bytes | mmap.mmap, start: int, bytes_max: int, records_max: int
) -> tuple[bytes, int] | None:
    """Whole frames from `start` on, and how many; None when there is none."""
    at, records = start, 0
    limit = len(data)
    while records < records_max and at + FRAME_OVERHEAD <= limit:
        size = _FRAME.unpack_from(data, at)[0]
        end = at + FRAME_OVERHEAD + size
        if size == 0 or end > limit or (records and end - start > bytes_max):
            break
        at = end
        records += 1
    return (bytes(data[start:at]), records) if records else None


def read_segment(path: Path) -> Iterator[bytes]:
    """The payloads of a segment file, which another process may be writing to.

    Raises:
        BadFrame: a checksum is wrong.
    """
    data = path.read_bytes()
    found = _batch(data, 0, len(data), len(data))
    return read_frames(found[0]) if found is not None else iter(())


class BadFrame(ValueError):
    """A frame is cut or its checksum is wrong."""


def read_frames(data: bytes) -> Iterator[bytes]:
    """The payloads of shipped frames.

    Raises:
        BadFrame: anything but whole frames with right checksums.
    """
    view = memoryview(data)
    at = 0
    while at < len(data):
        if at + FRAME_OVERHEAD > len(data):
            raise BadFrame("a frame is cut")
        size, checksum = _FRAME.unpack_from(data, at)
        payload = view[at + FRAME_OVERHEAD : at + FRAME_OVERHEAD + size]
        if size == 0 or len(payload) != size or zlib.crc32(payload) != checksum:
            raise BadFrame(f"the frame at byte {at} is damaged")
        yield bytes(payload)
        at += FRAME_OVERHEAD + size


def frame(payload: bytes) -> bytes:
    """One payload as a frame."""
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload
