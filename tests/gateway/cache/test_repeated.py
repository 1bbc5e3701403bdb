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
        call = self.call_of(body, caller)
        known = self.cache.recall(call, caller, body)
        call.parsed = CHAT.parse(body) if known is None else known
        answer = asyncio.run(self._answer(call, caller))
        call.forget_prompt()
        return known is not None, call.cache.outcome, answer

    def call_of(self, body: bytes = BODY, caller: KeyGrant = GRANT) -> Call:
        """A call with a key of the caller's own."""
        call = call_of(body)
        call.request = structs.replace(call.request, key_digest=caller.key_id.encode())
        call.caller = caller
        return call

    def ask_again(self, caller: KeyGrant = GRANT, plan: Plan = PLAN, **headers: bytes) -> bytes:
        """The answer that stands ready for the same request; nothing where there is none."""
        call = self.call_of(BODY, caller)
        given = {name.replace("_", "-").encode(): value for name, value in headers.items()}
        call.request = structs.replace(call.request, headers=given)
        ready = self.cache.ready(call)
        if ready is None:
            return b""
        call.parsed = ready.parsed
        if not ready.holds(call, plan):
            return b""
        answer = ready.give(call)
        assert call.cache.outcome == "hit-exact"
        assert call.cache.hit is not None and call.cache.hit.entry is not None
        return answer

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


def test_an_answer_that_was_given_twice_stands_ready_for_the_very_request() -> None:
    house = House()
    house.ask()
    assert house.ask_again() == b"", "asked once: nothing is remembered yet"
    _, _, second = house.ask()
    assert house.ask_again() == second
    assert house.ask()[0], "and is known without one, too"


def test_what_stands_ready_is_for_the_same_key_place_and_cache_only() -> None:
    house = House()
    for _ in range(2):
        house.ask()
    assert house.ask_again(structs.replace(GRANT, key_id="key_2")) == b""
    elsewhere = Plan(ModelRoute("other", "chat", PLAN.route.offers), PLAN.candidates)
    assert house.ask_again(plan=elsewhere) == b""
    assert house.ask_again(x_tc_unsupported=b"drop") == b""
    assert house.ask_again(x_tc_cache=b"no-cache") == b""
    assert house.ask_again() != b""


def test_what_is_too_old_flushed_or_no_longer_cached_stands_ready_no_more() -> None:
    house = House()
    for change in (
        lambda: setattr(house, "now", house.now + 200_000),
        lambda: house.served.replace(snapshot(flushed={flush_name("t"): house.now + 1})),
        lambda: house.served.replace(snapshot(mode_overrides={"model/m": "off"})),
    ):
        for _ in range(2):
            house.ask()
        assert house.ask_again() != b""
        change()
        assert house.ask_again() == b""
        house.now += 2


def test_a_stream_does_not_stand_ready() -> None:
    house = House()
    body = BODY.replace(b"{", b'{"stream":true,', 1)
    call = house.call_of(body)
    call.parsed = CHAT.parse(body)
    for _ in range(3):
        house.ask(body)
    assert house.cache.ready(house.call_of(body)) is None
