"""A compressed stream in turns: all of it in its order, between turns of others, paused, ended."""

from __future__ import annotations

import asyncio
import zlib
from typing import Any

import pytest

from tokenschain.providers.openai_compat.body_decoding import BadEncoding, BodyDecoder
from tokenschain.providers.openai_compat.decoding_turns import DecodingTurns

BODY = b"".join(b"data: %d\n\n" % at for at in range(200_000))


class Reading:
    """What reads the stream, and the reply that it comes from."""

    def __init__(self, wanted: int = 1_000_000) -> None:
        self.got: list[bytes] = []
        self.ends: list[BaseException | None] = []
        self.paused: list[bool] = []
        self._wanted = wanted
        self.turns = DecodingTurns(BodyDecoder(67_108_864), self._reply(), self._read, self._end)

    def _reply(self) -> Any:
        paused = self.paused

        class Reply:
            def pause(self) -> None:
                paused.append(True)

            def resume(self) -> None:
                paused.append(False)

        return Reply()

    def _read(self, data: bytes) -> bool:
        self.got.append(data)
        return len(self.got) < self._wanted

    def _end(self, error: BaseException | None) -> None:
        self.ends.append(error)

    def feed(self, body: bytes, size: int) -> None:
        """A body in pieces of a size, and its end."""
        for at in range(0, len(body), size):
            self.turns.take(body[at : at + size])
        if not self.turns.holds_end(None):
            self._end(None)

    async def wait(self) -> int:
        """How many turns of the loop it takes to the end."""
        turns = 0
        while not self.ends:
            await asyncio.sleep(0)
            turns += 1
            assert turns < 1_000
        return turns


@pytest.mark.parametrize("size", [1_000, 100_000_000])
def test_all_is_read_in_its_order_and_then_the_end(size: int) -> None:
    async def run() -> None:
        reading = Reading()
        reading.feed(zlib.compress(BODY), size)
        assert not reading.ends and reading.paused == [True]
        assert await reading.wait() >= len(BODY) // 65_536
        assert b"".join(reading.got) == BODY and reading.ends == [None]
        assert max(map(len, reading.got)) <= 65_536
        assert reading.paused[-1] is False

    asyncio.run(run())


def test_nothing_is_read_while_the_reader_is_slow() -> None:
    async def run() -> None:
        reading = Reading()
        reading.feed(zlib.compress(BODY), 100_000_000)
        await asyncio.sleep(0)
        reading.turns.pause()
        for _ in range(3):
            await asyncio.sleep(0)
        got = len(reading.got)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(reading.got) == got and reading.paused[-1] is True
        reading.turns.resume()
        await reading.wait()
        assert b"".join(reading.got) == BODY

    asyncio.run(run())


def test_what_is_broken_or_not_wanted_ends_it() -> None:
    async def run() -> None:
        broken = Reading()
        broken.feed(zlib.compress(BODY)[:-4] + b"none", 100_000_000)
        await broken.wait()
        assert isinstance(broken.ends[0], BadEncoding)
        done = Reading(wanted=2)
        done.feed(zlib.compress(BODY), 100_000_000)
        await done.wait()
        assert len(done.got) == 2 and len(done.ends) == 1

    asyncio.run(run())
