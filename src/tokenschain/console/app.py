"""The web console's ASGI application: routes, sign-in, security headers, static files."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from tokenschain.console import (
    alerts,
    audit,
    cache,
    cache_warming,
    calls,
    compliance,
    connect,
    duties,
    freezes,
    invitations,
    keys,
    label_rules,
    limits,
    me,
    models,
    moderation,
    moderation_policies,
    organization,
    overview,
    people,
    platform_settings,
    playground,
    proposals,
    review_queue,
    revisions,
    roles,
    routing,
    scope,
    search,
    sign_up,
    silences,
    start,
    static_files,
    step_up,
    suspensions,
    system,
    tokens,
    upstream_settings,
    upstreams,
    usage,
    virtual_models,
    wallet,
)
from tokenschain.console.admin_api import AdminApi, ApiRefusal, AsgiApp, Message, StepUpNeeded
from tokenschain.console.navigation import PAGE_ICONS
from tokenschain.console.playground import Playground
from tokenschain.console.polling import POLL_HEADER, POLLED, SharedParts
from tokenschain.console.rendering import (
    TEMPLATES,
    CloudProvider,
    Handler,
    OpenPages,
    Pages,
    Renderer,
    SignUpOffer,
)
from tokenschain.console.session_cookie import COMPANY_COOKIE, Site, own_path
from tokenschain.console.static_files import StaticFiles
from tokenschain.console.visit import THEMES, Preferences, SignedOut, Visit, preferences_of
from tokenschain.core.presentation import LANGUAGES
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Suite

PREFIX = "/console"
COMPANY_CALLBACK = "/api/v1/oidc/callback"
"""Of single sign-on; see `GET /oidc/callback`."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
SIGN_IN = f"{PREFIX}/sign-in"
FORM_BYTES_MAX = 65_536
FORM_FIELDS_MAX = 1_200
"""A virtual model has up to 100 rules with eleven fields each."""
READ_MAX_S = 3.0
"""For each part of a page."""
SIGN_IN_MAX_S = 20.0
"""Sign-ins wait for each other."""
PACKED_BYTES_MIN = 1_024
KEPT = "public, max-age=31536000, immutable"

PAGES: Pages = {
    ("GET", PREFIX): overview.show,
    ("GET", f"{PREFIX}/start"): start.show,
    ("GET", f"{PREFIX}/start/cloud"): connect.ask,
    ("POST", f"{PREFIX}/start/cloud"): connect.connect,
    ("GET", f"{PREFIX}/playground"): playground.show,
    ("GET", f"{PREFIX}/playground/call"): playground.facts,
    ("GET", f"{PREFIX}/scope"): scope.show,
    ("GET", f"{PREFIX}/search"): search.show,
    ("GET", f"{PREFIX}/live"): overview.live_calls,
    ("GET", f"{PREFIX}/first-token"): overview.first_token,
    ("GET", f"{PREFIX}/calls"): calls.show,
    ("GET", f"{PREFIX}/models"): models.show,
    ("GET", f"{PREFIX}/models/model"): models.read,
    ("GET", f"{PREFIX}/keys"): keys.show,
    ("GET", f"{PREFIX}/keys/new"): keys.ask,
    ("POST", f"{PREFIX}/keys/new"): keys.create,
    ("GET", f"{PREFIX}/keys/revoke"): keys.confirm,
    ("POST", f"{PREFIX}/keys/revoke"): keys.revoke,
    **usage.PAGES,
    **wallet.PAGES,
    **limits.PAGES,
    **routing.PAGES,
    **upstreams.PAGES,
    **upstream_settings.PAGES,
    **virtual_models.PAGES,
    **revisions.PAGES,
    **cache.PAGES,
    **cache_warming.PAGES,
    **alerts.PAGES,
    **silences.PAGES,
    **me.PAGES,
    **tokens.PAGES,
    **people.PAGES,
    **invitations.PAGES,
    **roles.PAGES,
    **organization.PAGES,
    **moderation.PAGES,
    **moderation_policies.PAGES,
    **review_queue.PAGES,
    **freezes.PAGES,
    **suspensions.PAGES,
    **proposals.PAGES,
    **label_rules.PAGES,
    **audit.PAGES,
    **compliance.PAGES,
    **duties.PAGES,
    **system.PAGES,
    **platform_settings.PAGES,
}

OPEN_PAGES: OpenPages = {
    **invitations.OPEN_PAGES, **sign_up.OPEN_PAGES, **alerts.OPEN_PAGES,
}  # fmt: skip
"""For who is not signed in."""


class _Session(msgspec.Struct):
    token: str


