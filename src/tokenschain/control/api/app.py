"""The control plane's HTTP API: administration, and the internal channel.

(No postponed annotations here: FastAPI reads them, and some name locals.)
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from html import escape
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import BaseModel
from sqlalchemy.exc import DataError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenschain import __version__
from tokenschain.control import revisions
from tokenschain.control.api import alerts, billing, cache, keys, limits, organization, usage, users
from tokenschain.control.api.context import ApiContext
from tokenschain.control.identity.oidc import Oidc
from tokenschain.control.publisher import Publisher
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.core.errors import ERRORS, ApiError
from tokenschain.infra.control_channel.protocol import (
    BATCH_BYTES_MAX,
    JOURNAL_PATH,
    LEASES_PATH,
    PARTS_ASKED_MAX,
    PARTS_PATH,
    RESPONSES_PATH,
    SIGNATURE_HEADER,
    SNAPSHOT_PATH,
    LeaseBatch,
)
from tokenschain.infra.control_channel.response_store import RESPONSE_BYTES_MAX
from tokenschain.infra.journal import BadFrame, read_frames
from tokenschain.infra.security.suite import Signer

POLL_WAIT_MAX_S = 30.0
REQUEST_MAX_S = 20.0
"""For a request to the admin API."""
_BODY_BYTES_MAX = BATCH_BYTES_MAX * 2
RESPONSES_BATCH_BYTES_MAX = BATCH_BYTES_MAX + RESPONSE_BYTES_MAX * 2
_REFUSALS = {
    400: "The request is wrong.",
    401: "Nobody is signed in.",
    403: "This may not be done here.",
    404: "There is no such thing.",
    409: "It is there already, or in use.",
    412: "It was changed meanwhile.",
    429: "Too many tries.",
    503: "The database does not answer.",
}


class _Bounded:
    """Answers for requests to the admin API that take too long: a database that is gone without
    a word must not keep anyone waiting. What waits for it goes on until it ends by itself; the
    pool of connections bounds how many there are."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._left: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith("/api/v1"):
            await self._app(scope, receive, send)
            return
        begun = over = False

        async def pass_on(message: Message) -> None:
            nonlocal begun
            begun = True
            if not over:
                await send(message)

        task = asyncio.ensure_future(self._app(scope, receive, pass_on))
        done, _ = await asyncio.wait({task}, timeout=REQUEST_MAX_S)
        if not done and not begun:
            over = True
            self._left.add(task)
            task.add_done_callback(self._forget)
            await _unavailable()(scope, receive, send)
            return
        await task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()


def _unavailable() -> Response:
    error = ApiError("database_unavailable", "The database does not answer; try again.")
    return Response(error.body(), error.status, media_type="application/json")


