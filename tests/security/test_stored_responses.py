"""Stored responses: of their project and the key's rights alone, under ids that nobody can guess."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from sqlalchemy import Connection

from tests import web
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.core.formats.stored_responses import Stored
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import api_keys, ledger
from tokenschain.infra.security.suite import INTERNATIONAL, Sealer

MINE = {"tenant": "default", "project": "hr", "environment": "default"}
INSIDE, OUTSIDE = "10.1.2.3", "203.0.113.9"


class Person(NamedTuple):
    """A key, and where it is used."""

    stack: Stack
    key: str
    address: str = INSIDE

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}", "x-forwarded-for": self.address}
        return web.request(
            method, f"{self.stack.url}/v1/responses{path}", headers=headers, timeout=30, **more
        )

    def say(self, text: str, **more: Any) -> httpx.Response:
        return self.ask("POST", "", json={"model": "sim-chat", "input": text, **more})


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    made = Stack(
        tmp_path_factory.mktemp("stored"),
        upstream.base_url,
        server={"trusted_proxies": ["127.0.0.0/8"]},
        routing={"residency": {"class/secret": ["own"], "class/other": ["own"]}},
        limits={"zone": "own"},
    ).start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def owner(stack: Stack) -> Person:
    return Person(stack, stack.new_key(**MINE))


OTHERS: dict[str, dict[str, Any]] = {
    "another tenant": MINE | {"tenant": "other"},
    "another project": MINE | {"project": "web"},
    "another environment": MINE | {"environment": "test"},
    "another data class": MINE | {"data_class": "secret"},
    "other models": MINE | {"models": ["other-chat"]},
    "other APIs": MINE | {"apis": ["chat/completions"]},
}
ACTS = (
    ("GET", "/{}"), ("GET", "/{}?stream=true"), ("GET", "/{}/input_items"), ("POST", "/{}/cancel"),
    ("DELETE", "/{}"),
)  # fmt: skip


def refused_everything(person: Person, name: str) -> None:
    """Whether a response is there is not to be told, either."""
    nobody = f"{name[:-32]}{0:032x}"
    for method, path in ACTS:
        found = person.ask(method, path.format(name))
        assert found.status_code in (403, 404), (method, path, found.text)
        assert "Ann" not in found.text
        without = person.ask(method, path.format(nobody))
        assert without.status_code == found.status_code
        assert without.text.replace(nobody, name) == found.text
    for path in ("", "/input_tokens", "/compact"):
        body = {"model": "other-chat", "input": "and?", "previous_response_id": name}
        found = person.ask("POST", path, json=body)
        assert found.status_code in (400, 403), found.text
        if found.status_code == 400:
            assert found.json()["error"]["code"] == "previous_response_not_found"


@pytest.mark.parametrize("who", OTHERS)
def test_a_stored_response_is_its_places_and_rights_alone(
    stack: Stack, owner: Person, who: str
) -> None:
    name = owner.say("Salary of Ann").json()["id"]
    other = Person(stack, stack.new_key(**OTHERS[who]))
    refused_everything(other, name)
    assert owner.ask("GET", f"/{name}").status_code == 200
    assert "Ann" in owner.ask("GET", f"/{name}/input_items").text


def test_a_key_of_the_same_place_and_rights_goes_on(stack: Stack, owner: Person) -> None:
    name = owner.say("Salary of Ann").json()["id"]
    colleague = Person(stack, stack.new_key(**MINE))
    assert "Ann" in colleague.ask("GET", f"/{name}/input_items").text
    assert colleague.say("and?", previous_response_id=name).status_code == 200
    assert colleague.ask("DELETE", f"/{name}").status_code == 200
    assert owner.ask("GET", f"/{name}").status_code == 404


def test_what_was_said_under_a_data_class_stays_in_it(stack: Stack) -> None:
    fields = MINE | {"data_class": "secret"}
    person = Person(stack, stack.new_key(**fields))
    name = person.say("Salary of Ann").json()["id"]
    for data_class in ("", "other"):
        refused_everything(Person(stack, stack.new_key(**MINE | {"data_class": data_class})), name)
    assert Person(stack, stack.new_key(**fields)).ask("GET", f"/{name}").status_code == 200


def test_what_was_said_from_within_networks_is_read_from_there_alone(
    stack: Stack, owner: Person
) -> None:
    inside = Person(stack, stack.new_key(**MINE, networks=["10.0.0.0/8"]))
    name = inside.say("Salary of Ann").json()["id"]
    refused_everything(owner._replace(address=OUTSIDE), name)
    assert owner.ask("GET", f"/{name}").status_code == 200
    assert inside._replace(address=OUTSIDE).ask("GET", f"/{name}").status_code == 403


def test_a_conversation_is_for_keys_that_may_use_all_of_its_models(
    stack: Stack, owner: Person
) -> None:
    one = Person(stack, stack.new_key(**MINE, models=["other-chat"]))
    first = owner.say("Salary of Ann").json()["id"]
    second = owner.say("and?", previous_response_id=first, model="other-chat").json()["id"]
    third = owner.say("and?", previous_response_id=second, model="other-chat").json()["id"]
    refused_everything(one, third)
    free = owner.say("weather", model="other-chat").json()["id"]
    assert one.ask("GET", f"/{free}").status_code == 200


def test_ids_cannot_be_counted_up_or_told_from_the_calls(owner: Person) -> None:
    names = set()
    for stream in (False, True):
        for _ in range(3):
            reply = owner.say("x", stream=stream)
            call = reply.headers["x-request-id"].removeprefix("req_")
            name = _id_in(reply, stream=stream)
            # The process may be told from both; what differs of two is all of chance.
            assert call not in name and len(name) >= len("resp_") + 32
            assert owner.ask("GET", f"/{name}").json()["id"] == name
            names.add(name[-32:])
    assert len(names) == 6
    for at in range(0, 32, 8):
        assert len({name[at : at + 8] for name in names}) == 6


def _id_in(reply: httpx.Response, *, stream: bool) -> str:
    if not stream:
        return str(reply.json()["id"])
    first = next(line for line in reply.text.splitlines() if line.startswith("data: "))
    return str(msgspec.json.decode(first[6:])["response"]["id"])


def test_what_an_earlier_version_kept_belongs_where_the_ledger_says(engine: Any) -> None:
    sealer = Sealer(INTERNATIONAL, lambda: ("k",), lambda *_: b"k" * 32)
    archive = ResponseArchive(engine, sealer, 3_600)
    old = {"tenant": "t", "created_s": time.time(), "input_items": b"[]", "response": b"{}"}
    names = ("resp_req_1", "resp_req_2")
    archive.keep([msgspec.msgpack.encode({"id": name, **old}) for name in names])
    day = int(time.time()) // 86_400
    db.ensure_days(engine, [day])
    with engine.begin() as connection:
        _insert(connection, api_keys, id="key_1", tenant="t", project="hr", data_class="secret",
                environment="e", networks='["10.0.0.0/8"]', key_hash="h", prefix="p", name="n",
                disconnect="cancel", created_at_s=1)  # fmt: skip
        _insert(connection, ledger, event_id="req_1", tenant="t", project="hr", environment="e",
                key_id="key_1", model_asked="m", started_ms=day * 86_400_000)  # fmt: skip
        found = [msgspec.msgpack.decode(archive.find(connection, "t", name) or b"", type=Stored)
                 for name in names]  # fmt: skip
    assert (found[0].project, found[0].environment, found[0].data_class) == ("hr", "e", "secret")
    assert (found[0].models, found[0].networks) == (("m",), ("10.0.0.0/8",))
    assert found[1].project == "", "the ledger knows nothing of it: it is nobody's"


def _insert(connection: Connection, table: Any, **values: Any) -> None:
    """A row with something in every column that needs it."""
    for column in table.columns:
        if column.name not in values and not column.nullable and column.server_default is None:
            values[column.name] = "" if column.type.python_type is str else 0
    connection.execute(table.insert().values(**values))
