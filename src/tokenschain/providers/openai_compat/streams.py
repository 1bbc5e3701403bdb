"""Streaming relay from the upstream's transport to the caller's."""

from __future__ import annotations

import asyncio
import time

from tokenschain.core.call import Attempt, Call, ResponseWriter
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import continuation, openai_chat
from tokenschain.core.formats.continuation import PartialOutput, Splice
from tokenschain.core.formats.normalization import FAILED_FINISHES, Normalization, ReplyNormalizer
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.ports import Answer
from tokenschain.providers.openai_compat.failures import failure_of, refused
from tokenschain.providers.openai_compat.replies import estimate, heading_of, read_whole
from tokenschain.providers.vendor_profile import ChunkDecoder, Vendor
from tokenschain.wire import client as http
from tokenschain.wire import sse

_FRAMING_BYTES = len(b"data: \n\n")


class StreamAnswer:
    """A stream between two transports.

    Until the first token, events are held, so that a failure can still be hidden
    behind another upstream. After it, a piece that consists of whole events and
    holds nothing of interest passes on as it came; only pieces with usage, an
    error or the end in them, or cut in the middle of an event, are read.
    """

    __slots__ = (
        "_attempt",
        "_begun",
        "_bytes",
        "_call",
        "_decoder",
        "_ended",
        "_first",
        "_frame_overhead",
        "_frames",
        "_held",
        "_quick",
        "_raw",
        "_reader",
        "_reply",
        "_said",
        "_said_bytes",
        "_splice",
        "_tail",
        "_vendor",
        "_writer",
    )

    def __init__(
        self,
        reply: http.Reply,
        call: Call,
        attempt: Attempt,
        vendor: Vendor,
        writer: ResponseWriter | None = None,
        splice: Splice | None = None,
    ) -> None:
        self._reply = reply
        self._call = call
        self._attempt = attempt
        self._writer = writer or call.output
        self._vendor = vendor
        self._decoder = _decoder_of(vendor, call, attempt)
        self._raw = self._decoder is None and self._writer.takes_raw and splice is None
        self._splice = splice
        parsed = call.parsed
        keeps = call.resumable and writer is None and parsed.api is Api.CHAT
        safe = keeps and continuation.safe(parsed.fields, parsed.choices)
        self._said: list[bytes] | None = [] if safe else None
        self._said_bytes = 0
        self._reader = sse.SseReader()
        self._held: list[bytes] | None = []
        self._begun = False
        self._quick = False
        self._frames = 0
        self._frame_overhead = 0
        self._bytes = 0
        self._tail = b""
        loop = asyncio.get_running_loop()
        self._first: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    async def first_token(self) -> Answer:
        """Wait for the first token, or for an end without one.

        Raises:
            ApiError: the stream failed before it.
        """
        if b"json" in self._reply.headers.get(b"content-type", b""):
            await read_whole(self._reply, self._call, self._attempt, self._vendor)
            raise ApiError(
                "upstream_invalid_reply",
                f"The upstream `{self._upstream}` sent no stream although asked for one.",
            )
        try:
            self._reply.push(self)
            await self._first
        except asyncio.CancelledError:
            self._reply.abort()
            self._settle()
            raise
        return self

    async def deliver(self, call: Call) -> bytes:
        """Relay the rest; nothing is left to return but the door's own end marker."""
        writer = self._writer
        call.partial = True
        call.forget_prompt()
        writer.begin_stream(call)
        writer.on_pause = self._reply.pause
        writer.on_resume = self._reply.resume
        held, self._held = self._held, None
        for data in held or ():
            writer.event(data)
        try:
            await self._ended
            call.partial = False
            self._attempt.outcome = "ok"
            return b""
        except ApiError as error:
            self._attempt.outcome = error.code
            raise
        except asyncio.CancelledError:
            self._attempt.outcome = "caller_gone"
            self._reply.abort()
            raise
        finally:
            writer.on_pause = writer.on_resume = None
            self._attempt.ended_at = time.monotonic()
            self._settle()

    def abort(self) -> None:
        """See `core.ports.Answer.abort`."""
        self._reply.abort()
        self._attempt.ended_at = time.monotonic()
        self._settle()

    def partial_output(self) -> PartialOutput | None:
        """See `core.ports.Answer.partial_output`."""
        if self._said is None or not self._begun:
            return None
        events = sse.SseReader().feed(b"".join(self._said))
        try:
            found = continuation.said_of([event.data for event in events])
        except ValueError:
            return None
        before = self._splice.said if self._splice is not None else None
        if found is None or before is None:
            return found
        return before._replace(text=before.text + found.text, tokens=before.tokens + found.tokens)

    def _keep(self, data: bytes) -> None:
        assert self._said is not None
        self._said_bytes += len(data)
        if self._said_bytes > continuation.KEPT_BYTES_MAX:
            self._said = None
        else:
            self._said.append(data)

    @property
    def _upstream(self) -> str:
        return self._attempt.candidate.upstream.id

    def _settle(self) -> None:
        attempt = self._attempt
        if not attempt.finish_reason and self._tail:
            attempt.finish_reason = _finish_reason(self._tail)
        if attempt.usage is None:
            text_bytes = max(0, self._bytes - self._frames * self._frame_overhead)
            offer = attempt.candidate.offer
            attempt.usage = estimate(self._call.parsed, offer, text_bytes, self._frames)
        if self._splice is not None:
            attempt.usage = continuation.joined(self._splice.said, attempt.usage)

    # --- the sink ----------------------------------------------------------------

    def on_data(self, data: bytes) -> None:
        """A piece of the upstream's body, cut anywhere."""
        if (
            self._quick
            and data.endswith(b"\n\n")
            and data.startswith(b"data:")
            and b'"usage"' not in data
            and b"[DONE]" not in data
            and b'"error"' not in data
            and b"\r" not in data
        ):
            self._reply.progress += 1
            self._frames += data.count(b"\n\n")
            self._bytes += len(data)
            self._tail = data
            if self._said is not None:
                self._keep(data)
            self._writer.write(data)
            return
        try:
            events = self._reader.feed(data)
        except sse.SseError as error:
            self._fail("upstream_invalid_reply", str(error))
            return
        for event in events:
            self._on_event(event.data)
        self._quick = (
            self._raw
            and self._held is None
            and self._reader.between_events
            and not self._ended.done()
        )

    def on_end(self, error: http.ClientError | None) -> None:
        """The upstream's body is complete or broke off."""
        if self._ended.done():
            return
        if error is None:
            for event in self._reader.finish():
                self._on_event(event.data)
            if self._attempt.finish_reason or _finish_reason(self._tail):
                # The end marker is missing, the answer is not.
                self._finish()
                return
            self._fail("upstream_interrupted", "the stream ended without an end")
        else:
            failure = failure_of(error, self._upstream)
            if failure.code == "upstream_unreachable":
                failure = ApiError("upstream_interrupted", failure.message)
            self._fail_with(failure)

    def _on_event(self, data: bytes) -> None:
        if self._ended.done():
            return
        if self._decoder is None or data == b"[DONE]":
            self._on_chunk(data)
            return
        try:
            chunks = self._decoder.event(data)
        except ValueError:
            self._fail("upstream_invalid_reply", "an event is not of its protocol")
            return
        for chunk in chunks:
            self._on_chunk(chunk)

    def _on_chunk(self, data: bytes) -> None:
        if self._ended.done():
            return
        if data == b"[DONE]":
            self._finish()
            return
        self._reply.progress += 1
        try:
            found = openai_chat.read_reply(data)
        except ValueError:
            self._fail("upstream_invalid_reply", "an event is not an OpenAI chunk")
            return
        if found.is_error:
            self._on_error_event(data)
            return
        usage = openai_chat.usage_of(found.usage)
        if usage is not None:
            self._attempt.usage = usage
        reason = found.finish_reason()
        if reason in FAILED_FINISHES:
            self._fail("upstream_interrupted", f"it gave up ({reason})")
            return
        if reason:
            self._attempt.finish_reason = reason
        self._count(len(data) + _FRAMING_BYTES, found.output_bytes())
        self._hand_on(data, has_choices=bool(found.choices))

    def _on_error_event(self, data: bytes) -> None:
        if self._begun:
            self._fail("upstream_interrupted", "an error event ended the stream")
        else:
            self._fail_with(refused(200, data, None, self._upstream, self._vendor))

    def _count(self, frame_bytes: int, text_bytes: int) -> None:
        """Count an event that holds text; the first one begins the answer."""
        if not text_bytes:
            return
        self._frames += 1
        self._bytes += frame_bytes
        if not self._begun:
            self._begin(frame_bytes - text_bytes)

    def _hand_on(self, data: bytes, *, has_choices: bool) -> None:
        """Give a chunk to the caller, or hold it until the first token."""
        if self._splice is not None:
            spliced = self._splice.chunk(data)
            if spliced is None:
                return
            data = spliced
        if self._said is not None:
            self._keep(b"data: %b\n\n" % data)
        if self._writer.takes_raw and not self._call.parsed.wants_usage and b'"usage"' in data:
            if not has_choices:
                return
            data = openai_chat.without_usage(data)
        if self._held is not None:
            self._held.append(data)
        else:
            self._writer.event(data)

    def _begin(self, frame_overhead: int) -> None:
        self._begun = True
        self._attempt.first_token_at = time.monotonic()
        self._frame_overhead = frame_overhead
        if not self._first.done():
            self._first.set_result(None)

    def _finish(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        if not self._first.done():
            self._first.set_result(None)

    def _fail(self, code: str, message: str) -> None:
        self._fail_with(ApiError(code, f"The upstream `{self._upstream}`: {message}."))

    def _fail_with(self, error: ApiError) -> None:
        if not self._first.done():
            # Nothing was produced, nothing is owed.
            self._first.set_exception(error)
            self._ended.cancel()
        elif not self._ended.done():
            self._ended.set_exception(error)
        self._reply.abort()


class _ChunkNormalizer:
    """A decoder for vendors whose chunks only need some fields renamed."""

    __slots__ = ("_reader",)

    def __init__(self, normalization: Normalization) -> None:
        self._reader = ReplyNormalizer(normalization)

    def event(self, data: bytes) -> list[bytes]:
        return [self._reader.chunk(data)]


def _decoder_of(vendor: Vendor, call: Call, attempt: Attempt) -> ChunkDecoder | None:
    if call.parsed.api is not Api.CHAT:
        return None
    if vendor.protocol is not None:
        return vendor.protocol.stream(heading_of(call, attempt))
    if vendor.needs_normalization or vendor.normalization is not Normalization.CANONICAL:
        return _ChunkNormalizer(vendor.normalization)
    return None


def _finish_reason(piece: bytes) -> str:
    """The last finish reason in a piece of whole events."""
    for event in reversed(sse.SseReader().feed(piece)):
        try:
            reason = openai_chat.read_reply(event.data).finish_reason()
        except ValueError:
            continue
        if reason:
            return reason
    return ""
