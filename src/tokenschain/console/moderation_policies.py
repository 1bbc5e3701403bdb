"""Moderation policy page: a policy's fields, what holds and why, and a preview of each change."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal
from tokenschain.console.configuration import (
    AppliedChange,
    ListedResource,
    ResourceNamed,
    if_match,
    named_in,
    need_new,
    owner_of_new,
)
from tokenschain.console.moderation import PATH as MODERATION
from tokenschain.console.moderation import category_names
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.routing import PATH as ROUTING
from tokenschain.console.visit import Visit
from tokenschain.core.moderation.personal_data import DataAction, DataKind
from tokenschain.core.snapshot.moderation_policy import (
    ActionName,
    LevelActions,
    ModerationPolicy,
    OffenderLimits,
    Sector,
)
from tokenschain.infra.security.prescribed import fingerprint

PATH = f"{MODERATION}/policy"
HELD = f"{MODERATION}/effective"
_KIND = "moderation-policies"
LEVELS = ("high", "medium", "low")
ACTIONS = get_args(ActionName)
CHOICES = {
    "state": ("shadow", "share", "active"),
    "audience": ("public", "internal", "overseas"),
    "sector": get_args(Sector),
    "input": ("before", "beside"),
    "engine_failure": ("", "block", "local"),
    "stream": ("holdback", "sentence", "full"),
    "media": ("pass", "block"),
}
TEXTS = ("scope", "replacement", "message_zh", "message_en")
TICKS = ("require_filed", "keep_texts", "second_review")
PARTS = {"classifier": ("medium", "high"), "offenders": ("in_a_row", "a_day", "suspend_hours")}
"""Fields of numbers that are all unset where the field is."""
DATA_KINDS = tuple(DataKind)
DATA_ACTIONS = tuple(DataAction)
ANSWER_ACTIONS = ("allow", "mask", "block")
BLANK_ROWS = 2
_ROW = re.compile(r"category-(\d{1,4})")
MANAGED = frozenset(
    {*CHOICES, *TEXTS, *TICKS, "share", "directions", "engines", "packs", "actions",
     "category_actions", "personal_data", "personal_data_in_answers", "data_classes", "classifier",
     "engine_wait_max_s", "review_hours", "offenders"}
)  # fmt: skip
"""Fields that the form has; the others (`words`, `message`) stay as they are."""

Typed = dict[str, str]
"""A policy as it is typed: fields by name, parts of them as `actions-high`."""


class EffectiveRow(msgspec.Struct):
    """A value that holds; see `GET /moderation-policies/{resource_name}`."""

    field: str
    value: object
    origin: str


class ShownPolicy(ListedResource):
    """A policy with its effective values."""

    effective: list[EffectiveRow] = msgspec.field(default_factory=list)


class PolicyAt(msgspec.Struct):
    """A policy that a value is of, and for whose calls."""

    level: str
    name: str


class HeldRow(msgspec.Struct):
    """A value that holds for a project; see `GET /moderation/effective`."""

    field: str
    value: object
    policies: list[PolicyAt]


class HeldRows(msgspec.Struct):
    """All of them."""

    policies: list[PolicyAt]
    data: list[HeldRow]


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The fields of a policy, or those of a new one."""
    named = named_in(visit)
    if not named.name:
        named.owner = owner_of_new(visit)
        return _page(visit, renderer, named, None, _typed({}))
    found = await visit.api.get(named.path(_KIND), ShownPolicy, named.query)
    return _page(visit, renderer, named, found, _typed(found.spec))


