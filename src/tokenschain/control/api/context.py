"""What every route of the admin API shares: who asks, permissions, paging, versions, idempotency.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, get_args

from anyio import from_thread
from fastapi import Depends, Header, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field
from sqlalchemy import Connection, Engine
from starlette.concurrency import run_in_threadpool

from tokenschain.control import idempotency, revisions
from tokenschain.control.api.bodies import Items, ListAnswer, RequestBody
from tokenschain.control.api.code_samples import parts_of, sample_of
from tokenschain.control.api.repetition import Repetition, Replay
from tokenschain.control.api.request_checks import count_parts, has_long_body, refuse_unknown
from tokenschain.control.api.request_signatures import signature_of
from tokenschain.control.api.wrong_tokens import WrongTokens
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.billing.ledger import Ledger
from tokenschain.control.billing.limits import LeaseManager
from tokenschain.control.cache.semantic_client import SemanticProcesses
from tokenschain.control.configuration.changes import Configurator
from tokenschain.control.identity import api_keys, approvals, roles, tokens, users
from tokenschain.control.identity.approvals import ApprovalRequired
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.control.identity.users import OPERATOR, Actor
from tokenschain.control.publisher import Publisher
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_bounds import ADMIN_BOUNDS
from tokenschain.core.tenancy import ACTIONS, PLATFORM, Resource, RoleBinding, may
from tokenschain.core.upstream_report import UpstreamTester
from tokenschain.infra.config import Settings
from tokenschain.infra.database import paging
from tokenschain.infra.database.engine import reading
from tokenschain.infra.database.paging import Page
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Sealer, Suite, suite_of_stored


class ApiContext(NamedTuple):
    """The parts that routes work with; `app.state.context`."""

    engine: Engine
    publisher: Publisher
    ledger: Ledger
    lease_manager: LeaseManager
    settings: Settings
    configurator: Configurator
    sealer: Sealer
    suite: Suite
    operator: str
    semantic: SemanticProcesses | None
    """None where no tenant uses the semantic cache."""
    metrics_token: str = ""
    """Who shows it reads metrics."""
    log_events: Mapping[str, int] = {}
    """Events of the log, by name."""
    upstream_tester: UpstreamTester | None = None
    """None where no upstream is to be reached from here."""


Found = TypeVar("Found")


# --- who asks, and whether they may -------------------------------------------------------


class Begun(NamedTuple):
    """A transaction, and who asks as it says."""

    db: Connection
    actor: Actor


class Note(NamedTuple):
    """A line of the audit log; see `admin_log.note`."""

    action: str
    tenant: str
    target: str
    detail: Mapping[str, object] | None


class RequestContext:
    """One authenticated request, in one transaction."""

    def __init__(
        self,
        actor: Actor,
        author: Author,
        context: ApiContext,
        action: str | None,
        begin: Callable[[], Begun],
        replay: Callable[[], None],
        *,
        reads: bool,
        by_model: bool = False,
    ) -> None:
        """
        Args:
            action: the permission that the route declares; None: to be signed in is enough.
            begin: begins the transaction.
            replay: answers again what was done before, by its idempotency key.
            reads: whether it only reads.
            by_model: see `Permission`.
        """
        self.actor = actor
        self.author = author
        self.context = context
        self.action = action
        self.by_model = by_model
        self.decided = action is None
        """Whether it was found out that the actor may do this."""
        self.notes: list[Note] = []
        """Of a request that reads: written down when it has read."""
        self.proved = False
        """Whether the actor was found to have shown all that signing in takes."""
        self._begin = begin
        self._replay = replay
        self._reads = reads
        self._db: Connection | None = None

    @property
    def db(self) -> Connection:
        """The request's transaction.

        One that writes begins here, and keeps others from writing: what takes long or may be
        refused comes before. Who asks is looked up again in it.

        Raises:
            ApiError: 401: the actor's token was ended a moment ago.
        """
        if self._db is None:
            self._db, self.actor = self._begin()
        return self._db

    def wait_for(self, ask: Callable[..., Coroutine[Any, Any, Found]], *given: object) -> Found:
        """Ask another process or the network, from a worker thread.

        It comes before the request's transaction: whoever is slow there would keep all others from
        writing here. A request that was done before is answered again, and nobody asked.

        Raises:
            RuntimeError: the transaction has begun.
        """
        if self._db is not None and not self._reads:
            raise RuntimeError("others would wait to write until there is an answer")
        self._replay()
        return from_thread.run(ask, *given)

    def may(self, action: str, tenant: str, **where: str) -> bool:
        """Whether the actor is permitted something there."""
        return may(self.actor.bindings, action, Resource(tenant=tenant, **where))

    def permitted(self, tenant: str, **where: str) -> bool:
        """Whether the actor is permitted there what the route declares."""
        if not self.by_model:
            where.pop("model", None)
        found = self.may(self._declared, tenant, **where)
        self.decided = self.decided or found
        return found

    def need(self, tenant: str, **where: str) -> None:
        """Insist on the permission that the route declares.

        Raises:
            ApiError: `permission_denied`.
        """
        if not self.permitted(tenant, **where):
            raise _denied(self._declared)

    def need_also(self, action: str, tenant: str, **where: str) -> None:
        """Insist on another permission besides, which a part of the request needs.

        Raises:
            ApiError: `permission_denied`.
        """
        if not self.may(action, tenant, **where):
            raise _denied(action)

    def may_for(self, action: str, models: Sequence[str] | None, tenant: str, **where: str) -> bool:
        """Whether the actor is permitted something there for all of these models.

        Args:
            models: None: for every model there is and will be.
        """
        if self.may(action, tenant, **where):
            return True
        return bool(models) and all(
            self.may(action, tenant, model=model, **where) for model in models or ()
        )

    def need_for(self, models: Sequence[str] | None, tenant: str, **where: str) -> None:
        """Insist on the route's permission for all of these models; see `may_for`.

        Raises:
            ApiError: `permission_denied`.
        """
        assert self.by_model, "the route is for nobody whose role is for certain models"
        if self.may_for(self._declared, models, tenant, **where):
            self.decided = True
        elif self.models_in(tenant, **where):
            raise ApiError("permission_denied", "Your role is for certain models only: name them.",
                           param="models")  # fmt: skip
        else:
            raise _denied(self._declared)

    def models_in(self, tenant: str, **where: str) -> frozenset[str] | None:
        """For which models the route's permission is given there; None: for all, empty: for
        none."""
        place = Resource(tenant, **where)
        return self._models_of([b for b in self.actor.bindings if self._gives(b, place)])

    def models_anywhere(self, tenant: str | None) -> frozenset[str] | None:
        """The same, of a list of the tenant that who is bound to any part of it may read."""
        return self._models_of(self._reaching(tenant or PLATFORM))

    def _models_of(self, bindings: Sequence[RoleBinding]) -> frozenset[str] | None:
        """All models of bindings that give the route's permission."""
        if any(binding.models is None for binding in bindings):
            self.decided = True
            return None
        found = frozenset[str]().union(*(binding.models or () for binding in bindings))
        self.decided = self.decided or bool(found)
        return found

    def _reaching(self, tenant: str) -> list[RoleBinding]:
        """The bindings that give the route's permission in any part of a tenant."""
        return [
            one
            for one in self.actor.bindings
            if self._gives(one, Resource(tenant, one.account, one.project, one.environment))
        ]

    def _gives(self, binding: RoleBinding, place: Resource) -> bool:
        """Whether a binding gives the route's permission there, for some models at least."""
        if self.by_model and binding.models:
            place = place._replace(model=binding.models[0])
        return may((binding,), self._declared, place)

    def need_step_up(self, *, for_first: bool = False) -> None:
        """Insist that the actor has shown all that signing in takes within the last minutes.

        Args:
            for_first: it is about a person who will have the platform: while there is none, whoever
                came by a sign-in link has nothing to show, and is let through.

        Raises:
            ApiError: `step_up_required`; `permission_denied` for a program's token.
        """
        actor = self.actor
        if for_first and self.makes_first_account():
            self.proved = True
            return
        if not actor.in_session:
            raise ApiError("permission_denied", "A program's token does not do: sign in.")
        if actor.proved_at_s is None or actor.proved_at_s < time.time() - tokens.STEP_UP_S:
            how = "sign in again" if actor.from_provider else "POST /me/step-up"
            raise ApiError("step_up_required", f"Show again that it is you: {how}.")
        self.proved = True

    def makes_first_account(self) -> bool:
        """Whether the actor came by a sign-in link, and nobody has an account of the platform."""
        if self.actor.id != OPERATOR.id:
            return False
        if self._db is not None:
            return not roles.has_person(self._db)
        with reading(self.context.engine) as db:
            return not roles.has_person(db)

    def is_self(self, user_id: str) -> bool:
        """Whether it is about the actor's own account, which needs no permission: but for a
        program's token, which has just those it was given."""
        found = user_id == self.actor.id and self.actor.in_session
        self.decided = self.decided or found
        return found

    def tenant(self, asked: str | None) -> str | None:
        """Which tenant's rows a list may show; None: all tenants'.

        Raises:
            ApiError: `permission_denied` for another's.
        """
        if asked is None and self.actor.tenant == PLATFORM:
            if self.models_in(PLATFORM) == frozenset():
                raise _denied(self._declared)
            return None
        tenant = asked if asked is not None else self.actor.tenant
        # Anyone bound to a part of the tenant may ask; rows are then looked at one by one.
        if not self._reaching(tenant):
            raise _denied(self._declared)
        self.decided = True
        return tenant

    def visible(
        self, rows: Sequence[dict[str, Any]], action: str | None = None
    ) -> list[dict[str, Any]]:
        """Those rows the actor is permitted to see.

        Args:
            action: instead of what the route declares.
        """
        return [
            row
            for row in rows
            if self.may(
                action or self._declared,
                row["tenant"] or PLATFORM,
                account=row.get("account", ""),
                project=row.get("project", ""),
                environment=row.get("environment", ""),
            )
        ]

    def note(
        self,
        tenant: str,
        target: str,
        detail: Mapping[str, object] | None = None,
        *,
        action: str | None = None,
    ) -> None:
        """Write the change down in the audit trail.

        Args:
            action: instead of what the route declares.
        """
        note = Note(action or self._declared, tenant, target, detail)
        if self._reads:
            self.notes.append(note)
        else:
            admin_log.note(self.db, self.author, *note)

    @property
    def only_reads(self) -> bool:
        """Whether the request changes nothing."""
        return self._reads

    @property
    def _declared(self) -> str:
        assert self.action is not None, "the route declares no permission"
        return self.action


