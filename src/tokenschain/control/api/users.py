"""The admin API: signing in, users, service accounts, roles.

(No postponed annotations here: FastAPI reads them.)
"""

import json
import time
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Cookie, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from pydantic import Field
from sqlalchemy import delete, func, or_, select, update
from starlette.concurrency import run_in_threadpool

from tokenschain.control.api.context import (
    Asked,
    Body,
    IfMatch,
    Label,
    MaybeLabel,
    NameQuery,
    Paged,
    RequestContext,
    TransactionRoute,
    address_of,
    check_version,
    desk_of,
    listed,
    read_page,
    tag,
)
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.identity import oidc
from tokenschain.control.identity import users as users_module
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import ACTIONS, PLATFORM, ROLES, Resource, may
from tokenschain.infra.database.tables import (
    bindings,
    roles,
    tokens,
    users,
)
from tokenschain.infra.security import passwords

router = APIRouter(prefix="/api/v1", route_class=TransactionRoute)
TenantOrPlatform = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^(\*|[\w.@-]+)$")]
Email = Annotated[str, Field(max_length=200, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$")]
Password = Annotated[str, Field(min_length=1, max_length=users_module.PASSWORD_CHARACTERS_MAX)]
Code = Annotated[str | None, Field(pattern=r"^\d{6}$")]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]+$")]
OIDC_COOKIE = "tc_oidc"


class Login(Body):
    """A password, and the code of the second factor where there is one."""

    email: Email
    password: Password
    code: Code = None


class NewUser(Body):
    """A user or service account to make."""

    tenant: TenantOrPlatform
    email: Email
    name: Name
    kind: Annotated[str, Field(pattern="^(user|service)$")] = "user"
    password: Password | None = None


class UserChange(Body):
    """What may change of a user."""

    name: Name | None = None
    disabled: bool | None = None
    password: Password | None = None


class OwnPassword(Body):
    """The old password and the new."""

    old: Password
    new: Password


class TotpConfirmation(Body):
    """The secret that was shown, and a code of it."""

    secret: Annotated[str, Field(pattern=r"^[A-Z2-7]{32}$")]
    code: Annotated[str, Field(pattern=r"^\d{6}$")]


class NewBinding(Body):
    """A role over a part of the tree."""

    role: Label
    tenant: TenantOrPlatform
    account: MaybeLabel = ""
    project: MaybeLabel = ""
    environment: MaybeLabel = ""
    models: Annotated[list[str] | None, Field(max_length=1_000)] = None


class NewRole(Body):
    """What a role permits."""

    permissions: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=100)]


class NewToken(Body):
    """A program's token."""

    name: Name = "token"
    lasts_s: Annotated[int, Field(ge=60, le=users_module.API_TOKEN_MAX_S)] = 90 * 86_400


# --- sessions ------------------------------------------------------------------------------


@router.post("/sessions", status_code=201)
def log_in(request: Request, wanted: Login) -> dict[str, Any]:
    """Sign in; `token` is sent as `Authorization: Bearer` from then on."""
    context = desk_of(request)
    author = Author(wanted.email.lower()[:64], address_of(request))
    # What was counted of a wrong guess must stay, so the refusal comes after the transaction.
    with context.engine.begin() as db:
        user_id = users_module.log_in(
            db, context.sealer, wanted.email, wanted.password, wanted.code
        )
        if user_id is None:
            admin_log.note(db, author, "login:failed", "", wanted.email.lower()[:300])
        else:
            _, token = users_module.issue_token(
                db, context.suite, user_id, "session", "login", users_module.SESSION_S
            )
            admin_log.note(db, Author(user_id, author.address), "login", "", user_id)
    if user_id is None:
        raise users_module.wrong()
    return {"token": token, "expires_at_s": int(time.time()) + users_module.SESSION_S}


@router.delete("/sessions")
def log_out(asked: Asked, request: Request) -> dict[str, Any]:
    """Sign out."""
    token = request.headers.get("authorization", "").partition(" ")[2]
    users_module.end_token(asked.db, asked.context.suite, token)
    asked.note("logout", "", asked.actor.id)
    return {"ended": True}


@router.get("/me")
def me(asked: Asked) -> dict[str, Any]:
    """Who I am, and what I may do where."""
    return {
        "id": asked.actor.id,
        "tenant": asked.actor.tenant,
        "bindings": [
            {
                "permissions": sorted(binding.permissions),
                "tenant": binding.tenant,
                "account": binding.account,
                "project": binding.project,
                "environment": binding.environment,
            }
            for binding in asked.actor.bindings
        ],
    }


