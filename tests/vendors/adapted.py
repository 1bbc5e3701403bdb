"""What of a request arrives at a vendor in which form: measured, for the published tables.

Each column is a call through the running gateway with the official SDK; its cell is what stood in
the request that the vendor's simulator got.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import openai

from tests.clouds import Clouds

WORDS = ("KINDLY", "WORLDLY")
PICTURE = "data:image/png;base64,iVBORw0KGgo="
CALL_ID = "functions.get_weather:0"
MOST = 4_000_000
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}},
    }
]


def _sent(clouds: Clouds, provider: str, *messages: Any, **more: Any) -> Any:
    """The request that the vendor got; a refusal of the gateway is raised."""
    simulator = clouds.simulators[provider]
    before = len(simulator.requests)
    model = more.pop("model", provider)
    clouds.openai.chat.completions.create(model=model, messages=list(messages), **more)
    assert len(simulator.requests) == before + 1
    return simulator.requests[-1]


def _holders(value: Any, word: str, key: str = "") -> list[tuple[str, Any]]:
    """The objects around a text, from the inside out, with the field that it stands in."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    names = list(value) if isinstance(value, dict) else [key] * len(list(inner))
    for name, one in zip(names, inner, strict=True):
        if isinstance(one, str) and word in one:
            return [(name, value)] if isinstance(value, dict) else [(key, value)]
        found = _holders(one, word, name)
        if found:
            return [*found, (name, value)]
    return []


def _role(body: Any, word: str) -> str:
    for _, holder in _holders(body, word):
        if isinstance(holder, dict):
            role = holder.get("role") or holder.get("Role")
            if role:
                return str(role)
            if "system" in holder:
                return "system"
    return "?"


def developer_role(clouds: Clouds, provider: str) -> str:
    """The role in which the developer's word arrives."""
    told = {"role": "developer", "content": WORDS[0]}
    return _role(_sent(clouds, provider, told, {"role": "user", "content": "hi"}), WORDS[0])


def text_parts(clouds: Clouds, provider: str) -> str:
    """Whether parts that are texts arrive as parts."""
    parts = [{"type": "text", "text": word} for word in WORDS]
    body = _sent(clouds, provider, {"role": "user", "content": parts})
    joined = any(all(word in text for word in WORDS) for text in _texts(body))
    return "joined" if joined else "parts"


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for one in inner for text in _texts(one)]


def _with_result(clouds: Clouds, provider: str, content: Any) -> Any:
    function = {"name": "get_weather", "arguments": "{}"}
    call = {"id": CALL_ID, "type": "function", "function": function}
    return _sent(
        clouds, provider, {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": CALL_ID, "content": content}, tools=TOOLS,
    )  # fmt: skip


def tool_ids(clouds: Clouds, provider: str) -> str:
    """What becomes of an id in Kimi's form, on both sides of the pair."""
    body = json.dumps(_with_result(clouds, provider, WORDS[0]))
    pattern = r'"(?:id|Id|tool_call_id|ToolCallId|tool_use_id)": "([^"]+)"'
    found = set(re.findall(pattern, body))
    assert len(found) == 1, "the call and its result have one id"
    return "kept" if found == {CALL_ID} else "rewritten"


def cache_control(clouds: Clouds, provider: str) -> str:
    """Whether a cache's marker arrives."""
    mark = {"cache_control": {"type": "ephemeral"}}
    part = {"type": "text", "text": WORDS[0]} | mark
    body = _sent(clouds, provider, {"role": "user", "content": [part]})
    return "kept" if "cache_control" in json.dumps(body) else "left out"


def tool_images(clouds: Clouds, provider: str) -> str:
    """Where a picture in a tool's result arrives."""
    content = [
        {"type": "text", "text": WORDS[0]},
        {"type": "image_url", "image_url": {"url": PICTURE}},
    ]
    try:
        body = _with_result(clouds, provider, content)
    except openai.BadRequestError as error:
        assert error.code == "unsupported_parameter"
        return "refused"
    picture = PICTURE.partition(",")[2]
    around = [holder for _, holder in _holders(body, picture)]
    if any("tool_use_id" in holder for holder in around if isinstance(holder, dict)):
        return "in the result"
    role = _role(body, picture)
    return "in the result" if role == "tool" else f"next {role} message"


def output_cap(clouds: Clouds, provider: str) -> str:
    """What becomes of a limit far above what the model gives."""
    model = f"{provider}-limited"
    if model not in clouds.limited:
        return "not known"
    body = _sent(
        clouds, provider, {"role": "user", "content": "hi"}, model=model, max_completion_tokens=MOST
    )
    found = re.search(r'"max_(?:completion_)?tokens": (\d+)', json.dumps(body))
    if found is None:
        return "no such field"
    return "lowered" if int(found[1]) < MOST else "passed on"


ADAPTED: dict[str, Callable[[Clouds, str], str]] = {
    "developer role": developer_role,
    "text parts": text_parts,
    "tool ids": tool_ids,
    "cache_control": cache_control,
    "images of tools": tool_images,
    "output cap": output_cap,
}
