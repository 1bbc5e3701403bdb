"""What clients expect of the Responses API (kind K6): echoes, stored responses, compaction.

Cases P13 and faults 6, 7, 11 and 14 of the official suites.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.translation.lab import Lab
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.stored_responses import Stored
from tokenschain.infra.control_channel import response_store
from tokenschain.infra.control_channel.response_store import ResponseStore
from tokenschain.infra.journal import read_frames

EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
TOOL = {"type": "function", "name": "look_up", "parameters": {"type": "object"}, "strict": True}
ASKED: dict[str, Any] = {
    "model": "openai", "input": "hi", "tools": [TOOL], "tool_choice": "auto",
    "parallel_tool_calls": False, "metadata": {"a": "b"}, "instructions": "Be kind.",
    "temperature": 0.5, "top_p": 0.9, "max_output_tokens": 500, "user": "u",
    "safety_identifier": "s", "prompt_cache_key": "k", "truncation": "disabled",
    "reasoning": {"effort": "low"}, "text": {"verbosity": "low", "format": {"type": "text"}},
}  # fmt: skip


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Stored] = {}
        self.room = True

    def keep(self, stored: Stored) -> bool:
        if self.room:
            self.kept[stored.id] = stored
        return self.room

    async def find(self, tenant: str, response_id: str) -> Stored:
        if response_id not in self.kept:
            raise ApiError("not_found", "There is no such response.")
        return self.kept[response_id]

    async def delete(self, tenant: str, response_id: str) -> None:
        await self.find(tenant, response_id)
        del self.kept[response_id]


@pytest.fixture
def kept(lab: Lab) -> Iterator[Kept]:
    store = Kept()
    lab.gateway._conversations._store = store
    yield store


def final_of(lab: Lab, body: dict[str, Any]) -> dict[str, Any]:
    got = lab.ask("/v1/responses", body)
    assert got.status == 200, got.body
    if not body.get("stream"):
        found: dict[str, Any] = json.loads(got.body)
        return found
    return events_of(got.body)[-1]["response"]  # type: ignore[no-any-return]


def events_of(body: bytes) -> list[dict[str, Any]]:
    lines = [line for line in body.split(b"\n") if line.startswith(b"data: ")]
    return [json.loads(line.removeprefix(b"data: ")) for line in lines]


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_says_what_was_asked_for(lab: Lab, kept: Kept, stream: bool) -> None:
    made = final_of(lab, ASKED | {"stream": stream})
    for name, value in ASKED.items():
        if name not in ("model", "input", "reasoning", "tools"):
            assert made[name] == value, name
    assert made["reasoning"]["effort"] == "low"
    assert TOOL.items() <= made["tools"][0].items()
    assert made["usage"]["input_tokens_details"].keys() == {"cached_tokens", "cache_write_tokens"}
    assert (made["store"], made["service_tier"], made["background"]) == (True, "default", False)
    Response.model_validate(made, strict=False)
    following = final_of(lab, ASKED | {"previous_response_id": made["id"], "stream": stream})
    assert following["previous_response_id"] == made["id"]


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_asked_is_openais_defaults(lab: Lab, kept: Kept, stream: bool) -> None:
    made = final_of(lab, {"model": "openai", "input": "hi", "stream": stream, "store": False})
    assert (made["tools"], made["tool_choice"], made["metadata"]) == ([], "auto", {})
    assert (made["temperature"], made["top_p"], made["truncation"]) == (1.0, 1.0, "disabled")
    assert made["store"] is False and made["previous_response_id"] is None


@pytest.mark.parametrize("stream", [False, True])
def test_what_could_not_be_kept_says_so(lab: Lab, kept: Kept, stream: bool) -> None:
    kept.room = False
    assert final_of(lab, ASKED | {"stream": stream})["store"] is False


def test_an_unknown_response_to_go_on_from_is_a_bad_request(lab: Lab, kept: Kept) -> None:
    got = lab.ask("/v1/responses", ASKED | {"previous_response_id": "resp_none"})
    assert (got.status, got.error["code"]) == (400, "previous_response_not_found")
    assert got.error["param"] == "previous_response_id"


def test_a_stored_response_is_streamed_once_more(lab: Lab, kept: Kept) -> None:
    made = final_of(lab, ASKED)
    url = f"/v1/responses/{made['id']}"
    got = lab.ask(f"{url}?stream=true&include=message.output_text.logprobs", b"", method="GET")
    assert got.headers["content-type"].startswith("text/event-stream")
    events = events_of(got.body)
    assert [e["sequence_number"] for e in events] == list(range(len(events)))
    assert events[0]["type"] == "response.created" and events[-1]["response"] == made
    for event in events:
        EVENTS.validate_python(event)
    text = "".join(e["delta"] for e in events if e["type"] == "response.output_text.delta")
    assert text == made["output"][0]["content"][0]["text"]
    later = events_of(lab.ask(f"{url}?stream=true&starting_after=3", b"", method="GET").body)
    assert later == events[4:]
    assert json.loads(lab.ask(url, b"", method="GET").body) == made


@pytest.mark.parametrize(
    "query", ["stream=maybe", "limit=0", "limit=101", "order=up", "starting_after=x", "include=all"]
)
def test_a_query_that_cannot_be_is_refused_by_name(lab: Lab, kept: Kept, query: str) -> None:
    made = final_of(lab, ASKED)
    got = lab.ask(f"/v1/responses/{made['id']}?{query}", b"", method="GET")
    assert (got.status, got.error["param"]) == (400, query.split("=", maxsplit=1)[0])


def test_input_items_come_in_pages(lab: Lab, kept: Kept) -> None:
    items = [{"role": "user", "content": f"text {n}"} for n in range(25)]
    made = final_of(lab, {"model": "openai", "input": items})

    def page(query: str) -> dict[str, Any]:
        got = lab.ask(f"/v1/responses/{made['id']}/input_items?{query}", b"", method="GET")
        found: dict[str, Any] = json.loads(got.body)
        return found

    first = page("")
    assert len(first["data"]) == 20 and first["has_more"]
    assert first["data"][0]["content"] == "text 24"
    assert len(page(f"after={first['last_id']}")["data"]) == 5
    oldest = page("order=asc&limit=2")
    assert [item["content"] for item in oldest["data"]] == ["text 0", "text 1"]
    assert page(f"order=asc&limit=2&after={oldest['last_id']}")["data"][0]["content"] == "text 2"
    assert "error" in page("after=none")


def test_a_response_is_deleted_and_not_cancelled(lab: Lab, kept: Kept) -> None:
    made = final_of(lab, ASKED)
    url = f"/v1/responses/{made['id']}"
    assert lab.ask(f"{url}/cancel", b"", method="POST").status == 400
    assert lab.ask(f"{url}/other", b"", method="GET").status == 404
    assert json.loads(lab.ask(url, b"", method="DELETE").body)["deleted"] is True
    assert lab.ask(url, b"", method="GET").status == 404
    assert lab.ask("/v1/responses/resp_none/cancel", b"", method="POST").status == 404


def test_input_tokens_are_counted(lab: Lab, kept: Kept) -> None:
    got = lab.ask("/v1/responses/input_tokens", {"model": "openai", "input": "Tell me a joke."})
    found = json.loads(got.body)
    assert found["object"] == "response.input_tokens" and found["input_tokens"] > 0
    made = final_of(lab, ASKED)
    longer = {"model": "openai", "input": "And?", "previous_response_id": made["id"]}
    assert json.loads(lab.ask("/v1/responses/input_tokens", longer).body)["input_tokens"] > 10
    assert lab.ask("/v1/responses/input_tokens", {"model": "nope", "input": "x"}).status == 404
    assert lab.ask("/v1/responses/input_tokens", {"input": "x"}).error["param"] == "model"


def test_a_conversation_is_compacted_to_one_item_that_stands_for_it(lab: Lab, kept: Kept) -> None:
    said = [{"role": "user", "content": "My name is Ann."}, {"role": "assistant", "content": "Hi."}]
    got = lab.ask("/v1/responses/compact", {"model": "openai", "input": said})
    found = json.loads(got.body)
    assert (got.status, found["object"]) == (200, "response.compaction"), found
    assert [item["type"] for item in found["output"]] == ["compaction"]
    assert found["usage"]["output_tokens"] > 0
    got = lab.ask(
        "/v1/responses",
        {"model": "openai", "input": [*found["output"], {"role": "user", "content": "And now?"}]},
    )
    assert got.status == 200, got.body
    assert "What was said so far" in json.dumps(got.sent[-1])
    assert lab.ask("/v1/responses/compact", {"model": "openai"}).error["param"] == "input"
    theirs = {"type": "compaction", "encrypted_content": "gAAAA"}
    got = lab.ask("/v1/responses", {"model": "openai", "input": [theirs]})
    assert (got.status, got.error["param"]) == (400, "input[0]")


# --- the store: large responses, and other gateways -----------------------------------------


class Control:
    """Control, as far as stored responses go; answers nothing of one for some asks."""

    def __init__(self, late: int = 0) -> None:
        self.kept: dict[str, bytes] = {}
        self.late = late

    async def ask(self, path: str, body: bytes, *_: Any) -> bytes:
        for payload in read_frames(body):
            self.kept[msgspec.msgpack.decode(payload, type=Stored).id] = payload
        return b"{}"

    async def exchange(self, method: str, path: str, *_: Any) -> tuple[Any, bytes]:
        self.late -= 1
        found = self.kept.get(path.rsplit("/", maxsplit=1)[-1].split("?", maxsplit=1)[0])
        status = 404 if found is None or self.late >= 0 else 200
        return type("Reply", (), {"status": status}), found or b""


def stored(name: str, size: int = 10) -> Stored:
    return Stored(name, "t", 1.0, b"[]", b'"' + b"x" * size + b'"')


@pytest.mark.parametrize("size", [10, 3_000_000, 20_000_000])
def test_a_response_with_a_picture_is_kept_too(tmp_path: Path, size: int) -> None:
    async def run() -> None:
        store = ResponseStore(Control(), tmp_path)  # type: ignore[arg-type]
        assert store.keep(stored("resp_a00000001", size))
        found = await store.find("t", "resp_a00000001")
        assert len(found.response) == size + 2
        store.close()

    asyncio.run(run())
    assert not list(tmp_path.glob("*.response"))


def test_what_is_too_long_is_said_not_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response_store, "RESPONSE_BYTES_MAX", 3_000_000)

    async def run() -> None:
        store = ResponseStore(Control(), tmp_path)  # type: ignore[arg-type]
        assert not store.keep(stored("resp_a00000001", 4_000_000))
        store.close()

    asyncio.run(run())


def test_what_another_gateway_gave_just_now_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        control = Control(late=3)
        control.kept["resp_b00000001"] = msgspec.msgpack.encode(stored("resp_b00000001"))
        store = ResponseStore(control, tmp_path)  # type: ignore[arg-type]
        assert (await store.find("t", "resp_b00000001")).id == "resp_b00000001"
        assert store.keep(stored(f"resp_a{1:032x}"))
        before = asyncio.get_running_loop().time()
        with pytest.raises(ApiError):
            await store.find("t", f"resp_a{9:032x}")  # our own: it is not on its way
        assert asyncio.get_running_loop().time() - before < 0.5
        store.close()

    asyncio.run(run())


def test_what_is_kept_is_shipped_at_once(tmp_path: Path) -> None:
    async def run() -> None:
        control = Control()
        store = ResponseStore(control, tmp_path)  # type: ignore[arg-type]
        shipping = asyncio.create_task(store.ship_always(60.0))
        await asyncio.sleep(0)
        for number in range(3):
            store.keep(stored(f"resp_a0000000{number}"))
            async with asyncio.timeout(2):
                while len(control.kept) <= number:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
        shipping.cancel()
        store.close()

    asyncio.run(run())