class ConsoleSettings(NamedTuple):
    """What the console is told of the platform."""

    public_url: str | None
    """See `control.public_url`."""
    single_sign_on: bool
    gateway_url: str
    """Where callers reach the gateway, for samples to copy."""
    browser_files: Path
    """The folder of third-party files; see `browser_files`."""
    providers: tuple[CloudProvider, ...] = ()
    """Clouds that can be connected by name."""
    sign_up: SignUpOffer | None = None
    """None where nobody signs up."""


class Console:
    """The pages under `/console`; everything else goes to the application behind it.

    Nothing of a signed-in person is kept here: the cookie holds the session's token, and any
    replica answers.
    """

    def __init__(
        self,
        app: AsgiApp,
        settings: ConsoleSettings,
        suite: Suite,
        report: Callable[[str, BaseException], None],
        playground: Playground | None = None,
    ) -> None:
        """
        Args:
            app: with the admin API.
            report: told of a fault of the API: `(path, why)`.
            playground: None where there is no gateway to ask.
        """
        self._playground = playground
        self._pages = dict(PAGES)
        if playground is not None:
            self._pages["POST", f"{PREFIX}/playground/keys"] = playground.create_key
        self._app = app
        self._report = report
        self._site = Site(settings.public_url)
        self._single_sign_on = settings.single_sign_on
        icons = static_files.icons_in(TEMPLATES) | PAGE_ICONS
        self._static = StaticFiles(settings.browser_files, icons, suite)
        self._shared = SharedParts(suite)
        self._renderer = Renderer(
            self._static, settings.gateway_url, settings.providers, settings.sign_up
        )

    def address_of(self, name: str) -> str:
        """Where a static file is."""
        return self._static.address(name)

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """See ASGI."""
        path = scope.get("path", "")
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        if path == COMPANY_CALLBACK and COMPANY_COOKIE in request.cookies:
            response = await self._company_sign_in(request)
        elif path == PREFIX or path.startswith(f"{PREFIX}/"):
            response = await self._answer(request)
        else:
            await self._app(scope, receive, send)
            return
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("cache-control", "no-store")
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path, method = request.url.path, request.method
        if path.startswith(f"{static_files.PREFIX}/"):
            return self._file(request)
        if method not in ("GET", "HEAD", "POST"):
            return self._plain(request, "method", 405)
        if not self._site.serves(request.headers.get("host", "")):
            return self._plain(request, "host", 421)
        form: dict[str, str] = {}
        if method == "POST":
            if not self._site.sent_by_own_page(request.headers):
                return self._plain(request, "foreign", 403)
            if path == playground.ANSWERS_PATH and self._playground is not None:
                return await self._ask_gateway(request, self._playground)
            found = await _form_of(request)
            if found is None:
                return self._plain(request, "form", 413)
            form = found
        match path.removeprefix(PREFIX), method:
            case "/sign-in", "POST":
                return await self._sign_in(request, form)
            case "/sign-in", _:
                return self._sign_in_page(request, own_path(request.query_params.get("next", "")))
            case "/sign-in/company", "GET":
                return await self._to_company(request)
            case "/enter", "GET":
                return await self._enter(request)
            case "/sign-out", "POST":
                return await self._sign_out(request)
            case "/preferences", "POST":
                return self._prefer(form)
        opened = OPEN_PAGES.get(("GET" if method == "HEAD" else method, path))
        if opened is not None:
            answer = await opened(self._visit(request, form, signed_in=False), self._renderer)
            if answer.token:
                await self._end_session(request)
                answer.response.headers.append("set-cookie", self._site.set_session(answer.token))
            return _packed(request, answer.response)
        if POLL_HEADER in request.headers and method == "GET":
            with self._shared.pace.measured():
                return await self._page(request, form)
        return await self._page(request, form)

    # --- pages ---------------------------------------------------------------------------------

    async def _page(self, request: Request, form: Mapping[str, str]) -> Response:
        path = request.url.path
        method = "GET" if request.method == "HEAD" else request.method
        handler = self._pages.get((method, path.rstrip("/") or path))
        visit = self._visit(request, form)
        try:
            await visit.know_reader()
            if visit.reader.must_set_up_factor and not path.startswith(me.SECOND_FACTOR):
                response = _elsewhere(request, me.SECOND_FACTOR)
            elif visit.reader.must_change_password and not path.startswith(me.PATH):
                response = _elsewhere(request, me.PATH)
            elif handler is None:
                response = self._renderer.page("not_found.html", visit, 404)
            elif visit.is_poll:
                return await self._shared.answer(
                    visit,
                    request.headers.get("if-none-match", ""),
                    partial(self._handle, handler, visit),
                    packed="gzip" in request.headers.get("accept-encoding", ""),
                )
            else:
                response = await self._handle(handler, visit)
        except SignedOut:
            return self._to_sign_in(request)
        except ApiRefusal as refusal:
            response = self._renderer.page("failed.html", visit, refusal.status, refusal=refusal)
        return _packed(request, response)

    async def _handle(self, handler: Handler, visit: Visit) -> Response:
        try:
            await step_up.prove(visit)
            return await handler(visit, self._renderer)
        except StepUpNeeded as needed:
            return step_up.ask(visit, self._renderer, needed)

    async def _ask_gateway(self, request: Request, asked: Playground) -> Response:
        try:
            return await asked.answer(request, self._visit(request, {}))
        except SignedOut:
            return playground.signed_out()

    def _visit(self, request: Request, form: Mapping[str, str], *, signed_in: bool = True) -> Visit:
        fragment = ""
        if request.headers.get("hx-request"):
            fragment = request.headers.get("hx-target", "").rpartition("#")[2] or "fragment"
        path = request.url.path.rstrip("/") or PREFIX
        return Visit(
            path,
            dict(request.query_params),
            self._preferences(request),
            self._api(request, self._token(request) if signed_in else "", READ_MAX_S),
            secrets.new_id("con"),
            fragment=fragment,
            form=form,
            is_poll=bool(fragment) and POLL_HEADER in request.headers and path in POLLED,
        )

    def _to_sign_in(self, request: Request) -> Response:
        """Of a fragment the whole page goes there; it knows its own address."""
        if request.headers.get("hx-request"):
            back = request.headers.get("hx-current-url", "")
            back = own_path(back[back.find(PREFIX) :] if PREFIX in back else "")
            return _elsewhere(request, f"{PREFIX}/sign-in?next={quote(back, safe='')}")
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        back = own_path(asked) if request.method == "GET" else PREFIX
        end = "" if back == PREFIX else f"?next={quote(back, safe='')}"
        return RedirectResponse(f"{PREFIX}/sign-in{end}", 303)

    # --- signing in ----------------------------------------------------------------------------

    def _sign_in_page(
        self,
        request: Request,
        back: str,
        refusal: ApiRefusal | None = None,
        email: str = "",
        tenant: str = "",
    ) -> Response:
        known = {"invalid_login", "account_locked", "overloaded", "timeout", "company_failed"}
        key = None
        if refusal is not None:
            key = f"sign_in.{refusal.code}" if refusal.code in known else "sign_in.invalid_login"
        response = self._renderer.alone(
            "sign_in.html", self._preferences(request), refusal.status if refusal else 200,
            here=SIGN_IN,
            back=back, wrong=key, email=email, tenant=tenant,
            changed=not key and request.query_params.get("changed") == "password",
            single_sign_on=self._single_sign_on,
        )  # fmt: skip
        return _packed(request, response)

    async def _sign_in(self, request: Request, form: Mapping[str, str]) -> Response:
        """Sign in with a password. What can be no address or code is not told apart from what is
        wrong: the API says the same of both."""
        back = own_path(form.get("next", ""))
        wanted = {"email": form.get("email", ""), "password": form.get("password", "")}
        wanted |= step_up.second_factor(form.get("code", ""))
        tenant = form.get("tenant", "").strip()
        if tenant:
            wanted["tenant"] = tenant
        try:
            session = await self._api(request, "", SIGN_IN_MAX_S).send(
                "POST", "/sessions", _Session, wanted
            )
        except ApiRefusal as refusal:
            return self._sign_in_page(request, back, refusal, wanted["email"], tenant)
        return await self._begun(request, session.token, back)

    async def _enter(self, request: Request) -> Response:
        """Sign the operator in by a link of this machine."""
        code = {"code": request.query_params.get("code", "")[:100]}
        try:
            session = await self._api(request, "", SIGN_IN_MAX_S).send(
                "POST", "/sessions/link", _Session, code
            )
        except ApiRefusal:
            return self._plain(request, "link", 401)
        return await self._begun(request, session.token, f"{PREFIX}/start")

    async def _to_company(self, request: Request) -> Response:
        """Go to the identity provider. It sends the browser back to the API's own address, the
        only one that is registered there; a cookie says that the console asked."""
        answer = await self._api(request, "", SIGN_IN_MAX_S).ask("GET", "/oidc/start")
        if answer.status != 302:
            return RedirectResponse(f"{PREFIX}/sign-in", 303)
        response = RedirectResponse(answer.headers["location"], 302)
        response.headers.append("set-cookie", answer.headers["set-cookie"])
        response.headers.append("set-cookie", self._site.set_company(asked=True))
        return response

    async def _company_sign_in(self, request: Request) -> Response:
        """Come back from the identity provider."""
        query = {name: request.query_params.get(name, "") for name in ("state", "code")}
        cookies = {"cookie": request.headers.get("cookie", "")}
        try:
            answer = await self._api(request, "", SIGN_IN_MAX_S).ask(
                "GET", "/oidc/callback", query, None, cookies
            )
            if answer.status != 200:
                raise ApiRefusal(answer.status, "company_failed", "")
        except ApiRefusal as refusal:
            response = self._sign_in_page(request, PREFIX, refusal)
        else:
            session = msgspec.json.decode(answer.body, type=_Session)
            response = await self._begun(request, session.token, PREFIX)
        response.headers.append("set-cookie", self._site.set_company(asked=False))
        return response

    async def _begun(self, request: Request, token: str, back: str) -> Response:
        """Go on in a new session; the one that this browser had ends."""
        await self._end_session(request)
        return self._entered(token, back)

    async def _end_session(self, request: Request) -> None:
        token = self._token(request)
        if token:
            with suppress(ApiRefusal):
                await self._api(request, token, READ_MAX_S).ask("DELETE", "/sessions")

    def _entered(self, token: str, back: str) -> Response:
        response = RedirectResponse(back, 303)
        response.headers.append("set-cookie", self._site.set_session(token))
        return response

    async def _sign_out(self, request: Request) -> Response:
        """The session ends, whether or not the API can be asked to end it."""
        await self._end_session(request)
        return self._entered("", f"{PREFIX}/sign-in")

    def _prefer(self, form: Mapping[str, str]) -> Response:
        response = RedirectResponse(_back_of(form), 303)
        for name, known in (("lang", LANGUAGES), ("theme", THEMES)):
            if form.get(name) in known:
                response.headers.append("set-cookie", self._site.set_preference(name, form[name]))
        return response

    # --- what requests say ---------------------------------------------------------------------

    def _token(self, request: Request) -> str:
        return request.cookies.get(self._site.cookie, "")

    def _preferences(self, request: Request) -> Preferences:
        return preferences_of(request.cookies, request.headers.get("accept-language", ""))

    def _api(self, request: Request, token: str, wait_max_s: float) -> AdminApi:
        address = request.client.host if request.client is not None else ""
        return AdminApi(self._app, self._report, address, token, wait_max_s=wait_max_s)

    # --- small answers -------------------------------------------------------------------------

    def _file(self, request: Request) -> Response:
        found = self._static.find(request.url.path)
        if found is None:
            return Response(status_code=404)
        packed = "gzip" in request.headers.get("accept-encoding", "")
        headers = {"cache-control": KEPT, "vary": "accept-encoding"}
        if packed:
            headers["content-encoding"] = "gzip"
        body = found.packed if packed else found.body
        return Response(body, headers=headers, media_type=found.media_type)

    def _plain(self, request: Request, what: str, status: int) -> Response:
        return self._renderer.alone("refused.html", self._preferences(request), status, what=what)


