"""Any upstream: the one deep provider.

Requests go out in the vendor's dialect with the upstream's model name and with usage asked
for; replies come back as bytes, touched only where they must be. A stream is relayed from the
upstream's transport to the caller's without a task switch per event. Vendors that speak
another protocol than OpenAI's bring a `Speech`; everything else about them is the same.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from msgspec import Raw

from tokenschain.core import chat, conversation, dialect
from tokenschain.core.calls import Attempt, Call
from tokenschain.core.catalog import Usage
from tokenschain.core.chat import Ask, Door
from tokenschain.core.dialect import Bridged, Policy
from tokenschain.core.errors import ERRORS, ApiError, Blame, Fault
from tokenschain.core.ports import Answer
from tokenschain.core.reading import FAILED_FINISHES, Reading, ReplyReader
from tokenschain.core.snapshot import Candidate, Offer, Upstream
from tokenschain.providers import refusals, rerank, schema
from tokenschain.providers.auth import EXCHANGES, SIGNERS
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.keys import KeyRing, KeyState, UpstreamKey
from tokenschain.providers.signing import Signable
from tokenschain.providers.tokens import TokenKeeper
from tokenschain.providers.vendor import Auth, ChunkDecoder, Signer, Vendor
from tokenschain.wire import client as http
from tokenschain.wire import sse

REPLY_BYTES_MAX = 67_108_864
ERROR_BYTES_MAX = 65_536
_FRAMING_BYTES = len(b"data: \n\n")
_ONE_TOKEN_BYTES_MAX = 12
KEYS_TRIED_MAX = 3
"""Keys of one upstream tried for one call."""
POLICY_HEADER = b"x-tc-unsupported"


class Target(NamedTuple):
    """One upstream's address and all of the request head that never changes but for the key."""

    upstream: Upstream
    vendor: Vendor
    origin: http.Origin
    path: str
    lines: tuple[str, ...]
    keyless_head: bytes
    waits: http.Waits
    keys: KeyRing | None
    sign: Signer | None
    tokens: TokenKeeper | None


