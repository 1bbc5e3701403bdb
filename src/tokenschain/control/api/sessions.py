"""Admin API: sessions, the own account, its password and second factor.

(No postponed annotations here: FastAPI reads them.)
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Annotated, ClassVar, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Request
from fastapi.security.utils import get_authorization_scheme_param
from pydantic import Field
from sqlalchemy import Connection

from tokenschain.control.api.bodies import AnswerBody, Example, RequestBody
from tokenschain.control.api.context import (
    AdminRoute,
    ApiContext,
    Entering,
    Permission,
    RequestContext,
    address_of,
    context_of,
    must_set_up_factor,
)
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.identity import (
    login_throttle,
    recovery_codes,
    sign_in_links,
    tokens,
)
from tokenschain.control.identity import users as users_module
from tokenschain.control.identity.ownership import StepUp
from tokenschain.core import mail_address
from tokenschain.core.errors import ApiError
from tokenschain.infra.database.engine import reading
from tokenschain.infra.security import passwords

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["sessions"])
Email = Annotated[
    str, Field(max_length=users_module.EMAIL_CHARACTERS_MAX, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")
]
MailAddress = Annotated[
    str,
    Field(max_length=users_module.EMAIL_CHARACTERS_MAX, pattern=mail_address.PATTERN),
]
Password = Annotated[str, Field(min_length=1, max_length=users_module.PASSWORD_CHARACTERS_MAX)]
SESSIONS_PATH = "/api/v1/sessions"
LOGIN_BYTES_MAX = 4_096
"""Of a request to sign in, which anybody may send."""
AT_ONCE_MAX = 2
"""Sign-ins of one control: their passwords take a core and 19 MiB each."""
WAITING_MAX = 400
"""Sign-ins that wait for others: some seconds' worth."""
WAITING_OF_PLACE_MAX = 50
"""Those of them that come from one address."""
Done = TypeVar("Done")
Proving = Annotated[
    RequestContext, Depends(Permission(None, step_up=StepUp.REQUEST, before_factor=True))
]
Code = Annotated[str, Field(pattern=r"^[0-9]{6}$")]
RecoveryCode = Annotated[str, Field(pattern=recovery_codes.PATTERN)]


class Login(RequestBody):
    """A password, and where there is a second factor its code, or a recovery code instead."""

    example: ClassVar[Example] = {"email": "ann@example.com", "password": "correct horse battery"}
    email: Email
    password: Password
    code: Code | None = None
    recovery_code: RecoveryCode | None = None
    """One of those that the second factor came with; each counts once."""
    tenant: Annotated[str | None, Field(max_length=64)] = None
    """Of whom to sign in, when several tenants have a user with the address. Without it the
    platform's is meant, or else the first whose address was confirmed, or else the first."""


class LinkCode(RequestBody):
    """The code of a sign-in link."""

    example: ClassVar[Example] = {"code": "tcl-Zm9yIHRoaXMgb25lIHRpbWUgYW5kIG5ldmVyIGFnYWlu"}
    code: Annotated[str, Field(min_length=20, max_length=100)]


class OwnPassword(RequestBody):
    """The old password and the new, and where there is a second factor a code of it, or a recovery
    code."""

    example: ClassVar[Example] = {"old": "correct horse battery", "new": "a better horse battery"}
    old: Password
    new: Password
    code: Code | None = None
    recovery_code: RecoveryCode | None = None


class Proof(RequestBody):
    """The own password, and where there is a second factor a code of it, or a recovery code."""

    example: ClassVar[Example] = {"password": "correct horse battery", "code": "287082"}
    password: Password
    code: Code | None = None
    recovery_code: RecoveryCode | None = None


class TotpConfirmation(RequestBody):
    """The secret that was shown and a code of it; and the password, with a code of the second
    factor that is in force where there is one, or a recovery code."""

    example: ClassVar[Example] = {
        "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "code": "287082",
        "password": "correct horse battery",
    }
    secret: Annotated[str, Field(pattern=r"^[A-Z2-7]{32}$")]
    code: Code
    password: Password | None = None
    old_code: Code | None = None
    recovery_code: RecoveryCode | None = None
    """In place of `old_code`; it counts once."""


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
    models: list[str] | None
    """Null: all. Else it reaches what is about these alone."""


class OwnAccount(AnswerBody):
    """The account of who asks."""

    name: str
    email: str
    kind: str
    """`user`, or `service`: a program's."""
    has_password: bool
    has_totp: bool
    has_oidc: bool
    """Known by the provider's name for the person, and without a password here."""


