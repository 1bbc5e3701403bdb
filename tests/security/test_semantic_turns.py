"""One tenant's questions, slow or failing, keep nobody else from the semantic cache."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tests.fakes import call_of
from tokenschain.core.cache.key import Identity
from tokenschain.core.cache.semantic_protocol import Find, Finding, Learn
from tokenschain.core.errors import ApiError
from tokenschain.core.log_events import silent
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.cache import semantic_client
from tokenschain.gateway.cache.lookup import UNANSWERED
from tokenschain.gateway.cache.semantic_client import SemanticClient
from tokenschain.infra.off_loop import WAITING_OF_KEY_MAX
from tokenschain.semantic.error_bound import ServingDecision
from tokenschain.semantic.matcher import MatchResult
from tokenschain.semantic.service import SemanticService

BODY = b'{"model":"m","messages":[{"role":"user","content":"where is it?"}]}'
NOTHING: Any = None


class Slow:
    """In place of the models: begins with nothing until it is let go."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def error_bound_of(self, _group: str) -> Any:
        return SimpleNamespace(learning=False)

    def find(self, _namespace: bytes, group: str, _question: str) -> MatchResult:
        self.go.wait(60)
        self.asked.append(group.partition("/")[0])
        return MatchResult(ServingDecision.MISS)


def _looking_up(service: SemanticService, tenant: str) -> asyncio.Task[bytes]:
    asked = msgspec.msgpack.encode(Find(b"n", f"{tenant}/p/m", "?"))
    return asyncio.ensure_future(service._find(asked))


async def _queued() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_tenants_take_turns_in_the_process() -> None:
    async def run() -> None:
        slow: Any = Slow()
        service = SemanticService(slow, NOTHING, lambda *_: None, "t")
        many = [_looking_up(service, "many") for _ in range(WAITING_OF_KEY_MAX)]
        await _queued()
        few = [_looking_up(service, "few") for _ in range(2)]
        await _queued()
        for left in many[5:15]:  # their callers have stopped waiting
            left.cancel()
        await _queued()
        slow.go.set()
        await asyncio.gather(*few)
        assert slow.asked[:5].count("few") == 2, "they waited for all of another's"
        await asyncio.gather(*many, return_exceptions=True)
        assert slow.asked.count("many") == len(many) - 10, "nobody waits for those"

    asyncio.run(run())


def test_too_many_of_one_tenant_are_refused_and_others_are_not() -> None:
    async def run() -> None:
        slow: Any = Slow()
        service = SemanticService(slow, NOTHING, lambda *_: None, "t")
        many = [_looking_up(service, "many") for _ in range(WAITING_OF_KEY_MAX + 5)]
        few = _looking_up(service, "few")
        await _queued()
        slow.go.set()
        await few
        found = await asyncio.gather(*many, return_exceptions=True)
        refused = [one for one in found if isinstance(one, ApiError)]
        assert {one.code for one in refused} == {"overloaded"} and 0 < len(refused) < 6

    asyncio.run(run())


# --- in the gateway ------------------------------------------------------------------------------


class Refusing(Exception):
    """The process answered, but not with a result."""


class Away(Exception):
    """It cannot be reached."""


class Process:
    """The semantic process as a gateway reaches it."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.fails: dict[str, Exception] = {}
        """By tenant."""
        self.asked: list[str] = []
        self.client = SemanticClient(
            self.send, (Refusing, Away), lambda: self.now_s, silent, 5.0, (Refusing,)
        )

    async def send(self, path: str, body: bytes) -> bytes:
        kind: Any = Find if path == "/find" else Learn
        tenant = msgspec.msgpack.decode(body, type=kind).group.partition("/")[0]
        self.asked.append(tenant)
        if tenant in self.fails:
            raise self.fails[tenant]
        return msgspec.msgpack.encode(Finding())

    def answers(self, tenant: str) -> bool:
        found = asyncio.run(self.client.find(_call(tenant), _identity()))
        return found is not UNANSWERED


def _call(tenant: str) -> Any:
    call = call_of(BODY)
    call.caller = KeyGrant("k", tenant, "p", "e")
    call.parsed = SimpleNamespace(model="m")  # type: ignore[assignment]
    return call


def _identity() -> Identity:
    return Identity(b"k" * 16, b"n" * 16, "where is it?")


@pytest.mark.parametrize("fault", [TimeoutError(), Refusing("HTTP 500")], ids=repr)
def test_only_the_tenant_rests_whose_look_ups_fail(fault: Exception) -> None:
    process = Process()
    process.fails["evil"] = fault
    for _ in range(30):
        assert process.answers("good")
        assert not process.answers("evil")
        process.now_s += 1.0
    assert process.asked.count("evil") == 4, "it rests between, longer each time"
    process.fails["good"] = fault
    process.now_s += semantic_client.THERE_S
    assert not process.answers("good") and process.client.lost
    before = len(process.asked)
    assert not process.answers("another"), "nobody was answered lately: all rest"
    assert len(process.asked) == before


def test_who_waits_behind_another_ones_questions_is_asked_for_again() -> None:
    """Where both fail, one rests longer than the other, which is answered meanwhile."""
    process = Process()
    assert process.answers("good") and process.answers("third")
    process.fails |= {"evil": TimeoutError(), "good": TimeoutError()}
    assert not process.answers("evil") and not process.answers("good")
    assert process.answers("third") and not process.client.lost
    process.now_s += semantic_client.BACKOFF_S
    assert not process.answers("evil")
    del process.fails["good"]
    assert process.answers("good"), "the other one's pause is not its own"
    process.now_s += semantic_client.BACKOFF_S
    assert not process.answers("evil") and process.asked.count("evil") == 2


def test_all_rest_where_several_fail_one_after_the_other() -> None:
    process = Process()
    assert process.answers("good")
    names = [f"tenant-{n}" for n in range(semantic_client.FAILING_MAX)]
    process.fails |= dict.fromkeys(names, TimeoutError())
    for name in names:
        assert not process.client.lost
        assert not process.answers(name)
    assert process.client.lost and not process.answers("good")


def test_all_rest_while_it_cannot_be_reached() -> None:
    process = Process()
    assert process.answers("good")
    process.fails["evil"] = Away("refused")
    assert not process.answers("evil") and not process.answers("good")
    assert process.asked == ["good", "evil"] and process.client.lost


def test_feedback_of_tenants_takes_turns_and_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        process = Process()
        entry: Any = SimpleNamespace()
        monkeypatch.setattr(semantic_client, "encode_entry", lambda _: b"")
        process.client.learn(_call("good"), _identity(), CacheRules(), entry)
        for _ in range(2 * semantic_client.LEARN_QUEUE_MAX):
            process.client.learn(_call("evil"), _identity(), CacheRules(), entry)
        process.client.learn(_call("good"), _identity(), CacheRules(), entry)
        sending = asyncio.ensure_future(process.client.run())
        for _ in range(20 * semantic_client.LEARN_QUEUE_MAX):
            await asyncio.sleep(0)
        sending.cancel()
        assert process.asked[:3].count("good") == 2
        assert len(process.asked) == semantic_client.LEARN_QUEUE_MAX

    asyncio.run(run())
