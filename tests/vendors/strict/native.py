"""Request validation of vendors' own protocols: Hunyuan's ChatCompletions and DashScope.

Sources: tencentcloud-sdk-python-hunyuan 3.1.180 (docstrings of `ChatCompletionsRequest` and
`Message`), Alibaba's reference of the text generation API and dashscope 2.0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.vendors.strict.rules import Broken, ChatRules, check_calls, check_pairs, check_tools

_HUNYUAN_FIELDS = frozenset(
    {
        "Model", "Messages", "Stream", "StreamModeration", "TopP", "Temperature",
        "EnableEnhancement", "Tools", "ToolChoice", "CustomTool", "SearchInfo", "Citation",
        "EnableSpeedSearch", "EnableMultimedia", "EnableDeepSearch", "Seed",
        "ForceSearchEnhancement", "Stop", "EnableRecommendedQuestions", "EnableDeepRead",
        "WebSearchOptions", "TopicChoice", "EnableThinking",
    }
)  # fmt: skip
_HUNYUAN_MESSAGE = frozenset({"Role", "Content", "Contents", "ToolCallId", "ToolCalls", "FileIDs"})
_DASHSCOPE_PARAMETERS = frozenset(
    {
        "result_format", "incremental_output", "max_tokens", "max_input_tokens", "temperature",
        "top_p", "top_k", "seed", "stop", "tools", "tool_choice", "parallel_tool_calls",
        "enable_thinking", "thinking_budget", "presence_penalty", "repetition_penalty",
        "response_format", "enable_search", "search_options", "n", "logprobs", "top_logprobs",
        "enable_code_interpreter", "vl_high_resolution_images",
    }
)  # fmt: skip
_PAIRS = ChatRules(roles=frozenset({"system", "user", "assistant", "tool"}), parts={})


def check_hunyuan(body: Mapping[str, Any]) -> None:
    """Unknown fields, the order of roles, contents, calls and their answers."""
    for name in sorted(body.keys() - _HUNYUAN_FIELDS):
        raise Broken("fields", f"The parameter `{name}` is not recognized.")
    messages = body.get("Messages")
    if not isinstance(messages, list) or not messages:
        raise Broken("messages", "Messages 至少包含一条消息")
    before = ""
    for at, message in enumerate(messages):
        _check_hunyuan_message(message, at, before)
        before = message["Role"]
    if before not in ("user", "tool"):
        raise Broken("order", "Messages 的最后一条 Role 必须为 user 或 tool")
    check_calls({"messages": [_chat_of(message) for message in messages]}, _PAIRS)
    check_pairs({"messages": [_chat_of(message) for message in messages]}, _PAIRS)
    _check_hunyuan_tools(body)
    if not 0 <= body.get("Temperature", 1) <= 2 or not 0 <= body.get("TopP", 1) <= 1:
        raise Broken("numbers", "Temperature 取值区间为 [0.0, 2.0]")


def _check_hunyuan_message(message: Mapping[str, Any], at: int, before: str) -> None:
    role = message.get("Role")
    if role not in ("system", "user", "assistant", "tool"):
        raise Broken("roles", f"Messages.{at}.Role 可选值包括 system、user、assistant、tool")
    for name in message.keys() - _HUNYUAN_MESSAGE:
        raise Broken("message_fields", f"The parameter `Messages.{at}.{name}` is not recognized.")
    if role == "system" and at > 0:
        raise Broken("order", "system 角色必须位于列表的最开始")
    allowed = {
        "": ("system", "user"),
        "system": ("user",),
        "user": ("assistant",),
        "assistant": ("user", "tool"),
        "tool": ("tool", "assistant"),
    }[before]
    if role not in allowed:
        raise Broken("order", f"Messages 中 {before} 之后不可为 {role}: user 与 assistant 交替")
    content, parts = message.get("Content"), message.get("Contents")
    if content is not None and not isinstance(content, str):
        raise Broken("content", f"Messages.{at}.Content 必须为字符串")
    if not content and not parts and not message.get("ToolCalls") and role != "tool":
        raise Broken("empty", f"Messages.{at}.Content 不能为空")
    if parts and role != "user":
        raise Broken("images", "Contents 仅用于 user")


def _chat_of(message: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"role": message["Role"], "content": message.get("Content")}
    if message.get("ToolCallId") is not None:
        made["tool_call_id"] = message["ToolCallId"]
    if message.get("ToolCalls"):
        made["tool_calls"] = [
            {
                "id": call["Id"],
                "type": call["Type"],
                "function": {
                    "name": call["Function"]["Name"],
                    "arguments": call["Function"]["Arguments"],
                },
            }
            for call in message["ToolCalls"]
        ]
    return made


def _check_hunyuan_tools(body: Mapping[str, Any]) -> None:
    choice = body.get("ToolChoice")
    if choice is not None and choice not in ("none", "auto", "custom"):
        raise Broken("choice", "ToolChoice 可选值为 none、auto、custom")
    if choice == "custom" and not body.get("CustomTool"):
        raise Broken("choice", "ToolChoice 为 custom 时 CustomTool 必填")
    for at, tool in enumerate(body.get("Tools") or ()):
        function = tool.get("Function") or {}
        if tool.get("Type") != "function" or not isinstance(function.get("Parameters"), str):
            raise Broken("tools", f"Tools.{at}.Function.Parameters 必须为 JSON 字符串")


def check_dashscope(body: Mapping[str, Any], output_max: Mapping[str, int]) -> None:
    """Unknown fields, roles, contents, calls and their answers, ranges."""
    for name in sorted(body.keys() - {"model", "input", "parameters"}):
        raise Broken("fields", f"Unknown field `{name}`.")
    parameters = body.get("parameters") or {}
    for name in sorted(parameters.keys() - _DASHSCOPE_PARAMETERS):
        raise Broken("fields", f"Unknown parameter `{name}`.")
    messages = (body.get("input") or {}).get("messages")
    if not messages:
        raise Broken("messages", "Input should contain messages")
    for at, message in enumerate(messages):
        if message.get("role") not in _PAIRS.roles:
            raise Broken("roles", f"Role must be in [user, assistant, system, tool]: {at}")
        content = message.get("content")
        if not isinstance(content, str):
            raise Broken("content", f"Input should be a valid string: input.messages.{at}.content")
        if not content and message["role"] == "user":
            raise Broken("empty", f"input.messages.{at}.content must not be empty")
    check_calls({"messages": messages}, _PAIRS)
    check_pairs({"messages": messages}, _PAIRS)
    check_tools(parameters, _PAIRS)
    most = output_max.get(body["model"])
    tokens = parameters.get("max_tokens")
    if tokens is not None and not 1 <= tokens <= (most or tokens):
        raise Broken("output_max", f"Range of max_tokens should be [1, {most}]")
    if not 0 <= parameters.get("temperature", 1) < 2 or not 0 < parameters.get("top_p", 1) <= 1:
        raise Broken("numbers", "Temperature should be in [0.0, 2.0)")
    choice = parameters.get("tool_choice")
    if isinstance(choice, str) and choice not in ("auto", "none"):
        raise Broken("choice", f"tool_choice is one of the strings that should be ['none', 'auto']:"
                     f" {choice}")  # fmt: skip
