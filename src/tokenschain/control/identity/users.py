"""Users and service accounts: passwords, second factor, sign-in."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, and_, delete, func, insert, or_, select, update

from tokenschain.control import mails
from tokenschain.control.identity import invitations, recovery_codes, roles, shares, tokens
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM, ROLES, RoleBinding
from tokenschain.infra.config.access import AccessSettings
from tokenschain.infra.database import paging
from tokenschain.infra.database.compliance_tables import former_passwords
from tokenschain.infra.database.engine import reading
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import organization_units as units
from tokenschain.infra.database.tables import tokens as tokens_table
from tokenschain.infra.database.tables import users
from tokenschain.infra.security import passwords, secrets, weak_passwords
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Suite, Unsealable

PASSWORD_CHARACTERS_MAX = 200
EMAIL_CHARACTERS_MAX = 200
DAY_S = 86_400

Row = dict[str, Any]


class Actor(NamedTuple):
    """Who asks the admin API."""

    id: str
    tenant: str
    """`*`: of the platform."""
    bindings: tuple[RoleBinding, ...]
    in_session: bool = True
    """Somebody who signed in, or holds the admin token; false: a program's token."""
    proved_at_s: float | None = None
    """When all that signing in takes was shown last, for acts that ask for it again (step-up): by
    `POST /me/step-up`, or to the provider of single sign-on; Unix time."""
    from_provider: bool = False
    """Whether single sign-on lets the person in."""
    token_id: str = ""
    """Of the session or program's token; empty for the admin token and sign-in links."""
    lacks_factor: bool = False
    """Somebody who signed in with a password alone."""
    factor_demanded: bool = False
    """Whether the own tenant demands a second factor."""
    used_at_s: float = 0.0
    """When it was noted last that the session is used; Unix time."""
    password_is_old: bool = False
    """Whether it is to be changed before anything else."""


PLATFORM_OWNER = Actor(
    "platform", PLATFORM, (RoleBinding(ROLES["owner"], PLATFORM),), proved_at_s=math.inf
)
"""Whoever holds the admin token."""
OPERATOR = Actor("operator", PLATFORM, (RoleBinding(ROLES["owner"], PLATFORM),))
"""Whoever has the platform's machine and came in by a sign-in link: may what the owner may, but
has shown no credential, so that what asks for one again refuses."""


# --- who there is ------------------------------------------------------------------------


def create_user(
    connection: Connection,
    *,
    tenant: str,
    email: str,
    name: str,
    kind: str = "user",
    password_hash: str | None = None,
) -> str:
    """Make a user or a service account; returns its id.

    An address is unique in its tenant alone: nobody learns who there is elsewhere.

    Args:
        password_hash: see `hash_password`.

    Raises:
        ApiError: `conflict` when the tenant has a user with the address.
    """
    email = email.lower()
    _refuse_taken(connection, tenant, email)
    shares.check(connection, shares.USERS, tenant)
    user_id = secrets.new_id("svc" if kind == "service" else "usr")
    connection.execute(
        insert(users).values(
            id=user_id,
            tenant=tenant,
            kind=kind,
            email=email,
            name=name,
            password_hash=password_hash,
            password_set_at_s=None if password_hash is None else int(time.time()),
            created_at_s=int(time.time()),
        )
    )
    return user_id


def _refuse_taken(connection: Connection, tenant: str, email: str, but: str = "") -> None:
    taken = select(users.c.id).where(
        users.c.email == email, users.c.tenant == tenant, users.c.id != but
    )
    if connection.execute(taken).first() is not None:
        raise ApiError("conflict", "There is a user with this address already.", param="email")


def hash_password(password: str, rules: AccessSettings) -> str:
    """What is stored of a new password. Takes some 30 ms: call it outside of transactions.

    Raises:
        ApiError: `invalid_value` for a weak one.
    """
    least = rules.password_characters_min
    if not least <= len(password) <= PASSWORD_CHARACTERS_MAX:
        raise ApiError(
            "invalid_value",
            f"A password has {least} to {PASSWORD_CHARACTERS_MAX} characters.",
            param="password",
        )
    if weak_passwords.is_weak(password):
        raise ApiError(
            "invalid_value", "Guessing programs try this password early: choose another.",
            param="password",
        )  # fmt: skip
    return passwords.password_hash(password)


