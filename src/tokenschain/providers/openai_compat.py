"""Any upstream that speaks OpenAI's API: the one deep provider.

Requests go out with the upstream's model name and with usage asked for; replies
come back as bytes, touched only where they must be. A stream is relayed from
the upstream's transport to the caller's without a task switch per event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from tokenschain.core import chat
from tokenschain.core.calls import Attempt, Call
from tokenschain.core.catalog import Usage
from tokenschain.core.chat import Ask, Door
from tokenschain.core.errors import ApiError
from tokenschain.core.ports import Answer
from tokenschain.core.snapshot import Candidate, Offer, Upstream
from tokenschain.wire import client as http
from tokenschain.wire import sse

REPLY_BYTES_MAX = 67_108_864
ERROR_BYTES_MAX = 65_536
_FRAMING_BYTES = len(b"data: \n\n")
_ONE_TOKEN_BYTES_MAX = 12
DONE = b"data: [DONE]\n\n"
_CONTEXT_WORDS = ("context length", "context_length", "maximum context", "context size", "too long")


class Target(NamedTuple):
    """One upstream's address and everything of the request head that never changes."""

    upstream: Upstream
    origin: http.Origin
    head: bytes
    waits: http.Waits


class OpenAICompatible:
    """Opens calls at OpenAI-compatible upstreams."""

    def __init__(
        self, client: http.HttpClient, credential_of: Callable[[Upstream], str | None]
    ) -> None:
        """
        Args:
            credential_of: resolves an upstream's credential; raises `ApiError`
                when it is configured but cannot be had.
        """
        self._client = client
        self._credential_of = credential_of
        self._targets: dict[tuple[str, Door], Target] = {}

    async def open(self, call: Call, candidate: Candidate) -> Answer:
        """See `core.ports.Upstreams.open`."""
        ask = call.ask
        target = self._target(candidate.upstream, ask.door)
        body = chat.encode_for(ask, candidate.offer.model)
        attempt = Attempt(candidate, time.monotonic())
        call.attempts.append(attempt)
        outcome = "caller_gone"
        try:
            reply = await self._client.open(
                target.origin,
                b"%b%d\r\n\r\n%b" % (target.head, len(body), body),
                target.waits,
                candidate.upstream.limits.connections_max,
            )
            attempt.first_byte_at = time.monotonic()
            if reply.status != 200:
                raise await _refusal(reply, candidate.upstream.id)
            answer: Answer
            if ask.stream:
                answer = await _StreamAnswer(reply, call, attempt).first_token()
            else:
                answer = await _read_whole(reply, call, attempt)
            outcome = "open"
            return answer
        except http.ClientError as error:
            failure = _failure(error, candidate.upstream.id)
            outcome = failure.code
            raise failure from error
        except ApiError as error:
            outcome = error.code
            raise
        except asyncio.CancelledError:
            # The upstream may have worked; what it did is not known.
            attempt.usage = attempt.usage or Usage(
                prompt_tokens=ask.prompt_tokens_estimate, source="estimated"
            )
            raise
        finally:
            if outcome != "open":
                attempt.outcome = outcome
                attempt.ended_at = time.monotonic()

    def _target(self, upstream: Upstream, door: Door) -> Target:
        target = self._targets.get((upstream.id, door))
        if target is None or target.upstream is not upstream:
            target = self._targets[upstream.id, door] = _target(
                upstream, door, self._credential_of(upstream)
            )
        return target


def _target(upstream: Upstream, door: Door, credential: str | None) -> Target:
    origin = http.Origin.of(upstream.base_url)
    path = "/" + upstream.base_url.split("://", 1)[1].partition("/")[2].strip("/")
    limits = upstream.limits
    lines = [
        f"POST {path.rstrip('/')}/{door.value} HTTP/1.1",
        f"host: {origin.authority}",
        *([f"authorization: Bearer {credential}"] if credential else []),
        "content-type: application/json",
        "user-agent: tokenschain",
        "content-length: ",
    ]
    return Target(
        upstream,
        origin,
        "\r\n".join(lines).encode("latin-1"),
        http.Waits(
            connect_max_s=limits.connect_max_s,
            pool_max_s=limits.queue_wait_max_s,
            first_byte_max_s=limits.first_byte_max_s,
            idle_max_s=limits.idle_max_s,
            total_max_s=limits.total_max_s,
        ),
    )


