"""Limits page: rates and budgets with what is used; made, changed and taken away."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, get_args

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import Visit, forbidden
from tokenschain.core.limits import PER, SLOTS, Measure, OnUnavailable, Selector
from tokenschain.core.presentation import PICO_DIGITS, exact_decimal
from tokenschain.core.pricing.catalog import PICO_PER_UNIT

PATH = "/console/limits"
EDIT = f"{PATH}/edit"
LISTED_MAX = 75
WRITE = "limits:write"
KINDS = ("rate", "budget")
MEASURES: dict[str, tuple[str, ...]] = {
    "rate": get_args(Measure),
    "budget": tuple(one for one in get_args(Measure) if one != "concurrent"),
}
WINDOWS = tuple(map(str, SLOTS))
PERIODS = ("day", "month", "total")
UNAVAILABLE: tuple[str, ...] = get_args(OnUnavailable)
CHOICES = {
    "measure": MEASURES["rate"],
    "window": WINDOWS,
    "period": PERIODS,
    "on_unavailable": UNAVAILABLE,
}
"""Fields of the form that are one of several."""
MATCH = ("project", "account", "environment", "key_id", "model", "tag")
FIELDS = {
    "rate": (
        "measure", "amount", "window", *MATCH, *(f"per_{name}" for name in PER), "per_tag",
        "wait", "burst_when_idle", "on_unavailable",
    ),
    "budget": (
        "measure", "amount", "period", *MATCH, *(f"per_{name}" for name in PER), "per_tag",
        "hard", "alerts", "on_unavailable",
    ),
}  # fmt: skip
"""Of the form, by kind; what stays as it is made, tenant and name, comes beside them."""
COUNTS_SHOWN = 3
_AMOUNT = re.compile(r"\d{1,16}(?:\.\d{1,12})?", re.ASCII)
_WHOLE = re.compile(r"\d{1,19}", re.ASCII)
_SECONDS = re.compile(r"\d{1,4}(?:\.\d{1,6})?", re.ASCII)


class BudgetCount(msgspec.Struct):
    """What is used of one count of a budget in its period."""

    subject: list[str]
    spent: int
    promised: int


class Limit(msgspec.Struct, kw_only=True):
    """A rate or budget; see `GET /limits`."""

    id: str
    kind: str
    tenant: str
    measure: str
    amount: int
    match: Selector
    per: list[str]
    on_unavailable: str
    alerts: list[int]
    version: int
    set_by_platform: bool
    window_s: int = 0
    wait_s: float = 0.0
    burst_when_idle: bool = False
    period: str = ""
    hard: bool = True
    wallet: bool = False
    used: list[BudgetCount] = []
    counts: int = 0

    @property
    def name(self) -> str:
        """Of its id, without the tenant."""
        return self.id.rpartition("/")[2]

    @property
    def scope(self) -> list[tuple[str, str]]:
        """What it is for: fields and the values that calls must have."""
        return [(name, getattr(self.match, name)) for name in MATCH if getattr(self.match, name)]

    @property
    def fullest(self) -> list[BudgetCount]:
        """The counts that most is used of."""
        ranked = sorted(self.used, key=lambda one: (-one.spent - one.promised, one.subject))
        return ranked[:COUNTS_SHOWN]

    def may_change(self, visit: Visit) -> bool:
        """Whether the reader may change it, or take it away."""
        if self.wallet or (self.set_by_platform and not visit.reader.may_at(WRITE)):
            return False
        where = {name: getattr(self.match, name) for name in MATCH[:3]}
        return visit.reader.may_at(WRITE, self.tenant, model=self.match.model, **where)


class LimitList(msgspec.Struct):
    """A page of them."""

    data: list[Limit]
    next_cursor: str | None = None


class Difference(NamedTuple):
    """A field that somebody else changed meanwhile."""

    field: str
    given: str
    now: str


async def show(visit: Visit, renderer: Renderer) -> Response:
    """Rates and budgets, by id."""
    query = {
        "limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant
    }  # fmt: skip
    parts = await visit.parts(limits=visit.api.get("/limits", LimitList, query))
    return renderer.page_or_part(
        "limits.html", "_limits.html", visit, limits=parts["limits"], kinds=KINDS
    )


# --- making and changing -----------------------------------------------------------------------


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for a limit, filled in with how it is now; or for a new one."""
    limit_id = visit.query.get("limit", "")
    if limit_id:
        limit = await _read(visit, limit_id)
        if not limit.may_change(visit):
            raise forbidden(WRITE)
        return _form(visit, renderer, _given_of(limit), limit.version)
    if not visit.reader.may(WRITE):
        raise forbidden(WRITE)
    kind = visit.choice("kind", KINDS)
    given = dict.fromkeys(FIELDS[kind], "") | {
        "kind": kind, "tenant": visit.shown_tenant or "", "name": "", "measure": "requests",
        "project": visit.project(WRITE) or "", "on_unavailable": "allow",
    }  # fmt: skip
    if kind == "rate":
        given |= {"window": "60"}
    else:
        given |= {"measure": "spend", "period": "month", "hard": "on", "alerts": "50 80 100",
                  "on_unavailable": "deny"}  # fmt: skip
    return _form(visit, renderer, given, None)


