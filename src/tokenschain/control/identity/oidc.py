"""Single sign-on by OpenID Connect: authorization code with PKCE (RFC 6749, 7636; OIDC Core)."""

from __future__ import annotations

import base64
import secrets as random_secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import Connection, select

from tokenschain.control.identity import roles as roles_module
from tokenschain.control.identity import users as users_module
from tokenschain.core.errors import ApiError
from tokenschain.infra.database.tables import users
from tokenschain.infra.egress import exchange
from tokenschain.infra.security import prescribed, secrets
from tokenschain.infra.security.suite import Sealer
from tokenschain.wire.client import ClientError, HttpClient, Waits

SIGN_IN_MAX_S = 600
DISCOVERY_S = 3_600
CLOCKS_APART_MAX_S = 60
_ALGORITHMS = ["RS256", "ES256", "PS256", "EdDSA"]
_WAITS = Waits(
    connect_max_s=3.0, pool_max_s=3.0, first_byte_max_s=8.0, idle_max_s=5.0, total_max_s=10.0
)
_SEALED_AS = "oidc sign-in"


class OidcClient(NamedTuple):
    """What is agreed with the provider."""

    issuer: str | None
    client_id: str
    client_secret: Callable[[], str | None]
    redirect_url: str
    groups_claim: str


class Person(NamedTuple):
    """Who the provider says came."""

    subject: str
    email: str
    name: str
    groups: tuple[str, ...]


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
        self._found: tuple[float, Any, KeySet] | None = None

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
        sealed = base64.urlsafe_b64encode(self._sealer.seal(_SEALED_AS, kept)).decode()
        return f"{discovered['authorization_endpoint']}?{urlencode(asked)}", sealed

    async def finish(self, state: str, code: str, kept: str) -> Person:
        """Trade the code for who came.

        Raises:
            ApiError: `invalid_login`, without saying what was wrong.
        """
        try:
            opened = self._sealer.unseal(_SEALED_AS, base64.urlsafe_b64decode(kept))
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
        found = token.claims
        email = str(found.get("email", "")).lower()
        if "@" not in email or found.get("email_verified") is False:
            raise users_module.wrong()
        groups = found.get(self._settings.groups_claim, [])
        named = tuple(str(g) for g in groups) if isinstance(groups, list) else (str(groups),)
        return Person(str(found["sub"]), email, str(found.get("name") or email)[:100], named)

    async def _discover(self) -> tuple[Any, KeySet]:
        issuer = self._settings.issuer
        if issuer is None:
            raise ApiError("not_found", "No OpenID provider is set.")
        now = time.monotonic()
        if self._found is None or now - self._found[0] > DISCOVERY_S:
            url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
            discovered = await self._ask("GET", url, {}, b"")
            if discovered.get("issuer") != issuer:
                raise ApiError("upstream_invalid_reply", "The provider has another name.")
            jwks = await self._ask("GET", discovered["jwks_uri"], {}, b"")
            self._found = now, discovered, KeySet.import_key_set(jwks)
        return self._found[1], self._found[2]

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


def enter(connection: Connection, person: Person, roles: Mapping[str, str]) -> str:
    """The user that a person is here, made the first time; its roles follow its groups.

    Args:
        roles: `group: role@tenant`.

    Raises:
        ApiError: `permission_denied` when none of the groups gives a role, or the user is
            shut out.
    """
    wanted = [roles[group].rpartition("@")[::2] for group in person.groups if group in roles]
    row = connection.execute(select(users).where(users.c.email == person.email)).first()
    if not wanted or (row is not None and row.disabled_at_s is not None):
        raise ApiError("permission_denied", "Your groups give you no role here.")
    if row is None:
        tenant = wanted[0][1] if len({tenant for _, tenant in wanted}) == 1 else "*"
        user_id = users_module.create_user(
            connection, tenant=tenant, email=person.email, name=person.name
        )
    else:
        user_id = row.id
    # Groups decide anew at every sign-in; what an administrator gave stays.
    roles_module.unbind_source(connection, user_id, "oidc")
    for role, tenant in wanted:
        roles_module.bind(connection, user_id, role, tenant=tenant, source="oidc")
    return str(user_id)