# --- failures --------------------------------------------------------------------


def _failure(error: http.ClientError, upstream: str) -> ApiError:
    """A failure of the wire as the caller sees it."""
    match error:
        case http.TimedOut():
            return ApiError("upstream_timeout", f"The upstream `{upstream}` gave {error}.")
        case http.PoolExhausted():
            return ApiError("upstream_busy", f"The upstream `{upstream}` is busy: {error}.")
        case http.ConnectFailed():
            return ApiError(
                "upstream_unreachable", f"The upstream `{upstream}` cannot be reached: {error}."
            )
        case http.BadReply():
            return ApiError("upstream_invalid_reply", f"The upstream `{upstream}`: {error}.")
        case _:
            return ApiError(
                "upstream_interrupted", f"The upstream `{upstream}` broke off: {error}."
            )


async def _refusal(reply: http.Reply, upstream: str) -> ApiError:
    """An upstream's error answer as the caller sees it.

    Its words reach the caller only when they are about the caller's request:
    words about our account or its inside are not the caller's business.
    """
    status = reply.status
    retry_after_s = _retry_after(reply.headers.get(b"retry-after"))
    found = chat.read_error(await reply.read(ERROR_BYTES_MAX))
    if status in (400, 413, 422):
        text = found.message[:2_000] or "The upstream refused the request without a reason."
        if "context_length" in found.code or any(word in text.lower() for word in _CONTEXT_WORDS):
            return ApiError("context_length_exceeded", text, param="messages")
        return ApiError("invalid_request", text, param=found.param, status=status)
    if status in (401, 402, 403):
        return ApiError(
            "upstream_rejected_credentials",
            f"The upstream `{upstream}` refused the platform's credentials (HTTP {status}).",
        )
    if status == 429:
        return ApiError(
            "upstream_rate_limited",
            f"The upstream `{upstream}` limits the rate. Try again later.",
            retry_after_s=retry_after_s,
        )
    if status in (408, 504):
        return ApiError("upstream_timeout", f"The upstream `{upstream}` timed out itself.")
    return ApiError(
        "upstream_failed",
        f"The upstream `{upstream}` failed (HTTP {status}).",
        retry_after_s=retry_after_s,
    )


def _retry_after(value: bytes | None) -> float | None:
    return float(value) if value is not None and value.isdigit() and len(value) < 7 else None


# --- whole replies ---------------------------------------------------------------


async def _read_whole(reply: http.Reply, call: Call, attempt: Attempt) -> Answer:
    body = await reply.read(REPLY_BYTES_MAX)
    attempt.first_token_at = attempt.ended_at = time.monotonic()
    upstream = attempt.candidate.upstream.id
    try:
        found = chat.read_reply(body)
    except ValueError:
        raise ApiError(
            "upstream_invalid_reply", f"The upstream `{upstream}` sent no OpenAI reply."
        ) from None
    if found.is_error:
        raise ApiError("upstream_failed", f"The upstream `{upstream}` failed (HTTP 200, error).")
    attempt.usage = chat.usage_of(found.usage) or _estimate(
        call.ask, attempt.candidate.offer, found.output_bytes()
    )
    attempt.finish_reason = found.finish_reason()
    attempt.outcome = "ok"
    return _WholeAnswer(body)


class _WholeAnswer:
    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def deliver(self, call: Call) -> bytes:
        return self._body