async def change(visit: Visit, renderer: Renderer) -> Response:
    """Preview what fields would do; the same fields are then applied, and no others."""
    named, given = named_in(visit), _given(visit.form)
    revision, step = visit.form.get("revision", "")[:20], visit.form.get("step", "preview")
    reason = visit.form.get("reason", "").strip()
    found: ShownPolicy | None = None
    shown = ""
    try:
        if revision:
            found = await visit.api.get(named.path(_KIND), ShownPolicy, named.query)
        else:
            await need_new(visit, named, _KIND)
        if step == "more":
            return _page(visit, renderer, named, found, given, reason=reason, revision=revision)
        spec = _spec(given, {} if found is None else found.spec)
        shown = fingerprint(msgspec.json.encode(spec))[:16]
        is_seen = step == "apply" and visit.form.get("previewed") == shown
        query = named.query if is_seen else {**named.query, "dry_run": "true"}
        done = await visit.api.send(
            "PUT", named.path(_KIND), AppliedChange, {"spec": spec, "reason": reason},
            if_match(visit), query=query,
        )  # fmt: skip
    except ApiRefusal as refusal:
        # What somebody else changed meanwhile is shown beside what was typed, which then goes
        # before it if it is sent again.
        if refusal.status == 412 and found is not None:
            revision = str(found.revision)
        return _page(
            visit, renderer, named, found, given, refusal=refusal, reason=reason, revision=revision
        )
    if is_seen:
        if done.revision is None:
            return RedirectResponse(visit.link(PATH, name=named.name, of=named.owner), 303)
        where = visit.link(f"{ROUTING}/revision", number=str(done.revision), done="applied")
        return RedirectResponse(where, 303)
    return _page(
        visit, renderer, named, found, given, would=done, previewed=shown, reason=reason,
        revision=revision,
    )  # fmt: skip


async def held(visit: Visit, renderer: Renderer) -> Response:
    """What all policies come to for a project's calls, and whose each value is."""
    project = visit.query.get("of_project", "").strip()[:64]
    state = visit.choice("counted", CHOICES["state"], "active")
    query = {"tenant": visit.tenant, "project": project, "state": state}
    parts = await visit.parts(found=visit.api.get("/moderation/effective", HeldRows, query))
    return renderer.page(
        "moderation_effective.html", visit, found=parts["found"], of_project=project,
        counted=state, states=CHOICES["state"],
    )  # fmt: skip


# --- a policy as it is typed -------------------------------------------------------------------


def _typed(spec: Mapping[str, object]) -> Typed:
    """The fields of a form from a spec, defaults among them."""
    policy = msgspec.convert(spec, ModerationPolicy)
    found = {name: getattr(policy, name) for name in (*CHOICES, *TEXTS)}
    found |= {name: "on" if getattr(policy, name) else "" for name in TICKS}
    found |= {
        "share": _percent(policy.share),
        "engines": ", ".join(policy.engines),
        "packs": ", ".join(policy.packs),
        "engine_wait_max_s": f"{policy.engine_wait_max_s:g}",
        "review_hours": str(policy.review_hours),
    }
    for direction in ("input", "output"):
        found[f"directions-{direction}"] = "on" if direction in policy.directions else ""
    found |= {f"actions-{level}": getattr(policy.actions, level) for level in LEVELS}
    for number, (category, actions) in enumerate(sorted(policy.category_actions.items()), 1):
        found[f"category-{number}"] = category
        found |= {f"category_{level}-{number}": getattr(actions, level) for level in LEVELS}
    for kind in DATA_KINDS:
        found[f"data-{kind}"] = str(policy.personal_data.get(kind, ""))
        found[f"answers-{kind}"] = str(policy.personal_data_in_answers.get(kind, ""))
        found[f"class-{kind}"] = policy.data_classes.get(kind, "")
    for field, names in PARTS.items():
        whole = getattr(policy, field)
        for name in names:
            found[f"{field}-{name}"] = "" if whole is None else f"{getattr(whole, name):g}"
    return found


def _given(form: Mapping[str, str]) -> Typed:
    """The fields as they were sent; what is missing is empty."""
    return {name: "" for name in _typed({})} | {
        name: value.strip() for name, value in form.items() if len(name) <= 64
    }