def _denied(action: str) -> ApiError:
    return ApiError("permission_denied", f"You may not do this here: `{action}`.")


def context_of(request: Request) -> ApiContext:
    """The context of the application that a request came to."""
    context: ApiContext = request.app.state.context
    return context


def address_of(request: Request) -> str:
    """Where a request came from, as the proxies say that are trusted."""
    return request.client.host if request.client is not None else ""


def identify(db: Connection, context: ApiContext, token: str | None) -> Actor:
    """Who holds a bearer token.

    Raises:
        ApiError: 401.
    """
    if not token:
        raise ApiError("missing_api_key", "Send a token as `Authorization: Bearer`.")
    stored = revisions.get_meta(db, api_keys.ADMIN_HASH) or ""
    digest = suite_of_stored(stored).stored_digest(token.encode())
    if secrets.same(token, context.operator) or secrets.same(digest, stored):
        return users.PLATFORM_OWNER
    actor = users.actor_of(db, context.suite, token, context.settings.access)
    if actor is None:
        raise ApiError("invalid_api_key", "The token is not valid.")
    return actor


_BEARER = HTTPBearer(
    auto_error=False, description="The admin token, a session's or a program's token."
)


class Permission:
    """A dependency of a route: who asks, who must be permitted the action.

    It is declared once: the OpenAPI document shows it as `x-permission`, and it is what the
    request's checks ask about. A route that answers without having asked fails.
    """

    def __init__(
        self,
        action: str | None,
        extent: Extent | None = None,
        found_with: str = "",
        *,
        by_model: bool = False,
        or_own: bool = False,
        step_up: StepUp | None = None,
        before_factor: bool = False,
        keeps_answer: bool = True,
    ) -> None:
        """
        Args:
            action: None: to be signed in is enough.
            extent: where it must be given; on the platform is asked for here, else by the route,
                which knows what it is about.
            found_with: the permission without which the object is not there for the actor.
            by_model: whether a role for certain models does, for what is about those alone: the
                route asks with the model, and shows no others. Else such a role does nothing here.
            or_own: nothing is needed for the actor's own account.
            step_up: when the actor has to show again all that signing in takes; the route asks.
            before_factor: whether it is for those, too, who have yet to set up the second factor
                that is demanded of them.
            keeps_answer: whether a POST that was done is answered again by its `Idempotency-Key`;
                not where the answer must be nowhere else.
        """
        assert action is None or (action in ACTIONS and extent is not None), action
        assert not found_with or found_with in ACTIONS, found_with
        self.action = action
        self.extent = extent
        self.found_with = found_with
        self.by_model = by_model
        self.or_own = or_own
        self.step_up = step_up
        self.before_factor = before_factor
        self.keeps_answer = keeps_answer

    def check_head(self, request: Request) -> None:
        """Refuse a long body before it is read: of who is not known, or may not do it whatever it
        says.

        Raises:
            ApiError: 401, or `permission_denied` where the route alone decides.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        context = context_of(request)
        with reading(context.engine) as db:
            actor = identify(db, context, token if scheme.lower() == "bearer" else None)
        if self.action is None or self.extent is not Extent.PLATFORM:
            return
        if not may(actor.bindings, self.action, Resource(PLATFORM)):
            raise _denied(self.action)

    def __call__(
        self,
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
        idempotency_key: Annotated[str, Header(max_length=idempotency.KEY_CHARACTERS_MAX)] = "",
    ) -> RequestContext:
        """See https://fastapi.tiangolo.com/advanced/advanced-dependencies/."""
        context = context_of(request)
        token = None if bearer is None else bearer.credentials
        repetition = None
        if idempotency_key and request.method == "POST" and self.keeps_answer:
            whose = f"{token}\n{idempotency_key}"
            repetition = Repetition.of(request, context.sealer, whose)

        def replay() -> None:
            if repetition is not None:
                with reading(context.engine) as found_in:
                    repetition.replay(found_in)

        def begin() -> Begun:
            db = request.state.db = context.engine.connect()
            try:
                db.begin()
                begun = Begun(db, identify(db, context, token))
                if repetition is not None:
                    repetition.claim(db)
                    request.state.claimed = repetition
            except BaseException:
                # Whoever goes on in spite of it must not wait for itself.
                db.close()
                request.state.db = None
                raise
            return begun

        # Nobody who is unknown makes others wait for the right to write.
        db = request.state.db = reading(context.engine)
        known = Begun(db, identify(db, context, token))
        reads, signed = request.method == "GET", signature_of(request, db, known.actor.id)
        if not reads:
            db.close()
            request.state.db = None
        used_s, access = known.actor.used_at_s, context.settings.access
        tokens.note_use(context.engine, known.actor.token_id, used_s, access)
        author = Author(known.actor.id, address_of(request), signed)
        asked = request.state.asked = RequestContext(
            known.actor, author, context, self.action, (lambda: known) if reads else begin,
            replay, reads=reads, by_model=self.by_model,
        )  # fmt: skip
        if not self.before_factor:
            users.refuse_unready(known.actor, must_set_up_factor(context, known.actor))
        asked.proved = self.step_up in (None, StepUp.POWER)
        if self.extent is Extent.PLATFORM:
            asked.need(PLATFORM)
        return asked


