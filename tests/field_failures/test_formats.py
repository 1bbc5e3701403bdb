"""Field failures of formats and vendors, through the gateway; numbers as in docs."""

from __future__ import annotations

import json

import pytest

from tests import web
from tests.clouds import Clouds
from tests.vendors.simulators import CACHED_TOKENS, HELLO, PROMPT_TOKENS
from tests.vendors.test_matrix import SCHEMA, THINK, TOOLS, chat, gather


@pytest.mark.parametrize("provider", ["deepseek", "moonshot", "anthropic", "alibaba"])
def test_07_cached_tokens_are_priced_once_wherever_they_are_told(
    clouds: Clouds, provider: str
) -> None:
    raw = clouds.openai.chat.completions.with_raw_response.create(
        model=provider, messages=[{"role": "user", "content": "hi"}]
    )
    row = clouds.stack.row_of(raw.headers["x-request-id"])
    fresh = PROMPT_TOKENS - CACHED_TOKENS
    assert row["cost_pico"] == fresh * 10**6 + CACHED_TOKENS * 10**5 + 12 * 2 * 10**6


@pytest.mark.parametrize("provider", ["siliconflow", "tencent-hunyuan-native", "alibaba-native"])
def test_08_usage_in_every_frame_is_not_summed(clouds: Clouds, provider: str) -> None:
    raw = clouds.openai.chat.completions.with_raw_response.create(
        model=provider, messages=[{"role": "user", "content": "hi"}], stream=True
    )
    gather(raw.parse())
    row = clouds.stack.row_of(raw.headers["x-request-id"])
    assert (row["prompt_tokens"], row["completion_tokens"]) == (PROMPT_TOKENS, 12)


@pytest.mark.parametrize("provider", ["openai", "anthropic", "tencent-hunyuan-native", "zhipu"])
def test_14_streamed_parallel_calls_are_those_of_the_whole_answer(
    clouds: Clouds, provider: str
) -> None:
    whole = chat(clouds, provider, "parallel", tools=TOOLS).choices[0].message.tool_calls
    message, _, _ = gather(chat(clouds, provider, "parallel", tools=TOOLS, stream=True))
    streamed = [(name, json.loads(text)) for name, text in message["tool_calls"].values()]
    assert streamed == [(c.function.name, json.loads(c.function.arguments)) for c in whole]


@pytest.mark.parametrize("provider", ["deepseek", "openrouter"])
def test_15_comments_in_a_stream_disturb_nobody(clouds: Clouds, provider: str) -> None:
    import anthropic

    with (
        anthropic.Anthropic(base_url=clouds.stack.url, api_key=clouds.stack.key) as client,
        client.messages.stream(
            model=provider, max_tokens=9, messages=[{"role": "user", "content": "hi"}]
        ) as stream,
    ):
        kinds = [event.type for event in stream]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == 1


@pytest.mark.parametrize(
    "provider", ["deepseek", "moonshot", "tencent-hunyuan-native", "anthropic"]
)
def test_16_reasoning_goes_back_as_each_vendor_demands(clouds: Clouds, provider: str) -> None:
    """DeepSeek and Kimi must get it back, Hunyuan must not, Anthropic with its signature."""
    more = {"tools": TOOLS, "extra_body": THINK}
    asked = chat(clouds, provider, "weather?", **more).choices[0].message
    messages = [
        {"role": "user", "content": "weather?"},
        asked.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "sunny"},
    ]
    assert chat(clouds, provider, messages=messages, **more).choices[0].message.content
    sent = clouds.simulators[provider].requests[-1]
    told = json.dumps(sent, ensure_ascii=False)
    assert ("Let me think" in told) == (provider != "tencent-hunyuan-native")
    assert ("sig-of-sim" in told) == (provider == "anthropic")