def get(connection: Connection, user_id: str) -> Row | None:
    """A user as it is stored, or None."""
    row = connection.execute(select(users).where(users.c.id == user_id)).mappings().first()
    return None if row is None else dict(row)


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of users and service accounts, by id, as people see them."""
    order = (users.c.id,)
    found = paging.read_page(connection, select(users), page_, order, tenant=tenant)
    return found._replace(rows=_with_invitations(connection, map(shown, found.rows)))


def read(connection: Connection, user_id: str) -> Row | None:
    """A user as people see it, or None."""
    row = get(connection, user_id)
    return None if row is None else _with_invitations(connection, [shown(row)])[0]


def _with_invitations(connection: Connection, rows: Iterable[Row]) -> list[Row]:
    """Each with the time until which it is invited, None where it is not, and with how far the
    invitation's mail is."""
    found = list(rows)
    ids = [row["id"] for row in found]
    until_s, waiting = invitations.open_until(connection, ids), mails.states(connection, ids)
    return [
        row | {"invited_until_s": until_s.get(row["id"]), "invitation_mail": waiting.get(row["id"])}
        for row in found
    ]


def shown(row: Row) -> Row:
    """A user as people see it."""
    found = dict(row)
    found["has_password"] = found.pop("password_hash") is not None
    found["has_totp"] = found.pop("totp_sealed") is not None
    found["has_oidc"] = found.pop("oidc_subject") is not None
    for name in ("totp_last", "totp_since_s", "oidc_issuer", "password_set_at_s"):
        found.pop(name)
    return found


def refuse_former(engine: Engine, user_id: str, password: str, rules: AccessSettings) -> None:
    """Insist on a password that its user has not and had not, as far as they are remembered. Takes
    some 30 ms for each: call it outside of transactions.

    Raises:
        ApiError: `invalid_value`.
    """
    if not rules.passwords_remembered:
        return
    c = former_passwords.c
    query = select(c.password_hash).where(c.user_id == user_id).order_by(c.until_s.desc())
    with reading(engine) as connection:
        row = get(connection, user_id)
        known = list(connection.execute(query.limit(rules.passwords_remembered)).scalars())
    if row is not None and row["password_hash"] is not None:
        known.append(row["password_hash"])
    if any(passwords.password_matches(one, password) for one in known):
        raise ApiError("invalid_value", "You had this password before: choose another.",
                       param="password")  # fmt: skip


def _remember(connection: Connection, user_id: str, rules: AccessSettings, now_s: int) -> None:
    """Keep the password that is there now among the former ones, and no more than wanted."""
    c = former_passwords.c
    row = get(connection, user_id)
    if rules.passwords_remembered and row is not None and row["password_hash"] is not None:
        latest = connection.execute(
            select(func.max(c.until_s)).where(c.user_id == user_id)
        ).scalar()
        connection.execute(
            insert(former_passwords).values(
                id=secrets.new_id("pwd"),
                user_id=user_id,
                password_hash=row["password_hash"],
                until_s=max(now_s, (latest or 0) + 1),  # in their order, also within a second
            )
        )
    kept = (
        select(c.id)
        .where(c.user_id == user_id)
        .order_by(c.until_s.desc(), c.id)
        .limit(rules.passwords_remembered)
    )
    newest = list(connection.execute(kept).scalars())
    connection.execute(delete(former_passwords).where(c.user_id == user_id, c.id.not_in(newest)))


def set_password(
    connection: Connection,
    user_id: str,
    password_hash: str,
    rules: AccessSettings,
    *,
    by_holder: bool,
) -> None:
    """Change a password; every session ends.

    Args:
        password_hash: see `hash_password`.
        by_holder: whether who comes in by it chose it; else the account is no longer known to be
            of whoever reads its address.

    Raises:
        ApiError: `conflict` for whom single sign-on lets in: the provider answers for the
            account, so there is no other way into it.
    """
    now_s = int(time.time())
    _remember(connection, user_id, rules, now_s)
    values: Row = {"password_hash": password_hash, "password_set_at_s": now_s}
    if not by_holder:
        values["email_confirmed_at_s"] = None
    changed = connection.execute(
        update(users).where(users.c.id == user_id, users.c.oidc_subject.is_(None)).values(**values)
    ).rowcount
    if not changed:
        raise ApiError("conflict", "This user signs in by single sign-on.", param="password")
    tokens.end_all_of(connection, user_id, "session")


