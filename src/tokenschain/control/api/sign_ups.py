"""Admin API: signing up, where the operator lets anyone make a tenant of their own.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from functools import partial
from typing import Annotated, ClassVar

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints
from sqlalchemy import Connection

from tokenschain.control import mails
from tokenschain.control.api.bodies import AnswerBody, Example, RequestBody
from tokenschain.control.api.context import AdminRoute, ApiContext, address_of, context_of
from tokenschain.control.api.open_doors import check_rate
from tokenschain.control.api.sessions import MailAddress, Password, SignIns
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.billing import grants, limits, wallets
from tokenschain.control.identity import (
    api_keys,
    login_throttle,
    organization,
    ownership,
    roles,
    sign_ups,
    tokens,
)
from tokenschain.control.identity import users as users_module
from tokenschain.control.mails import Letter
from tokenschain.core.errors import ApiError
from tokenschain.core.limits import Measure, Rate, Selector
from tokenschain.core.pricing.catalog import PICO_PER_UNIT
from tokenschain.infra.config.sign_in import SignUpSettings
from tokenschain.infra.database.engine import reading
from tokenschain.infra.security import passwords

router = APIRouter(prefix="/api/v1/sign-ups", route_class=AdminRoute, tags=["sign-up"])
PAGE = "/console/confirm"
"""That a link leads to."""
PROJECT = ENVIRONMENT = "default"
_PLAN = "free-plan"
Code = Annotated[str, Field(min_length=20, max_length=100)]


class SignUp(RequestBody):
    """Who wants an account."""

    example: ClassVar[Example] = {
        "email": "ann@example.com",
        "password": "correct horse battery",
        "organization": "Example Ltd",
        "accepted_terms": True,
    }
    email: MailAddress
    password: Password
    organization: Annotated[
        str,
        StringConstraints(
            strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$"
        ),
    ]
    accepted_terms: bool = False
    """Needed where `sign_up.terms_url` is set."""


class SignUpCode(RequestBody):
    """The code of a confirmation link."""

    example: ClassVar[Example] = {"code": "tcc-Zm9yIHRoaXMgb25lIHRpbWUgYW5kIG5ldmVyIGFnYWlu"}
    code: Code


class Confirmation(RequestBody):
    """The code of a confirmation link, and the password that was chosen: a link alone, which
    anyone can have sent to an address, makes no account."""

    example: ClassVar[Example] = {
        "code": "tcc-Zm9yIHRoaXMgb25lIHRpbWUgYW5kIG5ldmVyIGFnYWlu",
        "password": "correct horse battery",
    }
    code: Code
    password: Password


class MailSent(AnswerBody):
    """A mail is on its way, whether or not there is an account with the address."""

    sent: bool = True


class OpenSignUp(AnswerBody):
    """What waits for a confirmation."""

    email: str
    organization: str


class Confirmed(AnswerBody):
    """A tenant and its owner's session; `token` and `key` are in this answer and never again."""

    token: str
    expires_at_s: int
    tenant: str
    project: str
    key: str
    credit_pico: int
    """Free credit, in pico-yuan."""


def _settings(context: ApiContext) -> SignUpSettings:
    """The settings, where anyone may sign up.

    Raises:
        ApiError: `not_found`.
    """
    if not context.settings.takes_sign_ups:
        raise ApiError("not_found", "Nobody signs up here: ask an administrator to invite you.")
    return context.settings.sign_up


@router.post("", status_code=202)
async def sign_up(request: Request, wanted: SignUp) -> MailSent:
    """Ask for an account: a mail with a link is sent, whatever address it is."""
    settings = _settings(context_of(request))
    check_rate(request)
    if settings.terms_url is not None and not wanted.accepted_terms:
        raise ApiError("missing_required_parameter", "Accept the terms of service.",
                       param="accepted_terms")  # fmt: skip
    sign_ups.check_domain(wanted.email, settings.domains_refused)
    place = login_throttle.place_of(address_of(request))
    sign_ins: SignIns = request.app.state.sign_ins
    await sign_ins.run(place, partial(_begin, context_of(request), wanted, place))
    return MailSent()


def _begin(context: ApiContext, wanted: SignUp, place: str) -> None:
    """The same work for addresses that are known and those that are not."""
    settings, email = context.settings.sign_up, wanted.email.lower()
    now_s = int(time.time())
    with reading(context.engine) as db:
        sign_ups.check_rates(db, settings, place, email, now_s)
    stored = users_module.hash_password(wanted.password, context.settings.access)
    with context.engine.begin() as db:
        sign_ups.check_rates(db, settings, place, email, now_s)
        code = sign_ups.begin(
            db, context.suite, email=email, network=place, organization=wanted.organization,
            password_hash=stored, terms_url=settings.terms_url or "",
        )  # fmt: skip
        base = context.settings.console_base_url
        letter = _welcome(email, base) if code is None else _letter(email, base, code)
        mails.put(db, context.sealer, letter, sign_ups.LASTS_S)


