"""Residency holds for the models that compare questions by meaning, too: they see the texts."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec
import pytest

from tests.fakes import call_of
from tokenschain.core.formats import openai_chat
from tokenschain.core.snapshot import (
    Candidate,
    ModelRoute,
    Offer,
    Plan,
    Routing,
    Served,
    Snapshot,
    Upstream,
)
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.cache.lookup import ResponseCache
from tokenschain.gateway.dispatch.router import Router

ROUTE = ModelRoute("m", "chat", (Offer("a", "m"),))
UPSTREAM = Upstream("a", provider="sim", base_url="http://127.0.0.1/v1", zone="own")
PLAN = Plan(ROUTE, (Candidate(UPSTREAM, ROUTE.offers[0]),))
BODY = b'{"model":"m","messages":[{"role":"user","content":"how do I get a refund for it?"}]}'
PLAIN = KeyGrant("key_1", "t", "p", "e")
SECRET = msgspec.structs.replace(PLAIN, key_id="key_2", data_class="secret")


class Asked(Exception):
    """The texts would be compared."""


class Comparing:
    """Where meanings are compared."""

    def __getattr__(self, name: str) -> Any:
        raise Asked


def compared(caller: KeyGrant, zones: str, residency: dict[str, tuple[str, ...]]) -> bool:
    """Whether a call's texts go to models of these zones."""
    snapshot = Snapshot(
        "1", models={"m": ROUTE}, upstreams={"a": UPSTREAM},
        cache=CacheRules(mode="semantic"),
        routing=Routing(residency=residency),  # type: ignore[arg-type]
    )  # fmt: skip
    served = Served(snapshot)
    router = Router(served, lambda: 1.0, lambda: 1.0, lambda: 0.5)
    cache = ResponseCache(
        served, lambda data: hashlib.sha256(data).digest()[:16], lambda: 1.0, lambda: 0.5,
        semantic=Comparing(),
        may_compare=lambda *call: router.may_go_to(frozenset(zones.split(",")), *call),
    )  # fmt: skip
    call = call_of(BODY)
    call.caller = caller
    call.parsed = openai_chat.parse(openai_chat.Api.CHAT, BODY)
    router.plan(call, caller)

    async def look_up() -> None:
        looking_up = cache.look_up(call, caller, PLAN)
        if looking_up is not None:
            await looking_up

    try:
        asyncio.run(look_up())
    except Asked:
        return True
    return False


RULES: dict[str, tuple[str, ...]] = {"class/secret": ("own", "cn"), "model/other": ("gov",)}


@pytest.mark.parametrize(
    ("zones", "may"),
    [("cn", True), ("own,cn", True), ("abroad", False), ("", False), ("cn,abroad", False),
     ("cn,", False)],
    ids=str,
)  # fmt: skip
def test_texts_go_to_no_comparing_model_outside_their_zones(zones: str, may: bool) -> None:
    assert compared(SECRET, zones, RULES) is may
    assert compared(PLAIN, zones, RULES) is True
    assert compared(PLAIN, zones, {"*": ("own", "cn")}) is may
    assert compared(PLAIN, zones, {"model/m": ("own", "cn")}) is may
    assert compared(PLAIN, zones, {"tenant/t/project/p": ("own", "cn")}) is may
