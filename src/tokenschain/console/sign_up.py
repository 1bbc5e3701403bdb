"""Sign-up pages: who wants an account asks for it, and confirms the address by a link."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import ApiRefusal
from tokenschain.console.rendering import OpenAnswer, OpenPages, Renderer
from tokenschain.console.step_up import PROOF_MAX_S
from tokenschain.console.visit import Visit

PATH = "/console/sign-up"
CONFIRM = "/console/confirm"
FIELDS = ("email", "organization")
CODE_CHARACTERS_MAX = 100
_KNOWN = ("rate_limit_exceeded", "overloaded", "timeout", "account_locked")
_OF_FIELD = ("email", "password", "organization", "accepted_terms")


class SeenSignUp(msgspec.Struct):
    """What waits for a confirmation; see `POST /sign-ups/look`."""

    email: str
    organization: str


class NewTenant(msgspec.Struct):
    """A tenant that was made, with its first key; see `POST /sign-ups/confirm`."""

    token: str
    tenant: str
    key: str
    credit_pico: int


async def ask(visit: Visit, renderer: Renderer) -> OpenAnswer:
    """The form for an account."""
    return _form(visit, renderer, dict.fromkeys(FIELDS, ""))


async def sign_up(visit: Visit, renderer: Renderer) -> OpenAnswer:
    """Ask for an account; the answer is the same for addresses that have one already."""
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    password = visit.form.get("password", "")
    if password != visit.form.get("again", ""):
        return _form(visit, renderer, given, "me.not_the_same", 400)
    body = given | {"password": password, "accepted_terms": visit.form.get("terms") == "on"}
    try:
        await visit.api.with_wait(PROOF_MAX_S).send("POST", "/sign-ups", msgspec.Raw, body)
    except ApiRefusal as refusal:
        wrong = "sign_up.not_done"
        if refusal.code in _KNOWN:
            wrong = f"entry.{refusal.code}"
        elif refusal.param in _OF_FIELD:
            wrong = f"sign_up.wrong.{refusal.param}"
        return _form(visit, renderer, given, wrong, refusal.status)
    page = renderer.alone("sign_up_sent.html", visit.preferences, email=given["email"], here=PATH)
    return OpenAnswer(page)


def _form(
    visit: Visit, renderer: Renderer, given: dict[str, str], wrong: str = "", status: int = 200
) -> OpenAnswer:
    if renderer.sign_up is None:
        return OpenAnswer(_refused(visit, renderer, "sign_up.closed", 404))
    page = renderer.alone(
        "sign_up.html", visit.preferences, status, given=given, wrong=wrong, here=PATH
    )
    return OpenAnswer(page)


def _refused(visit: Visit, renderer: Renderer, what: str, status: int) -> Response:
    return renderer.alone("entry_refused.html", visit.preferences, status, what=what, here=PATH)


async def enter(visit: Visit, renderer: Renderer) -> OpenAnswer:
    """The form for the password, by a link; looking at it uses nothing up."""
    return await _confirmation(visit, renderer, visit.query.get("code", ""))


async def confirm(visit: Visit, renderer: Renderer) -> OpenAnswer:
    """Confirm the address with the password; the first key is shown this once."""
    code = visit.form.get("code", "")[:CODE_CHARACTERS_MAX]
    body = {"code": code, "password": visit.form.get("password", "")}
    try:
        api = visit.api.with_wait(PROOF_MAX_S)
        made = await api.send("POST", "/sign-ups/confirm", NewTenant, body)
    except ApiRefusal as refusal:
        wrong = f"entry.{refusal.code}" if refusal.code in _KNOWN else "sign_up.wrong_password"
        return await _confirmation(visit, renderer, code, wrong, refusal.status)
    page = renderer.alone("signed_up.html", visit.preferences, made=made, here="/console")
    return OpenAnswer(page, made.token)


async def _confirmation(
    visit: Visit, renderer: Renderer, code: str, wrong: str = "", status: int = 200
) -> OpenAnswer:
    """The form; of a link that leads nowhere, what to do instead."""
    code = code[:CODE_CHARACTERS_MAX]
    try:
        seen = await visit.api.send("POST", "/sign-ups/look", SeenSignUp, {"code": code})
    except ApiRefusal as refusal:
        what = f"entry.{refusal.code}" if refusal.code in _KNOWN else "sign_up.over"
        return OpenAnswer(_refused(visit, renderer, what, refusal.status))
    page = renderer.alone(
        "sign_up_confirm.html", visit.preferences, status, seen=seen, code=code, wrong=wrong,
        here=f"{CONFIRM}?code={code}",
    )  # fmt: skip
    return OpenAnswer(page)


OPEN_PAGES: OpenPages = {
    ("GET", PATH): ask,
    ("POST", PATH): sign_up,
    ("GET", CONFIRM): enter,
    ("POST", CONFIRM): confirm,
}
