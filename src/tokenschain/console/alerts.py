"""Alerts page: what is open, what was found before, and the targets that are told."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import OpenAnswer, OpenPages, Pages, Renderer
from tokenschain.console.silences import silences
from tokenschain.console.strings import STRINGS
from tokenschain.console.visit import Visit
from tokenschain.core import presentation
from tokenschain.core.presentation import SHANGHAI
from tokenschain.infra.security import secrets

PATH = "/console/alerts"
CONFIRM = "/console/confirm-alerts"
CODE_CHARACTERS_MAX = 100
LISTED_MAX = 50
TARGETS_MAX = 200
DAY_S = 86_400
TARGET_KINDS = ("webhook", "dingtalk", "feishu", "wecom", "email")
FIELDS = ("of", "kind", "name", "address")
WATCHED = (
    "budget_reached", "budget_forecast", "cache_false_hits", "records_rejected",
    "configuration_refused", "second_factor_reset", "moderation_packs_stale", "upstream_down",
    "audit_differs", "audit_unwitnessed", "audit_unanchored", "audit_unsealed",
    "audit_receipt_broken",
    "incident_report_due",
)  # fmt: skip
_BUDGETS = ("budget_reached", "budget_forecast")


class AlertRow(msgspec.Struct):
    """What was found, and whether it was sent; see `GET /alerts`."""

    id: str
    tenant: str
    at_s: int
    kind: str
    detail: dict[str, object]
    tries: int
    sent_at_s: int | None
    targets_left: str | None
    acknowledged_at_s: int | None = None
    acknowledged_by: str | None = None
    silenced_by: str | None = None

    @property
    def missed(self) -> list[str]:
        """Targets that were not reached in the end."""
        if self.sent_at_s is None or not self.targets_left:
            return []
        return msgspec.json.decode(self.targets_left, type=list[str])

    def is_open(self, now_s: float) -> bool:
        """Whether it still holds: a budget's until its period is over, others' for a day, and
        each as long as it is being sent."""
        if self.sent_at_s is None:
            return True
        if self.kind == "test":
            return False
        if self.kind in _BUDGETS:
            return now_s < self._period_ends_s()
        return now_s - self.at_s < DAY_S

    def _period_ends_s(self) -> float:
        match self.detail.get("period"), self.detail.get("period_s"):
            case "total", _:
                return float("inf")
            case "month", int(begins):
                first = datetime.fromtimestamp(begins, SHANGHAI) + timedelta(days=32)
                return presentation.midnight(first.replace(day=1).timestamp())
            case _, int(begins):
                return begins + DAY_S
        return self.at_s + DAY_S


class AlertList(msgspec.Struct):
    """A page of alerts."""

    data: list[AlertRow]
    next_cursor: str | None = None


class AlertTarget(msgspec.Struct):
    """Where alerts go; see `GET /alert-targets`."""

    id: str
    kind: str
    name: str
    tenant: str
    created_at_s: int
    confirmed_at_s: int | None


class AlertTargets(msgspec.Struct):
    """All of them."""

    data: list[AlertTarget]
    next_cursor: str | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Alerts, the latest first, and targets."""
    return await _page(visit, renderer, None)