def _letter(email: str, base: str, code: str) -> Letter:
    """No words in it are free: nobody writes strangers a letter of ours."""
    text = (
        f"{email} 正在注册 TokensChain。打开链接并输入注册时设置的密码即完成注册，"
        "链接 24 小时内有效。\n如未申请注册，忽略本邮件即可：没有密码，无人能用此邮箱完成注册。\n\n"
        f"{email} was given to sign up to TokensChain. Open the link and type the password that "
        "was chosen then; it works for 24 hours.\nIf it was not you, ignore this message: without "
        f"the password no account is made.\n\n{base}{PAGE}?code={code}\n"
    )
    return Letter(email, "TokensChain: 确认注册 / confirm your sign-up", text)


def _welcome(email: str, base: str) -> Letter:
    text = (
        f"{email} 已有 TokensChain 账号，请直接登录；忘记密码时请联系管理员。\n\n"
        f"{email} has an account with TokensChain already: sign in, or ask an administrator for a "
        f"new password.\n\n{base}/console/sign-in\n"
    )
    return Letter(email, "TokensChain: 账号已存在 / you have an account", text)


def _over() -> ApiError:
    return ApiError(
        "invalid_login", "The confirmation was used already, or is over: sign up again."
    )


@router.post("/look")
def look_at_sign_up(request: Request, wanted: SignUpCode) -> OpenSignUp:
    """See what a confirmation is for, by the code of its link."""
    context = context_of(request)
    _settings(context)
    check_rate(request)
    with reading(context.engine) as db:
        row = sign_ups.find(db, context.suite, wanted.code)
    if row is None:
        raise _over()
    return OpenSignUp(email=row["email"], organization=row["organization"])


@router.post("/confirm", status_code=201)
async def confirm_sign_up(request: Request, wanted: Confirmation) -> Confirmed:
    """Confirm an address: makes a tenant with its owner, a project and a key, and signs in."""
    context, address = context_of(request), address_of(request)
    _settings(context)
    check_rate(request)
    sign_ins: SignIns = request.app.state.sign_ins
    place = login_throttle.place_of(address)
    return await sign_ins.run(place, partial(_confirm, context, wanted, address, place))


def _confirm(context: ApiContext, wanted: Confirmation, address: str, place: str) -> Confirmed:
    now_s = int(time.time())
    with reading(context.engine) as db:
        row = sign_ups.find(db, context.suite, wanted.code)
    if row is None:
        raise _over()
    with context.engine.begin() as db:
        login_throttle.begin(db, row["id"], place, now_s)
    if not passwords.password_matches(row["password_hash"], wanted.password):
        with context.engine.begin() as db:
            login_throttle.fail(db, place, now_s)
        raise users_module.wrong()
    with context.engine.begin() as db:
        login_throttle.succeed(db, row["id"], place, row["id"])
        if not sign_ups.take(db, row):
            raise _over()
        return _make(db, context, row, address, now_s)


def _make(
    db: Connection, context: ApiContext, row: sign_ups.Row, address: str, now_s: int
) -> Confirmed:
    """A tenant and all that it begins with, in one transaction."""
    settings = context.settings.sign_up
    tenant = sign_ups.tenant_name(row["organization"])
    credit_pico = int(settings.credit * PICO_PER_UNIT)
    if credit_pico and not sign_ups.has_credit_due(db, context.suite, row["email"], now_s):
        credit_pico = 0
    unit = organization.create(
        db, kind="tenant", tenant=tenant, name=tenant, title=row["organization"], prepaid=True
    )
    user_id = users_module.create_user(
        db, tenant=tenant, email=row["email"], name=row["email"].partition("@")[0][:100],
        password_hash=row["password_hash"],
    )  # fmt: skip
    users_module.confirm_email(db, user_id)
    roles.bind(db, user_id, "owner", tenant=tenant)
    key_id, key = api_keys.create_key(
        db, context.suite, name="first", tenant=tenant, project=PROJECT, environment=ENVIRONMENT,
        created_by=user_id,
    )  # fmt: skip
    amounts: tuple[tuple[Measure, int], ...] = (
        ("requests", settings.requests_per_minute), ("tokens", settings.tokens_per_minute)
    )  # fmt: skip
    for measure, amount in amounts:
        name = limits.id_of(tenant, f"{_PLAN}-{measure}")
        limits.put(db, Rate(name, measure, amount, match=Selector(tenant=tenant)), tenant)
        ownership.note_limit(db, name, set_by_platform=True)
    if credit_pico:
        grants.give(db, tenant, credit_pico, now_s + settings.credit_days * 86_400)
    wallets.renew(db, tenant, context.ledger.usd_cny_micro)
    access = context.settings.access
    token = tokens.open_session(db, context.suite, user_id, "sign-up", access)
    detail = {
        "email": row["email"],
        "terms": row["terms_url"],
        "credit": str(settings.credit if credit_pico else 0),
    }
    by = Author(user_id, address)
    admin_log.note(db, by, "sign-up", tenant, unit["id"], detail)
    admin_log.note(db, by, "keys:create", tenant, key_id, {"name": "first"})
    return Confirmed(
        token=token,
        expires_at_s=now_s + access.session_max_s,
        tenant=tenant,
        project=PROJECT,
        key=key,
        credit_pico=credit_pico,
    )
