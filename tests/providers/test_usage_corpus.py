"""Raw usage of every vendor, in its own words, to token classes and exact cost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tokenschain.core.formats import openai_chat
from tokenschain.core.formats.anthropic import outbound
from tokenschain.core.formats.canonical import ReplyMetadata
from tokenschain.core.pricing.catalog import (
    Price,
    PriceTier,
    Usage,
    cost_of,
    input_classes,
    output_classes,
)
from tokenschain.providers import alibaba, rerank, tencent

# Pico-yuan per token: every class has a price of its own, so a token in the wrong class shows.
PRICE = Price(
    "CNY",
    (
        PriceTier(
            1_000, 7_000, 100, cache_write=1_250, cache_write_1h=2_000, audio_input=5_000,
            image_input=3_000, audio_output=11_000,
        ),
    ),
    "corpus",
)  # fmt: skip


def openai(usage: dict[str, Any]) -> bytes:
    return json.dumps({"choices": [{"message": {"content": "x"}}], "usage": usage}).encode()


CORPUS: dict[str, tuple[bytes, dict[str, int], dict[str, int], int]] = {
    "openai, cached and reasoning": (
        openai(
            {
                "prompt_tokens": 1_000, "completion_tokens": 300, "total_tokens": 1_300,
                "prompt_tokens_details": {"cached_tokens": 600, "audio_tokens": 0},
                "completion_tokens_details": {"reasoning_tokens": 200, "audio_tokens": 0},
            }
        ),
        {"input": 400, "cached_input": 600},
        {"output": 100, "reasoning": 200},
        400 * 1_000 + 600 * 100 + 300 * 7_000,
    ),
    "openai, audio both ways": (
        openai(
            {
                "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150,
                "prompt_tokens_details": {"audio_tokens": 40, "cached_tokens": 10},
                "completion_tokens_details": {"audio_tokens": 30},
            }
        ),
        {"input": 50, "cached_input": 10, "audio_input": 40},
        {"output": 20, "audio_output": 30},
        50 * 1_000 + 10 * 100 + 40 * 5_000 + 20 * 7_000 + 30 * 11_000,
    ),
    "alibaba, explicit cache written and read": (
        openai(
            {
                "prompt_tokens": 3_019, "completion_tokens": 104, "total_tokens": 3_123,
                "prompt_tokens_details": {
                    "cached_tokens": 2_048, "cache_creation_input_tokens": 500, "image_tokens": 19
                },
            }
        ),
        {"input": 452, "cached_input": 2_048, "cache_write": 500, "image_input": 19},
        {"output": 104},
        452 * 1_000 + 2_048 * 100 + 500 * 1_250 + 19 * 3_000 + 104 * 7_000,
    ),
    "deepseek, hit and miss": (
        openai(
            {
                "prompt_tokens": 120, "completion_tokens": 9, "total_tokens": 129,
                "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 56,
                "completion_tokens_details": {"reasoning_tokens": 5},
            }
        ),
        {"input": 56, "cached_input": 64},
        {"output": 4, "reasoning": 5},
        56 * 1_000 + 64 * 100 + 9 * 7_000,
    ),
    "kimi, cached at the top": (
        openai(
            {
                "prompt_tokens": 80, "completion_tokens": 2, "total_tokens": 82,
                "cached_tokens": 32,
            }
        ),
        {"input": 48, "cached_input": 32},
        {"output": 2},
        48 * 1_000 + 32 * 100 + 2 * 7_000,
    ),
    "ark, with fields of its own": (
        openai(
            {
                "prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15,
                "prompt_tokens_details": {"cached_tokens": 0, "provisioned_tokens": 0},
            }
        ),
        {"input": 10},
        {"output": 5},
        10 * 1_000 + 5 * 7_000,
    ),
    "null details": (
        openai(
            {
                "prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5,
                "prompt_tokens_details": None, "completion_tokens_details": None,
            }
        ),
        {"input": 4},
        {"output": 1},
        4 * 1_000 + 1 * 7_000,
    ),
    "anthropic, cached tokens beside the input": (
        outbound.reply_from(
            b'{"type":"message","id":"m","model":"c","content":[{"type":"text","text":"x"}],'
            b'"stop_reason":"end_turn","usage":{"input_tokens":21,"cache_read_input_tokens":1000,'
            b'"cache_creation_input_tokens":500,"cache_creation":{"ephemeral_5m_input_tokens":400,'
            b'"ephemeral_1h_input_tokens":100},"output_tokens":30}}',
            ReplyMetadata(),
        ),
        {"input": 21, "cached_input": 1_000, "cache_write": 400, "cache_write_1h": 100},
        {"output": 30},
        21 * 1_000 + 1_000 * 100 + 400 * 1_250 + 100 * 2_000 + 30 * 7_000,
    ),
    "dashscope native": (
        alibaba.reply_from(
            b'{"output":{"choices":[{"message":{"role":"assistant","content":"x"},'
            b'"finish_reason":"stop"}]},"usage":{"input_tokens":31,"output_tokens":12,'
            b'"total_tokens":43,"prompt_tokens_details":{"cached_tokens":11},'
            b'"output_tokens_details":{"reasoning_tokens":2}},"request_id":"r"}',
            ReplyMetadata(),
        ),
        {"input": 20, "cached_input": 11},
        {"output": 10, "reasoning": 2},
        20 * 1_000 + 11 * 100 + 12 * 7_000,
    ),
    "hunyuan native": (
        tencent.reply_from(
            '{"Response":{"Id":"h","Created":1,"Choices":[{"Message":{"Role":"assistant",'
            '"Content":"好"},"FinishReason":"stop"}],"Usage":{"PromptTokens":9,'
            '"CompletionTokens":3,"TotalTokens":12,"PromptTokensDetails":{"CachedTokens":4}}}}'.encode(),
            ReplyMetadata(),
        ),
        {"input": 5, "cached_input": 4},
        {"output": 3},
        5 * 1_000 + 4 * 100 + 3 * 7_000,
    ),
    "siliconflow rerank": (
        rerank.reply_from(
            b'{"id":"r","results":[{"index":0,"relevance_score":0.9}],'
            b'"meta":{"tokens":{"input_tokens":25,"output_tokens":0}}}',
            openai_chat.parse(openai_chat.Api.RERANK, b'{"model":"m","query":"q","documents":["d"]}'),
            "m",
        ),
        {"input": 25},
        {},
        25 * 1_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CORPUS)
def test_every_token_is_billed_once_at_its_own_price(name: str) -> None:
    body, inputs, outputs, pico = CORPUS[name]
    usage = openai_chat.usage_of(openai_chat.read_reply(body).usage)
    assert usage is not None and usage.source == "provider"
    assert {k: v for k, v in input_classes(usage).items() if v} == inputs
    assert {k: v for k, v in output_classes(usage).items() if v} == outputs
    assert sum(input_classes(usage).values()) == usage.prompt_tokens
    assert cost_of(usage, PRICE) == pico


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 6}},
        {"completion_tokens": 3},
    ],
)
def test_usage_that_contradicts_itself_is_not_believed(usage: dict[str, Any]) -> None:
    assert openai_chat.usage_of(openai_chat.read_reply(openai(usage)).usage) is None


def test_more_reasoning_than_output_is_billed_as_output_once() -> None:
    found = openai_chat.usage_of(
        openai_chat.read_reply(
            openai(
                {
                    "prompt_tokens": 1,
                    "completion_tokens": 5,
                    "completion_tokens_details": {"reasoning_tokens": 9},
                }
            )
        ).usage
    )
    assert found == Usage(1, 5, 0, 5, "provider")
