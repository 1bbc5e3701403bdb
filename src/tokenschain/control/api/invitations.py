"""Admin API: invitations, by which people choose a password of their own.

(No postponed annotations here: FastAPI reads them.)
"""

import re
import time
from functools import partial
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from tokenschain.control import mails
from tokenschain.control.api.bodies import AnswerBody, Deleted, Example, RequestBody
from tokenschain.control.api.context import (
    AdminRoute,
    ApiContext,
    Label,
    MaybeLabel,
    Permission,
    RequestContext,
    address_of,
    context_of,
)
from tokenschain.control.api.model_names import ModelNames
from tokenschain.control.api.open_doors import check_rate
from tokenschain.control.api.sessions import MailAddress, Password, Session, SignIns, session_end_s
from tokenschain.control.api.users import (
    Creating,
    Granting,
    Name,
    NewBinding,
    TenantOrPlatform,
    give_role,
    has_power,
    is_platforms_person,
    may_give_all_of,
    user_of,
)
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.identity import invitations, login_throttle, tokens
from tokenschain.control.identity import users as users_module
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.control.mails import Letter
from tokenschain.core.errors import ApiError
from tokenschain.infra.database.engine import reading

router = APIRouter(prefix="/api/v1/invitations", route_class=AdminRoute, tags=["users"])
Withdrawing = Annotated[
    RequestContext,
    Depends(Permission("users:write", Extent.TENANT, "users:read", step_up=StepUp.POWER)),
]
Code = Annotated[str, Field(min_length=20, max_length=100)]
PATH = "/console/invitation"
"""The page that a link leads to."""
_PLAIN_ADDRESS = re.compile(r"[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+){0,2}@[A-Za-z0-9.-]+")


class NewInvitation(RequestBody):
    """Whom to invite, and the role that they will have."""

    example: ClassVar[Example] = {
        "email": "li@example.com",
        "name": "Li",
        "tenant": "default",
        "role": "developer",
    }
    email: MailAddress
    name: Name
    role: Label
    tenant: TenantOrPlatform
    account: MaybeLabel = ""
    project: MaybeLabel = ""
    environment: MaybeLabel = ""
    models: Annotated[ModelNames, Field(min_length=1)] | None = None
    """As of a binding."""


class InvitationCode(RequestBody):
    """The code of an invitation's link."""

    example: ClassVar[Example] = {"code": "tci-Zm9yIHRoaXMgb25lIHRpbWUgYW5kIG5ldmVyIGFnYWlu"}
    code: Code


class Acceptance(RequestBody):
    """What an invited person chooses."""

    example: ClassVar[Example] = {
        "code": "tci-Zm9yIHRoaXMgb25lIHRpbWUgYW5kIG5ldmVyIGFnYWlu",
        "name": "Ann",
        "password": "correct horse battery",
    }
    code: Code
    name: Name
    password: Password


class Invitation(AnswerBody):
    """An invitation that is open."""

    user_id: str
    email: str
    expires_at_s: int
    mailed: bool
    """Whether a mail with the link is on its way: a mail server is set."""
    link: str | None
    """Where there is none, the link to hand over; it is in this answer and never again."""


class OpenInvitation(AnswerBody):
    """What an invited person sees of it."""

    tenant: str
    email: str
    name: str
    expires_at_s: int


@router.post("", status_code=201)
def invite(asked: Creating, wanted: NewInvitation) -> Invitation:
    """Invite a person by e-mail: makes a user with a role, who chooses a password by a link."""
    asked.need(wanted.tenant)
    user_id = users_module.create_user(
        asked.db, tenant=wanted.tenant, email=wanted.email, name=wanted.name
    )
    give_role(asked, user_id, NewBinding(**wanted.model_dump(exclude={"email", "name"})))
    return _send(asked, user_id)


@router.post("/{user_id}/resend", status_code=201)
def resend(asked: Granting, user_id: str) -> Invitation:
    """Invite a user who has no password yet, again or after all; an earlier link ends."""
    row = user_of(asked, user_id)
    may_give_all_of(asked, user_id)
    asked.need_step_up(for_first=is_platforms_person(row))
    return _send(asked, user_id)


