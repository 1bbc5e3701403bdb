"""One request to the console: who reads, in which language, over what, and the parts of a page."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from tokenschain.console.admin_api import AdminApi, ApiRefusal
from tokenschain.console.strings import translate
from tokenschain.core.presentation import LANGUAGES, Language
from tokenschain.core.tenancy import PLATFORM, Resource, RoleBinding, may

THEMES = ("auto", "light", "dark")
CARRIED = ("tenant", "project", "range")
"""Parameters that links from page to page keep."""


class ReaderAccount(msgspec.Struct):
    """The account of who is signed in."""

    name: str
    email: str
    has_password: bool
    has_totp: bool
    has_oidc: bool


class SignedInReader(msgspec.Struct):
    """Who is signed in; see `GET /me`."""

    id: str
    tenant: str
    bindings: list[RoleBinding]
    account: ReaderAccount | None = None
    """None for who came by a sign-in link."""
    token_id: str = ""
    """Of the sign-in itself."""
    makes_first_account: bool = False
    """Whether it came by a sign-in link, and nobody has an account of the platform yet."""
    must_set_up_factor: bool = False
    """Whether a second factor comes before anything else."""
    must_change_password: bool = False
    """Whether the password is too old, and comes before anything else."""

    def may(self, action: str) -> bool:
        """Whether an action is permitted anywhere."""
        return any(may((one,), action, _place(one)) for one in self.bindings)

    def may_at(self, action: str, tenant: str = "", **where: str) -> bool:
        """Whether an action is permitted there; without a tenant on the platform."""
        return may(self.bindings, action, Resource(tenant or PLATFORM, **where))

    def may_in(self, action: str, tenant: str, project: str) -> bool:
        """Whether an action is permitted on anything of a project, or on all of it."""
        return any(
            may((one,), action, _place(one))
            for one in self.bindings
            if one.tenant in (PLATFORM, tenant) and one.project in ("", project)
        )

    def only_project(self, tenant: str | None, action: str) -> str | None:
        """The project to show to one who may see no more of the tenant; None: all of it."""
        place = Resource(tenant or self.tenant)
        if may(self.bindings, action, place):
            return None
        own = (
            one.project
            for one in self.bindings
            if one.project and one.tenant == place.tenant and may((one,), action, _place(one))
        )
        return next(own, None)


def _place(binding: RoleBinding) -> Resource:
    return Resource(binding.tenant, binding.account, binding.project, binding.environment)


def forbidden(action: str) -> ApiRefusal:
    """What the API would say to one who lacks a permission, before anything is typed."""
    return ApiRefusal(403, "permission_denied", f"You may not do this here: `{action}`.")


class SignedOut(Exception):
    """The sign-in has ended, or there was none."""


class PagePart(NamedTuple):
    """A part of a page that is read by itself: others stay when it fails."""

    data: Any
    refusal: ApiRefusal | None


class Preferences(NamedTuple):
    """What a browser was told to show."""

    language: Language
    theme: str


class Visit:
    """One request, and what its page is made with."""

    def __init__(
        self,
        path: str,
        query: Mapping[str, str],
        preferences: Preferences,
        api: AdminApi,
        request_id: str,
        *,
        fragment: str = "",
        form: Mapping[str, str] | None = None,
        is_poll: bool = False,
    ) -> None:
        """
        Args:
            fragment: the id of the element that the answer is for; empty: a whole page.
            form: of a POST.
            is_poll: whether an open page asks again for what it shows.
        """
        self.path = path
        self.query = query
        self.language, self.theme = preferences
        self.api = api
        self.request_id = request_id
        self.fragment = fragment
        self.form = form or {}
        self.is_poll = is_poll
        self.reader = SignedInReader("", "", [])

    @property
    def preferences(self) -> Preferences:
        """What the browser was told to show."""
        return Preferences(self.language, self.theme)

    async def know_reader(self) -> None:
        """Find out who reads.

        Raises:
            SignedOut: nobody who is signed in.
            ApiRefusal: the API does not answer.
        """
        try:
            self.reader = await self.api.get("/me", SignedInReader)
        except ApiRefusal as refusal:
            if refusal.status == 401:
                raise SignedOut from None
            raise

    def text(self, key: str, **values: object) -> str:
        """A text of the catalogue, in the reader's language."""
        return translate(key, self.language, **values)

    def choice(self, name: str, known: Sequence[str], default: str = "") -> str:
        """A parameter of the address that is one of several; by default the first."""
        asked = self.query.get(name, "")
        return asked if asked in known else default or known[0]

    @property
    def tenant(self) -> str | None:
        """Whose rows are shown; None: the reader's own, or on the platform all."""
        return self.query.get("tenant") or None

    @property
    def shown_tenant(self) -> str | None:
        """Whose rows are shown, the reader's own among them; None: on the platform, all."""
        return self.tenant or (None if self.on_platform else self.reader.tenant)

    @property
    def once(self) -> dict[str, str]:
        """The header by which a form that is sent again changes nothing more."""
        return {"idempotency-key": self.form.get("once", "")[:64]}

    @property
    def on_platform(self) -> bool:
        """Whether it is one of the platform's own people."""
        return self.reader.tenant == PLATFORM

    def project(self, action: str) -> str | None:
        """The project that is shown; None: all that the tenant has."""
        return self.query.get("project") or self.reader.only_project(self.tenant, action)

    def link(self, path: str, **changed: str | None) -> str:
        """An address that keeps what is looked at.

        Args:
            changed: parameters to set; None or empty takes one away.
        """
        kept = {name: self.query.get(name, "") for name in CARRIED} | changed
        found = {name: value for name, value in kept.items() if value}
        return f"{path}?{urlencode(found)}" if found else path

    def here(self, **changed: str | None) -> str:
        """The address of this page with other parameters."""
        found = {k: v for k, v in ({**self.query} | changed).items() if v}
        return f"{self.path}?{urlencode(found)}" if found else self.path

    async def parts(self, **reads: Awaitable[object]) -> dict[str, PagePart]:
        """Read the parts of a page side by side.

        Raises:
            SignedOut: the sign-in ended meanwhile.
        """
        done = await asyncio.gather(*reads.values(), return_exceptions=True)
        found: dict[str, PagePart] = {}
        for name, one in zip(reads, done, strict=True):
            if isinstance(one, ApiRefusal):
                if one.status == 401:
                    raise SignedOut from one
                found[name] = PagePart(None, one)
            elif isinstance(one, BaseException):
                raise one
            else:
                found[name] = PagePart(one, None)
        return found


def preferences_of(cookies: Mapping[str, str], accept_language: str) -> Preferences:
    """Language and theme: as chosen, else as the browser says, else Chinese."""
    chosen = cookies.get("tc_lang", "")
    language = next((one for one in LANGUAGES if one == chosen), None)
    theme = cookies.get("tc_theme", "auto")
    return Preferences(
        language or _preferred(accept_language), theme if theme in THEMES else "auto"
    )


def _preferred(accept_language: str) -> Language:
    """The first language of the header that there is; browsers name the best first."""
    for part in accept_language.lower().split(","):
        name = part.partition(";")[0].strip().partition("-")[0]
        found = next((one for one in LANGUAGES if one == name), None)
        if found is not None:
            return found
    return "en" if accept_language.strip() not in ("", "*") else "zh"