class Upstreams:
    """Opens calls at upstreams of any vendor."""

    def __init__(
        self,
        client: http.HttpClient,
        secret_of: Callable[[str], str | None],
        vendor_of: Callable[[str], Vendor],
        report: Callable[[str, int, KeyState], None],
        images: ImageFetcher,
    ) -> None:
        """
        Args:
            secret_of: the secret behind a reference, or None while it cannot be had.
            vendor_of: the row of a provider in the table of vendors.
            report: told when a key's state changes: upstream, number of the key, state.
        """
        self._client = client
        self._secret_of = secret_of
        self._vendor_of = vendor_of
        self._report = report
        self._images = images
        self._targets: dict[tuple[str, Door], Target] = {}
        self._rings: dict[Upstream, KeyRing] = {}
        self._keepers: dict[Upstream, TokenKeeper] = {}

    async def refresh_keys(self) -> None:
        """Read all keys' references again, so that a new key needs no restart."""
        for upstream, ring in self._rings.items():
            ring.refresh()
            keeper = self._keepers.get(upstream)
            if keeper is not None:
                await keeper.refresh({key.value for key in ring.keys})

    async def open(self, call: Call, candidate: Candidate) -> Answer:
        """See `core.ports.Upstreams.open`.

        A key that the upstream complains about rests, and the next one is tried.
        """
        target = self._target(candidate.upstream, call.ask.door)
        bridged = _bridge(call, candidate.offer.model, target.vendor)
        call.dropped, call.emulated = bridged.dropped, bridged.emulated
        if target.vendor.images_as_data and call.ask.door is Door.CHAT:
            bridged = bridged._replace(fields=await self._images.inline(bridged.fields))
        ring = target.keys
        if ring is None:
            return await self._try(call, candidate, target, bridged, None)
        failure: ApiError | None = None
        for _ in range(min(len(ring.keys), KEYS_TRIED_MAX)):
            key = ring.take()
            if key is None:
                break
            try:
                return await self._try(call, candidate, target, bridged, key)
            except ApiError as error:
                if error.kind.blame is not Blame.KEY:
                    raise
                ring.blame(key, error.code, error.retry_after_s)
                failure = error
        raise failure or _no_key(candidate.upstream, ring)

    async def _try(
        self,
        call: Call,
        candidate: Candidate,
        target: Target,
        bridged: Bridged,
        key: UpstreamKey | None,
    ) -> Answer:
        ask = call.ask
        attempt = Attempt(candidate, time.monotonic())
        attempt.thinking = bool(bridged.thinking)
        if ask.choices > target.vendor.dialect.choices_max:
            return await self._several(call, candidate, target, attempt, bridged, key)
        call.attempts.append(attempt)
        async with _Outcome(attempt, ask, candidate.upstream.id) as outcome:
            reply = await self._send(ask, candidate, target, bridged.fields, key)
            attempt.first_byte_at = time.monotonic()
            if reply.status != 200:
                raise await _refusal(reply, candidate.upstream.id, target.vendor)
            answer: Answer
            if ask.stream:
                answer = await _StreamAnswer(reply, call, attempt, target.vendor).first_token()
            else:
                body = await _read_whole(reply, call, attempt, target.vendor)
                if bridged.schema is not None:
                    body = schema.checked(body, bridged.schema, candidate.upstream.id)
                answer = _WholeAnswer(body)
            outcome.leave_open()
            return answer

    async def _send(
        self,
        ask: Ask,
        candidate: Candidate,
        target: Target,
        fields: dict[str, Raw],
        key: UpstreamKey | None,
    ) -> http.Reply:
        speech = target.vendor.speech
        offer = candidate.offer
        lines = b""
        if speech is not None and ask.door is Door.CHAT:
            asked = conversation.read(fields)
            body = speech.request(asked, offer.model, offer.output_tokens_max)
            if ask.stream:
                lines = _lines(speech.stream_headers)
        elif ask.door is Door.RERANK and target.vendor.texts_rerank:
            body = rerank.texts_request(fields)
        else:
            known = target.vendor.dialect.stream_usage
            body = chat.encode_for(ask, fields, offer.model, stream_usage=known)
        head = target.keyless_head
        if key is None:
            pass
        elif target.sign is not None:
            headers = (("content-type", "application/json"), ("host", target.origin.authority))
            request = Signable("POST", target.path, headers, body)
            lines += _lines(target.sign(request, key.value, time.time()))
        elif target.tokens is not None:
            token = await target.tokens.token_of(key.value, offer.model)
            lines += _lines((("authorization", f"Bearer {token}"),))
        else:
            head = _head(target, key)
        return await self._client.open(
            target.origin,
            b"%b%bcontent-length: %d\r\n\r\n%b" % (head, lines, len(body), body),
            target.waits,
            candidate.upstream.limits.connections_max,
        )

    async def _several(
        self,
        call: Call,
        candidate: Candidate,
        target: Target,
        attempt: Attempt,
        bridged: Bridged,
        key: UpstreamKey | None,
    ) -> Answer:
        """More choices than the vendor gives at once: as many calls, side by side."""
        ask = call.ask
        if ask.stream or _policy(call) in (Policy.ERROR, Policy.DROP):
            raise ApiError(
                "unsupported_parameter",
                f"The upstream gives {target.vendor.dialect.choices_max} choices at most"
                f"{' in a stream' if ask.stream else ''}.",
                param="n",
            )
        call.attempts.append(attempt)
        call.emulated += ("n",)
        async with _Outcome(attempt, ask, candidate.upstream.id) as outcome:
            parts: list[bytes] = []
            total = Usage()

            async def one() -> tuple[bytes, Usage]:
                reply = await self._send(ask, candidate, target, dict(bridged.fields), key)
                if reply.status != 200:
                    raise await _refusal(reply, candidate.upstream.id, target.vendor)
                mine = Attempt(candidate, attempt.started_at)
                body = await _read_whole(reply, call, mine, target.vendor)
                return body, mine.usage or Usage()

            try:
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(one()) for _ in range(ask.choices)]
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from failures
            for task in tasks:
                body, usage = task.result()
                parts.append(body)
                total = chat.add_usage(total, usage)
            attempt.first_byte_at = attempt.first_token_at = attempt.ended_at = time.monotonic()
            attempt.usage, attempt.outcome = total, "ok"
            outcome.leave_open()
            return _WholeAnswer(chat.join_choices(parts))

    def _target(self, upstream: Upstream, door: Door) -> Target:
        target = self._targets.get((upstream.id, door))
        if target is None or target.upstream is not upstream:
            target = self._targets[upstream.id, door] = _target(
                upstream,
                self._vendor_of(upstream.provider),
                door,
                self._ring(upstream),
                self._keeper(upstream),
            )
        return target

    def _keeper(self, upstream: Upstream) -> TokenKeeper | None:
        if upstream.auth != "token":
            return None
        keeper = self._keepers.get(upstream)
        if keeper is None:
            exchange = EXCHANGES.get(self._vendor_of(upstream.provider).rules)
            if exchange is None:
                raise ApiError(
                    "no_upstream", f"The provider of `{upstream.id}` has no token service."
                )
            keeper = TokenKeeper(self._client, exchange, upstream.token_url)
            self._keepers[upstream] = keeper
        return keeper

    def _ring(self, upstream: Upstream) -> KeyRing | None:
        if not upstream.credentials:
            return None
        ring = self._rings.get(upstream)
        if ring is None:
            ring = self._rings[upstream] = KeyRing(
                upstream.credentials,
                self._secret_of,
                time.monotonic,
                lambda number, state: self._report(upstream.id, number, state),
            )
        return ring


