"""Fan-out: several choices or prompts as calls side by side, joined to one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from tokenschain.core.call import Attempt, Call, ResponseWriter, WholeAnswer
from tokenschain.core.formats import canonical, openai_chat
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.formats.json_bounds import LONG_BYTES
from tokenschain.core.ports import Answer, OffLoop, delivered
from tokenschain.core.pricing.catalog import Usage
from tokenschain.providers.openai_compat.replies import (
    REPLY_BYTES_MAX,
    heading_of,
    read_whole,
    takes_long,
)
from tokenschain.providers.openai_compat.reply_budget import ReplyBudget
from tokenschain.providers.openai_compat.streams import StreamAnswer
from tokenschain.providers.vendor_profile import Vendor
from tokenschain.wire import client as http

T = TypeVar("T")
_TEXT = "text_completion"


async def side_by_side(
    call: Call,
    attempt: Attempt,
    vendor: Vendor,
    count: int,
    ask_one: Callable[[int], Awaitable[http.Reply]],
    off_loop: OffLoop,
    replies: ReplyBudget,
) -> Answer:
    """One answer of that many choices.

    Args:
        attempt: gets the usage of all.
        ask_one: sends the request for the choice of a number; raises when it is refused.
    """
    mine = [Attempt(attempt.candidate, attempt.started_at) for _ in range(count)]

    outlets = [_Side(call.output, number) for number in range(count)]

    async def stream(number: int) -> Answer:
        reply = await ask_one(number)
        side = StreamAnswer(
            reply, call, mine[number], vendor, outlets[number], choices=1, replies=replies
        )
        return await side.first_token(off_loop)

    async def whole(number: int) -> bytes:
        reply = await ask_one(number)
        body = await reply.read(REPLY_BYTES_MAX, partial(replies.hold, call))
        reading = partial(read_whole, body, reply, call, mine[number], vendor)
        return await off_loop(reading, call.caller) if takes_long(body) else reading()

    if call.parsed.stream:
        answers = await _all([stream(number) for number in range(len(mine))])
        attempt.first_byte_at = attempt.first_token_at = time.monotonic()
        return _Merged(answers, outlets, attempt, mine)
    bodies = await _all([whole(number) for number in range(len(mine))])
    attempt.first_byte_at = attempt.first_token_at = attempt.ended_at = time.monotonic()
    attempt.usage, attempt.outcome = _total(mine), "ok"
    joining = partial(openai_chat.join_choices, bodies, attempt.usage)
    long = sum(map(len, bodies)) > LONG_BYTES
    return WholeAnswer(await off_loop(joining, call.caller) if long else joining())


async def _all(waits: list[Awaitable[T]]) -> list[T]:
    """All results, or the first failure as it was raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_wait(wait)) for wait in waits]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures
    return [task.result() for task in tasks]


async def _wait(wait: Awaitable[T]) -> T:
    return await wait


def _total(attempts: list[Attempt]) -> Usage:
    total = Usage()
    for attempt in attempts:
        total = openai_chat.add_usage(total, attempt.usage or Usage())
    return total


class _Side:
    """The way back for one choice: its number is put right, its usage is kept for the end."""

    __slots__ = ("_number", "_writer", "on_pause", "on_resume")

    def __init__(self, writer: ResponseWriter, number: int) -> None:
        self._writer = writer
        self._number = number
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None

    @property
    def bytes_out(self) -> int:
        return self._writer.bytes_out

    @property
    def takes_raw(self) -> bool:
        return False

    def begin_stream(self, call: Call) -> None:
        self._writer.begin_stream(call)

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    def event(self, data: bytes) -> None:
        renumbered = openai_chat.renumbered(data, self._number)
        if renumbered is not None:
            self._writer.event(renumbered)

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        raise AssertionError("only canonical chunks come here")

    def close(self, call: Call, last: bytes) -> None:
        self._writer.close(call, last)


class _Merged:
    __slots__ = ("_answers", "_attempt", "_outlets", "_sides")

    def __init__(
        self, answers: list[Answer], outlets: list[_Side], attempt: Attempt, sides: list[Attempt]
    ) -> None:
        self._answers = answers
        self._outlets = outlets
        self._attempt = attempt
        self._sides = sides

    async def deliver(self, call: Call) -> bytes:
        writer = call.output
        writer.on_pause = self._pause
        writer.on_resume = self._resume
        attempt = self._attempt
        try:
            await _all([delivered(answer, call) for answer in self._answers])
            attempt.outcome = "ok"
            if call.parsed.wants_usage or not writer.takes_raw:
                head = heading_of(call, attempt).head(call.request.id)
                kind = "chat.completion.chunk" if call.parsed.api is openai_chat.Api.CHAT else _TEXT
                usage = openai_chat.wire_usage(_total(self._sides))
                writer.event(canonical.usage_chunk(head, usage, kind))
            return b""
        except BaseException:
            call.partial = True
            attempt.outcome = next((s.outcome for s in self._sides if s.outcome != "ok"), "ok")
            raise
        finally:
            writer.on_pause = writer.on_resume = None
            attempt.ended_at = time.monotonic()
            attempt.usage = _total(self._sides)
            attempt.finish_reason = self._sides[0].finish_reason

    def abort(self) -> None:
        for answer in self._answers:
            answer.abort()

    def partial_output(self) -> PartialOutput | None:
        return None

    def _pause(self) -> None:
        for side in self._outlets:
            if side.on_pause is not None:
                side.on_pause()

    def _resume(self) -> None:
        for side in self._outlets:
            if side.on_resume is not None:
                side.on_resume()
