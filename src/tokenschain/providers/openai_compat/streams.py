"""Streaming relay from the upstream's transport to the caller's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial

from tokenschain.core.call import Attempt, Call, ResponseWriter
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import canonical, continuation, openai_chat, stream_aggregation
from tokenschain.core.formats.anthropic.event_relay import RelayedEvent
from tokenschain.core.formats.continuation import PartialOutput, Splice
from tokenschain.core.formats.json_bounds import (
    EVENT_BOUNDS,
    LONG_BYTES,
    TooManyParts,
    check_parts,
)
from tokenschain.core.formats.normalization import FAILED_FINISHES, INFERRED, Normalization
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.ports import Answer, OffLoop, on_loop
from tokenschain.core.pricing.catalog import Usage
from tokenschain.providers.openai_compat.body_decoding import (
    BadEncoding,
    Content,
    content_of,
    decoder_of,
)
from tokenschain.providers.openai_compat.decoding_turns import DecodingTurns
from tokenschain.providers.openai_compat.failures import failure_of, refused, translation_failure
from tokenschain.providers.openai_compat.replies import (
    REPLY_BYTES_MAX,
    chunk_decoder_of,
    estimate,
    heading_of,
    normalizer_of,
    takes_long,
    understood,
)
from tokenschain.providers.openai_compat.reply_budget import UNBOUNDED, ReplyBudget
from tokenschain.providers.vendor_profile import NativeRelay, Vendor
from tokenschain.wire import client as http
from tokenschain.wire import sse

_FRAMING_BYTES = len(b"data: \n\n")
_DONE = b"[DONE]"
_CUT_OFF = "the answer ended within a tool call or its reasoning"
KEPT_UNCOUNTED_BYTES = 65_536
"""Of what is kept: small events cut in two are not worth counting."""
_MAGIC_BYTES = 2
_EVENT_SMALL_BYTES = 16_384
"""A shorter one is read whatever it is made of."""
_SNIFFED_BYTES_MAX = 1_024
"""That many blank bytes at the beginning are taken for a stream."""


class StreamAnswer:
    """A stream between two transports.

    Until the first token, events are held, so that a failure can still be hidden
    behind another upstream. After it, a piece that consists of whole events and
    holds nothing of interest passes on as it came; only pieces with usage, an
    error or the end in them, or cut in the middle of an event, are read.
    """

    __slots__ = (
        "_after", "_attempt", "_before", "_before_tail", "_begun", "_body", "_bytes", "_call",
        "_choices", "_content", "_decoder", "_encoding_open", "_ended", "_first",
        "_frame_overhead", "_frames", "_held", "_kept", "_last", "_mark", "_normalizer",
        "_passing", "_quick", "_raw", "_reader", "_relay", "_replies", "_reply", "_said",
        "_said_bytes", "_splice", "_start", "_tail", "_turns", "_vendor", "_writer",
    )  # fmt: skip

    def __init__(
        self,
        reply: http.Reply,
        call: Call,
        attempt: Attempt,
        vendor: Vendor,
        writer: ResponseWriter | None = None,
        splice: Splice | None = None,
        *,
        relays: bool = False,
        choices: int | None = None,
        replies: ReplyBudget = UNBOUNDED,
    ) -> None:
        """
        Args:
            writer: where it goes, if not straight to the caller.
            splice: joins it to what another upstream has said.
            choices: how many it holds, if not all that the caller asked for.
            relays: pass the upstream's own events on: the caller speaks its protocol.
            replies: bounds what is kept until it is complete.
        """
        self._reply = reply
        self._replies = replies
        self._kept = 0
        """Bytes counted of what is kept."""
        self._call = call
        self._choices = choices
        self._attempt = attempt
        self._writer = writer or call.output
        self._vendor = vendor
        self._decoder = chunk_decoder_of(vendor, call, attempt)
        self._normalizer = normalizer_of(call, attempt, vendor)
        self._raw = splice is None and self._passes_as_it_comes()
        protocol = vendor.protocol
        self._relay = protocol.relay() if relays and protocol and protocol.relay else None
        self._mark = b'"text"' if call.parsed.api is Api.COMPLETIONS else b'"delta"'
        self._passing: list[bytes] = []
        """The canonical chunks of the event that is being relayed."""
        self._splice = splice
        parsed = call.parsed
        keeps = call.resumable and writer is None and parsed.api is Api.CHAT and not relays
        safe = keeps and continuation.safe(parsed.fields, parsed.choices)
        self._said: list[bytes] | None = [] if safe else None
        self._said_bytes = 0
        self._reader = sse.SseReader()
        self._start = b""
        """The first bytes, until they say what the body holds."""
        self._encoding_open = True
        self._content = Content.UNKNOWN
        self._body: list[bytes] = []
        """A whole answer that came where a stream was asked for; then the chunks it is given in."""
        self._turns: DecodingTurns | None = None
        self._held: list[tuple[bytes, list[bytes]]] | None = []
        self._begun = False
        self._quick = False
        self._before = self._after = b""
        self._frames = 0
        self._frame_overhead = 0
        self._bytes = 0
        self._tail = self._before_tail = self._last = b""
        loop = asyncio.get_running_loop()
        self._first: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()

    def _passes_as_it_comes(self) -> bool:
        """Whether nothing is written anew for this caller: pieces may pass on unread."""
        call, vendor = self._call, self._vendor
        return (
            self._decoder is None
            and not call.reads_answer
            and self._writer.takes_raw
            and not vendor.needs_normalization
            and vendor.normalization is Normalization.CANONICAL
            and not call.freeform
            and not call.older_functions
            and not call.called_by_schema
            and not (call.parsed.api is Api.COMPLETIONS and "logprobs" in call.parsed.fields)
            and not call.tool_names
        )

    async def first_token(self, off_loop: OffLoop = on_loop) -> Answer:
        """Wait for the first token, or for an end without one.

        Args:
            off_loop: where a long answer is read that came whole.

        Raises:
            ApiError: the stream failed before it.
        """
        try:
            self._reply.push(self)
            await self._first
            if self._body:
                self._body = await self._understand(b"".join(self._body), off_loop)
        except asyncio.CancelledError:
            self._reply.abort()
            self._settle()
            raise
        return self

    async def deliver(self, call: Call) -> bytes:
        """Relay the rest; nothing is left to return but the API's own end marker."""
        writer = self._writer
        call.partial = True
        call.forget_prompt()
        call.relays = self._relay is not None
        writer.begin_stream(call)
        source = self._turns or self._reply
        writer.on_pause, writer.on_resume = source.pause, source.resume
        try:
            self._give_held()
            if self._body:
                await self._give_chunks()
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
        except Exception as fault:
            failure = translation_failure(fault, self._upstream)
            self._attempt.outcome = failure.code
            self._reply.abort()
            raise failure from fault
        finally:
            writer.on_pause = writer.on_resume = None
            self._attempt.ended_at = time.monotonic()
            self._settle()

    def _give_held(self) -> None:
        held, self._held = self._held, None
        if self._raw and held:
            self._writer.write(b"".join([data for data, _ in held]))
            return
        for data, chunks in held or ():
            if self._relay is not None:
                self._writer.native(data, chunks)
            else:
                self._writer.event(data)

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
            found = continuation.said_of([event.data for event in events if event.data])
        except (ValueError, AttributeError, TypeError):
            return None  # relayed unread, and odd
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
            attempt.finish_reason = self._relayed_finish()
        if attempt.usage is None:
            attempt.usage = self._estimate()
        if self._splice is not None:
            attempt.delivered = continuation.joined(self._splice.said, attempt.usage)

    def _estimate(self) -> Usage:
        text_bytes = max(0, self._bytes - self._frames * self._frame_overhead)
        offer = self._attempt.candidate.offer
        return estimate(self._call.parsed, offer, text_bytes, self._frames)

    def _relayed_finish(self) -> str:
        """The finish reason in what was relayed unread last."""
        return _finish_reason(self._tail) or _finish_reason(self._before_tail)

    # --- the sink ----------------------------------------------------------------

    def on_data(self, data: bytes) -> None:
        """A piece of the upstream's body, cut anywhere."""
        if self._quick and self._may_pass(data):
            self._reply.progress += 1
            self._bytes += len(data)
            self._before_tail = self._tail
            self._tail = data
            if self._said is not None:
                self._keep(data)
            if self._held is not None:
                self._held.append((data, []))
            else:
                self._writer.write(data)
            return
        self._step(self._take, data)

    def _step(self, read: Callable[[bytes], None], data: bytes) -> bool:
        """Read a piece; false where the stream is over by that."""
        try:
            read(data)
        except ApiError as error:
            self._fail_with(error)
        except Exception as fault:  # noqa: BLE001 - ours, and the caller is told so
            self._fail_with(translation_failure(fault, self._upstream), fault)
        return not self._ended.done()

    def _may_pass(self, data: bytes) -> bool:
        """Whether a piece is whole events with nothing of interest in them; counts them."""
        before, after = self._before, self._after
        if before and data.startswith(before) and data.endswith(after):
            # The same event but for its text, in which nothing ends it or stands for another.
            start, end = len(before), len(data) - len(after)
            if start < end and data.find(b'"', start, end) < 0 and data.find(b"\\", start, end) < 0:
                self._frames += 1
                return True
        if (
            not data.startswith(b"data: ")
            or not data.endswith(b"}\n\n")
            or b'"usage"' in data
            or b'"error"' in data
            or b"_call" in data  # `tool_calls` or `function_call`
            or b'_reason":"' in data  # an end, which may be in another's words
            or b'_reason": "' in data
            or (b"\\" in data and (b"\\ud" in data or b"\\uD" in data))
        ):
            return False
        # Events of one line that end in an object: no end marker, no comment, nothing empty.
        events = data.count(b"}\n\n")
        if data.count(b"\n") != 2 * events or data.count(b"\ndata: ") != events - 1:
            return False
        if self._mark not in data if events == 1 else data.count(self._mark) < events:
            return False  # one of them has no choice, or none that says what it adds
        self._frames += events
        return True

    def _learn(self, data: bytes) -> None:
        """Take what stands before and after the text of a chunk that passed unchanged: most
        chunks of a stream differ in nothing else."""
        at = data.find(b'"content":')
        start = data.find(b'"', at + len(b'"content":')) + 1
        end = data.find(b'"', start)
        told = at >= 0 and not data[at + len(b'"content":') : start - 1].strip()
        if not told or end <= start or b"\\" in data[start:end]:
            return
        self._before = b"data: " + data[:start]
        self._after = data[end:] + b"\n\n"

    def on_end(self, error: BaseException | None) -> None:
        """The upstream's body is complete or broke off."""
        if self._ended.done():
            return
        if self._turns is not None and self._turns.holds_end(error):
            return
        if isinstance(error, BadEncoding):
            self._fail("upstream_invalid_reply", str(error))
        elif error is None:
            try:
                self._complete()
            except Exception as fault:  # noqa: BLE001 - ours, and the caller is told so
                self._fail_with(translation_failure(fault, self._upstream), fault)
        else:
            failure = failure_of(error, self._upstream)
            if failure.code == "upstream_unreachable":
                failure = ApiError("upstream_interrupted", failure.message, detail=failure.detail)
            self._fail_with(failure, error)

    def _take(self, data: bytes) -> None:
        """Read a piece: decoded, and told apart from a whole answer."""
        if self._ended.done():
            return
        if self._encoding_open:
            data = self._start + data
            if len(data) < _MAGIC_BYTES:
                self._start = data
                return
            self._start, self._encoding_open = b"", False
            try:
                decoder = decoder_of(self._reply.headers, data[:64], REPLY_BYTES_MAX)
            except BadEncoding as error:
                self._fail("upstream_invalid_reply", str(error))
                return
            if decoder is not None:
                read = partial(self._step, self._read)
                self._turns = DecodingTurns(decoder, self._reply, read, self.on_end)
        if self._turns is None:
            self._read(data)
        else:
            self._turns.take(data)

    def _read(self, data: bytes) -> None:
        """Read a piece without its content encoding; the first ones are held until they say what
        the body holds."""
        if self._content is Content.UNKNOWN:
            data = self._start + data
            content = content_of(data[:_SNIFFED_BYTES_MAX])
            if content is Content.UNKNOWN:
                if len(data) < _SNIFFED_BYTES_MAX:
                    self._start = data
                    return
                content = Content.EVENTS
            self._start, self._content = b"", content
        if self._content is Content.JSON:
            self._body.append(data)
            self._bytes += len(data)
            if self._bytes > sse.EVENT_BYTES_MAX:
                self._fail("upstream_invalid_reply", "its reply is too long")
            else:
                self._count_kept(self._bytes)
            return
        if self._content is Content.PAGE:
            self._fail("upstream_invalid_reply", "it sent a page")
            return
        try:
            events = self._reader.feed(data)
        except sse.SseError as error:
            self._fail("upstream_invalid_reply", str(error))
            return
        for event in events:
            self._on_event(event)
        self._quick = (
            self._raw
            and (self._held is None or self._begun)
            and self._turns is None
            and not self._normalizer.watches
            and self._reader.between_events
            and not self._ended.done()
        )
        if not self._quick:
            self._count_kept(self._reader.bytes_held)

    def _count_kept(self, size: int) -> None:
        """Count what is kept, once that is worth it; an event's room is its stream's from then."""
        more = size - self._kept
        if more > KEPT_UNCOUNTED_BYTES:
            try:
                self._replies.hold(self._call, more)
            except ApiError as error:
                self._fail_with(error)
            else:
                self._kept = size

    def _complete(self) -> None:
        """The body has ended well: so has the answer, if it said so."""
        if self._content is Content.JSON:
            self._first.set_result(None)
            return
        for event in self._reader.finish():
            self._on_event(event)
        if self._ended.done():
            return
        if self._attempt.finish_reason or self._relayed_finish():
            # The end marker is missing, the answer is not.
            for missing in self._relay.end() if self._relay is not None else ():
                self._pass(missing)
            self._finish()
            return
        self._fail("upstream_interrupted", "the stream ended without an end")

    async def _understand(self, body: bytes, off_loop: OffLoop) -> list[bytes]:
        """The chunks of a whole answer that is to be given as a stream.

        Raises:
            ApiError: it is an error, or no answer.
        """

        def read() -> list[bytes]:
            whole = understood(body, self._call, self._attempt, self._vendor)
            return list(stream_aggregation.chunks_of(whole))

        self._bytes = 0
        self._relay = None
        try:
            return await off_loop(read, self._call.caller) if takes_long(body) else read()
        except ApiError:
            # Nothing was produced, nothing is owed.
            self._ended.cancel()
            raise

    async def _give_chunks(self) -> None:
        """Give an answer that came whole in its chunks; others go on between long ones."""
        given = 0
        for chunk in self._body:
            self._on_chunk(chunk)
            given += len(chunk)
            if given > LONG_BYTES:
                given = 0
                await asyncio.sleep(0)
        self._finish()

    def _on_event(self, event: sse.Event) -> None:
        data = event.data
        if b"\n" in data:
            # JSON has no line feeds within strings: those between lines of data mean nothing.
            data = data.replace(b"\n", b" ").strip()
        if self._ended.done() or not data or data.isspace() or data == b"null":
            return
        if len(data) > _EVENT_SMALL_BYTES:
            try:
                check_parts(data, EVENT_BOUNDS)
            except TooManyParts as error:
                self._fail("upstream_invalid_reply", f"an event has {error}")
                return
        if event.event == b"error" and self._decoder is None:
            self._on_error_event(data)
            return
        if self._relay is not None:
            self._relay_event(self._relay, event)
            return
        if self._decoder is None or data == _DONE:
            self._on_chunk(data)
            return
        try:
            chunks = self._decoder.event(data)
        except ValueError:
            self._fail("upstream_invalid_reply", "an event is not of its protocol")
            return
        for chunk in chunks:
            self._on_chunk(chunk)

    def _relay_event(self, relay: NativeRelay, event: sse.Event) -> None:
        try:
            done = event.data.strip() == _DONE
            events = relay.end() if done else relay.events(event.event, event.data)
        except ValueError:
            self._fail("upstream_invalid_reply", "an event is not of its protocol")
            return
        for relayed in events:
            self._pass(relayed)
        if relay.cut_off:
            self._fail("upstream_interrupted", _CUT_OFF)

    def _pass(self, event: RelayedEvent) -> None:
        """Pass an event on; its canonical chunks say what it means."""
        assert self._decoder is not None
        self._passing = []
        chunks = self._decoder.event(event.data)
        for chunk in chunks:
            if chunk != _DONE:
                self._on_chunk(chunk)
        if self._ended.done():
            return
        data = sse.encode(sse.Event(event.data, event.kind))
        if self._held is not None:
            self._held.append((data, self._passing))
        else:
            self._writer.native(data, self._passing)
        if chunks and chunks[-1] == _DONE:
            self._on_chunk(_DONE)

    def _on_chunk(self, data: bytes) -> None:
        if self._ended.done():
            return
        if data == _DONE:
            self._on_done()
            return
        self._reply.progress += 1
        try:
            data, found = self._normalizer.chunk(data)
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
        self._last = data if found.choices else self._last
        self._count(len(data) + _FRAMING_BYTES, found.output_bytes())
        self._hand_on(data, has_choices=bool(found.choices))
        if (
            self._raw
            and not (self._before or reason or found.usage)
            and (self._call.parsed.wants_usage or b'"usage"' not in data)
        ):
            self._learn(data)

    def _on_done(self) -> None:
        """The end marker: the upstream has ended its answer on purpose, whether it said why or
        not."""
        if self._relay is not None and self._relay.end_inferred:
            self._attempt.finish_reason = INFERRED
        if self._attempt.finish_reason or self._relayed_finish():
            self._finish()
        elif self._begun:
            self._infer_finish()
        else:
            self._fail("upstream_invalid_reply", "the stream holds no answer")

    def _infer_finish(self) -> None:
        """Why the answer ended follows from what it holds; not so where that is cut off."""
        last = self._last
        for event in sse.SseReader().feed(self._tail):
            last = event.data or last
        ending = self._normalizer.ending(last, self._choices or self._call.parsed.requests)
        if ending is None:
            self._fail("upstream_interrupted", _CUT_OFF)
            return
        self._on_chunk(ending)
        self._attempt.finish_reason = INFERRED
        self._finish()

    def _on_error_event(self, data: bytes) -> None:
        if self._begun:
            self._fail("upstream_interrupted", "an error event ended the stream")
        else:
            self._fail_with(refused(200, data, {}, self._upstream, self._vendor))

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
        if self._relay is not None:
            self._passing.append(data)
            return
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
        if self._held is None:
            self._writer.event(data)
        else:
            # What passes as it came is held so, and leaves in one write.
            self._held.append((b"data: %b\n\n" % data if self._raw else data, []))

    def _begin(self, frame_overhead: int) -> None:
        self._begun = True
        self._attempt.first_token_at = time.monotonic()
        self._frame_overhead = frame_overhead
        if not self._first.done():
            self._first.set_result(None)

    def _finish(self) -> None:
        if self._attempt.usage is None and not self._writer.takes_raw and self._relay is None:
            self._say_usage()
        if not self._ended.done():
            self._ended.set_result(None)
        if not self._first.done():
            self._first.set_result(None)

    def _say_usage(self) -> None:
        """Other APIs than OpenAI's always say a usage: the estimate, where there is no other."""
        self._attempt.usage = usage = self._estimate()
        head = heading_of(self._call, self._attempt).head(self._call.request.id)
        kind = "text_completion" if self._call.parsed.api is Api.COMPLETIONS else (
            "chat.completion.chunk"
        )  # fmt: skip
        said = canonical.usage_chunk(head, openai_chat.wire_usage(usage), kind)
        self._hand_on(said, has_choices=False)

    def _fail(self, code: str, message: str) -> None:
        self._fail_with(ApiError(code, f"The upstream `{self._upstream}`: {message}."))

    def _fail_with(self, error: ApiError, cause: BaseException | None = None) -> None:
        error.__cause__ = cause
        if not self._first.done():
            # Nothing was produced, nothing is owed.
            self._first.set_exception(error)
            self._ended.cancel()
        elif not self._ended.done():
            self._ended.set_exception(error)
        self._reply.abort()


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
