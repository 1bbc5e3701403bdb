"""Vendor table: how each vendor differs from OpenAI's API.

A new OpenAI-compatible vendor is one row here. Sources: the vendors' documents and SDKs and the
gateways that serve them, as compiled on 2026-11-23; `openai_compat/` holds what is common.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tokenschain.core.formats.continuation import Prefill
from tokenschain.core.formats.dialect import Bounds, Dialect, History, ModelRule
from tokenschain.core.formats.message_rules import (
    KnownFields,
    MessageRules,
    ToolIds,
    ToolNames,
)
from tokenschain.core.formats.normalization import Normalization
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.formats.thinking import ThinkingStyle
from tokenschain.core.steering import STEERING
from tokenschain.providers import alibaba, anthropic, tencent
from tokenschain.providers.vendor_profile import PLAIN, KeyScheme, Vendor

_OPEN_RANGE = 0.01  # what vendors' own SDKs send where 0 and 1 are excluded
_TO_MAX_TOKENS = {"max_completion_tokens": "max_tokens"}
_LOG = frozenset({"logprobs", "top_logprobs", "logit_bias"})
_ALL_ROLES = frozenset({"system", "user", "assistant", "tool"})
_OPENAI_ONLY = frozenset(
    {
        "store", "metadata", "prediction", "verbosity", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "prompt_cache_options", "service_tier", "moderation",
        "web_search_options", "modalities", "audio", "functions", "function_call",
    }
)  # fmt: skip
"""Parameters of OpenAI's own that other vendors do not know."""
_OTHERS_FIELDS = frozenset(
    {"reasoning_details", "annotations", "audio", "refusal", "parsed", "provider_specific_fields"}
)
"""Fields that answers of some vendor have and that callers send back in the history."""
_STRINGS = MessageRules(
    joined=_ALL_ROLES,
    parts=frozenset({"text"}),
    tool_names=ToolNames(),
    left_out=_OTHERS_FIELDS,
    nulls=False,
    json_arguments=True,
    functions=False,
)
"""Contents are texts: DeepSeek and the models that take nothing else."""


def _seeing(*more: str) -> MessageRules:
    """Texts and what users show: pictures, and other kinds of parts."""
    return msgspec.structs.replace(_STRINGS, parts=frozenset({"text", "image_url", *more}))


