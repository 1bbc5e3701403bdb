"""Page of one's own account: password, second factor, sign-ins, tokens, language and theme."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.step_up import PROOF_MAX_S, second_factor
from tokenschain.console.tokens import tokens_of
from tokenschain.console.visit import THEMES, Visit
from tokenschain.infra import qr

PATH = "/console/me"
PASSWORD = f"{PATH}/password"
SECOND_FACTOR = f"{PATH}/second-factor"
SIGN_IN_AGAIN = "/console/sign-in?changed=password"
GROUP_CHARACTERS = 4
"""Of a secret, so that it can be typed."""


class FactorOffer(msgspec.Struct):
    """A secret for an authenticator app; see `POST /me/totp`."""

    secret: str
    uri: str


class RecoveryCodes(msgspec.Struct):
    """Codes that are shown once; see `POST /me/totp/confirm`."""

    recovery_codes: list[str]


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Who I am, what I may do where, and where I am signed in."""
    return await _page(visit, renderer)


async def change_password(visit: Visit, renderer: Renderer) -> Response:
    """Change the own password; every sign-in ends, this one too."""
    new = visit.form.get("new", "")
    if new != visit.form.get("again", ""):
        return await _page(visit, renderer, wrong="me.not_the_same")
    body = {"old": visit.form.get("old", ""), "new": new}
    body |= second_factor(visit.form.get("code", ""))
    try:
        await visit.api.with_wait(PROOF_MAX_S).send("POST", "/me/password", msgspec.Raw, body)
    except ApiRefusal as refusal:
        return await _page(visit, renderer, refusal)
    return RedirectResponse(SIGN_IN_AGAIN, 303)


async def _page(
    visit: Visit, renderer: Renderer, refusal: ApiRefusal | None = None, wrong: str = ""
) -> Response:
    """The page; after a refusal, of the password."""
    reads = {"tokens": tokens_of(visit, visit.reader.id)} if visit.reader.account else {}
    parts = await visit.parts(**reads)
    return renderer.form(
        "me.html", visit, refusal, wrong, account=visit.reader.account, themes=THEMES,
        tokens=parts.get("tokens"),
    )  # fmt: skip


# --- second factor -----------------------------------------------------------------------------


async def lead(visit: Visit, renderer: Renderer) -> Response:
    """What a second factor is for, before anything else where it is demanded."""
    if not visit.reader.must_set_up_factor:
        return RedirectResponse(PATH, 303)
    return renderer.page("factor_demanded.html", visit)


async def offer(visit: Visit, renderer: Renderer) -> Response:
    """A secret for an authenticator app; nothing is changed until a code of it was typed."""
    made = await visit.api.send("POST", "/me/totp", FactorOffer)
    return _offer_form(visit, renderer, made)


async def confirm(visit: Visit, renderer: Renderer) -> Response:
    """Put the second factor in force, and show its recovery codes this once."""
    made = FactorOffer(visit.form.get("secret", ""), visit.form.get("uri", ""))
    body = {
        "secret": made.secret,
        "code": visit.form.get("code", "").replace(" ", ""),
        "password": visit.form.get("password", ""),
    }
    old = second_factor(visit.form.get("old_code", ""))
    if "code" in old:
        old["old_code"] = old.pop("code")
    try:
        path = "/me/totp/confirm"
        api = visit.api.with_wait(PROOF_MAX_S)
        codes = await api.send("POST", path, RecoveryCodes, body | old)
    except ApiRefusal as refusal:
        return _offer_form(visit, renderer, made, refusal)
    return renderer.page("recovery_codes.html", visit, codes=codes.recovery_codes)


def _offer_form(
    visit: Visit, renderer: Renderer, made: FactorOffer, refusal: ApiRefusal | None = None
) -> Response:
    # The address is a link: what came back with the form may be no other kind of one.
    uri = made.uri if made.uri.startswith("otpauth://totp/") else ""
    steps = range(0, len(made.secret), GROUP_CHARACTERS)
    spelled = " ".join(made.secret[at : at + GROUP_CHARACTERS] for at in steps)
    return renderer.form(
        "second_factor.html", visit, refusal, made=made, uri=uri, spelled=spelled,
        account=visit.reader.account, picture=qr.draw(uri),
    )  # fmt: skip


PAGES: Pages = {
    ("GET", PATH): show,
    ("POST", PASSWORD): change_password,
    ("GET", SECOND_FACTOR): lead,
    ("POST", SECOND_FACTOR): offer,
    ("POST", f"{SECOND_FACTOR}/confirm"): confirm,
}
