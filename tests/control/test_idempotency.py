"""A POST with an idempotency key is done once."""

from __future__ import annotations

from sqlalchemy import Engine

from tests.control.people import As
from tests.stack import Stack
from tests.waiting import until
from tokenschain.control import idempotency


def test_a_key_is_claimed_once_on_each_database(engine: Engine) -> None:
    with engine.begin() as connection:
        assert idempotency.claim(connection, "key", "request")
        assert not idempotency.claim(connection, "key", "request")
    with engine.begin() as connection:
        assert not idempotency.claim(connection, "key", "request")
        assert idempotency.claim(connection, "another", "request")


def test_a_post_with_an_idempotency_key_is_done_once(house: Stack) -> None:
    body = {"tenant": "alpha", "project": "once", "name": "once"}
    headers = {"idempotency-key": "abc"}
    boss = As(house, house.admin_token)
    first = boss("POST", "/keys", json=body, headers=headers)
    again = boss("POST", "/keys", json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json() and again.headers["idempotent-replay"] == "true"
    found = boss("GET", "/keys?tenant=alpha&project=once").json()["data"]
    assert len(found) == 1
    other = boss("POST", "/keys", json=body | {"name": "x"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    failed = boss("POST", "/organization/units", json={"kind": "project", "tenant": "none", "name": "x"},
                  headers={"idempotency-key": "later"})  # fmt: skip
    assert failed.status_code == 404
    sealed = house.rows("select sealed from idempotency")
    assert all(first.json()["key"].encode() not in row["sealed"] for row in sealed)


def test_a_file_comes_again_as_what_it_was(house: Stack) -> None:
    digest, boss = "0" * 64, As(house, house.admin_token)
    item = {"id": "a", "kind": "content", "request_id": "never", "verdicts": {"keywords": True}}
    body = {"model": "m", "seed": 1, "began_at_s": 1, "answers_digest": digest, "items": [item],
            "banks": [{"name": "b", "digest": digest, "size": 1}]}  # fmt: skip
    path, headers = "/compliance/evaluations", {"idempotency-key": "file"}
    until(lambda: boss("POST", path, json=body).status_code == 200)  # something is sealed
    first, again = (boss("POST", path, json=body, headers=headers) for _ in range(2))
    assert first.status_code == 200 and again.headers["idempotent-replay"] == "true"
    assert again.headers["content-type"] == first.headers["content-type"] == "application/x-tar"
    assert again.content == first.content
