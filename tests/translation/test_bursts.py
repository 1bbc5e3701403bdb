"""A stream that comes in bursts is relayed in as many pieces as it came in, and unchanged."""

from __future__ import annotations

import pytest

from tests.translation import lab as lab_module
from tests.translation.lab import Lab
from tests.vendors.strict.vendor import Answer

_EVENT = (
    b'data: {"id":"c-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"word%d "},"finish_reason":null}]}\n\n'
)
_END = (
    b'data: {"id":"c-1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
READS, EVENTS_PER_READ = 20, 10


def test_a_burst_leaves_in_few_writes_and_as_it_came(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = [
        b"".join(_EVENT % (read * EVENTS_PER_READ + at) for at in range(EVENTS_PER_READ))
        for read in range(READS)
    ] + [_END]
    lab.alter = lambda answer: Answer(200, (("content-type", "text/event-stream"),), tuple(reads))
    writes: list[bytes] = []
    send = lab_module._Caller.send

    def counted(caller: lab_module._Caller, data: bytes) -> None:
        writes.append(data)
        send(caller, data)

    monkeypatch.setattr(lab_module._Caller, "send", counted)
    asked = {"model": "openai", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    got = lab.ask("/v1/chat/completions", asked)
    assert got.body == b"".join(reads)
    assert len(writes) < 2 * len(reads)
    assert got.record is not None and got.record.completion_tokens == READS * EVENTS_PER_READ
