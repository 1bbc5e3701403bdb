"""Tool calls by identity, and stop reasons by content (kind K3), at every API.

Whole calls through the gateway in this process. Each case names the public reports that it comes
from.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.field_failures.answers import (
    APIS,
    WEATHER,
    Json,
    answers,
    ask,
    call,
    chunk,
    frames,
    heard,
    last_usage,
    message,
)
from tests.translation.answers import events_in
from tests.translation.lab import Lab, Result
from tokenschain.core.formats.tool_calls import ToolCalls
from tokenschain.core.snapshot import Served

PARIS, ROME = {"city": "Paris"}, {"city": "Rome"}
MODELS = ("openai", "deepseek")
CALLED = {"chat/completions": "tool_calls", "messages": "tool_use", "responses": "completed"}
ENDED = {"chat/completions": "stop", "messages": "end_turn", "responses": "completed"}


def calls_of(got: Result, api: str, *, stream: bool = True) -> list[tuple[str, Any]]:
    """Names and arguments; every call has an id of its own, and the end says so."""
    found = heard(got, api, stream=stream)
    ids = [id for id, _, _ in found.calls]
    assert all(ids) and len(set(ids)) == len(ids), ids
    assert found.finish == CALLED[api]
    return [(name, arguments) for _, name, arguments in found.calls]


def streamed(
    lab: Lab, api: str, model: str, *deltas: list[Json], finish: str = "tool_calls"
) -> Result:
    parts = [chunk(tool_calls=delta) for delta in deltas]
    answers(lab, *frames(*parts, chunk(finish), last_usage()))
    return ask(lab, api, model, stream=True, tools=True)


# can1357/oh-my-pi#12224, open-webui/computer#224 (R05)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("finish", ["stop", "tool_calls", "function_call", None])
def test_r05_a_turn_that_calls_a_tool_ends_so(lab: Lab, api: str, finish: Any) -> None:
    calls = [call(id="call_1", type="function")]
    for model in MODELS:
        answers(lab, message(None, finish, tool_calls=calls))
        assert calls_of(ask(lab, api, model, tools=True), api, stream=False)
        if finish is not None:
            got = streamed(lab, api, model, calls, finish=finish)
            assert calls_of(got, api) == [("get_weather", PARIS)]


@pytest.mark.parametrize("api", APIS)
def test_r05_what_was_cut_or_filtered_stays_so(lab: Lab, api: str) -> None:
    answers(lab, message("x", "length", tool_calls=[call(id="call_1")]))
    wanted = {"chat/completions": "length", "messages": "max_tokens", "responses": "incomplete"}
    assert heard(ask(lab, api), api).finish == wanted[api]


# jasonxu114514/opencode2api#27 (R06)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("calls", [{}, {"tool_calls": []}, {"tool_calls": None}])
def test_r06_a_turn_without_a_call_does_not_say_it_has_one(lab: Lab, api: str, calls: Json) -> None:
    for model in MODELS:
        answers(lab, message("let me see", "tool_calls", **calls))
        found = heard(ask(lab, api, model), api)
        assert (found.finish, found.text) == (ENDED[api], "let me see")
        answers(lab, *frames(chunk(content="let me see"), chunk("tool_calls", **calls)))
        found = heard(ask(lab, api, model, stream=True), api, stream=True)
        assert (found.finish, found.text) == (ENDED[api], "let me see")


# FootprintAI/Containarium#822, THU-MAIC/OpenMAIC#1556, SamSaffron/term-llm#314 (R07): no index
# apache/maka#1976, vercel/ai#14277, vercel/ai#18440 (R08): index 0 for all


TWO = [("get_weather", PARIS), ("get_weather", ROME)]
STYLES: dict[str, list[list[Json]]] = {
    "without index": [[call(id="call_1")], [call(arguments='{"city":"Rome"}', id="call_2")]],
    "index null": [
        [call(id="call_1", index=None)],
        [call(arguments='{"city":"Rome"}', id="call_2", index=None)],
    ],
    "all 0": [
        [call(id="call_1", index=0)],
        [call(arguments='{"city":"Rome"}', id="call_2", index=0)],
    ],
    "all 0, no ids": [[call(index=0)], [call(arguments='{"city":"Rome"}', index=0)]],
    "neither index nor id": [[call()], [call(arguments='{"city":"Rome"}')]],
    "one delta": [[call(id="call_1"), call(arguments='{"city":"Rome"}', id="call_2")]],
    "one delta, all 0": [[call(index=0), call(arguments='{"city":"Rome"}', index=0)]],
    "one delta, bare": [[call(), call(arguments='{"city":"Rome"}')]],
    "objects": [[call(arguments=PARIS)], [call(arguments=ROME)]],
    "one id for both": [
        [call(id="call_1", index=0)],
        [call(arguments='{"city":"Rome"}', id="call_1", index=1)],
    ],
    "pieces": [
        [call(arguments="", id="call_1", index=0)],
        [call(None, '{"city":', index=0)],
        [call(None, '"Paris"}', index=0)],
        [call(arguments="", id="call_2", index=1)],
        [call(None, '{"city":"Rome"}', index=1)],
    ],
    "pieces without index": [
        [call(arguments="", id="call_1")],
        [call(None, '{"city":')],
        [call(None, '"Paris"}')],
        [call(arguments='{"city":"Rome"', id="call_2")],
        [call(None, "}")],
    ],
    "an id with each piece": [
        [call(arguments='{"city":', id="a", index=0)],
        [call(None, '"Paris"}', id="b", index=0)],
        [call(arguments='{"city":"Rome"}', id="c", index=1)],
    ],
    "the name with each piece": [
        [call(arguments='{"city":', id="call_1", index=0)],
        [call(arguments='"Paris"}', index=0)],
        [call(arguments='{"city":"Rome"}', id="call_2", index=1)],
    ],
    "interleaved": [
        [call(arguments='{"city":', id="call_1", index=0)],
        [call(arguments='{"city":', id="call_2", index=1)],
        [call(None, '"Paris"}', index=0), call(None, '"Rome"}', index=1)],
    ],
    "interleaved by id": [
        [call(arguments='{"city":', id="call_1")],
        [call(arguments='{"city":', id="call_2")],
        [call(None, '"Paris"}', id="call_1")],
        [call(None, '"Rome"}', id="call_2")],
    ],
    "the whole call once more": [
        [call(id="call_1", index=0)],
        [call(arguments='{"city":"Rome"}', id="call_2", index=1)],
        [call(id="call_1", index=0), call(arguments='{"city":"Rome"}', id="call_2", index=1)],
    ],
    "nothing between": [
        [call(id="call_1", index=0)],
        [{"index": 0, "function": None}],
        [{}, {"index": 1, "id": "call_2", "function": {"name": "get_weather"}}],
        [call(None, '{"city":"Rome"}', index=1)],
    ],
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("model", MODELS)
def test_r07_r08_two_calls_are_two_calls(lab: Lab, api: str, style: str, model: str) -> None:
    assert calls_of(streamed(lab, api, model, *STYLES[style]), api) == TWO


@pytest.mark.parametrize("api", APIS)
def test_text_between_the_pieces_of_a_call_is_not_lost(lab: Lab, api: str) -> None:
    parts = [
        chunk(content="I will "),
        chunk(tool_calls=[call(arguments='{"city":', id="call_1", index=0)]),
        chunk(content="look."),
        chunk(tool_calls=[call(None, '"Paris"}', index=0)]),
        chunk(content=" Now."),
        chunk("tool_calls"),
    ]
    for model in MODELS:
        answers(lab, *frames(*parts))
        got = ask(lab, api, model, stream=True, tools=True)
        assert calls_of(got, api) == [("get_weather", PARIS)]
        assert heard(got, api, stream=True).text == "I will look. Now."


@pytest.mark.parametrize("api", APIS)
def test_a_call_without_arguments_has_an_empty_object(lab: Lab, api: str) -> None:
    got = streamed(lab, api, "openai", [call(arguments="", id="call_1", index=0)])
    assert calls_of(got, api) == [("get_weather", {})]


def test_what_a_vendor_adds_to_a_call_stays(lab: Lab) -> None:
    """Gemini's signature, which must come back with the call."""
    extra = {"extra_content": {"google": {"thought_signature": "s"}}}
    got = streamed(lab, "chat/completions", "openai", [call() | extra])
    assert b'"thought_signature":"s"' in got.body
    answers(lab, message(None, "tool_calls", tool_calls=[call() | extra]))
    assert b'"thought_signature":"s"' in ask(lab, "chat/completions").body


