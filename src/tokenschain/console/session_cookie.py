"""Cookie of a sign-in, and which requests come from the console's own pages (CSRF, rebinding)."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

SESSION_S = 12 * 3_600
COMPANY_COOKIE, COMPANY_S = "tc_console", 600
"""Of a sign-in at the identity provider, while it goes on."""
PREFERENCE_S = 365 * 86_400


class Site(NamedTuple):
    """Where browsers reach the console."""

    public_url: str | None
    """As `control.public_url` says; None: on this machine only."""

    @property
    def secure(self) -> bool:
        """Whether browsers come through TLS, so that the cookie may be theirs alone."""
        return (self.public_url or "").startswith("https://")

    @property
    def cookie(self) -> str:
        """The cookie's name. `__Host-` is what browsers hold to be Secure, of this host alone and
        of all its paths; over plain HTTP, which is served to this machine only, they take none."""
        return "__Host-tc" if self.secure else "tc"

    def serves(self, host: str) -> bool:
        """Whether a request's `Host` is one that the console is reached by.

        A page of somebody else's that had its name resolved to this machine is none (DNS
        rebinding); and passwords are not asked for over plain HTTP from another machine.
        """
        if is_loopback(host):
            return True
        return self.secure and host.lower() == _parts(self.public_url or "").netloc.lower()

    def sent_by_own_page(self, headers: Mapping[str, str]) -> bool:
        """Whether a form was sent by a page of the console; see
        https://developer.mozilla.org/docs/Web/HTTP/Headers/Sec-Fetch-Site."""
        said = headers.get("sec-fetch-site")
        if said is not None:
            return said == "same-origin"
        origin = _parts(headers.get("origin", "")).netloc.lower()
        own = {headers.get("host", "").lower()}
        if self.secure:
            own.add(_parts(self.public_url or "").netloc.lower())
        return bool(origin) and origin in own

    def set_session(self, token: str) -> str:
        """A `Set-Cookie` that signs in, or with an empty token out."""
        lasts_s = SESSION_S if token else 0
        end = "; Secure" if self.secure else ""
        return f"{self.cookie}={token}; Path=/; Max-Age={lasts_s}; HttpOnly; SameSite=Lax{end}"

    def set_company(self, *, asked: bool) -> str:
        """A `Set-Cookie` that says whether the console sent the browser to the identity
        provider."""
        lasts_s = COMPANY_S if asked else 0
        end = "; Secure" if self.secure else ""
        return (
            f"{COMPANY_COOKIE}=1; Path=/api/v1/oidc; Max-Age={lasts_s}; HttpOnly; SameSite=Lax{end}"
        )

    def set_preference(self, name: str, value: str) -> str:
        """A `Set-Cookie` of the language or the theme."""
        end = "; Secure" if self.secure else ""
        return (
            f"tc_{name}={value}; Path=/console; Max-Age={PREFERENCE_S}; HttpOnly; SameSite=Lax{end}"
        )


def is_loopback(host: str) -> bool:
    """Whether a `Host` is this machine's own name or address."""
    name = (_parts(f"//{host}").hostname or "") if host else ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def own_path(path: str) -> str:
    """Where to go on after signing in: a page of the console, whatever was asked for."""
    parts = _parts(path)
    fine = (
        not parts.scheme
        and not parts.netloc
        and not any(ord(c) < 33 or c == "\\" for c in path)
        and (parts.path == "/console" or parts.path.startswith("/console/"))
        and not {".", ".."} & set(unquote(parts.path).split("/"))
        and not parts.path.startswith(("/console/static", "/console/sign", "/console/enter"))
    )
    return path if fine else "/console"


_NOWHERE = urlsplit("//nowhere.invalid")
"""Names ending so are never anybody's (RFC 6761)."""


def _parts(url: str) -> SplitResult:
    """Of an address that anybody may have sent; of none that is one, those of nowhere."""
    try:
        return urlsplit(url)
    except ValueError:  # an open bracket
        return _NOWHERE
