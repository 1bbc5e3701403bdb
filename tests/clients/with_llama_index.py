"""LlamaIndex as a client of a running gateway: with_llama_index.py BASE_URL KEY MODEL."""

from __future__ import annotations

import json
import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

base_url, key, name = sys.argv[1:4]
model = OpenAILike(
    model=name,
    api_base=base_url,
    api_key=key,
    is_chat_model=True,
    is_function_calling_model=True,
    max_retries=0,
)


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"sunny in {city}"


messages = [ChatMessage(role="user", content="hi")]
asked = model.chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg="weather?")
print(
    json.dumps(
        {
            "whole": model.chat(messages).message.content,
            "stream": "".join(piece.delta or "" for piece in model.stream_chat(messages)),
            "call": model.get_tool_calls_from_response(asked)[0].tool_kwargs,
        }
    )
)
