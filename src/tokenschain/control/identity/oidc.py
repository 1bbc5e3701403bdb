"""Single sign-on by OpenID Connect: authorization code with PKCE (RFC 6749, 7636; OIDC Core)."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets as random_secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import Connection, Row, select, update

from tokenschain.control.identity import roles as roles_module
from tokenschain.control.identity import tokens
from tokenschain.control.identity import users as users_module
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.tables import users
from tokenschain.infra.egress import exchange
from tokenschain.infra.security import prescribed, secrets
from tokenschain.infra.security.suite import Place, Sealable, Sealer
from tokenschain.wire.client import ClientError, HttpClient, Waits

SIGN_IN_MAX_S = 600
DISCOVERY_S = 3_600
DISCOVERY_FAILED_S = 5
"""How long a provider that could not be found is not looked for again."""
CLOCKS_APART_MAX_S = 60
SUBJECT_CHARACTERS_MAX = 255
"""OIDC Core, 2: `sub` must not exceed 255 characters."""
NAME_CHARACTERS_MAX = 100
SOURCE = "oidc"
"""Of bindings that groups give."""
_EMAIL = re.compile(r"[^@\s\x00]+@[^@\s\x00]+")
_ALGORITHMS = ["RS256", "ES256", "PS256", "EdDSA"]
_WAITS = Waits(
    connect_max_s=3.0, pool_max_s=3.0, first_byte_max_s=8.0, idle_max_s=5.0, total_max_s=10.0
)
_COOKIE = Place(Sealable.SIGN_IN, "", "oidc sign-in")
_SCHEMES = ("http", "https")


class OidcClient(NamedTuple):
    """What is agreed with the provider."""

    issuer: str | None
    client_id: str
    client_secret: Callable[[], str | None]
    redirect_url: str
    groups_claim: str


class Person(NamedTuple):
    """Who the provider says came."""

    issuer: str
    subject: str
    """The provider's name for the person, which never changes (OIDC Core, 5.7)."""
    email: str
    name: str
    groups: tuple[str, ...]
    email_verified: bool = True
    """Whether the provider vouches for the address."""


class Entrance(NamedTuple):
    """Whether a person may come in: the user that it is here, or why not."""

    user_id: str | None
    refusal: str = ""
    code: str = "permission_denied"
    """Of `core.errors`, when it is refused."""


