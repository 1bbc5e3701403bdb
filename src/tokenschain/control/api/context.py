"""What every route of the admin API shares: who asks, paging, versions, idempotency.

(No postponed annotations here: FastAPI reads them.)
"""

import base64
import binascii
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Header, Query, Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Column, Connection, Engine, Select, delete, select, tuple_
from starlette.concurrency import run_in_threadpool

from tokenschain.control import revisions
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.limits import LeaseManager
from tokenschain.control.cache.semantic_client import Insight
from tokenschain.control.identity import api_keys, users
from tokenschain.control.identity.users import Actor
from tokenschain.control.publisher import Publisher
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM, Resource, may
from tokenschain.infra.config import Settings
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.tables import idempotency
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Sealer, Suite

PAGE_MAX = 200
IDEMPOTENCY_S = 24 * 3_600
IDEMPOTENCY_KEY_CHARACTERS_MAX = 200


class ApiContext(NamedTuple):
    """The parts that routes work with; `app.state.context`."""

    engine: Engine
    publisher: Publisher
    ledger: Ledger
    lease_manager: LeaseManager
    settings: Settings
    sealer: Sealer
    suite: Suite
    operator: str
    insight: Insight | None
    """None where nobody's questions are compared by meaning."""


class Body(BaseModel):
    """A request's body; what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid")


class RequestContext(NamedTuple):
    """One request of somebody known, in one transaction."""

    db: Connection
    actor: Actor
    author: Author
    context: ApiContext

    def may(self, action: str, tenant: str, **where: str) -> bool:
        """Whether the actor is permitted that there."""
        return may(self.actor.bindings, action, Resource(tenant=tenant, **where))

    def need(self, action: str, tenant: str, **where: str) -> None:
        """Insist on a permission.

        Raises:
            ApiError: `permission_denied`.
        """
        if not self.may(action, tenant, **where):
            raise ApiError("permission_denied", f"You may not do this here: `{action}`.")

    def tenant(self, asked: str | None, action: str) -> str | None:
        """Which tenant's rows a list may show; None: all tenants'.

        Raises:
            ApiError: `permission_denied` for another's.
        """
        if asked is None and self.actor.tenant == PLATFORM:
            if self.may(action, PLATFORM):
                return None
            raise ApiError("permission_denied", f"You may not do this here: `{action}`.")
        tenant = asked if asked is not None else self.actor.tenant
        # Anyone bound to a part of the tenant may ask; rows are then looked at one by one.
        if not any(
            may((binding,), action, Resource(tenant, binding.account, binding.project,
                                             binding.environment))
            for binding in self.actor.bindings
        ):  # fmt: skip
            raise ApiError("permission_denied", f"You may not do this here: `{action}`.")
        return tenant

    def visible(self, action: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those rows the actor is permitted to see."""
        return [
            row
            for row in rows
            if self.may(
                action,
                row["tenant"] or PLATFORM,
                account=row.get("account", ""),
                project=row.get("project", ""),
                environment=row.get("environment", ""),
            )
        ]

    def note(
        self, action: str, tenant: str, target: str, detail: dict[str, Any] | None = None
    ) -> None:
        """Write the change down."""
        admin_log.note(self.db, self.author, action, tenant, target, detail)


def desk_of(request: Request) -> ApiContext:
    """The desk of the application that a request came to."""
    context: ApiContext = request.app.state.context
    return context


def address_of(request: Request) -> str:
    """Where a request came from."""
    return request.client.host if request.client is not None else ""


def identify(db: Connection, context: ApiContext, authorization: str) -> Actor:
    """Who holds a bearer token.

    Raises:
        ApiError: 401.
    """
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ApiError("missing_api_key", "Send a token as `Authorization: Bearer`.")
    stored = revisions.get_meta(db, api_keys.ADMIN_HASH) or ""
    if secrets.same(token, context.operator) or secrets.same(
        context.suite.hex_digest(token.encode()), stored
    ):
        return users.PLATFORM_OWNER
    actor = users.actor_of(db, context.suite, token)
    if actor is None:
        raise ApiError("invalid_api_key", "The token is not valid.")
    return actor


def _asking(
    request: Request,
    authorization: Annotated[str, Header()] = "",
    idempotency_key: Annotated[str, Header(max_length=IDEMPOTENCY_KEY_CHARACTERS_MAX)] = "",
) -> RequestContext:
    context = desk_of(request)
    db = request.state.db = context.engine.connect()
    db.begin()
    actor = identify(db, context, authorization)
    if idempotency_key and request.method == "POST":
        request.state.once = _claim(context, db, request, f"{authorization}\n{idempotency_key}")
    return RequestContext(db, actor, Author(actor.id, address_of(request)), context)


Asked = Annotated[RequestContext, Depends(_asking)]


# --- paging ------------------------------------------------------------------------------


class Page(NamedTuple):
    """How much of a list, and from where."""

    limit: int
    after: list[Any] | None
    """Of the last row of the page before: what the list is ordered by."""


def _page(
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 50,
    cursor: Annotated[str, Query(max_length=500)] = "",
) -> Page:
    if not cursor:
        return Page(limit, None)
    try:
        after = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if not isinstance(after, list) or not all(isinstance(x, (str, int)) for x in after):
            raise ValueError
        if any(isinstance(x, int) and abs(x) > 2**62 for x in after):
            raise ValueError
        if any(isinstance(x, str) and "\x00" in x for x in after):
            raise ValueError
    except (ValueError, binascii.Error, RecursionError):
        raise ApiError("invalid_value", "The cursor is not one of ours.", param="cursor") from None
    return Page(limit, after)


Paged = Annotated[Page, Depends(_page)]


