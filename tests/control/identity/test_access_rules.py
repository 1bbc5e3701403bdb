"""Sessions end when nobody uses them, and passwords are renewed, as the settings say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from tests.security.platform import Platform, platform
from tokenschain.infra.config.access import AccessSettings
from tokenschain.infra.database.tables import tokens, users

PASSWORD, SECOND, THIRD = "correct horse battery", "teapots in orbit", "a quiet grey morning"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("access")) as made:
        unit = {"kind": "tenant", "tenant": "acme", "name": "acme"}
        assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


@contextmanager
def rules(house: Platform, **values: Any) -> Iterator[None]:
    """The settings, for a while."""
    before = house.app.state.context
    settings = msgspec.structs.replace(before.settings, access=AccessSettings(**values))
    house.app.state.context = before._replace(settings=settings)
    yield
    house.app.state.context = before


def sign_in(house: Platform, user_id: str, password: str = PASSWORD) -> Any:
    email = house.rows(f"select email from users where id = '{user_id}'")[0][0]
    return house.client.post("/api/v1/sessions", json={"email": email, "password": password})


def me(house: Platform, token: str) -> int:
    head = {"authorization": f"Bearer {token}"}
    return int(house.client.get("/api/v1/me", headers=head).status_code)


def later(house: Platform, table: Any, column: str, user_id: str, seconds: int) -> None:
    """Let something be longer ago."""
    of = table.c.user_id if table is tokens else table.c.id
    with house.engine.begin() as connection:
        connection.execute(
            update(table).where(of == user_id).values({column: table.c[column] - seconds})
        )


def test_a_session_that_nobody_uses_ends_and_one_that_is_used_goes_on(house: Platform) -> None:
    with rules(house, session_idle_max_s=600, session_max_s=3_600):
        person = house.person("acme", "viewer", password=PASSWORD)
        made = sign_in(house, person.id).json()
        later(house, tokens, "created_at_s", person.id, 500)
        assert me(house, made["token"]) == 200, "which notes that it is used"
        later(house, tokens, "created_at_s", person.id, 500)
        assert me(house, made["token"]) == 200
        later(house, tokens, "used_at_s", person.id, 700)
        assert me(house, made["token"]) == 401
        again = sign_in(house, person.id).json()
        later(house, tokens, "expires_at_s", person.id, 3_600)
        assert me(house, again["token"]) == 401, "in any case"


def test_a_programs_token_is_no_session(house: Platform) -> None:
    with rules(house, session_idle_max_s=600):
        program = house.person("acme", "viewer", token_kind="api")
        later(house, tokens, "created_at_s", program.id, 9_000)
        assert program("GET", "/me").status_code == 200


def test_one_session_too_many_ends_the_oldest(house: Platform) -> None:
    person = house.person("acme", "viewer", password=PASSWORD)
    with rules(house, sessions_max=2):
        made = []
        for _ in range(3):
            later(house, tokens, "created_at_s", person.id, 10)
            made.append(sign_in(house, person.id).json()["token"])
        assert [me(house, one) for one in made] == [401, 200, 200]
    with rules(house, sessions_max=1):
        last = sign_in(house, person.id).json()["token"]
        assert [me(house, one) for one in (*made, last)] == [401, 401, 401, 200]


def change(house: Platform, token: str, old: str, new: str) -> Any:
    head = {"authorization": f"Bearer {token}"}
    return house.client.post("/api/v1/me/password", json={"old": old, "new": new}, headers=head)


def test_a_former_password_is_not_chosen_again(house: Platform) -> None:
    person = house.person("acme", "viewer", password=PASSWORD)
    with rules(house, passwords_remembered=1):
        for old, new, allowed in (
            (PASSWORD, PASSWORD, False), (PASSWORD, SECOND, True), (SECOND, PASSWORD, False),
            (SECOND, THIRD, True), (THIRD, SECOND, False), (THIRD, PASSWORD, True),
        ):  # fmt: skip
            token = sign_in(house, person.id, old).json()["token"]
            reply = change(house, token, old, new)
            assert reply.is_success is allowed, (old, new, reply.text)
    kept = f"select count(*) from former_passwords where user_id = '{person.id}'"
    assert house.rows(kept) == [(1,)]


def test_a_weak_or_short_password_is_refused_with_the_reason(house: Platform) -> None:
    with rules(house, password_characters_min=16):
        for password, why in (("teapots in", "16 to 200"), ("Password12345678", "early")):
            body = {"tenant": "acme", "email": "w@acme.example", "name": "W", "password": password}
            reply = house.operator("POST", "/users", body)
            assert reply.status_code == 400 and why in reply.json()["error"]["message"]


def test_an_old_password_is_changed_before_anything_else(house: Platform) -> None:
    person = house.person("acme", "owner", password=PASSWORD)
    with rules(house, password_days_max=90):
        token = sign_in(house, person.id).json()["token"]
        head = {"authorization": f"Bearer {token}"}
        assert house.client.get("/api/v1/keys", headers=head).status_code == 200
        later(house, users, "password_set_at_s", person.id, 91 * 86_400)
        refused = house.client.get("/api/v1/keys", headers=head)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "password_expired")
        assert house.client.get("/api/v1/me", headers=head).json()["must_change_password"]
        assert change(house, token, PASSWORD, SECOND).is_success
        token = sign_in(house, person.id, SECOND).json()["token"]
        head = {"authorization": f"Bearer {token}"}
        assert house.client.get("/api/v1/keys", headers=head).status_code == 200


def test_a_time_too_short_to_note_is_refused() -> None:
    with pytest.raises(ValueError, match="session_idle_max_s"):
        AccessSettings(session_idle_max_s=60)
