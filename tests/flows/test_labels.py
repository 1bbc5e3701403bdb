"""Labels of whole calls: at each API, whole and streamed, as official SDKs read them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from anthropic import Anthropic
from openai import OpenAI

from tests import web
from tests.clouds import Clouds
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tests.vendors.simulators import HELLO

LINE = "本答复由人工智能生成"
PRODUCER = "001191110108MA01KP2T5U00000"
RULES = {"explicit": "end", "implicit": "on", "text_zh": LINE, "text_en": "", "producer": PRODUCER}
AT_START = {"project/first": {"explicit": "start"}}
END, START = f"\n\n{LINE}", f"{LINE}\n\n"


def labelled(stack: Stack) -> tuple[str, str]:
    """Keys of two projects of a tenant: the notice at the end, and at the start."""
    keys = [stack.new_key(tenant="labelled", project=name) for name in ("last", "first")]
    spec = RULES | {"overrides": AT_START}
    path = "/api/v1/label-rules/default?tenant=labelled"
    reply = stack.admin("PUT", path, json={"spec": spec})
    assert reply.status_code == 200, reply.text
    stack.until_served()
    return keys[0], keys[1]


class Labelled(NamedTuple):
    stack: Stack
    upstream: UpstreamSimulator
    keys: tuple[str, str]

    def ask(
        self, text: str, *, key: str = "", path: str = "chat/completions", **more: Any
    ) -> httpx.Response:
        body = {"model": "sim-chat", "messages": [{"role": "user", "content": text}]} | more
        headers = {"authorization": f"Bearer {key or self.keys[0]}"}
        url = f"{self.stack.url}/v1/{path}"
        return web.post(url, json=body, headers=headers, timeout=30)


@pytest.fixture(scope="module")
def cached_labels(cached: tuple[Stack, UpstreamSimulator]) -> Iterator[Labelled]:
    stack, upstream = cached
    yield Labelled(stack, upstream, labelled(stack))


@pytest.fixture(scope="module")
def cloud_labels(clouds: Clouds) -> tuple[Clouds, tuple[str, str]]:
    return clouds, labelled(clouds.stack)


def text_of(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    if "event-stream" not in reply.headers["content-type"]:
        choice = reply.json()["choices"][0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    choices = [one for line in lines[:-1] for one in json.loads(line)["choices"]]
    assert [one["finish_reason"] for one in choices if one["finish_reason"]] and (
        choices[-1]["finish_reason"]
    ), "the notice comes before the end"
    return "".join(
        one.get("text") or (one.get("delta") or {}).get("content") or "" for one in choices
    )


@pytest.mark.parametrize("stream", [False, True])
def test_official_clients_read_the_notice_at_each_api(
    cloud_labels: tuple[Clouds, tuple[str, str]], stream: bool
) -> None:
    """Also where the upstream speaks the caller's API, whose bytes pass as they come otherwise."""
    clouds, keys = cloud_labels
    for key, text in zip(keys, (HELLO + END, START + HELLO), strict=True):
        openai = OpenAI(base_url=f"{clouds.stack.url}/v1", api_key=key, max_retries=0)
        anthropic = Anthropic(base_url=clouds.stack.url, api_key=key, max_retries=0)
        asked: Any = [{"role": "user", "content": "hi"}]
        for model in ("openai", "anthropic"):
            if stream:
                with openai.chat.completions.stream(model=model, messages=asked) as chunks:
                    chat = chunks.get_final_completion()
                with openai.responses.stream(model=model, input="hi") as events:
                    response = events.get_final_response()
                with anthropic.messages.stream(
                    model=model, messages=asked, max_tokens=50
                ) as pieces:
                    message = pieces.get_final_message()
            else:
                chat = openai.chat.completions.create(model=model, messages=asked)  # type: ignore[assignment]
                response = openai.responses.create(model=model, input="hi")  # type: ignore[assignment]
                message = anthropic.messages.create(model=model, messages=asked, max_tokens=50)
            assert chat.choices[0].message.content == text
            assert response.output_text == text
            assert [block.text for block in message.content if block.type == "text"] == [text]
        openai.close()
        anthropic.close()


def test_a_conversation_goes_on_without_the_notice(
    cloud_labels: tuple[Clouds, tuple[str, str]],
) -> None:
    """The model sees what it wrote; whoever reads the stored response what they were given."""
    clouds, keys = cloud_labels
    for key, text in zip(keys, (HELLO + END, START + HELLO), strict=True):
        client = OpenAI(base_url=f"{clouds.stack.url}/v1", api_key=key, max_retries=0)
        first = client.responses.create(model="anthropic", input="hi")
        assert client.responses.retrieve(first.id).output_text == text
        second = client.responses.create(
            model="anthropic", input="and?", previous_response_id=first.id
        )
        assert second.output_text == text
        sent: Any = clouds.simulators["anthropic"].requests[-1]
        assert sent["messages"][1]["content"][0]["text"] == HELLO
        client.close()


