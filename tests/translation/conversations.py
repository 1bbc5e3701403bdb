"""Conversations in no API's form, written in each of them, and read back from what vendors got.

A conversation is a list of turns. `write` says it in an API's own form; `read_back` finds in a
vendor's request what was said, so that one can be held against the other: texts, tool calls with
their results, pictures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJcOkw7zDtsOfCjIgMCBvYmoKPDwvTGVuZ3RoIDMgMCBSPj4KZW5kb2JqCg=="


class Call(NamedTuple):
    """A tool call and what the tool said."""

    id: str
    name: str
    arguments: dict[str, Any]
    result: str
    image: str = ""
    """A picture that came with the result, in base64."""
    failed: bool = False


class Turn(NamedTuple):
    """What one side says: `system`, `developer`, `user` or `assistant`."""

    role: str
    texts: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    """In base64; the user's."""
    document: str = ""
    """A PDF in base64; the user's."""
    calls: tuple[Call, ...] = ()
    """The assistant's; all are answered before the next turn."""
    in_parts: bool = False
    """Whether texts are sent as parts where a plain text would do."""


class Found(NamedTuple):
    """What a vendor's request says."""

    texts: list[str]
    """All texts, in order, as long as they stand in messages."""
    calls: list[tuple[str, Any, str]]
    """Name, arguments and result, paired by id, in order of the calls."""
    images: list[str]


def tools_of(turns: Iterable[Turn]) -> list[str]:
    return sorted({call.name for turn in turns for call in turn.calls} | {"look_up"})


_SCHEMA = {"type": "object", "properties": {"of": {"type": "string"}}}


def write(api: str, turns: list[Turn], **more: Any) -> dict[str, Any]:
    """The request's body, but for the model."""
    return WRITERS[api](turns) | more


# --- OpenAI's chat --------------------------------------------------------------------------


def _chat(turns: list[Turn]) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "assistant":
            messages += _chat_assistant(turn)
            continue
        parts: list[dict[str, Any]] = [{"type": "text", "text": text} for text in turn.texts]
        for image in turn.images:
            parts.append(
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}}
            )
        if turn.document:
            data = f"data:application/pdf;base64,{turn.document}"
            parts.append({"type": "file", "file": {"filename": "a.pdf", "file_data": data}})
        plain = len(parts) == 1 and len(turn.texts) == 1 and not turn.in_parts
        messages.append({"role": turn.role, "content": turn.texts[0] if plain else parts})
    tools = [
        {"type": "function", "function": {"name": name, "parameters": _SCHEMA}}
        for name in tools_of(turns)
    ]
    return {"messages": messages, "tools": tools}


def _chat_assistant(turn: Turn) -> list[dict[str, Any]]:
    text: Any = "".join(turn.texts) if turn.texts else None
    if turn.in_parts and turn.texts:
        text = [{"type": "text", "text": one} for one in turn.texts]
    message: dict[str, Any] = {"role": "assistant", "content": text}
    made = [message]
    if turn.calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function",
             "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
            for call in turn.calls
        ]  # fmt: skip
    for call in turn.calls:
        result: Any = call.result
        if turn.in_parts:
            result = [{"type": "text", "text": call.result}]
        made.append({"role": "tool", "tool_call_id": call.id, "content": result})
    return made


# --- Anthropic's messages -------------------------------------------------------------------


