"""Decoding in turns: a compressed stream is undone a piece to a turn of the event loop.

Little that is compressed may hold much; others are served between its pieces.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator

from tokenschain.providers.openai_compat.body_decoding import BadEncoding, BodyDecoder
from tokenschain.wire import client as http


class DecodingTurns:
    """What came encoded and waits for its turn; the upstream waits meanwhile."""

    __slots__ = (
        "_decoder", "_due", "_end", "_ended", "_loop", "_paused", "_pieces", "_read", "_reply",
        "_waiting",
    )  # fmt: skip

    def __init__(
        self,
        decoder: BodyDecoder,
        reply: http.Reply,
        read: Callable[[bytes], bool],
        end: Callable[[BaseException | None], None],
    ) -> None:
        """
        Args:
            read: takes a decoded piece; false where no more is wanted.
            end: told of the end once everything is read, and of a `BadEncoding`.
        """
        self._decoder = decoder
        self._reply = reply
        self._read = read
        self._end = end
        self._waiting: deque[bytes] = deque()
        self._pieces: Iterator[bytes] | None = None
        """Of what is being decoded."""
        self._ended: tuple[BaseException | None] | None = None
        """How the body ended while some of it was still to be read."""
        self._loop = asyncio.get_running_loop()
        self._paused = self._due = False

    def take(self, data: bytes) -> None:
        """More of the body, as it came."""
        self._waiting.append(data)
        if self._pieces is None:
            self._reply.pause()
            self._pieces = self._decoder.pieces(self._waiting.popleft())
            self._turn()

    def pause(self) -> None:
        """Read no more for now: the one we feed is slow."""
        self._paused = True
        self._reply.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        if self._pieces is not None:
            self._come_again()
        else:
            self._reply.resume()

    def holds_end(self, error: BaseException | None) -> bool:
        """The body has ended; whether that is to be told later, when all of it is read."""
        if self._pieces is not None:
            self._ended = (error,)
        return self._pieces is not None

    def _come_again(self) -> None:
        if not self._due and not self._paused:
            self._due = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._due = False
        if self._pieces is None:
            return
        try:
            piece = next(self._pieces, None)
        except BadEncoding as error:
            self._pieces = None
            self._end(error)
            return
        if piece is not None:
            wanted = self._read(piece)
        elif wanted := bool(self._waiting):
            self._pieces = self._decoder.pieces(self._waiting.popleft())
        if wanted:
            self._come_again()
            return
        self._pieces = None
        if not self._paused:
            self._reply.resume()
        if self._ended is not None:
            self._end(*self._ended)