def _no_key(upstream: Upstream, ring: KeyRing) -> ApiError:
    if not ring.keys:
        missing = ", ".join(upstream.credentials)
        return ApiError(
            "no_upstream", f"The credential of the upstream `{upstream.id}` is missing: {missing}."
        )
    return ApiError(
        "upstream_rate_limited",
        f"All keys of the upstream `{upstream.id}` are resting; try again later.",
        retry_after_s=ring.ready_in_s,
    )


class _Outcome:
    """What became of an attempt, kept right on every way out."""

    __slots__ = ("_ask", "_attempt", "_open", "_upstream")

    def __init__(self, attempt: Attempt, ask: Ask, upstream: str) -> None:
        self._attempt = attempt
        self._ask = ask
        self._upstream = upstream
        self._open = False

    def leave_open(self) -> None:
        """The answer has begun; whoever delivers it settles the attempt."""
        self._open = True

    async def __aenter__(self) -> _Outcome:
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._open:
            return
        attempt = self._attempt
        attempt.ended_at = time.monotonic()
        if isinstance(error, http.ClientError):
            failure = _failure(error, self._upstream)
            attempt.outcome = failure.code
            raise failure from error
        if isinstance(error, ApiError):
            attempt.outcome = error.code
        elif isinstance(error, asyncio.CancelledError):
            # The upstream may have worked; what it did is not known.
            attempt.outcome = "caller_gone"
            attempt.usage = attempt.usage or Usage(
                prompt_tokens=self._ask.prompt_tokens_estimate, source="estimated"
            )
        else:
            attempt.outcome = "internal_error"


def _bridge(call: Call, model: str, vendor: Vendor) -> Bridged:
    """The request in the vendor's dialect; the call's own fields stay for the next upstream."""
    fields = call.ask.fields
    choices = call.ask.choices
    if "n" in fields and (choices == 1 or choices > vendor.dialect.choices_max):
        fields = {name: raw for name, raw in fields.items() if name != "n"}
    if call.ask.door is not Door.CHAT or not dialect.touches(vendor.dialect, fields):
        return Bridged(dict(fields))
    return dialect.bridge(fields, model, vendor.dialect, _policy(call))


def _policy(call: Call) -> Policy:
    wanted = call.headers.get(POLICY_HEADER)
    if wanted is None:
        return Policy.AUTO
    try:
        return Policy(wanted.decode("latin-1"))
    except ValueError:
        known = ", ".join(Policy)
        raise ApiError(
            "invalid_value", f"`x-tc-unsupported` is one of: {known}.", param="x-tc-unsupported"
        ) from None


