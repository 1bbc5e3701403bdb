"""Admin API: users, service accounts, roles, bindings and programs' tokens.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from collections.abc import Sequence
from typing import Annotated, ClassVar

from fastapi import APIRouter, Depends, Response
from pydantic import Field
from sqlalchemy import Connection

from tokenschain.control import mails
from tokenschain.control.api.approvals import need_second_person
from tokenschain.control.api.bodies import (
    AnswerBody,
    Deleted,
    Example,
    Items,
    ListAnswer,
    RequestBody,
    listed,
)
from tokenschain.control.api.context import (
    VISIBLE_LINE,
    AdminRoute,
    IfMatch,
    Label,
    MaybeLabel,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
    check_version,
    tag,
)
from tokenschain.control.api.model_names import ModelNames
from tokenschain.control.api.sessions import (
    Code,
    Email,
    Password,
    RecoveryCode,
    SecondFactor,
    own_account,
    sign_in_again,
)
from tokenschain.control.identity import ownership, roles, separation, tokens
from tokenschain.control.identity import users as users_module
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.control.observability import alerts
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import (
    ACTIONS,
    PLATFORM,
    ROLES,
    Resource,
    RoleBinding,
    is_power_over_accounts,
    may,
)
from tokenschain.infra.database.engine import reading

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["users"])
Listing = Annotated[RequestContext, Depends(Permission("users:read", Extent.ROWS))]
Reading = Annotated[RequestContext, Depends(Permission("users:read", Extent.TENANT))]
_OWN_TOKENS = Permission("users:read", Extent.TENANT, or_own=True)
ReadingTokens = Annotated[RequestContext, Depends(_OWN_TOKENS)]
Creating = Annotated[
    RequestContext, Depends(Permission("users:write", Extent.TENANT, step_up=StepUp.ALWAYS))
]
Granting = Annotated[
    RequestContext,
    Depends(Permission("users:write", Extent.TENANT, "users:read", step_up=StepUp.ALWAYS)),
]
Changing = Annotated[
    RequestContext,
    Depends(Permission("users:write", Extent.TENANT, "users:read", step_up=StepUp.POWER)),
]
Resetting = Annotated[
    RequestContext,
    Depends(Permission("factors:reset", Extent.TENANT, "users:read", step_up=StepUp.REQUEST)),
]
_ISSUING, _ENDING = (
    Permission("users:write", Extent.TENANT, "users:read", or_own=True, step_up=step_up)
    for step_up in (StepUp.ALWAYS, StepUp.POWER)
)
IssuingTokens = Annotated[RequestContext, Depends(_ISSUING)]
EndingTokens = Annotated[RequestContext, Depends(_ENDING)]
RESET_AFTER_S = 86_400
"""How long who takes a second factor away must have had the right to, and an own second factor:
whoever got hold of somebody's account makes others by it, and they are seen meanwhile."""
TenantOrPlatform = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^(\*|[\w.@-]+)$")]
Permissions = Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=100)]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=VISIBLE_LINE)]


class NewUser(RequestBody):
    """A user or service account to make."""

    example: ClassVar[Example] = {
        "tenant": "default",
        "email": "ann@example.com",
        "name": "Ann",
        "password": "correct horse battery",
    }
    tenant: TenantOrPlatform
    email: Email
    name: Name
    kind: Annotated[str, Field(pattern="^(user|service)$")] = "user"
    password: Password | None = None


class UserChange(RequestBody):
    """What may change of a user."""

    example: ClassVar[Example] = {"name": "Ann B.", "disabled": False}
    name: Name | None = None
    email: Email | None = None
    """Changed by the platform alone."""
    disabled: bool | None = None
    password: Password | None = None


class TotpReset(RequestBody):
    """The asker's own password, and a code of their second factor where they have one."""

    example: ClassVar[Example] = {"password": "correct horse battery", "code": "287082"}
    password: Password | None = None
    """Not needed with the admin token."""
    code: Code | None = None
    recovery_code: RecoveryCode | None = None


