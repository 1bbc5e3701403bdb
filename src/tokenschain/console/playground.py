"""Playground page: up to three models side by side, asked as applications ask them."""

from __future__ import annotations

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode

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
from tokenschain.core.tenancy import CALL
from tokenschain.infra.security.suite import Place, Sealable, Sealer

LANES = 3
"""Models side by side at most."""
SUGGESTIONS = 3
KEY_HEADER, CACHE_HEADER = "x-playground-key", "x-playground-cache"
BULK_HEADER = "x-playground-bulk"
"""`on`: nobody waits for the answer; others go first."""
KEY_CHARACTERS_MAX = 1_000
"""Of a sealed one."""
ANSWERS_PATH = "/console/playground/answers"


class PageKey(msgspec.Struct):
    """See `POST /playground/keys`."""

    key: str
    expires_at_s: int


class _SealedKey(msgspec.Struct):
    """What the page keeps, and cannot read."""

    key: str
    tenant: str
    project: str


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The page; what is asked on it goes by its script."""
    if not visit.reader.may(CALL):
        raise forbidden(CALL)
    parts = await visit.parts(models=visit.api.get("/served-models", ModelList))
    found = parts["models"].data
    names = sorted(one.name for one in (found.data if found else ()) if one.kind == "chat")
    return renderer.page(
        "playground.html", visit, names=names, unread=parts["models"].refusal,
        asked=visit.query.get("model", ""),
        lanes=range(2, LANES + 1), suggestions=range(1, SUGGESTIONS + 1), place=place_of(visit),
    )  # fmt: skip


def place_of(visit: Visit) -> dict[str, str]:
    """Whose calls they are."""
    tenant = visit.shown_tenant or "default"
    return {"tenant": tenant, "project": visit.project(CALL) or "default"}


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


class Playground:
    """Makes keys, and asks the gateway with these alone: a key from elsewhere would be used from
    control's address instead of its holder's.

    Nothing is kept here. The page holds its key sealed for who made it, so any replica opens it,
    and no script in the page can use it anywhere else.
    """

    def __init__(self, gateway: ChatGateway, sealer: Sealer) -> None:
        """
        Args:
            sealer: the same in all replicas of control.
        """
        self._gateway = gateway
        self._sealer = sealer

    async def create_key(self, visit: Visit, _: Renderer) -> Response:
        """A key for the page's script: it lives some minutes."""
        place = {name: visit.form.get(name, "") for name in ("tenant", "project")}
        purpose = {name: visit.form[name] for name in ("purpose",) if name in visit.form}
        try:
            made = await visit.api.send("POST", "/playground/keys", PageKey, place | purpose)
        except ApiRefusal as refusal:
            return _refused(refusal)
        kept = msgspec.json.encode(_SealedKey(made.key, **place))
        sealed = urlsafe_b64encode(self._sealer.seal(_whose(visit), kept)).decode()
        # The browser's clock may be wrong: it is told how long, not until when.
        return JSONResponse({"key": sealed, "lasts_s": made.expires_at_s - time.time()})

    async def answer(self, request: Request, visit: Visit) -> Response:
        """Pass one request on to the gateway, and its answer back as it comes: what the page shows
        is the gateway's own."""
        await visit.know_reader()
        key = self._opened(visit, request.headers.get(KEY_HEADER, ""))
        if key is None:
            why = "The key is none that you made here, or of an earlier time; another is made."
            return _refused(ApiRefusal(401, "playground_key_expired", why))
        if not visit.reader.may_in(CALL, key.tenant, key.project):
            return _refused(forbidden(CALL))
        body = await request.body()
        address = request.client.host if request.client is not None else ""
        cache = request.headers.get(CACHE_HEADER) != "off"
        try:
            found = await self._gateway.ask(
                key.key, body, address, cache=cache,
                bulk=request.headers.get(BULK_HEADER) == "on",
            )  # fmt: skip
        except GatewayUnreachable as why_not:
            said = f"The gateway does not answer: {why_not}."
            return _refused(ApiRefusal(502, "gateway_unreachable", said))
        return StreamingResponse(found.pieces, found.status, found.headers)

    def _opened(self, visit: Visit, sealed: str) -> _SealedKey | None:
        """The key that the reader's page holds; None where it holds something else."""
        if len(sealed) > KEY_CHARACTERS_MAX:
            return None
        try:
            kept = self._sealer.unseal(_whose(visit), urlsafe_b64decode(sealed))
        except ValueError:  # no base64, or not sealed here for this reader
            return None
        return msgspec.json.decode(kept, type=_SealedKey)


def _whose(visit: Visit) -> Place:
    return Place(Sealable.PLAYGROUND_KEY, visit.reader.tenant, visit.reader.id)


def signed_out() -> Response:
    """The sign-in has ended: the page's script leads to another."""
    return _refused(ApiRefusal(401, "signed_out", "Nobody is signed in."))


def _refused(refusal: ApiRefusal) -> Response:
    """In the shape of the gateway's own errors."""
    error = {"code": refusal.code, "message": refusal.message}
    return JSONResponse({"error": error}, refusal.status)
