"""Sign-ins and programs' tokens in the console: one's own, and those of service accounts."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.session_cookie import own_path
from tokenschain.console.visit import Visit
from tokenschain.core.tenancy import ACTIONS

NEW = "/console/tokens/new"
END = "/console/tokens/end"
DAY_S = 86_400
LASTS_DAYS = (1, 7, 30, 90, 365)
EVERYTHING = "*"


class PersonToken(msgspec.Struct):
    """A sign-in or a program's token; see `GET /users/{user_id}/tokens`."""

    id: str
    kind: str
    name: str
    created_at_s: int
    expires_at_s: int
    permissions: list[str]


class PersonTokens(msgspec.Struct):
    """Those of one account."""

    data: list[PersonToken]

    @property
    def latest(self) -> list[PersonToken]:
        """The newest first."""
        return self.data[::-1]


class ShownToken(msgspec.Struct):
    """A new token; it is shown once."""

    id: str
    token: str
    expires_at_s: int


async def tokens_of(visit: Visit, user_id: str) -> PersonTokens:
    """An account's sign-ins and tokens."""
    return await visit.api.get(f"/users/{segment(user_id)}/tokens", PersonTokens)


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for a new token, of the reader's own by default."""
    given = {"person": visit.query.get("person") or visit.reader.id, "name": "", "days": "90"}
    return _form(visit, renderer, given)


async def issue(visit: Visit, renderer: Renderer) -> Response:
    """Issue a token, and show it this once."""
    person = visit.form.get("person", "")
    chosen = [action for action in ACTIONS if visit.form.get(f"may {action}")]
    if visit.form.get("may *"):
        chosen = [EVERYTHING]
    days = visit.form.get("days", "")
    given = {"person": person, "name": visit.form.get("name", "").strip(), "days": days}
    body = {
        "name": given["name"],
        "lasts_s": DAY_S * (int(days) if days in map(str, LASTS_DAYS) else 1),
        "permissions": chosen,
    }
    try:
        path = f"/users/{segment(person)}/tokens"
        made = await visit.api.send("POST", path, ShownToken, body)
    except ApiRefusal as refusal:
        return _form(visit, renderer, given, chosen, refusal)
    return renderer.page("token_issued.html", visit, made=made, given=given, back=_back(visit))


def _form(
    visit: Visit,
    renderer: Renderer,
    given: dict[str, str],
    chosen: list[str] | None = None,
    refusal: ApiRefusal | None = None,
) -> Response:
    return renderer.form(
        "token_new.html", visit, refusal, given=given, chosen=chosen or [], lasts=LASTS_DAYS,
        actions=ACTIONS, back=_back(visit),
    )  # fmt: skip


async def end(visit: Visit, _renderer: Renderer) -> Response:
    """End a sign-in or a token."""
    path = f"/tokens/{segment(visit.form.get('token', ''))}"
    await visit.api.send("DELETE", path, msgspec.Raw)
    return RedirectResponse(_back(visit), 303)


def _back(visit: Visit) -> str:
    """The page that led here."""
    back = own_path(visit.form.get("back", "") or visit.query.get("back", ""))
    return back if back != "/console" else "/console/me"


PAGES: Pages = {("GET", NEW): ask, ("POST", NEW): issue, ("POST", END): end}
