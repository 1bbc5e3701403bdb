"""Messages, combinations and limits that a vendor does not take (kind K1).

Whole calls through the gateway in this process against simulators that enforce the vendors' rules
(tests/vendors/strict). Each case names the public reports that it comes from.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.translation.lab import Lab, Result

Json = dict[str, Any]
HI: Json = {"role": "user", "content": "hi"}
PNG = "iVBORw0KGgo="
IMAGE_URL = f"data:image/png;base64,{PNG}"
CHINESE = ("deepseek", "alibaba", "zhipu", "moonshot", "volcengine-ark")
ALL = (*CHINESE, "mistral", "anthropic", "openai", "hunyuan-native", "dashscope-native")
FUNCTION: Json = {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}
TOOLS: list[Json] = [{"type": "function", "function": FUNCTION}]
MESSAGES_TOOLS: list[Json] = [{"name": "get_weather", "input_schema": FUNCTION["parameters"]}]
APIS = ("chat/completions", "messages", "responses")


def chat(lab: Lab, model: str, *messages: Json, headers: Json | None = None, **more: Any) -> Result:
    body = {"model": model, "messages": list(messages)} | more
    return lab.ask("/v1/chat/completions", body, **headers or {})


def anthropic(lab: Lab, model: str, *messages: Json, **more: Any) -> Result:
    body = {"model": model, "max_tokens": 1_000, "messages": list(messages)} | more
    return lab.ask("/v1/messages", body)


def called(id: str = "call_1") -> Json:
    call = {"id": id, "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def result(content: Any = "sunny", id: str = "call_1") -> Json:
    return {"role": "tool", "tool_call_id": id, "content": content}


def text(*words: str) -> list[Json]:
    return [{"type": "text", "text": word} for word in words]


def sent(got: Result) -> Json:
    assert got.status == 200, got.body
    assert len(got.sent) == 1
    return got.sent[0]


# theopenco/llmgateway#3462, diegosouzapw/OmniRoute#2281, eclipse-theia/theia#15144 (R01)


@pytest.mark.parametrize("model", [*CHINESE, "mistral"])
def test_r01_developer_becomes_system(lab: Lab, model: str) -> None:
    got = chat(lab, model, {"role": "developer", "content": "Be kind."}, HI)
    assert [m["role"] for m in sent(got)["messages"]] == ["system", "user"]
    assert got.says("x-tc-adapted") == ["messages[0].role"]
    items = [{"role": "developer", "content": "Be kind."}, HI]
    got = lab.ask("/v1/responses", {"model": model, "input": items, "store": False})
    assert [m["role"] for m in sent(got)["messages"]] == ["system", "user"]
    assert "input[0].role" in got.says("x-tc-adapted")


def test_r01_openai_knows_it(lab: Lab) -> None:
    got = chat(lab, "openai", {"role": "developer", "content": "Be kind."}, HI)
    assert sent(got)["messages"][0]["role"] == "developer" and not got.says("x-tc-adapted")


# cline/cline#230, gptme/gptme#3490, microsoft/foundry-dev-tools#264, Gitlawb/openclaude#774 (R02)


@pytest.mark.parametrize("model", ["deepseek", "alibaba", "zhipu"])
def test_r02_text_parts_are_joined(lab: Lab, model: str) -> None:
    got = chat(
        lab, model, {"role": "system", "content": text("a", "b")},
        {"role": "user", "content": text("c", "d")}, called(), result(text("e", "f")),
    )  # fmt: skip
    contents = [m["content"] for m in sent(got)["messages"] if m["role"] != "assistant"]
    assert contents == ["a\nb", "c\nd", "e\nf"]
    assert "content" in got.says("x-tc-adapted")


# BerriAI/litellm#38790, cg-dot/vertexai-cf-workers#21 (R03)
MARK: Json = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}


@pytest.mark.parametrize("model", ALL)
def test_r03_cache_markers_go_to_anthropic_only(lab: Lab, model: str) -> None:
    system = [text("Be kind.")[0] | MARK]
    user = {"role": "user", "content": [text("hi")[0] | MARK]}
    got = anthropic(lab, model, user, system=system, tools=[MESSAGES_TOOLS[0] | MARK])
    body = sent(got)
    assert ("cache_control" in str(body)) is (model == "anthropic")
    assert ("cache_control" in got.says("x-tc-dropped")) is (model != "anthropic")


def test_r03_and_chat_s_go_there_too(lab: Lab) -> None:
    got = chat(lab, "anthropic", {"role": "user", "content": [text("hi")[0] | MARK]})
    assert sent(got)["messages"][0]["content"][0]["cache_control"] == MARK["cache_control"]


# BerriAI/litellm#15097, open-webui/open-webui#17922, lobehub/lobehub#10069 (R17)


def test_r17_temperature_beside_top_p(lab: Lab) -> None:
    got = chat(lab, "anthropic", HI, temperature=0.7, top_p=0.9)
    assert sent(got)["temperature"] == 0.7 and "top_p" not in sent(got)
    assert got.says("x-tc-dropped") == ["top_p"]
    got = chat(lab, "anthropic-adaptive", HI, temperature=0.7, top_p=0.9)
    assert not {"temperature", "top_p"} & sent(got).keys()
    assert got.says("x-tc-dropped") == ["temperature", "top_p"]
    headers = {"x_tc_unsupported": "error"}
    got = chat(lab, "anthropic", HI, temperature=0.7, top_p=0.9, headers=headers)
    assert (got.status, got.error["param"], got.sent) == (400, "top_p", [])


# caozhiyuan/copilot-api#118, BerriAI/litellm#17129, tickernelz/opencode-mem#253 (R18)


@pytest.mark.parametrize("choice", ["required", TOOLS[0] | {"function": {"name": "get_weather"}}])
@pytest.mark.parametrize("model", ["anthropic", "deepseek", "alibaba"])
def test_r18_thinking_gives_way_to_a_forced_choice(lab: Lab, model: str, choice: Any) -> None:
    got = chat(lab, model, HI, tools=TOOLS, tool_choice=choice, reasoning_effort="low")
    assert sent(got).get("thinking", {"type": "disabled"}) == {"type": "disabled"}
    assert not sent(got).get("enable_thinking") and "reasoning_effort" in got.says("x-tc-dropped")


def test_r18_deepseek_thinks_unasked(lab: Lab) -> None:
    got = chat(lab, "deepseek", HI, tools=TOOLS, tool_choice="required")
    assert sent(got)["thinking"] == {"type": "disabled"}
    assert got.says("x-tc-adapted") == ["thinking"]


def test_r18_glm_chooses_by_itself(lab: Lab) -> None:
    named = {"type": "function", "function": {"name": "get_weather"}}
    got = chat(lab, "zhipu", HI, tools=TOOLS, tool_choice=named)
    assert sent(got)["tool_choice"] == "auto" and got.says("x-tc-emulated") == ["tool_choice"]
    assert "get_weather" in sent(got)["messages"][0]["content"]
    got = chat(lab, "zhipu", HI, tools=TOOLS, tool_choice="none")
    assert "tools" not in sent(got) and got.says("x-tc-adapted") == ["tool_choice"]


# mnfst/llm-gateway#1177, Gitlawb/openclaude#35, leookun/cursor-byok#3, HELPMEEADICE/doge-code#32
# (R19)


def test_r19_no_more_is_asked_for_than_the_model_gives(lab: Lab) -> None:
    got = anthropic(lab, "alibaba-small", HI, max_tokens=32_000)
    assert sent(got)["max_tokens"] == 8_192 and "max_tokens=8192" in got.says("x-tc-adapted")
    got = chat(lab, "alibaba-small", HI, max_completion_tokens=32_000)
    assert sent(got)["max_tokens"] == 8_192
    assert got.says("x-tc-adapted") == ["max_completion_tokens=8192"]
    got = anthropic(lab, "anthropic", HI, max_tokens=128_000)
    assert sent(got)["max_tokens"] == 64_000 and got.says("x-tc-adapted") == ["max_tokens=64000"]
    headers = {"x_tc_unsupported": "error"}
    got = chat(lab, "alibaba-small", HI, max_tokens=32_000, headers=headers)
    assert (got.status, got.error["param"]) == (400, "max_tokens")


# lmstudio-ai/localization#425 (R28)


@pytest.mark.parametrize("model", ["openai", "alibaba", "zhipu", "moonshot", "mistral"])
def test_r28_a_picture_of_a_tool_follows_in_a_users_message(lab: Lab, model: str) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    content = [*text("read"), {"type": "image", "source": source}]
    use = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
    got = anthropic(
        lab, model, HI, {"role": "assistant", "content": [use]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}]},
        tools=MESSAGES_TOOLS,
    )  # fmt: skip
    messages = sent(got)["messages"]
    assert [m["role"] for m in messages if m["role"] in ("tool", "user")] == [
        "user",
        "tool",
        "user",
    ]
    tool, last = (m for m in messages[1:] if m["role"] in ("tool", "user"))
    assert "read" in str(tool["content"]) and "image_url" not in str(tool["content"])
    assert last["content"][0]["image_url"]["url"] == IMAGE_URL


def test_r28_the_users_own_words_stay_with_it(lab: Lab) -> None:
    picture = [*text("read"), {"type": "image_url", "image_url": {"url": IMAGE_URL}}]
    got = chat(lab, "openai", HI, called(), result(picture), HI, tools=TOOLS)
    assert [m["role"] for m in sent(got)["messages"]] == ["user", "assistant", "tool", "user"]
    assert [p["type"] for p in sent(got)["messages"][-1]["content"]] == ["image_url", "text"]
    assert got.says("x-tc-adapted") == ["messages[2].content[1]"]


# openai/openai-agents-python#1704, continuedev/continue#4470, agentgateway/agentgateway#3363 (R31)


@pytest.mark.parametrize("model", ["anthropic", "anthropic-adaptive"])
def test_r31_thinking_is_left_out_in_a_turn_that_began_without_it(lab: Lab, model: str) -> None:
    got = chat(lab, model, HI, called(), result(), tools=TOOLS, reasoning_effort="low")
    assert "thinking" not in sent(got) and got.says("x-tc-dropped") == ["reasoning_effort"]
    use = {"type": "tool_use", "id": "functions.f:0", "name": "get_weather", "input": {}}
    foreign = {"type": "thinking", "thinking": "hm", "signature": ""}
    got = anthropic(
        lab, model, HI, {"role": "assistant", "content": [foreign, use]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "functions.f:0", "content": "x"}]},
        tools=MESSAGES_TOOLS, max_tokens=5_000,
        thinking={"type": "enabled", "budget_tokens": 2_000},
    )  # fmt: skip
    assert "thinking" not in str(sent(got)) and got.says("x-tc-dropped") == ["thinking"]
    assert got.says("x-tc-adapted") == ["thinking", "tool_ids"]


# Chatbox, Dify, OpenAI Agents SDK: odd messages (P05)
SDK_MESSAGE: Json = {
    "role": "assistant", "content": "Hello", "refusal": None, "annotations": [], "audio": None,
    "function_call": None, "tool_calls": None,
}  # fmt: skip


@pytest.mark.parametrize("model", ALL)
def test_p05_the_sdks_own_message_comes_back(lab: Lab, model: str) -> None:
    got = chat(lab, model, HI, SDK_MESSAGE, HI)
    assert "Hello" in str(sent(got))


@pytest.mark.parametrize("model", ALL)
def test_p05_empty_and_blank_texts(lab: Lab, model: str) -> None:
    got = chat(
        lab, model, {"role": "system", "content": ""}, {"role": "user", "content": text("", "hi")},
        {"role": "assistant", "content": ""}, {"role": "user", "content": "and now?"},
    )  # fmt: skip
    assert "and now?" in str(sent(got))


def test_p05_a_prefill_that_ends_with_a_blank(lab: Lab) -> None:
    got = chat(lab, "anthropic", HI, {"role": "assistant", "content": "It is "})
    assert sent(got)["messages"][-1]["content"] == text("It is")
    got = chat(lab, "mistral", HI, {"role": "assistant", "content": "It is"})
    assert sent(got)["messages"][-1]["prefix"] is True


@pytest.mark.parametrize("model", ALL)
def test_p05_tools_that_only_the_history_knows(lab: Lab, model: str) -> None:
    got = chat(lab, model, HI, called(), result())
    assert "sunny" in str(sent(got))
    if model == "anthropic":
        assert sent(got)["tool_choice"] == {"type": "none"}
        assert got.says("x-tc-adapted") == ["tools"]


@pytest.mark.parametrize("model", ALL)
def test_p05_a_user_speaks_right_after_a_tool(lab: Lab, model: str) -> None:
    got = chat(lab, model, HI, called(), result(), {"role": "user", "content": "go on"})
    assert "go on" in str(sent(got))


# anomalyco/opencode#1680, karthink/gptel#1203, nearai/ironclaw#1241: ids of tool calls
IDS = ("functions.get_weather:0", "调用_1", "a b", "x" * 70, "call_abc_123")


@pytest.mark.parametrize("model", ALL)
def test_ids_of_tool_calls_are_the_vendors_on_both_sides(lab: Lab, model: str) -> None:
    messages: list[Json] = [HI]
    for id in IDS:
        messages += [called(id), result(id=id), {"role": "assistant", "content": "ok"}, HI]
    first = sent(chat(lab, model, *messages, tools=TOOLS))
    assert first == sent(chat(lab, model, *messages, tools=TOOLS))
    longer = sent(chat(lab, model, *messages, called("new"), result(id="new"), tools=TOOLS))
    name = "messages" if "messages" in first else "Messages" if "Messages" in first else "input"
    if name != "input":  # what is there does not change when the conversation goes on
        known = len(first[name]) - 1
        assert longer[name][:known] == first[name][:known]


def test_an_id_that_comes_again_is_told_apart(lab: Lab) -> None:
    messages = [
        HI,
        called("call_0"),
        result(id="call_0"),
        HI,
        called("call_0"),
        result("2", "call_0"),
    ]
    got = chat(lab, "anthropic", *messages, tools=TOOLS)
    blocks = [b for m in sent(got)["messages"] for b in m["content"]]
    uses = [b["id"] for b in blocks if b["type"] == "tool_use"]
    assert uses == [b["tool_use_id"] for b in blocks if b["type"] == "tool_result"]
    assert len(set(uses)) == 2 and got.says("x-tc-adapted") == ["tool_ids"]


# Official SDKs' walk, fault 1: a caller's output limit holds
@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh", "max"])
@pytest.mark.parametrize("limit", [50, 1_100, 3_000, 9_000, 60_000])
@pytest.mark.parametrize("model", ["anthropic", "alibaba", "deepseek", "volcengine-ark"])
def test_thinking_fits_inside_the_callers_limit(
    lab: Lab, model: str, limit: int, effort: str
) -> None:
    for path, name in (
        ("chat/completions", "max_completion_tokens"),
        ("responses", "max_output_tokens"),
    ):
        body: Json = {"model": model, name: limit}
        if path == "responses":
            body |= {"input": "hi", "reasoning": {"effort": effort}, "store": False}
        else:
            body |= {"messages": [HI], "reasoning_effort": effort}
        made = sent(lab.ask(f"/v1/{path}", body))
        budget = made.get("thinking_budget") or made.get("thinking", {}).get("budget_tokens") or 0
        beside = budget if model == "alibaba" else 0
        assert made["max_tokens"] + beside <= limit and budget < limit
    if model == "anthropic" and limit == 50:
        assert "thinking" not in made


def test_a_legal_budget_stays_and_one_that_does_not_fit_is_fitted(lab: Lab) -> None:
    thinking = {"type": "enabled", "budget_tokens": 2_000}
    got = anthropic(lab, "anthropic", HI, max_tokens=3_000, thinking=thinking)
    assert (sent(got)["max_tokens"], sent(got)["thinking"]) == (3_000, thinking)
    wide = {"type": "enabled", "budget_tokens": 5_000}
    got = chat(lab, "anthropic", HI, max_tokens=3_000, thinking=wide)
    assert sent(got)["thinking"]["budget_tokens"] < 3_000 == sent(got)["max_tokens"]
    assert any(name.startswith("thinking.budget_tokens=") for name in got.says("x-tc-adapted"))
    headers = {"x_tc_unsupported": "error"}
    got = chat(lab, "anthropic", HI, max_tokens=3_000, thinking=wide, headers=headers)
    assert (got.status, got.error["param"]) == (400, "thinking.budget_tokens")


def test_effort_alone_is_no_switch_and_adaptive_stays_adaptive(lab: Lab) -> None:
    effort = {"effort": "high"}
    got = anthropic(lab, "anthropic", HI, output_config=effort)
    assert "thinking" not in sent(got) and sent(got)["output_config"] == effort
    got = anthropic(lab, "alibaba", HI, output_config=effort)
    assert "enable_thinking" not in sent(got)
    assert "output_config.effort" in got.says("x-tc-dropped")
    adaptive = {"type": "adaptive"}
    for more in ({"thinking": adaptive}, {"thinking": adaptive, "output_config": effort}):
        got = anthropic(lab, "anthropic-adaptive", HI, **more)
        assert sent(got)["thinking"] == adaptive
        got = chat(lab, "anthropic-adaptive", HI, **more)
        assert sent(got)["thinking"] == adaptive


# CherryHQ/cherry-studio#20614, anomalyco/opencode#17758, elizaOS/eliza#30904 (R20)
@pytest.mark.parametrize("api", APIS)
def test_r20_half_an_emoji_is_mended(lab: Lab, api: str) -> None:
    field = b'"input":"cut \\ud83d","store":false' if api == "responses" else (
        b'"max_tokens":9,"messages":[{"role":"user","content":"cut \\ud83d"}]'
    )  # fmt: skip
    got = lab.ask(f"/v1/{api}", b'{"model":"openai",%b}' % field)
    assert "cut \ufffd" in str(sent(got))
    assert got.says("x-tc-adapted") == ["input" if api == "responses" else "messages"]


@pytest.mark.parametrize("api", APIS)
def test_r20_what_is_no_utf_8_is_refused_here(lab: Lab, api: str) -> None:
    field = b'"input":"\xff"' if api == "responses" else (
        b'"max_tokens":9,"messages":[{"role":"user","content":"\xff"}]'
    )  # fmt: skip
    got = lab.ask(f"/v1/{api}", b'{"model":"openai",%b}' % field)
    assert (got.status, got.sent) == (400, []) and "UTF-8" in got.error["message"]


# MCP servers: names of 64 to 128 characters, which Anthropic takes, and odd first characters
LONG_NAME = "mcp__files__" + "read_" * 20


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "name"), [("openai", LONG_NAME), ("deepseek", LONG_NAME), ("moonshot", "3d_view"),
                        ("dashscope-native", LONG_NAME), ("mistral", LONG_NAME)],
)  # fmt: skip
def test_a_tool_that_the_vendor_cannot_name_so(
    lab: Lab, model: str, name: str, stream: bool
) -> None:
    tools = [{"name": name, "input_schema": FUNCTION["parameters"]}]
    use = {"type": "tool_use", "id": "t1", "name": name, "input": {}}
    results = [{"type": "tool_result", "tool_use_id": "t1", "content": "x"}]
    history = [HI, {"role": "assistant", "content": [use]}, {"role": "user", "content": results},
               {"role": "assistant", "content": "ok"}]  # fmt: skip
    made = sent(anthropic(lab, model, *history, HI, tools=tools))
    theirs = (made.get("tools") or made["parameters"]["tools"])[0]["function"]["name"]
    assert theirs != name and f"'{name}'" not in str(made) and str(made).count(theirs) == 2
    asks = {"role": "user", "content": f'[[call {theirs} {{"a": 1}}]]'}
    got = anthropic(lab, model, *history, asks, tools=tools, stream=stream)
    assert "tool_names" in got.says("x-tc-adapted")
    assert theirs not in got.body.decode() and name in got.body.decode()
    if model != "moonshot":
        return
    tool = {"type": "function", "function": FUNCTION | {"name": name}}
    got = chat(lab, model, asks, tools=[tool], stream=stream)
    assert theirs not in got.body.decode() and name in got.body.decode()


# A call that was cut (`finish_reason: length`) stays in the history: Qwen refuses it for ever


@pytest.mark.parametrize("model", ["alibaba", "deepseek", "mistral", "anthropic"])
def test_arguments_that_were_cut(lab: Lab, model: str) -> None:
    cut = called()
    cut["tool_calls"][0]["function"]["arguments"] = '{"city": "Par'
    got = chat(lab, model, HI, cut, result(), tools=TOOLS)
    assert "_invalid_json" in str(sent(got)) and "Par" in str(sent(got))


def test_text_completions_are_capped_too(lab: Lab) -> None:
    got = lab.ask("/v1/completions", {"model": "openai", "prompt": "x", "max_tokens": 99_999})
    assert sent(got)["max_tokens"] == 32_768 and got.says("x-tc-adapted") == ["max_tokens=32768"]
