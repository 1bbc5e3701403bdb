"""Vendor table: how each vendor differs from OpenAI's API.

A new OpenAI-compatible vendor is one row here. Sources: the vendors' documents and SDKs and the
gateways that serve them, as compiled on 2026-11-23; `openai_compat/` holds what is common.
"""

from __future__ import annotations

from typing import Any

from tokenschain.core.formats.continuation import Prefill
from tokenschain.core.formats.dialect import (
    Bounds,
    Dialect,
    History,
    ThinkingStyle,
)
from tokenschain.core.formats.normalization import Normalization
from tokenschain.core.formats.openai_chat import Api
from tokenschain.providers import alibaba, anthropic, tencent
from tokenschain.providers.vendor_profile import PLAIN, KeyScheme, Vendor

_OPEN_RANGE = 0.01  # what vendors' own SDKs send where 0 and 1 are excluded
_ZHIPU = Dialect(
    thinking=ThinkingStyle.TYPE,
    efforts={"low": "high", "medium": "high", "xhigh": "max"},
    renames={"max_completion_tokens": "max_tokens", "user": "user_id"},
    refused=frozenset({"n", "logprobs", "top_logprobs", "logit_bias", "seed"}),
    bounds={
        "temperature": Bounds(_OPEN_RANGE, 1 - _OPEN_RANGE),
        "top_p": Bounds(_OPEN_RANGE, 1 - _OPEN_RANGE),
    },
    tool_choice_required=None,
    choices_max=1,
)
_ALIBABA = Dialect(
    thinking=ThinkingStyle.FLAG,
    renames={"max_completion_tokens": "max_tokens"},
    bounds={"temperature": Bounds(0, 1.99), "top_p": Bounds(_OPEN_RANGE, 1)},
    choices_max=4,
)
_ALIBABA_PATHS = {Api.RERANK: "/compatible-api/v1/reranks"}
_HUAWEI_PATHS = {Api.EMBEDDINGS: "/v1/embeddings", Api.RERANK: "/v1/rerank"}  # chat is on /v2
_TOKENHUB = Dialect(
    thinking=ThinkingStyle.TYPE,
    efforts={"low": "low", "medium": "medium", "high": "high"},
    renames={"max_completion_tokens": "max_tokens"},
    choices_max=1,
)
_HUAWEI = Dialect(
    thinking=ThinkingStyle.TYPE,
    thinking_by_model={"qwen3": ThinkingStyle.TEMPLATE},
    renames={"max_completion_tokens": "max_tokens"},
    json_schema=False,
    choices_max=1,
)
_DEEPSEEK = Dialect(
    thinking=ThinkingStyle.TYPE,
    efforts={"low": "high", "medium": "high", "high": "high", "xhigh": "max", "max": "max"},
    history=History.RETURN,
    renames={"max_completion_tokens": "max_tokens"},
    json_schema=False,
    choices_max=1,
)
_MOONSHOT = Dialect(
    thinking=ThinkingStyle.TYPE,
    history=History.RETURN,
    renames={"max_completion_tokens": "max_tokens"},
    refused=frozenset({"functions", "function_call", "logprobs", "top_logprobs", "logit_bias"}),
    bounds={"temperature": Bounds(0, 1)},
    dropped_when_thinking=frozenset({"temperature"}),
    tool_choice_required=None,
)
# `prefix: true`, under /beta only (DeepSeek's chat prefix completion).
_DEEPSEEK_PREFILL: Any = {"prefill": Prefill.PREFIX, "prefill_path": "/beta/chat/completions"}
_VLLM = Dialect(thinking=ThinkingStyle.TEMPLATE)
_EFFORT = Dialect(thinking=ThinkingStyle.EFFORT)

