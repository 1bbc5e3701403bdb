"""Admin API: single sign-on by OpenID Connect.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from typing import Annotated

from fastapi import APIRouter, Cookie, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from tokenschain.control.api.context import AdminRoute, address_of, context_of
from tokenschain.control.api.sessions import Session, session_end_s
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.identity import login_throttle, oidc, tokens
from tokenschain.core.errors import ApiError
from tokenschain.core.keyed_rates import KeyedRates

OIDC_COOKIE = "tc_oidc"
PER_MINUTE_MAX = 240
"""Steps of one address, two for each who signs in: those of an office come from one."""


def _check_rate(request: Request) -> None:
    """Anybody may ask here, and the provider is asked for each.

    Raises:
        ApiError: `rate_limit_exceeded`.
    """
    rates: KeyedRates = request.app.state.single_sign_on_rates
    wait_s = rates.wait_s(login_throttle.place_of(address_of(request)), time.monotonic())
    if wait_s:
        raise ApiError("rate_limit_exceeded", "Too many sign in from your address; wait.",
                       retry_after_s=wait_s)  # fmt: skip


class _SingleSignOnRoute(AdminRoute):
    """What a provider adds to the way back must be ignored (RFC 6749, 4.1.2)."""

    refuses_unknown_queries = False


router = APIRouter(prefix="/api/v1/oidc", route_class=_SingleSignOnRoute, tags=["single sign-on"])


@router.get(
    "/start",
    status_code=302,
    response_class=RedirectResponse,
    responses={302: {"description": "To the provider."}},
)
async def start_oidc(request: Request) -> Response:
    """Go to the OpenID provider, to sign in there."""
    _check_rate(request)
    context = context_of(request)
    client: oidc.Oidc = request.app.state.oidc
    url, kept = await client.begin()
    answer = RedirectResponse(url, 302)
    answer.set_cookie(
        OIDC_COOKIE, kept, max_age=oidc.SIGN_IN_MAX_S, httponly=True, samesite="lax",
        path="/api/v1/oidc", secure=(context.settings.control.public_url or "").startswith("https"),
    )  # fmt: skip
    return answer


@router.get("/callback", response_model=Session)
async def finish_oidc(
    request: Request,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4_000)] = "",
    kept: Annotated[str, Cookie(alias=OIDC_COOKIE, max_length=4_000)] = "",
) -> Response:
    """Come back from the OpenID provider, signed in with the roles of one's groups there."""
    _check_rate(request)
    context = context_of(request)
    client: oidc.Oidc = request.app.state.oidc
    person = await client.finish(state, code, kept)

    author, settings = Author("", address_of(request)), context.settings.oidc

    def enter() -> str | oidc.Entrance:
        with context.engine.begin() as db:
            found = oidc.enter(
                db, person, settings.roles,
                email_verified_required=settings.email_verified_required,
            )  # fmt: skip
            detail = {"through": "oidc", "subject": person.subject}
            if found.user_id is None:
                # Committed, too: who was refused, why, and what roles that ended.
                detail["why"] = found.refusal
                admin_log.note(db, author, "login:refused", "", person.email, detail)
                return found
            token = tokens.open_session(
                db, context.suite, found.user_id, "oidc", context.settings.access
            )
            by = author._replace(id=found.user_id)
            admin_log.note(db, by, "login", "", found.user_id, detail)
            return token

    token = await run_in_threadpool(enter)
    if not isinstance(token, str):
        raise ApiError(token.code, token.refusal)
    session = Session(token=token, expires_at_s=session_end_s(context))
    answer = JSONResponse(session.model_dump(), headers={"cache-control": "no-store"})
    answer.delete_cookie(OIDC_COOKIE, path="/api/v1/oidc")
    return answer
