"""Silences of alerts on the alerts page: listed, added and ended."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit
from tokenschain.core.presentation import SHANGHAI
from tokenschain.infra.security import secrets

ALERTS = "/console/alerts"
PATH = f"{ALERTS}/silence"
LISTED_MAX = 200
LASTS_S = 4 * 3_600
"""Suggested."""
KINDS = (
    "budget_reached", "budget_forecast", "cache_false_hits", "records_rejected",
    "configuration_refused", "moderation_packs_stale", "upstream_down",
    "incident_report_due",
)  # fmt: skip
"""See `POST /alert-silences`."""
FIELDS = ("of", "kind", "upstream", "from", "until", "reason")


class AlertSilence(msgspec.Struct):
    """Alerts that are not sent for a while; see `GET /alert-silences`."""

    id: str
    tenant: str
    kind: str
    upstream: str
    from_s: int
    expires_at_s: int
    reason: str
    created_by: str
    ended_by: str | None = None

    def is_over(self, now_s: float) -> bool:
        """Whether it has ended, by itself or by somebody."""
        return self.expires_at_s <= now_s

    def holds(self, now_s: float) -> bool:
        """Whether it is in force."""
        return self.from_s <= now_s and not self.is_over(now_s)


class AlertSilences(msgspec.Struct):
    """A page of them."""

    data: list[AlertSilence]


async def silences(visit: Visit) -> AlertSilences:
    """Those of now, and those that ended lately."""
    query = {"limit": LISTED_MAX, "tenant": visit.tenant}
    return await visit.api.get("/alert-silences", AlertSilences, query)


def upstream_silence(
    known: Sequence[AlertSilence], upstream: str, now_s: float
) -> AlertSilence | None:
    """A silence that holds for whatever is about an upstream."""
    return next(
        (one for one in known
         if one.upstream == upstream and not one.kind and not one.tenant and one.holds(now_s)),
        None,
    )  # fmt: skip


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for a new silence."""
    given = {name: visit.query.get(name, "") for name in ("kind", "upstream")}
    given |= {"of": visit.shown_tenant or "", "until": _typed(time.time() + LASTS_S)}
    return _form(visit, renderer, given)


async def add(visit: Visit, renderer: Renderer) -> Response:
    """Add a silence."""
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    begins, ends = _moment(given["from"]), _moment(given["until"])
    if ends is None or (given["from"] and begins is None):
        return _form(visit, renderer, given, wrong="silence.no_time")
    body = {
        "tenant": given["of"], "kind": given["kind"], "upstream": given["upstream"],
        "reason": given["reason"], "expires_at_s": ends, "from_s": begins,
    }  # fmt: skip
    try:
        await visit.api.send("POST", "/alert-silences", msgspec.Raw, body, visit.once)
    except ApiRefusal as refusal:
        return _form(visit, renderer, given, refusal=refusal)
    return RedirectResponse(visit.link(ALERTS) + "#silences", 303)


async def end(visit: Visit, renderer: Renderer) -> Response:
    """End a silence now."""
    name = segment(visit.form.get("silence", ""))
    await visit.api.send("POST", f"/alert-silences/{name}/end", msgspec.Raw)
    return RedirectResponse(visit.link(ALERTS) + "#silences", 303)


def _typed(at_s: float) -> str:
    """A time as browsers' fields take it, in China."""
    return datetime.fromtimestamp(at_s, SHANGHAI).strftime("%Y-%m-%dT%H:%M")


def _moment(text: str) -> int | None:
    """Unix time of what was typed; None where it is none."""
    try:
        found = datetime.fromisoformat(text)
        return int(found.replace(tzinfo=found.tzinfo or SHANGHAI).timestamp())
    except (ValueError, OverflowError):
        return None


def _form(
    visit: Visit,
    renderer: Renderer,
    given: dict[str, str],
    *,
    wrong: str = "",
    refusal: ApiRefusal | None = None,
) -> Response:
    full = {name: given.get(name, "") for name in FIELDS}
    return renderer.form(
        "silence_new.html", visit, refusal, wrong, given=full, kinds=KINDS,
        once=secrets.new_id("once"),
    )  # fmt: skip


PAGES: Pages = {
    ("GET", f"{PATH}/new"): ask,
    ("POST", f"{PATH}/new"): add,
    ("POST", f"{PATH}/end"): end,
}
