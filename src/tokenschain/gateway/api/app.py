"""HTTP API of the gateway: routes requests to the pipeline and the small read-only answers."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec

from tokenschain.core.call import Call, CallRequest
from tokenschain.core.errors import ERRORS, ApiError
from tokenschain.core.formats.anthropic import inbound, request_reader
from tokenschain.core.formats.formats import API_FORMATS, COMPACTION, ApiFormat
from tokenschain.core.formats.json_bounds import LONG_BYTES
from tokenschain.core.formats.openai_chat import UNREAD, ParsedRequest
from tokenschain.core.keyed_rates import NOT_FOUND_PER_MINUTE, KeyedRates
from tokenschain.core.ports import ReadyAnswer
from tokenschain.core.snapshot import Served
from tokenschain.core.tenancy import KeyGrant, may_use
from tokenschain.gateway.api import models, moderations, openapi, paths, routes
from tokenschain.gateway.api.appeals import PER_MINUTE as APPEALS_PER_MINUTE
from tokenschain.gateway.api.appeals import Appeals
from tokenschain.gateway.api.cors import Cors
from tokenschain.gateway.api.response_writer import (
    JSON_LINE,
    SSE_LINES,
    CallResponseWriter,
    id_lines,
    send_error,
)
from tokenschain.gateway.auth import KeyAuth, credentials_of
from tokenschain.gateway.conversation_state import Reader, StoredConversationState, query_of
from tokenschain.gateway.pipeline import Steps, answer_at_once, serve
from tokenschain.infra.security.secrets import same
from tokenschain.wire import sse
from tokenschain.wire.budgets import network_of
from tokenschain.wire.exchange import Exchange, Request

_FORMATS = {f"/v1/{api_format.name}".encode(): api_format for api_format in API_FORMATS}
_FORMATS[b"/v1/responses/compact"] = COMPACTION
_RESPONSE_ID = re.compile(r"resp_\w{1,70}", re.ASCII)
_MESSAGES = b"/v1/messages"
_JSON = b"application/json"
_SHOWN_BYTES_MAX = 200
READS_MAX = 1_000
"""Requests that wait for control at one time."""
_HEX_BYTES = tuple(f"{number:02x}" for number in range(256))
_TRY_AGAIN = b"retry-after: 1\r\n"
REVOKED_CHECK_S = 0.25
"""How often running calls are compared with the keys in force: with the way from control, the calls
that a key no longer allows end within a second."""
REVOKED_SLICE_CALLS = 200
"""Calls compared at once; each takes some microseconds."""
_HOME = msgspec.json.encode(
    {
        "name": "TokensChain gateway",
        "base_url": "/v1",
        "openapi": "/v1/openapi.json",
        "apis": [f"/v1/{api_format.name}" for api_format in API_FORMATS],
    }
)


class ApiSettings(NamedTuple):
    """Settings of the API itself."""

    heartbeat_s: float = 15.0
    """A stream that is silent for this long gets an SSE comment."""
    cors_origins: tuple[str, ...] = ()
    """Origins that may call from a browser; `*` allows all."""
    cancels_revoked_calls: bool = True
    """A running call ends when its key may no longer be used."""
    reads_per_minute_max: int = 1_200
    """Requests of one key that call no model."""
    not_found_per_minute_max: int = NOT_FOUND_PER_MINUTE
    """Requests of one address for paths that are not served."""


class _CallHead(msgspec.Struct, frozen=True):
    """What the head of a call says to the API; kept with the head for those that repeat it."""

    api_format: ApiFormat
    key_digest: bytes
    cors: bytes


class Gateway:
    """Hands each request to its route; owns the tasks of running calls."""

    def __init__(
        self,
        steps: Steps,
        auth: KeyAuth,
        served: Served,
        metrics_text: Callable[[], bytes],
        metrics_token: str,
        report: Callable[[str, BaseException], None],
        settings: ApiSettings,
        conversations: StoredConversationState,
        redact: Callable[[str], str],
        appeals: Appeals,
    ) -> None:
        """
        Args:
            redact: takes out of an error's text what its caller is not to read.
            report: told of faults of our own, with the call's id.
        """
        self._conversations = conversations
        self._keep = conversations.keep
        self._appeals = appeals
        self._appeal_rates = KeyedRates(APPEALS_PER_MINUTE)
        self._redact = redact
        self._reads: set[asyncio.Task[None]] = set()
        self._read_rates = KeyedRates(settings.reads_per_minute_max)
        self._not_found_rates = KeyedRates(settings.not_found_per_minute_max)
        self._steps = steps
        self._ready = steps.cache.ready
        self._auth = auth
        self._served = served
        self._metrics_text = metrics_text
        self._metrics_token = metrics_token
        self._report = report
        self._settings = settings
        self._calls: set[CallResponseWriter] = set()
        self._id_prefix = f"req_{os.urandom(8).hex()}"
        self._id_head = ""
        """Of the ids of 256 requests."""
        self._count = 0
        self.draining = False
        self.journal_ok: Callable[[], bool] = lambda: True
        self.refused: Callable[[str, ApiError], None] = lambda name, error: None
        """Told of each request that is refused before it became a call."""
        self._cors = Cors(settings.cors_origins)
        self._loop = asyncio.get_running_loop()

    @property
    def running(self) -> int:
        """Calls being served."""
        return len(self._calls)

    def answer(self, exchange: Exchange) -> None:
        """Answer one request; see `wire.exchange.Handler`."""
        request = exchange.request
        head = request.head
        if head is not None and type(head.notes) is _CallHead:
            self._start(exchange, head.notes)
            return
        api_format = _FORMATS.get(request.path)
        try:
            if api_format is not None and request.method == "POST":
                _check_encoding(request.headers)
                cors = self._cors.lines(request.headers)
                found = credentials_of(request.headers)
                call_head = _CallHead(api_format, self._auth.digest_of(found), cors)
                if head is not None and len(found) < 2 and _as_asked(request):
                    head.notes = call_head
                self._start(exchange, call_head)
                return
            self._answer_small(exchange)
        except ApiError as error:
            self._refuse(exchange, error)

    def at_head(self, exchange: Exchange) -> bool:
        """Refuse before its body is read what is for no path here or has no valid key.

        Asked only where the body has not come with its head: no stranger's is kept.
        """
        request = exchange.request
        api_format = _FORMATS.get(request.path)
        try:
            served = (request.path, paths.place_of(request.path).path)
            if api_format is None and not any(map(routes.find, served)):
                raise self._not_found(exchange)
            self._grant(exchange, "" if api_format is None else api_format.name)
        except ApiError as error:
            self._refuse(exchange, error)
            return False
        return True

    def refusal(self, status: int, code: str, message: str, path: bytes) -> tuple[bytes, bytes]:
        """What the wire itself refuses; see `wire.exchange.RefusalWriter`."""
        error = ApiError(code if code in ERRORS else "malformed_http", message, status=status)
        name = self._next_id()
        self.refused(name, error)
        lines, body = self._refused(error, name, anthropic=path.startswith(_MESSAGES))
        return lines + _TRY_AGAIN if status in (429, 503) else lines, body

    def _refuse(self, exchange: Exchange, error: ApiError, more: bytes = b"") -> None:
        request, name = exchange.request, self._next_id()
        self.refused(name, error)
        error = error.as_told(self._redact, name)
        lines, body = self._refused(error, name, anthropic=_speaks_anthropic(request))
        send_error(exchange, error, lines + more + self._cors.lines(request.headers), body)

    @staticmethod
    def _refused(error: ApiError, name: str, *, anthropic: bool) -> tuple[bytes, bytes]:
        if anthropic:
            return id_lines(name, anthropic=True), inbound.error_of(error, name)
        return id_lines(name), error.body()

    def _next_id(self) -> str:
        count = self._count
        self._count = count + 1
        if not count & 0xFF:
            self._id_head = f"{self._id_prefix}{count >> 8:06x}"
        # Two digits out of a table: to write all eight anew takes 1,000 instructions more.
        return self._id_head + _HEX_BYTES[count & 0xFF]

    # --- calls -------------------------------------------------------------------

    def _start(self, exchange: Exchange, head: _CallHead) -> None:
        request = exchange.request
        writer = CallResponseWriter(exchange, head.cors, self._keep, self._redact)
        call = self._call(self._next_id(), head.api_format, head.key_digest, request, writer)
        request.body = b""
        ready = self._ready(call)
        if ready is not None and self._answered(call, ready):
            return
        writer.call = call
        # Named, and by its class: a name that asyncio makes up takes 1,500 instructions.
        writer.task = asyncio.Task(self._run(call, writer), loop=self._loop, name=call.request.id)
        self._calls.add(writer)
        exchange.watcher = writer

    def _answered(self, call: Call, ready: ReadyAnswer) -> bool:
        """Whether a call could be answered without a task of its own."""
        try:
            return answer_at_once(call, self._steps, ready)
        except Exception as error:  # noqa: BLE001
            self._blame_ourselves(call, error)
            return True

    @staticmethod
    def _call(
        id: str,
        api_format: ApiFormat,
        key_digest: bytes,
        request: Request,
        writer: CallResponseWriter,
    ) -> Call:
        body = request.body
        return Call(
            CallRequest(
                id, api_format, body, key_digest, request.headers,
                request.received_at, time.time_ns() // 1_000_000, writer.client_address, len(body),
            ),
            writer,
            writer,
            UNREAD,
        )  # fmt: skip

    async def _run(self, call: Call, writer: CallResponseWriter) -> None:
        try:
            await serve(call, self._steps)
        except asyncio.CancelledError:
            # It is recorded by now; a caller who left takes no word of it.
            call.writer.close(call, b"")
        except Exception as error:  # noqa: BLE001
            self._blame_ourselves(call, error)
        finally:
            self._calls.discard(writer)
            if call.held is not None:
                call.held.release()
            writer.release()

    def _blame_ourselves(self, call: Call, error: Exception) -> None:
        """The one border where a fault of our own becomes an answer; its text stays in our log."""
        self._report(call.request.id, error)
        call.blame_ourselves()
        call.writer.close(call, b"")

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
                        writer.call.writer.begin_stream(writer.call)
                        writer.write(comment)
                    now[writer] = writer.bytes_out
            seen = now

    async def cancel_revoked_calls(self) -> None:
        """End the running calls that their keys no longer allow; runs until cancelled.

        Whoever a key was taken from, or whose key was narrowed, has nothing of what its upstream
        says from then on, and is charged for what came before.
        """
        while self._settings.cancels_revoked_calls:
            await asyncio.sleep(REVOKED_CHECK_S)
            for number, writer in enumerate(list(self._calls), 1):
                if writer in self._calls:
                    self._end_if_revoked(writer)
                if not number % REVOKED_SLICE_CALLS:
                    await asyncio.sleep(0)

    def _end_if_revoked(self, writer: CallResponseWriter) -> None:
        call = writer.call
        if call.caller is None:
            return
        request, model = call.request, call.parsed.model
        grant = self._served.grant(request.key_digest)
        if grant is not None and grant is writer.checked and grant.expires_at_s is None:
            return
        try:
            grant = self._auth.grant_of(
                request.key_digest, request.api_format.name, request.client_address
            )
            directory = self._served.directory(grant.tenant)
            # A key may know the model by another of its names.
            if not may_use(grant, model) and model not in map(directory.named, grant.models or ()):
                raise ApiError(
                    "model_not_found",
                    f"This API key may no longer use the model `{model}`.",
                    param="model",
                )
        except ApiError as error:
            writer.end_early(error)
        else:
            # A body that is not read yet names no model.
            writer.checked = grant if model else None

    def _headers(self, exchange: Exchange) -> bytes:
        """What every answer has that is no call's: its id, and CORS lines for browsers."""
        request = exchange.request
        ids = id_lines(self._next_id(), anthropic=_speaks_anthropic(request))
        return ids + self._cors.lines(request.headers)

    # --- the small routes --------------------------------------------------------

    def _answer_small(self, exchange: Exchange) -> None:
        request = exchange.request
        method, path = request.method, request.path
        found = routes.find(path)
        if found is None:
            place = paths.place_of(path)
            found = routes.find(place.path)
            if found is not None:
                path = request.path = place.path
                if method == "POST":
                    if place.model:
                        request.body = paths.with_model(request.body, place.model)
                    self.answer(exchange)
                    return
        if method == "OPTIONS":
            allow = paths.METHODS_OF_ALL if found is None else routes.methods_of(found[0])
            lines = b"allow: %b\r\n" % allow.encode()
            headers = id_lines(self._next_id()) + self._cors.preflight(request.headers)
            exchange.reply(204, headers + lines, b"")
            return
        if found is None:
            raise self._not_found(exchange)
        route, rest = found
        if ("GET" if method == "HEAD" else method) not in route.methods:
            allow = routes.methods_of(route)
            error = ApiError(
                "method_not_allowed", f"{_shown(path)} is not served by {method}: use {allow}."
            )
            self._refuse(exchange, error, b"allow: %b\r\n" % allow.encode())
            return
        self._answer_route(exchange, route, rest)

    def _not_found(self, exchange: Exchange) -> ApiError:
        """404, never 501: official SDKs try a 5xx again; 429 where an address asks so too often."""
        network = network_of(exchange.client_address)
        wait_s = self._not_found_rates.wait_s(network, time.monotonic())
        if wait_s:
            return ApiError(
                "rate_limit_exceeded",
                "Too many requests came from your address for what is not served here.",
                retry_after_s=wait_s,
            )
        path = exchange.request.path
        hint = paths.hint_of(path)
        meant = f" Did you mean {hint}?" if hint else " See /v1/openapi.json for what is served."
        return ApiError(
            "not_found", f"There is no {exchange.request.method} {_shown(path)} here.{meant}"
        )

    def _answer_route(self, exchange: Exchange, route: routes.Route, rest: bytes) -> None:
        match route.handler:
            case "livez":
                lines = b"content-type: text/plain\r\n" + self._headers(exchange)
                exchange.reply(200, lines, b"ok\n")
            case "home":
                exchange.reply(200, JSON_LINE + self._headers(exchange), _HOME)
            case "openapi":
                exchange.reply(200, JSON_LINE + self._headers(exchange), openapi.document())
            case "readyz":
                self._readyz(exchange)
            case "metrics":
                if not self._may_see_inside(exchange):
                    raise ApiError(
                        "invalid_api_key",
                        "Metrics need the token of `secrets.metrics_token_file`, as "
                        "`Authorization: Bearer`.",
                    )
                lines = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
                exchange.reply(200, lines + self._headers(exchange), self._metrics_text())
            case "models":
                self._models(exchange, rest)
            case "stored_response":
                self._stored_response(exchange, rest)
            case "input_tokens":
                self._input_tokens(exchange)
            case "explain":
                self._explain(exchange)
            case "count_tokens":
                self._count_tokens(exchange)
            case "moderations":
                self._moderations(exchange)
            case "appeals":
                self._appeal(exchange, rest)
            case unknown:
                raise AssertionError(f"no handler {unknown}")

    def _grant(self, exchange: Exchange, api: str = "") -> KeyGrant:
        """Who asks, where no call is made."""
        return self._auth.grant_of(
            self._auth.key_digest_of(exchange.request.headers),
            api,
            lambda: exchange.client_address,
        )

    def _reader(self, exchange: Exchange, api: str = "") -> KeyGrant:
        """Who asks for what calls no model; counted, since no limit of the key counts it."""
        grant = self._grant(exchange, api)
        self._count_read(grant)
        return grant

    def _count_read(self, grant: KeyGrant) -> None:
        """
        Raises:
            ApiError: `rate_limit_exceeded`, or `server_busy` where too many wait for control.
        """
        wait_s = self._read_rates.wait_s(grant.key_id, time.monotonic())
        if wait_s:
            most = self._settings.reads_per_minute_max
            raise ApiError(
                "rate_limit_exceeded",
                f"A key may ask {most} times per minute for what calls no model; try again in "
                f"{max(wait_s, 0.1):.1f} s.",
                retry_after_s=wait_s,
            )
        if len(self._reads) >= READS_MAX:
            raise ApiError("server_busy", "Too many wait for control; try again soon.")

    def _may_see_inside(self, exchange: Exchange) -> bool:
        """Whether who asks has the token for metrics: callers are told no more than yes or no."""
        given = credentials_of(exchange.request.headers)
        token = self._metrics_token
        return bool(token) and any(same(each.decode("latin-1"), token) for each in given)

    def _readyz(self, exchange: Exchange) -> None:
        problems = []
        if not self._served.version:
            problems.append("no configuration received from control yet")
        if self.draining:
            problems.append("shutting down")
        if not self.journal_ok():
            problems.append("the journal has no room")
        said: dict[str, object] = {"ready": not problems}
        if self._may_see_inside(exchange):
            said["problems"] = problems
        body = msgspec.json.encode(said)
        exchange.reply(503 if problems else 200, JSON_LINE + self._headers(exchange), body)

    def _stored_response(self, exchange: Exchange, path: bytes) -> None:
        """Read or delete a stored response, which asks control."""
        request = exchange.request
        reader = Reader(self._reader(exchange, "responses"), lambda: exchange.client_address)
        name, _, below = path.decode("latin-1").partition("/")
        if not _RESPONSE_ID.fullmatch(name) or below not in ("", "input_items", "cancel"):
            raise ApiError("not_found", f"There is no response `{name[:80]}`.")
        query = query_of(request.query)
        headers = self._headers(exchange)
        conversations = self._conversations

        async def answer() -> None:
            try:
                if request.method == "DELETE":
                    exchange.reply(
                        200, JSON_LINE + headers, await conversations.delete(reader, name)
                    )
                    return
                if below == "cancel":
                    await conversations.cancel(reader, name)
                read = conversations.input_items if below else conversations.read
                body, stream = await read(reader, name, query)
                exchange.reply(200, (SSE_LINES if stream else JSON_LINE) + headers, body)
            except ApiError as error:
                self._refuse(exchange, error)

        self._read(answer())

    def _read(self, work: Coroutine[None, None, None]) -> None:
        """Do what has to wait for control."""
        task = self._loop.create_task(work)
        self._reads.add(task)
        task.add_done_callback(self._reads.discard)

    def _input_tokens(self, exchange: Exchange) -> None:
        """OpenAI's count, as far as can be said without the model's tokenizer."""
        api_format = _FORMATS[b"/v1/responses"]
        writer = CallResponseWriter(exchange, b"", self._keep, self._redact)
        key_digest = self._auth.key_digest_of(exchange.request.headers)
        call = self._call("input_tokens", api_format, key_digest, exchange.request, writer)
        caller = self._steps.auth.authenticate(call)
        self._count_read(caller)
        headers = self._headers(exchange)

        async def answer() -> None:
            try:
                loading = self._conversations.load(call, caller)
                body = call.request.body if loading is None else await loading
                parsed = await self._parsed(caller, partial(api_format.parse, body), body)
                self._check_served(caller, parsed.model)
            except ApiError as error:
                self._refuse(exchange, error)
                return
            count = {
                "object": "response.input_tokens",
                "input_tokens": parsed.prompt_tokens_estimate,
            }
            exchange.reply(200, JSON_LINE + headers, msgspec.json.encode(count))

        self._read(answer())

    async def _parsed(
        self, caller: KeyGrant, parsing: Callable[[], ParsedRequest], body: bytes
    ) -> ParsedRequest:
        long = len(body) > LONG_BYTES
        return await self._steps.off_loop(parsing, caller) if long else parsing()

    def _count_tokens(self, exchange: Exchange) -> None:
        """Anthropic's count, as far as can be said without the model's tokenizer."""
        grant = self._reader(exchange, "messages")
        body = exchange.request.body
        exchange.request.body = b""

        async def answer() -> None:
            try:
                parsing = partial(request_reader.parse, body, counting=True)
                parsed = await self._parsed(grant, parsing, body)
                self._check_served(grant, parsed.model)
            except ApiError as error:
                self._refuse(exchange, error)
                return
            count = {"input_tokens": parsed.prompt_tokens_estimate}
            exchange.reply(200, JSON_LINE + self._headers(exchange), msgspec.json.encode(count))

        self._read(answer())

    def _moderations(self, exchange: Exchange) -> None:
        """What the local rules find in texts; no model is called, nothing is billed."""
        grant = self._reader(exchange)
        body = exchange.request.body
        exchange.request.body = b""
        headers = self._headers(exchange)
        name = self._next_id()

        async def answer() -> None:
            try:
                texts = await self._steps.off_loop(partial(moderations.texts_of, body), grant)
                found = await self._steps.moderation.classify(grant, texts)
            except ApiError as error:
                self._refuse(exchange, error)
                return
            reply = moderations.answer(name, found)
            exchange.reply(200, JSON_LINE + headers, msgspec.json.encode(reply))

        self._read(answer())

    def _appeal(self, exchange: Exchange, name: bytes) -> None:
        """Take an appeal, or read one back, which asks control."""
        grant = self._reader(exchange)
        request, headers = exchange.request, self._headers(exchange)
        if request.method == "POST":
            wait_s = self._appeal_rates.wait_s(grant.key_id, time.monotonic())
            if wait_s:
                raise ApiError(
                    "rate_limit_exceeded",
                    f"A key may appeal {APPEALS_PER_MINUTE} times per minute.",
                    retry_after_s=wait_s,
                )
            taken = self._appeals.submit(grant, request.body, time.time_ns() // 1_000_000)
            exchange.reply(202, JSON_LINE + headers, taken)
            return
        asked = name.decode("latin-1")

        async def answer() -> None:
            try:
                exchange.reply(200, JSON_LINE + headers, await self._appeals.read(grant, asked))
            except ApiError as error:
                self._refuse(exchange, error)

        self._read(answer())

    def _check_served(self, grant: KeyGrant, model: str) -> None:
        """
        Raises:
            ApiError: `model_not_found`.
        """
        directory = self._served.directory(grant.tenant)
        listed = models.usable(directory, grant)
        models.answer(listed, directory.named(model), b"", anthropic=False)

    def _explain(self, exchange: Exchange) -> None:
        """A dry run of the choice for a chat request: nothing is sent, nothing is counted."""
        writer = CallResponseWriter(exchange, b"", self._keep, self._redact)
        api_format = _FORMATS[b"/v1/chat/completions"]
        key_digest = self._auth.key_digest_of(exchange.request.headers)
        call = self._call("explain", api_format, key_digest, exchange.request, writer)
        caller = self._steps.auth.authenticate(call)
        self._count_read(caller)

        async def answer() -> None:
            body = call.request.body
            try:
                call.parsed = await self._parsed(caller, partial(api_format.parse, body), body)
                plan = self._steps.routing.plan(call, caller)
                explained = self._steps.opening.explain(call, caller, plan)
                explained["cache"] = self._steps.cache.explain(call, caller)
            except ApiError as error:
                self._refuse(exchange, error)
                return
            exchange.reply(200, JSON_LINE + self._headers(exchange), msgspec.json.encode(explained))

        self._read(answer())

    def _models(self, exchange: Exchange, name: bytes) -> None:
        grant = self._reader(exchange)
        request = exchange.request
        asked = unquote_to_bytes(name.removesuffix(b"/")).decode("utf-8", "replace")
        directory = self._served.directory(grant.tenant)
        answer = models.answer(
            models.usable(directory, grant),
            directory.named(asked),
            request.query,
            anthropic=_speaks_anthropic(request),
        )
        headers = JSON_LINE + self._headers(exchange)
        exchange.reply(200, headers, msgspec.json.encode(answer))


def _check_encoding(headers: dict[bytes, bytes]) -> None:
    """
    Raises:
        ApiError: the body is not plain JSON by its own account.
    """
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding != b"identity":
        shown = encoding[:40].decode("latin-1")
        raise ApiError("unsupported_media_type", f"Bodies in `{shown}` are not read here.")
    kind = headers.get(b"content-type", _JSON)
    if kind != _JSON and b"json" not in kind.lower():
        shown = kind[:80].decode("latin-1")
        raise ApiError(
            "unsupported_media_type",
            f"Bodies of type `{shown}` are not read here: send `Content-Type: application/json`.",
        )


def _as_asked(request: Request) -> bool:
    """Whether the path is still the one in the head: `_answer_small` sets the one it means."""
    return request.path == request.target.partition(b"?")[0]


def _speaks_anthropic(request: Request) -> bool:
    """Whether lists and errors are to have Anthropic's shapes."""
    return b"anthropic-version" in request.headers or request.path.startswith(_MESSAGES)


def _shown(path: bytes) -> str:
    return path[:_SHOWN_BYTES_MAX].decode("latin-1")
