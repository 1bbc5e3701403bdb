"""Content recording: keeps what a call asked and was answered, where a policy wants it.

It stands around moderation's screening of the call, so that of a blocked answer both are kept: what
the model said, and what the caller got of it.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Protocol

import msgspec

from tokenschain.core.audit import content
from tokenschain.core.audit.content import ContentRecord, Mac
from tokenschain.core.call import Call, Deliverable, Opened, ResponseWriter, Screening
from tokenschain.core.call_record import CHARACTERS_MAX, fitting
from tokenschain.core.formats import stream_aggregation
from tokenschain.core.formats.json_bounds import LONG_BYTES
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.moderation.case_record import CaseRecord
from tokenschain.core.moderation.verdict import EngineCost
from tokenschain.core.ports import OffLoop
from tokenschain.core.snapshot import Plan
from tokenschain.core.snapshot.kept_content import KeptContent
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.moderation.forwarding_writer import DONE, ForwardingWriter
from tokenschain.wire import sse

STREAM_BYTES_MAX = 8 * 1_048_576
"""Of a stream's chunks in memory; of what comes later nothing is kept."""
_NUMBERS = frozenset((Api.EMBEDDINGS, Api.RERANK))


class ContentBook(Protocol):
    """Where content goes from a gateway."""

    @property
    def mac(self) -> Mac:
        """(salt, text) -> commitment."""

    def seal(self, tenant: str, call_id: str, data: bytes) -> bytes:
        """Seal it for its way to control."""

    def keep(self, record: ContentRecord) -> None:
        """Append it, if there is room; never waits."""


class ContentRecording:
    """What is kept of one call; see `core.call.Screening`."""

    __slots__ = (
        "_answer", "_arrived", "_book", "_call", "_caller", "_fields", "_kept",
        "_off_loop", "_record", "_released", "_screening",
    )  # fmt: skip

    def __init__(
        self,
        book: ContentBook,
        call: Call,
        caller: KeyGrant,
        kept: KeptContent,
        off_loop: OffLoop,
    ) -> None:
        self._call, self._caller, self._kept = call, caller, kept
        self._book, self._off_loop = book, off_loop
        native = call.parsed.native
        self._fields = call.parsed.fields
        if native is not None:
            self._fields = {**self._fields, **native.fields}
        self._screening: Screening | None = None
        self._arrived: _StreamRecorder | None = None
        self._released: _StreamRecorder | None = None
        self._answer = b""
        self._record: ContentRecord | None = None
        call.reads_answer |= call.parsed.api not in _NUMBERS

    def over(self, screening: Screening) -> ContentRecording:
        """The same, with what moderation does for the call inside."""
        self._screening = screening
        return self

    # --- see `core.call.Screening` ------------------------------------------------------------

    @property
    def caller(self) -> KeyGrant:
        return self._caller if self._screening is None else self._screening.caller

    @property
    def may_cache(self) -> bool:
        return self._screening is None or self._screening.may_cache

    @property
    def plan(self) -> Plan | None:
        return None if self._screening is None else self._screening.plan

    def filing_of(self, upstream: str, model: str) -> str:
        return "" if self._screening is None else self._screening.filing_of(upstream, model)

    @property
    def engine_costs(self) -> list[EngineCost]:
        return [] if self._screening is None else self._screening.engine_costs

    def around(self, call: Call, writer: ResponseWriter) -> ResponseWriter:
        """A writer that keeps what the model says, around the one that screens it."""
        if not call.parsed.stream or call.parsed.api in _NUMBERS:
            return writer if self._screening is None else self._screening.around(call, writer)
        self._released = _StreamRecorder(writer)
        screened: ResponseWriter = self._released
        if self._screening is not None:
            screened = self._screening.around(call, screened)
        if screened is self._released:
            self._arrived = self._released
        else:
            self._arrived = _StreamRecorder(screened)
        return self._arrived

    def beside(
        self, call: Call, opening: Coroutine[None, None, Opened]
    ) -> Coroutine[None, None, Opened]:
        return opening if self._screening is None else self._screening.beside(call, opening)

    async def deliver(self, call: Call, answer: Deliverable) -> bytes:
        """Deliver an answer; what is long is masked and sealed here, where others go on."""
        tapped = _Tapped(answer)
        if self._screening is None:
            last = await tapped.delivered(call)
        else:
            last = await self._screening.deliver(call, tapped)
        if call.parsed.api not in _NUMBERS:
            self._answer = tapped.body
        size = sum(memoryview(raw).nbytes for raw in self._fields.values()) + len(self._answer)
        if self._arrived is not None:
            size += self._arrived.bytes
        if size > LONG_BYTES:
            self._record = await self._off_loop(lambda: self._made(last), self._caller)
        return last

    def end(self) -> None:
        """The call is over: its content is journalled."""
        if self._screening is not None:
            self._screening.end()
        self._book.keep(self._record or self._made(b""))

    def case(self, call: Call) -> CaseRecord | None:
        return None if self._screening is None else self._screening.case(call)

    # --- the record --------------------------------------------------------------------------

    def _made(self, last: bytes) -> ContentRecord:
        call, caller = self._call, self._caller
        blocked = call.moderation == "blocked"
        output, released, cut = self._answer, b"", False
        if self._arrived is not None and self._released is not None:
            output, cut = self._arrived.whole(), self._arrived.cut
            if blocked and self._arrived is not self._released:
                released = self._released.whole()
        elif blocked and last != output:
            released = last
        found = content.made(
            self._kept, os.urandom(content.SALT_BYTES), self._fields, output, released, cut
        )
        committed = content.commitments(self._book.mac, found)
        if self._kept is KeptContent.HASH:
            found = content.without_words(found)
        request = call.request
        return ContentRecord(
            request.id, request.started_ms, caller.tenant, caller.project, self._kept, blocked,
            *committed, self._book.seal(caller.tenant, request.id, content.encode(found)),
            fitting(self.caller.data_class, CHARACTERS_MAX["data_class"]),
        )  # fmt: skip


