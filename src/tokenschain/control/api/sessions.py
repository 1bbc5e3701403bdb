"""Admin API: sessions, the own account, its password and second factor.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from typing import Annotated, ClassVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from pydantic import Field

from tokenschain.control.api.context import (
    AdminRoute,
    AnswerBody,
    Example,
    RequestBody,
    RequestContext,
    SignedIn,
    address_of,
    context_of,
)
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.identity import tokens
from tokenschain.control.identity import users as users_module
from tokenschain.core.errors import ApiError
from tokenschain.infra.security import passwords

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["sessions"])
Email = Annotated[str, Field(max_length=200, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]
Password = Annotated[str, Field(min_length=1, max_length=users_module.PASSWORD_CHARACTERS_MAX)]
Code = Annotated[str, Field(pattern=r"^[0-9]{6}$")]


class Login(RequestBody):
    """A password, and the code of the second factor where there is one."""

    example: ClassVar[Example] = {"email": "ann@example.com", "password": "correct horse battery"}
    email: Email
    password: Password
    code: Code | None = None


class OwnPassword(RequestBody):
    """The old password and the new."""

    example: ClassVar[Example] = {"old": "correct horse battery", "new": "a better horse battery"}
    old: Password
    new: Password


class TotpConfirmation(RequestBody):
    """The secret that was shown, and a code of it."""

    example: ClassVar[Example] = {"secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "code": "287082"}
    secret: Annotated[str, Field(pattern=r"^[A-Z2-7]{32}$")]
    code: Code


class Session(AnswerBody):
    """A session's token, which is in this answer and never again."""

    token: str
    expires_at_s: int


class Ended(AnswerBody):
    """The session is over."""

    ended: bool = True


class Reach(AnswerBody):
    """What may be done over a part of the organization."""

    permissions: list[str]
    tenant: str
    account: str
    project: str
    environment: str


class Me(AnswerBody):
    """Who asks."""

    id: str
    tenant: str
    bindings: list[Reach]


class Changed(AnswerBody):
    """The password is changed."""

    changed: bool = True


class TotpOffer(AnswerBody):
    """A secret for an authenticator app, and the same as a URI for a QR code."""

    secret: str
    uri: str


class TotpState(AnswerBody):
    """Whether a second factor is in force."""

    has_totp: bool = True


@router.post("/sessions", status_code=201)
def log_in(request: Request, wanted: Login) -> Session:
    """Sign in with a password; `token` is in this answer and never again."""
    context = context_of(request)
    author = Author("", address_of(request))
    # A wrong guess is counted although it is refused: not in the request's own transaction.
    with context.engine.begin() as db:
        user_id = users_module.log_in(
            db, context.sealer, wanted.email, wanted.password, wanted.code
        )
        if user_id is None:
            admin_log.note(db, author, "login:failed", "", wanted.email.lower()[:300])
        else:
            _, token = tokens.issue(
                db, context.suite, user_id, "session", "login", tokens.SESSION_S
            )
            admin_log.note(db, Author(user_id, author.address), "login", "", user_id)
    if user_id is None:
        raise users_module.wrong()
    return Session(token=token, expires_at_s=int(time.time()) + tokens.SESSION_S)


@router.delete("/sessions")
def log_out(asked: SignedIn, request: Request) -> Ended:
    """Sign out."""
    token = request.headers.get("authorization", "").partition(" ")[2]
    tokens.end(asked.db, asked.context.suite, token)
    asked.note("", asked.actor.id, action="logout")
    return Ended()


@router.get("/me")
def me(asked: SignedIn) -> Me:
    """Read who I am, and what I may do where."""
    return Me(
        id=asked.actor.id,
        tenant=asked.actor.tenant,
        bindings=[
            Reach(
                permissions=sorted(binding.permissions),
                tenant=binding.tenant,
                account=binding.account,
                project=binding.project,
                environment=binding.environment,
            )
            for binding in asked.actor.bindings
        ],
    )


def own_account(asked: RequestContext) -> users_module.Row:
    """The asking user's account.

    Raises:
        ApiError: `not_found`: the platform's owner has none.
    """
    row = users_module.get(asked.db, asked.actor.id)
    if row is None:
        raise ApiError("not_found", "The platform's owner is no user; make one: POST /users.")
    return row


@router.post("/me/password")
def change_own_password(asked: SignedIn, wanted: OwnPassword) -> Changed:
    """Change the own password; all sessions end."""
    row = own_account(asked)
    if not passwords.password_matches(row["password_hash"] or "", wanted.old):
        raise users_module.wrong()
    users_module.set_password(asked.db, row["id"], wanted.new)
    asked.note(row["tenant"], row["id"], action="password")
    return Changed()


@router.post("/me/totp", status_code=201)
def offer_totp(asked: SignedIn) -> TotpOffer:
    """Get a secret for an authenticator app; in force once `/me/totp/confirm` had a code of it."""
    row = own_account(asked)
    secret = passwords.new_totp_secret()
    label = quote(f"TokensChain:{row['email']}")
    query = urlencode({"secret": secret, "issuer": "TokensChain"})
    return TotpOffer(secret=secret, uri=f"otpauth://totp/{label}?{query}")


@router.post("/me/totp/confirm")
def confirm_totp(asked: SignedIn, wanted: TotpConfirmation) -> TotpState:
    """Put the second factor in force."""
    row = own_account(asked)
    if passwords.totp_step(wanted.secret, wanted.code, time.time()) is None:
        raise users_module.wrong()
    users_module.set_totp(asked.db, asked.context.sealer, row["id"], wanted.secret)
    asked.note(row["tenant"], row["id"], action="totp")
    return TotpState()