def _own(asked: RequestContext) -> Any:
    row = asked.db.execute(select(users).where(users.c.id == asked.actor.id)).mappings().first()
    if row is None:
        raise ApiError("not_found", "The platform's owner is no user; make one: POST /users.")
    return row


@router.post("/me/password")
def change_own_password(asked: Asked, wanted: OwnPassword) -> dict[str, Any]:
    """Change the own password; all sessions end."""
    row = _own(asked)
    if not passwords.password_matches(row["password_hash"] or "", wanted.old):
        raise users_module.wrong()
    users_module.set_password(asked.db, row["id"], wanted.new)
    asked.note("password", row["tenant"], row["id"])
    return {"changed": True}


@router.post("/me/totp", status_code=201)
def offer_totp(asked: Asked) -> dict[str, Any]:
    """A secret for an authenticator app; in force once `/me/totp/confirm` had a code of it."""
    row = _own(asked)
    secret = passwords.new_totp_secret()
    label = quote(f"TokensChain:{row['email']}")
    return {
        "secret": secret,
        "uri": f"otpauth://totp/{label}?{urlencode({'secret': secret, 'issuer': 'TokensChain'})}",
    }


@router.post("/me/totp/confirm")
def confirm_totp(asked: Asked, wanted: TotpConfirmation) -> dict[str, Any]:
    """Put the second factor in force."""
    row = _own(asked)
    if passwords.totp_step(wanted.secret, wanted.code, time.time()) is None:
        raise users_module.wrong()
    users_module.set_totp(asked.db, asked.context.sealer, row["id"], wanted.secret)
    asked.note("totp", row["tenant"], row["id"])
    return {"has_totp": True}


# --- users ----------------------------------------------------------------------------------


@router.post("/users", status_code=201)
def create_user(asked: Asked, wanted: NewUser) -> dict[str, Any]:
    """Make a user or a service account; roles are given with bindings."""
    asked.need("users:write", wanted.tenant)
    user_id = users_module.create_user(asked.db, **wanted.model_dump())
    asked.note("users:write", wanted.tenant, user_id, {"email": wanted.email, "kind": wanted.kind})
    return _seen(asked, user_id)


def _seen(asked: RequestContext, user_id: str) -> dict[str, Any]:
    row = asked.db.execute(select(users).where(users.c.id == user_id)).mappings().one()
    return users_module.shown(row)


def _user(asked: RequestContext, user_id: str, action: str) -> dict[str, Any]:
    row = asked.db.execute(select(users).where(users.c.id == user_id)).mappings().first()
    if row is None or not asked.may("users:read", row["tenant"]):
        raise ApiError("not_found", "There is no such user.", param="user_id")
    asked.need(action, row["tenant"])
    return dict(row)


@router.get("/users")
def list_users(asked: Asked, page: Paged, tenant: NameQuery = None) -> dict[str, Any]:
    """Users and service accounts, by id."""
    whose = asked.tenant(tenant, "users:read")
    order = (users.c.id,)
    rows = read_page(asked.db, select(users), page, order, tenant=whose)
    seen = [users_module.shown(row) for row in rows if asked.may("users:read", row["tenant"])]
    return listed(rows, page, order, seen)


@router.get("/users/{user_id}")
def read_user(asked: Asked, response: Response, user_id: str) -> dict[str, Any]:
    """One user, with its bindings."""
    row = _user(asked, user_id, "users:read")
    tag(response, row["version"])
    held = asked.db.execute(select(bindings).where(bindings.c.user_id == user_id)).mappings()
    return users_module.shown(row) | {"bindings": [_binding(binding) for binding in held]}


def _binding(row: Any) -> dict[str, Any]:
    found = dict(row)
    found["models"] = None if found["models"] is None else json.loads(found["models"])
    return found


@router.patch("/users/{user_id}")
def change_user(
    asked: Asked, response: Response, user_id: str, wanted: UserChange, if_match: IfMatch = ""
) -> dict[str, Any]:
    """Rename a user, shut it out or let it in, give it another password."""
    row = _user(asked, user_id, "users:write")
    _may_give_all_of(asked, user_id)
    check_version(if_match, row["version"])
    if wanted.name is not None:
        asked.db.execute(
            update(users)
            .where(users.c.id == user_id)
            .values(name=wanted.name, version=users.c.version + 1)
        )
    if wanted.password is not None:
        users_module.set_password(asked.db, user_id, wanted.password)
    if wanted.disabled is True:
        users_module.disable(asked.db, user_id)
    elif wanted.disabled is False:
        asked.db.execute(
            update(users)
            .where(users.c.id == user_id)
            .values(disabled_at_s=None, version=users.c.version + 1)
        )
    changes = wanted.model_dump(exclude_none=True, exclude={"password"})
    asked.note("users:write", row["tenant"], user_id, changes)
    found = _seen(asked, user_id)
    tag(response, found["version"])
    return found