def _estimate(ask: Ask, offer: Offer, output_bytes: int, frames: int = 0) -> Usage:
    """Usage when the upstream gave none: never above what caller and model allow.

    Most engines send one token an event. Events that are longer than any token
    hold several: then the text's length decides.
    """
    tokens = -(-output_bytes // chat.BYTES_PER_TOKEN)
    if frames and output_bytes <= frames * _ONE_TOKEN_BYTES_MAX:
        tokens = frames
    if ask.door is Door.EMBEDDINGS:
        tokens = 0
    for limit in (ask.output_tokens_max, offer.output_tokens_max):
        if limit is not None:
            tokens = min(tokens, limit * ask.choices)
    return Usage(ask.prompt_tokens_estimate, tokens, source="estimated")


# --- streams ---------------------------------------------------------------------


class _StreamAnswer:
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
        "_ended",
        "_first",
        "_frame_overhead",
        "_frames",
        "_held",
        "_outlet",
        "_quick",
        "_reader",
        "_reply",
        "_tail",
    )

    def __init__(self, reply: http.Reply, call: Call, attempt: Attempt) -> None:
        self._reply = reply
        self._call = call
        self._attempt = attempt
        self._outlet = call.outlet
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
            await _read_whole(self._reply, self._call, self._attempt)
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
        """Relay the rest; returns the end marker, which is the last of the stream."""
        outlet = self._outlet
        call.partial = True
        call.forget_prompt()
        outlet.begin_stream(call)
        outlet.on_pause = self._reply.pause
        outlet.on_resume = self._reply.resume
        held, self._held = self._held, None
        for piece in held or ():
            outlet.write(piece)
        try:
            await self._ended
            call.partial = False
            self._attempt.outcome = "ok"
            return DONE
        except ApiError as error:
            self._attempt.outcome = error.code
            raise
        except asyncio.CancelledError:
            self._attempt.outcome = "caller_gone"
            self._reply.abort()
            raise
        finally:
            outlet.on_pause = outlet.on_resume = None
            self._attempt.ended_at = time.monotonic()
            self._settle()

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
            attempt.usage = _estimate(self._call.ask, offer, text_bytes, self._frames)

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
            self._outlet.write(data)
            return
        try:
            events = self._reader.feed(data)
        except sse.SseError as error:
            self._fail("upstream_invalid_reply", str(error))
            return
        for event in events:
            self._on_event(event)
        self._quick = self._held is None and self._reader.between_events and not self._ended.done()

    def on_end(self, error: http.ClientError | None) -> None:
        """The upstream's body is complete or broke off."""
        if self._ended.done():
            return
        if error is None:
            for event in self._reader.finish():
                self._on_event(event)
            if self._attempt.finish_reason or _finish_reason(self._tail):
                # The end marker is missing, the answer is not.
                self._finish()
                return
            self._fail("upstream_interrupted", "the stream ended without an end")
        else:
            failure = _failure(error, self._upstream)
            if failure.code == "upstream_unreachable":
                failure = ApiError("upstream_interrupted", failure.message)
            self._fail_with(failure)

    def _on_event(self, event: sse.Event) -> None:
        data = event.data
        if self._ended.done():
            return
        if data == b"[DONE]":
            self._finish()
            return
        self._reply.progress += 1
        try:
            found = chat.read_reply(data)
        except ValueError:
            self._fail("upstream_invalid_reply", "an event is not an OpenAI chunk")
            return
        if found.is_error:
            code = "upstream_interrupted" if self._begun else "upstream_failed"
            self._fail(code, "an error event ended the stream")
            return
        usage = chat.usage_of(found.usage)
        if usage is not None:
            self._attempt.usage = usage
        reason = found.finish_reason()
        if reason:
            self._attempt.finish_reason = reason
        text_bytes = found.output_bytes()
        if text_bytes:
            self._frames += 1
            self._bytes += len(data) + _FRAMING_BYTES
            if not self._begun:
                self._begin(len(data) + _FRAMING_BYTES - text_bytes)
        if not self._call.ask.wants_usage and b'"usage"' in data:
            if not found.choices:
                return
            data = chat.without_usage(data)
        self._send(sse.encode(sse.Event(data, event.event)))

    def _begin(self, frame_overhead: int) -> None:
        self._begun = True
        self._attempt.first_token_at = time.monotonic()
        self._frame_overhead = frame_overhead
        if not self._first.done():
            self._first.set_result(None)

    def _send(self, data: bytes) -> None:
        if self._held is not None:
            self._held.append(data)
        else:
            self._outlet.write(data)

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


def _finish_reason(piece: bytes) -> str:
    """The last finish reason in a piece of whole events."""
    for event in reversed(sse.SseReader().feed(piece)):
        try:
            reason = chat.read_reply(event.data).finish_reason()
        except ValueError:
            continue
        if reason:
            return reason
    return ""
