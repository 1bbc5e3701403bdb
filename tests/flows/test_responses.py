"""The Responses API with stored responses: gone on from, read back, deleted, isolated."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests import web
from tests.clouds import Clouds
from tests.stack import Stack
from tests.vendors.simulators import HELLO, PROMPT_TOKENS


def test_a_conversation_goes_on_from_what_was_stored(clouds: Clouds) -> None:
    client = clouds.openai.responses
    first = client.create(model="openai", input="My name is Ann.", instructions="Be kind.")
    with client.stream(model="openai", input="And now?", previous_response_id=first.id) as stream:
        second = stream.get_final_response()
    third = client.create(model="anthropic", input="Bye.", previous_response_id=second.id)
    assert third.output_text == HELLO
    sent: Any = clouds.simulators["anthropic"].requests[-1]
    said = [(turn["role"], turn["content"][0]["text"]) for turn in sent["messages"]]
    assert said == [
        ("user", "My name is Ann."),
        ("assistant", HELLO),
        ("user", "And now?"),
        ("assistant", HELLO),
        ("user", "Bye."),
    ]
    assert "system" not in sent, "instructions hold for one response only"


def test_a_stored_response_is_read_listed_and_deleted(clouds: Clouds) -> None:
    client = clouds.openai.responses
    made = client.create(model="openai", input="hi")
    found = client.retrieve(made.id)
    assert (found.id, found.output_text) == (made.id, HELLO)
    assert found.usage is not None and found.usage.input_tokens == PROMPT_TOKENS
    items: Any = client.input_items.list(made.id).data
    assert [item.content[0].text for item in items] == ["hi"]
    with pytest.raises(openai.BadRequestError):
        client.cancel(made.id)
    client.delete(made.id)
    for call in (client.retrieve, client.delete):
        with pytest.raises(openai.NotFoundError):
            call(made.id)


def test_nothing_is_kept_when_not_wanted_and_nothing_of_others_is_found(clouds: Clouds) -> None:
    client = clouds.openai.responses
    private = client.create(model="openai", input="hi", store=False)
    with pytest.raises(openai.NotFoundError):
        client.retrieve(private.id)
    mine = client.create(model="openai", input="secret")
    other = clouds.openai.with_options(api_key=clouds.stack.new_key(tenant="other")).responses
    with pytest.raises(openai.NotFoundError):
        other.retrieve(mine.id)
    with pytest.raises(openai.BadRequestError) as found:
        other.create(model="openai", input="x", previous_response_id=mine.id)
    assert found.value.code == "previous_response_not_found"
    assert found.value.param == "previous_response_id"
    raw = clouds.stack.rows("select sealed from stored_responses")
    assert raw and all(b"secret" not in row["sealed"] for row in raw)


def test_calls_go_on_and_responses_wait_while_control_is_away(own_stack: Any) -> None:
    stack: Stack = own_stack().start()
    stack.kill("control")
    body = {"model": "sim-chat", "input": "hi"}
    reply = web.post(f"{stack.url}/v1/responses", json=body, headers=stack.headers)
    assert reply.status_code == 200
    made = reply.json()["id"]
    url = f"{stack.url}/v1/responses/{made}"
    store_errors = web.get(url, headers=stack.headers, timeout=20)
    assert (store_errors.status_code, store_errors.json()["error"]["code"]) == (
        503,
        "database_unavailable",
    )
    stack.kill("gateway")  # what is spooled survives this too
    stack.start("control", "gateway")
    assert web.get(url, headers=stack.headers).json()["id"] == made


def test_expired_responses_are_gone(own_stack: Any) -> None:
    stack: Stack = own_stack().start()
    body = {"model": "sim-chat", "input": "hi"}
    reply = web.post(f"{stack.url}/v1/responses", json=body, headers=stack.headers)
    url = f"{stack.url}/v1/responses/{reply.json()['id']}"
    assert web.get(url, headers=stack.headers).status_code == 200
    import sqlite3

    with sqlite3.connect(stack.folder / "data" / "tokenschain.db") as db:
        db.execute("update stored_responses set expires_at_s = 1")
    db.close()
    assert web.get(url, headers=stack.headers).status_code == 404
