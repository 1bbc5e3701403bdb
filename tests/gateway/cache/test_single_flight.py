"""Single flight: what followers get of the call that is being answered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes import FakeResponseWriter, call_of
from tokenschain.core.cache.store import CacheEntry
from tokenschain.core.call import CacheResult, Call, Hit
from tokenschain.core.call_record import HitKind
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.gateway.cache import single_flight
from tokenschain.gateway.cache.single_flight import (
    Behind,
    Flight,
    FollowedAnswer,
    RecordingWriter,
)

STREAM = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}'


def entry() -> CacheEntry:
    return CacheEntry(b"{}", "t", "m", 0.0, 1.0)


def flight(bytes_max: int = 1_000) -> Flight:
    return Flight(("key",), bytes_max)


def follower(of: Flight) -> tuple[FollowedAnswer, Call, list[str]]:
    log: list[str] = []
    call = call_of(STREAM, log)
    call.parsed = parse(Api.CHAT, STREAM)
    result = call.cache = CacheResult(HitKind.INFLIGHT)
    result.hit = Hit(HitKind.INFLIGHT, None, b"key")
    of.join()
    return FollowedAnswer(of, result), call, log


def test_a_leader_that_fails_before_its_first_piece_fails_for_itself_alone() -> None:
    async def run() -> bool:
        leads = flight()
        asyncio.get_running_loop().call_soon(leads.end, None)
        return await leads.begins()

    assert asyncio.run(run()) is False


def test_a_stream_that_breaks_off_breaks_off_for_followers_too() -> None:
    async def run() -> tuple[list[str], Call]:
        leads = flight()
        answer, call, log = follower(leads)
        leads.add(True, b"a")
        asyncio.get_running_loop().call_soon(leads.end, None)
        with pytest.raises(ApiError, match="broke off") as caught:
            await answer.deliver(call)
        assert caught.value.code == "upstream_interrupted"
        return log, call

    log, call = asyncio.run(run())
    assert log == ["begin", "a"] and call.partial


def test_followers_get_all_from_the_beginning_and_one_that_leaves_disturbs_no_other() -> None:
    async def run() -> tuple[list[str], list[str], Call]:
        leads = flight()
        caller: list[str] = []
        writer = RecordingWriter(FakeResponseWriter(caller), leads)
        writer.write(b"a")
        stays, call, log = follower(leads)
        leaves, gone, _ = follower(leads)
        tasks = [asyncio.ensure_future(a.deliver(c)) for a, c in ((stays, call), (leaves, gone))]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        writer.event(b"b")
        leads.end(entry())
        assert await tasks[0] == b""
        return caller, log, call

    caller, log, call = asyncio.run(run())
    assert caller == ["a", "b"] and log == ["begin", "a", "b"]
    assert not call.partial
    assert call.cache.hit is not None and call.cache.hit.entry == entry()


@pytest.mark.parametrize("followers", [0, 1])
def test_what_is_too_long_is_kept_only_for_those_who_follow_already(followers: int) -> None:
    leads: Any = flight(bytes_max=3)
    leads.followers = followers
    for piece in (b"ab", b"cd", b"ef"):
        leads.add(True, piece)
    assert leads.too_long
    assert len(leads.pieces) == (3 if followers else 0)


class Leader:
    """One that reads slowly or not; `upstream` remembers what its upstream was told."""

    def __init__(self, of: Flight) -> None:
        self.told: list[str] = []
        self.upstream: list[str] = []
        self.caller = FakeResponseWriter(self.told)
        self.writer = RecordingWriter(self.caller, of)
        self.writer.on_pause = lambda: self.upstream.append("wait")
        self.writer.on_resume = lambda: self.upstream.append("go on")

    def slows(self) -> None:
        assert self.caller.on_pause is not None
        self.caller.on_pause()

    def reads_on(self) -> None:
        assert self.caller.on_resume is not None
        self.caller.on_resume()


def test_a_slow_leader_stops_its_upstream_while_nobody_follows() -> None:
    leads = flight()
    leader = Leader(leads)
    leader.slows()
    assert leader.upstream == ["wait"]
    leads.join()
    assert leader.upstream == ["wait", "go on"]
    leader.writer.write(b"a")
    leads.leave()
    assert leader.upstream == ["wait", "go on", "wait"]
    leader.reads_on()
    assert leader.upstream[-1] == "go on" and leader.told == ["a"]


def test_a_slow_leader_gets_in_order_what_its_followers_had_before() -> None:
    leads = flight()
    leads.join()
    leader = Leader(leads)
    leader.writer.write(b"a")
    leader.slows()
    leader.writer.write(b"b")
    leader.writer.native(b"c", [b"chunk"])
    assert leader.told == ["a"] and len(leads.pieces) == 3 and not leader.upstream
    leader.reads_on()
    leader.writer.event(b"d")
    leader.slows()
    leader.writer.event(b"e")
    leader.writer.on_pause = None  # the answer is over
    assert leader.told == ["a", "b", "c", "d", "e"] and not leads.behind.bytes


@pytest.mark.parametrize("bound", ["BEHIND_BYTES_MAX", "BEHIND_BYTES_TOTAL_MAX"])
def test_a_leader_is_so_far_behind_and_no_further(
    monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(single_flight, bound, 10)
    leads = Flight(("key",), 1_000, Behind())
    leads.join()
    leader = Leader(leads)
    leader.slows()
    leader.writer.write(b"12345")
    assert not leader.upstream
    leader.writer.write(b"67890")
    assert leader.upstream == ["wait"]
    leader.reads_on()
    assert leader.upstream == ["wait", "go on"] and leader.told == ["12345", "67890"]


def test_a_follower_that_reads_nothing_is_given_no_more() -> None:
    async def run() -> list[str]:
        leads = flight()
        answer, call, log = follower(leads)
        task = asyncio.ensure_future(answer.deliver(call))
        await asyncio.sleep(0)
        writer: Any = call.output
        writer.on_pause()
        for piece in (b"a", b"b", b"c"):
            leads.add(True, piece)
        leads.end(entry())
        for _ in range(5):
            await asyncio.sleep(0)
        assert log == ["begin", "a"], "one piece tells that it is slow"
        writer.on_resume()
        await task
        return log

    assert asyncio.run(run()) == ["begin", "a", "b", "c"]
