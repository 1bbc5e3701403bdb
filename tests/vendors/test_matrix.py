"""Every provider x everything promised, through the official SDKs; the published tables.

`make matrix` writes docs/reference/providers.md from what this file measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.clouds import Clouds
from tests.vendors.adapted import ADAPTED
from tests.vendors.simulators import (
    CACHED_TOKENS,
    HELLO,
    PROFILES,
    PROMPT_TOKENS,
    UNCONFIRMED,
    WEATHER,
    Profile,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "providers.md"
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("get_weather", "get_time")
]
SCHEMA: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "person",
        "schema": {"type": "object", "properties": {"age": {"type": "integer"}}},
    },
}
IMAGE = "data:image/png;base64,iVBORw0KGgo="
THINK = {"thinking": {"type": "enabled"}}
CELLS: dict[str, dict[str, str]] = {}
API_CELLS: dict[str, dict[str, str]] = {}
ADAPTED_CELLS: dict[str, dict[str, str]] = {}


def says(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def chat(clouds: Clouds, provider: str, text: str = "hi", **more: Any) -> Any:
    messages = more.pop("messages", None) or says(text)
    return clouds.openai.chat.completions.create(model=provider, messages=messages, **more)


def gather(stream: Any) -> tuple[dict[str, Any], str | None, Any]:
    """A stream put together as the SDK's users do it: message, finish reason, usage."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": {}}
    finish, usage = None, None
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            message["content"] += choice.delta.content or ""
            message["reasoning_content"] += getattr(choice.delta, "reasoning_content", None) or ""
            for call in choice.delta.tool_calls or ():
                known = message["tool_calls"].setdefault(call.index, ["", ""])
                known[0] += call.function.name or ""
                known[1] += call.function.arguments or ""
    return message, finish, usage


# --- the columns --------------------------------------------------------------------


def check_chat(clouds: Clouds, provider: str, _: Profile) -> None:
    answer = chat(
        clouds, provider, temperature=0, top_p=0.9, max_completion_tokens=50, seed=7, user="u1"
    )
    assert answer.choices[0].message.content == HELLO
    assert answer.choices[0].finish_reason == "stop"


def check_stream(clouds: Clouds, provider: str, _: Profile) -> None:
    message, finish, usage = gather(chat(clouds, provider, stream=True))
    assert (message["content"], finish, usage) == (HELLO, "stop", None)


def check_tools(clouds: Clouds, provider: str, _: Profile) -> None:
    for choice in ("auto", "required"):
        answer = chat(clouds, provider, tools=TOOLS, tool_choice=choice).choices[0]
        assert answer.finish_reason == "tool_calls"
        call = answer.message.tool_calls[0]
        assert (call.function.name, json.loads(call.function.arguments)) == (
            "get_weather",
            {"city": "巴黎"},
        )
    messages = [
        *says("weather?"),
        answer.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
    ]
    after = chat(clouds, provider, messages=messages, tools=TOOLS)
    assert after.choices[0].message.content == WEATHER


def check_streamed_tools(clouds: Clouds, provider: str, _: Profile) -> None:
    message, finish, _usage = gather(
        chat(clouds, provider, "parallel please", tools=TOOLS, stream=True)
    )
    assert finish == "tool_calls"
    calls = [(name, json.loads(text)) for name, text in message["tool_calls"].values()]
    assert calls == [("get_weather", {"city": "巴黎"}), ("get_time", {"zone": "UTC"})]


def check_json_schema(clouds: Clouds, provider: str, _: Profile) -> None:
    answer = chat(clouds, provider, "How old is Ann?", response_format=SCHEMA)
    assert json.loads(answer.choices[0].message.content) == {"age": 41}


def check_vision(clouds: Clouds, provider: str, _: Profile) -> None:
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": IMAGE}},
    ]
    messages = [{"role": "user", "content": content}]
    answer = chat(clouds, provider, messages=messages)
    assert answer.choices[0].message.content == "I see an image."


def check_thinking(clouds: Clouds, provider: str, _: Profile) -> None:
    answer = chat(clouds, provider, extra_body=THINK).choices[0].message
    assert (answer.content, answer.reasoning_content) == (HELLO, "Let me think about it.")
    message, _finish, _usage = gather(chat(clouds, provider, extra_body=THINK, stream=True))
    assert (message["content"], message["reasoning_content"]) == (HELLO, answer.reasoning_content)
    off = chat(clouds, provider, extra_body={"enable_thinking": False}).choices[0].message
    assert not getattr(off, "reasoning_content", None)


def check_thinking_and_tools(clouds: Clouds, provider: str, _: Profile) -> None:
    for remembers in (True, False):
        messages = says("weather?")
        for _turn in range(3):
            more = {"tools": TOOLS, "extra_body": THINK}
            asked = chat(clouds, provider, messages=messages, **more).choices[0].message
            assert asked.tool_calls and asked.reasoning_content
            kept = asked.model_dump(exclude_none=True)
            if not remembers:  # an ordinary client knows no reasoning
                kept = {k: v for k, v in kept.items() if not k.startswith("reasoning")}
            messages.append(kept)
            call = asked.tool_calls[0]
            messages.append({"role": "tool", "tool_call_id": call.id, "content": "sunny"})
            said = chat(clouds, provider, messages=messages, **more).choices[0].message
            assert said.content == WEATHER
            messages += [{"role": "assistant", "content": said.content}, *says("and now?")]