def _messages(turns: list[Turn]) -> dict[str, Any]:
    system: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for turn in turns:
        texts = [{"type": "text", "text": text} for text in turn.texts]
        if turn.role in ("system", "developer"):
            system += texts
        elif turn.role == "user":
            blocks: list[dict[str, Any]] = [*results, *texts]
            for image in turn.images:
                blocks.append({"type": "image", "source": _source("image/png", image)})
            if turn.document:
                blocks.append(
                    {"type": "document", "source": _source("application/pdf", turn.document)}
                )
            plain = len(blocks) == 1 and turn.texts and not turn.in_parts
            messages.append({"role": "user", "content": turn.texts[0] if plain else blocks})
            results = []
        else:
            if results:
                messages.append({"role": "user", "content": results})
            uses = [
                {"type": "tool_use", "id": c.id, "name": c.name, "input": c.arguments}
                for c in turn.calls
            ]
            messages.append({"role": "assistant", "content": [*texts, *uses]})
            results = [_result(call) for call in turn.calls]
    if results:
        messages.append({"role": "user", "content": results})
    tools = [{"name": name, "input_schema": _SCHEMA} for name in tools_of(turns)]
    body: dict[str, Any] = {"messages": messages, "tools": tools, "max_tokens": 4_096}
    return body | ({"system": system} if system else {})


def _source(media: str, data: str) -> dict[str, str]:
    return {"type": "base64", "media_type": media, "data": data}


def _result(call: Call) -> dict[str, Any]:
    content: Any = call.result
    if call.image:
        content = [{"type": "text", "text": call.result}] if call.result else []
        content.append({"type": "image", "source": _source("image/png", call.image)})
    made = {"type": "tool_result", "tool_use_id": call.id, "content": content}
    return made | ({"is_error": True} if call.failed else {})


# --- OpenAI's responses ---------------------------------------------------------------------


def _responses(turns: list[Turn]) -> dict[str, Any]:
    items: list[dict[str, Any]] = []
    for turn in turns:
        kind = "output_text" if turn.role == "assistant" else "input_text"
        parts: list[dict[str, Any]] = [{"type": kind, "text": text} for text in turn.texts]
        for image in turn.images:
            parts.append({"type": "input_image", "image_url": f"data:image/png;base64,{image}"})
        if turn.document:
            data = f"data:application/pdf;base64,{turn.document}"
            parts.append({"type": "input_file", "filename": "a.pdf", "file_data": data})
        if parts:
            plain = len(parts) == 1 and len(turn.texts) == 1 and not turn.in_parts
            content = turn.texts[0] if plain else parts
            items.append({"type": "message", "role": turn.role, "content": content})
        for call in turn.calls:
            items.append(
                {"type": "function_call", "call_id": call.id, "name": call.name,
                 "arguments": json.dumps(call.arguments)}
            )  # fmt: skip
        for call in turn.calls:
            output: Any = call.result
            if call.image:
                output = [{"type": "input_text", "text": call.result}] if call.result else []
                url = f"data:image/png;base64,{call.image}"
                output.append({"type": "input_image", "image_url": url})
            items.append({"type": "function_call_output", "call_id": call.id, "output": output})
    tools = [
        {"type": "function", "name": name, "parameters": _SCHEMA, "strict": False}
        for name in tools_of(turns)
    ]
    return {"input": items, "tools": tools, "store": False}


WRITERS = {"chat/completions": _chat, "messages": _messages, "responses": _responses}


# --- what a vendor was told -------------------------------------------------------------------


def read_back(wire: str, body: Mapping[str, Any]) -> Found:
    """What is in a vendor's request."""
    return READERS[wire](body)


def _texts_in(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or () if isinstance(part.get("text"), str)]


def _read_chat(body: Mapping[str, Any]) -> Found:
    texts: list[str] = []
    images: list[str] = []
    asked: list[tuple[str, str, Any]] = []
    results: dict[str, list[str]] = {}
    for message in body["messages"]:
        content = message.get("content")
        texts += _texts_in(content)
        for part in content if isinstance(content, list) else ():
            url = part.get("image_url")
            if url is not None:
                images.append((url["url"] if isinstance(url, dict) else url).split("base64,")[-1])
        for call in message.get("tool_calls") or ():
            function = call["function"]
            arguments = function["arguments"]
            parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
            asked.append((call["id"], function["name"], parsed))
        if message["role"] == "tool":
            results.setdefault(message["tool_call_id"], []).append("".join(_texts_in(content)))
    return Found(texts, _paired(asked, results), images)