_ZHIPU = Dialect(
    thinking=ThinkingStyle.TYPE,
    thinks_unasked=True,
    efforts={"low": "high", "medium": "high", "high": "high", "xhigh": "max", "max": "max"},
    renames=_TO_MAX_TOKENS | {"user": "user_id"},
    refused=_OPENAI_ONLY | _LOG | {"n", "seed"},
    bounds={
        "temperature": Bounds(_OPEN_RANGE, 1 - _OPEN_RANGE),
        "top_p": Bounds(_OPEN_RANGE, 1 - _OPEN_RANGE),
    },
    stops_max=4,
    tool_choice_required=None,
    tool_choice_named=False,
    tool_choice_none=False,
    choices_max=1,
    messages=msgspec.structs.replace(
        _seeing("video_url", "file_url"), never_empty=frozenset({"user", "assistant", "system"})
    ),
)
_ALIBABA = Dialect(
    thinking=ThinkingStyle.FLAG,
    # Its `max_tokens` counts the answer alone, not the thinking before it.
    thinks_beside_limit=True,
    forced_choice_thinks=False,
    renames=_TO_MAX_TOKENS,
    refused=_OPENAI_ONLY,
    bounds={"temperature": Bounds(0, 1.99), "top_p": Bounds(_OPEN_RANGE, 1)},
    stops_max=4,
    choices_max=4,
    messages=_seeing("video_url", "video", "input_audio"),
    part_models={"input_audio": r"omni|audio"},
)
_ALIBABA_PATHS = {Api.RERANK: "/compatible-api/v1/reranks"}
_ALIBABA_NATIVE = msgspec.structs.replace(
    _ALIBABA,
    known=alibaba.PARAMETERS,
    json_schema=True,
    tool_choice_required=None,
    messages=msgspec.structs.replace(
        _STRINGS, never_empty=frozenset({"user"}), left_out=_OTHERS_FIELDS | {"name"}
    ),
)
_HUAWEI_PATHS = {Api.EMBEDDINGS: "/v1/embeddings", Api.RERANK: "/v1/rerank"}  # chat is on /v2
_TOKENHUB = Dialect(
    thinking=ThinkingStyle.TYPE,
    efforts={"low": "low", "medium": "medium", "high": "high"},
    renames=_TO_MAX_TOKENS,
    refused=_OPENAI_ONLY,
    choices_max=1,
    messages=_seeing(),
)
_HUAWEI = Dialect(
    thinking=ThinkingStyle.TYPE,
    thinking_by_model={"qwen3": ThinkingStyle.TEMPLATE},
    renames=_TO_MAX_TOKENS,
    refused=_OPENAI_ONLY,
    json_schema=False,
    choices_max=1,
    messages=_seeing(),
)
_DEEPSEEK = Dialect(
    thinking=ThinkingStyle.TYPE,
    thinks_unasked=True,
    forced_choice_thinks=False,
    efforts={"low": "high", "medium": "high", "high": "high", "xhigh": "max", "max": "max"},
    history=History.RETURN,
    renames=_TO_MAX_TOKENS,
    refused=_OPENAI_ONLY,
    stops_max=16,
    json_schema=False,
    choices_max=1,
    messages=_STRINGS,
)
_MOONSHOT = Dialect(
    thinking=ThinkingStyle.TYPE,
    thinks_unasked=True,
    forced_choice_thinks=False,
    history=History.RETURN,
    renames=_TO_MAX_TOKENS,
    refused=(_OPENAI_ONLY - {"prompt_cache_key", "safety_identifier"}) | _LOG,
    bounds={"temperature": Bounds(0, 1)},
    stops_max=4,
    dropped_when_thinking=frozenset({"temperature"}),
    tool_choice_required=None,
    messages=msgspec.structs.replace(
        _seeing("video_url"),
        never_empty=frozenset({"user", "assistant", "system"}),
        tool_names=ToolNames(
            r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}",
            rb'"name":\s*"(?:[^"]{65}|[^a-zA-Z_"]|[a-zA-Z0-9_-]*[^a-zA-Z0-9_"-])',
        ),
    ),
)
_ARK = Dialect(
    thinking=ThinkingStyle.TYPE,
    efforts={"low": "low", "medium": "medium", "high": "high"},
    renames=_TO_MAX_TOKENS,
    refused=_OPENAI_ONLY | {"seed"},
    stops_max=4,
    tool_choice_required=None,
    choices_max=1,
    messages=msgspec.structs.replace(_seeing("video_url"), never_empty=frozenset({"user"})),
)
_HUNYUAN_TURNS: Any = {
    "alternates": True,
    "system_first": True,
    "user_first": True,
    "user_last": True,
    "user_after_tool": False,
    "never_empty": frozenset({"user", "assistant", "system"}),
}
_HUNYUAN = Dialect(
    thinking=ThinkingStyle.FLAG,
    history=History.STRIP,
    renames=_TO_MAX_TOKENS,
    bounds={"temperature": Bounds(0, 2), "top_p": Bounds(0, 1)},
    refused=_OPENAI_ONLY | _LOG | {"n"},
    tool_choice_required=None,
    json_schema=False,
    choices_max=1,
    messages=msgspec.structs.replace(_seeing(), **_HUNYUAN_TURNS),
)
_PLAIN_TEXT = Dialect(
    thinking=ThinkingStyle.NONE,
    refused=_OPENAI_ONLY,
    json_schema=False,
    choices_max=1,
    messages=_STRINGS,
)
_SELF_HOSTED: Any = {"refused": _OPENAI_ONLY, "messages": _seeing("video_url", "input_audio")}
_OPENAI_MESSAGES = MessageRules(
    roles={},
    marks=frozenset({"prompt_cache_breakpoint"}),
    # Longer ids are refused: "Expected a string with maximum length 40".
    tool_ids=ToolIds(r".{1,40}", 24, "call_"),
    tool_names=ToolNames(),
    left_out=frozenset({"reasoning_content", "reasoning_details", "reasoning"}),
    nulls=False,
    custom_tools=True,
)
_OPENAI = Dialect(
    thinking=ThinkingStyle.EFFORT,
    efforts={
        "none": "none", "minimal": "minimal", "low": "low", "medium": "medium", "high": "high",
        "xhigh": "xhigh", "max": "high",
    },
    refused=frozenset({"top_k", "min_p", "top_a", "repetition_penalty"}),
    by_model=(
        # The models that reason have another name for the limit and sample in one way only.
        ModelRule(
            r"^(o\d|gpt-5(-mini|-nano|-pro|-codex)?(-\d{4}-.*)?$)",
            refused=_LOG | {"temperature", "top_p", "presence_penalty", "frequency_penalty"},
        ),
        ModelRule(r"^(o\d|gpt-[5-9])", renames={"max_tokens": "max_completion_tokens"}),
        ModelRule(r"^(chatgpt|gpt-[34])", refused=frozenset({"reasoning_effort", "verbosity"})),
    ),
    values={"service_tier": {"auto": "auto", "default": "default", "flex": "flex"}},
    steering=STEERING - {"service_tier"},  # none of these costs more
    stops_max=4,
    messages=_OPENAI_MESSAGES,
    translated_messages=msgspec.structs.replace(
        _OPENAI_MESSAGES,
        parts=frozenset({"text", "image_url", "input_audio", "file", "refusal"}),
        file_sources=frozenset({"file_data", "file_id"}),
        left_out=_OPENAI_MESSAGES.left_out | {"parsed", "provider_specific_fields"},
    ),
)  # fmt: skip
_CLAUDE = r"claude-[a-z]+-"
_ANTHROPIC = Dialect(
    thinking=ThinkingStyle.BUDGET,
    efforts={
        "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh",
        "max": "max",
    },
    budget_lowest=1_024,
    adaptive_only=_CLAUDE + r"(4-[7-9]|[5-9])(?!\d)",
    adaptive_known=_CLAUDE + r"(4-[6-9]|[5-9])(?!\d)",
    forced_choice_thinks=False,
    known=anthropic.PARAMETERS,
    by_model=(
        ModelRule(
            _CLAUDE + r"(4-[7-9]|[5-9])(?!\d)",
            refused=frozenset({"temperature", "top_p", "top_k"}),
        ),
        ModelRule(_CLAUDE + r"(4-[1-9]|[5-9])(?!\d)", exclusive=("temperature", "top_p")),
    ),
    bounds={"temperature": Bounds(0, 1), "top_p": Bounds(0, 1)},
    values={"service_tier": {"auto": "auto", "default": "standard_only"}},
    steering=STEERING - {"service_tier"},  # neither value costs more
    blank_stops=False,
    dropped_when_thinking=frozenset({"temperature", "top_p", "top_k"}),
    json_schema=False,
    json_mode=False,
    choices_max=1,
    messages=MessageRules(
        parts=frozenset({"text", "image_url", "file"}),
        file_sources=frozenset({"file_data", "file_url"}),
        file_media="data:application/pdf;base64,",
        details=False,
        tool_images=True,
        tool_ids=ToolIds(r"[a-zA-Z0-9_-]{1,64}", 22, "toolu_", unique=True),
        marks=frozenset({"cache_control"}),
        left_out=frozenset({"annotations", "audio", "refusal", "parsed", "name"}),
        nulls=False,
        never_empty=_ALL_ROLES - {"tool"},
        blanks=False,
        functions=False,
        declared=True,
        signed=True,
    ),
)  # fmt: skip
_MISTRAL = Dialect(
    thinking=ThinkingStyle.NONE,
    renames={"seed": "random_seed", **_TO_MAX_TOKENS},
    known=frozenset(
        {
            "model", "messages", "temperature", "top_p", "max_tokens", "stream", "stream_options",
            "stop", "random_seed", "response_format", "tools", "tool_choice", "presence_penalty",
            "frequency_penalty", "n", "prediction", "parallel_tool_calls", "prompt_mode",
            "safe_prompt", "guardrails", "prompt_cache_key",
        }
    ),
    bounds={"temperature": Bounds(0, 1.5)},
    stops_max=4,
    tool_choice_required="any",
    stream_usage=False,  # it counts unasked and refuses to be asked
    messages=MessageRules(
        parts=frozenset({"text", "image_url", "input_audio", "file", "document_url"}),
        file_sources=frozenset({"file_data", "file_url"}),
        files_as="document_url",
        tool_ids=ToolIds(r"[a-zA-Z0-9]{9}", 9),
        tool_names=ToolNames(),
        known=KnownFields(
            {
                "system": frozenset({"role", "content"}),
                "user": frozenset({"role", "content"}),
                "assistant": frozenset({"role", "content", "tool_calls", "prefix"}),
                "tool": frozenset({"role", "content", "tool_call_id", "name"}),
            },
            {"text": frozenset({"text"}), "image_url": frozenset({"image_url"})},
        ),
        left_out=_OTHERS_FIELDS | {"reasoning_content", "reasoning"},
        always=True,
        nulls=False,
        never_empty=frozenset({"assistant"}),
        system_first=True,
        user_after_tool=False,
        prefill_mark="prefix",
        json_arguments=True,
        functions=False,
    ),
)  # fmt: skip
# `prefix: true`, under /beta only (DeepSeek's chat prefix completion).
_DEEPSEEK_PREFILL: Any = {"prefill": Prefill.PREFIX, "prefill_path": "/beta/chat/completions"}
_ALIBABA_VENDOR = Vendor(
    "alibaba",
    _ALIBABA,
    paths=_ALIBABA_PATHS,
    prefill=Prefill.PARTIAL,
    picture_tokens=2_560,  # 2,621,440 pixels at most, one token for 32 x 32 (Qwen3-VL)
)
_VLLM = Dialect(thinking=ThinkingStyle.TEMPLATE, **_SELF_HOSTED)