class NewBinding(RequestBody):
    """A role over a part of the organization."""

    example: ClassVar[Example] = {"role": "developer", "tenant": "default", "project": "search"}
    role: Label
    tenant: TenantOrPlatform
    account: MaybeLabel = ""
    project: MaybeLabel = ""
    environment: MaybeLabel = ""
    models: Annotated[ModelNames, Field(min_length=1)] | None = None
    """Null: all. Else the role permits what is about these alone, as their keys, limits and usage,
    and nothing that is wider."""


class NewRole(RequestBody):
    """What a role permits."""

    example: ClassVar[Example] = {"permissions": ["keys:read", "usage:read"]}
    permissions: Permissions


class NewToken(RequestBody):
    """A program's token: of what its user may, it may what is named here."""

    example: ClassVar[Example] = {
        "name": "ci",
        "lasts_s": 7_776_000,
        "permissions": ["keys:read", "usage:read"],
    }
    name: Name = "token"
    lasts_s: Annotated[int, Field(ge=60, le=tokens.API_TOKEN_MAX_S)] = 90 * 86_400
    permissions: Permissions = Field(default_factory=list)
    """As of a role; or `*`: all that the user may. Without any, the token can only read `/me`."""


class User(AnswerBody):
    """A user or service account."""

    id: str
    tenant: str
    kind: str
    email: str
    name: str
    has_password: bool
    has_totp: bool
    has_oidc: bool
    """Known by the provider's name for the person, and without a password here."""
    disabled_at_s: int | None
    disabled_by_platform: bool
    """Only the platform lets it in again."""
    created_at_s: int
    invited_until_s: int | None
    """When the link ends that was sent for choosing a password; null without one."""
    invitation_mail: mails.State | None
    """The mail with that link waits for the mail server, is tried again, or was given up after
    some tries; null where it was taken, or where there is none."""
    email_confirmed_at_s: int | None
    """When whoever reads the address chose how to come in: by a link that was sent there, or at
    the provider of single sign-on. Null: not yet, or not since an administrator gave the account
    another password or address."""
    version: int


class CreatedBinding(AnswerBody):
    """A role that a user has over a part of the organization."""

    id: str
    user_id: str
    role: str
    tenant: str
    account: str
    project: str
    environment: str
    models: list[str] | None


class Binding(CreatedBinding):
    """The same, and where it is from."""

    source: str
    """`admin`, or `oidc`: from the groups of single sign-on."""
    created_at_s: int | None
    """Null: before that was noted."""


class UserWithBindings(User):
    """A user and what it may do where."""

    bindings: list[Binding]


class Role(AnswerBody):
    """A role and what it permits."""

    tenant: str
    name: str
    permissions: list[str]


class Roles(AnswerBody):
    """Roles, and everything that may be permitted."""

    data: list[Role]
    actions: dict[str, str]


class IssuedToken(AnswerBody):
    """A program's token, which is in this answer and never again."""

    id: str
    token: str
    expires_at_s: int
    permissions: list[str]


class Token(AnswerBody):
    """A token or session; never the token itself."""

    id: str
    kind: str
    name: str
    created_at_s: int
    expires_at_s: int
    permissions: list[str]
    """What it may do at most, of what its user may; `*`: all."""


# --- users ----------------------------------------------------------------------------------


@router.post("/users", status_code=201)
def create_user(asked: Creating, wanted: NewUser) -> User:
    """Make a user or a service account; roles are given with bindings."""
    asked.need(wanted.tenant)
    # Whoever is made outlasts the session.
    asked.need_step_up(for_first=(wanted.tenant, wanted.kind) == (PLATFORM, "user"))
    fields = wanted.model_dump(exclude={"password"})
    if wanted.password is not None:
        fields["password_hash"] = users_module.hash_password(
            wanted.password, asked.context.settings.access
        )
    user_id = users_module.create_user(asked.db, **fields)
    asked.note(wanted.tenant, user_id, {"email": wanted.email, "kind": wanted.kind})
    return _seen(asked, user_id)


def _seen(asked: RequestContext, user_id: str) -> User:
    row = users_module.read(asked.db, user_id)
    assert row is not None
    return User(**row)


