"""What disappears in translation with 200 and without a word (kind K4), requests' direction.

Whole calls through the gateway in this process against simulators that enforce the vendors' rules;
each case names the public reports that it comes from. That every field of the official SDKs' types
has a decision is in tests/translation/test_field_lists.py.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.field_failures.answers import answers, call, chunk, frames, message
from tests.field_failures.test_k1_messages import (
    ALL,
    FUNCTION,
    HI,
    MARK,
    MESSAGES_TOOLS,
    TOOLS,
    anthropic,
    chat,
    sent,
    text,
)
from tests.translation.lab import Lab, Result

Json = dict[str, Any]
PDF = "JVBERi0xLjQK"
PDF_URL = f"data:application/pdf;base64,{PDF}"
SCHEMA: Json = {"type": "object", "properties": {"age": {"type": "integer"}}}


def responses(lab: Lab, model: str, given: Any, **more: Any) -> Result:
    return lab.ask("/v1/responses", {"model": model, "input": given, "store": False} | more)


def said(got: Result) -> list[str]:
    return [n for kind in ("adapted", "dropped", "emulated") for n in got.says(f"x-tc-{kind}")]


# maximhq/bifrost#1935, maximhq/bifrost#5629, mnfst/llm-gateway#1871 (R04); own probes (P12)


def test_r04_messages_to_anthropic_are_relayed(lab: Lab) -> None:
    body: Json = {
        "max_tokens": 3_000,
        "system": [text("Be kind.")[0] | MARK],
        "messages": [
            {"role": "user", "content": [
                {"type": "document", "source": {"type": "url", "url": "https://a.example/b.pdf"},
                 "title": "t", "citations": {"enabled": True}},
                {"type": "search_result", "source": "https://a.example", "title": "s",
                 "content": text("found"), "citations": {"enabled": True}},
                *text("go"),
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "sig-of-strict"},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}} | MARK,
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": "no",
                 "is_error": True} | MARK,
            ]},
        ],
        "tools": [MESSAGES_TOOLS[0] | MARK | {"strict": True},
                  {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "thinking": {"type": "enabled", "budget_tokens": 1_024},
        "service_tier": "standard_only",
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "container": "c_1",
        "metadata": {"user_id": "u1"},
        "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        "stop_sequences": ["END"],
    }  # fmt: skip
    for stream in (False, True):
        asked = body | {"model": "anthropic", "stream": stream}
        got = lab.ask("/v1/messages", asked, anthropic_beta="context-management-2025-06-27")
        assert sent(got) == asked | {"model": "claude-haiku-4-5"}
        assert said(got) == []


def test_p12_the_beta_header_goes_on_or_is_said_to_be_left_out(lab: Lab) -> None:
    heads: list[dict[str, str]] = []
    answer, lab.answer = (
        lab.answer,
        lambda name, headers, body: (  # type: ignore[method-assign]
            heads.append(dict(headers)) or answer(name, headers, body)  # type: ignore[func-returns-value]
        ),
    )
    try:
        body = {"max_tokens": 9, "messages": [HI]}
        lab.ask("/v1/messages", body | {"model": "anthropic"}, anthropic_beta="a-1,b-2")
        got = lab.ask("/v1/messages", body | {"model": "deepseek"}, anthropic_beta="a-1,b-2")
    finally:
        lab.answer = answer  # type: ignore[method-assign]
    assert [head.get("anthropic-beta") for head in heads] == ["a-1,b-2", None]
    assert got.says("x-tc-dropped") == ["anthropic-beta"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context_management", {"edits": []}),
        ("top_k", 5), ("container", "c_1"), ("inference_geo", "us"), ("new_field", {"a": 1}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", ALL)
def test_p12_what_others_do_not_know_is_said(lab: Lab, model: str, field: str, value: Any) -> None:
    if field == "new_field" and model == "anthropic":
        pytest.skip("Anthropic itself refuses it")
    got = anthropic(lab, model, HI, **{field: value})
    if field not in sent(got) and json.dumps(value) not in json.dumps(sent(got)):
        assert field in got.says("x-tc-dropped")


# farion1231/cc-switch#4190, router-for-me/CLIProxyAPI#1654 (R23)
PARTS: list[Json] = [
    {"type": "input_file", "filename": "a.pdf", "file_data": PDF_URL},
    {"type": "input_file", "file_url": "https://a.example/b.pdf"},
    {"type": "input_file", "file_id": "file-1"},
    {"type": "input_audio", "input_audio": {"data": PDF, "format": "wav"}},
    {"type": "input_image", "file_id": "file-1"},
    {"type": "input_video", "video_url": "https://a.example/b.mp4"},
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part['type']} {sorted(part)[0]}")
@pytest.mark.parametrize("model", ALL)
def test_r23_a_part_is_sent_on_or_refused_by_name(lab: Lab, model: str, part: Json) -> None:
    content = [{"type": "input_text", "text": "what is in it?"}, part]
    got = responses(lab, model, [{"role": "user", "content": content}])
    if got.status == 200:
        assert any(word in str(sent(got)) for word in (PDF, "a.example", "file-1"))
    else:
        assert (got.status, got.error["code"]) == (400, "unsupported_parameter")
        assert got.error["param"].startswith("input[0].content[1]") and not got.sent
    dropped = lab.ask(
        "/v1/responses",
        {"model": model, "store": False, "input": [{"role": "user", "content": content}]},
        x_tc_unsupported="drop",
    )
    assert dropped.status == 200
    if got.status == 400:
        assert dropped.says("x-tc-dropped")


@pytest.mark.parametrize("part", [
    {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF_URL}},
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "input_audio", "input_audio": {"data": PDF, "format": "wav"}},
    {"type": "video_url", "video_url": {"url": "https://a.example/b.mp4"}},
])  # fmt: skip
@pytest.mark.parametrize("model", ["anthropic", "deepseek", "mistral", "hunyuan-native"])
def test_r23_chats_parts_too(lab: Lab, model: str, part: Json) -> None:
    got = chat(lab, model, {"role": "user", "content": [*text("what?"), part]})
    if got.status == 200:
        assert PDF in str(sent(got))
    else:
        assert got.error["param"] == "messages[0].content[1]" and not got.sent


def test_documents_that_are_texts_are_texts_everywhere(lab: Lab) -> None:
    data = "data:text/plain;base64,aGVsbG8gdGhlcmU="
    for model in ALL:
        source = {"type": "text", "media_type": "text/plain", "data": "hello there"}
        block = {"type": "document", "title": "a.txt", "source": source}
        got = anthropic(lab, model, {"role": "user", "content": [block]})
        assert "hello there" in str(sent(got))
        if model == "openai":
            continue  # it reads files itself
        part = {"type": "file", "file": {"filename": "a.txt", "file_data": data}}
        got = chat(lab, model, {"role": "user", "content": [*text("read"), part]})
        assert "hello there" in str(sent(got)) and "messages[0].content[1]" in said(got)


# decolua/9router#1007, diegosouzapw/OmniRoute#4862, antirez/ds4#745 (R25)
CODEX_TOOLS: list[Json] = [
    {"type": "function", **FUNCTION, "strict": False},
    {"type": "custom", "name": "apply_patch", "description": "Edit files.",
     "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}},
    {"type": "web_search"},
]  # fmt: skip
PATCH = '*** Begin Patch\n+ "hi"\n*** End Patch'


@pytest.mark.parametrize("model", ALL)
def test_r25_codex_tools(lab: Lab, model: str) -> None:
    items = [
        HI,
        {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": PATCH},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done!"},
        HI,
    ]
    more = {"tools": CODEX_TOOLS, "include": ["reasoning.encrypted_content"]}
    got = responses(lab, model, items, **more)
    body = json.dumps(sent(got), ensure_ascii=False)
    assert "apply_patch" in body and "start: /.+/" in body and "Begin Patch" in body
    assert "web_search" not in body and "tools[1]" in said(got)
    assert "tools[2]" in got.says("x-tc-dropped")


def test_r25_server_tools_alone_are_refused_by_name(lab: Lab) -> None:
    got = responses(lab, "openai", "hi", tools=[{"type": "web_search"}])
    assert (got.status, got.error["param"], got.sent) == (400, "tools[0]", [])
    assert "web_search" in got.error["message"]


# mozilla-ai/any-llm#1332, PostHog/posthog#48796, vercel/ai#10502 (R29)


@pytest.mark.parametrize("field", ["output_config", "output_format"])
@pytest.mark.parametrize("model", ["openai", "deepseek", "alibaba", "mistral", "dashscope-native"])
def test_r29_anthropics_structured_outputs(lab: Lab, model: str, field: str) -> None:
    format = {"type": "json_schema", "schema": SCHEMA}
    value = format if field == "output_format" else {"format": format}
    body = {"model": model, "max_tokens": 99, "messages": [HI], field: value, "stream": True}
    got = lab.ask("/v1/messages", body)
    made = sent(got)
    if "response_format" not in made:
        made = made.get("parameters", made)
    kind = made["response_format"]["type"]
    if kind == "json_schema":
        assert made["response_format"]["json_schema"]["schema"] == SCHEMA
    else:
        assert kind == "json_object" and "age" in str(sent(got))
        assert got.says("x-tc-emulated") == ["output_config.format"]


@pytest.mark.parametrize("model", ["deepseek", "anthropic"])
def test_a_schema_that_is_none_is_refused_before_anybody_is_asked(lab: Lab, model: str) -> None:
    schema = {"type": 7}
    format = {"type": "json_schema", "name": "n", "schema": schema}
    got = responses(lab, model, "hi", text={"format": format})
    assert (got.status, got.error["param"], got.sent) == (400, "text.format.schema", [])


# mxyhi/token_proxy#307, coder/coder#28656, 10/chatgpt-codex-proxy#9: Codex's namespaces of tools


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["openai", "deepseek", "alibaba"])
def test_tools_of_a_namespace_are_called_within_it(lab: Lab, model: str, stream: bool) -> None:
    """They are told by names that no other tool has, and called back by their own; a history
    with such calls goes on."""
    function = {"type": "function", "name": "run", "parameters": {"type": "object"}}
    custom = {"type": "custom", "name": "exec", "description": "Runs JavaScript."}
    spaces = [
        {"type": "namespace", "name": "functions", "description": "d", "tools": [custom, function]},
        {"type": "namespace", "name": "crm", "description": "d", "tools": [function]},
    ]
    more = {"type": "additional_tools", "role": "developer", "tools": spaces}
    for tools, given in ((spaces, [HI]), ([], [more, HI])):
        lab.alter = None
        got = responses(lab, model, given, tools=tools)
        names = [tool["function"]["name"] for tool in sent(got)["tools"]]
        assert names == ["exec", "run", "crm__run"]
    calls = [
        call("crm__run", "{}", id="c1", index=0), call("exec", '{"input":"1+1"}', id="c2", index=1),
    ]  # fmt: skip
    if stream:
        answers(lab, *frames(*(chunk(tool_calls=[made]) for made in calls), chunk("tool_calls")))
    else:
        answers(lab, message(None, "tool_calls", tool_calls=calls))
    got = responses(lab, model, [HI], tools=spaces, stream=stream)
    if stream:
        last = [line for line in got.body.split(b"\n") if line.startswith(b"data: ")][-1]
        output = json.loads(last.removeprefix(b"data: "))["response"]["output"]
    else:
        output = json.loads(got.body)["output"]
    found = [(i["type"], i["namespace"], i["name"]) for i in output if "call_id" in i]
    assert found == [("function_call", "crm", "run"), ("custom_tool_call", "functions", "exec")]
    lab.alter = None
    results = [
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "2"},
    ]
    again = responses(lab, model, [HI, *output, *results], tools=spaces)
    history = json.dumps(sent(again)["messages"])
    assert "crm__run" in history and again.says("x-tc-dropped") == []


# anthropics/claude-code#30912, Wei-Shaw/sub2api#3677: Anthropic's own blocks in a history


@pytest.mark.parametrize("model", ALL)
def test_blocks_of_tool_search_and_server_tools_do_not_end_a_conversation(
    lab: Lab, model: str
) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {}}
    reference = {"type": "tool_reference", "tool_name": "get_weather"}
    search = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search",
              "input": {"query": "x"}}  # fmt: skip
    found = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    turns: list[Json] = [
        HI,
        {"role": "assistant", "content": [search, found, *text("so"), use]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [reference]}]},
    ]  # fmt: skip
    got = anthropic(lab, model, *turns, tools=MESSAGES_TOOLS)
    assert got.status == 200, got.body
    if not model.startswith("anthropic"):
        assert "messages[2].content[0].content[0]" in got.says("x-tc-adapted")


# Official SDKs' walk, fault 3: settings that vanished


@pytest.mark.parametrize(
    ("field", "value", "name"),
    [
        ("include", ["file_search_call.results"], "include[0]"),
        ("truncation", "auto", None), ("max_tool_calls", 3, None), ("new_field", 1, None),
        ("context_management", [{"type": "compaction"}], None),
    ],
)  # fmt: skip
def test_fault_3_responses_settings_are_said(
    lab: Lab, field: str, value: Any, name: str | None
) -> None:
    got = responses(lab, "openai", "hi", **{field: value})
    assert got.status == 200 and got.says("x-tc-dropped") == [name or field]


@pytest.mark.parametrize(
    ("more", "logprobs"),
    [
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"top_logprobs": 3, "include": ["message.output_text.logprobs"]},
         {"logprobs": True, "top_logprobs": 3}),
        ({"top_logprobs": 0}, {}), ({"include": []}, {}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_of_responses_are_asked_for_and_given(
    lab: Lab, more: Json, logprobs: Json, stream: bool
) -> None:
    """Where the upstream offers them; else the caller's own field is named."""
    entry = {"token": "fine", "logprob": -0.1, "bytes": None, "top_logprobs": []}
    probable = {"logprobs": {"content": [entry], "refusal": None}}
    if stream:
        first = chunk(content="fine")
        first["choices"][0] |= probable
        answers(lab, *frames(first, chunk("stop")))
    else:
        whole = message()
        whole["choices"][0] |= probable
        answers(lab, whole)
    got = responses(lab, "openai", "hi", stream=stream, **more)
    made = sent(got)
    assert {n: made[n] for n in ("logprobs", "top_logprobs") if n in made} == logprobs
    assert not got.says("x-tc-dropped") and b"-0.1" in got.body
    if logprobs:
        refused = responses(lab, "anthropic", "hi", stream=stream, **more)
        name = "include[0]" if "include" in more else "top_logprobs"
        assert (refused.status, refused.error["param"]) == (400, name), refused.error


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["anthropic", "deepseek", "openai"])
def test_encrypted_reasoning_comes_back_as_it_was(lab: Lab, model: str, stream: bool) -> None:
    """Agents that keep nothing here (`store: false`) give it back: a vendor's signed thinking
    arrives as it was signed, any other's reasoning as text."""
    ask = {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": "low"}}
    thought = "Let me see."
    if model == "anthropic":
        blocks = [
            {"type": "thinking", "thinking": thought, "signature": "sig-of-strict"},
            {"type": "text", "text": "fine"},
        ]
        usage = {"input_tokens": 11, "output_tokens": 7}
        head = {"id": "m", "type": "message", "role": "assistant", "model": "c", "usage": usage}
        end = {"stop_reason": "end_turn", "stop_sequence": None}
        if stream:
            events: list[Json] = [{"type": "message_start", "message": {**head, "content": []}}]
            for at, (block, kind) in enumerate(
                zip(blocks, (("thinking", "signature"), ("text",)), strict=True)
            ):
                empty = {"type": block["type"], **dict.fromkeys(kind, "")}
                events.append({"type": "content_block_start", "index": at, "content_block": empty})
                for name in kind:
                    delta = {"type": f"{name}_delta", name: block[name]}
                    events.append({"type": "content_block_delta", "index": at, "delta": delta})
                events.append({"type": "content_block_stop", "index": at})
            events.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 7}})
            answers(lab, *frames(*events, {"type": "message_stop"}, done=False))
        else:
            answers(lab, {**head, "content": blocks, **end})
    elif stream:
        parts = [chunk(reasoning_content=thought), chunk(content="fine"), chunk("stop")]
        answers(lab, *frames(*parts))
    else:
        answers(lab, message(reasoning_content=thought))
    got = responses(lab, model, "hi", stream=stream, **ask)
    assert not [name for name in got.says("x-tc-dropped") if "include" in name]
    if stream:
        last = [line for line in got.body.split(b"\n") if line.startswith(b"data: ")][-1]
        output = json.loads(last.removeprefix(b"data: "))["response"]["output"]
    else:
        output = json.loads(got.body)["output"]
    (item,) = [item for item in output if item["type"] == "reasoning"]
    assert item["encrypted_content"]
    lab.alter = None
    # As a client that shows no reasoning keeps it: nothing but the encrypted part.
    bare = {"type": "reasoning", "summary": [], "encrypted_content": item["encrypted_content"]}
    history = [HI, bare, *(i for i in output if i["type"] != "reasoning"), HI]
    again = responses(lab, model, history, **ask)
    assert again.status == 200, again.body
    body = json.dumps(sent(again))
    if model == "anthropic":
        assert thought in body and "sig-of-strict" in body
    assert not any("encrypted_content" in name for name in again.says("x-tc-dropped"))
    foreign = responses(lab, model, [HI, bare | {"encrypted_content": "gAAAAB"}, HI])
    assert "input[1].encrypted_content" in foreign.says("x-tc-dropped")


