"""The control plane's HTTP API: administration, and the internal channel.

(No postponed annotations here: FastAPI reads them, and some name locals.)
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from html import escape
from typing import Annotated, Any, Literal

import msgspec
from fastapi import Depends, FastAPI, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from tokenschain import __version__
from tokenschain.control import access, billing
from tokenschain.control.jobs import Publisher
from tokenschain.control.responses import ResponseArchive
from tokenschain.core.errors import ERRORS, ApiError
from tokenschain.core.tenancy import Disconnect
from tokenschain.infra import secrets
from tokenschain.infra.journal import BadFrame, read_frames
from tokenschain.infra.response_store import RESPONSE_BYTES_MAX
from tokenschain.infra.uplink import (
    BATCH_BYTES_MAX,
    JOURNAL_PATH,
    RESPONSES_PATH,
    SIGNATURE_HEADER,
    SNAPSHOT_PATH,
)

POLL_WAIT_MAX_S = 30.0
SWEEP_RESPONSES_S = 60.0
_BODY_BYTES_MAX = BATCH_BYTES_MAX * 2
RESPONSES_BATCH_BYTES_MAX = BATCH_BYTES_MAX + RESPONSE_BYTES_MAX * 2
DAY_S = 86_400
_Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.@-]+$")]


class NewKey(BaseModel):
    """What a new API key may do."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)] = "key"
    tenant: _Label = "default"
    project: _Label = "default"
    environment: _Label = "default"
    models: Annotated[list[str] | None, Field(max_length=1_000)] = None
    expires_at_s: Annotated[int | None, Field(gt=0)] = None
    disconnect: Literal["cancel", "drain"] = "cancel"


def create_app(
    engine: Engine,
    publisher: Publisher,
    archive: ResponseArchive,
    internal_secret: str,
    operator: str,
) -> FastAPI:
    """The application; `operator` is the local commands' own token."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as jobs:
            running = [
                jobs.create_task(publisher.run()),
                jobs.create_task(_sweep_responses(archive)),
            ]
            yield
            for job in running:
                job.cancel()

    app = FastAPI(
        title="TokensChain control",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _speak_api_errors(app)

    def connection() -> Iterator[Connection]:
        with engine.begin() as opened:
            yield opened

    Db = Annotated[Connection, Depends(connection)]

    def admin(
        db: Db,
        authorization: Annotated[str, Header()] = "",
    ) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApiError("missing_api_key", "Send the admin token as `Authorization: Bearer`.")
        stored = access.get_meta(db, access.ADMIN_HASH) or ""
        if not (secrets.same(token, operator) or secrets.same(secrets.hash_of(token), stored)):
            raise ApiError("invalid_api_key", "The admin token is not valid.")

    Admin = Depends(admin)

    # --- administration ----------------------------------------------------------

    @app.post("/api/v1/keys", status_code=201, dependencies=[Admin])
    def create_key(db: Db, wanted: NewKey) -> dict[str, Any]:
        """Create an API key; `key` is in this answer and never again."""
        key_id, key = access.create_key(
            db,
            name=wanted.name,
            tenant=wanted.tenant,
            project=wanted.project,
            environment=wanted.environment,
            models=wanted.models,
            expires_at_s=wanted.expires_at_s,
            disconnect=Disconnect(wanted.disconnect),
        )
        return {"id": key_id, "key": key, "prefix": secrets.shown_part(key)}

    @app.get("/api/v1/keys", dependencies=[Admin])
    def list_keys(db: Db, tenant: str | None = None) -> dict[str, Any]:
        """API keys, without what would let anyone use them."""
        return {"data": access.list_keys(db, tenant)}

    @app.delete("/api/v1/keys/{key_id}", dependencies=[Admin])
    def revoke_key(db: Db, key_id: str) -> dict[str, Any]:
        """Revoke a key; gateways refuse it within a second."""
        if not access.revoke_key(db, key_id):
            raise ApiError("not_found", "There is no such key.", param="key_id")
        return {"id": key_id, "revoked": True}

    @app.get("/api/v1/models", dependencies=[Admin])
    def list_models() -> dict[str, Any]:
        """Models served, with the upstreams behind them."""
        return {"data": msgspec.to_builtins(list(publisher.snapshot.models.values()))}

    @app.get("/api/v1/endpoints", dependencies=[Admin])
    async def list_endpoints() -> dict[str, Any]:
        """Upstreams with their health as last probed."""
        return {
            "data": [
                {
                    "id": upstream.id,
                    "provider": upstream.provider,
                    "base_url": upstream.base_url,
                    "health": publisher.health.get(upstream.id, "not probed"),
                    "metrics": publisher.engine_metrics.get(upstream.id, {}),
                }
                for upstream in publisher.snapshot.upstreams.values()
            ]
        }

    @app.get("/api/v1/usage", dependencies=[Admin])
    def usage(
        db: Db,
        group_by: Annotated[str, Query(max_length=100)] = "tenant,model,day",
        from_s: Annotated[int | None, Query(ge=0)] = None,
        until_s: Annotated[int | None, Query(ge=0)] = None,
        tenant: str | None = None,
    ) -> dict[str, Any]:
        """Calls, tokens and cost; `cost_pico` is 10^-12 of the currency unit, exact."""
        dimensions = [name.strip() for name in group_by.split(",") if name.strip()]
        for name in dimensions:
            if name not in billing.DIMENSIONS:
                known = ", ".join(billing.DIMENSIONS)
                raise ApiError(
                    "invalid_value", f"`{name[:50]}` is not one of: {known}.", param="group_by"
                )
        now = int(time.time())
        rows = billing.usage(
            db,
            group_by=dimensions,
            from_s=now - 30 * DAY_S if from_s is None else from_s,
            until_s=now + DAY_S if until_s is None else until_s,
            tenant=tenant,
        )
        return {"data": rows}

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
        if not secrets.signed_by(internal_secret, message, signature):
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
                SIGNATURE_HEADER: secrets.sign(internal_secret, body),
            },
        )

    @app.post(JOURNAL_PATH, include_in_schema=False)
    async def journal(request: Request) -> dict[str, int]:
        frames = await signed_body(request)
        try:
            payloads = list(read_frames(frames))
        except BadFrame as error:
            raise ApiError("invalid_value", f"The batch is damaged: {error}.", status=422) from None
        new = await asyncio.to_thread(billing.ingest, engine, payloads)
        return {"received": len(payloads), "new": new}

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
    def readyz(db: Db) -> dict[str, Any]:
        return {"ready": True, "revision": access.revision(db)}

    @app.get("/", include_in_schema=False, response_class=HTMLResponse)
    async def home() -> str:
        return _home(app, publisher)

    return app


async def _sweep_responses(archive: ResponseArchive) -> None:
    while True:
        await asyncio.sleep(SWEEP_RESPONSES_S)
        with suppress(SQLAlchemyError):  # it is tried again; requests say so too
            await asyncio.to_thread(archive.sweep)


def _speak_api_errors(app: FastAPI) -> None:
    """All errors in the API's one shape."""

    def answer(error: ApiError) -> Response:
        return Response(error.body(), error.status, media_type="application/json")

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

    def database(_: Exception) -> ApiError:
        return ApiError("database_unavailable", "The database does not answer; try again.")

    handler(ApiError, lambda error: error)
    handler(RequestValidationError, validation)
    handler(HTTPException, http)
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