class Me(AnswerBody):
    """Who asks."""

    id: str
    tenant: str
    bindings: list[Reach]
    account: OwnAccount | None
    """Null for the admin token and sign-in links, which are nobody's."""
    token_id: str
    """Of the session or program's token that asks; empty without an account."""
    makes_first_account: bool
    """Whether the asker came by a sign-in link and nobody of the platform can sign in with a role
    yet: a person of the platform and the role of its owner then need no step-up."""
    must_change_password: bool
    """Whether the password is older than the platform allows: nothing else is done before."""
    must_set_up_factor: bool
    """Whether a second factor is demanded and not set up yet: nothing else is done before."""


class Changed(AnswerBody):
    """The password is changed."""

    changed: bool = True


class TotpOffer(AnswerBody):
    """A secret for an authenticator app, and the same as a URI for a QR code."""

    secret: str
    uri: str


class SteppedUp(AnswerBody):
    """The session counts as its user's own for some minutes."""

    expires_at_s: int
    """Unix time."""


class ConfirmedTotp(AnswerBody):
    """The second factor is in force, with new recovery codes, which are in this answer and never
    again."""

    recovery_codes: list[str]


class SignIns:
    """Lets few sign in at once, since comparing passwords takes a core each, and few more wait:
    their addresses take turns, and where too many wait, the address with most of them makes
    room."""

    def __init__(self) -> None:
        self._running = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def run(self, place: str, work: Callable[[], Done]) -> Done:
        """Do it in a thread, in turn.

        Args:
            place: see `login_throttle.place_of`; one place does not fill the queue.

        Raises:
            ApiError: `overloaded`: too many wait.
        """
        if self._running < AT_ONCE_MAX:
            self._running += 1
        else:
            await self._wait(place)
        try:
            return await asyncio.to_thread(work)
        finally:
            self._let_next()

    async def _wait(self, place: str) -> None:
        mine = self._waiting.get(place, ())
        if len(mine) >= WAITING_OF_PLACE_MAX:
            raise _too_many()
        if sum(map(len, self._waiting.values())) >= WAITING_MAX:
            most = max(self._waiting, key=lambda one: len(self._waiting[one]))
            if len(self._waiting[most]) <= len(mine) + 1:
                raise _too_many()
            self._waiting[most].pop().set_exception(_too_many())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(place, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting[place].remove(turn)
                if not self._waiting[place]:
                    del self._waiting[place]
            elif turn.exception() is None:
                self._let_next()
            raise

    def _let_next(self) -> None:
        if not self._waiting:
            self._running -= 1
            return
        place = next(iter(self._waiting))
        waiting = self._waiting.pop(place)
        turn = waiting.popleft()
        if waiting:
            self._waiting[place] = waiting
        turn.set_result(None)


def _too_many() -> ApiError:
    return ApiError("overloaded", "Too many sign in at once; try again.", retry_after_s=2.0)


def session_end_s(context: ApiContext) -> int:
    """When a session that begins now ends at the latest."""
    return int(time.time()) + context.settings.access.session_max_s


@router.post("/sessions", status_code=201)
async def log_in(request: Request, wanted: Login) -> Session:
    """Sign in with a password; `token` is in this answer and never again."""
    sign_ins: SignIns = request.app.state.sign_ins
    address = address_of(request)
    token = await sign_ins.run(
        login_throttle.place_of(address), partial(_log_in, context_of(request), wanted, address)
    )
    return Session(token=token, expires_at_s=session_end_s(context_of(request)))


@router.post("/sessions/link", status_code=201)
def use_link(request: Request, wanted: LinkCode) -> Session:
    """Sign in with a link of the platform's operator, which serves once; see
    `tokenschain credentials renew sign-in-link`."""
    context, address = context_of(request), address_of(request)
    over = ApiError("invalid_login", "The link was used already, or is over: make another.")
    # Nobody guesses a code; strangers who try do not make others wait to write.
    with reading(context.engine) as db:
        if not sign_in_links.is_open(db, context.suite, wanted.code):
            raise over
    with context.engine.begin() as db:
        token = sign_in_links.use(db, context.suite, wanted.code, context.settings.access)
        if token is None:
            raise over
        by = Author(users_module.OPERATOR.id, address)
        admin_log.note(db, by, "login", "", by.id, {"through": "link"})
    return Session(token=token, expires_at_s=session_end_s(context_of(request)))


def _log_in(context: ApiContext, wanted: Login, address: str) -> str:
    """A session's token. Each step has a transaction of its own: a try is counted although it is
    refused, and passwords are compared while nobody waits for the database.

    Raises:
        ApiError: `invalid_login` or `account_locked`, alike for users that are not there.
    """
    email = wanted.email.lower()[
        : users_module.EMAIL_CHARACTERS_MAX
    ]  # small letters may be more than one
    now_s = int(time.time())
    account = login_throttle.account_of(email, wanted.tenant)
    place = login_throttle.place_of(address)
    with context.engine.begin() as db:
        login_throttle.begin(db, account, place, now_s)
        row = users_module.find_for_login(db, email, wanted.tenant)
    right = users_module.password_right(row, wanted.password)
    with context.engine.begin() as db:
        codes = SecondFactor(wanted.code, wanted.recovery_code)
        if row is not None and right and _is_let_in(db, context, row, codes, now_s):
            login_throttle.succeed(db, account, place, row["id"])
            token = tokens.open_session(
                db, context.suite, row["id"], "login", context.settings.access
            )
            detail = None
            if row["totp_sealed"] is not None and codes.code is None:
                detail = {"recovery_codes_left": recovery_codes.left(db, row["id"])}
            admin_log.note(db, Author(row["id"], address), "login", "", row["id"], detail)
            return token
        _note_failure(db, place, Author("", address), None if row is None else email, now_s)
    raise users_module.wrong()


class SecondFactor(NamedTuple):
    """What shows the second factor: a code of it, or a recovery code."""

    code: str | None
    recovery_code: str | None = None


def _is_let_in(
    db: Connection, context: ApiContext, row: users_module.Row, shown: SecondFactor, now_s: int
) -> bool:
    """Whether a user whose password was right may come in."""
    now = users_module.get(db, row["id"])
    if now is None or now["password_hash"] != row["password_hash"] or now["disabled_at_s"]:
        return False
    if now["totp_sealed"] is None:
        return True
    code, recovery_code = shown
    if code is None and recovery_code is None:
        return False
    if not login_throttle.may_try_code(db, row["id"], now_s):
        return False
    if code is not None:
        return users_module.use_code(db, context.sealer, now, code)
    assert recovery_code is not None
    return recovery_codes.use(db, context.suite, row["id"], recovery_code)


def _note_failure(
    db: Connection, place: str, author: Author, email: str | None, now_s: int
) -> None:
    """Count a wrong try; a line of the audit log each only where a user is guessed at."""
    count = login_throttle.fail(db, place, now_s)
    if email is not None:
        admin_log.note(db, author, "login:failed", "", email)
    elif count is not None:
        admin_log.note(db, author, "login:failed", "", "unknown", {"failures": count})


@router.delete("/sessions")
def log_out(asked: Entering, request: Request) -> Ended:
    """Sign out."""
    tokens.end(asked.db, asked.context.suite, _token_of(request))
    asked.note("", asked.actor.id, action="logout")
    return Ended()


def _token_of(request: Request) -> str:
    """The token that the caller is known by, as FastAPI reads it."""
    return get_authorization_scheme_param(request.headers.get("authorization"))[1]


@router.get("/me")
def me(asked: Entering) -> Me:
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
                models=None if binding.models is None else list(binding.models),
            )
            for binding in asked.actor.bindings
        ],
        account=_shown_account(users_module.get(asked.db, asked.actor.id)),
        token_id=asked.actor.token_id,
        makes_first_account=asked.makes_first_account(),
        must_change_password=asked.actor.password_is_old,
        must_set_up_factor=must_set_up_factor(asked.context, asked.actor),
    )