class Oidc:
    """Signs people in at one provider; what it remembers meanwhile is sealed in their cookie."""

    def __init__(self, settings: OidcClient, client: HttpClient, sealer: Sealer) -> None:
        """
        Args:
            sealer: seals cookies.
        """
        self._settings = settings
        self._client = client
        self._sealer = sealer
        self._discovering = asyncio.Lock()
        self._found: tuple[float, Any, KeySet] | None = None
        self._failed: tuple[float, ApiError] | None = None

    async def begin(self) -> tuple[str, str]:
        """Where to send the browser, and the cookie it brings back.

        Raises:
            ApiError: no provider is set, or it cannot be reached.
        """
        discovered, _ = await self._discover()
        state, nonce = random_secrets.token_urlsafe(24), random_secrets.token_urlsafe(24)
        verifier = random_secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(prescribed.sha256(verifier.encode()))
        asked = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._settings.redirect_url,
            "scope": "openid email profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge.rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        kept = msgspec.json.encode([state, nonce, verifier, int(time.time())])
        sealed = base64.urlsafe_b64encode(self._sealer.seal(_COOKIE, kept)).decode()
        return f"{discovered['authorization_endpoint']}?{urlencode(asked)}", sealed

    async def finish(self, state: str, code: str, kept: str) -> Person:
        """Trade the code for who came.

        Raises:
            ApiError: `invalid_login`, without saying what was wrong.
        """
        try:
            opened = self._sealer.unseal(_COOKIE, base64.urlsafe_b64decode(kept))
            expected, nonce, verifier, began_s = msgspec.json.decode(opened)
        except (ValueError, msgspec.DecodeError):
            raise users_module.wrong() from None
        late = time.time() - began_s > SIGN_IN_MAX_S
        if late or not code or not secrets.same(state, expected):
            raise users_module.wrong()
        discovered, keys = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._settings.redirect_url,
            "client_id": self._settings.client_id,
            "code_verifier": verifier,
        }
        secret = self._settings.client_secret()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if secret:
            pair = base64.b64encode(f"{self._settings.client_id}:{secret}".encode()).decode()
            headers["authorization"] = f"Basic {pair}"
        answer = await self._ask(
            "POST", discovered["token_endpoint"], headers, urlencode(form).encode()
        )
        return self._person(str(answer.get("id_token", "")), keys, nonce)

    def _person(self, id_token: str, keys: KeySet, nonce: str) -> Person:
        claims = {
            "iss": {"essential": True, "value": self._settings.issuer},
            "aud": {"essential": True, "value": self._settings.client_id},
            "nonce": {"essential": True, "value": nonce},
            "exp": {"essential": True},
            "sub": {"essential": True},
        }
        try:
            token = jwt.decode(id_token, keys, algorithms=_ALGORITHMS)
            registry = jwt.JWTClaimsRegistry(leeway=CLOCKS_APART_MAX_S, **claims)  # type: ignore[arg-type]
            registry.validate(token.claims)
        except (JoseError, ValueError) as error:
            raise users_module.wrong() from error
        return person_of(token.claims, self._settings)

    async def _discover(self) -> tuple[Any, KeySet]:
        issuer = self._settings.issuer
        if issuer is None:
            raise ApiError("not_found", "No OpenID provider is set.")
        # One looks for all who come meanwhile: strangers decide how many those are.
        async with self._discovering:
            now = time.monotonic()
            if self._found is None or now - self._found[0] > DISCOVERY_S:
                if self._failed is not None and now - self._failed[0] < DISCOVERY_FAILED_S:
                    raise ApiError(self._failed[1].code, self._failed[1].message)
                try:
                    self._found = now, *await self._look_for(issuer)
                except ApiError as error:
                    self._failed = time.monotonic(), error
                    raise
            return self._found[1], self._found[2]

    async def _look_for(self, issuer: str) -> tuple[Any, KeySet]:
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        discovered = await self._ask("GET", url, {}, b"")
        if discovered.get("issuer") != issuer:
            raise ApiError("upstream_invalid_reply", "The provider has another name.")
        self._check_addresses(discovered)
        jwks = await self._ask("GET", discovered["jwks_uri"], {}, b"")
        try:
            return discovered, KeySet.import_key_set(jwks)
        except (JoseError, ValueError, LookupError, TypeError) as error:
            raise ApiError("upstream_invalid_reply", "The provider's keys are none.") from error

    def _check_addresses(self, discovered: Any) -> None:
        """What a provider names is asked, and browsers are sent there: by HTTPS, unless the
        operator's own address of it has none."""
        schemes = ("https",) if str(self._settings.issuer).startswith("https:") else _SCHEMES
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            address = discovered.get(name)
            if not isinstance(address, str) or _scheme_of(address) not in schemes:
                raise ApiError("upstream_invalid_reply", f"The provider's `{name}` is no address.")

    async def _ask(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Any:
        try:
            reply, answer = await exchange(
                self._client, method, url, {"accept": "application/json", **headers}, body,
                _WAITS, 1_048_576,
            )  # fmt: skip
            found = msgspec.json.decode(answer)
        except (ClientError, ValueError, msgspec.DecodeError) as error:
            raise ApiError("upstream_unreachable", "The provider cannot be reached.") from error
        if reply.status != 200 or not isinstance(found, dict):
            raise users_module.wrong()
        return found


def _scheme_of(address: str) -> str:
    try:
        return urlsplit(address).scheme
    except ValueError:
        return ""


def person_of(claims: Mapping[str, Any], agreed: OidcClient) -> Person:
    """Who the claims of an ID token that was checked are about.

    Raises:
        ApiError: `invalid_login`: it is for another client, or names nobody.
    """
    audience = claims.get("aud")
    several = isinstance(audience, list) and len(audience) > 1
    party = claims.get("azp", None if several else agreed.client_id)
    subject, email = claims.get("sub"), claims.get("email")
    if (
        party != agreed.client_id
        or not isinstance(subject, str)
        or not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX
        or not subject.isprintable()
        or not isinstance(email, str)
        or len(email) > users_module.EMAIL_CHARACTERS_MAX
        or not _EMAIL.fullmatch(email)
    ):
        raise users_module.wrong()
    groups = claims.get(agreed.groups_claim, [])
    named = tuple(map(str, groups)) if isinstance(groups, list) else (str(groups),)
    name = "".join(c for c in str(claims.get("name") or email) if c.isprintable())
    return Person(
        str(agreed.issuer),
        subject,
        email.lower(),
        name[:NAME_CHARACTERS_MAX],
        named,
        # `true` alone will do: what the provider does not vouch for, anybody may have put there.
        email_verified=claims.get("email_verified") is True,
    )


def enter(
    connection: Connection,
    person: Person,
    roles: Mapping[str, str],
    *,
    email_verified_required: bool = True,
) -> Entrance:
    """The user that a person is here, made the first time; its roles follow its groups.

    People are known by issuer and subject alone: an address may be somebody else's tomorrow.
    Whoever is refused keeps none of the roles that groups gave.

    Args:
        roles: `group: role@tenant`.
    """
    if email_verified_required and not person.email_verified:
        return Entrance(
            None, "Your provider does not say that your address is verified.", "invalid_login"
        )
    groups = (roles[group].rpartition("@")[::2] for group in person.groups if group in roles)
    wanted = list(dict.fromkeys(groups))
    row = connection.execute(
        select(users).where(
            users.c.oidc_subject == person.subject, users.c.oidc_issuer == person.issuer
        )
    ).first()
    if row is not None:
        # Groups decide anew at every sign-in; what an administrator gave stays.
        roles_module.unbind_source(connection, row.id, SOURCE)
    if not wanted:
        return Entrance(None, "Your groups give you no role here.")
    if row is not None and row.disabled_at_s is not None:
        return Entrance(None, "Your account is disabled.")
    tenant = wanted[0][1] if len({tenant for _, tenant in wanted}) == 1 else PLATFORM
    try:
        with connection.begin_nested():
            if row is None:
                user_id = _first_time(connection, person, tenant)
            else:
                user_id = _again(connection, row, tenant)
            for role, over in wanted:
                roles_module.bind(connection, user_id, role, tenant=over, source=SOURCE)
    except ApiError as error:
        return Entrance(None, error.message)
    return Entrance(user_id)


def _first_time(connection: Connection, person: Person, tenant: str) -> str:
    """The user of a person who was not here yet: a new one, or one that waits for it.

    Looked for in the tenant that the groups name: what others have with the address is theirs.
    An account that somebody can enter otherwise, or whose rights are not of this person's
    groups, is nobody's by its address. One that earlier versions let in through the provider,
    or that was made for it and given nothing, is taken.

    Raises:
        ApiError: `permission_denied`: the address belongs to another account.
    """
    its = (users.c.email == person.email, users.c.tenant == tenant)
    found = connection.execute(select(users).where(*its)).all()
    if not found:
        user_id = users_module.create_user(
            connection, tenant=tenant, email=person.email, name=person.name
        )
    elif len(found) == 1 and person.email_verified and _waits(connection, found[0], tenant):
        user_id = str(found[0].id)
    else:
        raise _another_account()
    connection.execute(
        update(users)
        .where(users.c.id == user_id)
        .values(oidc_issuer=person.issuer, oidc_subject=person.subject)
    )
    if person.email_verified:
        users_module.confirm_email(connection, user_id)
    roles_module.unbind_source(connection, user_id, SOURCE)
    return user_id


def _waits(connection: Connection, row: Row[Any], tenant: str) -> bool:
    """Whether a user without a subject is there for whoever has its address at the provider."""
    ways_in = (row.password_hash, row.totp_sealed, row.oidc_subject, row.disabled_at_s)
    sources = {held["source"] for held in roles_module.bindings_shown(connection, row.id)}
    return (
        (row.kind, row.tenant) == ("user", tenant)
        and all(value is None for value in ways_in)
        and sources != {"admin"}
    )


def _again(connection: Connection, row: Row[Any], tenant: str) -> str:
    """The user of a person who was here before; of another tenant when its groups are.

    Raises:
        ApiError: `permission_denied`: the account can be entered otherwise, or the new tenant has
            one with the address.
    """
    if row.kind != "user" or row.password_hash is not None:
        raise _another_account()
    if row.tenant != tenant:
        taken = select(users.c.id).where(users.c.email == row.email, users.c.tenant == tenant)
        if connection.execute(taken).first() is not None:
            raise _another_account()
        # What the former tenant's administrators gave ends with it.
        roles_module.unbind_source(connection, row.id, "admin")
        tokens.end_all_of(connection, row.id)
        connection.execute(update(users).where(users.c.id == row.id).values(tenant=tenant))
    return str(row.id)


def _another_account() -> ApiError:
    return ApiError(
        "permission_denied", "Your address belongs to another account here; ask an administrator."
    )
