"""Pages of one upstream: added after a live test, tested again, drained."""

from __future__ import annotations

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
from tokenschain.console.connect import TEST_WAIT_S, ConnectionTest
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.routing import PATH, row_of, states_of
from tokenschain.console.visit import Visit
from tokenschain.core.snapshot.zones import ZONES

FIELDS = ("name", "of", "provider", "base_url", "credential", "models", "zone", "reason")
PROVIDERS = (
    "alibaba", "baidu-qianfan", "deepseek", "huawei-maas", "moonshot", "siliconflow",
    "tencent-hunyuan", "volcengine-ark", "xfyun-spark", "zhipu", "custom",
)  # fmt: skip
"""Suggested; any of the catalog may be written."""


class ListedModels(msgspec.Struct):
    """What an upstream lists, beside what is configured."""

    listed: int
    missing: list[str]
    new: list[str]
    unpriced: list[str]


class UpstreamTried(ConnectionTest):
    """What a test found, and what the upstream lists."""

    models: ListedModels | None = None


async def show(visit: Visit, renderer: Renderer) -> Response:
    """One upstream: settings, state, keys, and what can be done with it."""
    return await _page(visit, renderer, None, None)


async def _page(
    visit: Visit, renderer: Renderer, tested: UpstreamTried | None, refusal: ApiRefusal | None
) -> Response:
    named = named_in(visit)
    resource = await visit.api.get(named.path("upstreams"), ListedResource, named.query)
    states = await visit.parts(all=states_of(visit)) if visit.on_platform else {}
    known = states["all"].data.data if states and states["all"].data else []
    template = "_upstream_state.html" if visit.fragment == "state" else "upstream.html"
    return renderer.form(
        template, visit, refusal, row=row_of(resource, known), resource=resource,
        tested=tested,
        settings=msgspec.json.format(msgspec.json.encode(resource.spec), indent=2).decode(),
    )  # fmt: skip


async def test(visit: Visit, renderer: Renderer) -> Response:
    """Test a stored upstream: credential, connection, its models, one small call."""
    named, tested, refusal = named_in(visit), None, None
    try:
        tested = await _tested(visit, named, {"model": visit.form.get("model", "").strip()})
    except ApiRefusal as error:
        refusal = error
    if visit.fragment == "tested":
        return renderer.page("_upstream_test.html", visit, tested=tested, refusal=refusal)
    return await _page(visit, renderer, tested, refusal)


async def drain(visit: Visit, renderer: Renderer) -> Response:
    """Give an upstream no new calls, or calls again."""
    named = named_in(visit)
    body = {"spec": {"drain": None if visit.form.get("undo") else True}}
    try:
        await visit.api.send(
            "PATCH", named.path("upstreams"), AppliedChange, body, if_match(visit),
            query=named.query,
        )  # fmt: skip
    except ApiRefusal as refusal:
        return await _page(visit, renderer, None, refusal)
    return RedirectResponse(visit.link(f"{PATH}/upstream", name=named.name, of=named.owner), 303)


async def _tested(visit: Visit, named: ResourceNamed, body: dict[str, object]) -> UpstreamTried:
    path = f"{named.path('upstreams')}/test"
    api = visit.api.with_wait(TEST_WAIT_S)
    return await api.send("POST", path, UpstreamTried, body, query=named.query)


# --- a new one -----------------------------------------------------------------------------


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for a new upstream."""
    return _form(visit, renderer, {"of": owner_of_new(visit)})


async def add(visit: Visit, renderer: Renderer) -> Response:
    """Test an upstream, and add it where nothing fails; its key is stored sealed before.

    Nothing is written where a step fails, but for the key: the form then names it, and asks
    whether to add the upstream all the same.
    """
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    given["stored_revision"] = visit.form.get("stored_revision", "")[:20]
    named, tested = named_in(visit), None
    try:
        await need_new(visit, named, "upstreams")
        key = visit.form.get("key", "").strip()
        if key:
            await _store(visit, named, key, given)
        spec = _spec(given)
        tested = await _tested(visit, named, {"spec": spec})
        if not tested.ok and not visit.form.get("anyway"):
            return _form(visit, renderer, given, tested=tested)
        body = {"spec": spec, "reason": given["reason"]}
        await visit.api.send("PUT", named.path("upstreams"), AppliedChange, body, query=named.query)
    except ApiRefusal as refusal:
        return _form(visit, renderer, given, tested=tested, refusal=refusal)
    return RedirectResponse(visit.link(f"{PATH}/upstream", name=named.name, of=named.owner), 303)


async def _store(visit: Visit, named: ResourceNamed, key: str, given: dict[str, str]) -> None:
    """Store a key under the upstream's name; `given` then refers to it.

    Raises:
        ApiRefusal: another key is stored under that name.
    """
    path, revision = named.path("credentials"), given["stored_revision"]
    if not revision:
        try:
            await visit.api.get(path, ListedResource, named.query)
        except ApiRefusal as refusal:
            if refusal.status != 404:
                raise
        else:
            message = (
                f"A key is stored as `{named.name}` already: refer to it as `stored:{named.name}`, "
                "or choose another name."
            )
            raise ApiRefusal(409, "conflict", message, "credential")
    headers = {"if-match": f'"{revision}"'} if revision else {}
    body = {"spec": {"value": key}, "reason": given["reason"]}
    await visit.api.send("PUT", path, AppliedChange, body, headers, query=named.query)
    stored = await visit.api.get(path, ListedResource, named.query)
    given["stored_revision"] = str(stored.revision)
    reference = f"stored:{named.name}"
    if reference not in given["credential"].split():
        given["credential"] = f"{given['credential']} {reference}".strip()


def _spec(given: dict[str, str]) -> dict[str, object]:
    """The settings that a form gives; what was left empty keeps its default."""
    spec: dict[str, object] = {
        name: given[name] for name in ("provider", "base_url", "zone") if given[name]
    }
    for name in ("credential", "models"):
        words = given[name].replace(",", " ").split()
        if words:
            spec[name] = words
    return spec


def _form(
    visit: Visit,
    renderer: Renderer,
    given: dict[str, str],
    *,
    tested: UpstreamTried | None = None,
    refusal: ApiRefusal | None = None,
) -> Response:
    full = {name: given.get(name, "") for name in (*FIELDS, "stored_revision")}
    status = refusal.status if refusal is not None else 400 if tested is not None else 200
    return renderer.page(
        "upstream_new.html", visit, status, given=full, tested=tested, refusal=refusal,
        providers=PROVIDERS, zones=ZONES,
    )  # fmt: skip


PAGES: Pages = {
    ("GET", f"{PATH}/upstream"): show,
    ("POST", f"{PATH}/upstream/test"): test,
    ("POST", f"{PATH}/upstream/drain"): drain,
    ("GET", f"{PATH}/new"): ask,
    ("POST", f"{PATH}/new"): add,
}
