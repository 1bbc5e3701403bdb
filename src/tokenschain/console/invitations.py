"""Invitation pages: somebody is invited, and comes in by the link with a password of their own."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console import people, scope
from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import OpenAnswer, OpenPages, Pages, Renderer
from tokenschain.console.roles import read_roles
from tokenschain.console.step_up import PROOF_MAX_S
from tokenschain.console.visit import Visit, forbidden
from tokenschain.infra.security import secrets

PATH = f"{people.PATH}/invite"
ENTRANCE = "/console/invitation"
FIELDS = ("email", "name", "tenant", "role", *people.PLACE, "models")
CODE_CHARACTERS_MAX = 100


class SentInvitation(msgspec.Struct):
    """An invitation that is open; see `POST /invitations`."""

    user_id: str
    email: str
    expires_at_s: int
    mailed: bool
    link: str | None


class SeenInvitation(msgspec.Struct):
    """What somebody who was invited sees of it; see `POST /invitations/look`."""

    tenant: str
    email: str
    name: str
    expires_at_s: int


class NewSession(msgspec.Struct):
    """A session's token; see `POST /sessions`."""

    token: str


# --- who invites --------------------------------------------------------------------------------


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for whom to invite."""
    if not visit.reader.may(people.WRITE):
        raise forbidden(people.WRITE)
    given = dict.fromkeys(FIELDS, "")
    return await _form(visit, renderer, given | {"tenant": visit.shown_tenant or ""}, None)


async def invite(visit: Visit, renderer: Renderer) -> Response:
    """Invite somebody; without a mail server the link is shown this once."""
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    body: dict[str, object] = {name: value for name, value in given.items() if name != "models"}
    body["tenant"] = given["tenant"] or "*"
    body["name"] = given["name"] or given["email"].partition("@")[0][:100]
    models = given["models"].replace(",", " ").split()
    if models:
        body["models"] = models
    try:
        sent = await visit.api.send("POST", "/invitations", SentInvitation, body, visit.once)
    except ApiRefusal as refusal:
        return await _form(visit, renderer, given, refusal)
    return renderer.page("invited.html", visit, sent=sent)


async def _form(
    visit: Visit, renderer: Renderer, given: dict[str, str], refusal: ApiRefusal | None
) -> Response:
    picked = {"tenants": scope.tenants(visit)} if visit.on_platform else {}
    parts = await visit.parts(roles=read_roles(visit, given["tenant"] or None), **picked)
    roles = parts["roles"].data
    return renderer.form(
        "person_invite.html", visit, refusal, given=given, place=people.PLACE,
        roles=[] if roles is None else roles.data, once=secrets.new_id("once"),
        tenants=parts.get("tenants"),
    )  # fmt: skip


async def resend(visit: Visit, renderer: Renderer) -> Response:
    """Invite somebody again; the link before ends."""
    user_id = visit.form.get("person", "")
    path = f"/invitations/{segment(user_id)}/resend"
    try:
        sent = await visit.api.send("POST", path, SentInvitation)
    except ApiRefusal as refusal:
        return await people.person_page(visit, renderer, user_id, refusal)
    return renderer.page("invited.html", visit, sent=sent)


async def withdraw(visit: Visit, renderer: Renderer) -> Response:
    """End an invitation's link."""
    user_id = visit.form.get("person", "")
    try:
        await visit.api.send("DELETE", f"/invitations/{segment(user_id)}", msgspec.Raw)
    except ApiRefusal as refusal:
        return await people.person_page(visit, renderer, user_id, refusal)
    return RedirectResponse(visit.link(people.PERSON, person=user_id), 303)


PAGES: Pages = {
    ("GET", PATH): ask,
    ("POST", PATH): invite,
    ("POST", f"{PATH}/resend"): resend,
    ("POST", f"{PATH}/withdraw"): withdraw,
}


# --- who was invited ----------------------------------------------------------------------------


async def enter(visit: Visit, renderer: Renderer) -> OpenAnswer:
    """The form for a password, by a link; looking at it uses nothing up."""
    return await _entrance(visit, renderer, visit.query.get("code", ""))


async def accept(visit: Visit, renderer: Renderer) -> OpenAnswer:
    """Take the invitation with a password of one's own, and be signed in."""
    code = visit.form.get("code", "")[:CODE_CHARACTERS_MAX]
    password, name = visit.form.get("password", ""), visit.form.get("name", "").strip()
    if password != visit.form.get("again", ""):
        return await _entrance(visit, renderer, code, wrong="me.not_the_same", name=name)
    body = {"code": code, "name": name, "password": password}
    try:
        api = visit.api.with_wait(PROOF_MAX_S)
        session = await api.send("POST", "/invitations/accept", NewSession, body)
    except ApiRefusal as refusal:
        known = refusal.code in ("rate_limit_exceeded", "overloaded", "timeout")
        wrong = f"entry.{refusal.code}" if known else "entry.not_done"
        return await _entrance(visit, renderer, code, wrong, name, refusal.status)
    return OpenAnswer(RedirectResponse("/console", 303), session.token)


async def _entrance(
    visit: Visit,
    renderer: Renderer,
    code: str,
    wrong: str = "",
    name: str | None = None,
    status: int = 400,
) -> OpenAnswer:
    """The form; of a link that leads nowhere, what to do instead."""
    code = code[:CODE_CHARACTERS_MAX]
    try:
        seen = await visit.api.send("POST", "/invitations/look", SeenInvitation, {"code": code})
    except ApiRefusal as refusal:
        busy = refusal.code in ("rate_limit_exceeded", "timeout")
        what = f"entry.{refusal.code}" if busy else "invitation.over"
        page = renderer.alone(
            "entry_refused.html", visit.preferences, refusal.status, what=what, here=ENTRANCE
        )
        return OpenAnswer(page)
    page = renderer.alone(
        "invitation.html", visit.preferences, status if wrong else 200, seen=seen, code=code,
        wrong=wrong, name=seen.name if name is None else name, here=f"{ENTRANCE}?code={code}",
    )  # fmt: skip
    return OpenAnswer(page)


OPEN_PAGES: OpenPages = {("GET", ENTRANCE): enter, ("POST", ENTRANCE): accept}