def check_embeddings(clouds: Clouds, provider: str, _: Profile) -> None:
    found = clouds.openai.embeddings.create(
        model=f"{provider}-embed", input=["a", "bb"], encoding_format="float"
    )
    assert [d.embedding for d in found.data] == [[0.25, 1.0], [0.25, 2.0]]


def check_usage(clouds: Clouds, provider: str, _: Profile) -> None:
    cost = (PROMPT_TOKENS - CACHED_TOKENS) * 10**6 + CACHED_TOKENS * 10**5 + 12 * 2 * 10**6
    for stream in (False, True):
        raw = clouds.openai.chat.completions.with_raw_response.create(
            model=provider,
            messages=says("hi"),
            stream=stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),  # type: ignore[call-overload]
        )
        usage = gather(raw.parse())[2] if stream else raw.parse().usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (PROMPT_TOKENS, 12)
        row = clouds.stack.row_of(raw.headers["x-request-id"])
        counts = (row["prompt_tokens"], row["cached_tokens"], row["completion_tokens"])
        assert counts == (PROMPT_TOKENS, CACHED_TOKENS, 12)
        assert (row["usage_source"], row["cost_pico"]) == ("provider", cost)


ERRORS = {
    "balance": (503, {"upstream_out_of_funds"}),
    "rate": (429, {"upstream_rate_limited", "upstream_overloaded"}),
    "auth": (502, {"upstream_rejected_credentials", "upstream_access_denied"}),
    "long": (400, {"context_length_exceeded"}),
}


def check_errors(clouds: Clouds, provider: str, profile: Profile) -> None:
    for scenario, (_status, codes) in ERRORS.items():
        if scenario not in profile.failures:
            continue
        for stream in (False, True):
            with pytest.raises(openai.APIStatusError) as found:
                chat(clouds, provider, f"sim:{scenario}", stream=stream)
            error = found.value
            assert error.code in codes, (scenario, error)
            assert error.status_code not in (401, 403) and "CANARY" not in str(error)
            if scenario == "rate" and "7" in json.dumps(profile.failures["rate"].body):
                assert error.response.headers["retry-after"] == "7"


def check_refusal(clouds: Clouds, provider: str, profile: Profile) -> None:
    if "refuse" in profile.failures:
        with pytest.raises(openai.BadRequestError) as found:
            chat(clouds, provider, "sim:refuse")
        assert found.value.code == "content_filter"
    answer = chat(clouds, provider, "sim:filter").choices[0]
    assert answer.finish_reason == "content_filter"
    assert gather(chat(clouds, provider, "sim:filter", stream=True))[1] == "content_filter"


Check = Callable[[Clouds, str, Profile], None]
COLUMNS: dict[str, tuple[str, Check]] = {
    "chat": ("", check_chat),
    "stream": ("", check_stream),
    "tools": ("tools", check_tools),
    "streamed tools": ("tools", check_streamed_tools),
    "JSON schema": ("json_schema", check_json_schema),
    "vision": ("vision", check_vision),
    "thinking": ("thinking", check_thinking),
    "thinking + tools, 3 turns": ("thinking", check_thinking_and_tools),
    "embeddings": ("embeddings", check_embeddings),
    "usage exact": ("", check_usage),
    "errors mapped": ("", check_errors),
    "refusal mapped": ("", check_refusal),
}


def offered(profile: Profile, ability: str) -> bool:
    if ability == "embeddings":
        return profile.embeddings
    return profile.chats and (not ability or ability in profile.offers)


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("provider", PROFILES)
def test_provider(clouds: Clouds, provider: str, column: str) -> None:
    ability, check = COLUMNS[column]
    profile = PROFILES[provider]
    row = CELLS.setdefault(provider, {})
    if not offered(profile, ability):
        row[column] = "-"
        return
    row[column] = "FAIL"
    check(clouds, provider, profile)
    row[column] = "pass*" if column in UNCONFIRMED.get(provider, ()) else "pass"


# --- APIs ----------------------------------------------------------------------------


def through_chat(clouds: Clouds, provider: str) -> None:
    check_chat(clouds, provider, PROFILES[provider])
    check_tools(clouds, provider, PROFILES[provider])