def set_email(connection: Connection, user_id: str, email: str) -> None:
    """Give a user another address, which nobody has confirmed.

    Raises:
        ApiError: `conflict` when the tenant has another user with it.
    """
    row = get(connection, user_id)
    assert row is not None
    email = email.lower()
    _refuse_taken(connection, row["tenant"], email, but=user_id)
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(email=email, email_confirmed_at_s=None, version=users.c.version + 1)
    )


def confirm_email(connection: Connection, user_id: str) -> None:
    """Note that whoever reads the address chose how to come in: by a link that was sent there, or
    at a provider that vouches for it."""
    connection.execute(
        update(users).where(users.c.id == user_id).values(email_confirmed_at_s=int(time.time()))
    )


def disable(connection: Connection, user_id: str, *, by_platform: bool = False) -> None:
    """Shut a user out, at once; its tokens are gone.

    Args:
        by_platform: only the platform lets it in again.
    """
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(
            disabled_at_s=int(time.time()),
            disabled_by_platform=by_platform,
            version=users.c.version + 1,
        )
    )
    tokens.end_all_of(connection, user_id)


def enable(connection: Connection, user_id: str) -> None:
    """Let a user in again.

    Raises:
        ApiError: `conflict`: powers are kept apart, and it holds several.
    """
    roles.refuse_several_duties(connection, roles.bindings_of(connection, user_id))
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(disabled_at_s=None, disabled_by_platform=False, version=users.c.version + 1)
    )


def rename(connection: Connection, user_id: str, name: str) -> None:
    """Give a user another name."""
    connection.execute(
        update(users).where(users.c.id == user_id).values(name=name, version=users.c.version + 1)
    )


def actor_of(
    connection: Connection, suite: Suite, token: str, rules: AccessSettings
) -> Actor | None:
    """Who a token belongs to; None when it is not valid."""
    now_s = int(time.time())
    row = connection.execute(
        select(
            users.c.id,
            users.c.tenant,
            users.c.oidc_subject,
            users.c.totp_sealed.is_(None).label("lacks_totp"),
            units.c.second_factor_required,
            tokens_table.c.id.label("token_id"),
            tokens_table.c.kind,
            tokens_table.c.permissions,
            tokens_table.c.created_at_s,
            tokens_table.c.stepped_up_at_s,
            tokens_table.c.used_at_s,
            users.c.password_set_at_s,
        )
        .join(tokens_table, tokens_table.c.user_id == users.c.id)
        .outerjoin(
            units,
            and_(units.c.tenant == users.c.tenant, units.c.kind == "tenant", units.c.project == ""),
        )
        .where(
            tokens_table.c.token_hash.in_(suite.stored_digests(token.encode())),
            tokens_table.c.expires_at_s > now_s,
            tokens.in_use(rules, now_s),
            tokens_table.c.kind.in_(("session", "api")),
            users.c.disabled_at_s.is_(None),
        )
    ).first()
    if row is None:
        is_operator = tokens.is_session_of(connection, suite, OPERATOR.id, token, rules)
        return OPERATOR if is_operator else None
    held = roles.bindings_of(connection, row.id)
    allowed = frozenset(json.loads(row.permissions))
    from_provider = row.oidc_subject is not None
    return Actor(
        row.id,
        row.tenant,
        tuple(roles.within(binding, allowed) for binding in held),
        in_session=row.kind == "session",
        proved_at_s=row.created_at_s if from_provider else row.stepped_up_at_s,
        from_provider=from_provider,
        token_id=row.token_id,
        lacks_factor=row.kind == "session" and row.lacks_totp and not from_provider,
        factor_demanded=bool(row.second_factor_required),
        used_at_s=row.used_at_s or row.created_at_s,
        password_is_old=row.kind == "session"
        and not from_provider
        and _is_old(row.password_set_at_s, rules, now_s),
    )


def _is_old(set_at_s: int | None, rules: AccessSettings, now_s: int) -> bool:
    days = rules.password_days_max
    return bool(days) and set_at_s is not None and set_at_s < now_s - days * DAY_S


