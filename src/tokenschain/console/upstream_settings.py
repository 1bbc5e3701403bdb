"""Page that changes an upstream's place, zone, limit and keys, after a preview."""

from __future__ import annotations

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal, Query
from tokenschain.console.configuration import (
    AppliedChange,
    ListedResource,
    ListedResources,
    ResourceNamed,
    if_match,
    named_in,
    need_new,
)
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.routing import PATH, credentials_of
from tokenschain.console.virtual_models import RoutingRule, rules_of
from tokenschain.console.visit import PagePart, Visit
from tokenschain.core.snapshot.zones import ZONES
from tokenschain.infra.security.prescribed import fingerprint

FIELDS = ("preference", "zone", "concurrency_max", "credential")
"""What the form changes; empty takes a field back to its default."""
NUMBERS = ("preference", "concurrency_max")
VIRTUAL_MODELS_MAX = 200


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The fields as they are."""
    named = named_in(visit)
    found = await _read(visit, named)
    return await _form(visit, renderer, named, found, _typed(found))


async def change(visit: Visit, renderer: Renderer) -> Response:
    """Preview what fields would do; the same fields are then applied, and no others."""
    named = named_in(visit)
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    body = {"spec": _patch(given), "reason": _reason(visit)}
    shown = fingerprint(msgspec.json.encode(body["spec"]))[:16]
    is_seen = visit.form.get("step") == "apply" and visit.form.get("previewed") == shown
    query = named.query if is_seen else {**named.query, "dry_run": "true"}
    try:
        done = await visit.api.send(
            "PATCH", named.path("upstreams"), AppliedChange, body, if_match(visit), query=query
        )
    except ApiRefusal as refusal:
        found = await _read(visit, named)
        return await _form(visit, renderer, named, found, given, refusal=refusal)
    if not is_seen:
        found = await _read(visit, named)
        return await _form(visit, renderer, named, found, given, would=done, previewed=shown)
    return _applied(visit, named, done)


async def add_key(visit: Visit, renderer: Renderer) -> Response:
    """Store another key sealed, and have the upstream use it beside those that it has."""
    named = named_in(visit)
    found = await _read(visit, named)
    key_name = visit.form.get("key_name", "").strip()
    stored = ResourceNamed(key_name, named.owner)
    body = {"spec": {"value": visit.form.get("key", "").strip()}, "reason": _reason(visit)}
    try:
        await need_new(visit, stored, "credentials")
        await visit.api.send(
            "PUT", stored.path("credentials"), AppliedChange, body, query=named.query
        )
        keys = [*credentials_of(found), f"stored:{key_name}"]
        used = {"spec": {"credential": keys}, "reason": _reason(visit)}
        try:
            done = await visit.api.send(
                "PATCH", named.path("upstreams"), AppliedChange, used, if_match(visit),
                query=named.query,
            )  # fmt: skip
        except ApiRefusal:
            # Nothing uses it, and the form will be sent again.
            await visit.api.ask("DELETE", stored.path("credentials"), named.query)
            raise
    except ApiRefusal as refusal:
        return await _form(visit, renderer, named, found, _typed(found), refusal=refusal)
    return _applied(visit, named, done)


def _applied(visit: Visit, named: ResourceNamed, done: AppliedChange) -> Response:
    if done.revision is None:
        return RedirectResponse(
            visit.link(f"{PATH}/upstream", name=named.name, of=named.owner), 303
        )
    where = visit.link(f"{PATH}/revision", number=str(done.revision), done="applied")
    return RedirectResponse(where, 303)


async def _read(visit: Visit, named: ResourceNamed) -> ListedResource:
    return await visit.api.get(named.path("upstreams"), ListedResource, named.query)


def _reason(visit: Visit) -> str:
    return visit.form.get("reason", "").strip()


def _typed(found: ListedResource) -> dict[str, str]:
    """The fields as a form shows them; empty where the default holds."""
    texts = {name: str(found.spec.get(name, "")) for name in FIELDS}
    return texts | {"credential": " ".join(credentials_of(found))}


def _patch(given: dict[str, str]) -> dict[str, object]:
    """What the form says, for the API, which says what is wrong with it."""
    fields: dict[str, object] = {name: given[name] or None for name in FIELDS}
    for name in NUMBERS:
        text = given[name]
        if text.isascii() and text.isdecimal() and len(text) < 16:
            fields[name] = int(text)
    fields["credential"] = given["credential"].replace(",", " ").split() or None
    return fields


async def _form(
    visit: Visit,
    renderer: Renderer,
    named: ResourceNamed,
    found: ListedResource,
    given: dict[str, str],
    *,
    would: AppliedChange | None = None,
    previewed: str = "",
    refusal: ApiRefusal | None = None,
) -> Response:
    """
    Args:
        found: as it is now; its revision is the one to change.
    """
    query: Query = {"limit": VIRTUAL_MODELS_MAX, "tenant": named.owner}
    parts = await visit.parts(virtual=visit.api.get("/virtual-models", ListedResources, query))
    was_changed = refusal is not None and refusal.status == 412
    return renderer.form(
        "upstream_settings.html", visit, refusal, named=named, given=given, resource=found,
        revision=(not was_changed and visit.form.get("revision", "")[:20]) or found.revision,
        would=would, previewed=previewed, reason=_reason(visit), zones=ZONES,
        key_name=_next_name(named.name, credentials_of(found)),
        virtual=parts["virtual"], weighed=_weighed(named, found, parts["virtual"]),
        now=_typed(found) if was_changed else {},
    )  # fmt: skip


def _next_name(name: str, known: list[str]) -> str:
    """A name for one more key, as `bailian-2`."""
    number = len(known) + 1
    while f"stored:{name}-{number}" in known:
        number += 1
    return f"{name}-{number}"


def _weighed(
    named: ResourceNamed, found: ListedResource, virtual: PagePart
) -> list[tuple[ListedResource, RoutingRule]]:
    """Rules of virtual models that send calls here by name, with the weight of each."""
    if virtual.data is None:
        return []
    ids = {named.name, f"{found.tenant}/{named.name}"} if found.tenant else {named.name}
    return [
        (one, rule)
        for one in virtual.data.data
        for rule in rules_of(one)
        if rule.upstream in ids and one.tenant == found.tenant
    ]


PAGES: Pages = {
    ("GET", f"{PATH}/upstream/edit"): ask,
    ("POST", f"{PATH}/upstream/edit"): change,
    ("POST", f"{PATH}/upstream/key"): add_key,
}
