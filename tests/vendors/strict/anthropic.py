"""Request validation of Anthropic's Messages API, in the API's own words.

Sources: Anthropic's API reference (version 2023-06-01) and error texts as callers reported them:
anthropics/claude-code#4378 (extra inputs), BerriAI/litellm#15097 (temperature with top_p),
BerriAI/litellm#17129 (forced choice with thinking), openai/openai-agents-python#1704 (unsigned
history), lobehub/lobehub#10069. Field lists are those of the installed SDK.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from tests.vendors.strict.rules import Broken

SIGNATURE = "sig-of-strict"
CACHE_MARKS_MAX = 4
FIELDS = frozenset(
    {
        "model", "messages", "max_tokens", "system", "tools", "tool_choice", "stop_sequences",
        "temperature", "top_p", "top_k", "stream", "thinking", "metadata", "output_config",
        "service_tier", "container", "cache_control", "context_management", "inference_geo",
        "mcp_servers", "diagnostics", "speed", "user_profile_id", "workspace_id", "output_format",
        "fallback_credit_token", "fallbacks",
    }
)  # fmt: skip
BLOCKS: Mapping[str, frozenset[str]] = {
    "text": frozenset({"text", "cache_control", "citations"}),
    "image": frozenset({"source", "cache_control", "transformations"}),
    "document": frozenset({"source", "title", "context", "citations", "cache_control"}),
    "search_result": frozenset({"source", "title", "content", "citations", "cache_control"}),
    "tool_use": frozenset({"id", "name", "input", "cache_control", "caller", "toolset_name"}),
    "tool_result": frozenset(
        {"tool_use_id", "content", "is_error", "cache_control", "toolset_name"}
    ),
    "thinking": frozenset({"thinking", "signature"}),
    "redacted_thinking": frozenset({"data"}),
    "server_tool_use": frozenset({"id", "name", "input", "cache_control", "caller"}),
    "web_search_tool_result": frozenset({"tool_use_id", "content", "cache_control", "caller"}),
    "web_fetch_tool_result": frozenset({"tool_use_id", "content", "cache_control", "caller"}),
    "code_execution_tool_result": frozenset({"tool_use_id", "content", "cache_control"}),
    "bash_code_execution_tool_result": frozenset({"tool_use_id", "content", "cache_control"}),
    "text_editor_code_execution_tool_result": frozenset(
        {"tool_use_id", "content", "cache_control"}
    ),
    "tool_search_tool_result": frozenset({"tool_use_id", "content", "cache_control"}),
    "container_upload": frozenset({"file_id", "cache_control"}),
    "tool_reference": frozenset({"tool_name", "cache_control"}),
    "mid_conv_system": frozenset({"content", "cache_control"}),
    "fallback": frozenset({"content"}),
}
SAID_BY: Mapping[str, frozenset[str]] = {
    "user": frozenset(
        {"text", "image", "document", "search_result", "tool_result", "container_upload",
         "mid_conv_system", "tool_reference"}
    ),
    "assistant": frozenset(BLOCKS) - {"image", "document", "tool_result", "container_upload"},
}  # fmt: skip
TOOL_FIELDS = frozenset(
    {
        "type", "name", "input_schema", "description", "cache_control", "strict", "allowed_callers",
        "defer_loading", "eager_input_streaming", "input_examples",
    }
)  # fmt: skip
SERVER_TOOLS = re.compile(
    r"(web_search|web_fetch|code_execution|bash|text_editor|computer|memory|tool_search|browser"
    r"|computer_toolset|browser_toolset|mcp_toolset)\w*"
)
_MEDIA = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")


class MessagesRules(NamedTuple):
    """What differs from model to model."""

    output_max: Mapping[str, int]
    adaptive_from: tuple[int, int] = (4, 7)
    """From this version on a thinking budget is refused."""
    one_sampler_from: tuple[int, int] = (4, 5)
    """From this version on `temperature` and `top_p` exclude each other."""


def version_of(model: str) -> tuple[int, int]:
    numbers = [int(part) for part in model.split("-") if part.isdigit() and len(part) < 3]
    return (numbers[0], numbers[1]) if len(numbers) > 1 else (0, 0)


def blocks_of(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def check(body: Mapping[str, Any], rules: MessagesRules) -> None:
    """All rules, in the order of the API: shape, messages, tools, thinking, numbers."""
    for one in (
        check_fields, check_system, check_turns, check_blocks, check_pairs, check_cache_marks,
        check_tools, check_choice, check_thinking, check_numbers, check_output,
    ):  # fmt: skip
        one(body, rules)


def check_fields(body: Mapping[str, Any], rules: MessagesRules) -> None:
    for name in sorted(body.keys() - FIELDS):
        raise Broken("fields", f"{name}: Extra inputs are not permitted")
    for name in ("model", "messages", "max_tokens"):
        if body.get(name) is None:
            raise Broken("required", f"{name}: Field required")
    for name, value in body.items():
        if value is None:
            raise Broken("null", f"{name}: Input should be a valid value, not null")
    if not body["messages"]:
        raise Broken("messages", "messages: at least one message is required")


def check_system(body: Mapping[str, Any], rules: MessagesRules) -> None:
    for at, block in enumerate(blocks_of(body.get("system", ()))):
        if block.get("type") != "text":
            raise Broken("system", f"system.{at}.type: Input should be 'text'")
        _check_text(block, f"system.{at}")
        _check_extra(block, f"system.{at}")


def check_turns(body: Mapping[str, Any], rules: MessagesRules) -> None:
    turns = body["messages"]
    for at, turn in enumerate(turns):
        if turn.get("role") not in ("user", "assistant"):
            raise Broken("roles", f'messages: Unexpected role "{turn.get("role")}".')
        for name in turn.keys() - {"role", "content"}:
            raise Broken("message_fields", f"messages.{at}.{name}: Extra inputs are not permitted")
        if not turn.get("content") and not (turn["role"] == "assistant" and at == len(turns) - 1):
            raise Broken(
                "empty", f"messages.{at}: all messages must have non-empty content except for the "
                "optional final assistant message",
            )  # fmt: skip
    if turns[0]["role"] != "user":
        raise Broken("roles", 'messages: first message must use the "user" role')
    last = blocks_of(turns[-1].get("content") or ())
    if turns[-1]["role"] == "assistant" and last and last[-1]["type"] == "text":
        text = last[-1]["text"]
        if text != text.rstrip():
            raise Broken(
                "prefill", "messages: final assistant content cannot end with trailing whitespace"
            )


def _check_text(block: Mapping[str, Any], where: str) -> None:
    text = block.get("text")
    if not isinstance(text, str):
        raise Broken("blocks", f"{where}.text: Input should be a valid string")
    kind = where.split(".", 1)[0]
    if not text:
        raise Broken("blank", f"{kind}: text content blocks must be non-empty")
    if not text.strip():
        raise Broken("blank", f"{kind}: text content blocks must contain non-whitespace text")


def _check_extra(block: Mapping[str, Any], where: str) -> None:
    known = BLOCKS.get(block.get("type", ""))
    if known is None:
        raise Broken("blocks", f"{where}: Input tag '{block.get('type')}' does not match any of "
                     "the expected tags")  # fmt: skip
    for name in block.keys() - known - {"type"}:
        raise Broken("extra", f"{where}.{block['type']}.{name}: Extra inputs are not permitted")


def check_blocks(body: Mapping[str, Any], rules: MessagesRules) -> None:
    for at, turn in enumerate(body["messages"]):
        if isinstance(turn["content"], str):
            if turn["content"] and not turn["content"].strip():
                raise Broken(
                    "blank", "messages: text content blocks must contain non-whitespace text"
                )
            continue
        for number, block in enumerate(turn["content"]):
            where = f"messages.{at}.content.{number}"
            _check_extra(block, where)
            if block["type"] not in SAID_BY[turn["role"]]:
                raise Broken(
                    "blocks", f"{where}: `{block['type']}` blocks are not allowed in "
                    f"{turn['role']} messages",
                )  # fmt: skip
            _check_block(block, where)


def _check_block(block: Mapping[str, Any], where: str) -> None:
    match block["type"]:
        case "text":
            _check_text(block, where)
        case "image" | "document":
            _check_source(block, where)
        case "tool_use":
            if not isinstance(block.get("id"), str) or not _ID.fullmatch(block["id"]):
                raise Broken(
                    "ids", f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
                )
            if not _NAME.fullmatch(block.get("name") or ""):
                raise Broken("names", f"{where}.tool_use.name: String should match pattern")
            if not isinstance(block.get("input"), dict):
                raise Broken("input", f"{where}.tool_use.input: Input should be a valid dictionary")
        case "tool_result":
            content = block.get("content")
            for inner, part in enumerate(blocks_of(content or ())):
                place = f"{where}.tool_result.content.{inner}"
                if isinstance(content, str):
                    break
                if part.get("type") not in ("text", "image", "document", "search_result",
                                            "tool_reference"):  # fmt: skip
                    raise Broken("blocks", f"{place}: Input tag '{part.get('type')}' unexpected")
                _check_extra(part, place)
                if part["type"] == "text" and not part.get("text"):
                    raise Broken("blank", "messages: text content blocks must be non-empty")
                if part["type"] in ("image", "document"):
                    _check_source(part, place)
        case "thinking":
            if not block.get("signature"):
                raise Broken("signature", f"{where}.thinking.signature: Field required")
            if block["signature"] != SIGNATURE:
                raise Broken("signature", f"{where}: Invalid `signature` in `thinking` block")


def _check_source(block: Mapping[str, Any], where: str) -> None:
    kind, source = block["type"], block.get("source") or {}
    match source.get("type"):
        case "base64":
            media = _MEDIA if kind == "image" else {"application/pdf"}
            if source.get("media_type") not in media or not source.get("data"):
                raise Broken("source", f"{where}.{kind}.source.base64.media_type: Input should be "
                             f"{' or '.join(sorted(media))}")  # fmt: skip
        case "url":
            if not re.match(r"https?://\S+", source.get("url") or ""):
                raise Broken("source", f"{where}.{kind}.source.url.url: Only HTTPS URLs are "
                             "supported.")  # fmt: skip
        case "file" if source.get("file_id"):
            pass
        case "text" | "content" if kind == "document":
            pass
        case other:
            raise Broken("source", f"{where}.{kind}.source: Input tag '{other}' unexpected")


def check_pairs(body: Mapping[str, Any], rules: MessagesRules) -> None:
    """Neighbours of one role count as one turn; each call is answered in the next turn."""
    asked: list[str] = []
    seen: set[str] = set()
    for at, (role, blocks) in enumerate(_joined(body["messages"])):
        results = [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
        for result in results:
            if role == "user" and result not in asked:
                raise Broken(
                    "pairs", f"messages.{at}.content.0: unexpected `tool_use_id` found in "
                    f"`tool_result` blocks: {result}. Each `tool_result` block must have a "
                    "corresponding `tool_use` block in the previous message.",
                )  # fmt: skip
        if len(set(results)) != len(results):
            raise Broken("pairs", f"messages.{at}: each tool_use must have a single result")
        missing = [one for one in asked if one not in results]
        if missing:
            raise Broken(
                "pairs", f"messages.{at - 1}: `tool_use` ids were found without `tool_result` "
                f"blocks immediately after: {', '.join(missing)}. Each `tool_use` block must have "
                "a corresponding `tool_result` block in the next message.",
            )  # fmt: skip
        kinds = [b["type"] == "tool_result" for b in blocks]
        if role == "user" and kinds != sorted(kinds, reverse=True):
            raise Broken("pairs", f"messages.{at}: tool_result blocks must come first")
        asked = [b["id"] for b in blocks if b["type"] == "tool_use"] if role == "assistant" else []
        if len(set(asked)) != len(asked) or seen & set(asked):
            raise Broken("ids", f"messages.{at}.content: `tool_use` ids must be unique")
        seen |= set(asked)
    if asked:
        raise Broken("pairs", f"`tool_use` ids were found without `tool_result` blocks: {asked}")


def _joined(turns: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    made: list[tuple[str, list[dict[str, Any]]]] = []
    for turn in turns:
        blocks = blocks_of(turn["content"])
        if made and made[-1][0] == turn["role"]:
            made[-1][1].extend(blocks)
        else:
            made.append((turn["role"], blocks))
    return made


def check_cache_marks(body: Mapping[str, Any], rules: MessagesRules) -> None:
    marked = [block for block in _all_blocks(body) if block.get("cache_control") is not None]
    if len(marked) > CACHE_MARKS_MAX:
        raise Broken(
            "cache_control", f"A maximum of {CACHE_MARKS_MAX} blocks with cache_control may be "
            f"provided. Found {len(marked)}.",
        )  # fmt: skip
    for block in marked:
        mark = block["cache_control"]
        if mark.get("type") != "ephemeral" or mark.keys() - {"type", "ttl"}:
            raise Broken("cache_control", "cache_control: Extra inputs are not permitted")
        if mark.get("ttl", "5m") not in ("5m", "1h"):
            raise Broken("cache_control", "cache_control.ttl: Input should be '5m' or '1h'")


def _all_blocks(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = [*blocks_of(body.get("system", ())), *body.get("tools", ())]
    for turn in body["messages"]:
        for block in blocks_of(turn["content"]):
            found.append(block)
            inner = block.get("content")
            found += inner if isinstance(inner, list) else []
    return found


def check_tools(body: Mapping[str, Any], rules: MessagesRules) -> None:
    tools = body.get("tools")
    kinds = {block["type"] for turn in body["messages"] for block in blocks_of(turn["content"])}
    if not tools and kinds & {"tool_use", "tool_result"}:
        raise Broken(
            "history tools",
            "Requests which include `tool_use` or `tool_result` blocks must define tools.",
        )
    names = []
    for at, tool in enumerate(tools or ()):
        if tool.get("type", "custom") != "custom":
            if not SERVER_TOOLS.fullmatch(tool["type"]):
                raise Broken("tools", f"tools.{at}: Input tag '{tool['type']}' unexpected")
            names.append(tool.get("name", tool["type"]))
            continue
        for name in tool.keys() - TOOL_FIELDS:
            raise Broken("tools", f"tools.{at}.custom.{name}: Extra inputs are not permitted")
        if not _NAME.fullmatch(tool.get("name") or ""):
            raise Broken(
                "names",
                f"tools.{at}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'",
            )
        schema = tool.get("input_schema")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise Broken("schemas", f"tools.{at}.custom.input_schema.type: Field required")
        if any(name in schema for name in ("oneOf", "allOf", "anyOf")):
            raise Broken("schemas", f"tools.{at}.custom.input_schema: input_schema does not support"
                         " oneOf, allOf, or anyOf at the top level")  # fmt: skip
        names.append(tool["name"])
    if len(set(names)) != len(names):
        raise Broken("tools", "tools: Tool names must be unique.")


def check_choice(body: Mapping[str, Any], rules: MessagesRules) -> None:
    choice = body.get("tool_choice")
    if choice is None:
        return
    if not body.get("tools"):
        raise Broken("choice", "tool_choice: may only be specified while providing tools")
    kind = choice.get("type")
    known = {"type", "name"} if kind == "tool" else {"type"}
    if kind not in ("auto", "any", "tool", "none"):
        raise Broken("choice", f"tool_choice: Input tag '{kind}' unexpected")
    if kind != "none":
        known.add("disable_parallel_tool_use")
    for name in choice.keys() - known:
        raise Broken("choice", f"tool_choice.{kind}.{name}: Extra inputs are not permitted")
    if kind == "tool" and choice.get("name") not in [t.get("name") for t in body["tools"]]:
        raise Broken("choice", f"Tool '{choice.get('name')}' not found in provided tools")
    if kind in ("any", "tool") and _thinks(body):
        raise Broken("choice", "Thinking may not be enabled when tool_choice forces tool use.")


def _thinks(body: Mapping[str, Any]) -> bool:
    return (body.get("thinking") or {}).get("type") in ("enabled", "adaptive")


def check_thinking(body: Mapping[str, Any], rules: MessagesRules) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind, model = thinking.get("type"), body["model"]
    if kind not in ("enabled", "disabled", "adaptive"):
        raise Broken("thinking", f"thinking: Input tag '{kind}' unexpected")
    new = version_of(model) >= rules.adaptive_from
    if kind == "adaptive" and not new:
        raise Broken("thinking", "adaptive thinking is not supported on this model")
    if kind == "enabled":
        if new:
            raise Broken("thinking", '"thinking.type.enabled" is not supported for this model.')
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int) or budget < 1_024:
            raise Broken(
                "budget", "thinking.enabled.budget_tokens: Input should be greater than or equal "
                "to 1024",
            )  # fmt: skip
        if budget >= body["max_tokens"]:
            raise Broken("budget", "`max_tokens` must be greater than `thinking.budget_tokens`.")
    elif "budget_tokens" in thinking:
        raise Broken("thinking", f"thinking.{kind}.budget_tokens: Extra inputs are not permitted")
    if not _thinks(body):
        return
    if body.get("temperature", 1) != 1:
        raise Broken("numbers", "`temperature` may only be set to 1 when thinking is enabled.")
    if "top_k" in body:
        raise Broken("numbers", "`top_k` must be unset when thinking is enabled.")
    if body.get("top_p", 1) < 0.95:
        raise Broken("numbers", "`top_p` must be greater than or equal to 0.95")
    if kind == "enabled":  # earlier turns are free with adaptive thinking
        _check_thinking_history(body)


def _check_thinking_history(body: Mapping[str, Any]) -> None:
    """The turn that is still open (tool results are its last word) must begin with thinking."""
    turns = _joined(body["messages"])
    if turns[-1][0] == "assistant":
        raise Broken("prefill", "Prefilling is not supported when thinking is enabled.")
    if not any(block["type"] == "tool_result" for block in turns[-1][1]):
        return
    first = len(turns) - 2
    while first >= 2 and all(b["type"] == "tool_result" for b in turns[first - 1][1]):
        first -= 2
    begins = turns[first][1][0]["type"]
    if begins not in ("thinking", "redacted_thinking"):
        raise Broken(
            "thinking history", f"messages.{first}.content.0.type: Expected `thinking` or "
            f"`redacted_thinking`, but found `{begins}`. When `thinking` is enabled, a final "
            "`assistant` message must start with a thinking block.",
        )  # fmt: skip


def check_numbers(body: Mapping[str, Any], rules: MessagesRules) -> None:
    tokens, model = body["max_tokens"], body["model"]
    if not isinstance(tokens, int) or tokens < 1:
        raise Broken("output_max", "max_tokens: Input should be greater than or equal to 1")
    most = rules.output_max.get(model)
    if most is not None and tokens > most:
        raise Broken(
            "output_max", f"max_tokens: {tokens} > {most}, which is the maximum allowed number of "
            f"output tokens for {model}",
        )  # fmt: skip
    for name in ("temperature", "top_p"):
        if not 0 <= body.get(name, 1) <= 1:
            raise Broken("numbers", f"{name}: Input should be less than or equal to 1")
    if {"temperature", "top_p"} <= body.keys() and version_of(model) >= rules.one_sampler_from:
        raise Broken(
            "samplers", "`temperature` and `top_p` cannot both be specified for this model. "
            "Please use only one.",
        )  # fmt: skip
    for stop in body.get("stop_sequences", ()):
        if not stop.strip():
            raise Broken("stops", "stop_sequences: each stop sequence must contain non-whitespace")


def check_output(body: Mapping[str, Any], rules: MessagesRules) -> None:
    for name in (body.get("metadata") or {}).keys() - {"user_id"}:
        raise Broken("extra", f"metadata.{name}: Extra inputs are not permitted")
    output = body.get("output_config") or {}
    for name in output.keys() - {"effort", "format", "task_budget"}:
        raise Broken("extra", f"output_config.{name}: Extra inputs are not permitted")
    if output.get("effort") not in (None, "low", "medium", "high", "xhigh", "max"):
        raise Broken("effort", "output_config.effort: Input should be 'low', 'medium', 'high'")