# decolua/9router#1007, diegosouzapw/OmniRoute#4862 (R25): calls come back as they were declared


@pytest.mark.parametrize("stream", [False, True])
def test_r25_a_freeform_tool_is_called_as_one_at_the_chat_api(lab: Lab, stream: bool) -> None:
    tools = [{"type": "custom", "custom": {"name": "apply_patch", "description": "d"}}]
    patch = call("apply_patch", '{"input":"*** Begin"}', id="call_1")
    if stream:
        pieces = [
            call("apply_patch", '{"input":', id="call_1", index=0),
            call(None, '"*** Begin"}', index=0),
        ]
        answers(lab, *frames(*(chunk(tool_calls=[piece]) for piece in pieces), chunk("tool_calls")))
    else:
        answers(lab, message(None, "tool_calls", tool_calls=[patch]))
    body = {"model": "deepseek", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    got = lab.ask("/v1/chat/completions", body | {"tools": tools})
    if stream:
        deltas = [
            data["choices"][0]["delta"] for _, data in events_in(got.body) if data != "[DONE]"
        ]
        (made,) = [entry for delta in deltas for entry in delta.get("tool_calls") or ()]
    else:
        (made,) = json.loads(got.body)["choices"][0]["message"]["tool_calls"]
    assert made["type"] == "custom" and "function" not in made
    assert made["custom"] == {"name": "apply_patch", "input": "*** Begin"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_caller_of_functions_gets_a_function_call(lab: Lab, stream: bool) -> None:
    """OpenAI's older `functions`, at a vendor that knows tools only."""
    given = call(id="call_1", index=0)
    if stream:
        answers(lab, *frames(chunk(tool_calls=[given]), chunk("tool_calls")))
    else:
        answers(lab, message(None, "tool_calls", tool_calls=[given]))
    body = {"model": "deepseek", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    got = lab.ask("/v1/chat/completions", body | {"functions": [WEATHER["function"]]})
    if stream:
        choices = [data["choices"][0] for _, data in events_in(got.body) if data != "[DONE]"]
        (made,) = [c["delta"]["function_call"] for c in choices if "function_call" in c["delta"]]
        assert not any("tool_calls" in choice["delta"] for choice in choices)
        assert choices[-1]["finish_reason"] == "function_call"
    else:
        choice = json.loads(got.body)["choices"][0]
        made = choice["message"]["function_call"]
        assert "tool_calls" not in choice["message"] and choice["finish_reason"] == "function_call"
    assert made == {"name": "get_weather", "arguments": '{"city":"Paris"}'}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
def test_a_vendors_older_function_call_is_a_call(lab: Lab, api: str, model: str) -> None:
    """Of callers who never heard of `functions`."""
    given = {"name": "get_weather", "arguments": PARIS}
    answers(lab, message(None, "function_call", function_call=given))
    assert calls_of(ask(lab, api, model), api, stream=False) == [("get_weather", PARIS)]
    pieces = [{"name": "get_weather", "arguments": '{"city":'}, {"arguments": '"Paris"}'}]
    parts = [chunk(function_call=piece) for piece in pieces]
    answers(lab, *frames(*parts, chunk("function_call")))
    assert calls_of(ask(lab, api, model, stream=True), api) == [("get_weather", PARIS)]


def test_a_caller_of_functions_is_relayed_what_it_declared(lab: Lab) -> None:
    given = {"name": "get_weather", "arguments": '{"city":"Paris"}'}
    answers(lab, message(None, "function_call", function_call=given))
    body = {"model": "openai", "messages": [{"role": "user", "content": "hi"}]}
    got = lab.ask("/v1/chat/completions", body | {"functions": [WEATHER["function"]]})
    choice = json.loads(got.body)["choices"][0]
    assert choice["message"]["function_call"] == given
    assert choice["finish_reason"] == "function_call" and "tool_calls" not in choice["message"]


# own (P21)


@pytest.fixture
def gathering(lab: Lab) -> Any:
    """Whole answers are asked for as streams."""
    before = lab.served.get()
    upstreams = {
        name: msgspec.structs.replace(upstream, stream_whole=True)
        for name, upstream in before.upstreams.items()
    }
    served: Served = lab.served
    served.replace(msgspec.structs.replace(before, upstreams=upstreams))
    lab.fresh()
    yield lab
    served.replace(before)
    lab.fresh()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("style", STYLES)
def test_p21_a_whole_answer_gathered_from_a_stream(gathering: Lab, api: str, style: str) -> None:
    parts = [chunk(tool_calls=delta) for delta in STYLES[style]]
    end = last_usage() | {"choices": None}
    answers(gathering, *frames(chunk(reasoning="hmm"), *parts, chunk("stop"), end))
    got = ask(gathering, api, tools=True)
    assert calls_of(got, api, stream=False) == TWO
    assert heard(got, api).reasoning == "hmm"
    assert got.record.prompt_tokens == 11


# the same in theory


@given(st.data())
def test_pieces_cut_anywhere_make_the_calls_they_are_of(data: st.DataObject) -> None:
    wanted = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["f", "g"]),
                st.dictionaries(st.sampled_from(["a", "b"]), st.integers(0, 9), max_size=2),
            ),
            min_size=1,
            max_size=4,
        )
    )
    numbered = data.draw(st.booleans())
    waiting: list[list[Json]] = []
    for index, (name, arguments) in enumerate(wanted):
        text = json.dumps(arguments)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        key: Json = {"index": index} if numbered else {"id": f"c{index}"}
        first = call(name, pieces[0], id=f"c{index}") | key
        waiting.append([first, *({**key, "function": {"arguments": p}} for p in pieces[1:])])
    calls = ToolCalls("req_1")
    made: dict[int, list[Any]] = {}
    order: list[int] = []
    queues = list(enumerate(waiting))
    while queues:
        at, queue = data.draw(st.sampled_from(queues))
        if at not in order:
            order.append(at)
        for piece in calls.take([queue.pop(0)]):
            known = made.setdefault(piece["index"], ["", ""])
            known[0] += piece["function"].get("name", "")
            known[1] += piece["function"]["arguments"]
        queues = [(at, queue) for at, queue in queues if queue]
    calls.finish()
    found = [(name, json.loads(text)) for _, (name, text) in sorted(made.items())]
    assert found == [wanted[at] for at in order]
