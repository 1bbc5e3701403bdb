"""What is held of upstreams' answers is bounded in sum: a tenant's own may send much at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from tests.fakes import call_of, price
from tests.waiting import WAIT_MAX_S
from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import openai_chat
from tokenschain.core.snapshot import Candidate, Offer, Upstream
from tokenschain.core.tenancy import KeyGrant
from tokenschain.providers.images import ImageFetcher
from tokenschain.providers.openai_compat.reply_budget import ReplyBudget
from tokenschain.providers.openai_compat.upstreams import HttpUpstreams
from tokenschain.providers.vendor_table import vendor_of
from tokenschain.wire.client import HttpClient

MB = 1_048_576
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE = HEAD % b"application/json" + b'3\r\n{"a\r\n'
EVENT = HEAD % b"text/event-stream" + b"6\r\ndata: \r\n"
KINDS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "a whole answer": (WHOLE, {}),
    "an event without an end": (EVENT, {"stream": True}),
    "a whole answer where a stream was asked for": (WHOLE, {"stream": True}),
    "choices side by side": (WHOLE, {"n": 2}),
}


class Pouring:
    """An upstream that sends a megabyte to each request and then nothing more."""

    def __init__(self, begin: bytes) -> None:
        self._begin = begin

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._begin + b"%x\r\n%b\r\n" % (MB, b"x" * MB))
        await reader.read()
        writer.close()


@asynccontextmanager
async def opening(begin: bytes, budget: ReplyBudget) -> AsyncIterator[Callable[[Call], Any]]:
    server = await asyncio.start_server(Pouring(begin), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    client = HttpClient()
    clouds = HttpUpstreams(
        client, lambda _: None, vendor_of, lambda *_: None, ImageFetcher(client), replies=budget
    )
    candidate = Candidate(Upstream("u", "lingyi", url), Offer("u", "m", price(0)))

    async def open_(call: Call) -> None:
        answer = await clouds.open(call, candidate, None)
        await answer.deliver(call)

    yield open_
    client.close()
    server.close()


def call_by(tenant: str, more: dict[str, Any]) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    raw = msgspec.json.encode(body)
    call = call_of(raw)
    call.caller = KeyGrant("key_1", tenant, "p", "e")
    call.parsed = openai_chat.parse(openai_chat.Api.CHAT, raw)
    return call


async def until(found: Callable[[], bool]) -> None:
    while not found():  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tenant_holds_half_at_most_and_all_is_given_back(kind: str) -> None:
    begin, more = KINDS[kind]

    async def run() -> None:
        budget = ReplyBudget(10 * MB)
        async with opening(begin, budget) as open_:
            calls = [call_by("a", more) for _ in range(8)]
            tasks = [asyncio.ensure_future(open_(call)) for call in calls]
            await until(lambda: budget.held >= 4 * MB and any(task.done() for task in tasks))
            refused = [task.exception() for task in tasks if task.done()]
            assert {error.code for error in refused if isinstance(error, ApiError)} == {
                "overloaded"
            }
            assert len(refused) == sum(isinstance(error, ApiError) for error in refused)
            assert budget.held <= 5 * MB

            other = call_by("b", more)
            waiting = asyncio.ensure_future(open_(other))
            await until(lambda: other.held is not None)
            assert not waiting.done(), "another tenant has its own half"
            for task in (*tasks, waiting):
                task.cancel()
            await asyncio.gather(*tasks, waiting, return_exceptions=True)
            for call in (*calls, other):
                if call.held is not None:
                    call.held.release()
            assert budget.held == 0

    asyncio.run(asyncio.wait_for(run(), WAIT_MAX_S))


def test_what_is_short_is_not_counted_at_all() -> None:
    budget = ReplyBudget(10 * MB)
    call = call_by("a", {})
    assert call.held is None and budget.held == 0
    budget.hold(call, 7)
    assert budget.held == 7
    with pytest.raises(ApiError) as refused:
        budget.hold(call, 5 * MB)
    assert refused.value.status == 429 and json.loads(refused.value.body())["error"]["code"]
    call.held.release()  # type: ignore[union-attr]
    call.held.release()  # type: ignore[union-attr]
    assert budget.held == 0
