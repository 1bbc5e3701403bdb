"""LiteLLM as a client of a running gateway: with_litellm.py BASE_URL KEY MODEL."""

from __future__ import annotations

import json
import sys
from typing import Any

import litellm

base_url, key, model = sys.argv[1:4]
fixed: dict[str, Any] = {
    "model": f"openai/{model}",
    "api_base": base_url,
    "api_key": key,
    "messages": [{"role": "user", "content": "hi"}],
}
whole: Any = litellm.completion(**fixed)
stream: Any = litellm.completion(**fixed, stream=True)
text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
function = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
asked: Any = litellm.completion(**fixed, tools=[{"type": "function", "function": function}])
print(
    json.dumps(
        {
            "whole": whole.choices[0].message.content,
            "stream": text,
            "call": json.loads(asked.choices[0].message.tool_calls[0].function.arguments),
            "usage": whole.usage.prompt_tokens,
        }
    )
)
