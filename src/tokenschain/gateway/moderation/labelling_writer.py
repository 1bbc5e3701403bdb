"""Labelling writer: the way back to a caller whose answers say that AI made them.

It stands before the cache and its followers, so that what is cached and screened is the model's
own, and each caller has the label of its own project.
"""

from __future__ import annotations

import msgspec

from tokenschain.core.call import Call, CallerWriter
from tokenschain.core.formats.formats import COMPACTION
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.labels.aigc import AigcLabel, write_label
from tokenschain.core.labels.notice import (
    Notice,
    StreamNotice,
    takes_notice,
    with_notice,
    without_notice,
)
from tokenschain.core.snapshot.label_rules import LabelRule
from tokenschain.gateway.moderation.forwarding_writer import ForwardingWriter

_GENERATIVE = (Api.CHAT, Api.COMPLETIONS)


def label(call: Call, rule: LabelRule) -> None:
    """See to it that a call's answer is labelled; before anything is cached or sent of it."""
    parsed, request = call.parsed, call.request
    if parsed.api not in _GENERATIVE or request.api_format is COMPACTION:
        return
    notice = None
    if rule.explicit != "none":
        if takes_notice(parsed):
            notice = Notice(rule.notice, rule.explicit == "start")
            call.reads_answer = True
        fields = without_notice(parsed.fields, rule.notice)
        if fields is not None:
            call.parsed = msgspec.structs.replace(parsed, fields=fields)
    line = b""
    if rule.implicit == "on":
        made = write_label(AigcLabel(content_producer=rule.producer, produce_id=request.id))
        line = b"x-tc-aigc: %b\r\n" % made.encode()
    if notice is not None or line:
        call.writer = call.output = LabellingWriter(call.writer, notice, line)


class LabellingWriter(ForwardingWriter[CallerWriter]):
    """See `core.call.CallerWriter`."""

    __slots__ = ("_line", "_notice", "_stream")

    def __init__(self, inner: CallerWriter, notice: Notice | None, line: bytes) -> None:
        """
        Args:
            line: of the header; empty: none.
        """
        super().__init__(inner)
        self._notice, self._line = notice, line
        self._stream = None if notice is None else StreamNotice(notice)

    @property
    def ends_long(self) -> bool:
        return self._inner.ends_long

    def add_headers(self, lines: bytes) -> None:
        self._inner.add_headers(lines)

    def begin_stream(self, call: Call) -> None:
        self._say()
        self._inner.begin_stream(call)

    def write(self, data: bytes) -> None:
        if self._stream is None:
            self._inner.write(data)
        else:
            self._write_events(data)

    def event(self, data: bytes) -> None:
        if self._stream is None:
            self._inner.event(data)
            return
        for chunk in self._stream.chunks(data):
            self._inner.event(chunk)

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        assert self._stream is None, "an answer that gets a notice is not relayed"
        self._inner.native(data, chunks)

    def complete(self, call: Call, last: bytes) -> bytes:
        if last and self._notice is not None:
            last = with_notice(last, self._notice)
        return self._inner.complete(call, last)

    def keeps_long(self, call: Call, last: bytes) -> bool:
        return self._inner.keeps_long(call, last)

    def keep(self, call: Call, last: bytes) -> bytes:
        return self._inner.keep(call, last)

    def close(self, call: Call, last: bytes) -> None:
        if call.error is None:
            self._say()
        self._inner.close(call, last)

    def _say(self) -> None:
        """Have the header sent; once."""
        if self._line:
            self._inner.add_headers(self._line)
            self._line = b""
