"""Writes an answer to the caller in the API's own format: headers, SSE, errors."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from secrets import token_hex

from tokenschain.core.audit import receipt
from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.formats import StreamFormat
from tokenschain.core.formats.json_bounds import LONG_BYTES
from tokenschain.core.formats.response_echo import not_stored
from tokenschain.core.formats.stored_responses import KEPT_AT_ONCE_BYTES_MAX, RESPONSE_ID_BYTES
from tokenschain.core.pricing.catalog import format_pico
from tokenschain.core.routing.selection import Decision
from tokenschain.core.tenancy import Disconnect, KeyGrant
from tokenschain.wire import sse
from tokenschain.wire.exchange import Exchange

ROUTE_PARTS_MAX = 20
CALL_COUNT_DIGITS = 8
"""Last in the id of a call; what stands before names the process."""


_DONE = b"data: [DONE]\n\n"


JSON_LINE = b"content-type: application/json\r\n"


SSE_LINES = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
)


class CallResponseWriter:
    """The way back to one caller: knows which form the answer has taken so far."""

    __slots__ = (
        "_cors", "_exchange", "_keep", "_kept", "_name", "_redact", "_stream", "call", "checked",
        "on_pause", "on_resume", "paused", "task",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        cors: bytes,
        keep: Callable[[Call, str, bytes], bool],
        redact: Callable[[str], str],
    ) -> None:
        """
        Args:
            keep: keeps a stored response under its id; false when it cannot be.
            redact: takes out of an error's text what its caller is not to read.
        """
        self._exchange = exchange
        self._redact = redact
        self._name = ""
        self._keep = keep
        self._kept = False
        """Whether it was seen to that the answer is stored."""
        self._cors = cors
        self._stream: StreamFormat | None = None
        self.checked: KeyGrant | None = None
        """The grant of its key that was last found to allow the call while it ran."""
        self.call: Call
        self.task: asyncio.Task[None]
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.paused = False

    @property
    def gone(self) -> bool:
        return self._exchange.gone

    def client_address(self) -> str:
        return self._exchange.client_address

    @property
    def bytes_out(self) -> int:
        return self._exchange.bytes_out

    @property
    def streams(self) -> bool:
        """Whether the caller asked for a stream and is still there."""
        return self.call.parsed.stream and not self._exchange.gone

    @property
    def takes_raw(self) -> bool:
        return self.call.request.api_format.stream is None

    def begin_stream(self, call: Call) -> None:
        exchange = self._exchange
        if not exchange.started:
            if call.request.api_format.stream is not None:
                self._stream = call.request.api_format.stream(call.parsed, self._name_of(call))
            exchange.begin(200, b"".join((SSE_LINES, self._lines(call), self._cors)))

    def add_headers(self, lines: bytes) -> None:
        """See `core.call.CallerWriter.add_headers`."""
        self._cors += lines

    def write(self, data: bytes) -> None:
        self._exchange.write(data)

    def event(self, data: bytes) -> None:
        stream = self._stream
        self._exchange.write(b"data: %b\n\n" % data if stream is None else stream.event(data))

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        self._exchange.write(data)

    def complete(self, call: Call, last: bytes) -> bytes:
        """See `core.call.CallerWriter.complete`."""
        stream, api_format = self._stream, call.request.api_format
        try:
            if self._exchange.started:
                if call.relays:
                    return b""  # the upstream's own end has passed
                return _DONE if stream is None else stream.end()
            if call.native_answer:
                return call.native_answer
            if api_format.whole is None:
                return last
            return api_format.whole(last, self._name_of(call), call.parsed)
        except ApiError:
            raise
        except Exception as fault:
            # Whatever goes wrong in writing an answer anew is ours: no upstream is blamed for it.
            raise translation_failed(call) from fault

    @property
    def ends_long(self) -> bool:
        """See `core.call.CallerWriter.ends_long`."""
        return self._stream is not None and self._exchange.bytes_out > LONG_BYTES

    def keeps_long(self, call: Call, last: bytes) -> bool:
        """See `core.call.CallerWriter.keeps_long`."""
        kept_input = call.parsed.kept_input
        if not kept_input:
            return False
        return len(kept_input) + len(self._to_keep(call, last)) >= KEPT_AT_ONCE_BYTES_MAX

    def keep(self, call: Call, last: bytes) -> bytes:
        """See `core.call.CallerWriter.keep`."""
        response = self._to_keep(call, last)
        self._kept = True
        if not response or self._keep(call, f"resp_{self._name}", response):
            return last
        return not_stored(last)

    def _to_keep(self, call: Call, last: bytes) -> bytes:
        """The response that is still to be stored; empty where there is none."""
        if self._kept or call.error is not None or not call.parsed.kept_input:
            return b""
        if self._exchange.started:
            stream = self._stream
            return b"" if stream is None or call.relays else stream.final
        return b"" if call.request.api_format.whole is None or call.native_answer else last

    def _name_of(self, call: Call) -> str:
        """What the answer's ids are made of: the call's id, or what nobody can count up where
        the answer may be asked for again."""
        if call.request.api_format.name != "responses":
            return call.request.id
        if not self._name:
            process = call.request.id.removeprefix("req_")[:-CALL_COUNT_DIGITS]
            self._name = process + token_hex(RESPONSE_ID_BYTES)
        return self._name

    def close(self, call: Call, last: bytes) -> None:
        exchange = self._exchange
        if exchange.ended:
            return
        error = call.error
        stream = self._stream
        if error is None:
            if call.parsed.kept_input:
                # Before the caller has its end: it may go on from it at once.
                last = self.keep(call, last)
            if exchange.started:
                exchange.finish(_behind_receipt(call, last))
            else:
                headers = b"".join((JSON_LINE, self._lines(call), self._cost(call), self._cors))
                exchange.reply(200, headers, last)
            return
        error = error.as_told(self._redact, call.request.id)
        if exchange.started:
            # The status is long gone: the error is an event, and no end marker follows.
            event = sse.Event(error.body(), b"error")
            end = sse.encode(event) if stream is None else stream.error(error)
            exchange.finish(_behind_receipt(call, end))
        else:
            send_error(
                exchange,
                error,
                self._lines(call) + self._cors,
                call.request.api_format.error(error, call.request.id),
            )

    def release(self) -> None:
        """The call is over, and its task with it."""
        # What points in circles is let go of, so that memory is freed by count: a garbage
        # collection of thousands of calls stops all calls for 6 ms.
        self._exchange.watcher = None
        self.call.forget_prompt()
        del self.call, self.task

    def end_early(self, error: ApiError) -> None:
        """The call may not go on, and its caller is told why."""
        self.call.fail(error)
        self._cancel()

    def caller_left(self, reason: str) -> None:
        """See `wire.exchange.Watcher`, as the next two."""
        call = self.call
        messages = {
            "caller_gone": "The caller closed the connection.",
            "caller_stalled": "The caller stopped reading.",
        }
        call.error = ApiError(reason, messages[reason])
        caller, in_flight = call.caller, call.cache.in_flight
        if (caller is not None and caller.disconnect is Disconnect.DRAIN) or (
            in_flight is not None and in_flight.goes_on(self._cancel)
        ):
            # The upstream goes on to its end, so that what it bills is known, or others have it.
            if self.on_resume is not None:
                self.on_resume()
            return
        self._cancel()

    def _cancel(self) -> None:
        """End the task, but not before its first step: one that has none leaves no record."""
        self.task.get_loop().call_soon(self.task.cancel)

    def pause(self) -> None:
        self.paused = True
        if self.on_pause is not None:
            self.on_pause()

    def resume(self) -> None:
        self.paused = False
        if self.on_resume is not None:
            self.on_resume()

    def _lines(self, call: Call) -> bytes:
        """The headers every answer to a call has."""
        request, reservation = call.request, call.reservation
        extra = b"" if reservation is None else reservation.headers()
        if request.api_format.name == "messages":
            extra += b"request-id: %b\r\n" % request.id.encode()
        if call.receipt:
            extra += _receipt(call)
        if not call.attempts:
            return f"x-request-id: {request.id}\r\n{_cached(call)}".encode() + extra
        if call.adapted or call.dropped or call.emulated or b"x-tc-route" in request.headers:
            extra += (
                _names(b"x-tc-adapted", call.adapted)
                + _names(b"x-tc-dropped", call.dropped)
                + _names(b"x-tc-emulated", call.emulated)
                + _route(call)
            )
        attempt = call.attempts[-1]
        now = time.monotonic()
        spent_upstream = (attempt.ended_at or attempt.first_token_at or now) - attempt.started_at
        overhead_ms = (now - request.received_at - spent_upstream) * 1e3
        cache = call.cache
        # One text, written as bytes once: a third less than `%` of as many bytes.
        lines = (
            f"x-request-id: {request.id}\r\nx-tc-upstream: {attempt.candidate.upstream.id}\r\n"
            f"x-tc-cache: {cache.text if cache.reason else cache.outcome}\r\n"
            f"x-tc-overhead-ms: {overhead_ms:.2f}\r\n"
        )
        if lines.isascii():
            return lines.encode() + extra
        return lines.encode("latin-1", "replace") + extra

    @staticmethod
    def _cost(call: Call) -> bytes:
        record = call.record
        if record is None or record.charge_pico is None:
            return b""
        return f"x-tc-cost: {format_pico(record.charge_pico, record.charge_currency)}\r\n".encode()


def _receipt(call: Call) -> bytes:
    return f"{receipt.HEADER}: {call.receipt}\r\n".encode()


def _behind_receipt(call: Call, end: bytes) -> bytes:
    """What ends a stream, whose headers are gone: a receipt is a comment before it."""
    return b": %b\n%b" % (_receipt(call), end) if call.receipt else end


def _cached(call: Call) -> str:
    """Where an answer came from that no upstream gave."""
    hit = call.cache.hit
    if hit is None:
        return ""
    line = f"x-tc-cache: {hit.kind}\r\nx-tc-cache-key: {hit.name}\r\n"
    if hit.entry is None:
        return line
    age_s = int(call.request.started_ms / 1e3 - hit.entry.stored_s)
    confidence = call.cache.hit_confidence
    confidence_text = "1.000" if confidence == 1.0 else f"{confidence:.3f}"
    return f"{line}age: {age_s if age_s > 0 else 0}\r\nx-tc-cache-confidence: {confidence_text}\r\n"


def id_lines(name: str, *, anthropic: bool = False) -> bytes:
    """The id of an answer, under the names that OpenAI's and Anthropic's SDKs look for."""
    line = b"x-request-id: %b\r\n" % name.encode()
    return line + b"request-id: %b\r\n" % name.encode() if anthropic else line


def translation_failed(call: Call) -> ApiError:
    """The upstream answered; the platform could not write it in the caller's form."""
    return ApiError(
        "translation_failed",
        "The answer could not be written in this API's form; nothing is charged. Quote "
        f"{call.request.id} when you report it.",
    )


