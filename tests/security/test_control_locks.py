"""Lock contention at control: readers and strangers wait for no writer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.security.platform import Platform, platform


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("locks")) as made:
        unit = {"kind": "tenant", "tenant": "acme", "name": "acme"}
        assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


def test_reading_and_refusing_go_on_while_another_writes(house: Platform) -> None:
    viewer = house.person("acme", "viewer")
    with house.engine.begin():  # nobody else may write meanwhile: whoever tries gets 503
        assert viewer("GET", "/keys").status_code == 200
        assert house.client.get("/readyz").status_code == 200
        for method, path in (("POST", "/keys"), ("DELETE", "/tokens/x"), ("PATCH", "/users/x")):
            unknown = house.client.request(method, f"/api/v1{path}", json={})
            assert unknown.status_code == 401, (method, path)
        denied = {"email": "a@b.example", "tenant": "acme", "name": "A"}
        assert viewer("POST", "/users", denied).status_code == 403


def test_what_reading_writes_down_is_written_when_it_has_read(house: Platform) -> None:
    finance = house.person("acme", "finance")
    export = "/calls/export?from_s=1764000000&until_s=1764000001"
    assert finance("GET", export).status_code == 200
    assert house.rows(f"select action, tenant from audit_events where actor = '{finance.id}'") == [
        ("usage:export", "acme")
    ]
    assert house.person("acme", "viewer")("GET", export).status_code == 403
    assert house.rows("select count(*) from audit_events where action = 'usage:export'") == [(1,)]


def test_writers_that_come_together_all_get_their_turn(house: Platform) -> None:
    owner = house.person("acme", "owner")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda n: owner("POST", "/keys", {"tenant": "acme", "name": f"k{n}"}),
                             range(24)))  # fmt: skip
    assert {reply.status_code for reply in made} == {201}


def test_a_token_that_ends_before_the_change_begins_changes_nothing(house: Platform) -> None:
    owner = house.person("acme", "owner")
    with ThreadPoolExecutor(1) as pool, house.engine.begin() as connection:
        waiting = pool.submit(owner, "POST", "/keys", {"tenant": "acme", "name": "late"})
        while not waiting.running():
            pass
        connection.exec_driver_sql("DELETE FROM tokens WHERE user_id = ?", (owner.id,))
    assert waiting.result().status_code == 401
    assert house.rows("select count(*) from api_keys where name = 'late'") == [(0,)]