def _target(
    upstream: Upstream,
    vendor: Vendor,
    door: Door,
    keys: KeyRing | None,
    tokens: TokenKeeper | None,
) -> Target:
    origin = http.Origin.of(upstream.base_url)
    base = "/" + upstream.base_url.split("://", 1)[1].partition("/")[2].strip("/")
    speech = vendor.speech if door is Door.CHAT else None
    end = speech.path if speech is not None else vendor.paths.get(door, door.value)
    path = end if end.startswith("/") else f"{base.rstrip('/')}/{end}"
    limits = upstream.limits
    lines = (
        f"POST {path} HTTP/1.1",
        f"host: {origin.authority}",
        *(f"{name}: {value}" for name, value in (speech.headers if speech else ())),
        "content-type: application/json",
        "user-agent: tokenschain",
        "",
    )
    return Target(
        upstream,
        vendor,
        origin,
        path,
        lines,
        "\r\n".join(lines).encode("latin-1"),
        http.Waits(
            connect_max_s=limits.connect_max_s,
            pool_max_s=limits.queue_wait_max_s,
            first_byte_max_s=limits.first_byte_max_s,
            idle_max_s=limits.idle_max_s,
            total_max_s=limits.total_max_s,
        ),
        keys,
        SIGNERS.get(upstream.auth) or (speech.sign if speech is not None else None),
        tokens,
    )


def _head(target: Target, key: UpstreamKey) -> bytes:
    """The request head with a key, made once for each."""
    head = key.heads.get(target.path)
    if head is None:
        auth = _AUTH_LINES.get(target.vendor.auth)
        line = (f"{auth}{key.value}",) if auth is not None else ()
        whole = (*target.lines[:2], *line, *target.lines[2:])
        head = key.heads[target.path] = "\r\n".join(whole).encode("latin-1")
    return head


_AUTH_LINES = {Auth.BEARER: "authorization: Bearer ", Auth.X_API_KEY: "x-api-key: "}