def _shown_account(row: users_module.Row | None) -> OwnAccount | None:
    if row is None:
        return None
    shown = users_module.shown(row)
    return OwnAccount(**{name: shown[name] for name in OwnAccount.model_fields})


def own_account(db: Connection, asked: RequestContext) -> users_module.Row:
    """The asking user's account.

    Raises:
        ApiError: `not_found`: the platform's owner has none.
    """
    row = users_module.get(db, asked.actor.id)
    if row is None:
        raise ApiError("not_found", "The platform's owner is no user; make one: POST /users.")
    return row


def _own_account_in_session(asked: RequestContext) -> users_module.Row:
    """The account of somebody who signed in here, read before the request's transaction begins.

    Raises:
        ApiError: `permission_denied` for a program's token, which was not there when its user
            signed in; `conflict` for whom single sign-on lets in.
    """
    if not asked.actor.in_session:
        raise ApiError("permission_denied", "A program's token does not do: sign in.")
    with reading(asked.context.engine) as db:
        row = own_account(db, asked)
    if row["oidc_subject"] is not None:
        raise ApiError("conflict", "You sign in by single sign-on: change it at the provider.")
    return row


@router.post("/me/step-up")
def step_up(asked: Proving, request: Request, wanted: Proof) -> SteppedUp:
    """Show password and second factor again, for what asks for more than a session: for some
    minutes, in this session."""
    row = sign_in_again(asked, wanted.password, SecondFactor(wanted.code, wanted.recovery_code))
    _insist_unchanged(asked, row)
    tokens.note_step_up(asked.db, asked.context.suite, _token_of(request))
    asked.note(row["tenant"], row["id"], action="step-up")
    return SteppedUp(expires_at_s=int(time.time()) + tokens.STEP_UP_S)