def send_error(
    exchange: Exchange, error: ApiError, headers: bytes, body: bytes | None = None
) -> None:
    if error.retry_after_s is not None:
        headers += b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after_s))
    if error.status == 401:
        headers += b'www-authenticate: Bearer realm="tokenschain"\r\n'
    exchange.reply(error.status, JSON_LINE + headers, error.body() if body is None else body)


def _route(call: Call) -> bytes:
    """How the call found its upstream, for callers who asked."""
    decision = call.decision
    if decision is None or b"x-tc-route" not in call.request.headers:
        return b""
    if call.caller is None or not call.caller.routing_details:
        return b"x-tc-route: %b\r\n" % _outline(call, decision).encode("latin-1", "replace")
    parts = [decision.reason]
    for row in decision.rows:
        parts.append(
            f"{row.endpoint.name} ttft={row.first_token_s:.3f}s "
            f"cost={row.cost_pico:.0f} load={row.load:.2f}{'' if row.meets_slo else ' late'}"
        )
    parts += [f"{name} {why}" for name, why in (*decision.filtered, *decision.left_out)]
    tried = " > ".join(f"{a.candidate.upstream.id}={a.outcome}" for a in call.attempts)
    line = "; ".join([*parts[:ROUTE_PARTS_MAX], f"tried {tried}"])
    return b"x-tc-route: %b\r\n" % line.encode("latin-1", "replace")


def _outline(call: Call, decision: Decision) -> str:
    """The same for who has no right to figures: the order, reasons, and the upstream that
    answered, which every answer names."""
    parts = [decision.reason]
    for at, row in enumerate(decision.rows, 1):
        chosen = " chosen" if row.endpoint is decision.endpoint else ""
        parts.append(f"candidate {at}{chosen}{'' if row.meets_slo else ' late'}")
    parts += [f"excluded: {why}" for _, why in (*decision.filtered, *decision.left_out)]
    *others, last = call.attempts
    outcomes = [attempt.outcome for attempt in others]
    tried = " > ".join((*outcomes, f"{last.candidate.upstream.id}={last.outcome}"))
    return "; ".join((*parts[:ROUTE_PARTS_MAX], f"tried {tried}"))


def _names(header: bytes, names: tuple[str, ...]) -> bytes:
    """A header line that lists parameters; nothing when there are none."""
    if not names:
        return b""
    return b"%b: %b\r\n" % (header, ", ".join(names).encode("latin-1", "replace"))
