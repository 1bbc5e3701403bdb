"""A sign-in link lets the operator in once, soon, and shows no credential."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.security.platform import Platform, platform
from tokenschain.control.identity import sign_in_links
from tokenschain.infra.security.suite import INTERNATIONAL


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("links")) as made:
        yield made


def _link(house: Platform) -> str:
    with house.engine.begin() as db:
        return sign_in_links.make(db, INTERNATIONAL)


def _use(house: Platform, code: str) -> int:
    return house.client.post("/api/v1/sessions/link", json={"code": code}).status_code


def test_a_link_serves_once_and_is_written_down(house: Platform) -> None:
    code = _link(house)
    reply = house.client.post("/api/v1/sessions/link", json={"code": code})
    assert reply.status_code == 201
    operator = house.with_token(reply.json()["token"], "operator")
    me = operator("GET", "/me").json()
    assert (me["id"], me["tenant"]) == ("operator", "*")
    assert operator("GET", "/users").status_code == 200
    assert _use(house, code) == 401
    events = house.operator("GET", "/audit").json()["data"]
    assert [one["detail"] for one in events if one["action"] == "login"] == [{"through": "link"}]
    assert operator("DELETE", "/sessions").status_code == 200
    assert operator("GET", "/me").status_code == 401


def test_of_many_at_once_one_comes_in(house: Platform) -> None:
    code = _link(house)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: _use(house, code), range(8)))
    assert sorted(found) == [201] + [401] * 7


def test_a_link_is_over_after_its_time_and_when_another_is_made(
    house: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    former, code = _link(house), _link(house)
    assert _use(house, former) == 401
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + sign_in_links.LINK_S + 1)
    assert _use(house, code) == 401


def test_a_code_is_no_token_and_a_token_no_code(house: Platform) -> None:
    code = _link(house)
    assert house.with_token(code, "operator")("GET", "/me").status_code == 401
    person = house.person("*", "owner")
    assert _use(house, person.token) == 401
    for wrong in ("tcl-" + "x" * 40, "' OR 1=1 --" + " " * 20):
        assert _use(house, wrong) == 401


def test_who_came_in_by_a_link_has_shown_no_credential(house: Platform) -> None:
    reply = house.client.post("/api/v1/sessions/link", json={"code": _link(house)})
    operator = house.with_token(reply.json()["token"], "operator")
    other = house.person("alpha", "viewer")
    reset = operator("POST", f"/users/{other.id}/totp/reset", {})
    assert reset.status_code in (400, 403, 404), reset.text
    assert operator("POST", "/users/operator/tokens", {"name": "x"}).status_code in (403, 404)
    owner = {"role": "owner", "tenant": "alpha"}
    bound = operator("POST", f"/users/{other.id}/bindings", owner)
    assert (bound.status_code, bound.json()["error"]["code"]) == (403, "step_up_required")


def test_while_the_platform_has_nobody_a_link_makes_its_owner_and_nothing_else(
    house: Platform,
) -> None:
    reply = house.client.post("/api/v1/sessions/link", json={"code": _link(house)})
    operator = house.with_token(reply.json()["token"], "operator")
    assert operator("GET", "/me").json()["makes_first_account"]
    first = {"email": "first@example.com", "name": "First", "tenant": "*"}
    made = operator("POST", "/users", first | {"password": "a-long-first-password"})
    assert made.status_code == 201, made.text
    path = f"/users/{made.json()['id']}/bindings"
    program = {"email": "program@example.com", "name": "P", "tenant": "*", "kind": "service"}
    viewer = {"role": "viewer", "tenant": "*"}
    for refused in (
        operator("POST", "/users", program),
        operator("POST", "/users", first | {"email": "a@alpha.example", "tenant": "alpha"}),
        operator("POST", path, viewer),
        house.person("*", "owner", stepped_up=False)("POST", path, viewer | {"role": "owner"}),
    ):
        assert refused.json()["error"]["code"] == "step_up_required", refused.text
    # Others may be invited until one of them can sign in.
    asked = {"email": "invited@example.com", "name": "I", "tenant": "*", "role": "owner"}
    assert operator("POST", "/invitations", asked).status_code == 201
    assert operator("POST", path, viewer | {"role": "owner"}).status_code == 201
    assert not operator("GET", "/me").json()["makes_first_account"]
    for late in (
        operator("POST", "/users", first | {"email": "second@example.com"}),
        operator("POST", "/invitations", asked | {"email": "late@example.com"}),
        operator("POST", path, viewer | {"role": "owner"}),
    ):
        assert late.json()["error"]["code"] == "step_up_required", late.text


def test_another_admin_token_ends_those_sessions(house: Platform) -> None:
    reply = house.client.post("/api/v1/sessions/link", json={"code": _link(house)})
    operator = house.with_token(reply.json()["token"], "operator")
    code = _link(house)
    with house.engine.begin() as db:
        sign_in_links.end_sessions(db)
    assert operator("GET", "/me").status_code == 401 and _use(house, code) == 401