@pytest.mark.parametrize("policy", ["error", "auto"])
def test_parts_are_named_where_the_caller_wrote_them(lab: Lab, policy: str) -> None:
    """Tool results before them, and blocks that become several parts, shift the places inside."""
    source = {"type": "base64", "media_type": "application/pdf", "data": PDF}
    use = {"type": "tool_use", "name": "get_weather", "input": {}}
    turns: list[Json] = [
        HI,
        {"role": "assistant", "content": [use | {"id": "t1"}, use | {"id": "t2"}]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
            {"type": "tool_result", "tool_use_id": "t2", "content": "rain"},
            {"type": "document", "source": {"type": "content", "content": text("a")}},
            *text("and"), {"type": "document", "source": source},
        ]},
    ]  # fmt: skip
    body = {"model": "deepseek", "max_tokens": 9, "messages": turns, "tools": MESSAGES_TOOLS}
    got = lab.ask("/v1/messages", body, x_tc_unsupported=policy)
    place = "messages[2].content[4]"
    assert (got.status, got.sent) == (400, []), got.error
    assert got.error["message"].count(place), got.error
    items = [
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "sunny"},
        {"role": "user", "content": [{"type": "input_text", "text": "see"},
                                     {"type": "input_file", "file_data": PDF_URL}]},
    ]  # fmt: skip
    got = responses(lab, "deepseek", items)
    assert (got.status, got.error["param"]) == (400, "input[2].content[1]")


