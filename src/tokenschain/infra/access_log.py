"""Access log: one line for each call after it ended, written in batches by a thread of its own.

A line has who called, what became of it and how long it took; no prompt, no answer and no key. On
the hot path a record is put in a queue, nothing else. What finds no room there is counted, not
waited for: a disk that hangs costs lines, never calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from select import PIPE_BUF

import msgspec

from tokenschain.core.call_record import CallRecord
from tokenschain.core.log_events import Reporter

STANDARD_ERROR = "stderr"
EVENT = "call"
WRITE_S = 0.25
WAITING_MAX = 20_000
"""Calls that wait to be written: those of some seconds at the highest rate of one worker."""
BATCH_MAX = 500
"""Calls whose lines are made and written at once: some milliseconds, in which other threads run."""
RETRY_S = 1.0
_LAST_WRITE_MAX_S = 2.0


class AccessLine(msgspec.Struct, frozen=True):
    """What is logged of one call; all times but the first are milliseconds since it began."""

    event: str
    level: str
    timestamp: str
    """When the call ended; UTC."""
    node: str
    process: str
    call: str
    """The `x-request-id` that the caller was given."""
    key: str
    """The key's id; empty where no valid key came."""
    tenant: str
    project: str
    api: str
    model: str
    """As it was asked for."""
    model_served: str
    upstream: str
    attempts: int
    status: int
    outcome: str
    """`ok`, `partial` or an error code."""
    error: str
    finish_reason: str
    streamed: bool
    cache: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_byte_ms: float | None
    """Of the upstream's answer."""
    total_ms: float
    bytes_in: int
    bytes_out: int


class AccessLog:
    """Writes a line of JSON for each call."""

    def __init__(
        self,
        target: str,
        node: str,
        process: str,
        redact: Callable[[str], str],
        report: Reporter,
        waiting_max: int = WAITING_MAX,
    ) -> None:
        """
        Args:
            target: `stderr`, or the path of a file. That is opened anew for each batch: whoever
                rotates it moves it away.
            redact: takes credentials out of names of models that callers made up.
            report: told `access_log_paused`, with why, and `access_log_resumed`.
        """
        self._target = target
        self._node, self._process = node, process
        self._redact = redact
        self._report = report
        self._waiting: deque[CallRecord] = deque()
        self._waiting_max = waiting_max
        self._thread = ThreadPoolExecutor(1, "access log")
        self._paused = False
        self.dropped = 0
        """Calls without a line, for want of room in the queue."""

    def note(self, record: CallRecord) -> None:
        """Log a call that is over."""
        if len(self._waiting) < self._waiting_max:
            self._waiting.append(record)
        else:
            self.dropped += 1

    async def run(self) -> None:
        """Write what waits, now and then; returns only by cancellation."""
        while True:
            await asyncio.sleep(RETRY_S if self._paused else WRITE_S)
            await self._write_waiting()

    async def close(self) -> None:
        """Write what is left, if that can be done soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WRITE_MAX_S):
                await self._write_waiting()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _write_waiting(self) -> None:
        loop, waiting = asyncio.get_running_loop(), self._waiting
        while waiting:
            batch = [waiting.popleft() for _ in range(min(BATCH_MAX, len(waiting)))]
            try:
                await loop.run_in_executor(self._thread, self._write, batch)
            except OSError as error:
                waiting.extendleft(reversed(batch))
                if not self._paused:
                    self._report("access_log_paused", str(error), retry_in_s=RETRY_S)
                self._paused = True
                return
            if self._paused:
                self._report("access_log_resumed", dropped=self.dropped)
            self._paused = False

    def _write(self, batch: Iterable[CallRecord]) -> None:
        """In the thread.

        Raises:
            OSError: not all was written.
        """
        lines = [_encode(self._line(record)) + b"\n" for record in batch]
        if self._target == STANDARD_ERROR:
            for text in _joined(lines, PIPE_BUF):
                os.write(sys.stderr.fileno(), text)
            return
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        with os.fdopen(os.open(self._target, flags, 0o600), "ab") as file:
            file.write(b"".join(lines))

    def _line(self, record: CallRecord) -> AccessLine:
        attempts = record.attempts
        first_byte_ms = attempts[-1].first_byte_ms if attempts else None
        model = record.model_asked
        if not record.model_served and model:
            model = self._redact(model)
        ended_s = (record.started_ms + record.total_ms) / 1e3
        cache, reason = record.cache, record.cache_reason
        return AccessLine(
            EVENT, "info",
            datetime.fromtimestamp(ended_s, UTC).isoformat(timespec="milliseconds"),
            self._node, self._process, record.event_id, record.key_id, record.tenant,
            record.project, record.api, model, record.model_served, record.upstream,
            len(attempts), record.status, record.outcome, record.error, record.finish_reason,
            record.streamed, f"{cache}:{reason}" if reason else cache,
            record.prompt_tokens, record.cached_tokens, record.completion_tokens,
            None if first_byte_ms is None else round(first_byte_ms, 3),
            round(record.total_ms, 3), record.bytes_in, record.bytes_out,
        )  # fmt: skip


_encode = msgspec.json.Encoder().encode


def _joined(lines: Iterable[bytes], bytes_max: int) -> Iterator[bytes]:
    """Lines in texts of so many bytes, that other processes' lines cannot come between."""
    text = b""
    for line in lines:
        if text and len(text) + len(line) > bytes_max:
            yield text
            text = b""
        text += line
    if text:
        yield text