# --- bindings and roles ---------------------------------------------------------------------


def _may_give(asked: RequestContext, permissions: frozenset[str], where: Resource) -> None:
    """Nobody gives what they do not have.

    Raises:
        ApiError: `permission_denied`.
    """
    everything = "*" in permissions
    given = (
        ACTIONS
        if everything
        else [action for action in ACTIONS if may((_As(permissions),), action, where)]
    )
    for action in given:
        if not may(asked.actor.bindings, action, where):
            raise ApiError("permission_denied", f"You cannot give what you lack: `{action}`.")


class _As:
    """Permissions over everything, to look patterns up in."""

    tenant = PLATFORM
    account = project = environment = ""
    models = apis = None

    def __init__(self, permissions: frozenset[str]) -> None:
        self.permissions = permissions


def _may_give_all_of(asked: RequestContext, user_id: str) -> None:
    """Who changes a user could act as it, so must have what the user has."""
    for binding in users_module.bindings_of(asked.db, user_id):
        where = Resource(binding.tenant, binding.account, binding.project, binding.environment)
        _may_give(asked, binding.permissions, where)


@router.post("/users/{user_id}/bindings", status_code=201)
def create_binding(asked: Asked, user_id: str, wanted: NewBinding) -> dict[str, Any]:
    """Give a user a role over a part of the tree."""
    row = _user(asked, user_id, "users:write")
    if row["tenant"] not in (PLATFORM, wanted.tenant):
        raise ApiError("invalid_value", "The user is of another tenant.", param="tenant")
    where = Resource(wanted.tenant, wanted.account, wanted.project, wanted.environment)
    asked.need("users:write", wanted.tenant, account=wanted.account, project=wanted.project,
               environment=wanted.environment)  # fmt: skip
    _may_give(asked, users_module.role_of(asked.db, wanted.tenant, wanted.role), where)
    fields = wanted.model_dump()
    binding_id = users_module.bind(asked.db, user_id, fields.pop("role"), **fields)
    asked.note("users:write", wanted.tenant, binding_id, wanted.model_dump() | {"user": user_id})
    return {"id": binding_id, "user_id": user_id, **wanted.model_dump()}


@router.delete("/bindings/{binding_id}")
def delete_binding(asked: Asked, binding_id: str) -> dict[str, Any]:
    """Take a role away."""
    row = asked.db.execute(select(bindings).where(bindings.c.id == binding_id)).mappings().first()
    if row is None or not asked.may("users:read", row["tenant"]):
        raise ApiError("not_found", "There is no such binding.", param="binding_id")
    asked.need("users:write", row["tenant"])
    asked.db.execute(delete(bindings).where(bindings.c.id == binding_id))
    asked.note("users:write", row["tenant"], binding_id, {"deleted": True})
    return {"id": binding_id, "deleted": True}


@router.put("/roles/{tenant}/{name}")
def put_role(asked: Asked, tenant: str, name: str, wanted: NewRole) -> dict[str, Any]:
    """Define a role of a tenant, anew or changed."""
    asked.need("users:write", tenant)
    if not name or len(name) > 64 or not name.replace("-", "").isalnum() or not name.isascii():
        raise ApiError("invalid_value", "A role's name has letters, digits and dashes.",
                       param="name")  # fmt: skip
    users_module.put_role(asked.db, tenant, name, wanted.permissions)
    _may_give(asked, frozenset(wanted.permissions), Resource(tenant))
    asked.note("users:write", tenant, f"role {name}", wanted.model_dump())
    return {"tenant": tenant, "name": name, "permissions": sorted(wanted.permissions)}


@router.get("/roles")
def list_roles(asked: Asked, tenant: NameQuery = None) -> dict[str, Any]:
    """Roles that are always there, and a tenant's own."""
    whose = asked.tenant(tenant, "users:read")
    query = select(roles).order_by(roles.c.tenant, roles.c.name)
    if whose is not None:
        query = query.where(or_(roles.c.tenant == whose, roles.c.tenant == PLATFORM))
    own = [
        {"tenant": row.tenant, "name": row.name, "permissions": json.loads(row.permissions)}
        for row in asked.db.execute(query)
    ]
    there = [
        {"tenant": PLATFORM, "name": name, "permissions": sorted(permissions)}
        for name, permissions in ROLES.items()
    ]
    return {"data": there + own, "actions": ACTIONS}