def create_app(
    context: ApiContext,
    archive: ResponseArchive,
    jobs: Sequence[Callable[[], Awaitable[None]]],
    signer: Signer,
    oidc: Oidc,
) -> FastAPI:
    """The application.

    Args:
        jobs: what control does by itself, each until cancelled.
    """
    engine, publisher, ledger, lease_manager = (
        context.engine,
        context.publisher,
        context.ledger,
        context.lease_manager,
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(_coroutine(job)) for job in jobs]
            yield
            for task in running:
                task.cancel()

    app = FastAPI(
        title="TokensChain control",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses={
            status: {"model": ErrorBody, "description": meaning}
            for status, meaning in _REFUSALS.items()
        },
    )
    app.state.context = context
    app.state.oidc = oidc
    app.add_middleware(_Bounded)
    _speak_api_errors(app)
    for subject in (organization, keys, limits, usage, billing, alerts):
        app.include_router(subject.router)
    app.include_router(cache.router)
    app.include_router(users.router)

    # --- the internal channel ----------------------------------------------------

    async def signed_body(request: Request, bytes_max: int = _BODY_BYTES_MAX) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > bytes_max:
                raise ApiError("payload_too_large", "The batch is too large.")
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        message = f"{request.method} {path}\n".encode() + bytes(body)
        signature = request.headers.get(SIGNATURE_HEADER, "")
        if not signer.signed(message, signature):
            raise ApiError("invalid_api_key", "The signature of the internal channel is wrong.")
        return bytes(body)

    @app.get(SNAPSHOT_PATH, include_in_schema=False)
    async def snapshot(
        request: Request,
        wait_s: Annotated[float, Query(ge=0, le=POLL_WAIT_MAX_S)] = 0,
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        await signed_body(request)
        version, body = await publisher.newer_than(if_none_match.strip('"'), wait_s)
        if body is None:
            return Response(status_code=304, headers={"etag": f'"{version}"'})
        return Response(
            body,
            media_type="application/json",
            headers={
                "etag": f'"{version}"',
                SIGNATURE_HEADER: signer.sign(body),
            },
        )

    @app.post(JOURNAL_PATH, include_in_schema=False)
    async def journal(request: Request) -> dict[str, int]:
        frames = await signed_body(request)
        try:
            payloads = list(read_frames(frames))
        except BadFrame as error:
            raise ApiError("invalid_value", f"The batch is damaged: {error}.", status=422) from None
        new = await asyncio.to_thread(ledger.ingest, payloads)
        return {"received": len(payloads), "new": new}

    @app.get(PARTS_PATH, include_in_schema=False)
    async def parts(request: Request, names: str) -> Response:
        await signed_body(request)
        found = {name: publisher.part(name) for name in names.split(",")[:PARTS_ASKED_MAX]}
        body = msgspec.msgpack.encode({n: part for n, part in found.items() if part is not None})
        return Response(body, media_type="application/msgpack")

    @app.post(LEASES_PATH, include_in_schema=False)
    async def leases(request: Request) -> Response:
        try:
            asked = msgspec.msgpack.decode(await signed_body(request), type=LeaseBatch)
        except msgspec.DecodeError as error:
            raise ApiError("invalid_value", f"No request for leases: {error}.") from None
        rules = publisher.snapshot
        granted = await asyncio.to_thread(
            lease_manager.draw, asked.holder, asked.requests, rules.rates, rules.budgets
        )
        return Response(msgspec.msgpack.encode(granted), media_type="application/msgpack")

    @app.post(RESPONSES_PATH, include_in_schema=False)
    async def keep_responses(request: Request) -> dict[str, int]:
        frames = await signed_body(request, RESPONSES_BATCH_BYTES_MAX)
        try:
            payloads = list(read_frames(frames))
            new = await asyncio.to_thread(archive.keep, payloads)
        except (BadFrame, msgspec.DecodeError) as error:
            raise ApiError("invalid_value", f"The batch is damaged: {error}.", status=422) from None
        return {"received": len(payloads), "new": new}

    @app.get(RESPONSES_PATH + "/{response_id}", include_in_schema=False)
    async def find_response(request: Request, response_id: str, tenant: str) -> Response:
        await signed_body(request)

        def find() -> bytes | None:
            with engine.connect() as db:
                return archive.find(db, tenant, response_id)

        found = await asyncio.to_thread(find)
        if found is None:
            raise ApiError("not_found", "There is no such response.")
        return Response(found, media_type="application/msgpack")

    @app.delete(RESPONSES_PATH + "/{response_id}", include_in_schema=False)
    async def delete_response(request: Request, response_id: str, tenant: str) -> dict[str, bool]:
        await signed_body(request)

        def forget() -> bool:
            with engine.begin() as db:
                return archive.delete(db, tenant, response_id)

        if not await asyncio.to_thread(forget):
            raise ApiError("not_found", "There is no such response.")
        return {"deleted": True}

    # --- for people and probes ---------------------------------------------------

    @app.get("/livez", include_in_schema=False)
    async def livez() -> dict[str, bool]:
        return {"live": True}

    @app.get("/readyz", include_in_schema=False)
    def readyz() -> dict[str, Any]:
        with engine.begin() as db:
            return {"ready": True, "revision": revisions.current(db)}

    @app.get("/", include_in_schema=False, response_class=HTMLResponse)
    async def home() -> str:
        return _home(app, publisher)

    return app


async def _coroutine(job: Callable[[], Awaitable[None]]) -> None:
    await job()


class ErrorDetail(BaseModel):
    """What went wrong; see docs/reference/errors.md."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """The API's one error shape."""

    error: ErrorDetail


def _speak_api_errors(app: FastAPI) -> None:
    """All errors in the API's one shape."""

    def answer(error: ApiError) -> Response:
        headers = {}
        if error.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(error.retry_after_s)))
        if error.status == 401:
            headers["www-authenticate"] = 'Bearer realm="tokenschain"'
        return Response(error.body(), error.status, headers, media_type="application/json")

    def handler(kind: type[Exception], translate: Callable[[Any], ApiError]) -> None:
        async def handle(_: Request, error: Exception) -> Response:
            return answer(translate(error))

        app.add_exception_handler(kind, handle)

    def validation(error: RequestValidationError) -> ApiError:
        found = error.errors()[0]
        param = ".".join(str(part) for part in found["loc"][1:])
        return ApiError(
            "invalid_value", f"Invalid value for `{param}`: {found['msg']}.", param=param
        )

    def http(error: HTTPException) -> ApiError:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_value")
        return ApiError(code, str(error.detail), status=error.status_code)

    def unstorable(_: Exception) -> ApiError:
        return ApiError("invalid_value", "A text has characters that cannot be stored.")

    def duplicate(_: IntegrityError) -> ApiError:
        return ApiError("conflict", "Somebody made the same at the same time; read it again.")

    def database(_: Exception) -> ApiError:
        return ApiError("database_unavailable", "The database does not answer; try again.")

    handler(ApiError, lambda error: error)
    handler(RequestValidationError, validation)
    handler(HTTPException, http)
    handler(DataError, unstorable)
    handler(UnicodeEncodeError, unstorable)
    handler(IntegrityError, duplicate)
    handler(OperationalError, database)
    handler(PoolTimeout, database)
    assert "database_unavailable" in ERRORS


def _home(app: FastAPI, publisher: Publisher) -> str:
    """A small page for whoever opens control in a browser; the console comes later."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(route.kind)}</td>"
        f"<td>{escape(', '.join(offer.upstream for offer in route.offers))}</td></tr>"
        for name, route in publisher.snapshot.models.items()
    )
    return f"""<!doctype html><html lang="en"><meta charset="utf-8">
<title>TokensChain control</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:3rem auto;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid #ddd}}code{{background:#f4f4f4;padding:.1rem .3rem}}</style>
<h1>TokensChain control <small>{escape(app.version)}</small></h1>
<p>Configuration <code>{escape(publisher.version)}</code>. The admin API is under
<code>/api/v1</code>, described at <a href="/openapi.json">/openapi.json</a>;
send the admin token as <code>Authorization: Bearer</code>.</p>
<p lang="zh">控制面管理接口位于 <code>/api/v1</code>，接口说明见
<a href="/openapi.json">/openapi.json</a>；请在请求头中携带管理员令牌。</p>
<h2>Models · 模型</h2>
<table><tr><th>Model</th><th>Kind</th><th>Upstreams</th></tr>{rows}</table></html>"""