VENDORS: dict[str, Vendor] = {
    "alibaba": _ALIBABA_VENDOR,
    "alibaba-intl": _ALIBABA_VENDOR,
    "alibaba-native": Vendor("alibaba", _ALIBABA_NATIVE, protocol=alibaba.PROTOCOL),
    "tencent-tokenhub": Vendor("tencent", _TOKENHUB),
    "tencent-tokenhub-intl": Vendor("tencent", _TOKENHUB),
    "tencent-lkeap": Vendor("tencent", _TOKENHUB),
    "tencent-hunyuan": Vendor("tencent", _HUNYUAN, needs_normalization=True),
    "tencent-hunyuan-native": Vendor(
        "tencent",
        msgspec.structs.replace(
            _HUNYUAN,
            known=tencent.PARAMETERS,
            json_mode=False,
            messages=msgspec.structs.replace(
                _STRINGS,
                left_out=_OTHERS_FIELDS | {"name"},
                known=KnownFields({}, functions=frozenset({"name", "description", "parameters"})),
                **_HUNYUAN_TURNS,
            ),
        ),
        auth=KeyScheme.SIGNED,
        protocol=tencent.PROTOCOL,
    ),
    "huawei-maas": Vendor("huawei", _HUAWEI, paths=_HUAWEI_PATHS),
    "huawei-maas-intl": Vendor("huawei", _HUAWEI, paths=_HUAWEI_PATHS),
    "volcengine-ark": Vendor(
        "volcano",
        _ARK,
        prefill=Prefill.LAST,  # models that do not think
        picture_tokens=5_120,  # pixels / 784, capped so where `detail` is high
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
            budget_lowest=100,
            renames=_TO_MAX_TOKENS,
            refused=_OPENAI_ONLY,
            choices_max=1,
            messages=_seeing(),
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
            refused=_OPENAI_ONLY | _LOG | {"n"},
            bounds={"temperature": Bounds(_OPEN_RANGE, 1)},
            choices_max=1,
            messages=_seeing(),
        ),
        Normalization.TAGS,
    ),
    "siliconflow": Vendor(
        "siliconflow",
        Dialect(
            thinking=ThinkingStyle.FLAG,
            budget_lowest=128,
            renames=_TO_MAX_TOKENS,
            refused=_OPENAI_ONLY,
            tool_choice_required=None,
            messages=_seeing(),
        ),
    ),
    "stepfun": Vendor(
        "stepfun",
        Dialect(
            thinking=ThinkingStyle.EFFORT,
            efforts={"none": "none", "low": "low", "medium": "medium", "high": "high"},
            refused=_OPENAI_ONLY,
            messages=_seeing("video_url"),
        ),
        Normalization.REASONING,
    ),
    "xfyun-spark": Vendor(
        "xfyun",
        Dialect(
            thinking=ThinkingStyle.NONE,
            renames=_TO_MAX_TOKENS,
            refused=_OPENAI_ONLY | _LOG | {"n", "seed", "stop"},
            bounds={"temperature": Bounds(_OPEN_RANGE, 2)},
            tool_choice_required=None,
            json_schema=False,
            choices_max=1,
            messages=_STRINGS,
        ),
    ),
    "baichuan": Vendor("baichuan", _PLAIN_TEXT),
    "lingyiwanwu": Vendor("lingyiwanwu", _PLAIN_TEXT),
    "longcat": Vendor("longcat", _PLAIN_TEXT),
    # 85 + 170 for each of 8 tiles are 1,445; 1,536 patches times 1.62 (the mini models) are more.
    "openai": Vendor("openai", _OPENAI, picture_tokens=2_489),
    "anthropic": Vendor(
        "anthropic",
        _ANTHROPIC,
        auth=KeyScheme.X_API_KEY,
        protocol=anthropic.PROTOCOL,
        prefill=Prefill.LAST,
        picture_tokens=4_784,  # pixels / 750; 2,576 pixels on the long side at most
    ),
    "mistral": Vendor("mistral", _MISTRAL, prefill=Prefill.PREFIX),
    "together": Vendor(
        "together",
        Dialect(
            thinking=ThinkingStyle.NONE,
            renames=_TO_MAX_TOKENS,
            refused=_OPENAI_ONLY,
            messages=_seeing("video_url"),
        ),
    ),
    "groq": Vendor(
        "groq",
        Dialect(
            thinking=ThinkingStyle.EFFORT,
            efforts={"none": "none", "low": "low", "medium": "medium", "high": "high"},
            refused=_OPENAI_ONLY | _LOG,
            choices_max=1,
            stops_max=4,
            messages=_seeing(),
        ),
        Normalization.REASONING,
    ),
    "fireworks": Vendor(
        "fireworks",
        Dialect(
            thinking=ThinkingStyle.EFFORT,
            efforts={"none": "none", "low": "low", "medium": "medium", "high": "high"},
            refused=_OPENAI_ONLY,
            messages=_seeing(),
        ),
    ),
    "openrouter": Vendor(
        "openrouter",
        Dialect(
            thinking=ThinkingStyle.OBJECT,
            messages=MessageRules(marks=frozenset({"cache_control"}), functions=False),
        ),
        Normalization.REASONING,
    ),
    "vllm": Vendor(
        "vllm", _VLLM, Normalization.REASONING, prefill=Prefill.TEMPLATE, images_as_data=True
    ),
    "sglang": Vendor("sglang", _VLLM, prefill=Prefill.TEMPLATE, images_as_data=True),
    # llama.cpp counts the tokens of one prompt and one choice where there are several.
    "local": Vendor(
        dialect=Dialect(
            choices_max=1,
            many_prompts=False,
            messages=_STRINGS,
            tool_choice_by_schema=True,
            completions_refused=frozenset({"echo", "suffix", "best_of"}),
        ),
        prefill=Prefill.LAST,
    ),
    "mindie": Vendor(
        "mindie",
        Dialect(
            thinking=ThinkingStyle.TEMPLATE,
            refused=_OPENAI_ONLY | {"logit_bias"},
            json_schema=False,
            messages=_seeing(),
        ),
        images_as_data=True,
    ),
    "xinference": Vendor("xinference", _VLLM, images_as_data=True),
    "ollama": Vendor(
        "ollama",
        Dialect(
            thinking=ThinkingStyle.EFFORT,
            efforts={"none": "none", "low": "low", "medium": "medium", "high": "high"},
            refused=_OPENAI_ONLY | _LOG | {"user"},
            tool_choice_required=None,
            choices_max=1,
            many_prompts=False,
            messages=_seeing(),
        ),
        Normalization.REASONING,
        images_as_data=True,
    ),
    "tei": Vendor("tei", paths={Api.RERANK: "/rerank"}, texts_rerank=True),
}


def vendor_of(provider: str) -> Vendor:
    """The row of a provider; a vendor's international site speaks as its other one does."""
    return VENDORS.get(provider) or VENDORS.get(provider.removesuffix("-intl"), PLAIN)