async def save(visit: Visit, renderer: Renderer) -> Response:
    """Set a limit: a new one only where there is none of its name, another only where nobody has
    changed it since the form was shown. Else both versions are shown side by side."""
    given = _given_in(visit)
    version = _version(visit)
    limit_id = f"{given['tenant']}/{given['name']}" if given["tenant"] else given["name"]
    headers = {"if-none-match": "*"} if version is None else {"if-match": f'"{version}"'}
    try:
        path = f"/limits/{segment(limit_id)}"
        await visit.api.send("PUT", path, msgspec.Raw, _body(given), headers)
    except ApiRefusal as refusal:
        now = await _now(visit, limit_id) if refusal.status == 412 else None
        return _form(visit, renderer, given, version, refusal, now)
    return RedirectResponse(visit.link(PATH), 303)


def _form(
    visit: Visit,
    renderer: Renderer,
    given: dict[str, str],
    version: int | None,
    refusal: ApiRefusal | None = None,
    now: Limit | None = None,
) -> Response:
    """The form; after a refusal with what was typed, and what there is now."""
    is_new = version is None
    if now is not None and not is_new:
        version = now.version  # who sends it again has seen both
    elif refusal is not None and refusal.status == 412:
        version = None
    return renderer.form(
        "limit_edit.html", visit, refusal, given=given, version=version, is_new=is_new,
        now=now, differences=_differences(given, now), matched=MATCH, per=PER,
        choices=CHOICES | {"measure": MEASURES[given["kind"]]},
    )  # fmt: skip


# --- taking away -------------------------------------------------------------------------------


async def confirm(visit: Visit, renderer: Renderer) -> Response:
    """What taking a limit away does, with its name to type."""
    limit = await _read(visit, visit.query.get("limit", ""))
    if not limit.may_change(visit):
        raise forbidden(WRITE)
    return _removal_form(visit, renderer, limit, _given_of(limit))


async def remove(visit: Visit, renderer: Renderer) -> Response:
    """Take a limit away whose name was typed, unless it was changed since the page was read."""
    limit_id = visit.form.get("limit", "")
    limit = await _read(visit, limit_id)
    given = _given_in(visit)
    if visit.form.get("typed", "") != limit.name:
        return _removal_form(visit, renderer, limit, given, wrong="limits.not_the_name")
    headers = {"if-match": f'"{_version(visit) or 0}"'}
    try:
        path = f"/limits/{segment(limit_id)}"
        await visit.api.send("DELETE", path, msgspec.Raw, headers=headers)
    except ApiRefusal as refusal:
        return _removal_form(visit, renderer, limit, given, refusal)
    return RedirectResponse(visit.link(PATH), 303)


def _removal_form(
    visit: Visit,
    renderer: Renderer,
    limit: Limit,
    given: Mapping[str, str],
    refusal: ApiRefusal | None = None,
    wrong: str = "",
) -> Response:
    is_stale = refusal is not None and refusal.status == 412
    return renderer.form(
        "limit_remove.html", visit, refusal, wrong, limit=limit, now=_given_of(limit),
        choices=CHOICES, differences=_differences(given, limit if is_stale else None),
    )  # fmt: skip


# --- between the form and the API ----------------------------------------------------------------


async def _read(visit: Visit, limit_id: str) -> Limit:
    return await visit.api.get(f"/limits/{segment(limit_id)}", Limit)


