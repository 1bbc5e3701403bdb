"""What widely used clients send, as their documents and sources say: `dress` makes a plain
conversation theirs.

Claude Code (anthropics/claude-code, its traffic), Cursor (docs.cursor.com, own keys), Cline
(cline/cline `api/transform`), Codex (openai/codex `core/src/client`), OpenAI Agents SDK
(openai-agents-python `models/`), LangChain (langchain-openai, langchain-anthropic), Vercel AI SDK
(`@ai-sdk/openai`, `/anthropic`, `/openai-compatible`), pydantic-ai (`models/`), Dify
(dify-official-plugins `openai_api_compatible`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Json = dict[str, Any]
_EPHEMERAL = {"cache_control": {"type": "ephemeral"}}
_PATCH_GRAMMAR = {
    "type": "grammar",
    "syntax": "lark",
    "definition": 'start: begin_patch hunk+ end_patch\nbegin_patch: "*** Begin Patch" LF',
}


class Client(NamedTuple):
    """One client at one API."""

    name: str
    api: str
    dress: Callable[[Json], None]
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def label(self) -> str:
        return f"{self.name} {self.api}"


def _strict_schemas(tools: list[Json], key: str) -> None:
    for tool in tools:
        tool[key] = tool[key] | {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "additionalProperties": False,
        }


# --- Anthropic's messages -------------------------------------------------------------------


def _claude_code(body: Json) -> None:
    said = "You are Claude Code, Anthropic's official CLI for Claude."
    system = [{"type": "text", "text": said, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]
    body["system"] = [*system, *[block | _EPHEMERAL for block in body.get("system", ())]]
    for turn in body["messages"]:
        if isinstance(turn["content"], str):
            turn["content"] = [{"type": "text", "text": turn["content"]}]
        if turn["role"] == "user":
            reminder = "<system-reminder>\nToday's date is 2026-11-26.\n</system-reminder>"
            results = [b for b in turn["content"] if b["type"] == "tool_result"]
            rest = [b for b in turn["content"] if b["type"] != "tool_result"]
            turn["content"] = [*results, {"type": "text", "text": reminder}, *rest]
            for result in results:
                result.setdefault("is_error", False)
    body["messages"][-1]["content"][-1] |= _EPHEMERAL
    _strict_schemas(body["tools"], "input_schema")
    for tool in body["tools"]:
        tool |= {"description": "Does it.", "eager_input_streaming": True}
    body["tools"][-1] |= _EPHEMERAL
    body |= {
        "max_tokens": 32_000,
        "temperature": 1,
        "metadata": {"user_id": '{"device_id":"0f","account_uuid":"","session_id":"5b"}'},
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    }


def _cline_anthropic(body: Json) -> None:
    body["system"] = [{"type": "text", "text": "You are Cline.", **_EPHEMERAL}]
    body |= {"max_tokens": 8_192, "temperature": 0, "tool_choice": {"type": "any"}}
    last = [t for t in body["messages"] if t["role"] == "user"][-2:]
    for turn in last:
        if isinstance(turn["content"], str):
            turn["content"] = [{"type": "text", "text": turn["content"]}]
        turn["content"][-1] |= _EPHEMERAL


def _langchain_anthropic(body: Json) -> None:
    body |= {"max_tokens": 1_024, "system": "You are helpful."}
    for turn in body["messages"]:
        for block in turn["content"] if isinstance(turn["content"], list) else ():
            if block["type"] == "tool_result":
                block["is_error"] = False
    for tool in body["tools"]:
        tool["description"] = "Does it."


def _ai_sdk_anthropic(body: Json) -> None:
    body |= {"max_tokens": 4_096, "tool_choice": {"type": "auto"}}
    body["system"] = [{"type": "text", "text": "You are helpful."}]
    _strict_schemas(body["tools"], "input_schema")
    for turn in body["messages"]:
        for block in turn["content"] if isinstance(turn["content"], list) else ():
            if block["type"] == "document":
                block["title"] = "a.pdf"


def _pydantic_anthropic(body: Json) -> None:
    body |= {
        "max_tokens": 4_096,
        "system": "You are helpful.",
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": False},
    }


# --- OpenAI's chat --------------------------------------------------------------------------


def _assistants(body: Json) -> list[Json]:
    return [message for message in body["messages"] if message["role"] == "assistant"]


def _say(body: Json, role: str, text: str) -> None:
    body["messages"].insert(0, {"role": role, "content": text})


def _cursor(body: Json) -> None:
    _say(body, "system", "You are an AI coding assistant in Cursor.")
    for message in body["messages"]:
        if message["role"] == "user" and isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
    body |= {"temperature": 0, "tool_choice": "auto", "user": "cursor-0f"}
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}


def _cline(body: Json) -> None:
    body["messages"].insert(
        0, {"role": "system", "content": [{"type": "text", "text": "You are Cline."}]}
    )
    for message in body["messages"]:
        if isinstance(message["content"], str) and message["role"] in ("user", "tool"):
            message["content"] = [{"type": "text", "text": message["content"]}]
    body |= {"temperature": 0, "max_tokens": 8_192, "parallel_tool_calls": False}
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}


def _agents_chat(body: Json) -> None:
    _say(body, "developer", "You are helpful.")
    for tool in body["tools"]:
        tool["function"] |= {"strict": True, "description": ""}
        tool["function"]["parameters"] |= {"additionalProperties": False, "required": ["of"]}
    body |= {"store": True, "metadata": {"trace": "0f"}, "parallel_tool_calls": True}
    for message in _assistants(body):
        message |= {"refusal": None, "annotations": []}


def _langchain(body: Json) -> None:
    _say(body, "system", "You are helpful.")
    for message in _assistants(body):
        message["content"] = message["content"] or ""
    body |= {"temperature": 0.7, "top_p": 0.9, "n": 1, "seed": 7}
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}


def _ai_sdk_chat(body: Json) -> None:
    _say(body, "system", "You are helpful.")
    for message in _assistants(body):
        message["content"] = message["content"] or ""
    body |= {"tool_choice": "auto", "temperature": 0}
    for tool in body["tools"]:
        tool["function"]["parameters"] |= {
            "$schema": "http://json-schema.org/draft-07/schema#", "additionalProperties": False,
        }  # fmt: skip


def _pydantic_chat(body: Json) -> None:
    _say(body, "system", "You are helpful.")
    for tool in body["tools"]:
        tool["function"]["description"] = ""
    body |= {"tool_choice": "auto", "parallel_tool_calls": True}
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}


def _dify(body: Json) -> None:
    _say(body, "system", "You are helpful.")
    for message in body["messages"]:
        if message["role"] == "tool":
            message["name"] = "look_up"
        if message["role"] == "assistant":
            message["content"] = message["content"] or ""
        for part in message["content"] if isinstance(message["content"], list) else ():
            if part["type"] == "image_url":
                part["image_url"]["detail"] = "high"
    body |= {
        "temperature": 0.7, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0,
        "max_tokens": 512, "response_format": {"type": "text"}, "user": "0f-dify",
        "tool_choice": "auto",
    }  # fmt: skip


def _sdk_echo(body: Json) -> None:
    """`message.model_dump()` of OpenAI's SDK sent back as the history."""
    for message in _assistants(body):
        message |= {"refusal": None, "annotations": None, "audio": None, "function_call": None}
        message.setdefault("tool_calls", None)