def user_of(asked: RequestContext, user_id: str, db: Connection | None = None) -> users_module.Row:
    """A user that the actor may see and, as the route declares, do something about.

    Raises:
        ApiError: `not_found` or `permission_denied`.
    """
    row = users_module.get(db or asked.db, user_id)
    if row is None or not asked.may("users:read", row["tenant"]):
        raise ApiError("not_found", "There is no such user.", param="user_id")
    asked.need(row["tenant"])
    return row


@router.get("/users")
def list_users(asked: Listing, page: Paged, tenant: NameQuery = None) -> ListAnswer[User]:
    """List users and service accounts, by id."""
    found = users_module.page(asked.db, page, asked.tenant(tenant))
    seen = [row for row in found.rows if asked.may("users:read", row["tenant"])]
    return listed(ListAnswer[User], found, seen)


@router.get("/users/{user_id}")
def read_user(asked: Reading, response: Response, user_id: str) -> UserWithBindings:
    """Read one user, with its bindings."""
    user_of(asked, user_id)
    row = users_module.read(asked.db, user_id)
    assert row is not None
    tag(response, row["version"])
    held = [Binding(**binding) for binding in roles.bindings_shown(asked.db, user_id)]
    return UserWithBindings(**row, bindings=held)


@router.patch("/users/{user_id}")
def change_user(
    asked: Changing, response: Response, user_id: str, wanted: UserChange, if_match: IfMatch = ""
) -> User:
    """Rename a user, shut it out or let it in, give it another address or password."""
    stored, rules = None, asked.context.settings.access
    if wanted.password is not None:
        if user_id == asked.actor.id:
            raise ApiError("permission_denied", "Your own password: POST /me/password.",
                           param="password")  # fmt: skip
        with reading(asked.context.engine) as db:
            user_of(asked, user_id, db)  # nobody else makes us hash, which takes long
        stored = users_module.hash_password(wanted.password, rules)
        users_module.refuse_former(asked.context.engine, user_id, wanted.password, rules)
    row = user_of(asked, user_id)
    may_give_all_of(asked, user_id)
    enters = wanted.password is not None or wanted.email is not None or wanted.disabled is False
    if enters or (wanted.disabled is True and has_power(asked, user_id)):
        asked.need_step_up()
    check_version(if_match, row["version"])
    if wanted.name is not None:
        users_module.rename(asked.db, user_id, wanted.name)
    ownership.check_fields(asked, "PATCH /users/{user_id}", "", wanted.model_fields_set)
    if wanted.email is not None:
        users_module.set_email(asked.db, user_id, wanted.email)
    if stored is not None:
        users_module.set_password(asked.db, user_id, stored, rules, by_holder=False)
    if wanted.disabled is not None and row["disabled_by_platform"]:
        ownership.check_fields(asked, "PATCH /users/{user_id}", ownership.DISABLED, ["disabled"])
    if wanted.disabled is True:
        for tenant in roles.owned_by(asked.db, user_id):
            _keep_an_owner(asked, tenant, but_user=user_id)
        users_module.disable(asked.db, user_id, by_platform=asked.may("users:write", PLATFORM))
    elif wanted.disabled is False:
        users_module.enable(asked.db, user_id)
    changes = wanted.model_dump(exclude_none=True, exclude={"password"})
    asked.note(row["tenant"], user_id, changes)
    found = _seen(asked, user_id)
    tag(response, found.version)
    return found