def test_unsupported_parameters_follow_the_policy(clouds: Clouds) -> None:
    fixed = {"model": "groq", "messages": [{"role": "user", "content": "hi"}]}
    url = "/v1/chat/completions"

    def ask(policy: str | None = None, **more: object) -> tuple[int, str, str]:

        headers = dict(clouds.stack.headers) | ({"x-tc-unsupported": policy} if policy else {})
        reply = web.post(clouds.stack.url + url, json=fixed | more, headers=headers)
        error = reply.json().get("error", {}).get("code", "")
        return reply.status_code, error, reply.headers.get("x-tc-dropped", "")

    assert ask(logit_bias={"1": 2}) == (200, "", "logit_bias")
    assert ask(logprobs=True) == (400, "unsupported_parameter", "")
    assert ask("drop", logprobs=True) == (200, "", "logprobs")
    assert ask("error", logit_bias={"1": 2}) == (400, "unsupported_parameter", "")
    assert ask("nonsense", logit_bias={"1": 2}) == (400, "invalid_value", "")
    assert ask("error", n=3) == (400, "unsupported_parameter", "")


def test_several_choices_are_asked_for_side_by_side(clouds: Clouds) -> None:
    raw = clouds.openai.chat.completions.with_raw_response.create(
        model="anthropic", messages=[{"role": "user", "content": "hi"}], n=3
    )
    answer = raw.parse()
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert answer.usage is not None and answer.usage.completion_tokens == 36
    row = clouds.stack.row_of(raw.headers["x-request-id"])
    assert (row["prompt_tokens"], row["completion_tokens"]) == (3 * PROMPT_TOKENS, 36)


@pytest.mark.parametrize(
    "switch",
    [
        {"enable_thinking": True},
        {"thinking": {"type": "enabled"}},
        {"reasoning_effort": "high"},
        {"reasoning": {"effort": "high"}},
        {"chat_template_kwargs": {"enable_thinking": True}},
    ],
)
@pytest.mark.parametrize(
    "provider", ["alibaba", "zhipu", "vllm", "openai", "openrouter", "anthropic"]
)
def test_thinking_is_switched_in_any_of_five_ways(
    clouds: Clouds, provider: str, switch: dict[str, object]
) -> None:
    answer = chat(clouds, provider, extra_body=switch).choices[0].message
    assert answer.reasoning_content == "Let me think about it."


def test_what_was_made_up_for_is_said(clouds: Clouds) -> None:
    raw = clouds.openai.chat.completions.with_raw_response.create(
        model="anthropic",
        messages=[{"role": "user", "content": "How old is Ann?"}],
        n=2,
        response_format={"type": "json_object"},
    )
    assert raw.headers["x-tc-emulated"] == "response_format, n"
    texts = [choice.message.content for choice in raw.parse().choices]
    assert texts == ['{"age": 41}', '{"age": 41}']


@pytest.mark.parametrize("provider", ["zhipu", "anthropic", "tencent-hunyuan-native"])
def test_choices_side_by_side_are_one_stream(clouds: Clouds, provider: str) -> None:
    raw = clouds.openai.chat.completions.with_raw_response.create(
        model=provider,
        messages=[{"role": "user", "content": "hi"}],
        n=3,
        stream=True,
        stream_options={"include_usage": True},
    )
    texts, finishes, usages = ["", "", ""], set(), []
    for chunk in raw.parse():
        if chunk.usage is not None:
            usages.append(chunk.usage)
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if choice.finish_reason:
                finishes.add((choice.index, choice.finish_reason))
    assert texts == [HELLO] * 3
    assert finishes == {(0, "stop"), (1, "stop"), (2, "stop")}
    assert [(u.prompt_tokens, u.completion_tokens) for u in usages] == [(3 * PROMPT_TOKENS, 36)]
    row = clouds.stack.row_of(raw.headers["x-request-id"])
    counts = (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"])
    assert counts == (3 * PROMPT_TOKENS, 3 * CACHED_TOKENS, 36)
    assert row["outcome"] == "ok" and row["usage_source"] == "provider"


def test_an_emulated_schema_is_checked(clouds: Clouds) -> None:
    import openai

    fenced = chat(clouds, "deepseek", "How old? sim:fence", response_format=SCHEMA)
    assert json.loads(fenced.choices[0].message.content) == {"age": 41}
    with pytest.raises(openai.APIStatusError) as found:
        chat(clouds, "deepseek", "How old? sim:wrong", response_format=SCHEMA)
    assert found.value.code == "upstream_invalid_reply" and "'old'" in str(found.value)
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    with pytest.raises(openai.BadRequestError):
        chat(clouds, "deepseek", "How old?", response_format=bad)
