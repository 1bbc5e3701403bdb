"""First-run page of the console: a first answer, a cloud, a key, a call, and what happened."""

from __future__ import annotations

import time

import msgspec
from starlette.responses import Response

from tokenschain.console.calls import CallList
from tokenschain.console.connect import may_connect
from tokenschain.console.keys import ApiKeyList
from tokenschain.console.models import ModelList
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import Visit

MODELS_NAMED = 5


class NamedUpstream(msgspec.Struct):
    """An upstream that is configured; see `GET /upstreams`."""

    name: str


class UpstreamNames(msgspec.Struct):
    """Some of them."""

    data: list[NamedUpstream]


async def show(visit: Visit, renderer: Renderer) -> Response:
    """What is done already, and the next step."""
    connects = may_connect(visit)
    owned = {"limit": 1, "tenant": visit.tenant}
    reads = {"clouds": visit.api.get("/upstreams", UpstreamNames, owned)} if connects else {}
    parts = await visit.parts(
        **reads,
        keys=visit.api.get("/keys", ApiKeyList, {"limit": 20, "tenant": visit.tenant}),
        calls=visit.api.get("/calls", CallList, {"limit": 1, "tenant": visit.tenant}),
        models=visit.api.get("/served-models", ModelList),
    )
    now_s = time.time()
    keys, calls, models = (parts[name].data for name in ("keys", "calls", "models"))
    clouds = parts["clouds"].data if connects else None
    names = [one.name for one in (models.data if models else ()) if one.kind == "chat"]
    return renderer.page(
        "start.html",
        visit,
        has_key=bool(keys) and any(one.state(now_s) == "active" for one in keys.data),
        may_connect=connects,
        has_cloud=bool(clouds and clouds.data),
        has_call=bool(calls and calls.data),
        names=names[:MODELS_NAMED],
        unread=parts["models"].refusal,
    )