@pytest.mark.parametrize("field", ["conversation", "prompt", "background"])
def test_fault_3_what_would_be_another_question_is_refused(lab: Lab, field: str) -> None:
    value: Any = True if field == "background" else {"id": "x_1"}
    got = responses(lab, "openai", "hi", **{field: value})
    assert (got.status, got.error["param"], got.sent) == (400, field, [])


def test_fault_3_responses_settings_arrive(lab: Lab) -> None:
    got = responses(
        lab, "openai", [{"role": "user", "content": [
            {"type": "input_image", "image_url": "https://a.example/b.png", "detail": "low"}]}],
        text={"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": SCHEMA,
                                             "strict": True, "description": "d"}},
        tools=[{"type": "function", **FUNCTION, "strict": True}],
        safety_identifier="s", prompt_cache_key="k", service_tier="flex",
    )  # fmt: skip
    body = sent(got)
    assert (body["safety_identifier"], body["prompt_cache_key"]) == ("s", "k")
    assert body["service_tier"] == "flex" and body["tools"][0]["function"]["strict"] is True
    assert body["response_format"]["json_schema"]["description"] == "d"
    assert body["messages"][0]["content"][0]["image_url"]["detail"] == "low"
    # gpt-4.1 has no verbosity.
    assert got.says("x-tc-dropped") == ["text.verbosity"]


