"""Bodies that come again letter by letter: parsed and identified once, answered from the cache."""

from __future__ import annotations

import asyncio
import hashlib

import msgspec
from msgspec import structs

from tests.fakes import BODY, CHAT, GRANT, call_of
from tokenschain.core.call import Attempt, Call
from tokenschain.core.call_record import CallRecord
from tokenschain.core.snapshot import Candidate, ModelRoute, Offer, Plan, Served, Snapshot, Upstream
from tokenschain.core.snapshot.cache_rules import CacheRules, flush_name
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.cache import lookup
from tokenschain.gateway.cache.lookup import ResponseCache

CHOICE = {"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
ANSWER = msgspec.json.encode({"id": "chatcmpl-1", "created": 1, "choices": [CHOICE]})
CANDIDATE = Candidate(Upstream("a"), Offer("a", "m"))
PLAN = Plan(ModelRoute("m", "chat", (CANDIDATE.offer,)), (CANDIDATE,))


def snapshot(**rules: object) -> Snapshot:
    return Snapshot("1", {}, {}, cache=CacheRules(mode="exact", writes_per_minute=10_000, **rules))  # type: ignore[arg-type]


class House:
    """A response cache, and calls as the pipeline brings them there."""

    def __init__(self) -> None:
        self.served = Served(snapshot())
        self.now = 1_000.0
        self.cache = ResponseCache(
            self.served, lambda data: hashlib.sha256(data).digest()[:16], lambda: self.now,
            lambda: 0.5,
        )  # fmt: skip

    def ask(self, body: bytes = BODY, caller: KeyGrant = GRANT) -> tuple[bool, str, bytes]:
        """Whether the body was known, what the cache did, and its answer."""
        call = call_of(body)
        call.caller = caller
        known = self.cache.recall(call, caller, body)
        call.parsed = CHAT.parse(body) if known is None else known
        answer = asyncio.run(self._answer(call, caller))
        call.forget_prompt()
        return known is not None, call.cache.outcome, answer

    async def _answer(self, call: Call, caller: KeyGrant) -> bytes:
        looking_up = self.cache.look_up(call, caller, PLAN)
        found = None if looking_up is None else await looking_up
        if found is not None:
            return await found.deliver(call)
        call.attempts.append(Attempt(CANDIDATE, 0.0))
        call.record = CallRecord(call.request.id, 0, "chat/completions")
        if call.cache.in_flight is not None:
            call.cache.in_flight.settle(call, ANSWER)
        return b""


def test_what_was_asked_twice_is_known_the_third_time_and_answered_as_before() -> None:
    house = House()
    assert house.ask() == (False, "miss", b"")
    known, outcome, second = house.ask()
    assert (known, outcome) == (False, "hit-exact")
    assert msgspec.json.decode(second)["choices"] == [CHOICE]
    for _ in range(3):
        assert house.ask() == (True, "hit-exact", second)
    assert house.ask(BODY.replace(b"hi", b"ho"))[:2] == (False, "miss")


def test_another_key_is_parsed_for_itself_and_another_tenant_gets_nothing() -> None:
    house = House()
    for _ in range(3):
        house.ask()
    colleague = structs.replace(GRANT, key_id="key_2")
    assert house.ask(caller=colleague)[:2] == (False, "hit-exact")
    stranger = structs.replace(GRANT, key_id="key_3", tenant="other")
    assert house.ask(caller=stranger)[:2] == (False, "miss")


def test_what_was_flushed_or_is_no_longer_cached_is_asked_again() -> None:
    house = House()
    for _ in range(3):
        house.ask()
    house.now += 1
    house.served.replace(snapshot(flushed={flush_name("t"): house.now}))
    house.now += 1
    assert house.ask()[:2] == (False, "miss")
    for _ in range(2):
        house.ask()
    house.served.replace(snapshot(mode_overrides={"model/m": "off"}))
    assert house.ask()[1] == "bypass"


def test_an_answer_that_is_too_old_is_asked_again() -> None:
    house = House()
    for _ in range(3):
        house.ask()
    house.now += 200_000
    assert house.ask()[:2] == (True, "miss")


def test_bodies_are_remembered_within_a_bound() -> None:
    house = House()
    for number in range(lookup.REPEATED_BYTES_MAX // lookup.REPEATED_OVERHEAD_BYTES):
        body = BODY.replace(b"hi", b"%d" % number)
        house.ask(body)
        house.ask(body)
    assert 0 < house.cache._repeated_bytes <= lookup.REPEATED_BYTES_MAX
    large = BODY.replace(b"hi", b"x" * (lookup.REPEATED_BYTES_MAX // 100))
    for _ in range(3):
        assert house.ask(large)[0] is False
