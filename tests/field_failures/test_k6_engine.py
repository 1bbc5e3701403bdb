"""What clients expect of the embedded engine (kind K6, fault 8 of the official suites)."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from openai.types import CompletionChoice

from tokenschain.core.formats import forced_calls, openai_chat, parameter_bridge
from tokenschain.core.formats.bridged_request import Bridged
from tokenschain.core.formats.normalization import Normalization, ReplyContext, ReplyNormalizer
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.formats.translation_changes import Policy
from tokenschain.providers.vendor_table import vendor_of


def tool(name: str, argument: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {argument: {"type": "string"}},
        "required": [argument],
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [tool("get_weather", "city"), tool("get_time", "zone")]
BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi."}], "tools": TOOLS}
CALL = '{"name": "get_time", "arguments": {"zone": "UTC"}}'
NAMED = {"type": "function", "function": {"name": "get_time"}}


def bridged(choice: Any) -> Bridged:
    parsed = openai_chat.parse(Api.CHAT, json.dumps(BODY | {"tool_choice": choice}).encode())
    dialect = vendor_of("local").dialect
    assert parameter_bridge.touches(dialect, "m", parsed.fields, parsed.roles)
    return parameter_bridge.bridge(parsed.fields, "m", dialect, Policy.AUTO)


@pytest.mark.parametrize(("choice", "names"), [("required", 2), (NAMED, 1)])
def test_a_forced_call_is_made_by_a_schema_that_only_calls_fit(choice: Any, names: int) -> None:
    made = bridged(choice)
    assert made.called_by_schema and made.emulated == ("tool_choice",)
    assert bytes(made.fields["tool_choice"]) == b'"auto"'
    wanted = json.loads(bytes(made.fields["response_format"]))
    schema = wanted["json_schema"]["schema"]
    jsonschema.validate(json.loads(CALL), schema)
    for wrong in ("prose", {"name": "none", "arguments": {}}, {"name": "get_time"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)
    assert len(schema.get("anyOf", [schema])) == names


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_a_call_that_is_not_forced_stays_free(choice: str) -> None:
    made = bridged(choice)
    assert not made.called_by_schema and "response_format" not in made.fields


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return json.dumps({"id": "c", "choices": [choice]}).encode()


@pytest.mark.parametrize("cut", range(len(CALL)))
def test_what_was_written_is_a_call_in_a_stream(cut: int) -> None:
    reader = ReplyNormalizer(Normalization.CANONICAL, ReplyContext(called_by_schema=True))
    chunks = [chunk(CALL[:cut]), chunk(CALL[cut:]), chunk("", "stop")]
    choices = [json.loads(reader.chunk(data)[0])["choices"][0] for data in chunks]
    assert not any(choice["delta"].get("content") for choice in choices)
    call = choices[-1]["delta"]["tool_calls"][0]
    assert call["id"] and call["function"]["name"] == "get_time"
    assert json.loads(call["function"]["arguments"]) == {"zone": "UTC"}
    assert choices[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(("text", "finish", "ends"), [(CALL, "stop", "tool_calls"),
                                                      (CALL[:20], "length", "length")])  # fmt: skip
def test_what_was_written_is_a_call_in_a_whole_answer(text: str, finish: str, ends: str) -> None:
    reader = ReplyNormalizer(Normalization.CANONICAL, ReplyContext(called_by_schema=True))
    message = {"role": "assistant", "content": text}
    reply = {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    choice = json.loads(reader.whole(json.dumps(reply).encode())[0])["choices"][0]
    assert choice["finish_reason"] == ends
    if ends == "tool_calls":
        assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_time"
        assert choice["message"]["content"] is None
    else:
        assert choice["message"]["content"] == text, "a call that was cut off is no call"


def test_there_is_no_schema_without_functions() -> None:
    assert forced_calls.schema_of([{"type": "custom"}]) is None
    assert forced_calls.call_in("[1]") is None and forced_calls.call_in('{"name": 5}') is None


def test_logprobs_of_text_completions_have_their_own_shape() -> None:
    tokens = [
        {"token": text, "logprob": -0.5, "top_logprobs": [{"token": text, "logprob": -0.5}]}
        for text in ("Hel", "lo")
    ]
    choice = {"index": 0, "text": "Hello", "finish_reason": "stop", "logprobs": {"content": tokens}}
    reader = ReplyNormalizer(Normalization.CANONICAL, ReplyContext(api=Api.COMPLETIONS))
    body = json.dumps({"id": "c", "choices": [choice]}).encode()
    made = json.loads(reader.whole(body)[0])["choices"][0]
    read = CompletionChoice.model_validate(made)
    assert read.logprobs is not None and read.logprobs.tokens == ["Hel", "lo"]
    assert read.logprobs.text_offset == [0, 3]
    assert read.logprobs.top_logprobs == [{"Hel": -0.5}, {"lo": -0.5}]


def test_what_text_completions_of_the_engine_do_not_offer_is_refused_by_name() -> None:
    assert vendor_of("local").dialect.completions_refused == {"echo", "suffix", "best_of"}