@pytest.mark.parametrize("model", ["anthropic", "deepseek", "zhipu", "mistral"])
def test_fault_3_functions_become_tools(lab: Lab, model: str) -> None:
    call = {"name": "get_weather", "arguments": "{}"}
    got = chat(
        lab, model, HI, {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "get_weather", "content": "sunny"},
        functions=[FUNCTION], function_call="auto",
    )  # fmt: skip
    assert "sunny" in str(sent(got)) and "functions" not in sent(got)
    assert got.says("x-tc-emulated") == ["functions"]


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("modalities", ["text"], 200), ("modalities", ["text", "audio"], 400),
        ("audio", {"voice": "alloy", "format": "wav"}, 400),
        ("web_search_options", {"search_context_size": "low"}, 400), ("verbosity", "low", 200),
        ("prediction", {"type": "content", "content": "x"}, 200), ("service_tier", "auto", 200),
        ("service_tier", "flex", 200), ("store", True, 200), ("logprobs", True, 400),
    ],
)  # fmt: skip
@pytest.mark.parametrize("model", ["anthropic", "deepseek", "hunyuan-native"])
def test_fault_3_chats_settings(lab: Lab, model: str, field: str, value: Any, status: int) -> None:
    got = chat(lab, model, HI, **{field: value})
    if field == "logprobs" and model == "deepseek":
        assert sent(got)["logprobs"] is True
        return
    assert got.status == status
    if status == 400:
        assert got.error["param"] == field and not got.sent
    elif value not in (["text"], "auto"):
        assert field in got.says("x-tc-dropped")


