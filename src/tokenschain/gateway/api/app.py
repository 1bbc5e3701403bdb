"""The door of the data plane: requests in, answers out, in the API's own shape."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from tokenschain.core.call import Call
from tokenschain.core.errors import ERRORS, ApiError
from tokenschain.core.formats.anthropic import inbound
from tokenschain.core.formats.formats import FORMS, Form, StreamForm
from tokenschain.core.pricing.catalog import format_pico
from tokenschain.core.snapshot import ModelRoute, Served
from tokenschain.core.tenancy import Disconnect, KeyGrant, may_use
from tokenschain.gateway.auth import KeyAuth, credential_of
from tokenschain.gateway.conversation_state import ResponseMemory
from tokenschain.gateway.pipeline import Steps, serve
from tokenschain.wire import sse
from tokenschain.wire.server import Exchange

ROUTE_PARTS_MAX = 20
_DONE = b"data: [DONE]\n\n"
_JSON = b"content-type: application/json\r\n"
_SSE = (
    b"content-type: text/event-stream; charset=utf-8\r\n"
    b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
_FORMS = {f"/v1/{form.name}".encode(): form for form in FORMS}
_RESPONSES = b"/v1/responses/"
_RESPONSE_ID = re.compile(r"resp_\w{1,70}", re.ASCII)
_COUNT_TOKENS = b"/v1/messages/count_tokens"
_EXPLAIN = b"/api/v1/routes/explain"
_KNOWN_ELSEWHERE = (
    b"/v1/assistants",
    b"/v1/threads",
    b"/v1/realtime",
    b"/v1/videos",
    b"/v1/containers",
)


class DoorSettings(NamedTuple):
    """What the door itself needs to know."""

    heartbeat_s: float = 15.0
    """A stream that is silent for this long gets an SSE comment."""
    cors_origins: tuple[str, ...] = ()
    """Origins that may call from a browser; `*` allows all."""


class Gateway:
    """Hands each request to its route; owns the tasks of running calls."""

    def __init__(
        self,
        steps: Steps,
        auth: KeyAuth,
        served: Served,
        metrics_text: Callable[[], bytes],
        report: Callable[[str, BaseException], None],
        settings: DoorSettings,
        memory: ResponseMemory,
    ) -> None:
        """
        Args:
            report: told of faults of our own, with the call's id.
        """
        self._memory = memory
        self._reads: set[asyncio.Task[None]] = set()
        self._steps = steps
        self._auth = auth
        self._served = served
        self._metrics_text = metrics_text
        self._report = report
        self._settings = settings
        self._calls: set[_CallOutlet] = set()
        self._id_prefix = f"req_{os.urandom(8).hex()}"
        self._count = 0
        self.draining = False
        self.journal_ok: Callable[[], bool] = lambda: True
        self._cors = _cors_lines(settings.cors_origins)
        self._create_task = asyncio.get_running_loop().create_task

    @property
    def running(self) -> int:
        """Calls being served."""
        return len(self._calls)

    def __call__(self, exchange: Exchange) -> None:
        """Answer one request; see `wire.server.Handler`."""
        request = exchange.request
        form = _FORMS.get(request.path)
        try:
            if form is not None and request.method == "POST":
                _check_encoding(request.headers)
                self._start(exchange, form)
                return
            self._answer_small(exchange, request.method, request.path)
        except ApiError as error:
            _send_error(exchange, error, self._headers(exchange))

    # --- calls -------------------------------------------------------------------

    def _start(self, exchange: Exchange, form: Form) -> None:
        request = exchange.request
        self._count = count = self._count + 1
        outlet = _CallOutlet(
            exchange, self._headers(exchange), self._memory.keep, self._steps.quota.headers
        )
        call = Call(
            f"{self._id_prefix}{count:08x}",
            form,
            request.body,
            credential_of(request.headers),
            request.headers,
            outlet,
            request.received_at,
            time.time_ns() // 1_000_000,
        )
        request.body = b""
        call.client_address = outlet.client_address
        outlet.call = call
        outlet.task = self._create_task(self._run(call, outlet))
        self._calls.add(outlet)
        exchange.on_gone = outlet.caller_left

    async def _run(self, call: Call, outlet: _CallOutlet) -> None:
        try:
            await serve(call, self._steps)
        except Exception as error:  # noqa: BLE001
            # The one border where a fault of our own becomes an answer; its text stays
            # in our log.
            self._report(call.id, error)
            call.blame_ourselves()
            call.outlet.close(call, b"")
        finally:
            self._calls.discard(outlet)
            outlet.release()

    async def keep_streams_alive(self) -> None:
        """Send a comment on each stream that was silent; runs until cancelled."""
        seen: dict[_CallOutlet, int] = {}
        comment = sse.comment(b"keep-alive")
        while True:
            await asyncio.sleep(self._settings.heartbeat_s / 2)
            now: dict[_CallOutlet, int] = {}
            for outlet in list(self._calls):
                if outlet.streams:
                    if seen.get(outlet) == outlet.bytes_out and not outlet.paused:
                        outlet.begin_stream(outlet.call)
                        outlet.write(comment)
                    now[outlet] = outlet.bytes_out
            seen = now

    def _headers(self, exchange: Exchange) -> bytes:
        """CORS lines, when the caller is a browser that is allowed to call."""
        if not self._cors:
            return b""
        origin = exchange.request.headers.get(b"origin", b"")
        return self._cors.get(origin) or self._cors.get(b"*") or b""

    # --- the small routes --------------------------------------------------------

    def _answer_small(self, exchange: Exchange, method: str, path: bytes) -> None:
        if method == "OPTIONS":
            exchange.reply(204, self._headers(exchange) + b"allow: GET, POST, OPTIONS\r\n", b"")
            return
        readable = method in ("GET", "HEAD")
        if path == b"/livez":
            _only(readable)
            exchange.reply(200, b"content-type: text/plain\r\n", b"ok\n")
        elif path == b"/readyz":
            _only(readable)
            self._readyz(exchange)
        elif path == b"/metrics":
            _only(readable)
            text = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
            exchange.reply(200, text, self._metrics_text())
        elif path == b"/v1/models" or path.startswith(b"/v1/models/"):
            _only(readable)
            self._models(exchange, path[len(b"/v1/models/") :])
        elif path.startswith(_RESPONSES):
            self._stored_response(exchange, method, path[len(_RESPONSES) :])
        elif path == _EXPLAIN:
            _only(method == "POST")
            self._explain(exchange)
        elif path == _COUNT_TOKENS:
            _only(method == "POST")
            self._count_tokens(exchange)
        elif path in _FORMS:
            _only(False)
        elif path.startswith(_KNOWN_ELSEWHERE):
            raise ApiError("not_implemented", "This part of OpenAI's API is not offered here.")
        else:
            shown = path[:200].decode("latin-1")
            raise ApiError("not_found", f"There is no {method} {shown} here.")

    def _grant(self, exchange: Exchange, endpoint: str = "") -> KeyGrant:
        """Who asks, where no call is made."""
        return self._auth.grant_of(
            credential_of(exchange.request.headers), endpoint, lambda: exchange.client_address
        )

    def _readyz(self, exchange: Exchange) -> None:
        problems = []
        if not self._served.version:
            problems.append("no configuration received from control yet")
        if self.draining:
            problems.append("shutting down")
        if not self.journal_ok():
            problems.append("the journal has no room")
        body = msgspec.json.encode({"ready": not problems, "problems": problems})
        exchange.reply(503 if problems else 200, _JSON, body)

    def _stored_response(self, exchange: Exchange, method: str, path: bytes) -> None:
        """Read or delete a stored response: the one small route that asks control."""
        caller = self._grant(exchange, "responses")
        parts = path.decode("latin-1").split("/")
        if not _RESPONSE_ID.fullmatch(parts[0]):
            raise ApiError("not_found", "There is no such response.")
        headers = self._headers(exchange)

        async def read() -> None:
            try:
                body = await self._memory.read(caller, method, parts)
                exchange.reply(200, _JSON + headers, body)
            except ApiError as error:
                _send_error(exchange, error, headers)

        task = self._create_task(read())
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    def _count_tokens(self, exchange: Exchange) -> None:
        """Anthropic's count, as far as can be said without the model's tokenizer."""
        try:
            self._grant(exchange, "messages")
            ask = inbound.parse(exchange.request.body, counting=True)
        except ApiError as error:
            headers = self._headers(exchange)
            _send_error(exchange, error, headers, inbound.error_of(error))
            return
        body = msgspec.json.encode({"input_tokens": ask.prompt_tokens_estimate})
        exchange.reply(200, _JSON + self._headers(exchange), body)

    def _explain(self, exchange: Exchange) -> None:
        """A dry run of the choice for a chat request: nothing is sent, nothing is counted."""
        request = exchange.request
        outlet = _CallOutlet(exchange, b"", self._memory.keep, self._steps.quota.headers)
        call = Call(
            "explain", _FORMS[b"/v1/chat/completions"], request.body,
            credential_of(request.headers), request.headers, outlet, request.received_at,
            time.time_ns() // 1_000_000,
        )  # fmt: skip
        call.client_address = outlet.client_address
        caller = self._steps.auth.authenticate(call)
        call.ask = call.form.parse(call.body)
        plan = self._steps.routing.plan(call, caller)
        answer = msgspec.json.encode(self._steps.opening.explain(call, caller, plan))
        exchange.on_pause = exchange.on_resume = None
        exchange.reply(200, _JSON + self._headers(exchange), answer)

    def _models(self, exchange: Exchange, name: bytes) -> None:
        grant = self._grant(exchange)
        snapshot = self._served.get()
        routes = snapshot.models
        if not name:
            data = [_model(route) for route in routes.values() if may_use(grant, route.name)]
            data += [_virtual(n) for n in snapshot.routing.models if may_use(grant, n)]
            answer: object = {"object": "list", "data": data}
        else:
            asked = name.decode("utf-8", "replace")
            route = routes.get(asked)
            if (route is None and asked not in snapshot.routing.models) or not may_use(
                grant, asked
            ):
                raise ApiError("model_not_found", "No such model is served here.", param="model")
            answer = _virtual(asked) if route is None else _model(route)
        headers = _JSON + self._headers(exchange)
        exchange.reply(200, headers, msgspec.json.encode(answer))


class _CallOutlet:
    """The way back to one caller: knows which form the answer has taken so far."""

    __slots__ = (
        "_cors", "_exchange", "_keep", "_limits", "_stream", "call", "on_pause", "on_resume",
        "paused", "task",
    )  # fmt: skip

    def __init__(
        self,
        exchange: Exchange,
        cors: bytes,
        keep: Callable[[Call, bytes], None],
        limits: Callable[[Call], bytes],
    ) -> None:
        self._limits = limits
        self._exchange = exchange
        self._keep = keep
        self._cors = cors
        self._stream: StreamForm | None = None
        self.call: Call
        self.task: asyncio.Task[None]
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.paused = False
        exchange.on_pause = self._pause
        exchange.on_resume = self._resume

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
        return self.call.ask.stream and not self._exchange.gone

    @property
    def takes_raw(self) -> bool:
        return self.call.form.stream is None

    def begin_stream(self, call: Call) -> None:
        exchange = self._exchange
        if not exchange.started:
            if call.form.stream is not None:
                self._stream = call.form.stream(call.ask.model, call.id)
            exchange.begin(200, b"".join((_SSE, self._lines(call), self._cors)))

    def write(self, data: bytes) -> None:
        self._exchange.write(data)

    def event(self, data: bytes) -> None:
        stream = self._stream
        self._exchange.write(b"data: %b\n\n" % data if stream is None else stream.event(data))

    def close(self, call: Call, last: bytes) -> None:
        exchange = self._exchange
        if exchange.ended:
            return
        error = call.error
        stream = self._stream
        if error is None:
            if exchange.started:
                exchange.finish(_DONE if stream is None else stream.end())
                if stream is not None and call.ask.kept_input:
                    self._keep(call, stream.final)
            else:
                if call.form.whole is not None:
                    last = call.form.whole(last, call.id)
                    if call.ask.kept_input:
                        self._keep(call, last)
                headers = b"".join((_JSON, self._lines(call), self._cost(call), self._cors))
                exchange.reply(200, headers, last)
        elif exchange.started:
            # The status is long gone: the error is an event, and no end marker follows.
            event = sse.Event(error.body(), b"error")
            exchange.finish(sse.encode(event) if stream is None else stream.error(error))
        else:
            _send_error(exchange, error, self._lines(call) + self._cors, call.form.error(error))

    def release(self) -> None:
        """The call is over. Unties what points in circles, so that memory is freed by
        count: a garbage collection of thousands of calls stops everybody for 6 ms."""
        exchange = self._exchange
        exchange.on_gone = exchange.on_pause = exchange.on_resume = None
        self.call.forget_prompt()
        del self.call, self.task

    def caller_left(self, reason: str) -> None:
        """The connection is gone before the answer was complete."""
        call = self.call
        messages = {
            "caller_gone": "The caller closed the connection.",
            "caller_stalled": "The caller stopped reading.",
        }
        call.error = ApiError(reason, messages[reason])
        caller = call.caller
        if caller is not None and caller.disconnect is Disconnect.DRAIN:
            # The upstream goes on to its end, so that what it bills is known.
            if self.on_resume is not None:
                self.on_resume()
            return
        self.task.cancel()

    def _pause(self) -> None:
        self.paused = True
        if self.on_pause is not None:
            self.on_pause()

    def _resume(self) -> None:
        self.paused = False
        if self.on_resume is not None:
            self.on_resume()

    def _lines(self, call: Call) -> bytes:
        """The headers every answer to a call has."""
        extra = b"" if call.reservation is None else self._limits(call)
        if not call.attempts:
            return b"x-request-id: %b\r\n%b%b" % (call.id.encode(), _cached(call), extra)
        if call.dropped or call.emulated or b"x-tc-route" in call.headers:
            extra += (
                _names(b"x-tc-dropped", call.dropped)
                + _names(b"x-tc-emulated", call.emulated)
                + _route(call)
            )
        attempt = call.attempts[-1]
        now = time.monotonic()
        spent_upstream = (attempt.ended_at or attempt.first_token_at or now) - attempt.started_at
        overhead_ms = (now - call.received_at - spent_upstream) * 1e3
        return (
            b"x-request-id: %b\r\nx-tc-endpoint: %b\r\n"
            b"x-tc-cache: %b\r\nx-tc-overhead-ms: %.2f\r\n%b"
            % (
                call.id.encode(),
                attempt.candidate.upstream.id.encode(),
                call.cache.encode("latin-1", "replace"),
                overhead_ms,
                extra,
            )
        )

    @staticmethod
    def _cost(call: Call) -> bytes:
        record = call.record
        if record is None or record.charge_pico is None:
            return b""
        return (
            b"x-tc-cost: %b\r\n" % format_pico(record.charge_pico, record.charge_currency).encode()
        )


def _cached(call: Call) -> bytes:
    """Where an answer came from that no upstream gave."""
    hit = call.hit
    if hit is None:
        return b""
    line = b"x-tc-cache: %b\r\nx-tc-cache-key: %b\r\n" % (
        hit.tier.encode(), hit.key.hex().encode(),
    )  # fmt: skip
    if hit.entry is None:
        return line
    age_s = max(0, int(call.started_ms / 1e3 - hit.entry.stored_s))
    likeness = call.likeness if hit.tier == "semantic" else 1.0
    return b"%bage: %d\r\nx-tc-cache-likeness: %.3f\r\n" % (line, age_s, likeness)


def wire_refusal(status: int, code: str, message: str) -> bytes:
    """The body for what the wire itself refuses; see `wire.server.RefusalWriter`."""
    return ApiError(code if code in ERRORS else "malformed_http", message).body()


def _send_error(
    exchange: Exchange, error: ApiError, headers: bytes, body: bytes | None = None
) -> None:
    if error.retry_after_s is not None:
        headers += b"retry-after: %d\r\n" % max(1, round(error.retry_after_s))
    if error.status == 401:
        headers += b'www-authenticate: Bearer realm="tokenschain"\r\n'
    exchange.reply(error.status, _JSON + headers, error.body() if body is None else body)


def _check_encoding(headers: dict[bytes, bytes]) -> None:
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding != b"identity":
        shown = encoding[:40].decode("latin-1")
        raise ApiError("unsupported_media_type", f"Bodies in `{shown}` are not read here.")


def _route(call: Call) -> bytes:
    """How the call found its upstream, for callers who asked."""
    decision = call.decision
    if decision is None or b"x-tc-route" not in call.headers:
        return b""
    parts = [decision.reason]
    for row in decision.rows:
        parts.append(
            f"{row.endpoint.name} ttft={row.first_token_s:.3f}s "
            f"cost={row.cost_pico:.0f} load={row.load:.2f}{'' if row.in_time else ' late'}"
        )
    parts += [f"{name} {why}" for name, why in decision.filtered]
    tried = " > ".join(f"{a.candidate.upstream.id}={a.outcome}" for a in call.attempts)
    line = "; ".join([*parts[:ROUTE_PARTS_MAX], f"tried {tried}"])
    return b"x-tc-route: %b\r\n" % line.encode("latin-1", "replace")


def _names(header: bytes, names: tuple[str, ...]) -> bytes:
    """A header line that lists parameters; nothing when there are none."""
    if not names:
        return b""
    return b"%b: %b\r\n" % (header, ", ".join(names).encode("latin-1", "replace"))


def _only(allowed: bool) -> None:
    if not allowed:
        raise ApiError("method_not_allowed", "This path has other methods; see the reference.")


def _virtual(name: str) -> dict[str, object]:
    """A virtual model as OpenAI lists models."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "routing"}


def _model(route: ModelRoute) -> dict[str, object]:
    return {
        "id": route.name,
        "object": "model",
        "created": route.created_s,
        "owned_by": route.owned_by or "tokenschain",
    }


def _cors_lines(origins: tuple[str, ...]) -> dict[bytes, bytes]:
    return {
        origin.encode(): (
            b"access-control-allow-origin: %b\r\nvary: origin\r\n"
            b"access-control-allow-methods: GET, POST, OPTIONS\r\n"
            b"access-control-allow-headers: authorization, content-type, x-api-key, x-tc-tags\r\n"
            b"access-control-expose-headers: x-request-id, x-tc-endpoint, x-tc-cost\r\n"
            b"access-control-max-age: 600\r\n"
        )
        % origin.encode()
        for origin in origins
    }
