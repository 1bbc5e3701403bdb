"""Streams that come piece by piece: what passes unread is what would have been passed when read.

After the first token, OpenAI's chunks are relayed as bytes unless there is something of interest
in them; these cases come after it.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.field_failures.answers import Json, answers, ask, call, chunk, frames, heard, last_usage
from tests.field_failures.test_k3_tool_calls import STYLES, TWO
from tests.translation import lab as labs
from tests.translation.answers import events_in
from tests.translation.lab import Lab
from tokenschain.providers.openai_compat.streams import StreamAnswer

API = "chat/completions"
FIRST = [chunk(role="assistant", content=""), chunk(content="One"), chunk(content=" two")]
TURNS_BETWEEN = 3
"""Of the event loop, so that the caller is being written to before the next piece comes."""


@pytest.fixture
def paced(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Each piece of an answer comes when the one before has been passed on."""

    def feed(transport: Any, pieces: tuple[bytes, ...]) -> None:
        loop = asyncio.get_running_loop()

        def step(at: int, turns: int) -> None:
            if turns:
                loop.call_soon(step, at, turns - 1)
            elif at == len(pieces):
                transport._end()
            else:
                transport._feed(pieces[at])
                loop.call_soon(step, at + 1, TURNS_BETWEEN)

        step(0, 0)

    def write(self: Any, data: Any) -> None:
        head, _, body = bytes(data).partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")[1:]
        headers = {n.lower(): v for n, v in (line.split(": ", 1) for line in lines)}
        answer = self._lab.answer(self._vendor, headers, body)
        more = "".join(f"{name}: {value}\r\n" for name, value in answer.headers)
        first = f"HTTP/1.1 {answer.status} Lab\r\n{more}connection: close\r\n\r\n"
        feed(self, (first.encode("latin-1"), *answer.pieces))

    monkeypatch.setattr(labs._Transport, "write", write)
    return lab


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Pieces that passed unread."""
    found: list[bytes] = []
    before = StreamAnswer._may_pass

    def may_pass(self: StreamAnswer, data: bytes) -> bool:
        passes = before(self, data)
        if passes:
            found.append(data)
        return passes

    monkeypatch.setattr(StreamAnswer, "_may_pass", may_pass)
    return found


def test_plain_chunks_pass_as_they_came(paced: Lab, passed: list[bytes]) -> None:
    words = [" three", " vier", " 五", ' "six"', " 7\n", "", " \\", "}\n\n"]
    parts = [chunk(content=word) for word in words]
    stream = frames(*FIRST, *parts, chunk("stop"), last_usage())
    answers(paced, *stream)
    got = ask(paced, API, stream=True)
    assert heard(got, API, stream=True).text == "One two" + "".join(words)
    assert set(stream[3 : 3 + len(words)]) <= set(passed)
    assert all(piece in got.body for piece in stream[3 : 3 + len(words)])
    assert got.record.outcome == "ok" and got.record.finish_reason == "stop"
    assert got.record.completion_tokens == 7


@pytest.mark.parametrize("style", STYLES)
def test_calls_after_text_are_told_apart(paced: Lab, passed: list[bytes], style: str) -> None:
    parts = [chunk(tool_calls=delta) for delta in STYLES[style]]
    answers(paced, *frames(*FIRST, chunk(content="."), *parts, chunk("stop"), last_usage()))
    got = ask(paced, API, stream=True, tools=True)
    found = heard(got, API, stream=True)
    assert [c[1:] for c in found.calls] == TWO and found.finish == "tool_calls"
    assert b'"."' in passed[-1] and not any(b"_call" in piece for piece in passed)


@pytest.mark.parametrize("empty", [b"data:\n\n", b"data: \n\n", b": x\n\n", b"data:\r\n\r\n"])
def test_empty_events_are_skipped(paced: Lab, empty: bytes) -> None:
    mixed: list[Any] = []
    for part in [*FIRST, chunk(content="."), chunk("stop")]:
        mixed += [part, empty]
    answers(paced, *frames(*mixed))
    got = ask(paced, API, stream=True)
    assert heard(got, API, stream=True).text == "One two."
    assert b"data:\n" not in got.body and b"data: \n" not in got.body


def test_an_end_marker_ends_a_relayed_stream_that_gave_no_reason(paced: Lab) -> None:
    """The last chunk goes on with the stream's own id."""
    words = [chunk(content=f"word{at} ") for at in range(4)]
    answers(paced, *frames(*FIRST, *words))
    got = ask(paced, API, stream=True)
    *chunks, done = [data for _, data in events_in(got.body)]
    assert done == "[DONE]" and chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert {data["id"] for data in chunks} == {"c-1"}
    assert (got.record.outcome, got.record.finish_reason) == ("ok", "inferred")


