"""The internal channel: gateways fetch snapshots and leases, and ship journals and responses.

(No postponed annotations here: FastAPI reads them.)
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, NamedTuple

import msgspec
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool

from tokenschain.control import gateways, request_nonces
from tokenschain.control.api import errors
from tokenschain.control.api.content import archive_of
from tokenschain.control.billing import rejected_records
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.limits import LeaseManager
from tokenschain.control.moderation import appeals
from tokenschain.control.moderation.review_queue import CaseBook
from tokenschain.control.publisher import Publisher
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.core import process_record
from tokenschain.core.audit import content
from tokenschain.core.errors import ApiError
from tokenschain.core.gateway_status import GatewayStatus
from tokenschain.core.moderation import case_record
from tokenschain.infra.control_channel.protocol import (
    APPEALS_PATH,
    BATCH_BYTES_MAX,
    CONTENTS_PATH,
    GATEWAYS_PATH,
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
from tokenschain.infra.control_channel.signatures import BadSignature, Signatures
from tokenschain.infra.database.engine import reading
from tokenschain.infra.journal import BadFrame, read_frames

POLL_WAIT_MAX_S = 30.0
BODY_BYTES_MAX = BATCH_BYTES_MAX * 2
CONTENTS_BATCH_BYTES_MAX = BATCH_BYTES_MAX + content.RECORD_BYTES_MAX
RESPONSES_BATCH_BYTES_MAX = BATCH_BYTES_MAX + RESPONSE_BYTES_MAX
MSGPACK = "application/msgpack"


class InternalContext(NamedTuple):
    """The parts that the internal channel works with; `app.state.internal`."""

    engine: Engine
    publisher: Publisher
    ledger: Ledger
    lease_manager: LeaseManager
    archive: ResponseArchive
    cases: CaseBook
    signatures: Signatures
    """Of requests and answers (HMAC)."""


def _context_of(request: Request) -> InternalContext:
    context: InternalContext = request.app.state.internal
    return context


Context = Annotated[InternalContext, Depends(_context_of)]


class _SignedRoute(APIRoute):
    """Every route of the channel: its requests are proven, and its answers are signed for the one
    request they are given to.

    One that changes something is believed once by all controls on one database, and by this one
    after a restart. One that only reads is remembered in memory: it is answered while the database
    is away, and tells what the channel told anyway.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        bytes_max = BODY_BYTES_MAX
        if self.path.startswith(RESPONSES_PATH):
            bytes_max = RESPONSES_BATCH_BYTES_MAX
        elif self.path == CONTENTS_PATH:
            bytes_max = CONTENTS_BATCH_BYTES_MAX

        async def signed(request: Request) -> Response:
            body = await _bounded_body(request, bytes_max)
            path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            header = request.headers.get(SIGNATURE_HEADER, "")
            signatures = _context_of(request).signatures
            asked = await signatures.check(request.method, path, body, header)
            request.state.body = body
            try:
                if request.method != "GET":
                    await run_in_threadpool(_insist_new, request, asked.nonce)
                response = await handle(request)
            except ApiError as error:
                response = errors.answer(error)
            code = asked.answer(response.status_code, bytes(response.body))
            response.headers[SIGNATURE_HEADER] = code
            return response

        return signed


def _insist_new(request: Request, nonce: str) -> None:
    if not request_nonces.is_new(_context_of(request).engine, nonce):
        raise BadSignature("it came before")


async def _bounded_body(request: Request, bytes_max: int) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > bytes_max:
            raise ApiError("payload_too_large", "The batch is too large.")
    return bytes(body)


def _body_of(request: Request) -> bytes:
    body: bytes = request.state.body
    return body


SignedBody = Annotated[bytes, Depends(_body_of)]
router = APIRouter(include_in_schema=False, route_class=_SignedRoute)


@router.get(SNAPSHOT_PATH)
async def snapshot(
    context: Context,
    wait_s: Annotated[float, Query(ge=0, le=POLL_WAIT_MAX_S)] = 0,
    if_none_match: Annotated[str, Header()] = "",
) -> Response:
    """The manifest of the snapshot; by long poll, 304 when none newer came."""
    version, body = await context.publisher.newer_than(if_none_match.strip('"'), wait_s)
    headers = {"etag": f'"{version}"'}
    if body is None:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


@router.get(PARTS_PATH)
async def parts(context: Context, names: str) -> Response:
    """Parts of the snapshot by name; those that are not kept are left out."""
    found = {name: context.publisher.part(name) for name in names.split(",")[:PARTS_ASKED_MAX]}
    body = msgspec.msgpack.encode({n: part for n, part in found.items() if part is not None})
    return Response(body, media_type=MSGPACK)