def _elsewhere(request: Request, address: str) -> Response:
    """Lead the whole page there, also where a fragment was asked for."""
    if not request.headers.get("hx-request"):
        return RedirectResponse(address, 303)
    response = Response(status_code=200)
    response.headers["hx-redirect"] = address
    return response


def _back_of(form: Mapping[str, str]) -> str:
    """The page to go back to, the sign-in among them."""
    back = form.get("back", "")
    return back if back in (SIGN_IN, sign_up.PATH) else own_path(back)


async def _form_of(request: Request) -> dict[str, str] | None:
    """A form's fields; None for what is too large to be one."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > FORM_BYTES_MAX:
            return None
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX
        )
    except ValueError:
        return None
    return dict(pairs)


def _packed(request: Request, response: Response) -> Response:
    """With gzip where the browser takes it and it is a page that was read: what is shown once
    after a form, as a new key, is not packed beside what others wrote (BREACH)."""
    body = bytes(response.body)
    if (
        request.method != "GET"
        or len(body) < PACKED_BYTES_MIN
        or "gzip" not in request.headers.get("accept-encoding", "")
    ):
        return response
    packed = static_files.pack(body)
    response.body = packed
    response.headers["content-encoding"] = "gzip"
    response.headers["content-length"] = str(len(packed))
    response.headers["vary"] = "accept-encoding, cookie"
    return response