async def _page(visit: Visit, renderer: Renderer, refusal: ApiRefusal | None) -> Response:
    query = {"limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant}
    alerts = visit.api.get("/alerts", AlertList, query)
    if visit.fragment == "alerts":
        parts = await visit.parts(alerts=alerts)
    else:
        parts = await visit.parts(alerts=alerts, targets=_targets(visit), silences=silences(visit))
    found, now_s = parts["alerts"].data, time.time()
    rows = found.data if found else []
    template = "_alerts.html" if visit.fragment == "alerts" else "alerts.html"
    return renderer.form(
        template, visit, refusal, alerts=parts["alerts"], targets=parts.get("targets"),
        silences=parts.get("silences"),
        groups=[("open", [one for one in rows if one.is_open(now_s)]),
                ("past", [one for one in rows if not one.is_open(now_s)])],
        said={one.id: sentence(visit, one) for one in rows}, watched=WATCHED,
        tested=bool(visit.query.get("tested")),
    )  # fmt: skip


async def _targets(visit: Visit) -> AlertTargets:
    query = {"limit": TARGETS_MAX, "tenant": visit.tenant}
    return await visit.api.get("/alert-targets", AlertTargets, query)


def sentence(visit: Visit, alert: AlertRow) -> str:
    """An alert in one sentence of the reader's language."""
    key = f"alerts.said.{alert.kind}"
    if key not in STRINGS:
        return msgspec.json.encode(alert.detail).decode()
    words = {name: _word(value) for name, value in alert.detail.items()}
    if alert.kind in _BUDGETS:
        measure = words.get("measure", "")
        for name in ("spent", "amount", "forecast"):
            words[name] = _amount(alert.detail.get(name), measure, visit)
    elif alert.kind == "cache_false_hits":
        for name in ("false_hit_rate", "low", "high", "false_hit_rate_max"):
            given = alert.detail.get(name)
            words[name] = presentation.share(given if isinstance(given, float) else None, 2)
    return visit.text(key, **{name: words.get(name, presentation.UNKNOWN) for name in _NAMES})


_NAMES = (
    "budget", "percent", "spent", "amount", "forecast", "subject", "false_hit_rate", "low", "high",
    "checked", "false_hit_rate_max", "count", "reason", "email", "by", "days", "expired",
    "missing", "upstream",
)  # fmt: skip
"""Every value that a sentence may have."""


def _word(value: object) -> str:
    if isinstance(value, list):
        return " / ".join(str(part) for part in value) or presentation.UNKNOWN
    return str(value)


def _amount(value: object, measure: str, visit: Visit) -> str:
    if not isinstance(value, int):
        return presentation.UNKNOWN
    if measure == "spend":
        return presentation.money(value, "CNY", visit.language)
    return f"{value:,} {measure}"


# --- targets -------------------------------------------------------------------------------


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for a new target."""
    whose = visit.shown_tenant or ""
    return _form(visit, renderer, {"of": whose, "kind": TARGET_KINDS[0]}, None)


async def add(visit: Visit, renderer: Renderer) -> Response:
    """Add a target; its address and secret are not shown again."""
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    body = {name: given[name] for name in FIELDS if name != "of"}
    body |= {"tenant": given["of"], "secret": visit.form.get("secret", "")}
    try:
        await visit.api.send("POST", "/alert-targets", msgspec.Raw, body, visit.once)
    except ApiRefusal as refusal:
        return _form(visit, renderer, given, refusal)
    return RedirectResponse(visit.link(PATH), 303)


def _form(
    visit: Visit, renderer: Renderer, given: dict[str, str], refusal: ApiRefusal | None
) -> Response:
    full = {name: given.get(name, "") for name in FIELDS}
    return renderer.form(
        "alert_target_new.html", visit, refusal, given=full, kinds=TARGET_KINDS,
        once=secrets.new_id("once"),
    )  # fmt: skip


async def test(visit: Visit, renderer: Renderer) -> Response:
    """Send a target a test message; the list says whether it arrived."""
    target = segment(visit.form.get("target", ""))
    try:
        await visit.api.send("POST", f"/alert-targets/{target}/test", AlertRow)
    except ApiRefusal as refusal:
        return await _page(visit, renderer, refusal)
    return RedirectResponse(visit.link(PATH, tested="1"), 303)


async def acknowledge(visit: Visit, renderer: Renderer) -> Response:
    """Say that the reader looks after an alert."""
    alert = segment(visit.form.get("alert", ""))
    try:
        await visit.api.send("POST", f"/alerts/{alert}/acknowledge", msgspec.Raw)
    except ApiRefusal as refusal:
        return await _page(visit, renderer, refusal)
    return RedirectResponse(visit.link(PATH), 303)


async def confirm(visit: Visit, renderer: Renderer) -> Response:
    """What taking a target away does, with its name to type."""
    return await _confirmation(visit, renderer, visit.query.get("target", ""), "", None)


async def remove(visit: Visit, renderer: Renderer) -> Response:
    """Take a target away whose name was typed."""
    given = visit.form.get("target", "")
    target = await _target(visit, given)
    if visit.form.get("typed", "") != target.name:
        return await _confirmation(visit, renderer, given, "keys.not_the_name", None)
    try:
        await visit.api.send("DELETE", f"/alert-targets/{segment(target.id)}", msgspec.Raw)
    except ApiRefusal as refusal:
        return await _confirmation(visit, renderer, given, "", refusal)
    return RedirectResponse(visit.link(PATH), 303)


async def _confirmation(
    visit: Visit, renderer: Renderer, given: str, wrong: str, refusal: ApiRefusal | None
) -> Response:
    target = await _target(visit, given)
    return renderer.form("alert_target_remove.html", visit, refusal, wrong, target=target)


async def _target(visit: Visit, target_id: str) -> AlertTarget:
    """One of the targets that may be seen.

    Raises:
        ApiRefusal: it is none of them.
    """
    found = await _targets(visit)
    target = next((one for one in found.data if one.id == target_id), None)
    if target is None:
        raise ApiRefusal(404, "not_found", "There is no such target.", "target")
    return target


# --- by who reads the mail ------------------------------------------------------------------


async def enter(visit: Visit, renderer: Renderer) -> OpenAnswer:
    """The form that confirms a mail address, by a link; looking at it uses nothing up."""
    code = visit.query.get("code", "")[:CODE_CHARACTERS_MAX]
    return OpenAnswer(renderer.alone(
        "alert_target_confirm.html", visit.preferences, code=code, done=False,
        here=f"{CONFIRM}?code={code}",
    ))  # fmt: skip


async def confirm_address(visit: Visit, renderer: Renderer) -> OpenAnswer:
    """Confirm the address."""
    code = visit.form.get("code", "")[:CODE_CHARACTERS_MAX]
    try:
        await visit.api.send("POST", "/alert-targets/confirm", msgspec.Raw, {"code": code})
    except ApiRefusal as refusal:
        busy = refusal.code in ("rate_limit_exceeded", "timeout")
        what = f"entry.{refusal.code}" if busy else "targets.link_over"
        return OpenAnswer(renderer.alone(
            "entry_refused.html", visit.preferences, refusal.status, what=what, here=CONFIRM
        ))  # fmt: skip
    return OpenAnswer(renderer.alone(
        "alert_target_confirm.html", visit.preferences, code="", done=True, here=CONFIRM
    ))  # fmt: skip


OPEN_PAGES: OpenPages = {("GET", CONFIRM): enter, ("POST", CONFIRM): confirm_address}

PAGES: Pages = {
    ("GET", PATH): show,
    ("POST", f"{PATH}/acknowledge"): acknowledge,
    ("GET", f"{PATH}/target/new"): ask,
    ("POST", f"{PATH}/target/new"): add,
    ("POST", f"{PATH}/target/test"): test,
    ("GET", f"{PATH}/target/remove"): confirm,
    ("POST", f"{PATH}/target/remove"): remove,
}
