"""Label rules page: notice and metadata of answers, for the platform, a tenant or a project."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal
from tokenschain.console.configuration import (
    AppliedChange,
    ListedResource,
    ResourceNamed,
    if_match,
    owner_of_new,
)
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.routing import PATH as ROUTING
from tokenschain.console.visit import Visit, forbidden
from tokenschain.core.snapshot.label_rules import TEXT_CHARACTERS_MAX, LabelRule
from tokenschain.infra.security.prescribed import fingerprint

PATH = "/console/moderation/labels"
FIELDS = LabelRule.__struct_fields__
CHOICES = {"explicit": ("none", "start", "end"), "implicit": ("off", "on")}
_READ = "configuration:read"
_KIND, _NAME, _PROJECT = "label-rules", "default", "project/"


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The rules as they are."""
    found = await _read(visit)
    return _page(visit, renderer, found, _typed(found, visit.query.get("of_project", "")))


async def change(visit: Visit, renderer: Renderer) -> Response:
    """Preview what fields would do; the same fields are then applied, and no others."""
    named = ResourceNamed(_NAME, owner_of_new(visit))
    found = await _read(visit)
    given = {name: visit.form.get(name, "").strip() for name in (*FIELDS, "of_project")}
    reason = visit.form.get("reason", "").strip()
    body = {"spec": _patch(given, new=found is None), "reason": reason}
    shown = fingerprint(msgspec.json.encode(body["spec"]))[:16]
    is_seen = visit.form.get("step") == "apply" and visit.form.get("previewed") == shown
    query = named.query if is_seen else {**named.query, "dry_run": "true"}
    method = "PUT" if found is None else "PATCH"
    try:
        done = await visit.api.send(
            method, named.path(_KIND), AppliedChange, body, if_match(visit), query=query
        )
    except ApiRefusal as refusal:
        return _page(visit, renderer, found, given, refusal=refusal, reason=reason)
    if not is_seen:
        return _page(visit, renderer, found, given, would=done, previewed=shown, reason=reason)
    if done.revision is None:
        return RedirectResponse(visit.link(PATH), 303)
    where = visit.link(f"{ROUTING}/revision", number=str(done.revision), done="applied")
    return RedirectResponse(where, 303)


async def _read(visit: Visit) -> ListedResource | None:
    if not visit.reader.may(_READ):
        raise forbidden(_READ)  # else it would look as if there were no rules
    named = ResourceNamed(_NAME, owner_of_new(visit))
    try:
        return await visit.api.get(named.path(_KIND), ListedResource, named.query)
    except ApiRefusal as refusal:
        if refusal.status != 404:
            raise
        return None


def _overrides(found: ListedResource | None) -> dict[str, dict[str, str]]:
    """What is otherwise for projects, by their names."""
    given = None if found is None else found.spec.get("overrides")
    known: dict[str, dict[str, str]] = msgspec.convert(given or {}, dict[str, dict[str, str]])
    return {scope.removeprefix(_PROJECT): choice for scope, choice in known.items()}


def _typed(found: ListedResource | None, project: str) -> dict[str, str]:
    """The fields as a form shows them; empty where nothing is chosen."""
    spec = _overrides(found).get(project, {}) if project else {} if found is None else found.spec
    return {name: str(spec.get(name, "")) for name in FIELDS} | {"of_project": project}


def _patch(given: dict[str, str], *, new: bool) -> dict[str, object]:
    """What the form says, for the API, which says what is wrong with it."""
    fields: dict[str, object] = {
        name: given[name] or None for name in FIELDS if given[name] or not new
    }
    project = given["of_project"]
    return {"overrides": {f"{_PROJECT}{project}": fields}} if project else fields


def _page(
    visit: Visit,
    renderer: Renderer,
    found: ListedResource | None,
    given: dict[str, str],
    *,
    would: AppliedChange | None = None,
    previewed: str = "",
    reason: str = "",
    refusal: ApiRefusal | None = None,
) -> Response:
    return renderer.form(
        "label_rules.html", visit, refusal, given=given, choices=CHOICES, reason=reason,
        would=would, previewed=previewed, owner=owner_of_new(visit), usual=LabelRule(),
        overrides=_overrides(found), characters_max=TEXT_CHARACTERS_MAX,
        agreed={} if found is None else found.spec.get("agreed", {}),
        revision="" if found is None else str(found.revision),
    )  # fmt: skip


PAGES: Pages = {("GET", PATH): show, ("POST", PATH): change}
