"""Answers that are looser than their documentation (kind K2): read for what is needed.

Whole calls through the gateway in this process. Each case names the public reports that it comes
from; a fault in our own translation is ours, costs nothing, and is not the upstream's.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.field_failures.answers import (
    APIS,
    HEAD,
    USAGE,
    answers,
    ask,
    call,
    chunk,
    frames,
    heard,
    last_usage,
    message,
)
from tests.translation.answers import events_in, hear
from tests.translation.lab import Lab
from tokenschain.core.formats.anthropic import inbound

MODELS = ("openai", "deepseek")
"""One that is relayed, one whose chunks are all read."""


# QuantumNous/new-api#7470 (R09)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
def test_r09_choices_null_in_the_usage_chunk(lab: Lab, api: str, model: str) -> None:
    end = last_usage() | {"choices": None}
    answers(lab, *frames(chunk(content="fine"), chunk("stop"), end))
    got = ask(lab, api, model, stream=True)
    assert heard(got, api, stream=True).text == "fine"
    assert got.record.usage_source == "provider"
    assert (got.record.prompt_tokens, got.record.completion_tokens) == (11, 7)


# QuantumNous/new-api#5221, #4377 (R10)


ENVELOPES: list[dict[str, Any]] = [
    {"created": 1_760_000_000.0},
    {"created": "1760000000"},
    {"created": True},
    {"created": []},
    {"id": None, "model": None, "created": None},
    {"id": 7, "model": ["x"], "object": None},
    {"usage": None, "system_fingerprint": None, "service_tier": {}},
]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("envelope", ENVELOPES)
def test_r10_an_odd_envelope_costs_nobody_the_answer(
    lab: Lab, api: str, envelope: dict[str, Any]
) -> None:
    for model in MODELS:
        answers(lab, message() | envelope)
        assert heard(ask(lab, api, model), api).text == "fine"
        parts = [chunk(content="fi") | envelope, chunk(content="ne") | envelope]
        answers(lab, *frames(*parts, chunk("stop") | envelope))
        got = ask(lab, api, model, stream=True)
        assert heard(got, api, stream=True).text == "fine"
        assert got.record.outcome == "ok"


@pytest.mark.parametrize("api", APIS)
def test_r10_contents_of_another_type(lab: Lab, api: str) -> None:
    odd = {"index": None, "logprobs": None, "finish_reason": "stop"}
    contents: list[Any] = [
        [{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}],
        {"type": "text", "text": "fine"},
    ]
    for content in contents:
        for role in (None, 7, "assistant"):
            choice = odd | {"message": {"role": role, "content": content}}
            answers(lab, {**HEAD, "choices": [choice, None, 7]})
            got = ask(lab, api, "deepseek")
            assert heard(got, api).text == "fine" and got.record.usage_source == "estimated"


# getzep/graphiti, CherryHQ/cherry-studio#20614, anomalyco/opencode#17758 (R20, answers)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
def test_r20_an_emoji_cut_between_two_deltas(lab: Lab, api: str, model: str) -> None:
    head = b'data: {"id":"c-1","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"'
    parts = [
        head + text + b'"}}]}\n\n' for text in (b"ok ", b"x \\ud83d", b"\\ude00 y", b"\\uD83D")
    ]
    answers(lab, *frames(*parts, chunk(content=" z"), chunk("stop")))
    got = ask(lab, api, model, stream=True)
    text = heard(got, api, stream=True).text
    assert text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") == (
        "ok x 😀 y\ufffd z"
    )
    assert got.record.outcome == "ok"


@pytest.mark.parametrize("api", APIS)
def test_r20_half_an_emoji_in_a_whole_answer(lab: Lab, api: str) -> None:
    body = json.dumps(message("cut XX")).replace("XX", "\\ud83d").encode()
    answers(lab, body)
    assert heard(ask(lab, api), api).text == "cut \ufffd"


# vllm-project/router#115, theopenco/llmgateway#2777, arbs-io/github-copilot-llm-gateway#59 (R26)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
@pytest.mark.parametrize("model", [*MODELS, "mistral", "zhipu"])
def test_r26_thinking_is_shown_whatever_it_is_called(
    lab: Lab, api: str, name: str, model: str
) -> None:
    answers(lab, message(**{name: "hmm"}))
    assert heard(ask(lab, api, model), api).reasoning == "hmm"
    answers(
        lab, *frames(chunk(**{name: "hm"}), chunk(**{name: "m"}), chunk(content="a"), chunk("stop"))
    )
    found = heard(ask(lab, api, model, stream=True), api, stream=True)
    assert (found.reasoning, found.text) == ("hmm", "a") or api == "responses"


def test_r26_thinking_among_the_parts_of_the_content(lab: Lab) -> None:
    """Mistral's reasoning models."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]},
        {"type": "text", "text": "fine"},
    ]
    answers(lab, message(parts))
    found = heard(ask(lab, "messages", "mistral"), "messages")
    assert (found.reasoning, found.text) == ("hmm", "fine")