def through_responses(clouds: Clouds, provider: str) -> None:
    client = clouds.openai.responses
    whole = client.create(model=provider, input="hi", instructions="Be kind.")
    assert (whole.output_text, whole.status) == (HELLO, "completed")
    assert whole.usage is not None and whole.usage.input_tokens == PROMPT_TOKENS
    with client.stream(model=provider, input="hi") as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert final.output_text == HELLO
    tools: Any = [{"type": "function", "strict": False, **TOOLS[0]["function"]}]
    asked: Any = client.create(model=provider, input="weather?", tools=tools)
    call = asked.output[-1]
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "巴黎"})
    items: Any = [
        {"role": "user", "content": "weather?"},
        *[item.model_dump(exclude_none=True) for item in asked.output],
        {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"},
    ]
    assert client.create(model=provider, input=items, tools=tools).output_text == WEATHER


def through_messages(clouds: Clouds, provider: str) -> None:
    with anthropic.Anthropic(
        base_url=clouds.stack.url, api_key=clouds.stack.key, max_retries=0
    ) as client:
        fixed: Any = {"model": provider, "max_tokens": 100, "system": "Be kind."}
        whole = client.messages.create(messages=says("hi"), **fixed)
        assert [block.text for block in whole.content] == [HELLO]  # type: ignore[union-attr]
        assert whole.stop_reason == "end_turn"
        assert whole.usage.input_tokens == PROMPT_TOKENS - CACHED_TOKENS
        assert whole.usage.cache_read_input_tokens == CACHED_TOKENS
        with client.messages.stream(messages=says("hi"), **fixed) as stream:
            assert "".join(stream.text_stream) == HELLO
            assert stream.get_final_message().usage.output_tokens == 12
        tools: Any = [
            {"name": tool["function"]["name"], "input_schema": tool["function"]["parameters"]}
            for tool in TOOLS
        ]
        with client.messages.stream(
            messages=says("parallel please"), tools=tools, **fixed
        ) as stream:
            asked = stream.get_final_message()
        uses: Any = [block for block in asked.content if block.type == "tool_use"]
        assert asked.stop_reason == "tool_use"
        assert [(u.name, u.input) for u in uses] == [
            ("get_weather", {"city": "巴黎"}),
            ("get_time", {"zone": "UTC"}),
        ]
        results = [
            {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"} for use in uses
        ]
        history: Any = [
            *says("parallel please"),
            {"role": "assistant", "content": [b.model_dump() for b in asked.content]},
            {"role": "user", "content": results},
        ]
        after: Any = client.messages.create(messages=history, tools=tools, **fixed)
        assert after.content[0].text == WEATHER
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(messages=says("x"), **fixed | {"model": "nope"})


APIS = {
    "OpenAI chat": through_chat,
    "Responses": through_responses,
    "Anthropic messages": through_messages,
}


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("provider", PROFILES)
def test_api(clouds: Clouds, provider: str, api: str) -> None:
    row = API_CELLS.setdefault(provider, {})
    if not PROFILES[provider].chats:
        row[api] = "-"
        return
    row[api] = "FAIL"
    APIS[api](clouds, provider)
    row[api] = "pass"


# --- what arrives in which form -----------------------------------------------------------


@pytest.mark.parametrize("column", ADAPTED)
@pytest.mark.parametrize("provider", PROFILES)
def test_adapted(clouds: Clouds, provider: str, column: str) -> None:
    row = ADAPTED_CELLS.setdefault(provider, {})
    row[column] = "-"
    if PROFILES[provider].chats and ("tool" not in column or "tools" in PROFILES[provider].offers):
        row[column] = "FAIL"
        row[column] = ADAPTED[column](clouds, provider)


# --- the page ---------------------------------------------------------------------------


def table(cells: dict[str, dict[str, str]], columns: list[str]) -> str:
    lines = [f"| provider | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for provider in PROFILES:
        row = " | ".join(cells[provider][column] for column in columns)
        lines.append(f"| {provider} | {row} |")
    return "\n".join(lines) + "\n"


def test_the_published_tables_are_what_was_measured() -> None:
    if min(map(len, (CELLS, API_CELLS, ADAPTED_CELLS))) < len(PROFILES):
        pytest.skip("only a part of the tables was measured")
    text = (
        "<!-- Written by tests/vendors/test_matrix.py (`make matrix`); do not edit. -->\n\n"
        "# Providers\n\nMeasured through the running gateway with the official SDKs against a "
        "simulator of each vendor's documented wire, which refuses what the vendor refuses. "
        "`-`: not offered by the vendor. `pass*`: by analogy, since the "
        f"vendor's own table was not found and the simulator follows OpenAI's.\n\n{table(CELLS, list(COLUMNS))}\n"
        "## Any API in, any provider out\n\nText whole and streamed, system prompt, tools and "
        f"their results, parallel calls, usage.\n\n{table(API_CELLS, list(APIS))}\n"
        "## What arrives in which form\n\nWhat of a chat request stood in the one that the vendor "
        "got. The caller is told in `x-tc-adapted` and `x-tc-dropped`. Output cap: of a limit "
        "above what the catalog says that the model gives.\n\n"
        f"{table(ADAPTED_CELLS, list(ADAPTED))}"
    )
    if os.environ.get("WRITE_MATRIX"):
        PAGE.write_text(text, "utf-8")
    assert PAGE.read_text("utf-8") == text, "run `make matrix`"
