"""Anthropic's and OpenAI's other forms: round trips, and streams cut and mixed in any way."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import (
    canonical,
    openai_responses,
    parameter_bridge,
    responses_reader,
    stream_aggregation,
)
from tokenschain.core.formats.anthropic import (
    inbound,
    outbound,
    request_reader,
    request_writer,
)
from tokenschain.core.formats.bridged_request import Bridged, Origin
from tokenschain.core.formats.normalization import Normalization, ReplyNormalizer
from tokenschain.core.formats.openai_chat import UNREAD
from tokenschain.core.formats.translation_changes import Policy
from tokenschain.providers.vendor_table import VENDORS
from tokenschain.wire.sse import SseReader

ASKED = msgspec.structs.replace(UNREAD, model="m")

HEAD: dict[str, Any] = {"id": "1", "model": "m", "created": 0}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
ARGUMENTS = st.dictionaries(TEXT, TEXT | st.integers(-9, 9), max_size=3)


class Told:
    """What a stream says in the end."""

    def __init__(self) -> None:
        self.text = ""
        self.reasoning = ""
        self.calls: list[tuple[str, Any]] = []


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[bytes], Told]:
    """Canonical chunks: reasoning, text and interleaved tool calls, arguments cut anywhere."""
    told = Told()
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    for piece in draw(st.lists(TEXT, max_size=3)):
        told.reasoning += piece
        deltas.append({"reasoning_content": piece})
    for piece in draw(st.lists(TEXT, max_size=3)):
        told.text += piece
        deltas.append({"content": piece})
    waiting: list[list[dict[str, Any]]] = []
    for index, arguments in enumerate(draw(st.lists(ARGUMENTS, max_size=3))):
        told.calls.append((f"f{index}", arguments))
        text = json.dumps(arguments, ensure_ascii=draw(st.booleans()))
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        call = {"index": index, "id": f"c{index}", "type": "function"}
        first = {**call, "function": {"name": f"f{index}", "arguments": pieces[0]}}
        rest = [{"index": index, "function": {"arguments": p}} for p in pieces[1:]]
        waiting.append([first, *rest])
    while waiting:
        queue = draw(st.sampled_from(waiting))
        deltas.append({"tool_calls": [queue.pop(0)]})
        if not queue:
            waiting.remove(queue)
    finish = "tool_calls" if told.calls else "stop"
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    chunks = [canonical.chunk(HEAD, delta) for delta in deltas]
    chunks += [canonical.chunk(HEAD, {}, finish), canonical.usage_chunk(HEAD, usage)]
    return chunks, told


def events(data: bytes) -> list[dict[str, Any]]:
    found = []
    for event in SseReader().feed(data):
        body = json.loads(event.data)
        assert body["type"] == event.event.decode()
        found.append(body)
    return found


@given(streams())
def test_anthropic_streams_keep_their_grammar_and_lose_nothing(
    stream: tuple[list[bytes], Told],
) -> None:
    chunks, told = stream
    out = inbound.MessagesStreamOut(ASKED, "1")
    data = b"".join(out.event(chunk) for chunk in chunks) + out.end()
    found = events(data)
    assert [e["type"] for e in found[:1] + found[-2:]] == [
        "message_start",
        "message_delta",
        "message_stop",
    ]
    blocks: list[dict[str, Any]] = []
    opened: int | None = None
    for event in found[1:-2]:
        match event["type"]:
            case "content_block_start":
                assert opened is None and event["index"] == len(blocks)
                opened = event["index"]
                blocks.append({**event["content_block"], "got": ""})
            case "content_block_delta":
                assert event["index"] == opened
                delta = event["delta"]
                names = {"text_delta": "text", "thinking_delta": "thinking"}
                blocks[-1]["got"] += delta[names.get(delta["type"], "partial_json")]
            case "content_block_stop":
                assert event["index"] == opened
                opened = None
    assert opened is None
    assert "".join(b["got"] for b in blocks if b["type"] == "text") == told.text
    assert "".join(b["got"] for b in blocks if b["type"] == "thinking") == told.reasoning
    uses = [(b["name"], json.loads(b["got"])) for b in blocks if b["type"] == "tool_use"]
    assert sorted(uses, key=lambda use: use[0]) == told.calls
    assert found[-2]["delta"]["stop_reason"] == ("tool_use" if told.calls else "end_turn")
    assert found[-2]["usage"]["output_tokens"] == 4


@given(streams())
def test_response_streams_keep_their_grammar_and_lose_nothing(
    stream: tuple[list[bytes], Told],
) -> None:
    chunks, told = stream
    out = openai_responses.ResponsesStreamOut(ASKED, "1")
    found = events(b"".join(out.event(chunk) for chunk in chunks) + out.end())
    assert [e["sequence_number"] for e in found] == list(range(len(found)))
    assert [found[0]["type"], found[-1]["type"]] == ["response.created", "response.completed"]
    added = [e["output_index"] for e in found if e["type"] == "response.output_item.added"]
    done = [e["output_index"] for e in found if e["type"] == "response.output_item.done"]
    assert added == sorted(done) == list(range(len(added)))
    final = found[-1]["response"]
    texts = {"message": "", "reasoning": ""}
    calls = []
    for item in final["output"]:
        if item["type"] == "function_call":
            calls.append((item["name"], json.loads(item["arguments"])))
        else:
            texts[item["type"]] += "".join(part["text"] for part in item["content"])
    assert (texts["message"], texts["reasoning"]) == (told.text, told.reasoning)
    assert sorted(calls, key=lambda call: call[0]) == told.calls
    for item in final["output"]:
        deltas = [e["delta"] for e in found if "delta" in e and e.get("item_id") == item["id"]]
        whole = item.get("arguments") or "".join(p["text"] for p in item.get("content", ()))
        assert "".join(deltas) == whole


@given(streams())
def test_whole_replies_say_what_streams_say(stream: tuple[list[bytes], Told]) -> None:
    _, told = stream
    message: dict[str, Any] = {"role": "assistant", "content": told.text or None}
    if told.reasoning:
        message["reasoning_content"] = told.reasoning
    if told.calls:
        message["tool_calls"] = [
            {"id": f"c{i}", "type": "function",
             "function": {"name": name, "arguments": json.dumps(arguments)}}
            for i, (name, arguments) in enumerate(told.calls)
        ]  # fmt: skip
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    body = canonical.whole(HEAD, message, "stop", usage)
    there = json.loads(inbound.reply_of(body, "1", ASKED))
    again = json.loads(outbound.reply_from(json.dumps(there).encode(), canonical.ReplyMetadata()))
    back = again["choices"][0]["message"]
    assert (back["content"] or "", back.get("reasoning_content", "")) == (
        told.text,
        told.reasoning,
    )
    calls = [
        (c["function"]["name"], json.loads(c["function"]["arguments"]))
        for c in back.get("tool_calls", ())
    ]
    assert calls == told.calls


PAGE = {
    "url": "https://example.cn/a", "title": "甲", "start_index": 4, "end_index": 8,
    "content": "words",
}  # fmt: skip
FROM_ANTHROPIC: list[dict[str, Any]] = [
    {"type": "text", "text": "See "},
    {
        "type": "text",
        "text": "here",
        "citations": [
            {"type": "web_search_result_location", "url": PAGE["url"], "title": PAGE["title"],
             "cited_text": "words", "encrypted_index": "x"},
            {"type": "char_location", "cited_text": "own document", "document_index": 0},
        ],
    },
]  # fmt: skip


def anthropic_events() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "model": "c", "usage": {}}}
    ]
    for block in FROM_ANTHROPIC:
        made.append({"type": "content_block_start", "content_block": {"type": "text"}})
        deltas: list[dict[str, Any]] = [
            {"type": "citations_delta", "citation": c} for c in block.get("citations", ())
        ]
        deltas += [{"type": "text_delta", "text": piece} for piece in block["text"]]
        made += [{"type": "content_block_delta", "delta": delta} for delta in deltas]
        made.append({"type": "content_block_stop"})
    return [*made, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}}]


def test_citations_of_pages_stay_whole_and_streamed() -> None:
    reply = {"type": "message", "id": "m", "model": "c", "content": FROM_ANTHROPIC,
             "stop_reason": "end_turn", "usage": {}}  # fmt: skip
    body = outbound.reply_from(json.dumps(reply).encode(), canonical.ReplyMetadata())
    annotations = [{"type": "url_citation", "url_citation": PAGE}]
    assert json.loads(body)["choices"][0]["message"]["annotations"] == annotations
    stream = outbound.MessagesStreamIn(canonical.ReplyMetadata())
    chunks = [c for event in anthropic_events() for c in stream.event(json.dumps(event).encode())]
    deltas = [choice["delta"] for c in chunks for choice in json.loads(c)["choices"]]
    assert [d["annotations"] for d in deltas if "annotations" in d] == [annotations]

    wanted = {k: v for k, v in PAGE.items() if k != "content"} | {"type": "url_citation"}
    item = json.loads(openai_responses.reply_of(body, "1", ASKED))["output"][0]
    assert item["content"][0]["annotations"] == [wanted]
    out = openai_responses.ResponsesStreamOut(ASKED, "1")
    found = [e for chunk in chunks for e in events(out.event(chunk))] + events(out.end())
    assert [e["annotation"] for e in found if e["type"].endswith("annotation.added")] == [wanted]
    assert found[-1]["response"]["output"][0]["content"][0]["annotations"] == [wanted]

    block = json.loads(inbound.reply_of(body, "1", ASKED))["content"][0]
    assert [c["url"] for c in block["citations"]] == [PAGE["url"]]
    back = inbound.MessagesStreamOut(ASKED, "1")
    told = [e for chunk in chunks for e in events(back.event(chunk))]
    kinds = [e["delta"]["type"] for e in told if e["type"] == "content_block_delta"]
    assert kinds.count("citations_delta") == 1 and kinds.count("text_delta") == 8


@given(streams())
def test_a_gathered_stream_is_the_whole_answer(stream: tuple[list[bytes], Told]) -> None:
    chunks, told = stream
    choice = json.loads(stream_aggregation.whole_of(chunks))["choices"][0]
    message = choice["message"]
    assert (message["content"] or "") == told.text
    assert message.get("reasoning_content", "") == told.reasoning
    calls = [
        (c["function"]["name"], json.loads(c["function"]["arguments"]))
        for c in message.get("tool_calls", ())
    ]
    assert sorted(calls, key=lambda call: call[0]) == told.calls
    assert choice["finish_reason"]


def text_block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


PIXEL = {"type": "base64", "media_type": "image/png", "data": "AA=="}
SEARCH = {"type": "web_search_20250305", "name": "w"}
CONVERSATION = {
    "model": "m",
    "max_tokens": 50,
    "system": "Be kind.",
    "messages": [
        {"role": "user", "content": [
            {"type": "text", "text": "What is it?"},
            {"type": "image", "source": PIXEL},
        ]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "s1"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "好"}},
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [text_block("1")]},
            {"type": "tool_result", "tool_use_id": "t2", "content": [text_block("2")]},
            {"type": "text", "text": "go on"},
        ]},
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "stop_sequences": ["END"],
    "temperature": 0.5,
}  # fmt: skip


def test_a_conversation_goes_to_the_canonical_form_and_back() -> None:
    parsed = request_reader.parse(json.dumps(CONVERSATION).encode())
    asked = canonical.read(parsed.fields)
    back = json.loads(request_writer.request_of(asked, "m", None))
    expected = {**CONVERSATION, "system": [{"type": "text", "text": "Be kind."}]}
    assert back == expected


def test_canonical_roles_follow_openai() -> None:
    parsed = request_reader.parse(json.dumps(CONVERSATION).encode())
    messages = json.loads(bytes(parsed.fields["messages"]))
    assert [m["role"] for m in messages] == ["system", "user", "assistant", "tool", "tool", "user"]
    assert messages[2]["reasoning_content"] == "hm"
    assert bytes(parsed.fields["tool_choice"]) == b'"required"'


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"max_tokens": None}, "missing_required_parameter", "max_tokens"),
        ({"messages": "hi"}, "invalid_type", "messages"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
    ],
)  # fmt: skip
def test_bad_messages_are_refused_with_the_field_to_blame(
    change: dict[str, Any], code: str, param: str
) -> None:
    with pytest.raises(ApiError) as found:
        request_reader.parse(json.dumps(CONVERSATION | change).encode())
    assert (found.value.code, found.value.param) == (code, param)


def test_server_tools_are_refused_alone_and_left_out_beside_functions() -> None:
    for tools, essential in ([SEARCH], True), ([SEARCH, *CONVERSATION["tools"]], False):  # type: ignore[misc]
        parsed = request_reader.parse(json.dumps(CONVERSATION | {"tools": tools}).encode())
        assert parsed.native is not None
        losses = [(loss.name, loss.essential) for loss in parsed.native.losses]
        assert losses == [("tools[0]", essential)]


@given(TEXT, TEXT, st.lists(st.integers(0, 60), max_size=6))
def test_think_tags_are_told_from_the_answer_in_any_cut(
    reasoning: str, answer: str, cuts: list[int]
) -> None:
    if "<" in reasoning + answer or answer != answer.lstrip("\n"):
        return
    text = f"<think>{reasoning}</think>\n\n{answer}"
    reader = ReplyNormalizer(Normalization.TAGS)
    marks = sorted(cut for cut in cuts if cut < len(text))
    pieces = [text[a:b] for a, b in zip([0, *marks], [*marks, len(text)], strict=True)]
    got = {"content": "", "reasoning_content": ""}
    chunks = [canonical.chunk(HEAD, {"content": piece}) for piece in pieces]
    for chunk in [*chunks, canonical.chunk(HEAD, {"content": ""}, "stop")]:
        delta = json.loads(reader.chunk(chunk)[0])["choices"][0]["delta"]
        for name in got:
            got[name] += delta.get(name) or ""
    assert got == {"content": answer, "reasoning_content": reasoning}


FIELDS_OF_MESSAGES: tuple[dict[str, Any], ...] = (
    {"temperature": 0.5}, {"top_p": 0.5}, {"stream": True}, {"stop_sequences": ["x"]},
    {"stop_sequences": [" "]}, {"top_k": 3}, {"metadata": {"user_id": "u"}},
    {"thinking": {"type": "enabled", "budget_tokens": 1_024}, "max_tokens": 4_096},
    {"thinking": {"type": "disabled"}}, {"service_tier": "auto"},
    {"messages": [{"role": "user", "content": ""}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
    {"tools": [{"name": "f", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}},
)  # fmt: skip
FIELDS_OF_RESPONSES: tuple[dict[str, Any], ...] = (
    {"temperature": 0.5}, {"top_p": 0.5}, {"stream": True}, {"max_output_tokens": 9},
    {"top_logprobs": 2}, {"reasoning": {"effort": "high"}}, {"reasoning": {"effort": "none"}},
    {"text": {"format": {"type": "json_object"}}}, {"text": {"verbosity": "low"}},
    {"parallel_tool_calls": True}, {"tool_choice": "auto"}, {"service_tier": "flex"},
    {"user": "u"}, {"instructions": ""}, {"input": ""},
    {"input": [{"role": "developer", "content": "a"}, {"role": "user", "content": "b"}]},
)  # fmt: skip


def test_what_a_bridge_is_not_asked_for_it_would_leave_as_it_is() -> None:
    """Of translated texts: whatever the fields, no vendor's rules would have changed anything."""
    system, turns = "You are helpful.", [{"role": "user", "content": "hi"}]
    asked = {
        "messages": ({"model": "m", "max_tokens": 9, "system": system, "messages": turns},
                     request_reader.parse, FIELDS_OF_MESSAGES),
        "responses": ({"model": "m", "instructions": system, "input": "hi"},
                      responses_reader.parse, FIELDS_OF_RESPONSES),
    }  # fmt: skip
    passed = 0
    for plain, parse, extras in asked.values():
        for extra in ({}, *extras):
            parsed = parse(json.dumps(plain | extra).encode())
            native = parsed.native
            assert native is not None
            origin = Origin(native.names, native.losses, True)
            for vendor in VENDORS.values():
                if native.losses or parameter_bridge.touches(
                    vendor.dialect, "m", parsed.fields, parsed.roles,
                    texts=parsed.all_text, translated=True,
                ):  # fmt: skip
                    continue
                bridged = parameter_bridge.bridge(
                    parsed.fields, "m", vendor.dialect, Policy.AUTO, origin
                )
                assert bridged == Bridged(parsed.fields), (vendor, extra)
                passed += 1
    assert passed > len(VENDORS), "most are passed over"