@router.post("/users/{user_id}/totp/reset")
def reset_totp(asked: Resetting, user_id: str, wanted: TotpReset) -> User:
    """Take away a second factor that its user lost, and end the user's sessions.

    The asker shows the own password and second factor again, and has had both the right and the
    factor for a day. The user, the tenant's and the platform's alert targets are told.
    """
    with reading(asked.context.engine) as db:
        user_of(asked, user_id, db)
    if user_id == asked.actor.id:
        raise ApiError("permission_denied", "Your own: use a recovery code, or ask another owner.",
                       param="user_id")  # fmt: skip
    if asked.actor.id == users_module.PLATFORM_OWNER.id:
        asked.need_step_up()  # the admin token has shown it
    else:
        sign_in_again(asked, wanted.password, SecondFactor(wanted.code, wanted.recovery_code))
    row = user_of(asked, user_id)
    _insist_long_trusted(asked, row["tenant"])
    may_give_all_of(asked, user_id)
    if row["totp_sealed"] is None:
        raise ApiError("conflict", "This user has no second factor.", param="user_id")
    users_module.remove_totp(asked.db, user_id)
    asked.note(row["tenant"], user_id, {"totp": "reset"})
    alerts.second_factor_reset(
        asked.db, row["tenant"], {"user": user_id, "email": row["email"], "by": asked.actor.id},
        time.time(),
    )  # fmt: skip
    return _seen(asked, user_id)


def _insist_long_trusted(asked: RequestContext, tenant: str) -> None:
    """Who takes a second factor away is nobody who was made for it a moment ago.

    Raises:
        ApiError: `permission_denied`.
    """
    if asked.actor.id == users_module.PLATFORM_OWNER.id:
        return
    since_s = time.time() - RESET_AFTER_S
    row = own_account(asked.db, asked)
    if row["totp_sealed"] is None:
        raise ApiError("permission_denied", "You have no second factor yourself: set one up.")
    held = roles.bindings_of(asked.db, asked.actor.id, since_s=since_s)
    if (row["totp_since_s"] or 0) > since_s or not may(held, "factors:reset", Resource(tenant)):
        raise ApiError(
            "permission_denied",
            "Your right to do this, or your own second factor, is not a day old yet: ask "
            "somebody who has had both for longer.",
        )


# --- bindings and roles ---------------------------------------------------------------------


def _may_give(
    asked: RequestContext,
    permissions: frozenset[str],
    where: Resource,
    models: Sequence[str] | None = None,
) -> None:
    """A permission can only be granted, changed or taken away by one who holds it.

    Args:
        models: that it is for; None: for all.

    Raises:
        ApiError: `permission_denied`.
    """
    over_all = (RoleBinding(permissions, PLATFORM),)
    place = {
        "account": where.account,
        "project": where.project,
        "environment": where.environment,
    }
    for action in ACTIONS:
        given = "*" in permissions or may(over_all, action, where)
        if given and not asked.may_for(action, models, where.tenant, **place):
            raise ApiError("permission_denied", f"You cannot give what you lack: `{action}`.")


def _may_give_binding(asked: RequestContext, binding: RoleBinding) -> None:
    if _may_authorize(asked, binding.tenant, binding.permissions):
        return
    where = Resource(binding.tenant, binding.account, binding.project, binding.environment)
    _may_give(asked, binding.permissions, where, binding.models)


def _may_authorize(asked: RequestContext, tenant: str, permissions: frozenset[str]) -> bool:
    """Whether somebody gives the roles of administrators while powers are kept apart: whoever
    authorizes people then has not what the others may."""
    return (
        tenant == PLATFORM
        and separation.is_administrators(permissions)
        and asked.may("users:write", PLATFORM)
        and separation.is_on(asked.db)
    )


def may_give_all_of(asked: RequestContext, user_id: str) -> None:
    """Who changes a user could act as it, so must have what the user has."""
    for binding in roles.bindings_of(asked.db, user_id):
        _may_give_binding(asked, binding)


def is_platforms_person(row: users_module.Row) -> bool:
    """Whether a user is a person of the platform."""
    return (row["tenant"], row["kind"]) == (PLATFORM, "user")


def has_power(asked: RequestContext, user_id: str) -> bool:
    """Whether a user has power over accounts, of whatever tenant."""
    held = roles.bindings_of(asked.db, user_id)
    return any(is_power_over_accounts(binding.permissions) for binding in held)


