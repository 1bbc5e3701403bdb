"""What each vendor refuses: the rows, and where each is written.

Rows follow the vendors' documents as compiled in November 2026, their SDKs' types, and the error
texts that callers reported (named beside the row). A vendor that reads with a lenient decoder
ignores unknown fields; those that forbid them (OpenAI, Mistral) have the lists of their SDKs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tests.vendors.strict import anthropic, native, rules
from tests.vendors.strict.anthropic import MessagesRules
from tests.vendors.strict.rules import Broken, ChatRules

FOUR_ROLES = frozenset({"system", "user", "assistant", "tool"})
_TEXT = frozenset({"text"})
_SEES = frozenset({"text", "image_url"})


def _openai_error(broken: Broken) -> Any:
    codes = {"fields": "unknown_parameter", "message_fields": "unknown_parameter",
             "part_fields": "unknown_parameter", "refused": "unsupported_parameter"}  # fmt: skip
    return {
        "error": {
            "message": broken.message,
            "type": "invalid_request_error",
            "param": broken.param,
            "code": codes.get(broken.rule, "invalid_value"),
        }
    }


def _deepseek_error(broken: Broken) -> Any:
    message = broken.message
    if broken.rule in ("roles", "content", "parts", "images", "text_model"):
        message = f"Failed to deserialize the JSON body into the target type: {message}"
    error = {"message": message, "type": "invalid_request_error", "param": None}
    return {"error": error | {"code": "invalid_request_error"}}


def _alibaba_error(broken: Broken) -> Any:
    error = {
        "message": f"<400> InternalError.Algo.InvalidParameter: {broken.message}",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_parameter_error",
    }
    return {"error": error, "request_id": "strict"}


def _zhipu_error(broken: Broken) -> Any:
    code = "1214" if broken.rule in ("roles", "content", "empty", "pairs", "messages") else "1210"
    return {"error": {"code": code, "message": f"{broken.message} 参数非法。请检查文档。"}}


def _moonshot_error(broken: Broken) -> Any:
    return {"error": {"message": broken.message, "type": "invalid_request_error"}}


def _ark_error(broken: Broken) -> Any:
    return {
        "error": {
            "code": "InvalidParameter",
            "message": f"One or more parameters are not valid: {broken.message}",
            "param": broken.param or "",
            "type": "BadRequest",
        }
    }


def _mistral_error(broken: Broken) -> Any:
    if broken.status != 422:
        kind = "invalid_request_message_order" if broken.rule in ("order", "pairs") else (
            "invalid_request_error"
        )  # fmt: skip
        return {"object": "error", "message": broken.message, "type": kind, "param": None,
                "code": "3230"}  # fmt: skip
    detail = [{"type": "extra_forbidden", "loc": ["body", broken.param], "msg": broken.message}]
    return {"object": "error", "message": {"detail": detail}, "type": "invalid_request_error",
            "param": None, "code": None}  # fmt: skip


def _anthropic_error(broken: Broken) -> Any:
    error = {"type": "invalid_request_error", "message": broken.message}
    return {"type": "error", "error": error, "request_id": "req_strict"}


def _hunyuan_error(broken: Broken) -> Any:
    error = {"Code": "InvalidParameterValue", "Message": broken.message}
    return {"Response": {"Error": error, "RequestId": "strict"}}


def _dashscope_error(broken: Broken) -> Any:
    return {"code": "InvalidParameter", "message": broken.message, "request_id": "strict"}


# --- rows -------------------------------------------------------------------------------

# Fields: openai 2.54 `completion_create_params`; messages, parts and calls likewise.
_OPENAI_MESSAGES = {
    "system": frozenset({"role", "content", "name"}),
    "developer": frozenset({"role", "content", "name"}),
    "user": frozenset({"role", "content", "name"}),
    "assistant": frozenset(
        # The API's own answers bring `annotations`, and SDK users send them back.
        {"role", "content", "name", "refusal", "audio", "tool_calls", "function_call",
         "annotations"}
    ),
    # `name` is in OpenAI's own examples of old.
    "tool": frozenset({"role", "content", "tool_call_id", "name"}),
    "function": frozenset({"role", "content", "name"}),
}  # fmt: skip
_OPENAI_PARTS = {
    "text": frozenset({"type", "text", "prompt_cache_breakpoint"}),
    "image_url": frozenset({"type", "image_url", "prompt_cache_breakpoint"}),
    "input_audio": frozenset({"type", "input_audio", "prompt_cache_breakpoint"}),
    "file": frozenset({"type", "file", "prompt_cache_breakpoint"}),
    "refusal": frozenset({"type", "refusal"}),
}
OPENAI = ChatRules(
    roles=FOUR_ROLES | {"developer", "function"},
    parts={
        "system": _TEXT,
        "developer": _TEXT,
        "user": frozenset({"text", "image_url", "input_audio", "file"}),
        "assistant": frozenset({"text", "refusal"}),
        "tool": _TEXT,
    },
    fields=frozenset(
        {
            "messages", "model", "audio", "frequency_penalty", "function_call", "functions",
            "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "metadata",
            "modalities", "moderation", "n", "parallel_tool_calls", "prediction",
            "presence_penalty", "prompt_cache_key", "prompt_cache_options",
            "prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier",
            "seed", "service_tier", "stop", "store", "stream", "stream_options", "temperature",
            "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
            "web_search_options",
        }
    ),
    message_fields=_OPENAI_MESSAGES,
    part_fields=_OPENAI_PARTS,
    call_fields=frozenset({"id", "type", "function", "custom"}),
    tool_fields=frozenset({"type", "function", "custom"}),
    function_fields=frozenset({"name", "description", "parameters", "strict"}),
    nullable=frozenset(
        {"content", "refusal", "audio", "function_call", "annotations", "tool_calls"}
    ),
    id_pattern=r".{1,64}",
    allowed_tools=True,
    both_limits=False,
    thinking="reasoning_effort",
    output_max={"gpt-4.1": 32_768, "gpt-5-mini": 128_000},
)  # fmt: skip
COMPLETION_FIELDS = frozenset(
    {
        "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs",
        "max_tokens", "n", "presence_penalty", "seed", "stop", "stream", "stream_options",
        "suffix", "temperature", "top_p", "user",
    }
)  # fmt: skip
EMBEDDING_FIELDS = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
# "Unrecognized request argument supplied: reasoning_effort", of models that do not think.
OPENAI_PLAIN = OPENAI._replace(refused=frozenset({"reasoning_effort", "verbosity"}))
# OpenAI's own refusal: "Unsupported parameter: 'max_tokens' is not supported with this model.
# Use 'max_completion_tokens' instead."
OPENAI_REASONING = OPENAI._replace(refused=frozenset({"max_tokens"}))
# BerriAI/litellm#17761, zed-industries/zed#37021 (order), charmbracelet/crush#1590
# (reasoning_content), dnakov/anon-kode#53 (stream_options), nomtek/mistralai_client_dart#44;
# mistral-common's validator for ids, order and counts of answers.
MISTRAL = ChatRules(
    roles=FOUR_ROLES,
    parts={
        "system": _TEXT,
        "user": frozenset({"text", "image_url", "document_url", "input_audio", "file"}),
        "assistant": _TEXT,
        "tool": _TEXT,
    },
    fields=frozenset(
        {
            "model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop",
            "random_seed", "response_format", "tools", "tool_choice", "presence_penalty",
            "frequency_penalty", "n", "prediction", "parallel_tool_calls", "prompt_mode",
            "safe_prompt", "metadata", "reasoning_effort", "guardrails", "prompt_cache_key",
        }
    ),
    message_fields={
        "system": frozenset({"role", "content"}),
        "user": frozenset({"role", "content"}),
        "assistant": frozenset({"role", "content", "tool_calls", "prefix"}),
        "tool": frozenset({"role", "content", "tool_call_id", "name"}),
    },
    part_fields={
        "text": frozenset({"type", "text"}),
        "image_url": frozenset({"type", "image_url"}),
        "document_url": frozenset({"type", "document_url", "document_name"}),
        "input_audio": frozenset({"type", "input_audio"}),
        "file": frozenset({"type", "file_id"}),
    },
    call_fields=frozenset({"id", "type", "function", "index"}),
    tool_fields=frozenset({"type", "function"}),
    function_fields=frozenset({"name", "description", "parameters", "strict"}),
    id_pattern=r"[a-zA-Z0-9]{9}",
    follows={
        "": frozenset({"system", "user", "assistant"}),
        "system": frozenset({"user", "assistant", "system"}),
        "user": frozenset({"assistant", "system", "user"}),
        "assistant": frozenset({"assistant", "user", "tool"}),
        "tool": frozenset({"assistant", "tool"}),
    },
    last=frozenset({"user", "tool"}),
    never_empty=frozenset({"assistant"}),
    temperature=(0.0, 1.5),
    choices=frozenset({"auto", "none", "any", "required"}),
    output_max={"mistral-medium-latest": 262_144},
)  # fmt: skip
# cline/cline#230 (strings only), theopenco/llmgateway#3462 (roles), tickernelz/opencode-mem#253.
DEEPSEEK = ChatRules(
    roles=FOUR_ROLES,
    parts={},
    refused=frozenset({"max_completion_tokens"}),
    id_pattern=r".{1,256}",
    thinking="thinking",
    thinks_by_default=True,
    history="return",
    forced_while_thinking=False,
    formats=frozenset({"text", "json_object"}),
    choices_max=1,
    stops_max=16,
    output_max={"deepseek-v4-pro": 393_216},
    text_models=frozenset({"deepseek-v4-pro"}),
)
# Alibaba's reference of the compatible mode: contents of tool, system and assistant messages are
# strings, pictures are the user's, ranges of max_tokens by model; leookun/cursor-byok#3.
ALIBABA = ChatRules(
    roles=FOUR_ROLES,
    parts={"user": frozenset({"text", "image_url", "video_url", "input_audio"})},
    refused=frozenset({"max_completion_tokens"}),
    thinking="enable_thinking",
    forced_while_thinking=False,
    temperature=(0.0, 1.999),
    top_p=(0.0001, 1.0),
    output_max={"qwen3.6-plus": 65_536, "qwen3-8b": 8_192},
    choices_max=4,
    text_models=frozenset({"qwen3-8b"}),
)
# zai-sdk 0.2.3 and docs.bigmodel.cn: `tool_choice` is `auto` only, sampling within (0, 1).
ZHIPU = ChatRules(
    roles=FOUR_ROLES,
    parts={"user": _SEES | {"video_url", "file_url"}},
    refused=frozenset({"max_completion_tokens", "n", "logprobs", "logit_bias", "seed"}),
    thinking="thinking",
    thinks_by_default=True,
    temperature=(0.001, 0.999),
    top_p=(0.001, 0.999),
    choices=frozenset({"auto"}),
    named_choice=False,
    never_empty=frozenset({"user"}),
    output_max={"glm-4.6v": 131_072},
    choices_max=1,
)
# platform.kimi.com's error page; AstrBotDevs/AstrBot#7200 (empty), continuedev/continue#11600
# (reasoning_content), MoonshotAI/kimi-cli#1977 (answers of calls).
MOONSHOT = ChatRules(
    roles=FOUR_ROLES,
    parts={"system": _TEXT, "user": _SEES | {"video_url"}, "assistant": _TEXT},
    refused=frozenset({"max_completion_tokens", "functions", "logprobs", "logit_bias"}),
    name_pattern=r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}",
    thinking="thinking",
    thinks_by_default=True,
    history="return",
    temperature=(0.0, 1.0),
    choices=frozenset({"auto", "none"}),
    forced_while_thinking=False,
    never_empty=frozenset({"assistant", "user", "system"}),
    empty_parts=False,
    output_max={"kimi-k2.5": 262_144},
)
# volcengine-ark-runtime 5.0.54's types; ranges by model.
ARK = ChatRules(
    roles=FOUR_ROLES,
    parts={"system": _TEXT, "user": _SEES | {"video_url"}, "assistant": _TEXT},
    refused=frozenset({"max_completion_tokens", "seed"}),
    thinking="thinking",
    choices=frozenset({"auto", "none"}),
    choices_max=1,
    output_max={"doubao-seed-1-6-251015": 32_000},
    never_empty=frozenset({"user"}),
)
ANTHROPIC = MessagesRules(output_max={"claude-haiku-4-5": 64_000, "claude-opus-4-8": 128_000})

Checker = Callable[[Mapping[str, Any]], None]


class StrictVendor(NamedTuple):
    """One vendor: what it checks, how it refuses, what it speaks."""

    provider: str
    """The row of the platform's table of vendors that is to know these rules."""
    model: str
    check: Checker
    error: Callable[[Broken], Any]
    wire: str = "openai"
    sees: bool = True
    """Whether the model takes pictures."""
    refused_with: int | None = None
    """The status of every refusal, where it is not 400 or the rule's own."""
    usage: str = "last"
    """Where a stream counts: `last`, `always` (unasked), `choice`, `every`."""
    reasoning: str = "reasoning_content"