def _spec(given: Typed, before: Mapping[str, object]) -> dict[str, Any]:
    """What the form says, for the API, which says what is wrong with it."""
    spec: dict[str, Any] = {name: value for name, value in before.items() if name not in MANAGED}
    spec |= {name: given[name] for name in (*CHOICES, *TEXTS)}
    spec |= {name: bool(given[name]) for name in TICKS}
    spec["scope"] = given["scope"] or "*"
    spec["share"] = _share(given["share"])
    spec["directions"] = [one for one in ("input", "output") if given[f"directions-{one}"]]
    spec["engines"], spec["packs"] = _names(given["engines"]), _names(given["packs"])
    spec["actions"] = {level: given[f"actions-{level}"] for level in LEVELS}
    spec["category_actions"] = {
        given[name]: {
            level: given.get(f"category_{level}-{row[1]}") or getattr(LevelActions(), level)
            for level in LEVELS
        }
        for name in given
        if (row := _ROW.fullmatch(name)) and given[name]
    }
    for field, prefix in (
        ("personal_data", "data"), ("personal_data_in_answers", "answers"),
        ("data_classes", "class"),
    ):  # fmt: skip
        spec[field] = {
            str(kind): given[f"{prefix}-{kind}"] for kind in DATA_KINDS if given[f"{prefix}-{kind}"]
        }
    spec["engine_wait_max_s"] = _number(given["engine_wait_max_s"] or "0.3")
    spec["review_hours"] = _number(given["review_hours"] or "24")
    for field, names in PARTS.items():
        parts = {name: text for name in names if (text := given[f"{field}-{name}"])}
        if parts:  # else it is switched off
            spec[field] = {name: _number(text) for name, text in parts.items()}
    # A policy's own text stands whole; one of its halves would say nothing beside it.
    if spec["message_zh"] or spec["message_en"]:
        spec.pop("message", None)
    return spec


def _names(text: str) -> list[str]:
    return text.replace(",", " ").replace("，", " ").split()


def _number(text: str) -> float | int | str:
    """A number, or what was typed instead: the API says what is wrong with it."""
    if re.fullmatch(r"\d{1,9}", text):
        return int(text)
    return float(text) if re.fullmatch(r"\d{1,9}\.\d{1,9}", text) else text


def _percent(share: float) -> str:
    return f"{share * 100:g}"


def _share(percent: str) -> float | str:
    found = _number(percent or _percent(ModerationPolicy().share))
    return found if isinstance(found, str) else round(found / 100, 9)


def _rows(given: Typed) -> list[int]:
    """Numbers of the rows of categories: those that are filled in, and some to fill in."""
    filled = [int(row[1]) for name in given if (row := _ROW.fullmatch(name)) and given[name]]
    last = max(filled, default=0)
    return [*sorted(filled), *range(last + 1, last + 1 + BLANK_ROWS)]


def _page(
    visit: Visit,
    renderer: Renderer,
    named: ResourceNamed,
    found: ShownPolicy | None,
    given: Typed,
    *,
    would: AppliedChange | None = None,
    previewed: str = "",
    reason: str = "",
    revision: str | None = None,
    refusal: ApiRefusal | None = None,
) -> Response:
    if revision is None:
        revision = "" if found is None else str(found.revision)
    rows = _rows(given)
    blank = {f"category-{n}": "" for n in rows} | {
        f"category_{level}-{n}": "" for n in rows for level in LEVELS
    }
    return renderer.form(
        "moderation_policy.html", visit, refusal, named=named, found=found, given=blank | given,
        choices=CHOICES, actions=ACTIONS, levels=LEVELS, rows=rows, names=category_names(visit),
        kinds=DATA_KINDS, data_actions=DATA_ACTIONS, answer_actions=ANSWER_ACTIONS,
        offenders=PARTS["offenders"], offender_limits=OffenderLimits(), usual=LevelActions(),
        would=would,
        previewed=previewed, reason=reason, revision=revision, is_of_platform=not named.owner,
    )  # fmt: skip


PAGES: Pages = {("GET", PATH): ask, ("POST", PATH): change, ("GET", HELD): held}