def _lines(headers: tuple[tuple[str, str], ...]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")


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


async def _refusal(reply: http.Reply, upstream: str, vendor: Vendor) -> ApiError:
    """An upstream's error answer as the caller sees it."""
    body = await reply.read(ERROR_BYTES_MAX)
    return _refused(reply.status, body, reply.headers.get(b"retry-after"), upstream, vendor)


def _refused(
    status: int, body: bytes, retry_after: bytes | None, upstream: str, vendor: Vendor
) -> ApiError:
    """What an error means; its words reach the caller only when they are about the caller's
    request: words about our account or the upstream's inside are not the caller's business."""
    found = chat.read_error(body)
    code = refusals.meaning_of(vendor.rules, status, found.codes, found.message)
    wait_s = refusals.wait_of(retry_after, found.message)
    if ERRORS[code].fault is Fault.CALLER:
        text = found.message[:2_000] or "The upstream refused the request without a reason."
        param = "messages" if code == "context_length_exceeded" else found.param
        kept = status if code == "invalid_request" and status in (400, 413, 422) else None
        return ApiError(code, text, param=param, status=kept)
    known = f"HTTP {status}" + "".join(f", {c}" for c in found.codes[:1])
    return ApiError(
        code, f"The upstream `{upstream}`: {_SAYS[code]} ({known}).", retry_after_s=wait_s
    )


_SAYS = {
    "upstream_rejected_credentials": "it refused the platform's credentials",
    "upstream_access_denied": "the platform's account may not use this model there",
    "upstream_out_of_funds": "the platform's account there has no funds or quota left",
    "upstream_model_not_found": "it does not know the model that is configured",
    "upstream_rate_limited": "it limits the rate, try again later",
    "upstream_overloaded": "it is overloaded, try again later",
    "upstream_timeout": "it timed out itself",
    "upstream_failed": "it failed",
}


# --- whole replies ---------------------------------------------------------------


async def _read_whole(reply: http.Reply, call: Call, attempt: Attempt, vendor: Vendor) -> bytes:
    """A whole reply, canonical and understood."""
    body = await reply.read(REPLY_BYTES_MAX)
    attempt.first_token_at = attempt.ended_at = time.monotonic()
    upstream = attempt.candidate.upstream.id
    ask = call.ask
    try:
        if ask.door is Door.RERANK:
            body = rerank.reply_from(body, ask, attempt.candidate.offer.model)
        elif ask.door is Door.CHAT:
            if vendor.speech is not None:
                body = vendor.speech.whole(body, _heading(call, attempt))
            elif vendor.rereads or vendor.reading is not Reading.CANONICAL:
                body = ReplyReader(vendor.reading).whole(body)
        found = chat.read_reply(body)
    except ValueError:
        raise ApiError(
            "upstream_invalid_reply", f"The upstream `{upstream}` sent no reply of its kind."
        ) from None
    if found.is_error:
        raise _refused(200, body, None, upstream, vendor)
    finish = found.finish_reason()
    if finish in FAILED_FINISHES:
        raise ApiError("upstream_failed", f"The upstream `{upstream}` gave up ({finish}).")
    attempt.usage = chat.usage_of(found.usage) or _estimate(
        ask, attempt.candidate.offer, found.output_bytes()
    )
    attempt.finish_reason = finish
    attempt.outcome = "ok"
    return body


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
    if ask.door in (Door.EMBEDDINGS, Door.RERANK):
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
        "_decoder",
        "_ended",
        "_first",
        "_frame_overhead",
        "_frames",
        "_held",
        "_outlet",
        "_quick",
        "_raw",
        "_reader",
        "_reply",
        "_tail",
        "_vendor",
    )

    def __init__(self, reply: http.Reply, call: Call, attempt: Attempt, vendor: Vendor) -> None:
        self._reply = reply
        self._call = call
        self._attempt = attempt
        self._outlet = call.outlet
        self._vendor = vendor
        self._decoder = _decoder_of(vendor, call, attempt)
        self._raw = self._decoder is None and call.outlet.takes_raw
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
            await _read_whole(self._reply, self._call, self._attempt, self._vendor)
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
        outlet = self._outlet
        call.partial = True
        call.forget_prompt()
        outlet.begin_stream(call)
        outlet.on_pause = self._reply.pause
        outlet.on_resume = self._reply.resume
        held, self._held = self._held, None
        for data in held or ():
            outlet.event(data)
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
            failure = _failure(error, self._upstream)
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
            found = chat.read_reply(data)
        except ValueError:
            self._fail("upstream_invalid_reply", "an event is not an OpenAI chunk")
            return
        if found.is_error:
            if self._begun:
                self._fail("upstream_interrupted", "an error event ended the stream")
            else:
                self._fail_with(_refused(200, data, None, self._upstream, self._vendor))
            return
        usage = chat.usage_of(found.usage)
        if usage is not None:
            self._attempt.usage = usage
        reason = found.finish_reason()
        if reason:
            if reason in FAILED_FINISHES:
                self._fail("upstream_interrupted", f"it gave up ({reason})")
                return
            self._attempt.finish_reason = reason
        text_bytes = found.output_bytes()
        if text_bytes:
            self._frames += 1
            self._bytes += len(data) + _FRAMING_BYTES
            if not self._begun:
                self._begin(len(data) + _FRAMING_BYTES - text_bytes)
        if self._outlet.takes_raw and not self._call.ask.wants_usage and b'"usage"' in data:
            if not found.choices:
                return
            data = chat.without_usage(data)
        if self._held is not None:
            self._held.append(data)
        else:
            self._outlet.event(data)

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


class _Rereader:
    """A decoder for vendors whose chunks only need some fields renamed."""

    __slots__ = ("_reader",)

    def __init__(self, reading: Reading) -> None:
        self._reader = ReplyReader(reading)

    def event(self, data: bytes) -> list[bytes]:
        return [self._reader.chunk(data)]


def _heading(call: Call, attempt: Attempt) -> conversation.Heading:
    return conversation.Heading(attempt.candidate.offer.model, call.started_ms // 1_000)


def _decoder_of(vendor: Vendor, call: Call, attempt: Attempt) -> ChunkDecoder | None:
    if call.ask.door is not Door.CHAT:
        return None
    if vendor.speech is not None:
        return vendor.speech.stream(_heading(call, attempt))
    if vendor.rereads or vendor.reading is not Reading.CANONICAL:
        return _Rereader(vendor.reading)
    return None


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