def _chat(row: ChatRules) -> Checker:
    return lambda body: rules.check(body, row)


def _mistral(body: Mapping[str, Any]) -> None:
    try:
        rules.check(body, MISTRAL)
    except Broken as broken:
        if broken.rule.endswith("fields"):
            broken.status, broken.message = 422, "Extra inputs are not permitted"
        raise


VENDORS: dict[str, StrictVendor] = {
    "openai": StrictVendor("openai", "gpt-4.1", _chat(OPENAI_PLAIN), _openai_error),
    "openai-reasoning": StrictVendor(
        "openai", "gpt-5-mini", _chat(OPENAI_REASONING), _openai_error
    ),
    "anthropic": StrictVendor(
        "anthropic", "claude-haiku-4-5", lambda body: anthropic.check(body, ANTHROPIC),
        _anthropic_error, "anthropic",
    ),
    "anthropic-adaptive": StrictVendor(
        "anthropic", "claude-opus-4-8", lambda body: anthropic.check(body, ANTHROPIC),
        _anthropic_error, "anthropic",
    ),
    "deepseek": StrictVendor(
        "deepseek", "deepseek-v4-pro", _chat(DEEPSEEK), _deepseek_error, sees=False
    ),
    "alibaba": StrictVendor("alibaba", "qwen3.6-plus", _chat(ALIBABA), _alibaba_error),
    "alibaba-small": StrictVendor(
        "alibaba", "qwen3-8b", _chat(ALIBABA), _alibaba_error, sees=False
    ),
    "zhipu": StrictVendor("zhipu", "glm-4.6v", _chat(ZHIPU), _zhipu_error),
    "moonshot": StrictVendor(
        "moonshot", "kimi-k2.5", _chat(MOONSHOT), _moonshot_error, usage="choice"
    ),
    "volcengine-ark": StrictVendor(
        "volcengine-ark", "doubao-seed-1-6-251015", _chat(ARK), _ark_error
    ),
    "mistral": StrictVendor(
        "mistral", "mistral-medium-latest", _mistral, _mistral_error, usage="always"
    ),
    "hunyuan-native": StrictVendor(
        "tencent-hunyuan-native", "hunyuan-turbos-latest", native.check_hunyuan, _hunyuan_error,
        "hunyuan", sees=False, refused_with=200, usage="every",
    ),
    "dashscope-native": StrictVendor(
        "alibaba-native", "qwen-plus",
        lambda body: native.check_dashscope(body, {"qwen-plus": 32_768}), _dashscope_error,
        "dashscope", sees=False, usage="every",
    ),
}  # fmt: skip