def _keep_an_owner(asked: RequestContext, tenant: str, **but: str) -> None:
    """The last owner is only taken away from above: a tenant's by the platform, the platform's by
    who holds the admin token.

    Args:
        but: see `roles.has_owner`.

    Raises:
        ApiError: `conflict`.
    """
    if tenant == PLATFORM:
        from_above = asked.actor.id == users_module.PLATFORM_OWNER.id
    else:
        from_above = asked.may("users:write", PLATFORM)
    if not from_above and not roles.has_owner(asked.db, tenant, **but):
        raise ApiError("conflict", "This is the last owner: make somebody else an owner first.")


@router.post("/users/{user_id}/bindings", status_code=201)
def create_binding(asked: Granting, user_id: str, wanted: NewBinding) -> CreatedBinding:
    """Give a user a role over a part of the organization."""
    row = user_of(asked, user_id)
    if row["tenant"] not in (PLATFORM, wanted.tenant):
        raise ApiError("invalid_value", "The user is of another tenant.", param="tenant")
    return give_role(asked, user_id, wanted)


def give_role(asked: RequestContext, user_id: str, wanted: NewBinding) -> CreatedBinding:
    """Bind a user by one who may, and has all that the role permits.

    Raises:
        ApiError: see `_may_give`, `RequestContext.need` and `roles.bind`.
    """
    if wanted.tenant == PLATFORM and (wanted.account or wanted.project or wanted.environment):
        raise ApiError("invalid_value", "The platform has no such parts: name their tenant.",
                       param="tenant")  # fmt: skip
    where = Resource(wanted.tenant, wanted.account, wanted.project, wanted.environment)
    asked.need(wanted.tenant, account=wanted.account, project=wanted.project,
               environment=wanted.environment)  # fmt: skip
    permissions = roles.role_of(asked.db, wanted.tenant, wanted.role)
    if not _may_authorize(asked, wanted.tenant, permissions):
        _may_give(asked, permissions, where, wanted.models)
    row = users_module.get(asked.db, user_id)
    owns = (wanted.tenant, wanted.role, wanted.models) == (PLATFORM, "owner", None)
    asked.need_step_up(for_first=owns and row is not None and is_platforms_person(row))
    fields = wanted.model_dump()
    if wanted.tenant == PLATFORM:
        need_second_person(asked, "roles", PLATFORM, f"{wanted.role}: {user_id}", fields)
    binding_id = roles.bind(asked.db, user_id, fields.pop("role"), **fields)
    asked.note(wanted.tenant, binding_id, wanted.model_dump() | {"user": user_id})
    return CreatedBinding(id=binding_id, user_id=user_id, **wanted.model_dump())


@router.delete("/bindings/{binding_id}")
def delete_binding(asked: Changing, binding_id: str) -> Deleted:
    """Take a role away: by one who could give it."""
    found = roles.binding_of(asked.db, binding_id)
    if found is None or not asked.may("users:read", found.binding.tenant):
        raise ApiError("not_found", "There is no such binding.", param="binding_id")
    tenant = found.binding.tenant
    asked.need(tenant)
    user = users_module.get(asked.db, found.user_id)
    if user is not None:
        asked.need(user["tenant"])
    _may_give_binding(asked, found.binding)
    if is_power_over_accounts(found.binding.permissions):
        asked.need_step_up()
    if tenant in roles.owned_by(asked.db, found.user_id, binding_id):
        _keep_an_owner(asked, tenant, but_binding=binding_id)
    roles.unbind(asked.db, binding_id)
    asked.note(tenant, binding_id, {"deleted": True})
    return Deleted(id=binding_id)


@router.put("/roles/{tenant}/{name}")
def put_role(asked: Creating, tenant: str, name: str, wanted: NewRole) -> Role:
    """Define a role of a tenant, anew or changed: by one who has what it permits and permitted."""
    asked.need(tenant)
    if not name or len(name) > 64 or not name.replace("-", "").isalnum() or not name.isascii():
        raise ApiError("invalid_value", "A role's name has letters, digits and dashes.",
                       param="name")  # fmt: skip
    before = roles.own_role(asked.db, tenant, name)
    if before is not None:
        _may_give(asked, before, Resource(tenant))
    elif tenant != PLATFORM and roles.own_role(asked.db, PLATFORM, name) is not None:
        raise ApiError("conflict", f"`{name}` is a role of the platform.", param="name")
    roles.put_role(asked.db, tenant, name, wanted.permissions)
    _may_give(asked, frozenset(wanted.permissions), Resource(tenant))
    asked.need_step_up()
    asked.note(tenant, f"role {name}", wanted.model_dump())
    return Role(tenant=tenant, name=name, permissions=sorted(wanted.permissions))


