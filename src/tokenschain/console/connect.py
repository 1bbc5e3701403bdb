"""Connect a cloud: its key is tried there, and is stored sealed and serves where it works."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import ApiRefusal, Query, segment
from tokenschain.console.configuration import AppliedChange
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import Visit, forbidden
from tokenschain.core.upstream_report import MEND_MODELS, MENDS

TEST_WAIT_S = 20.0
"""The API's own limit of a test is shorter."""
CUSTOM = "custom"
FIELDS = ("provider", "name", "base_url", "models")
MENDED = {
    MENDS["upstream_rejected_credentials"]: "connect.mend.key",
    MEND_MODELS: "connect.mend.models",
}
"""What to do about it here, in place of a command of the machine."""
NAMES_TRIED = 9
MODELS_NAMED = 12
WRITE = "configuration:write"


class ConnectionStep(msgspec.Struct):
    """One step of a test; see `POST /upstreams/{name}/test`."""

    step: str
    outcome: str
    message: str
    remedy: str
    took_ms: int | None


class ConnectionTest(msgspec.Struct):
    """What a test found."""

    ok: bool
    steps: list[ConnectionStep]


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form."""
    _check(visit)
    given = dict.fromkeys(FIELDS, "") | {"provider": visit.query.get("provider", "")}
    return _page(visit, renderer, given)


async def connect(visit: Visit, renderer: Renderer) -> Response:
    """Try the key, and store it with its upstream where nothing failed; otherwise nothing is."""
    _check(visit)
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    tenant = visit.shown_tenant or ""  # whose upstream it is; empty: the platform's
    query = {"tenant": visit.shown_tenant}
    secret, tested = visit.form.get("key", "").strip(), None
    try:
        name = await _free(visit, "/upstreams", given["name"] or given["provider"], query)
        if given["name"] not in ("", name):
            raise ApiRefusal(409, "conflict", f"There is an upstream `{given['name']}` already.")
        if not secret:
            raise ApiRefusal(400, "invalid_value", "There is no key.", "key")
        kept = await _free(visit, "/credentials", name, query)
        spec = _spec(given, kept)
        body = {"spec": spec, "key": secret}
        patient = visit.api.with_wait(TEST_WAIT_S)
        path = f"{_at('/upstreams', name)}/test"
        tested = await patient.send("POST", path, ConnectionTest, body, query=query)
        for step in tested.steps:
            if step.remedy in MENDED:
                step.remedy = visit.text(MENDED[step.remedy])
        if not tested.ok:
            return _page(visit, renderer, given, tested=tested)
        documents = [
            {"kind": "credential", "tenant": tenant, "name": kept, "spec": {"value": secret}},
            {"kind": "upstream", "tenant": tenant, "name": name, "spec": spec},
        ]
        wanted = {"documents": documents}
        done = await visit.api.send("POST", "/configuration/apply", AppliedChange, wanted)
    except ApiRefusal as refusal:
        return _page(visit, renderer, given, tested=tested, refusal=refusal)
    served = [one.rpartition("/")[2] for one in done.effects.models.gained]
    return renderer.page(
        "connected.html", visit, name=name, tested=tested, warnings=done.warnings,
        served=served[:MODELS_NAMED], more=max(0, len(served) - MODELS_NAMED),
    )  # fmt: skip


def may_connect(visit: Visit) -> bool:
    """Whether who reads may add upstreams where the page is about."""
    return visit.reader.may_at(WRITE, visit.shown_tenant or "")


def _check(visit: Visit) -> None:
    """Insist on the permission before a key is typed.

    Raises:
        ApiRefusal: 403.
    """
    if not may_connect(visit):
        raise forbidden(WRITE)


def _spec(given: dict[str, str], credential: str) -> dict[str, object]:
    found: dict[str, object] = {
        "provider": given["provider"] or CUSTOM,
        "credential": f"stored:{credential}",
    }
    if given["base_url"]:
        found["base_url"] = given["base_url"]
    if given["models"]:
        found["models"] = given["models"].replace(",", " ").split()
    return found


async def _free(visit: Visit, kind: str, wanted: str, query: Query) -> str:
    """A name that nothing of a kind has: nothing that is there is written over.

    Raises:
        ApiRefusal: all that were tried are taken.
    """
    for number in range(1, NAMES_TRIED + 1):
        name = wanted if number == 1 else f"{wanted}-{number}"
        try:
            await visit.api.get(_at(kind, name), msgspec.Raw, query)
        except ApiRefusal as refusal:
            if refusal.status == 404:
                return name
            raise
    raise ApiRefusal(409, "conflict", f"`{wanted}` is taken.", "name")


def _at(kind: str, name: str) -> str:
    return f"{kind}/{segment(name)}"


def _page(
    visit: Visit,
    renderer: Renderer,
    given: dict[str, str],
    *,
    tested: ConnectionTest | None = None,
    refusal: ApiRefusal | None = None,
) -> Response:
    status = refusal.status if refusal else 422 if tested else 200
    return renderer.page(
        "connect.html", visit, status, given=given, tested=tested, refusal=refusal, custom=CUSTOM
    )
