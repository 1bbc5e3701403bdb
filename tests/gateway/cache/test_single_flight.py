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
from tokenschain.gateway.cache.single_flight import Flight, FollowedAnswer, RecordingWriter

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
    of.followers += 1
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