def _send(asked: RequestContext, user_id: str) -> Invitation:
    context, row = asked.context, users_module.get(asked.db, user_id)
    assert row is not None
    invitations.check_rate(asked.db, row, time.time())
    mailed = context.settings.smtp.host is not None
    code = invitations.make(asked.db, context.suite, user_id, mailed=mailed)
    link = f"{context.settings.console_base_url}{PATH}?code={code}"
    if mailed:
        by = users_module.get(asked.db, asked.actor.id)
        letter = _letter(row, "" if by is None else by["email"], link)
        mails.put(asked.db, context.sealer, letter, invitations.LASTS_S, user_id)
    asked.note(row["tenant"], user_id, {"email": row["email"]}, action=invitations.ACTION)
    return Invitation(
        user_id=user_id,
        email=row["email"],
        expires_at_s=int(time.time()) + invitations.LASTS_S,
        mailed=mailed,
        link=None if mailed else link,
    )


def _letter(row: users_module.Row, by: str, link: str) -> Letter:
    """No words in it are free: nobody writes strangers a letter of ours, an address neither that
    reads like a link."""
    days = invitations.LASTS_S // 86_400
    tenant = "" if row["tenant"] == "*" else row["tenant"]
    zh_tenant, en_tenant = (f"（租户 {tenant}）", f" (tenant {tenant})") if tenant else ("", "")
    named = by if _PLAIN_ADDRESS.fullmatch(by) else ""
    zh_by, en_by = (named or "管理员"), (named or "An administrator")
    text = (
        f"{zh_by} 邀请 {row['email']} 使用 TokensChain{zh_tenant}。\n"
        f"打开链接并设置密码，链接 {days} 天内有效，只能使用一次。"
        "如不认识邀请人，忽略本邮件即可。\n\n"
        f"{en_by} invites {row['email']} to TokensChain{en_tenant}.\n"
        f"Open the link and choose a password; it works once, within {days} days. "
        "If you do not know who invites you, ignore this message.\n\n"
        f"{link}\n"
    )
    return Letter(row["email"], "TokensChain: 邀请 / invitation", text)


@router.delete("/{user_id}")
def withdraw(asked: Withdrawing, user_id: str) -> Deleted:
    """Withdraw an invitation: its link ends. The user stays, without a way in."""
    row = user_of(asked, user_id)
    may_give_all_of(asked, user_id)
    if has_power(asked, user_id):
        asked.need_step_up()
    if not invitations.withdraw(asked.db, user_id):
        raise ApiError("not_found", "There is no open invitation.", param="user_id")
    asked.note(row["tenant"], user_id, {"withdrawn": True})
    return Deleted(id=user_id)


# --- by who was invited -------------------------------------------------------------------------


def _over() -> ApiError:
    return ApiError(
        "invalid_login",
        "The invitation was used already, was withdrawn, or is over: ask for another.",
    )


@router.post("/look")
def look(request: Request, wanted: InvitationCode) -> OpenInvitation:
    """See what an invitation is for, by the code of its link."""
    check_rate(request)
    context = context_of(request)
    with reading(context.engine) as db:
        row = invitations.find(db, context.suite, wanted.code)
    if row is None:
        raise _over()
    return OpenInvitation(**{name: row[name] for name in OpenInvitation.model_fields})


@router.post("/accept", status_code=201)
async def accept(request: Request, wanted: Acceptance) -> Session:
    """Accept an invitation: choose a name and a password, and be signed in."""
    check_rate(request)
    sign_ins: SignIns = request.app.state.sign_ins
    address = address_of(request)
    token = await sign_ins.run(
        login_throttle.place_of(address), partial(_accept, context_of(request), wanted, address)
    )
    return Session(token=token, expires_at_s=session_end_s(context_of(request)))


def _accept(context: ApiContext, wanted: Acceptance, address: str) -> str:
    """A session's token.

    Raises:
        ApiError: `invalid_login` where there is no such invitation; `invalid_value` for a weak
            password, and the link can be used again.
    """
    with reading(context.engine) as db:  # nobody else makes us hash, which takes long
        if invitations.find(db, context.suite, wanted.code) is None:
            raise _over()
    rules = context.settings.access
    stored = users_module.hash_password(wanted.password, rules)
    with context.engine.begin() as db:
        row = invitations.use(db, context.suite, wanted.code)
        if row is None:
            raise _over()
        users_module.set_password(db, row["id"], stored, rules, by_holder=True)
        if row["mailed"]:
            users_module.confirm_email(db, row["id"])
        users_module.rename(db, row["id"], wanted.name)
        token = tokens.open_session(db, context.suite, row["id"], "invitation", rules)
        by = Author(row["id"], address)
        admin_log.note(db, by, "login", row["tenant"], row["id"], {"through": "invitation"})
    return token
