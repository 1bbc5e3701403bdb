"""Legal holds: what they keep beside kept content, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest
from sqlalchemy import delete, insert, update

from tests import kept_content, moderation_cases
from tests.security.platform import Platform, platform
from tokenschain.control.content.legal_holds import FOREVER_MS, IN_FORCE_MAX
from tokenschain.control.moderation import review_queue
from tokenschain.control.response_archive import ResponseArchive
from tokenschain.core.formats.stored_responses import Stored
from tokenschain.core.moderation.case_record import KeptText
from tokenschain.infra.database.content_tables import legal_holds
from tokenschain.infra.database.moderation_tables import moderation_cases as cases
from tokenschain.infra.database.tables import stored_responses

TTL_S = 3_600
SAID = KeptText("input", "words", ())


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("holds")) as made:
        made.have_tenants("acme", "beta", "gamma", "delta")
        yield made


@pytest.fixture(scope="module")
def archive(house: Platform) -> ResponseArchive:
    return ResponseArchive(house.engine, house.app.state.context.sealer, TTL_S)


def store(archive: ResponseArchive, tenant: str, call: str) -> None:
    body = {"id": f"resp_{call}", "tenant": tenant, "created_s": time.time(),
            "input_items": b"[]", "response": b"{}"}  # fmt: skip
    assert archive.keep([msgspec.msgpack.encode(msgspec.convert(body, Stored))]).new == 1


def stored(house: Platform, tenant: str) -> set[str]:
    rows = house.rows(f"select id from stored_responses where tenant = '{tenant}'")
    return {row[0].removeprefix("resp_") for row in rows}


def hold(house: Platform, tenant: str, **more: object) -> str:
    body = {"tenant": tenant, "reason": "case 7"} | more
    reply = house.operator("POST", "/legal-holds", body)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["id"])


def release(house: Platform, held: str) -> int:
    reply = house.operator("POST", f"/legal-holds/{held}/release", {"reason": "over"})
    return int(reply.status_code)


def test_a_stored_response_outlives_its_time_and_its_callers_wish(
    house: Platform, archive: ResponseArchive
) -> None:
    for call in ("expired", "unwanted"):
        store(archive, "acme", call)
    store(archive, "beta", "free")
    held = hold(house, "acme")
    with house.engine.begin() as connection:
        past = update(stored_responses).where(stored_responses.c.id != "resp_unwanted")
        connection.execute(past.values(expires_at_s=int(time.time()) - 5))
    with house.engine.begin() as connection:
        assert archive.delete(connection, "acme", "resp_unwanted")
        assert archive.find(connection, "acme", "resp_unwanted") is None
        assert not archive.delete(connection, "acme", "resp_unwanted"), "its caller has none"
    assert archive.sweep() == 1
    assert stored(house, "acme") == {"expired", "unwanted"} and stored(house, "beta") == set()
    assert release(house, held) == 200
    assert archive.sweep() == 2 and stored(house, "acme") == set()


def test_a_hold_of_an_end_user_keeps_what_is_not_known_to_be_anothers(
    house: Platform, archive: ResponseArchive
) -> None:
    of_ada, of_bob = (kept_content.enter(house, "gamma", name) for name in ("ada", "bob"))
    for call in (of_ada, of_bob, "of_nobody"):
        store(archive, "gamma", call)
        moderation_cases.enter(house, "gamma", [SAID], event_id=call)
    hold(house, "gamma", end_user="ada")
    long_ago_s = int(time.time()) - 10 * 365 * 86_400
    with house.engine.begin() as connection:
        connection.execute(update(cases).values(created_at_s=long_ago_s))
        for call in (of_ada, of_bob, "of_nobody"):
            assert archive.delete(connection, "gamma", f"resp_{call}")
        review_queue.sweep(connection, time.time())
    left = {row[0] for row in house.rows("select event_id from moderation_cases")}
    assert left == stored(house, "gamma") == {of_ada, "of_nobody"}


def test_all_of_a_tenant_is_erased_but_for_what_reviewers_have_and_a_hold_keeps(
    house: Platform,
) -> None:
    now_ms = int(time.time() * 1e3)
    for call, days in (("inside", 10), ("outside", 20)):
        at_ms = now_ms - days * 86_400_000
        moderation_cases.enter(house, "delta", [SAID], event_id=call, started_ms=at_ms)
    at_s = now_ms // 1_000
    hold(house, "delta", from_s=at_s - 12 * 86_400, until_s=at_s - 8 * 86_400)
    done = house.operator("POST", "/content-erasures", {"tenant": "delta", "reason": "asked for"})
    assert done.status_code == 200
    rows = house.rows("select event_id, sealed from moderation_cases where tenant = 'delta'")
    assert {call: bool(sealed) for call, sealed in rows} == {"inside": True, "outside": False}


def test_many_holds_of_many_tenants_stop_no_sweep(
    house: Platform, archive: ResponseArchive
) -> None:
    store(archive, "t0", "held")
    store(archive, "beta", "swept")
    moderation_cases.enter(house, "beta", [SAID], event_id="swept")
    live = {"subjects": "[]", "from_ms": 0, "until_ms": FOREVER_MS, "reason": "r",
            "created_by": "usr", "created_at_ms": 1}  # fmt: skip
    rows = [
        live | {"id": f"hold_many_{n}", "tenant": f"t{n // IN_FORCE_MAX}"}
        for n in range(6 * IN_FORCE_MAX)
    ]
    with house.engine.begin() as connection:
        connection.execute(insert(legal_holds), rows)
        past_s = int(time.time()) - 5
        connection.execute(update(stored_responses).values(expires_at_s=past_s))
        connection.execute(update(cases).values(created_at_s=1))
    archive.sweep()
    with house.engine.begin() as connection:
        review_queue.sweep(connection, time.time())
        connection.execute(delete(legal_holds).where(legal_holds.c.id.startswith("hold_many_")))
    assert (stored(house, "t0"), stored(house, "beta")) == ({"held"}, set())
    assert house.rows("select id from moderation_cases where tenant = 'beta'") == []


def test_what_cannot_be_meant_is_refused(house: Platform) -> None:
    past = {"tenant": "acme", "reason": "case 7", "until_s": int(time.time()) - 5}
    wrong = house.operator("POST", "/legal-holds", past)
    assert wrong.status_code == 400 and wrong.json()["error"]["param"] == "until_s"
    of_period = hold(house, "acme", from_s=past["until_s"] - 60, until_s=past["until_s"])
    assert release(house, of_period) == 200
    assert release(house, of_period) == 409, "once"
    for method, path, body in (
        ("POST", "/legal-holds", {"tenant": "nobody", "reason": "r"}),
        ("POST", "/content-erasures", {"tenant": "nobody", "reason": "r", "dry_run": True}),
        ("PUT", "/content-policies", {"tenant": "nobody", "content": "hash"}),
        ("POST", "/audit-log/content/export", {"tenant": "nobody", "reason": "r"}),
    ):
        reply = house.operator(method, path, body)
        assert (reply.status_code, reply.json()["error"]["param"]) == (404, "tenant"), path