def must_set_up_factor(context: ApiContext, actor: Actor) -> bool:
    """Whether somebody signed in with a password alone where that is not enough."""
    demanded = actor.factor_demanded or context.settings.control.second_factor_required
    return actor.lacks_factor and demanded


SignedIn = Annotated[RequestContext, Depends(Permission(None))]
"""Anyone who is known."""
Entering = Annotated[RequestContext, Depends(Permission(None, before_factor=True))]
"""Those among them, too, who have yet to set up a second factor."""


# --- paging ------------------------------------------------------------------------------


def _page(
    limit: Annotated[int, Query(ge=1, le=paging.PAGE_MAX)] = 50,
    cursor: Annotated[str, Query(max_length=paging.CURSOR_CHARACTERS_MAX)] = "",
) -> Page:
    return paging.page_of(limit, cursor)


Paged = Annotated[Page, Depends(_page)]


# --- versions ----------------------------------------------------------------------------

IfMatch = Annotated[str, Header(alias="if-match", max_length=100)]


def check_version(if_match: str, version: int) -> None:
    """Insist that it was not changed meanwhile, when the caller asks for that.

    Raises:
        ApiError: `precondition_failed`.
    """
    if not is_version(if_match, version):
        raise ApiError("precondition_failed", "It was changed since you read it; read it again.")