# --- OpenAI's responses ---------------------------------------------------------------------


def _codex(body: Json) -> None:
    developer = {
        "type": "message",
        "role": "developer",
        "content": [{"type": "input_text", "text": "<permissions>sandboxed</permissions>"}],
    }
    items = []
    for item in body["input"]:
        if item["type"] == "message" and isinstance(item["content"], str):
            kind = "output_text" if item["role"] == "assistant" else "input_text"
            item["content"] = [{"type": kind, "text": item["content"]}]
        if item["type"] == "function_call" and (not items or items[-1]["type"] == "message"):
            items.append({"type": "reasoning", "summary": [], "encrypted_content": "gAAAA0f"})
        items.append(item)
    body["input"] = [developer, *items]
    body["tools"] += [
        {"type": "custom", "name": "apply_patch", "description": "Edits files.",
         "format": _PATCH_GRAMMAR},
        {"type": "web_search", "external_web_access": True},
    ]  # fmt: skip
    body |= {
        "instructions": "You are Codex.", "tool_choice": "auto", "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto"}, "store": False,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "0f",
        "text": {"verbosity": "medium"},
    }  # fmt: skip


def _agents(body: Json) -> None:
    for number, item in enumerate(body["input"]):
        if item["type"] == "message" and item["role"] == "assistant":
            text = item["content"]
            item |= {
                "id": f"msg_{number}", "status": "completed",
                "content": [
                    {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
                ],
            }  # fmt: skip
        if item["type"] == "function_call":
            item |= {"id": f"fc_{number}", "status": "completed"}
    for tool in body["tools"]:
        tool |= {"strict": True, "description": ""}
    body |= {"instructions": "You are helpful.", "include": [], "parallel_tool_calls": True}


def _langchain_responses(body: Json) -> None:
    for tool in body["tools"]:
        tool["description"] = "Does it."
    body |= {"truncation": "auto", "temperature": 0.7}
    body["input"].insert(0, {"type": "message", "role": "system", "content": "You are helpful."})


def _ai_sdk_responses(body: Json) -> None:
    for tool in body["tools"]:
        tool["strict"] = False
    body["input"].insert(0, {"role": "developer", "content": "You are helpful.", "type": "message"})
    for item in body["input"]:
        if item["type"] == "message" and item["role"] == "assistant":
            item["content"] = [{"type": "output_text", "text": item["content"]}]
    body |= {"tool_choice": "auto", "reasoning": {"effort": "low", "summary": "auto"}}


def _pydantic_responses(body: Json) -> None:
    body |= {
        "instructions": "You are helpful.", "tool_choice": "auto", "truncation": "disabled",
        "include": ["reasoning.encrypted_content"],
    }  # fmt: skip


CLIENTS: tuple[Client, ...] = (
    Client(
        "claude-code", "messages", _claude_code,
        {"anthropic_version": "2023-06-01", "x_app": "cli",
         "anthropic_beta": "claude-code-20250219,interleaved-thinking-2025-05-14"},
    ),
    Client("cline", "messages", _cline_anthropic),
    Client("langchain", "messages", _langchain_anthropic),
    Client("ai-sdk", "messages", _ai_sdk_anthropic),
    Client("pydantic-ai", "messages", _pydantic_anthropic),
    Client("cursor", "chat/completions", _cursor),
    Client("cline", "chat/completions", _cline),
    Client("agents-sdk", "chat/completions", _agents_chat),
    Client("langchain", "chat/completions", _langchain),
    Client("ai-sdk", "chat/completions", _ai_sdk_chat),
    Client("pydantic-ai", "chat/completions", _pydantic_chat),
    Client("dify", "chat/completions", _dify),
    Client("openai-sdk", "chat/completions", _sdk_echo),
    Client("codex", "responses", _codex),
    Client("agents-sdk", "responses", _agents),
    Client("langchain", "responses", _langchain_responses),
    Client("ai-sdk", "responses", _ai_sdk_responses),
    Client("pydantic-ai", "responses", _pydantic_responses),
)  # fmt: skip
