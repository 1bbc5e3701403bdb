"""Replay of a cached response: whole, or as a stream at a reader's pace."""

from __future__ import annotations

import asyncio

from tokenschain.core.cache import response
from tokenschain.core.cache.store import CacheEntry
from tokenschain.core.call import Call


class CachedAnswer:
    """A cached response, in the form that this caller asked for."""

    __slots__ = ("_chars_per_s", "_entry", "_template")

    def __init__(
        self,
        entry: CacheEntry,
        chars_per_s: float,
        template: response.ReplyTemplate | None = None,
    ) -> None:
        """
        Args:
            chars_per_s: how fast a stream is replayed; 0: at once.
            template: of the entry's body, where it was made before.
        """
        self._entry = entry
        self._chars_per_s = chars_per_s
        self._template = template

    async def deliver(self, call: Call) -> bytes:
        """See `core.ports.Answer.deliver`."""
        if not call.parsed.stream:
            template, request = self._template, call.request
            if template is None:
                template = response.ReplyTemplate(self._entry.body)
            return template.fill(request.id, request.started_ms // 1_000, call.parsed.api)
        writer = call.output
        call.partial = True
        writer.begin_stream(call)
        for chars, data in response.chunks(self._entry.body, target_of(call)):
            writer.event(data)
            if self._chars_per_s and chars:
                await asyncio.sleep(chars / self._chars_per_s)
        call.partial = False
        return b""

    def abort(self) -> None: ...

    def partial_output(self) -> None:
        return None


def target_of(call: Call) -> response.ReplayTarget:
    """Other formats than OpenAI's read usage from the stream, whether the caller asked or not."""
    request, parsed = call.request, call.parsed
    wants_usage = parsed.wants_usage or not call.writer.takes_raw
    return response.ReplayTarget(request.id, request.started_ms // 1_000, parsed.api, wants_usage)