def test_a_failed_tool_says_so(lab: Lab) -> None:
    use = {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {}}
    failed = {"type": "tool_result", "tool_use_id": "t1", "content": "no", "is_error": True}
    got = anthropic(
        lab, "openai", HI, {"role": "assistant", "content": [use]},
        {"role": "user", "content": [failed]}, tools=MESSAGES_TOOLS,
    )  # fmt: skip
    assert sent(got)["messages"][-1]["content"] == "Error: no"
    assert got.says("x-tc-adapted") == ["messages[2].content[0].is_error"]


def test_names_that_no_header_can_hold(lab: Lab) -> None:
    got = chat(lab, "anthropic", HI, **{"a\r\nx-evil: 1": 1, "b,c": 2, "字" * 200: 3})
    assert got.status == 200 and "x-evil" not in got.headers
    assert len(got.says("x-tc-dropped")) == 3


def test_a_cached_answer_is_of_what_was_asked() -> None:
    """What only Anthropic gets is a part of the question all the same."""
    from tokenschain.core.cache.key import Namespace, identify
    from tokenschain.core.formats.anthropic import request_reader

    def key(**more: Any) -> Any:
        body = {"model": "m", "max_tokens": 9, "messages": [HI]} | more
        parsed = request_reader.parse(json.dumps(body).encode())
        place = Namespace(*[""] * len(Namespace._fields))
        return identify(parsed, place, lambda data: data, semantic=True)

    assert key() != key(container="a") != key(container="b")
    assert key(container="a") == key(container="a", stream=True)


def test_tools_of_chat_go_on_whole(lab: Lab) -> None:
    strict = [{"type": "function", "function": FUNCTION | {"strict": True}}]
    assert sent(chat(lab, "anthropic", HI, tools=strict))["tools"][0]["strict"] is True
    custom = {"type": "custom", "custom": {"name": "shell", "description": "d"}}
    got = chat(lab, "deepseek", HI, tools=[*TOOLS, custom])
    names = [tool["function"]["name"] for tool in sent(got)["tools"]]
    assert names == ["get_weather", "shell"] and got.says("x-tc-emulated") == ["tools[1]"]
    assert sent(chat(lab, "openai", HI, tools=[*TOOLS, custom]))["tools"][1] == custom
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "b"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    two = [*TOOLS, {"type": "function", "function": FUNCTION | {"name": "b"}}]
    got = chat(lab, "mistral", HI, tools=two, tool_choice=choice)
    assert [t["function"]["name"] for t in sent(got)["tools"]] == ["b"]
    assert sent(got)["tool_choice"] == "any" and got.says("x-tc-adapted") == ["tool_choice"]