@router.post("/me/password")
def change_own_password(asked: Proving, wanted: OwnPassword) -> Changed:
    """Change the own password, with a code where there is a second factor; all sessions end."""
    row = sign_in_again(asked, wanted.old, SecondFactor(wanted.code, wanted.recovery_code))
    rules = asked.context.settings.access
    stored = users_module.hash_password(wanted.new, rules)
    users_module.refuse_former(asked.context.engine, row["id"], wanted.new, rules)
    _insist_unchanged(asked, row)
    users_module.set_password(asked.db, row["id"], stored, rules, by_holder=True)
    asked.note(row["tenant"], row["id"], action="password")
    return Changed()


@router.post("/me/totp", status_code=201)
def offer_totp(asked: Entering) -> TotpOffer:
    """Get a secret for an authenticator app; in force once `/me/totp/confirm` had a code of it."""
    row = _own_account_in_session(asked)
    secret = passwords.new_totp_secret()
    label = quote(f"TokensChain:{row['email']}")
    query = urlencode({"secret": secret, "issuer": "TokensChain"})
    return TotpOffer(secret=secret, uri=f"otpauth://totp/{label}?{query}")


@router.post("/me/totp/confirm")
def confirm_totp(asked: Proving, wanted: TotpConfirmation) -> ConfirmedTotp:
    """Put the second factor in force: with the password, and in another's place with a code of it
    or a recovery code besides.

    `recovery_codes` are in this answer and never again, in place of earlier ones: each lets in
    once where the second factor is lost.
    """
    row = _own_account_in_session(asked)
    step = passwords.totp_step(wanted.secret, wanted.code, time.time())
    if step is None:
        raise users_module.wrong()
    shown = SecondFactor(wanted.old_code, wanted.recovery_code)
    if row["totp_sealed"] is not None and not any(shown):
        raise ApiError(
            "missing_required_parameter",
            "Send an `old_code`, of the second factor in force, or a `recovery_code`.",
            param="old_code",
        )
    row = sign_in_again(asked, wanted.password, shown)
    _insist_unchanged(asked, row)
    users_module.set_totp(asked.db, asked.context.sealer, row["id"], wanted.secret, step)
    codes = recovery_codes.issue(asked.db, asked.context.suite, row["id"])
    asked.note(row["tenant"], row["id"], action="totp")
    return ConfirmedTotp(recovery_codes=codes)


def sign_in_again(
    asked: RequestContext, password: str | None, shown: SecondFactor
) -> users_module.Row:
    """Insist on all that signing in takes, of who is signed in (step-up): a session may be
    somebody else's. Returns the account, as it was then.

    Raises:
        ApiError: see `_insist` and `_own_account_in_session`.
    """
    row = _own_account_in_session(asked)
    if password is None:
        raise ApiError("missing_required_parameter", "Send your own `password`.", param="password")

    _insist(asked, row, password, shown)
    asked.proved = True
    return row


def _insist(
    asked: RequestContext, row: users_module.Row, password: str, shown: SecondFactor
) -> None:
    """Insist that who is signed in shows it again. Wrong tries count like those of signing in, in
    transactions of their own; the password is compared while nobody waits for the database.

    Raises:
        ApiError: `invalid_login` or `account_locked`.
    """
    engine, user_id, now_s = asked.context.engine, row["id"], int(time.time())
    place = login_throttle.place_of(asked.author.address)
    with engine.begin() as db:
        login_throttle.begin(db, user_id, place, now_s)
    right = users_module.password_right(row, password)
    with engine.begin() as db:
        right = right and _is_let_in(db, asked.context, row, shown, now_s)
        if right:
            login_throttle.succeed(db, user_id, place, user_id)
        else:
            _note_failure(db, place, asked.author, row["email"], now_s)
    if not right:
        raise users_module.wrong()


def _insist_unchanged(asked: RequestContext, row: users_module.Row) -> None:
    """What was proved must still be so in the request's transaction.

    Raises:
        ApiError: `conflict`.
    """
    now = own_account(asked.db, asked)
    if any(now[name] != row[name] for name in ("password_hash", "totp_sealed", "oidc_subject")):
        raise ApiError("conflict", "The account was changed at the same time; try again.")