def test_the_metadata_names_the_call_and_who_offers_it(cached_labels: Labelled) -> None:
    for more in ({}, {"stream": True}, {"response_format": {"type": "json_object"}}):
        reply = cached_labels.ask("who?", **more)
        label = json.loads(reply.headers["x-tc-aigc"])
        assert list(label) == [
            "Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator",
            "PropagateID", "ReservedCode2",
        ]  # fmt: skip
        assert (label["Label"], label["ContentProducer"]) == ("1", PRODUCER)
        assert label["ProduceID"] == reply.headers["x-request-id"]
        row = cached_labels.stack.row_of(reply)
        assert row["event_id"] == label["ProduceID"]
    # Nothing was made: there is nothing to label.
    assert "x-tc-aigc" not in cached_labels.ask("x", model="none").headers
    embedded = cached_labels.ask("", path="embeddings", model="sim-embed", input="x")
    assert embedded.status_code == 200 and "x-tc-aigc" not in embedded.headers


def test_what_is_cached_is_the_models_own(cached_labels: Labelled) -> None:
    """Whoever gets it has the label of its own project, and is charged for the model's tokens."""
    stack = cached_labels.stack
    plain = stack.new_key(tenant="labelled", project="last", environment="other")
    path = "/api/v1/label-rules/default?tenant=labelled"
    said, sim = "好的", {"text": ["好", "的"]}
    first = cached_labels.ask("cache this", x_sim=sim)
    assert text_of(first) == said + END
    for stream in (False, True, False, True):
        again = cached_labels.ask("cache this", x_sim=sim, stream=stream)
        assert again.headers["x-tc-cache"] == "hit-exact"
        assert text_of(again) == said + END
        assert json.loads(again.headers["x-tc-aigc"])["ProduceID"] == again.headers["x-request-id"]
    assert first.json()["usage"]["completion_tokens"] == 2
    try:
        stack.admin("PUT", path, json={"spec": {"explicit": "none", "implicit": "off"}})
        stack.until_served()
        again = cached_labels.ask("cache this", x_sim=sim)
        assert again.headers["x-tc-cache"] == "hit-exact" and "x-tc-aigc" not in again.headers
        assert text_of(again) == said, "nothing of the label was kept"
    finally:
        labelled(stack)
    assert text_of(cached_labels.ask("cache this", key=plain, x_sim=sim)) == said + END


def test_programs_read_what_the_model_wrote(cached_labels: Labelled) -> None:
    ask = cached_labels.ask
    for stream in (False, True):
        wants: dict[str, Any] = {"x_sim": {"text": ['{"a":', "1}"]}, "stream": stream}
        for key in cached_labels.keys:
            found = ask(f"json {stream}", key=key, response_format={"type": "json_object"}, **wants)
            assert text_of(found) == '{"a":1}'
    call = {
        "index": 0,
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
    }
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    sim = {"text": [{"tool_calls": [call]}], "reason": "tool_calls"}
    reply = ask("call", stream=True, tools=[tool], x_sim=sim)
    assert text_of(reply) == "" and '"arguments":"{}"' in reply.text.replace('": "', '":"')


@pytest.mark.parametrize("stream", [False, True])
def test_text_completions_have_the_notice(cached_labels: Labelled, stream: bool) -> None:
    sim = {"completion": True, "text": ["好", "的"]}
    for key, text in zip(cached_labels.keys, (f"好的{END}", f"{START}好的"), strict=True):
        url = f"{cached_labels.stack.url}/v1/completions"
        body = {"model": "sim-chat", "prompt": f"{stream}", "stream": stream, "x_sim": sim}
        headers = {"authorization": f"Bearer {key}"}
        assert text_of(web.post(url, json=body, headers=headers, timeout=30)) == text


def test_a_tenant_takes_nothing_away_of_what_the_platform_does(cached_labels: Labelled) -> None:
    """But for the notice, where that was agreed."""
    stack = cached_labels.stack
    tenant = "/api/v1/label-rules/default?tenant=unlabelled"
    key = stack.new_key(tenant="unlabelled")
    stack.admin("PUT", tenant, json={"spec": {"explicit": "none", "implicit": "off"}})

    def asked(**platform: Any) -> httpx.Response:
        reply = stack.admin("PUT", "/api/v1/label-rules/default", json={"spec": platform})
        assert reply.status_code == 200, reply.text
        stack.until_served()
        return cached_labels.ask("may I?", key=key)

    try:
        found = asked(explicit="end", implicit="on")
        assert "AI-generated content" in text_of(found) and "x-tc-aigc" in found.headers
        found = asked(explicit="end", implicit="on", agreed={"unlabelled": "2026-11"})
        assert "AI-generated content" not in text_of(found) and "x-tc-aigc" in found.headers
        for wrong in (
            {"agreed": {"nobody-here": "1"}}, {"text_zh": "谢谢"}, {"explicit": "middle"},
            {"producer": "a\r\nx-evil: 1"},
        ):  # fmt: skip
            reply = stack.admin("PUT", "/api/v1/label-rules/default", json={"spec": wrong})
            assert reply.status_code == 400, reply.text
    finally:
        for path in (tenant, "/api/v1/label-rules/default"):
            assert stack.admin("DELETE", path).status_code == 200
        stack.until_served()
    assert "x-tc-aigc" not in cached_labels.ask("may I?", key=key).headers