def is_version(if_match: str, version: int | None) -> bool:
    """Whether an `If-Match` takes a version; None where there is nothing. None given takes any."""
    wanted = if_match.strip()
    return not wanted or (version is not None and wanted in ("*", f'"{version}"', f'W/"{version}"'))


def tag(response: Response, version: int) -> None:
    """Say which version an answer is of."""
    response.headers["etag"] = f'"{version}"'


# --- routes ------------------------------------------------------------------------------


class AdminRoute(APIRoute):
    """A route of the admin API.

    One transaction a request, ended before the answer is sent: who reads "done" can rely on
    it. A POST with an `Idempotency-Key` is done once; the same answer is replayed for a
    day, and what is kept of it is part of the same transaction. Query parameters that the
    route does not know are refused. The OpenAPI document gets the route's permission
    (`x-permission`), a summary and a call to copy (`x-codeSamples`).
    """

    refuses_unknown_queries: ClassVar[bool] = True

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        described = " ".join((endpoint.__doc__ or "").partition("\n\n")[0].split())
        options["summary"] = options.get("summary") or described.partition(";")[0].rstrip(".")
        super().__init__(path, endpoint, **options)
        extra = dict(self.openapi_extra or {})
        needed = permission_of(self)
        if needed is not None and needed.action is not None and needed.extent is not None:
            extra["x-permission"] = needed.action
            extra["x-permission-extent"] = needed.extent.name.lower()
        examples = [body.example for body in _bodies_of(self)]
        sample = sample_of(self, examples, signed_in=needed is not None)
        extra["x-codeSamples"] = [{"lang": "Shell", "source": sample}]
        self.openapi_extra = extra
        self.queries = frozenset(
            field.alias for part in parts_of(self.dependant) for field in part.query_params
        )
        answers = self.response_model
        self.is_list = (
            "GET" in (self.methods or ())
            and isinstance(answers, type)
            and issubclass(answers, ListAnswer | Items)
        )
        self.bounds = next((body.bounds for body in _bodies_of(self)), ADMIN_BOUNDS)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `fastapi.routing.APIRoute`."""
        handle = super().get_route_handler()
        needed = permission_of(self)

        async def in_transaction(request: Request) -> Response:
            if self.refuses_unknown_queries:
                refuse_unknown(request, self.queries)
            wrong_tokens: WrongTokens = request.app.state.wrong_tokens
            await wrong_tokens.check(request)
            request.state.db = request.state.claimed = request.state.asked = None
            try:
                if needed is not None and has_long_body(request):
                    await run_in_threadpool(needed.check_head, request)
                request.state.body = await request.body()
                count_parts(request.state.body, self.bounds)
                response = await handle(request)
            except Replay as replay:
                response = replay.response
                await run_in_threadpool(_end, request, None)
            except BaseException as error:
                if isinstance(error, ApiError) and error.code == "invalid_api_key":
                    wrong_tokens.note(request, right=False)
                await run_in_threadpool(_end, request, None)
                if isinstance(error, ApprovalRequired) and not error.known:
                    found = context_of(request)
                    lasts_s = found.settings.control.second_person_hours * 3_600
                    await run_in_threadpool(approvals.keep, found.engine, error, lasts_s)
                raise
            else:
                await run_in_threadpool(_end, request, response)
                if request.state.asked is not None:
                    wrong_tokens.note(request, right=True)
            return _unless_known(request, response) if self.is_list else response

        return in_transaction


def _unless_known(request: Request, response: Response) -> Response:
    """A list with its ETag; 304 where the asker names that: it is as it was."""
    asked: RequestContext | None = request.state.asked
    if asked is None or response.status_code != 200:
        return response
    found = f'W/"{asked.context.suite.hex_digest(bytes(response.body))[:32]}"'
    known = {one.strip() for one in request.headers.get("if-none-match", "").split(",")}
    if found in known:
        return Response(status_code=304, headers={"etag": found})
    response.headers["etag"] = found
    return response


def permission_of(route: APIRoute) -> Permission | None:
    """What a route declares; None where nobody has to be known."""
    for part in parts_of(route.dependant):
        if isinstance(part.call, Permission):
            return part.call
    return None


def _bodies_of(route: APIRoute) -> Iterator[type[RequestBody]]:
    for field in route.dependant.body_params:
        kind = field.field_info.annotation
        body = next(iter(get_args(kind)), kind)
        assert isinstance(body, type) and issubclass(body, RequestBody)
        yield body


def _end(request: Request, response: Response | None) -> None:
    """Commit what the answer says is done; without an answer, undo."""
    db: Connection | None = request.state.db
    asked: RequestContext | None = request.state.asked
    with db or nullcontext():
        if response is None or asked is None:
            return
        if not asked.decided:
            raise RuntimeError(f"{request.url.path} never asked for `{asked.action}`")
        if not asked.proved:
            raise RuntimeError(f"{request.url.path} never asked who has the session")
        if db is not None:
            if request.state.claimed is not None:
                request.state.claimed.keep(db, response)
            db.commit()
    if asked.notes:
        with asked.context.engine.begin() as db:
            for note in asked.notes:
                admin_log.note(db, asked.author, *note)


# --- names -------------------------------------------------------------------------------

Label = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w.@-]+$")]
"""A name in the organization."""
MaybeLabel = Annotated[str, Field(max_length=64, pattern=r"^[\w.@-]*$")]
_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
ONE_LINE = rf"^[^{_CONTROL}]*$"
"""Of a text that people read and type again: what a browser's field cannot hold is not in it."""
VISIBLE_LINE = rf"^[^{_CONTROL}]*[^\s{_CONTROL}\u200b-\u200f\u2060\ufeff][^{_CONTROL}]*$"
"""The same, and there is something to be seen."""
NameQuery = Annotated[str | None, Query(max_length=64, pattern=r"^[\w.@*-]+$")]
IntMoment = Annotated[int | None, Query(ge=0, le=2**53)]
"""Unix time."""