def after_of(page: Page, *kinds: type) -> tuple[Any, ...] | None:
    """Where a page goes on, checked to be of the kinds that the list is ordered by.

    Raises:
        ApiError: `invalid_value`.
    """
    if page.after is None:
        return None
    if len(page.after) != len(kinds) or not all(
        type(value) is kind for value, kind in zip(page.after, kinds, strict=True)
    ):
        raise ApiError("invalid_value", "The cursor is of another list.", param="cursor")
    return tuple(page.after)


def read_page(
    db: Connection,
    query: Select[Any],
    page: Page,
    order: Sequence[Column[Any]],
    *,
    newest: bool = False,
    tenant: str | None = None,
) -> list[dict[str, Any]]:
    """The rows of one page of a list.

    Args:
        order: what the list is ordered by; together they tell any two rows apart.
        newest: from the highest down.
        tenant: only this tenant's rows.

    Raises:
        ApiError: `invalid_value`: the cursor is of another list.
    """
    if tenant is not None:
        query = query.where(order[0].table.c.tenant == tenant)
    after = after_of(page, *(column.type.python_type for column in order))
    if after is not None:
        here = tuple_(*order)
        query = query.where(here < after if newest else here > after)
    query = query.order_by(*(column.desc() if newest else column for column in order))
    return [dict(row) for row in db.execute(query.limit(page.limit)).mappings()]


def listed(
    rows: Sequence[dict[str, Any]], page: Page, order: Sequence[Column[Any]], shown: Sequence[Any]
) -> dict[str, Any]:
    """A page of a list, and the cursor of the next where there may be one.

    Args:
        rows: as they were read, at most `page.limit`.
        order: the columns the list is ordered by.
        shown: what is shown of them.
    """
    cursor = None
    if len(rows) == page.limit:
        last = [rows[-1][column.name] for column in order]
        cursor = base64.urlsafe_b64encode(json.dumps(last).encode()).decode()
    return {"data": list(shown), "next_cursor": cursor}


# --- versions ----------------------------------------------------------------------------

IfMatch = Annotated[str, Header(alias="if-match", max_length=100)]


def check_version(if_match: str, version: int) -> None:
    """Insist that nobody changed it meanwhile, when the caller asks for that.

    Raises:
        ApiError: `precondition_failed`.
    """
    if if_match and if_match.strip() not in ("*", f'"{version}"', f'W/"{version}"'):
        raise ApiError("precondition_failed", "It was changed since you read it; read it again.")


def tag(response: Response, version: int) -> None:
    """Say which version an answer is of."""
    response.headers["etag"] = f'"{version}"'


# --- idempotency -----------------------------------------------------------------------------


class TransactionRoute(APIRoute):
    """One transaction a request, ended before the answer is sent: who reads "done" can rely
    on it.

    A POST with an `Idempotency-Key` is done once; the same answer is given again for a day.
    What is remembered of it is part of the same transaction, and sealed: answers may hold keys
    that are shown once.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `fastapi.routing.APIRoute`."""
        handle = super().get_route_handler()

        async def in_transaction(request: Request) -> Response:
            request.state.db = request.state.once = None
            if request.method == "POST":
                request.state.body = await request.body()
            try:
                response = await handle(request)
            except _Replay as replay:
                response = replay.response
                await run_in_threadpool(_end, request, None)
            except BaseException:
                await run_in_threadpool(_end, request, None)
                raise
            else:
                await run_in_threadpool(_end, request, response)
            return response

        return in_transaction


class _Replay(Exception):
    """The request was done before; this was the answer."""

    def __init__(self, response: Response) -> None:
        super().__init__("done before")
        self.response = response


def _end(request: Request, response: Response | None) -> None:
    """Commit what the answer says is done; without an answer, undo."""
    db: Connection | None = request.state.db
    if db is None:
        return
    with db:
        if response is not None:
            if request.state.once is not None:
                _keep(desk_of(request), db, request.state.once, response)
            db.commit()


def _claim(context: ApiContext, db: Connection, request: Request, whose: str) -> str:
    """Note that the request is being done; returns what it is remembered by.

    A second one waits here until the first has ended.

    Raises:
        _Replay: it was done before.
        ApiError: `conflict`: the key came with another request.
    """
    now = int(time.time())
    key = context.suite.hex_digest(whose.encode())
    what = context.suite.hex_digest(f"{request.url.path}\n".encode() + request.state.body)
    db.execute(delete(idempotency).where(idempotency.c.created_at_s < now - IDEMPOTENCY_S))
    claimed = db.execute(
        upsert(context.engine, idempotency)
        .values(key_hash=key, request_hash=what, status=0, sealed=b"", created_at_s=now)
        .on_conflict_do_nothing(index_elements=["key_hash"])
    ).rowcount
    if claimed:
        return key
    row = db.execute(select(idempotency).where(idempotency.c.key_hash == key)).one()
    if row.request_hash != what:
        raise ApiError("conflict", "This idempotency key came with another request.")
    body = context.sealer.unseal(key, row.sealed)
    headers = {"idempotent-replay": "true"}
    raise _Replay(Response(body, row.status, headers, media_type="application/json"))


def _keep(context: ApiContext, db: Connection, key: str, response: Response) -> None:
    sealed = context.sealer.seal(key, bytes(response.body))
    db.execute(
        idempotency.update()
        .where(idempotency.c.key_hash == key)
        .values(status=response.status_code, sealed=sealed)
    )


Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.@-]+$")]
"""A name in the organisation."""
MaybeLabel = Annotated[str, Field(max_length=64, pattern=r"^[\w.@-]*$")]
NameQuery = Annotated[str | None, Query(max_length=64, pattern=r"^[\w.@*-]+$")]
IntMoment = Annotated[int | None, Query(ge=0, le=2**53)]