@router.delete("/roles/{tenant}/{name}")
def delete_role(asked: Changing, tenant: str, name: str) -> Deleted:
    """Take away a role of a tenant that no binding gives any more: by one who has what it
    permits."""
    before = roles.own_role(asked.db, tenant, name) if asked.may("users:read", tenant) else None
    if before is None:
        raise ApiError("not_found", "There is no such role.", param="name")
    asked.need(tenant)
    _may_give(asked, before, Resource(tenant))
    if is_power_over_accounts(before):
        asked.need_step_up()
    roles.remove_role(asked.db, tenant, name)
    asked.note(tenant, f"role {name}", {"deleted": True})
    return Deleted(id=name)


@router.get("/roles")
def list_roles(asked: Listing, tenant: NameQuery = None) -> Roles:
    """List the roles that are always there, and a tenant's own."""
    found = roles.own_roles(asked.db, asked.tenant(tenant))
    own = [row for row in found if row["tenant"] == PLATFORM or asked.visible([row])]
    there = [
        Role(tenant=PLATFORM, name=name, permissions=sorted(permissions))
        for name, permissions in ROLES.items()
    ]
    return Roles(data=there + [Role(**row) for row in own], actions=ACTIONS)


# --- programs' tokens -------------------------------------------------------------------------


@router.post("/users/{user_id}/tokens", status_code=201)
def create_token(asked: IssuingTokens, user_id: str, wanted: NewToken) -> IssuedToken:
    """Issue a program's token; `token` is in this answer and never again.

    Users need no permission for a token of their own, once they have signed in.
    """
    roles.check_permissions(p for p in wanted.permissions if p != "*")
    if asked.is_self(user_id):
        row = own_account(asked.db, asked)
    else:
        row = user_of(asked, user_id)
        if row["kind"] != "service":
            raise ApiError("permission_denied", "People make their own tokens.")
        may_give_all_of(asked, user_id)
    asked.need_step_up()
    token_id, token = tokens.issue(
        asked.db,
        asked.context.suite,
        user_id,
        "api",
        wanted.name,
        wanted.lasts_s,
        wanted.permissions,
    )
    asked.note(row["tenant"], token_id, {"name": wanted.name, "permissions": wanted.permissions})
    return IssuedToken(
        id=token_id,
        token=token,
        expires_at_s=int(time.time()) + wanted.lasts_s,
        permissions=sorted(wanted.permissions),
    )


@router.get("/users/{user_id}/tokens")
def list_tokens(asked: ReadingTokens, user_id: str) -> Items[Token]:
    """List a user's tokens and sessions; never the tokens themselves.

    Users need no permission for their own.
    """
    if not asked.is_self(user_id):
        user_of(asked, user_id)
    rows = tokens.of_user(asked.db, user_id)
    return Items[Token](data=[Token(**row) for row in rows])


@router.delete("/tokens/{token_id}")
def delete_token(asked: EndingTokens, token_id: str) -> Deleted:
    """End a token.

    Users need no permission for their own.
    """
    owner = tokens.owner_of(asked.db, token_id)
    if owner is None or not asked.is_self(owner):
        row = None if owner is None else users_module.get(asked.db, owner)
        if row is None or not asked.may("users:read", row["tenant"]):
            raise ApiError("not_found", "There is no such token.", param="token_id")
        asked.need(row["tenant"])
        may_give_all_of(asked, row["id"])
        if has_power(asked, row["id"]):
            asked.need_step_up()
    tokens.end_by_id(asked.db, token_id)
    asked.note(asked.actor.tenant, token_id, {"deleted": True})
    return Deleted(id=token_id)