@pytest.mark.parametrize(
    "odd",
    [
        {"object": "chat.completion.chunk"}, {"choices": None, "id": None}, {"ping": 1},
        {"choices": [{"index": 0, "content_filter_offsets": {}}]},
    ],
)  # fmt: skip
def test_a_chunk_without_choices_is_mended_where_the_others_pass(paced: Lab, odd: Json) -> None:
    words = [chunk(content=f"word{at} ") for at in range(4)]
    answers(paced, *frames(*FIRST, *words, odd, chunk(content="."), chunk("stop")))
    got = ask(paced, API, stream=True)
    for _, data in events_in(got.body):
        assert data == "[DONE]" or isinstance(data["choices"], list)
        assert data == "[DONE]" or all("delta" in choice for choice in data["choices"])
    assert got.record.outcome == "ok"


@pytest.mark.parametrize(
    "head", [{"created": 1_760_000_000.0}, {"id": None}, {"model": None}, {"id": 7}]
)
def test_an_odd_head_is_mended_in_all_chunks(paced: Lab, head: Json) -> None:
    words = [chunk(content=f"word{at} ") for at in range(4)]
    answers(paced, *frames(*(c | head for c in (*FIRST, *words, chunk("stop")))))
    heads = [
        (type(data["created"]), data["id"], data["model"])
        for _, data in events_in(ask(paced, API, stream=True).body)
        if data != "[DONE]"
    ]
    assert len(set(heads)) == 1 and heads[0][0] is int and all(heads[0])


@pytest.mark.parametrize("declared", [False, True])
def test_an_older_function_call_after_text_is_a_call(paced: Lab, declared: bool) -> None:
    """As `tool_calls` for whoever never heard of `functions`; with the finish reason of a call,
    whatever the upstream says."""
    pieces = [{"name": "f", "arguments": '{"a"'}, {"arguments": ":1}"}]
    parts = [chunk(function_call=piece) for piece in pieces]
    answers(paced, *frames(*FIRST, chunk(content="."), *parts, chunk("stop")))
    more: Json = {"functions": [{"name": "f", "parameters": {"type": "object"}}]}
    got = ask(paced, API, stream=True, **(more if declared else {}))
    name = "function_call" if declared else "tool_calls"
    deltas = [d["choices"][0] for _, d in events_in(got.body) if d != "[DONE]"]
    assert deltas[-1]["finish_reason"] == name
    assert any(name in choice["delta"] for choice in deltas)


@pytest.mark.parametrize("error", [{"code": 1001, "msg": "no"}, {"error": "no"}, {"detail": "no"}])
def test_an_error_after_text_is_no_end(paced: Lab, error: Json) -> None:
    answers(paced, *frames(*FIRST, chunk(content="."), error))
    got = ask(paced, API, stream=True)
    assert got.record.outcome != "ok" and not got.body.endswith(b"[DONE]\n\n")
    assert [data for kind, data in events_in(got.body) if kind == "error"]


def test_halves_of_characters_are_joined(paced: Lab) -> None:
    head = b'data: {"id":"c-1","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"'
    halves = [head + text + b'"}}]}\n\n' for text in (b"x \\ud83d", b"\\ude00 y", b"\\uD83D")]
    answers(paced, *frames(*FIRST, *halves, chunk(content=" z"), chunk("stop")))
    got = ask(paced, API, stream=True)
    assert heard(got, API, stream=True).text == "One twox 😀 y\ufffd z"


def test_a_call_at_the_end_of_a_piece_is_seen(paced: Lab) -> None:
    """Several events in one read."""
    many = b"".join(frames(chunk(content="."), chunk(tool_calls=[call()]), done=False))
    answers(paced, *frames(*FIRST, many, chunk("stop")))
    found = heard(ask(paced, API, stream=True, tools=True), API, stream=True)
    assert found.text == "One two." and len(found.calls) == 1 and found.finish == "tool_calls"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text(max_size=8), max_size=8), st.integers(1, 400), st.booleans())
def test_any_text_in_any_cut_arrives(paced: Lab, words: list[str], size: int, ascii: bool) -> None:
    parts = [
        b"data: %b\n\n" % json.dumps(chunk(content=word), ensure_ascii=ascii).encode()
        for word in words
        if word.encode("utf-8", "ignore").decode() == word
    ]
    told = "".join(w for w in words if w.encode("utf-8", "ignore").decode() == w)
    stream = b"".join(frames(*FIRST, *parts, chunk("stop"), last_usage()))
    answers(paced, *[stream[at : at + size] for at in range(0, len(stream), size)],
            kind="text/event-stream")  # fmt: skip
    got = ask(paced, API, stream=True)
    assert heard(got, API, stream=True).text == "One two" + told
