"""Control's HTTP application: the admin API, the internal channel and health checks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tokenschain import __version__
from tokenschain.control.api import (
    alerts,
    approvals,
    audit_log,
    billing,
    cache,
    compliance,
    compliance_templates,
    configuration,
    content,
    diagnostics,
    errors,
    evaluations,
    filings,
    health,
    incidents,
    insight,
    internal,
    invitations,
    keys,
    legal_holds,
    limits,
    metrics,
    moderation_cases,
    moderation_engines,
    moderation_freezes,
    moderation_policies,
    moderation_proposals,
    moderation_rules,
    moderation_statistics,
    moderation_suspensions,
    open_doors,
    organization,
    playground,
    rejected_records,
    search,
    sessions,
    sign_ups,
    signing_keys,
    single_sign_on,
    subject_requests,
    transfers,
    upstream_tests,
    usage,
    users,
)
from tokenschain.control.api.context import ApiContext
from tokenschain.control.api.internal import InternalContext
from tokenschain.control.api.wrong_tokens import WrongTokens
from tokenschain.control.identity.oidc import Oidc
from tokenschain.control.moderation.local_rules import LocalRules
from tokenschain.control.moderation.review_queue import CaseBook
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.core.keyed_rates import KeyedRates
from tokenschain.infra.control_channel.signatures import Signatures

REQUEST_MAX_S = 20.0
"""For a request to the admin API."""
ADMIN_SUBJECTS = (
    organization, keys, playground, limits, usage, insight, diagnostics, rejected_records, billing,
    alerts, cache, configuration, upstream_tests, sessions, users, invitations, search,
    sign_ups, single_sign_on, signing_keys, moderation_cases,
    moderation_freezes, moderation_statistics, moderation_suspensions, moderation_engines,
    moderation_policies,
    moderation_proposals, audit_log, moderation_rules, content, legal_holds, transfers,
    compliance, approvals,
    filings, incidents, subject_requests, evaluations,
    compliance_templates,
)  # fmt: skip


def create_app(
    context: ApiContext,
    archive: ResponseArchive,
    cases: CaseBook,
    jobs: Sequence[Callable[[], Awaitable[None]]],
    signatures: Signatures,
    oidc: Oidc,
) -> FastAPI:
    """The application.

    Args:
        jobs: what control does by itself, each until cancelled.
    """

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
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        responses={
            status: {"model": errors.ErrorBody, "description": meaning}
            for status, meaning in errors.MEANINGS.items()
        },
    )
    app.state.context = context
    app.state.internal = InternalContext(
        context.engine, context.publisher, context.ledger, context.lease_manager, archive,
        cases, signatures,
    )  # fmt: skip
    app.state.oidc = oidc
    app.state.single_sign_on_rates = KeyedRates(single_sign_on.PER_MINUTE_MAX)
    app.state.local_rules = LocalRules()
    app.state.open_rates = open_doors.new_rates()
    app.state.sign_ins = sessions.SignIns()
    app.state.wrong_tokens = WrongTokens(context.suite, context.engine)
    app.add_middleware(_Bounded)
    app.add_middleware(_Heads)
    errors.add_handlers(app)
    for subject in ADMIN_SUBJECTS:
        app.include_router(subject.router)
    app.include_router(internal.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    app.include_router(health.described)
    return app


async def _coroutine(job: Callable[[], Awaitable[None]]) -> None:
    await job()


class _Heads:
    """Answers HEAD as GET, as monitors and load balancers ask (RFC 9110, 9.3.2); the wire leaves
    the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


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
            await errors.answer(errors.unavailable())(scope, receive, send)
            return
        await task

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()
