"""Stream collector: whole answers that are requested as streams."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
from msgspec import Raw

from tokenschain.core.call import Attempt, Call
from tokenschain.core.formats import stream_aggregation
from tokenschain.core.formats.json_bounds import LONG_BYTES
from tokenschain.core.formats.openai_chat import ParsedRequest
from tokenschain.core.ports import OffLoop, delivered
from tokenschain.providers.openai_compat.reply_budget import ReplyBudget
from tokenschain.providers.openai_compat.streams import StreamAnswer
from tokenschain.providers.vendor_profile import Vendor
from tokenschain.wire import client as http


def as_stream(
    parsed: ParsedRequest, fields: dict[str, Raw]
) -> tuple[ParsedRequest, dict[str, Raw]]:
    """The same request for a stream with its usage."""
    asked = msgspec.structs.replace(parsed, stream=True)
    return asked, {**fields, "stream": Raw(b"true")}


async def gather(
    reply: http.Reply,
    call: Call,
    attempt: Attempt,
    vendor: Vendor,
    off_loop: OffLoop,
    replies: ReplyBudget,
) -> bytes:
    """Read a stream to its end.

    Raises:
        ApiError: it failed; the caller has nothing of it yet, so another upstream may be asked.
    """
    basket = _Basket(call, replies)
    answer = await StreamAnswer(reply, call, attempt, vendor, basket, replies=replies).first_token(
        off_loop
    )
    try:
        await delivered(answer, call)
    finally:
        call.partial = False
    joining = partial(stream_aggregation.whole_of, basket.chunks)
    return (
        await off_loop(joining, call.caller)
        if sum(map(len, basket.chunks)) > LONG_BYTES
        else joining()
    )


class _Basket:
    """Takes the place of the way back."""

    __slots__ = ("_call", "_fields", "_replies", "chunks", "on_pause", "on_resume")

    def __init__(self, call: Call, replies: ReplyBudget) -> None:
        self._call = call
        self._replies = replies
        self._fields = call.parsed.fields
        self.chunks: list[bytes] = []
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None

    @property
    def bytes_out(self) -> int:
        return 0

    @property
    def takes_raw(self) -> bool:
        return False

    def begin_stream(self, call: Call) -> None:
        # The request is still needed when another upstream has to be asked.
        call.parsed.fields = self._fields

    def write(self, data: bytes) -> None:
        raise AssertionError("only whole events come here")

    def event(self, data: bytes) -> None:
        self._replies.hold(self._call, len(data))
        self.chunks.append(data)

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        raise AssertionError("only canonical chunks come here")

    def close(self, call: Call, last: bytes) -> None: ...