class _Tapped:
    """An answer whose body is kept."""

    __slots__ = ("_answer", "body")

    def __init__(self, answer: Deliverable) -> None:
        self._answer = answer
        self.body = b""

    def deliver(self, call: Call) -> Coroutine[None, None, bytes]:
        return self.delivered(call)

    async def delivered(self, call: Call) -> bytes:
        last = self._answer.deliver(call)
        self.body = last if isinstance(last, bytes) else await last
        return self.body

    def abort(self) -> None:
        self._answer.abort()


class _StreamRecorder(ForwardingWriter[ResponseWriter]):
    """A writer that keeps the chunks that it passes on."""

    __slots__ = ("_pieces", "bytes", "cut")

    def __init__(self, inner: ResponseWriter) -> None:
        super().__init__(inner)
        self._pieces: list[tuple[bool, bytes]] = []
        self.bytes = 0
        self.cut = False

    def write(self, data: bytes) -> None:
        self._take(True, data)
        self._inner.write(data)

    def event(self, data: bytes) -> None:
        self._take(False, data)
        self._inner.event(data)

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        for chunk in chunks:
            self._take(False, chunk)
        self._inner.native(data, chunks)

    def _take(self, raw: bool, data: bytes) -> None:
        if self.bytes + len(data) > STREAM_BYTES_MAX:
            self.cut = True
        if not self.cut:
            self.bytes += len(data)
            self._pieces.append((raw, data))

    def whole(self) -> bytes:
        """The stream as one reply; where its chunks are none, as they came."""
        chunks = [data for data in sse.data_of(self._pieces) if data not in (b"", DONE)]
        try:
            return stream_aggregation.whole_of(chunks) if chunks else b""
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            return b"\n".join(chunks)
