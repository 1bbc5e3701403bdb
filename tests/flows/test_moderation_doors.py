"""Moderation at every door of the gateway: each route, each part, each way out of an answer.

Whole calls over sockets. `PROOFS=full` runs as many streams as take minutes, and says how far it is.
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from tests.core.formats.test_screened_texts import MARK, REQUESTS
from tests.core.moderation.test_stream import (
    BLOCKED,
    PIECE_BYTES_MAX,
    filling,
    pieces_of,
    placed,
)
from tests.moderation_rules import NORMALIZER
from tests.proofs import numbered
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tests.waiting import until
from tokenschain.gateway.api.routes import ROUTES

STREAMS = 5_000 if os.environ.get("PROOFS") == "full" else 240
CUT_SHARE = 0.1
"""Of streams: each is a failure of an upstream, and those that fail all the time are not asked."""
HARMLESS_SHARE = 0.2
PREFIX = "违规测试，然后"
"""Not all of a blocked word."""
SCREENED = "what is asked is screened, and the answer where it is a text"
NOTHING_SENT = "no model is called"
AS_ANSWERED = "the answer was screened when it was given"
FOR_PEOPLE = "what a caller writes is for those who review calls"
NO_TEXT = "no text of a caller is in it"
DOORS = {
    "POST /v1/chat/completions": SCREENED,
    "POST /v1/completions": SCREENED,
    "POST /v1/embeddings": SCREENED,
    "POST /v1/rerank": SCREENED,
    "POST /v1/messages": SCREENED,
    "POST /v1/responses": SCREENED,
    "POST /v1/responses/compact": SCREENED,
    "POST /v1/messages/count_tokens": NOTHING_SENT,
    "POST /v1/responses/input_tokens": NOTHING_SENT,
    "POST /v1/moderations": NOTHING_SENT,
    "POST /api/v1/routes/explain": NOTHING_SENT,
    "POST /v1/moderations/appeals": FOR_PEOPLE,
    "GET /v1/moderations/appeals/{id}": FOR_PEOPLE,
    "GET /v1/responses/{id}": AS_ANSWERED,
    "GET /v1/responses/{id}/input_items": AS_ANSWERED,
    "DELETE /v1/responses/{id}": NO_TEXT,
    "POST /v1/responses/{id}/cancel": NO_TEXT,
    **dict.fromkeys(
        (
            "GET /v1/models", "GET /v1/models/{id}", "GET /v1/openapi.json", "GET /openapi.json",
            "GET /", "GET /livez", "GET /readyz", "GET /metrics",
        ),
        NO_TEXT,
    ),
}  # fmt: skip
"""Of each route, what moderation does there. Decide it for a new one, and show it below."""


class Doors(NamedTuple):
    stack: Stack
    client: httpx.Client
    upstreams: tuple[UpstreamSimulator, UpstreamSimulator]
    said: dict[str, Any]
    """The `pieces` that an upstream answers, and the `whole` of a text that breaks off."""
    keys: tuple[str, str, str]
    """Of callers whose streams are held back by characters, by sentences, and in full."""

    def post(self, path: str, body: Any, key: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return self.client.post(self.stack.url + path, json=body, headers=headers)

    def asked(self) -> int:
        return sum(len(one.requests) for one in self.upstreams)


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """A platform with two upstreams of one model, and a policy for everybody."""
    said: dict[str, Any] = {"pieces": ["好"], "whole": "", "split": 0}

    def says(request: dict[str, Any], sim: dict[str, Any]) -> list[Any]:
        pieces, last = said["pieces"], request["messages"][-1]
        if last["role"] != "assistant":
            return pieces
        return list(said["whole"][len(last["content"]) :])  # go on where the other one broke off

    class Chopping(UpstreamSimulator):
        """Writes its events in pieces of as many bytes as are said."""

        def _chunk(self, connection: socket.socket, data: bytes, sim: dict[str, Any]) -> None:
            super()._chunk(connection, data, sim | {"split": said["split"]})

    upstreams = Chopping(), Chopping()
    for one in upstreams:
        one.says = says  # type: ignore[method-assign]
    models = ["sim-chat", "sim-embed", "sim-rerank"]
    entries = [
        {
            "id": f"sim-{at}", "provider": "vllm", "base_url": one.base_url, "models": models,
            "kinds": {"sim-embed": "embedding", "sim-rerank": "rerank"},
            "prices": dict.fromkeys(models, PRICES),
        }
        for at, one in enumerate(upstreams)
    ]  # fmt: skip
    stack = Stack(tmp_path_factory.mktemp("doors"), "", upstreams=entries).start()
    try:
        words = [{"text": one, "risk": "A.1.h", "level": 3, "match": 2} for one in (MARK, *BLOCKED)]
        spec = {"state": "active", "words": words}
        reply = stack.admin("PUT", "/api/v1/moderation-policies/all", json={"spec": spec})
        assert reply.status_code == 200, reply.text
        keys = [stack.key]
        for held in ("sentence", "full"):
            own = {"state": "active", "scope": f"project/{held}", "stream": held}
            reply = stack.admin("PUT", f"/api/v1/moderation-policies/{held}", json={"spec": own})
            assert reply.status_code == 200, reply.text
            keys.append(stack.new_key(project=held))
        with httpx.Client(headers=stack.headers, timeout=60, trust_env=False) as client:
            made = Doors(stack, client, upstreams, said, (keys[0], keys[1], keys[2]))
            until(lambda: made.post("/v1/chat/completions", chat(MARK)).status_code == 400)
            yield made
    finally:
        stack.close()
        for one in upstreams:
            one.close()


def chat(content: Any, **more: Any) -> dict[str, Any]:
    return {"model": "sim-chat", "messages": [{"role": "user", "content": content}]} | more


# --- requests --------------------------------------------------------------------------------


def test_each_route_has_a_decision() -> None:
    assert {f"{method} {route.path}" for route in ROUTES for method in route.methods} == set(DOORS)


_MODELS = {"embeddings": "sim-embed", "rerank": "sim-rerank"}


def test_each_part_at_each_screened_door_is_refused_and_goes_nowhere(doors: Doors) -> None:
    cases = [(name, f"/v1/{api}", body) for name, api, body in REQUESTS]
    cases.append(
        ("compact", "/v1/responses/compact", {"input": [{"role": "user", "content": MARK}]})
    )
    before = doors.asked()
    for name, path, body in cases:
        model = _MODELS.get(path.removeprefix("/v1/"), "sim-chat")
        reply = doors.post(path, body | {"model": model})
        assert reply.status_code == 400 and MARK not in reply.text, (name, reply.text)
        assert "content_filter" in reply.text or "safety" in reply.text, (name, reply.text)
    assert doors.asked() == before
    assert {f"POST {path}" for _, path, _ in cases} == {
        door for door, decision in DOORS.items() if decision == SCREENED
    }


def test_a_word_in_two_messages_or_two_turns_is_refused(doors: Doors) -> None:
    before = doors.asked()
    for texts in (("说" + MARK[:3], MARK[3:] + "完"), (MARK[:2], MARK[2:4], MARK[4:])):
        turns = [{"role": "user", "content": text} for text in texts]
        between = [one for turn in turns for one in (turn, {"role": "assistant", "content": "好"})]
        for messages in (turns, between[:-1]):
            for path in ("/v1/chat/completions", "/v1/messages"):
                body = {"model": "sim-chat", "messages": messages, "max_tokens": 9}
                reply = doors.post(path, body)
                assert reply.status_code == 400 and MARK not in reply.text, (path, reply.text)
    assert doors.asked() == before


def test_doors_that_call_no_model_send_nothing(doors: Doors) -> None:
    before = doors.asked()
    bodies = {
        "/v1/moderations": {"input": MARK},
        "/v1/responses/input_tokens": {"model": "sim-chat", "input": MARK},
    }
    for door, decision in DOORS.items():
        path = door.removeprefix("POST ")
        if decision == NOTHING_SENT:
            reply = doors.post(path, bodies.get(path) or chat(MARK, max_tokens=9))
            assert reply.status_code == 200, (door, reply.text)
    assert doors.asked() == before


# --- answers ---------------------------------------------------------------------------------

CHANNELS = ("content", "reasoning", "arguments")


def said_by(reply: httpx.Response) -> list[dict[str, Any]]:
    """The events of a stream, or a whole answer."""
    if not reply.headers["content-type"].startswith("text/event-stream"):
        return [reply.json()]
    lines = [line[6:] for line in reply.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def heard(events: list[dict[str, Any]], channel: str) -> str:
    """What a caller of any API has of one channel, piece by piece."""
    kinds = {
        "content": ("text_delta", "response.output_text.delta"),
        "reasoning": (
            "thinking_delta", "response.reasoning_text.delta",
            "response.reasoning_summary_text.delta",
        ),
        "arguments": ("input_json_delta", "response.function_call_arguments.delta"),
    }[channel]  # fmt: skip
    text = ""
    for event in events:
        delta = event.get("delta")
        if event.get("type") in kinds:
            text += str(delta)
        elif isinstance(delta, dict) and delta.get("type") in kinds:
            text += delta.get("text") or delta.get("thinking") or delta.get("partial_json") or ""
        for choice in event.get("choices") or ():
            part = choice.get("delta") or choice.get("message") or {}
            if channel == "content":
                text += part.get("content") or ""
            elif channel == "reasoning":
                text += part.get("reasoning_content") or part.get("reasoning") or ""
            else:
                calls = part.get("tool_calls") or ()
                text += "".join(call["function"].get("arguments") or "" for call in calls)
    return text


def strings_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return "".join(map(strings_of, inner))


def deltas_of(channel: str, pieces: list[str]) -> list[Any]:
    if channel == "content":
        return list(pieces)
    if channel == "reasoning":
        return [*({"reasoning_content": piece} for piece in pieces), "好"]
    calls = [{"index": 0, "function": {"arguments": piece}} for piece in pieces]
    head = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    return [{"tool_calls": [call]} for call in (head, *calls)]


TOOL = {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}


def request_of(door: str, channel: str) -> dict[str, Any]:
    """One that asks for a stream; with a tool where one is to be called."""
    calls = channel == "arguments"
    if door == "/v1/responses":
        tools = [{"type": "function", **TOOL}]
        return {"model": "sim-chat", "input": "讲讲", "stream": True} | (
            {"tools": tools} if calls else {}
        )
    if door == "/v1/messages":
        tools = [{"name": "f", "input_schema": TOOL["parameters"]}]
        more = {"tools": tools} if calls else {}
        if channel == "reasoning":
            more = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
        return chat("讲讲", max_tokens=4096, stream=True) | more
    tools = [{"type": "function", "function": TOOL}]
    return chat("讲讲", stream=True) | ({"tools": tools} if calls else {})


def test_what_is_kept_of_a_blocked_answer_is_what_its_caller_had(doors: Doors) -> None:
    doors.said.update(pieces=[filling(random.Random(24)), *BLOCKED[0]])
    last = said_by(doors.post("/v1/responses", request_of("/v1/responses", "content")))[-1]
    kept = doors.client.get(f"{doors.stack.url}/v1/responses/{last['response']['id']}").json()
    assert kept["status"] == "incomplete" and kept["output"] == last["response"]["output"]
    assert BLOCKED[0][:4] not in strings_of(kept)


@pytest.mark.timeout(7_200)
def test_no_character_of_a_blocked_word_leaves_by_any_door(doors: Doors) -> None:
    continued = 0
    for number, pick in numbered("streams over sockets", STREAMS):
        door = pick.choice(("/v1/chat/completions", "/v1/messages", "/v1/responses"))
        channel = pick.choice(CHANNELS)
        word, before, after = pick.choice(BLOCKED), filling(pick), filling(pick)
        is_harmless = pick.random() < HARMLESS_SHARE
        if is_harmless:
            text = before + PREFIX + after
        else:
            before, text = placed(word, before, after, pick)
        if channel == "arguments":
            before, text = "", json.dumps({"a": text}, ensure_ascii=pick.random() < 0.5)
        pieces = deltas_of(
            channel, list(filter(None, pieces_of(text, 1 + number % PIECE_BYTES_MAX)))
        )
        cuts = channel == "content" and not is_harmless and pick.random() < CUT_SHARE
        if cuts:
            pieces = [*text[: pick.randint(1, len(text) - 1)], None]
        doors.said["split"] = pick.choice((0, 0, pick.randint(1, 40)))
        doors.said.update(pieces=pieces, whole=text)
        key = pick.choice(doors.keys)
        reply = doors.post(door, request_of(door, channel), key)
        case = (number, door, channel, doors.keys.index(key), text, reply.text)
        assert reply.status_code == 200, case
        events = said_by(reply)
        left = heard(events, channel)
        if is_harmless:
            assert left == text, case
            continue
        assert before.startswith(left), case
        assert word not in NORMALIZER.normal(strings_of(events)), case
        filtered = "content_filter" in reply.text or '"refusal"' in reply.text
        continued += cuts and filtered
        assert filtered or (cuts and "error" in reply.text), case
    assert continued, "no stream went on at the other upstream"
