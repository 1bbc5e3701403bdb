"""HTTP API of the gateway: routes requests to the pipeline and the small read-only answers."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from tokenschain.core.call import Call, CallRequest
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.anthropic import inbound
from tokenschain.core.formats.formats import API_FORMATS, ApiFormat
from tokenschain.core.snapshot import ModelRoute, Served
from tokenschain.core.tenancy import KeyGrant, may_use
from tokenschain.gateway.api import routes
from tokenschain.gateway.api.response_writer import JSON_LINE, CallResponseWriter, send_error
from tokenschain.gateway.auth import KeyAuth, credential_of
from tokenschain.gateway.conversation_state import ConversationState
from tokenschain.gateway.pipeline import Steps, serve
from tokenschain.wire import sse
from tokenschain.wire.server import Exchange, Request

_FORMATS = {f"/v1/{api_format.name}".encode(): api_format for api_format in API_FORMATS}
_RESPONSE_ID = re.compile(r"resp_\w{1,70}", re.ASCII)
_KNOWN_ELSEWHERE = (
    b"/v1/assistants",
    b"/v1/threads",
    b"/v1/realtime",
    b"/v1/videos",
    b"/v1/containers",
)


class ApiSettings(NamedTuple):
    """Settings of the API itself."""

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
        settings: ApiSettings,
        conversations: ConversationState,
    ) -> None:
        """
        Args:
            report: told of faults of our own, with the call's id.
        """
        self._conversations = conversations
        self._reads: set[asyncio.Task[None]] = set()
        self._steps = steps
        self._auth = auth
        self._served = served
        self._metrics_text = metrics_text
        self._report = report
        self._settings = settings
        self._calls: set[CallResponseWriter] = set()
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
        api_format = _FORMATS.get(request.path)
        try:
            if api_format is not None and request.method == "POST":
                _check_encoding(request.headers)
                self._start(exchange, api_format)
                return
            self._answer_small(exchange, request.method, request.path)
        except ApiError as error:
            send_error(exchange, error, self._headers(exchange))

    # --- calls -------------------------------------------------------------------

    def _start(self, exchange: Exchange, api_format: ApiFormat) -> None:
        request = exchange.request
        self._count = count = self._count + 1
        writer = CallResponseWriter(exchange, self._headers(exchange), self._conversations.keep)
        call = self._call(f"{self._id_prefix}{count:08x}", api_format, request, writer)
        request.body = b""
        writer.call = call
        writer.task = self._create_task(self._run(call, writer))
        self._calls.add(writer)
        exchange.on_gone = writer.caller_left

    @staticmethod
    def _call(id: str, api_format: ApiFormat, request: Request, writer: CallResponseWriter) -> Call:
        body, headers = request.body, request.headers
        return Call(
            CallRequest(
                id, api_format, body, credential_of(headers), headers, request.received_at,
                time.time_ns() // 1_000_000, writer.client_address, len(body),
            ),
            writer,
        )  # fmt: skip

    async def _run(self, call: Call, writer: CallResponseWriter) -> None:
        try:
            await serve(call, self._steps)
        except Exception as error:  # noqa: BLE001
            # The one border where a fault of our own becomes an answer; its text stays
            # in our log.
            self._report(call.request.id, error)
            call.blame_ourselves()
            call.writer.close(call, b"")
        finally:
            self._calls.discard(writer)
            writer.release()

    async def keep_streams_alive(self) -> None:
        """Send a comment on each stream that was silent; runs until cancelled."""
        seen: dict[CallResponseWriter, int] = {}
        comment = sse.comment(b"keep-alive")
        while True:
            await asyncio.sleep(self._settings.heartbeat_s / 2)
            now: dict[CallResponseWriter, int] = {}
            for writer in list(self._calls):
                if writer.streams:
                    if seen.get(writer) == writer.bytes_out and not writer.paused:
                        writer.begin_stream(writer.call)
                        writer.write(comment)
                    now[writer] = writer.bytes_out
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
        found = routes.find(path)
        if found is None:
            if path.startswith(_KNOWN_ELSEWHERE):
                raise ApiError("not_implemented", "This part of OpenAI's API is not offered here.")
            shown = path[:200].decode("latin-1")
            raise ApiError("not_found", f"There is no {method} {shown} here.")
        route, rest = found
        if ("GET" if method == "HEAD" else method) not in route.methods:
            raise ApiError("method_not_allowed", "This path has other methods; see the reference.")
        match route.handler:
            case "livez":
                exchange.reply(200, b"content-type: text/plain\r\n", b"ok\n")
            case "readyz":
                self._readyz(exchange)
            case "metrics":
                text = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
                exchange.reply(200, text, self._metrics_text())
            case "models":
                self._models(exchange, rest)
            case "stored_response":
                self._stored_response(exchange, method, rest)
            case "explain":
                self._explain(exchange)
            case "count_tokens":
                self._count_tokens(exchange)
            case unknown:
                raise AssertionError(f"no handler {unknown}")

    def _grant(self, exchange: Exchange, api: str = "") -> KeyGrant:
        """Who asks, where no call is made."""
        return self._auth.grant_of(
            credential_of(exchange.request.headers), api, lambda: exchange.client_address
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
        exchange.reply(503 if problems else 200, JSON_LINE, body)

    def _stored_response(self, exchange: Exchange, method: str, path: bytes) -> None:
        """Read or delete a stored response: the one small route that asks control."""
        caller = self._grant(exchange, "responses")
        parts = path.decode("latin-1").split("/")
        if not _RESPONSE_ID.fullmatch(parts[0]):
            raise ApiError("not_found", "There is no such response.")
        headers = self._headers(exchange)

        async def read() -> None:
            try:
                body = await self._conversations.read(caller, method, parts)
                exchange.reply(200, JSON_LINE + headers, body)
            except ApiError as error:
                send_error(exchange, error, headers)

        task = self._create_task(read())
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    def _count_tokens(self, exchange: Exchange) -> None:
        """Anthropic's count, as far as can be said without the model's tokenizer."""
        try:
            self._grant(exchange, "messages")
            parsed = inbound.parse(exchange.request.body, counting=True)
        except ApiError as error:
            headers = self._headers(exchange)
            send_error(exchange, error, headers, inbound.error_of(error))
            return
        body = msgspec.json.encode({"input_tokens": parsed.prompt_tokens_estimate})
        exchange.reply(200, JSON_LINE + self._headers(exchange), body)

    def _explain(self, exchange: Exchange) -> None:
        """A dry run of the choice for a chat request: nothing is sent, nothing is counted."""
        writer = CallResponseWriter(exchange, b"", self._conversations.keep)
        api_format = _FORMATS[b"/v1/chat/completions"]
        call = self._call("explain", api_format, exchange.request, writer)
        caller = self._steps.auth.authenticate(call)
        call.parsed = call.request.api_format.parse(call.request.body)
        plan = self._steps.routing.plan(call, caller)
        answer = msgspec.json.encode(self._steps.opening.explain(call, caller, plan))
        exchange.on_pause = exchange.on_resume = None
        exchange.reply(200, JSON_LINE + self._headers(exchange), answer)

    def _models(self, exchange: Exchange, name: bytes) -> None:
        grant = self._grant(exchange)
        snapshot = self._served.get()
        served = snapshot.models
        if not name:
            data = [_model(route) for route in served.values() if may_use(grant, route.name)]
            data += [_virtual(n) for n in snapshot.routing.models if may_use(grant, n)]
            answer: object = {"object": "list", "data": data}
        else:
            asked = name.decode("utf-8", "replace")
            route = served.get(asked)
            if (route is None and asked not in snapshot.routing.models) or not may_use(
                grant, asked
            ):
                raise ApiError("model_not_found", "No such model is served here.", param="model")
            answer = _virtual(asked) if route is None else _model(route)
        headers = JSON_LINE + self._headers(exchange)
        exchange.reply(200, headers, msgspec.json.encode(answer))


def _check_encoding(headers: dict[bytes, bytes]) -> None:
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding != b"identity":
        shown = encoding[:40].decode("latin-1")
        raise ApiError("unsupported_media_type", f"Bodies in `{shown}` are not read here.")


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
            b"access-control-expose-headers: x-request-id, x-tc-upstream, x-tc-cost\r\n"
            b"access-control-max-age: 600\r\n"
        )
        % origin.encode()
        for origin in origins
    }
