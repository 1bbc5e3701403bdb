"""Playground page: up to three models side by side, asked as applications ask them."""

from __future__ import annotations

import time

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tokenschain.console.admin_api import ApiRefusal, segment
from tokenschain.console.calls import CallSummary
from tokenschain.console.gateway import ChatGateway, GatewayUnreachable
from tokenschain.console.models import ModelList
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import Visit, forbidden
from tokenschain.core import presentation

LANES = 3
"""Models side by side at most."""
SUGGESTIONS = 3
KEY_HEADER, CACHE_HEADER = "x-playground-key", "x-playground-cache"
KEY_CHARACTERS_MAX = 200
ANSWERS_PATH = "/console/playground/answers"


class PageKey(msgspec.Struct):
    """See `POST /playground/keys`."""

    key: str
    expires_at_s: int


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The page; what is asked on it goes by its script."""
    if not visit.reader.may("models:call"):
        raise forbidden("models:call")
    parts = await visit.parts(models=visit.api.get("/served-models", ModelList))
    found = parts["models"].data
    names = sorted(one.name for one in (found.data if found else ()) if one.kind == "chat")
    return renderer.page(
        "playground.html", visit, names=names, asked=visit.query.get("model", ""),
        lanes=range(2, LANES + 1), suggestions=range(1, SUGGESTIONS + 1), place=_place(visit),
    )  # fmt: skip


def _place(visit: Visit) -> dict[str, str]:
    """Whose calls they are."""
    tenant = visit.shown_tenant or "default"
    return {"tenant": tenant, "project": visit.project("models:call") or "default"}


async def create_key(visit: Visit, _: Renderer) -> Response:
    """A key for the page's script: it lives some minutes, and is kept nowhere."""
    place = {name: visit.form.get(name, "") for name in ("tenant", "project")}
    try:
        made = await visit.api.send("POST", "/playground/keys", PageKey, place)
    except ApiRefusal as refusal:
        return _refused(refusal)
    # The browser's clock may be wrong: it is told how long, not until when.
    return JSONResponse({"key": made.key, "lasts_s": made.expires_at_s - time.time()})


async def facts(visit: Visit, _: Renderer) -> Response:
    """What the ledger has of one call; 404 until it is there."""
    name = visit.query.get("call", "")
    try:
        call = await visit.api.get(f"/calls/{segment(name)}", CallSummary)
    except ApiRefusal as refusal:
        return _refused(refusal)
    language, first = visit.language, call.first_token_ms
    written_ms = call.total_ms - first if first is not None else 0.0
    speed = call.completion_tokens / written_ms * 1_000 if written_ms >= 1 else None
    cached = call.result == "cached"
    shown = {
        "upstream": visit.text("call.from_cache") if cached else call.upstream,
        "first_token": presentation.duration(first, language),
        "took": presentation.duration(call.total_ms, language),
        "speed": "" if speed is None or cached else f"{speed:,.0f} tok/s",
        "tokens": f"{presentation.tokens(call.prompt_tokens)} → "
        f"{presentation.tokens(call.completion_tokens)} tokens",
        "cost": presentation.money(call.charge_pico, call.charge_currency, language),
        "exact": presentation.exact_money(call.charge_pico, call.charge_currency),
    }
    return JSONResponse(shown)


async def answer(request: Request, visit: Visit, gateway: ChatGateway | None) -> Response:
    """Pass one request on to the gateway, and its answer back as it comes: what the page shows is
    the gateway's own."""
    await visit.know_reader()
    key = request.headers.get(KEY_HEADER, "")
    if gateway is None or not key or len(key) > KEY_CHARACTERS_MAX:
        return _refused(ApiRefusal(400, "missing_api_key", "No key came with the request."))
    body = await request.body()
    cache = request.headers.get(CACHE_HEADER) != "off"
    try:
        found = await gateway.ask(key, body, cache=cache)
    except GatewayUnreachable as why:
        said = f"The gateway does not answer: {why}."
        return _refused(ApiRefusal(502, "gateway_unreachable", said))
    return StreamingResponse(found.pieces, found.status, found.headers)


def signed_out() -> Response:
    """The sign-in has ended: the page's script leads to another."""
    return _refused(ApiRefusal(401, "signed_out", "Nobody is signed in."))


def _refused(refusal: ApiRefusal) -> Response:
    """In the shape of the gateway's own errors."""
    error = {"code": refusal.code, "message": refusal.message}
    return JSONResponse({"error": error}, refusal.status)