VENDORS: dict[str, Vendor] = {
    "alibaba": Vendor("alibaba", _ALIBABA, paths=_ALIBABA_PATHS, prefill=Prefill.PARTIAL),
    "alibaba-intl": Vendor("alibaba", _ALIBABA, paths=_ALIBABA_PATHS, prefill=Prefill.PARTIAL),
    "alibaba-native": Vendor("alibaba", _ALIBABA, protocol=alibaba.PROTOCOL),
    "tencent-tokenhub": Vendor("tencent", _TOKENHUB),
    "tencent-tokenhub-intl": Vendor("tencent", _TOKENHUB),
    "tencent-lkeap": Vendor("tencent", _TOKENHUB),
    "tencent-hunyuan": Vendor(
        "tencent",
        Dialect(
            thinking=ThinkingStyle.FLAG,
            history=History.STRIP,
            renames={"max_completion_tokens": "max_tokens"},
            bounds={"temperature": Bounds(0, 2), "top_p": Bounds(0, 1)},
            refused=frozenset({"n", "logprobs", "top_logprobs", "logit_bias"}),
            tool_choice_required=None,
            json_schema=False,
            choices_max=1,
        ),
        needs_normalization=True,
    ),
    "tencent-hunyuan-native": Vendor(
        "tencent",
        Dialect(
            thinking=ThinkingStyle.FLAG,
            history=History.STRIP,
            renames={"max_completion_tokens": "max_tokens"},
            refused=frozenset({"n", "logprobs", "top_logprobs", "logit_bias"}),
            tool_choice_required=None,
            json_schema=False,
            json_mode=False,
            choices_max=1,
        ),
        auth=KeyScheme.SIGNED,
        protocol=tencent.PROTOCOL,
    ),
    "huawei-maas": Vendor("huawei", _HUAWEI, paths=_HUAWEI_PATHS),
    "huawei-maas-intl": Vendor("huawei", _HUAWEI, paths=_HUAWEI_PATHS),
    "volcengine-ark": Vendor(
        "volcano",
        Dialect(
            thinking=ThinkingStyle.TYPE,
            efforts={"low": "low", "medium": "medium", "high": "high"},
            renames={"max_completion_tokens": "max_tokens"},
            refused=frozenset({"seed"}),
            tool_choice_required=None,
            choices_max=1,
        ),
        prefill=Prefill.LAST,  # models that do not think
    ),
    "baidu-qianfan": Vendor(
        "baidu",
        Dialect(
            thinking=ThinkingStyle.FLAG,
            thinking_by_model={
                "deepseek": ThinkingStyle.TYPE,
                "kimi-k2.5": ThinkingStyle.TYPE,
                "glm-": ThinkingStyle.TYPE,
            },
            renames={"max_completion_tokens": "max_tokens"},
            choices_max=1,
        ),
        paths={Api.RERANK: "rerankers"},
    ),
    "deepseek": Vendor("deepseek", _DEEPSEEK, needs_normalization=True, **_DEEPSEEK_PREFILL),
    "deepseek-intl": Vendor("deepseek", _DEEPSEEK, needs_normalization=True, **_DEEPSEEK_PREFILL),
    "moonshot": Vendor("moonshot", _MOONSHOT, needs_normalization=True, prefill=Prefill.PARTIAL),
    "moonshot-intl": Vendor(
        "moonshot", _MOONSHOT, needs_normalization=True, prefill=Prefill.PARTIAL
    ),
    "zhipu": Vendor("zhipu", _ZHIPU, needs_normalization=True),
    "zai": Vendor("zhipu", _ZHIPU, needs_normalization=True),
    "minimax": Vendor(
        "minimax",
        Dialect(
            thinking=ThinkingStyle.TYPE,
            refused=frozenset({"n", "logprobs", "top_logprobs", "logit_bias"}),
            bounds={"temperature": Bounds(_OPEN_RANGE, 1)},
            choices_max=1,
        ),
        Normalization.TAGS,
    ),
    "siliconflow": Vendor(
        "siliconflow",
        Dialect(
            thinking=ThinkingStyle.FLAG,
            renames={"max_completion_tokens": "max_tokens"},
            tool_choice_required=None,
        ),
    ),
    "stepfun": Vendor("stepfun", _EFFORT, Normalization.REASONING),
    "xfyun-spark": Vendor(
        "xfyun",
        Dialect(
            thinking=ThinkingStyle.NONE,
            renames={"max_completion_tokens": "max_tokens"},
            refused=frozenset({"n", "logprobs", "top_logprobs", "logit_bias", "seed", "stop"}),
            bounds={"temperature": Bounds(_OPEN_RANGE, 2)},
            tool_choice_required=None,
            json_schema=False,
            choices_max=1,
        ),
    ),
    "baichuan": Vendor(
        "baichuan", Dialect(thinking=ThinkingStyle.NONE, json_schema=False, choices_max=1)
    ),
    "lingyiwanwu": Vendor(
        "lingyiwanwu", Dialect(thinking=ThinkingStyle.NONE, json_schema=False, choices_max=1)
    ),
    "longcat": Vendor(
        "longcat", Dialect(thinking=ThinkingStyle.NONE, json_schema=False, choices_max=1)
    ),
    "openai": Vendor("openai", _EFFORT),
    "anthropic": Vendor(
        "anthropic",
        Dialect(
            thinking=ThinkingStyle.TYPE,
            efforts={"low": "low", "medium": "medium", "high": "high", "max": "max"},
            refused=frozenset(
                {
                    "n",
                    "logprobs",
                    "top_logprobs",
                    "logit_bias",
                    "seed",
                    "frequency_penalty",
                    "presence_penalty",
                    "user",
                }
            ),
            bounds={"temperature": Bounds(0, 1)},
            json_schema=False,
            json_mode=False,
            choices_max=1,
        ),
        auth=KeyScheme.X_API_KEY,
        protocol=anthropic.PROTOCOL,
        prefill=Prefill.LAST,
    ),
    "mistral": Vendor(
        "mistral",
        Dialect(
            thinking=ThinkingStyle.NONE,
            renames={"seed": "random_seed", "max_completion_tokens": "max_tokens"},
            refused=frozenset({"logprobs", "top_logprobs", "logit_bias", "user", "store"}),
            tool_choice_required="any",
        ),
        prefill=Prefill.PREFIX,
    ),
    "together": Vendor(
        "together",
        Dialect(thinking=ThinkingStyle.NONE, renames={"max_completion_tokens": "max_tokens"}),
    ),
    "groq": Vendor(
        "groq",
        Dialect(
            thinking=ThinkingStyle.EFFORT,
            refused=frozenset({"logprobs", "top_logprobs", "logit_bias"}),
            choices_max=1,
        ),
        Normalization.REASONING,
    ),
    "fireworks": Vendor("fireworks", _EFFORT),
    "openrouter": Vendor(
        "openrouter", Dialect(thinking=ThinkingStyle.OBJECT), Normalization.REASONING
    ),
    "vllm": Vendor("vllm", _VLLM, Normalization.REASONING, prefill=Prefill.TEMPLATE),
    "sglang": Vendor("sglang", _VLLM, prefill=Prefill.TEMPLATE),
    # llama.cpp counts the tokens of one prompt and one choice where there are several.
    "local": Vendor(dialect=Dialect(choices_max=1, many_prompts=False), prefill=Prefill.LAST),
    "mindie": Vendor(
        "mindie",
        Dialect(
            thinking=ThinkingStyle.TEMPLATE, refused=frozenset({"logit_bias"}), json_schema=False
        ),
    ),
    "xinference": Vendor("xinference", _VLLM),
    "ollama": Vendor(
        "ollama",
        Dialect(
            thinking=ThinkingStyle.EFFORT,
            refused=frozenset({"logit_bias", "user", "logprobs", "top_logprobs"}),
            tool_choice_required=None,
            choices_max=1,
            many_prompts=False,
        ),
        Normalization.REASONING,
        images_as_data=True,
    ),
    "tei": Vendor("tei", paths={Api.RERANK: "/rerank"}, texts_rerank=True),
}


def vendor_of(provider: str) -> Vendor:
    """The row of a provider; a vendor's international site speaks as its other one does."""
    return VENDORS.get(provider) or VENDORS.get(provider.removesuffix("-intl"), PLAIN)
