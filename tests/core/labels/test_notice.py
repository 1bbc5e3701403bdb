"""The notice in answers: whole and streamed alike, and only where people read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.formats import stream_aggregation
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.labels.notice import (
    Notice,
    StreamNotice,
    takes_notice,
    with_notice,
    without_notice,
)

LINE = "内容由人工智能生成 / AI-generated content"
NOTICES = [Notice(LINE, at_start=True), Notice(LINE, at_start=False)]
_CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}


def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [choice]}).encode()


def labelled(chunks: list[bytes], notice: Notice) -> dict[str, Any]:
    stream = StreamNotice(notice)
    passed = [made for one in chunks for made in stream.chunks(one)]
    found: dict[str, Any] = json.loads(stream_aggregation.whole_of(passed))
    return found


@pytest.mark.parametrize("notice", NOTICES)
@given(
    answers=st.lists(
        st.tuples(
            st.lists(st.text(st.sampled_from("好a \n"), max_size=4), max_size=5),
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_a_stream_says_what_the_whole_answer_says(
    notice: Notice, answers: list[tuple[list[str], bool, bool]]
) -> None:
    """However it is cut, and whether the last piece comes with the end or before it."""
    chunks = []
    for index, (pieces, calls, together) in enumerate(answers):
        chunks += [chunk(index, {"role": "assistant", "reasoning_content": "hm"})]
        chunks += [chunk(index, {"content": piece}) for piece in pieces]
        if calls:
            chunks.append(chunk(index, {"tool_calls": [{"index": 0, **_CALL}]}))
        last = {"content": pieces[-1]} if together and pieces else {}
        chunks.append(chunk(index, last, "tool_calls" if calls else "stop"))
    whole = stream_aggregation.whole_of(chunks)
    expected = json.loads(with_notice(whole, notice))
    found = labelled(chunks, notice)
    assert found["choices"] == expected["choices"]
    for before, after in zip(json.loads(whole)["choices"], found["choices"], strict=True):
        said, now = (one["message"]["content"] or "" for one in (before, after))
        called = bool(before["message"].get("tool_calls"))
        has = bool(said.strip()) and not (called and not notice.at_start)
        assert now.count(LINE) == has
        assert now.replace(LINE, "").replace("\n", "").split() == said.replace("\n", "").split()
        assert before["message"].get("tool_calls") == after["message"].get("tool_calls")


def test_citations_point_at_the_same_words_behind_a_notice() -> None:
    citation = {"url": "http://x", "start_index": 2, "end_index": 4}
    annotations = [{"type": "url_citation", "url_citation": citation}]
    delta = {"content": "看这里。", "annotations": annotations}
    for found in (
        labelled([chunk(0, delta), chunk(0, {}, "stop")], NOTICES[0]),
        json.loads(with_notice(stream_aggregation.whole_of([chunk(0, delta)]), NOTICES[0])),
    ):
        message = found["choices"][0]["message"]
        moved = message["annotations"][0]["url_citation"]
        assert message["content"][moved["start_index"] : moved["end_index"]] == "里。"


def chat(**more: Any) -> bytes:
    return json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "?"}]} | more
    ).encode()


SCHEMA = {"name": "text", "schema": {"type": "object"}}
PREFILLED = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "{"}]


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, True),
        ({"response_format": {"type": "text"}}, True),
        ({"messages": [*PREFILLED, {"role": "user", "content": "!"}]}, True),
        ({"response_format": {"type": "json_object"}}, False),
        ({"response_format": {"type": "json_schema", "json_schema": SCHEMA}}, False),
        ({"guided_choice": ["yes", "no"]}, False),
        ({"messages": PREFILLED}, False),
    ],
)
def test_what_a_program_reads_has_no_notice(more: dict[str, Any], wanted: bool) -> None:
    assert takes_notice(parse(Api.CHAT, chat(**more))) is wanted


def test_the_middle_of_a_text_has_no_notice() -> None:
    for more, wanted in (({}, True), ({"suffix": "}"}, False), ({"echo": True}, False)):
        body = json.dumps({"model": "m", "prompt": "def f(): {"} | more).encode()
        assert takes_notice(parse(Api.COMPLETIONS, body)) is wanted
    assert not takes_notice(parse(Api.EMBEDDINGS, b'{"model":"m","input":"x"}'))


def test_earlier_answers_come_back_to_the_model_as_it_wrote_them() -> None:
    said = [f"好的。\n\n{LINE}", [{"type": "text", "text": f"{LINE}\n\n好的。"}]]
    asked = f"什么是“{LINE}”？"
    messages = [
        {"role": "user", "content": asked},
        *({"role": "assistant", "content": one} for one in said),
    ]
    for ascii_only in (True, False):
        body = json.dumps({"model": "m", "messages": messages}, ensure_ascii=ascii_only).encode()
        fields = without_notice(parse(Api.CHAT, body).fields, LINE)
        assert fields is not None
        found = json.loads(bytes(fields["messages"]))
        assert [one["content"] for one in found] == [
            asked, "好的。", [{"type": "text", "text": "好的。"}],
        ]  # fmt: skip
    assert without_notice(parse(Api.CHAT, chat()).fields, LINE) is None