def refuse_unready(actor: Actor, lacks_factor: bool) -> None:
    """Insist that nothing is left that somebody has to do before anything else.

    Raises:
        ApiError: `second_factor_required`, `password_expired`.
    """
    if lacks_factor:
        raise ApiError(
            "second_factor_required",
            "Set up a second factor first: POST /me/totp, then POST /me/totp/confirm.",
        )
    if actor.password_is_old:
        raise ApiError("password_expired", "Change your password first: POST /me/password.")


# --- signing in ---------------------------------------------------------------------------------

_WRONG = "The address, the password or the code is wrong."


def is_taken(connection: Connection, email: str) -> bool:
    """Whether an address has an account that signs in by it alone: one of the platform, or one
    whose address was confirmed; or one that the platform shut out. What else tenants make with it
    stands in nobody's way."""
    query = select(users.c.id).where(
        users.c.email == email.lower(),
        users.c.kind == "user",
        or_(
            users.c.disabled_by_platform,
            users.c.disabled_at_s.is_(None)
            & or_(users.c.tenant == PLATFORM, users.c.email_confirmed_at_s.is_not(None)),
        ),
    )
    return connection.execute(query.limit(1)).first() is not None


def find_for_login(connection: Connection, email: str, tenant: str | None = None) -> Row | None:
    """The user whose address it is; None when there is none.

    Args:
        tenant: None: the account that `is_taken` is about, or else the first one, so that what
            somebody else's tenant does does not change whom an address signs in.
    """
    query = select(users).where(users.c.email == email.lower(), users.c.kind == "user")
    if tenant is not None:
        query = query.where(users.c.tenant == tenant)
    order = (
        users.c.disabled_at_s.is_not(None),
        users.c.tenant != PLATFORM,
        users.c.email_confirmed_at_s.is_(None),
        users.c.created_at_s,
        users.c.id,
    )
    row = connection.execute(query.order_by(*order).limit(1)).mappings().first()
    return None if row is None else dict(row)


def password_right(row: Row | None, password: str) -> bool:
    """Whether it is the password of a user; takes as long when there is no such user, so that
    timing does not tell who exists. Some 30 ms: call it outside of transactions."""
    stored = None if row is None else row["password_hash"]
    right = passwords.password_matches(stored or passwords.UNKNOWN_USER_HASH, password)
    return right and stored is not None


def wrong() -> ApiError:
    """What is said of a failed sign-in, whatever was wrong."""
    return ApiError("invalid_login", _WRONG)


def set_totp(connection: Connection, sealer: Sealer, user_id: str, secret: str, step: int) -> None:
    """Put a second factor in force.

    Args:
        step: of the code that confirmed it, which counts once, too.
    """
    tenant = connection.execute(select(users.c.tenant).where(users.c.id == user_id)).scalar_one()
    place = Place(Sealable.SECOND_FACTOR, tenant, user_id)
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(
            totp_sealed=sealer.seal(place, secret.encode()),
            totp_last=step,
            totp_since_s=int(time.time()),
        )
    )


def remove_totp(connection: Connection, user_id: str) -> None:
    """Take the second factor and its recovery codes away; every session ends."""
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(totp_sealed=None, totp_last=None, totp_since_s=None, version=users.c.version + 1)
    )
    recovery_codes.forget(connection, user_id)
    tokens.end_all_of(connection, user_id, "session")


def use_code(connection: Connection, sealer: Sealer, row: Row, code: str) -> bool:
    """Whether a code is right; each counts once (RFC 6238, 5.2).

    Args:
        sealer: seals second factors.
        row: a user who has a second factor.
    """
    place = Place(Sealable.SECOND_FACTOR, row["tenant"], row["id"])
    try:
        secret = sealer.unseal(place, row["totp_sealed"]).decode()
    except Unsealable:
        return False  # not this user's, or of another master key: no code is right for it
    step = passwords.totp_step(secret, code, time.time())
    if step is None or (row["totp_last"] is not None and step <= row["totp_last"]):
        return False
    changed = connection.execute(
        update(users)
        .where(
            users.c.id == row["id"],
            or_(users.c.totp_last.is_(None), users.c.totp_last < step),
        )
        .values(totp_last=step)
    ).rowcount
    return bool(changed)