async def _now(visit: Visit, limit_id: str) -> Limit | None:
    """The limit as it is; None where it is gone, or not the reader's to see."""
    try:
        return await _read(visit, limit_id)
    except ApiRefusal:
        return None


def _given_in(visit: Visit) -> dict[str, str]:
    """What a form was sent with."""
    kind = visit.form.get("kind", "")
    kind = kind if kind in KINDS else KINDS[0]
    names = ("tenant", "name", *FIELDS[kind])
    return {"kind": kind} | {name: visit.form.get(name, "").strip() for name in names}


def _version(visit: Visit) -> int | None:
    text = visit.form.get("version", "")
    return int(text) if _WHOLE.fullmatch(text) else None


def _given_of(limit: Limit) -> dict[str, str]:
    """A limit as its form holds it."""
    digits = PICO_DIGITS if limit.measure == "spend" else 0
    found = {
        "kind": limit.kind, "tenant": limit.tenant, "name": limit.name, "measure": limit.measure,
        "amount": exact_decimal(limit.amount, digits, ""), "on_unavailable": limit.on_unavailable,
        **{name: getattr(limit.match, name) for name in MATCH},
        **{f"per_{name}": "on" if name in limit.per else "" for name in PER},
        "per_tag": next((one[4:] for one in limit.per if one.startswith("tag:")), ""),
    }  # fmt: skip
    if limit.kind == "rate":
        burst = "on" if limit.burst_when_idle else ""
        own = {"window": str(limit.window_s), "wait": f"{limit.wait_s:g}", "burst_when_idle": burst}
    else:
        alerts = " ".join(map(str, limit.alerts))
        own = {"period": limit.period, "hard": "on" if limit.hard else "", "alerts": alerts}
    return found | own


def _body(given: Mapping[str, str]) -> dict[str, object]:
    """What the API is sent.

    Raises:
        ApiRefusal: a field is no number.
    """
    per = [name for name in PER if given[f"per_{name}"]]
    if given["per_tag"]:
        per.append(f"tag:{given['per_tag']}")
    body: dict[str, object] = {
        "kind": given["kind"], "measure": given["measure"], "amount": _amount(given), "per": per,
        "match": {name: given[name] for name in ("tenant", *MATCH)},
        "on_unavailable": given["on_unavailable"] or "allow",
    }  # fmt: skip
    if given["kind"] == "rate":
        wait = given["wait"] or "0"
        if not _SECONDS.fullmatch(wait):
            raise _no_number("wait_s", wait)
        window_s = int(given["window"]) if given["window"] in WINDOWS else 60
        return body | {"window_s": window_s, "wait_s": float(wait),
                       "burst_when_idle": bool(given["burst_when_idle"])}  # fmt: skip
    alerts = given["alerts"].replace("%", " ").replace(",", " ").split()
    for one in alerts:
        if not _WHOLE.fullmatch(one):
            raise _no_number("alerts", one)
    return body | {"period": given["period"], "hard": bool(given["hard"]),
                   "alerts": [int(one) for one in alerts]}  # fmt: skip


def _amount(given: Mapping[str, str]) -> int:
    """An amount in the API's unit: of money in yuan, of all else whole."""
    text = given["amount"].replace(",", "")
    if given["measure"] == "spend" and _AMOUNT.fullmatch(text):
        whole, _, digits = text.partition(".")
        return int(whole) * PICO_PER_UNIT + int(digits.ljust(PICO_DIGITS, "0"))
    if given["measure"] == "spend" or not _WHOLE.fullmatch(text):
        raise _no_number("amount", text)
    return int(text)


def _no_number(field: str, text: str) -> ApiRefusal:
    return ApiRefusal(400, "invalid_value", f"{text[:20]!r} is no number.", field)


def _differences(given: Mapping[str, str], now: Limit | None) -> list[Difference]:
    """Where what was shown or typed is not what there is now."""
    if now is None:
        return []
    there = _given_of(now)
    return [
        Difference(name, given.get(name, ""), value)
        for name, value in there.items()
        if name in FIELDS[now.kind] and value != given.get(name, "")
    ]


PAGES = {
    ("GET", PATH): show,
    ("GET", EDIT): ask,
    ("POST", EDIT): save,
    ("GET", f"{PATH}/remove"): confirm,
    ("POST", f"{PATH}/remove"): remove,
}