# --- programs' tokens -------------------------------------------------------------------------


@router.post("/users/{user_id}/tokens", status_code=201)
def create_token(asked: Asked, user_id: str, wanted: NewToken) -> dict[str, Any]:
    """A program's token; `token` is in this answer and never again."""
    if user_id != asked.actor.id:
        row = _user(asked, user_id, "users:write")
        if row["kind"] != "service":
            raise ApiError("permission_denied", "People make their own tokens.")
        _may_give_all_of(asked, user_id)
    else:
        row = _own(asked)
    count = asked.db.execute(
        select(func.count()).select_from(tokens).where(tokens.c.user_id == user_id)
    ).scalar_one()
    if count >= 100:
        raise ApiError("conflict", "There are 100 tokens already; end some first.")
    token_id, token = users_module.issue_token(
        asked.db, asked.context.suite, user_id, "api", wanted.name, wanted.lasts_s
    )
    asked.note("users:write", row["tenant"], token_id, {"name": wanted.name})
    return {"id": token_id, "token": token, "expires_at_s": int(time.time()) + wanted.lasts_s}


@router.get("/users/{user_id}/tokens")
def list_tokens(asked: Asked, user_id: str) -> dict[str, Any]:
    """A user's tokens and sessions; never the tokens themselves."""
    if user_id != asked.actor.id:
        _user(asked, user_id, "users:read")
    table = tokens.c
    query = select(table.id, table.kind, table.name, table.created_at_s, table.expires_at_s)
    query = query.where(table.user_id == user_id).order_by(table.created_at_s).limit(200)
    return {"data": [dict(row) for row in asked.db.execute(query).mappings()]}


@router.delete("/tokens/{token_id}")
def delete_token(asked: Asked, token_id: str) -> dict[str, Any]:
    """End a token."""
    row = asked.db.execute(select(tokens).where(tokens.c.id == token_id)).mappings().first()
    if row is None:
        raise ApiError("not_found", "There is no such token.", param="token_id")
    if row["user_id"] != asked.actor.id:
        _user(asked, row["user_id"], "users:write")
    asked.db.execute(delete(tokens).where(tokens.c.id == token_id))
    asked.note("users:write", asked.actor.tenant, token_id, {"deleted": True})
    return {"id": token_id, "deleted": True}


# --- single sign-on ---------------------------------------------------------------------------


@router.get("/oidc/start")
async def start_oidc(request: Request) -> Response:
    """Go to the OpenID provider, to sign in there."""
    context = desk_of(request)
    client: oidc.Oidc = request.app.state.oidc
    url, kept = await client.begin()
    answer = RedirectResponse(url, 302)
    answer.set_cookie(
        OIDC_COOKIE, kept, max_age=oidc.SIGN_IN_MAX_S, httponly=True, samesite="lax",
        path="/api/v1/oidc", secure=(context.settings.control.public_url or "").startswith("https"),
    )  # fmt: skip
    return answer


@router.get("/oidc/callback")
async def finish_oidc(
    request: Request,
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str, Query(max_length=4_000)] = "",
    kept: Annotated[str, Cookie(alias=OIDC_COOKIE, max_length=4_000)] = "",
) -> Response:
    """Back from the OpenID provider: who came is signed in, with the roles of its groups."""
    context = desk_of(request)
    client: oidc.Oidc = request.app.state.oidc
    person = await client.finish(state, code, kept)

    def enter() -> str:
        with context.engine.begin() as db:
            user_id = oidc.enter(db, person, context.settings.oidc.roles)
            _, token = users_module.issue_token(
                db, context.suite, user_id, "session", "oidc", users_module.SESSION_S
            )
            admin_log.note(db, Author(user_id, address_of(request)), "login", "", user_id,
                       {"through": "oidc"})  # fmt: skip
            return token

    token = await run_in_threadpool(enter)
    answer = JSONResponse(
        {"token": token, "expires_at_s": int(time.time()) + users_module.SESSION_S},
        headers={"cache-control": "no-store"},
    )
    answer.delete_cookie(OIDC_COOKIE, path="/api/v1/oidc")
    return answer