def _paired(
    asked: list[tuple[str, str, Any]], results: Mapping[str, list[str]]
) -> list[tuple[str, Any, str]]:
    """Calls with their answers: the same id asked twice is answered twice, in order."""
    left = {id: list(said) for id, said in results.items()}
    return [
        (name, arguments, left[id].pop(0) if left.get(id) else "!none")
        for id, name, arguments in asked
    ]


def _read_anthropic(body: Mapping[str, Any]) -> Found:
    system = body.get("system") or ()
    texts = _texts_in(system)
    images: list[str] = []
    asked: list[tuple[str, str, Any]] = []
    results: dict[str, list[str]] = {}
    for turn in body["messages"]:
        blocks = turn["content"]
        if isinstance(blocks, str):
            blocks = [{"type": "text", "text": blocks}]
        for block in blocks:
            inner = block.get("content")
            match block["type"]:
                case "text":
                    texts.append(block["text"])
                case "image":
                    images.append(block["source"].get("data", ""))
                case "tool_use":
                    asked.append((block["id"], block["name"], block["input"]))
                case "tool_result":
                    said = _texts_in(inner)
                    texts += said
                    results.setdefault(block["tool_use_id"], []).append("".join(said))
                    for part in inner if isinstance(inner, list) else ():
                        if part["type"] == "image":
                            images.append(part["source"].get("data", ""))
    return Found(texts, _paired(asked, results), images)


def _read_hunyuan(body: Mapping[str, Any]) -> Found:
    messages = []
    for message in body["Messages"]:
        made = {"role": message["Role"], "content": message.get("Content")}
        if message.get("ToolCallId"):
            made["tool_call_id"] = message["ToolCallId"]
        made["tool_calls"] = [
            {
                "id": call["Id"],
                "function": {
                    "name": call["Function"]["Name"],
                    "arguments": call["Function"]["Arguments"],
                },
            }
            for call in message.get("ToolCalls") or ()
        ]
        messages.append(made)
    return _read_chat({"messages": messages})


READERS = {
    "openai": _read_chat,
    "anthropic": _read_anthropic,
    "hunyuan": _read_hunyuan,
    "dashscope": lambda body: _read_chat(body["input"]),
}


# --- what must be there -----------------------------------------------------------------------


def missing(turns: Iterable[Turn], found: Found, sees: bool) -> list[str]:
    """What was said and is not in a vendor's request; empty when all is."""
    lost = []
    told = "\n".join(found.texts)
    for turn in turns:
        for text in turn.texts:
            if text.strip() and text not in told:
                lost.append(f"text {text[:40]!r} of {turn.role}")
        for image in turn.images:
            if sees and image not in found.images:
                lost.append(f"image of {turn.role}")
    wanted = [call for turn in turns for call in turn.calls]
    got = list(found.calls)
    renamed: dict[str, str] = {}
    for call in wanted:
        at = next((n for n, one in enumerate(got) if _is(call, one, renamed)), None)
        if at is None:
            lost.append(f"call {call.name} {call.arguments} with its result {call.result[:40]!r}")
        else:
            got.pop(at)
        if call.image and sees and call.image not in found.images:
            lost.append(f"image of the result of {call.name}")
    if len(set(renamed.values())) != len(renamed):
        lost.append(f"two tools have one name: {renamed}")
    return lost


def odd(name: str) -> bool:
    """Whether some vendors do not take a tool's name, so that it goes there by another."""
    return len(name) > 64 or name[0].isdigit()


def _is(call: Call, found: tuple[str, Any, str], renamed: dict[str, str]) -> bool:
    name, arguments, result = found
    if arguments != call.arguments or call.result.strip() not in result:
        return False
    if odd(call.name) and name != call.name:
        return renamed.setdefault(call.name, name) == name
    return name == call.name