# razzant/claudexor#173, philschmid/easyllm#40 (R33)


USAGES: list[tuple[Any, bool]] = [
    ({"prompt_tokens": "11", "completion_tokens": "7"}, True),
    ({"prompt_tokens": 11.0, "completion_tokens": 7.0}, True),
    (USAGE | {"prompt_tokens_details": [], "completion_tokens_details": "x"}, True),
    (USAGE | {"prompt_tokens_details": {"cached_tokens": None, "audio_tokens": []}}, True),
    ({"prompt_tokens": 11.5, "completion_tokens": 7}, False),
    ({"prompt_tokens": 1e30, "completion_tokens": 7}, False),
    ({"prompt_tokens": 10**40, "completion_tokens": 7}, False),
    ({"prompt_tokens": -1, "completion_tokens": 7}, False),
    ({"prompt_tokens": "many", "completion_tokens": []}, False),
    ([], False),
    ("nonsense", False),
    (True, False),
    (None, False),
]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("usage", "readable"), USAGES)
def test_r33_an_odd_usage_costs_nobody_the_answer(
    lab: Lab, api: str, usage: Any, readable: bool
) -> None:
    for stream in (False, True):
        if stream:
            answers(lab, *frames(chunk(content="fine"), chunk("stop"), last_usage(usage)))
        else:
            answers(lab, message() | {"usage": usage})
        got = ask(lab, api, stream=stream)
        assert heard(got, api, stream=stream).text == "fine"
        record = got.record
        if readable:
            assert (record.prompt_tokens, record.completion_tokens) == (11, 7)
        else:
            assert record.usage_source == "estimated" and 0 < record.completion_tokens < 10


def test_r33_other_apis_are_told_the_estimate(lab: Lab) -> None:
    answers(lab, message() | {"usage": "nonsense"})
    got = ask(lab, "messages")
    assert json.loads(got.body)["usage"]["output_tokens"] == got.record.completion_tokens > 0
    answers(lab, *frames(chunk(content="fine"), chunk("stop")))
    got = ask(lab, "messages", stream=True)
    told = [data["usage"] for kind, data in events_in(got.body) if kind == "message_delta"]
    assert told[0]["output_tokens"] == got.record.completion_tokens > 0


# own (P20)


ARGUMENTS: list[tuple[Any, str]] = [
    ({"city": "Paris"}, '{"city":"Paris"}'),
    (None, "{}"),
    ("", "{}"),
    ('{"city":"Paris"}', '{"city":"Paris"}'),
    (["Paris"], '["Paris"]'),
]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("arguments", "text"), ARGUMENTS)
def test_p20_odd_calls_in_a_whole_answer(lab: Lab, api: str, arguments: Any, text: str) -> None:
    for more in ({}, {"id": None, "type": None}, {"id": 7}, {"id": "call_1", "type": "function"}):
        calls = [call(arguments=arguments, **more), {"id": "x", "function": None}]
        answers(lab, message(None, "tool_calls", tool_calls=calls))
        got = ask(lab, api, tools=True)
        ((id, name, found),) = heard(got, api).calls
        assert name == "get_weather" and found == json.loads(text) and id
        if api == "chat/completions":
            made = json.loads(got.body)["choices"][0]["message"]["tool_calls"][0]
            assert made["type"] == "function" and made["function"]["arguments"] == text