@router.post(JOURNAL_PATH)
async def journal(
    context: Context, frames: SignedBody, backlog_bytes: Annotated[int, Query(ge=0)] = 0
) -> dict[str, int]:
    """Enter a batch of call records, and of cases for review; each counts once."""
    try:
        payloads = list(read_frames(frames))
    except BadFrame as error:
        raise _damaged(error) from None
    new = await asyncio.to_thread(enter_batch, context, payloads, backlog_bytes)
    return {"received": len(payloads), "new": new}


def enter_batch(context: InternalContext, payloads: list[bytes], backlog_bytes: int = 0) -> int:
    """Enter call records into the ledger, cases into the review queue, and what gateways say of
    themselves into the audit log; returns how many calls were new."""
    calls: list[bytes] = []
    cases: list[bytes] = []
    processes: list[bytes] = []
    for payload in payloads:
        if case_record.is_case(payload):
            cases.append(payload)
        elif process_record.is_process(payload):
            processes.append(payload)
        else:
            calls.append(payload)
    new = context.ledger.ingest(calls, backlog_bytes)
    # After the calls: an appeal may have come with the call that it is about, and the end of a
    # gateway comes after its last.
    refused = context.cases.enter(cases) if cases else []
    if processes:
        refused += context.ledger.enter_processes(processes)
    if refused:
        rejected_records.keep(context.engine, refused)
    return new


@router.post(LEASES_PATH)
async def leases(context: Context, body: SignedBody) -> Response:
    """Grant leases of rates and budgets."""
    try:
        asked = msgspec.msgpack.decode(body, type=LeaseBatch)
    except msgspec.DecodeError as error:
        raise ApiError("invalid_value", f"No request for leases: {error}.") from None
    rules = context.publisher.snapshot
    granted = await asyncio.to_thread(context.lease_manager.draw, asked, rules.rates, rules.budgets)
    return Response(msgspec.msgpack.encode(granted), media_type=MSGPACK)


@router.post(GATEWAYS_PATH)
async def gateway_status(context: Context, body: SignedBody) -> dict[str, bool]:
    """What a gateway serves by, and what it refused."""
    try:
        status = msgspec.msgpack.decode(body, type=GatewayStatus)
    except msgspec.DecodeError as error:
        raise ApiError("invalid_value", f"No status of a gateway: {error}.") from None
    await asyncio.to_thread(gateways.note, context.engine, status)
    return {"noted": True}


@router.post(RESPONSES_PATH)
async def keep_responses(context: Context, frames: SignedBody) -> dict[str, int | list[str]]:
    """Keep stored responses of the Responses API; each counts once."""
    try:
        payloads = list(read_frames(frames))
        kept = await asyncio.to_thread(context.archive.keep, payloads)
    except (BadFrame, msgspec.DecodeError) as error:
        raise _damaged(error) from None
    return {"received": len(payloads), "new": kept.new, "full": kept.full}


@router.post(CONTENTS_PATH)
async def keep_contents(request: Request, context: Context, frames: SignedBody) -> dict[str, int]:
    """Keep what calls said; of each call once."""
    try:
        payloads = list(read_frames(frames))
        archive = archive_of(request.app.state.context, context.cases.shared)
        new = await asyncio.to_thread(archive.enter, payloads)
    except (BadFrame, msgspec.DecodeError) as error:
        raise _damaged(error) from None
    return {"received": len(payloads), "new": new}


@router.get(RESPONSES_PATH + "/{response_id}")
async def find_response(context: Context, response_id: str, tenant: str) -> Response:
    """A tenant's stored response."""

    def find() -> bytes | None:
        with reading(context.engine) as db:
            return context.archive.find(db, tenant, response_id)

    found = await run_in_threadpool(find)
    if found is None:
        raise ApiError("not_found", "There is no such response.")
    return Response(found, media_type=MSGPACK)


@router.delete(RESPONSES_PATH + "/{response_id}")
async def delete_response(context: Context, response_id: str, tenant: str) -> dict[str, bool]:
    """Forget a tenant's stored response."""

    def forget() -> bool:
        with context.engine.begin() as db:
            return context.archive.delete(db, tenant, response_id)

    if not await run_in_threadpool(forget):
        raise ApiError("not_found", "There is no such response.")
    return {"deleted": True}


@router.get(APPEALS_PATH + "/{appeal_id}")
async def find_appeal(context: Context, appeal_id: str, tenant: str, project: str) -> Response:
    """An appeal of a project, as its caller may see it."""

    def find() -> appeals.Appeal | None:
        with reading(context.engine) as db:
            return appeals.find(db, tenant, project, appeal_id)

    found = await run_in_threadpool(find)
    if found is None:
        raise ApiError("not_found", "There is no such appeal.")
    return Response(msgspec.json.encode(found), media_type="application/json")


def _damaged(error: Exception) -> ApiError:
    return ApiError("invalid_value", f"The batch is damaged: {error}.", status=422)