# follows R09, R10 (P22, P26)


@pytest.mark.parametrize("stream", [False, True])
def test_p22_a_fault_of_our_own_is_ours(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """Five of them, and the upstream serves other callers as before."""

    def broken(*_: object) -> bytes:
        raise KeyError("ours")

    monkeypatch.setattr(inbound, "_blocks_of", broken)
    monkeypatch.setattr(inbound.MessagesStreamOut, "_say", broken)
    for _ in range(5):
        got = ask(lab, "messages", stream=stream)
        assert "HttpParser" not in got.body.decode()
        assert got.status == (200 if stream else 502)
        if stream:
            assert hear("messages", got.body, streamed=True).error is not None
        record = got.record
        assert (record.error, record.fault) == ("translation_failed", "platform")
        assert record.outcome != "ok" and not record.charge_pico
    assert heard(ask(lab, "chat/completions"), "chat/completions").text


def test_p22_an_unreadable_answer_is_the_upstreams(lab: Lab) -> None:
    answers(lab, *frames(b"data: nonsense\n\n"))
    got = ask(lab, "messages", stream=True)
    assert got.status == 502 and got.record.error == "upstream_invalid_reply"
    assert got.record.charge_pico in (0, None)


# own: what chat clients read without a look


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
def test_a_last_choice_without_a_delta(lab: Lab, api: str, model: str) -> None:
    """`chunk.choices[0].delta.content` is what everybody reads."""
    end = {**HEAD, "choices": [{"index": 0, "finish_reason": "stop"}]}
    answers(lab, *frames(chunk(content="fine"), end, last_usage()))
    got = ask(lab, api, model, stream=True)
    assert heard(got, api, stream=True).text == "fine"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("stream", [False, True])
def test_finish_reasons_in_capitals(lab: Lab, api: str, model: str, stream: bool) -> None:
    """As Gemini's and some proxies' of it: `STOP`, `MAX_TOKENS`, `TOOL_CALLS`."""
    words = {
        "STOP": ("stop", "end_turn"), "MAX_TOKENS": ("length", "max_tokens"),
        "SAFETY": ("content_filter", "refusal"),
    }  # fmt: skip
    for said, (chat, messages) in words.items():
        if stream:
            answers(lab, *frames(chunk(content="fine"), chunk(said)))
        else:
            answers(lab, message(finish=said))
        finish = heard(ask(lab, api, model, stream=stream), api, stream=stream).finish
        assert api == "responses" or finish == (chat if api == "chat/completions" else messages)
    given = call(id="c", index=0)
    if stream:
        answers(lab, *frames(chunk(tool_calls=[given]), chunk("TOOL_CALLS")))
    else:
        answers(lab, message(None, "TOOL_CALLS", tool_calls=[given]))
    finish = heard(ask(lab, api, model, stream=stream, tools=True), api, stream=stream).finish
    assert finish in ("tool_calls", "tool_use", "completed")


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "choices",
    [
        {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"},
        [{"index": 0, "text": "fine", "finish_reason": "stop"}],
    ],
)
def test_choices_in_another_form(lab: Lab, api: str, model: str, choices: Any) -> None:
    """One that is no list; a text completion's where a message was asked for."""
    answers(lab, {**message(), "choices": choices})
    assert heard(ask(lab, api, model), api).text == "fine"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("model", MODELS)
def test_a_stream_that_ends_with_the_whole_answer_once_more(lab: Lab, api: str, model: str) -> None:
    answers(lab, *frames(chunk(content="fi"), chunk(content="ne"), message()))
    got = ask(lab, api, model, stream=True)
    assert heard(got, api, stream=True).text == "fine"
    assert (got.record.completion_tokens, got.record.finish_reason) == (7, "stop")
