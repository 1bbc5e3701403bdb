"""Account take-over: single sign-on, guessing, second factors, tokens of programs."""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from tests.security.platform import Caller, Platform, platform
from tokenschain.control.api import sessions
from tokenschain.control.api.sessions import SignIns
from tokenschain.control.identity import login_throttle, oidc
from tokenschain.control.identity.oidc import Entrance, OidcClient, Person
from tokenschain.control.observability.alerts import words
from tokenschain.core.errors import ApiError
from tokenschain.infra.security import passwords

PASSWORD = "correct horse battery"
WRONG = "wrong wrong wrong"
ROLES = {"boss": "owner@*", "acme": "viewer@acme", "beta": "viewer@beta", "odd": "no-such@acme"}
ISSUER = "https://login.example"
_numbers = itertools.count()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    database = None
    if request.param == "postgresql":
        database = str(request.getfixturevalue("postgres").database())
    with platform(tmp_path_factory.mktemp("sign_in"), database=database) as made:
        for tenant in ("acme", "beta"):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


def enter(house: Platform, subject: str, email: str, *groups: str, **more: Any) -> Entrance:
    with house.engine.begin() as connection:
        person = Person(more.pop("issuer", ISSUER), subject, email, "P", groups, **more)
        return oidc.enter(connection, person, ROLES)


def entered(house: Platform, subject: str, email: str, *groups: str) -> str:
    found = enter(house, subject, email, *groups)
    assert found.user_id is not None, found.refusal
    return found.user_id


def email_of(house: Platform, user_id: str) -> str:
    return str(house.rows(f"select email from users where id = '{user_id}'")[0][0])


def member(house: Platform, **more: Any) -> str:
    """The address of somebody of a tenant with a password."""
    return email_of(house, house.person("acme", "viewer", password=PASSWORD, **more).id)


def sign_in(house: Platform, email: str, password: str, **more: Any) -> httpx.Response:
    body = {"email": email, "password": password, **more}
    reply: httpx.Response = house.client.post("/api/v1/sessions", json=body)
    return reply


def count(house: Platform, where: str) -> int:
    return int(house.rows(f"select count(*) from audit_events where {where}")[0][0])


@pytest.fixture(autouse=True)
def _forget(house: Platform) -> None:
    """All tests try from one address."""
    with house.engine.begin() as connection:
        connection.execute(text("delete from login_failures"))


# --- single sign-on -------------------------------------------------------------------------


def test_an_account_that_a_tenant_made_beforehand_is_not_joined(house: Platform) -> None:
    body = {"tenant": "acme", "email": "boss@corp.example", "name": "B", "password": PASSWORD}
    made = house.person("acme", "owner")("POST", "/users", body)
    assert made.status_code == 201
    user_id = made.json()["id"]
    assert entered(house, "the-boss", "boss@corp.example", "boss") != user_id
    assert not house.rows(f"select * from bindings where user_id = '{user_id}'")
    assert house.rows(f"select oidc_subject from users where id = '{user_id}'") == [(None,)]


@pytest.mark.parametrize("kind", ["password", "service", "role", "factor", "disabled"])
def test_a_local_account_is_not_joined_by_its_address(house: Platform, kind: str) -> None:
    person = house.person(
        "acme",
        "owner" if kind == "role" else None,
        kind="service" if kind == "service" else "user",
        password=PASSWORD if kind == "password" else None,
    )
    if kind == "factor":
        with house.engine.begin() as connection:
            connection.execute(text("update users set totp_sealed = :s where id = :i"),
                               {"s": b"x", "i": person.id})  # fmt: skip
    if kind == "disabled":
        assert house.operator("PATCH", f"/users/{person.id}", {"disabled": True}).is_success
    found = enter(house, f"mallory-{kind}", email_of(house, person.id), "acme")
    assert found == Entrance(None, "Your address belongs to another account here; ask an "
                                   "administrator.")  # fmt: skip


def test_an_account_that_waits_for_somebody_is_joined_if_the_address_is_verified(
    house: Platform,
) -> None:
    waiting = house.person("acme", None)
    email = email_of(house, waiting.id)
    assert enter(house, "w", email, "acme", email_verified=False).user_id is None
    assert entered(house, "w", email, "acme") == waiting.id
    assert enter(house, "w2", email, "acme").user_id is None, "it waits for nobody else"


def test_people_are_known_by_issuer_and_subject_whatever_their_address(house: Platform) -> None:
    first = entered(house, "ann", "ann@corp.example", "acme")
    assert entered(house, "ann", "ann@renamed.example", "acme") == first
    assert enter(house, "another-ann", "ann@corp.example", "acme").user_id is None
    other = enter(house, "ann", "ann@elsewhere.example", "acme", issuer="https://other.example")
    assert other.user_id not in (None, first)


def test_nobody_gives_a_password_to_who_comes_by_single_sign_on(house: Platform) -> None:
    user_id = entered(house, "carl", "carl@corp.example", "acme")
    reply = house.person("acme", "owner")("PATCH", f"/users/{user_id}", {"password": PASSWORD})
    assert reply.status_code == 409
    assert entered(house, "carl", "carl@corp.example", "boss") == user_id
    assert house.rows(f"select tenant, password_hash from users where id = '{user_id}'") == [
        ("*", None)
    ]


def test_who_changes_tenants_leaves_its_roles_behind(house: Platform) -> None:
    user_id = entered(house, "dora", "dora@corp.example", "acme")
    bound = {"role": "admin", "tenant": "acme"}
    assert house.operator("POST", f"/users/{user_id}/bindings", bound).status_code == 201
    entered(house, "dora", "dora@corp.example", "beta")
    assert house.rows(f"select tenant from bindings where user_id = '{user_id}'") == [("beta",)]


def test_groups_give_what_the_settings_say_and_no_more(house: Platform) -> None:
    user_id = entered(house, "fred", "fred@corp.example", "acme", "acme", "root", "owner@*")
    bound = f"select role, tenant from bindings where user_id = '{user_id}'"
    assert house.rows(bound) == [("viewer", "acme")]
    assert "no role `no-such`" in enter(house, "fred", "fred@corp.example", "acme", "odd").refusal
    assert house.rows(bound) == []
    entered(house, "fred", "fred@corp.example", "acme")
    assert "no role here" in enter(house, "fred", "fred@corp.example", "gone").refusal
    assert house.rows(bound) == [], "whom its groups give nothing keeps nothing of them"


AGREED = OidcClient(ISSUER, "tokenschain", lambda: None, "", "groups")
CLAIMS = {"sub": "s", "email": "A@b.example", "email_verified": True, "aud": "tokenschain"}


@pytest.mark.parametrize(
    "change",
    [
        {"sub": ""},
        {"sub": 7},
        {"sub": "s\x00"},
        {"sub": "s" * 256},
        {"email": "nobody"},
        {"email": "a@b@c"},
        {"email": ["a@b.example"]},
        {"email": "a" * 200 + "@b.example"},
        {"aud": ["tokenschain", "other"]},
        {"azp": "other"},
    ],
)
def test_claims_that_vouch_for_nobody_are_refused(change: dict[str, Any]) -> None:
    assert oidc.person_of(CLAIMS, AGREED).email == "a@b.example"
    with pytest.raises(ApiError) as refused:
        oidc.person_of(CLAIMS | change, AGREED)
    assert refused.value.code == "invalid_login"


@pytest.mark.parametrize("said", [None, False, "true", "false", 1, ["true"]])
def test_an_address_that_the_provider_does_not_vouch_for_is_refused(
    house: Platform, said: object
) -> None:
    person = oidc.person_of(CLAIMS | {"sub": f"s{said}", "email_verified": said}, AGREED)
    person = person._replace(groups=("acme",))
    with house.engine.begin() as connection:
        found = oidc.enter(connection, person, ROLES)
        assert (found.user_id, found.code) == (
            None,
            "invalid_login",
        ) and "verified" in found.refusal
        lax = oidc.enter(connection, person._replace(email=f"{said!r}@b.example".replace(" ", "")),
                         ROLES, email_verified_required=False)  # fmt: skip
        assert lax.user_id is not None, lax.refusal


# --- guessing -------------------------------------------------------------------------------


def test_guesses_at_known_and_unknown_accounts_are_answered_the_same(house: Platform) -> None:
    single = email_of(house, entered(house, "gil", "gil@corp.example", "acme"))
    service = email_of(house, house.person("acme", "viewer", kind="service").id)
    disabled = house.person("acme", "viewer", password=PASSWORD)
    house.operator("PATCH", f"/users/{disabled.id}", {"disabled": True})
    answers = {
        email: [(reply.status_code, reply.json()["error"]["message"]) for reply in tries]
        for email in (member(house), "nobody@nowhere.example", single, service,
                      email_of(house, disabled.id))
        for tries in [[sign_in(house, email, WRONG) for _ in range(7)]]
    }  # fmt: skip
    known, *others = answers.values()
    assert [status for status, _ in known] == [401] * login_throttle.FREE_TRIES + [429] * 2
    assert all(other == known for other in others), answers


def test_an_unknown_user_takes_as_long_as_a_known_one(
    house: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[str] = []
    real = passwords.password_matches

    def matches(stored: str, password: str) -> bool:
        compared.append(stored.split("$")[3])  # the parameters decide how long it takes
        return real(stored, password)

    monkeypatch.setattr(passwords, "password_matches", matches)
    for email in (member(house), "nobody@nowhere.example"):
        assert sign_in(house, email, WRONG).status_code == 401
    assert len(compared) == 2 and len(set(compared)) == 1


def test_guesses_from_elsewhere_do_not_shut_the_user_out(house: Platform) -> None:
    email, now_s = member(house), int(time.time())
    for _ in range(login_throttle.FREE_TRIES):
        with house.engine.begin() as connection:
            login_throttle.begin(connection, email, "203.0.113.9", now_s)
    with house.engine.begin() as connection, pytest.raises(ApiError, match="Too many"):
        login_throttle.begin(connection, email, "203.0.113.9", now_s)
    assert sign_in(house, email, PASSWORD).status_code == 201


def test_guesses_side_by_side_are_each_counted(house: Platform) -> None:
    email = member(house)

    def guess(_: int) -> int | None:
        try:
            with house.engine.begin() as connection:
                login_throttle.begin(connection, email, "203.0.113.9", int(time.time()))
        except ApiError as error:
            return error.status
        return None

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(guess, range(24)))
        replies = list(pool.map(lambda _: sign_in(house, email, WRONG).status_code, range(12)))
    assert found.count(None) == login_throttle.FREE_TRIES and found.count(429) == 19
    assert (replies.count(401), replies.count(429)) == (login_throttle.FREE_TRIES, 7)


def test_right_sign_ins_side_by_side_are_all_let_in(house: Platform) -> None:
    email = member(house)
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: sign_in(house, email, PASSWORD).status_code, range(12)))
    assert set(replies) == {201}


def test_one_address_does_not_guess_at_everybody(house: Platform) -> None:
    now_s = int(time.time())
    place = login_throttle.place_of("2001:db8::1")
    with house.engine.begin() as connection:
        for number in range(login_throttle.ADDRESS_TRIES_MAX):
            login_throttle.begin(connection, f"n{number}@x.example", place, now_s)
            login_throttle.fail(connection, place, now_s)
        elsewhere = login_throttle.place_of("2001:db8::ffff")
        with pytest.raises(ApiError, match="Too many"):
            login_throttle.begin(connection, "another@x.example", elsewhere, now_s)
        login_throttle.begin(connection, "another@x.example", "203.0.113.7", now_s)
        later_s = now_s + login_throttle.FORGET_S
        login_throttle.begin(connection, "another@x.example", place, later_s)
        assert login_throttle.fail(connection, place, later_s) == 1, "it begins anew"
        login_throttle.sweep(connection, later_s + login_throttle.FORGET_S)
        assert connection.execute(text("select count(*) from login_failures")).scalar() == 0


def test_one_address_does_not_fill_the_queue() -> None:
    async def crowd() -> list[object]:
        sign_ins = SignIns()
        go_on = threading.Event()
        full = [
            asyncio.create_task(sign_ins.run("here", go_on.wait))
            for _ in range(sessions.AT_ONCE_MAX + sessions.WAITING_OF_PLACE_MAX + 1)
        ]
        await asyncio.sleep(0)
        other = asyncio.create_task(sign_ins.run("there", lambda: True))
        await asyncio.sleep(0)
        go_on.set()
        return await asyncio.gather(other, *full, return_exceptions=True)

    other, *full = asyncio.run(crowd())
    assert other is True
    refused = [found for found in full if isinstance(found, ApiError)]
    assert [error.code for error in refused] == ["overloaded"]


def test_strangers_do_not_fill_the_audit_log(house: Platform) -> None:
    before = count(house, "action = 'login:failed'")
    for number in range(20):
        assert sign_in(house, f"n{number}@stranger.example", WRONG).status_code == 401
    assert count(house, "action = 'login:failed'") - before == 5, "the 1st, 2nd, 4th, 8th, 16th"
    latest = "select detail from audit_events where action = 'login:failed' order by at_ms desc, id"
    assert '"failures":16' in "".join(row[0] for row in house.rows(latest)[:5])


def test_a_right_sign_in_forgets_the_wrong_ones(house: Platform) -> None:
    email = member(house)
    for _ in range(2):
        assert [sign_in(house, email, WRONG).status_code for _ in range(4)] == [401] * 4
        assert sign_in(house, email, PASSWORD).status_code == 201


def test_an_account_with_the_same_address_elsewhere_helps_nobody_to_guess(house: Platform) -> None:
    victim = house.person("acme", "viewer", password=PASSWORD)
    email = email_of(house, victim.id)
    _, secret = confirm(victim, password=PASSWORD)
    body = {"tenant": "beta", "email": email, "name": "M", "password": "mallory's own password"}
    made = house.person("beta", "owner")("POST", "/users", body)
    assert made.status_code == 201
    mallory = house.signed_in(made.json()["id"])
    _, own = confirm(mallory, password=body["password"])

    def as_mallory(code: str) -> int:
        return sign_in(house, email, body["password"], tenant="beta", code=code).status_code

    guesses = []
    for _ in range(3):
        guesses += [sign_in(house, email, WRONG, tenant="acme").status_code for _ in range(2)]
        guesses += [sign_in(house, email, WRONG).status_code for _ in range(2)]
        as_mallory(code_of(own, 1))
    assert guesses.count(401) == 2 * login_throttle.FREE_TRIES and guesses[-1] == 429
    with house.engine.begin() as connection:
        connection.execute(text("delete from login_failures where address <> ''"))
    for _ in range(login_throttle.FREE_TRIES - 1):
        as_mallory("000000")
    assert as_mallory("000000") == 401
    right = sign_in(house, email, PASSWORD, tenant="acme", code=code_of(secret, 1))
    assert right.status_code == 201, "wrong codes of another account do not shut out this one"


# --- addresses ------------------------------------------------------------------------------


def test_a_tenant_does_not_learn_who_there_is_in_another(house: Platform) -> None:
    owner = house.person("acme", "owner")
    victim = house.person("beta", "viewer", password=PASSWORD).id
    with house.engine.begin() as connection:
        connection.execute(text("update users set created_at_s = 1 where id = :i"), {"i": victim})
    there = email_of(house, victim)
    body = {"tenant": "acme", "name": "N", "password": "another good password"}
    for email in (there, "free@nowhere.example"):
        reply = owner("POST", "/users", body | {"email": email})
        assert reply.status_code == 201
        assert owner("POST", "/users", body | {"email": email}).status_code == 409
        change = f"/users/{reply.json()['id']}", {"email": f"new.{email}"}
        assert owner("PATCH", *change).status_code == 403, "or it would sign in before the other"
        assert house.operator("PATCH", *change).json()["email"] == f"new.{email}"
        change = change[0], {"email": email}
        assert house.operator("PATCH", *change).status_code == 200
    assert sign_in(house, there, PASSWORD).status_code == 201, "the first with the address"
    assert sign_in(house, there, PASSWORD, tenant="acme").status_code == 401
    assert sign_in(house, there, "another good password", tenant="acme").status_code == 201


def test_an_unknown_token_and_anothers_are_answered_the_same(house: Platform) -> None:
    theirs = house.person("beta", "owner")
    token = theirs("GET", f"/users/{theirs.id}/tokens").json()["data"][0]["id"]
    owner = house.person("acme", "owner")
    answers = [owner("DELETE", f"/tokens/{name}") for name in (token, "tok_none")]
    assert answers[0].status_code == answers[1].status_code == 404
    assert answers[0].text == answers[1].text


# --- the second factor ----------------------------------------------------------------------


def confirm(user: Any, **more: Any) -> tuple[int, str]:
    secret = user("POST", "/me/totp").json().get("secret", "A" * 32)
    body = {"secret": secret, "code": code_of(secret)} | more
    return user("POST", "/me/totp/confirm", body).status_code, secret


def code_of(secret: str, steps: int = 0) -> str:
    return passwords.totp_code(secret, int(time.time() // 30) + steps)


def test_a_second_factor_is_put_in_force_with_the_password_and_replaced_with_a_code(
    house: Platform,
) -> None:
    user = house.person("acme", "viewer", password=PASSWORD)
    assert confirm(user)[0] == 400
    assert confirm(user, password=WRONG)[0] == 401
    assert confirm(user, old_code="123456")[0] == 400, "there is no old one"
    status, secret = confirm(user, password=PASSWORD)
    assert status == 200
    assert confirm(user, password=PASSWORD, old_code=passwords.totp_code(secret, 1))[0] == 401
    assert confirm(user, old_code=code_of(secret))[0] == 400, "the code alone"
    status, other = confirm(user, password=PASSWORD, old_code=code_of(secret, 1))
    assert status == 200
    assert confirm(user, password=PASSWORD, old_code=code_of(secret))[0] == 401, "of the one before"
    assert sign_in(house, email_of(house, user.id), PASSWORD, code=code_of(other, 1)).is_success


def test_the_password_alone_replaces_no_second_factor(house: Platform) -> None:
    owner, secret, codes = with_totp(house, "acme", "owner")
    lost, _, _ = with_totp(house, "acme", "viewer")
    status, other = confirm(owner, password=PASSWORD)
    assert status == 400
    for more in ({"old_code": code_of(other)}, {"recovery_code": "aaaa-bbbb-cccc-dddd"}):
        assert confirm(owner, password=PASSWORD, **more)[0] == 401, more
    proof = {"password": PASSWORD, "code": code_of(other)}
    assert owner("POST", f"/users/{lost.id}/totp/reset", proof).status_code == 401
    assert confirm(owner, password=WRONG, old_code=code_of(secret))[0] == 401
    assert confirm(owner, password=PASSWORD, recovery_code=codes[0])[0] == 200


def test_a_session_is_no_way_to_guess_its_password(house: Platform) -> None:
    user = house.person("acme", "viewer", password=PASSWORD)
    change = {"old": WRONG, "new": "a better password"}
    tries = [user("POST", "/me/password", change).status_code for _ in range(4)]
    tries += [confirm(user, password=WRONG)[0] for _ in range(3)]
    assert tries == [401] * 5 + [429] * 2
    assert user("POST", "/me/password", change | {"old": PASSWORD}).status_code == 429


def test_codes_are_guessed_at_slowly_from_however_many_addresses(house: Platform) -> None:
    user = house.person("acme", "viewer", password=PASSWORD)
    email = email_of(house, user.id)
    _, secret = confirm(user, password=PASSWORD)
    with house.engine.begin() as connection:
        for _ in range(login_throttle.FREE_TRIES):
            assert login_throttle.may_try_code(connection, user.id, int(time.time()))
    late = sign_in(house, email, PASSWORD, code=code_of(secret, 1))
    assert late.status_code == 401, "the same answer: it does not tell that the password was right"


def test_a_programs_token_does_not_change_what_its_user_enters_with(house: Platform) -> None:
    user = house.person("acme", "owner", password=PASSWORD, token_kind="api")
    assert user("POST", "/me/totp").status_code == 403
    assert confirm(user, password=PASSWORD)[0] == 403
    change = {"old": PASSWORD, "new": "a better password"}
    assert user("POST", "/me/password", change).status_code == 403


def test_the_token_that_lets_in_is_the_one_that_signs_out_and_shows_proof(house: Platform) -> None:
    """However it is written: whoever signs out is out."""
    person = house.person("acme", "owner", password=PASSWORD, stepped_up=False)
    spaced = {"authorization": f"Bearer  {person.token}"}
    proof = {"password": PASSWORD}
    assert house.client.post("/api/v1/me/step-up", json=proof, headers=spaced).is_success
    assert person("POST", f"/users/{person.id}/tokens", {}).status_code == 201
    assert house.client.delete("/api/v1/sessions", headers=spaced).is_success
    assert person("GET", "/me").status_code == 401


def test_a_session_alone_does_not_change_its_users_password(house: Platform) -> None:
    owner = house.person("acme", "owner", password=PASSWORD)
    assert owner("PATCH", f"/users/{owner.id}", {"password": WRONG}).status_code == 403


def test_who_comes_by_single_sign_on_has_the_providers_second_factor(house: Platform) -> None:
    user = house.signed_in(entered(house, "hana", "hana@corp.example", "acme"))
    assert user("POST", "/me/totp").status_code == 409
    assert user("POST", "/me/password", {"old": WRONG, "new": PASSWORD}).status_code == 409


def test_a_code_of_other_digits_is_a_wrong_request(house: Platform) -> None:
    for code in ("١٢٣٤٥٦", "１２３４５６", "12345", "123456\n", "é" * 6):
        assert sign_in(house, member(house), PASSWORD, code=code).status_code == 400, code
    assert passwords.totp_step("A" * 32, "١٢٣٤٥٦", time.time()) is None


# --- tokens of programs ---------------------------------------------------------------------


def test_a_token_may_what_was_asked_for_and_its_user_may(house: Platform) -> None:
    owner = house.person("acme", "owner")
    made = owner("POST", f"/users/{owner.id}/tokens", {"name": "none"}).json()
    assert made["permissions"] == []
    none = house.with_token(made["token"], owner.id)
    assert none("GET", "/me").json()["bindings"][0]["permissions"] == []
    assert none("GET", "/keys").status_code == 403
    assert none("GET", f"/users/{owner.id}/tokens").status_code == 404
    asked = {"name": "some", "permissions": ["keys:read", "*:read", "billing:write"]}
    made = owner("POST", f"/users/{owner.id}/tokens", asked).json()
    some = house.with_token(made["token"], owner.id)
    assert some("GET", "/keys").status_code == 200
    assert some("POST", "/keys", {"tenant": "acme"}).status_code == 403
    shown = owner("GET", f"/users/{owner.id}/tokens").json()["data"]
    assert sorted(asked["permissions"]) in [token["permissions"] for token in shown]
    viewer = house.person("acme", "viewer")
    asked = {"permissions": ["*"]}
    made = viewer("POST", f"/users/{viewer.id}/tokens", asked).json()
    assert house.with_token(made["token"], viewer.id)("POST", "/keys", {}).status_code == 403
    for wrong in (["keys"], ["fly:high"], ["*:write"], [""]):
        reply = owner("POST", f"/users/{owner.id}/tokens", {"permissions": wrong})
        assert reply.status_code == 400, wrong


def test_a_token_makes_no_token_that_may_more(house: Platform) -> None:
    owner = house.person("acme", "owner")
    asked = {"permissions": ["users:*", "keys:read"]}
    made = owner("POST", f"/users/{owner.id}/tokens", asked).json()
    program = house.with_token(made["token"], owner.id)
    everything = {"permissions": ["*"]}
    assert program("POST", f"/users/{owner.id}/tokens", everything).status_code == 403
    admin = house.person("acme", "admin", kind="service")
    assert program("POST", f"/users/{admin.id}/tokens", everything).status_code == 403
    bound = {"role": "developer", "tenant": "acme"}
    assert program("POST", f"/users/{admin.id}/bindings", bound).status_code == 403
    assert program("PATCH", f"/users/{admin.id}", {"disabled": True}).status_code == 403
    assert program("DELETE", "/sessions").status_code == 200, "it may end itself"
    assert program("GET", "/me").status_code == 401


# --- owners ---------------------------------------------------------------------------------


def binding_of(house: Platform, user_id: str) -> str:
    return str(house.rows(f"select id from bindings where user_id = '{user_id}'")[0][0])


def test_an_admin_does_not_remove_or_demote_an_owner(house: Platform) -> None:
    owner, admin = house.person("acme", "owner"), house.person("acme", "admin")
    assert admin("DELETE", f"/bindings/{binding_of(house, owner.id)}").status_code == 403
    for change in ({"disabled": True}, {"password": PASSWORD}, {"email": "x@y.example"},
                   {"name": "N"}):  # fmt: skip
        assert admin("PATCH", f"/users/{owner.id}", change).status_code == 403, change
    token = owner("GET", f"/users/{owner.id}/tokens").json()["data"][0]["id"]
    assert admin("DELETE", f"/tokens/{token}").status_code == 403
    assert admin("PUT", "/roles/acme/owner", {"permissions": []}).status_code == 409
    assert owner("GET", "/me").status_code == 200


def test_the_last_owner_of_a_tenant_stays(house: Platform) -> None:
    tenant = f"t{next(_numbers)}"
    unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
    assert house.operator("POST", "/organization/units", unit).status_code == 201
    first, second = house.person(tenant, "owner"), house.person(tenant, "owner")
    part = house.person(tenant, "owner", project="p1")
    gone = house.person(tenant, "owner")
    assert first("PATCH", f"/users/{gone.id}", {"disabled": True}).status_code == 200
    assert first("PATCH", f"/users/{second.id}", {"disabled": True}).status_code == 200
    mine = f"/bindings/{binding_of(house, first.id)}"
    for reply in (first("DELETE", mine), first("PATCH", f"/users/{first.id}", {"disabled": True})):
        assert reply.status_code == 409 and "last owner" in reply.json()["error"]["message"]
    assert first("DELETE", f"/bindings/{binding_of(house, part.id)}").status_code == 200
    assert first("PATCH", f"/users/{second.id}", {"disabled": False}).status_code == 200
    assert first("DELETE", mine).status_code == 200
    platform_admin = house.operator("PATCH", f"/users/{second.id}", {"disabled": True})
    assert platform_admin.status_code == 200, "the platform shuts out whom it must"


def test_owners_who_remove_each_other_at_the_same_time_leave_one(house: Platform) -> None:
    tenant = f"t{next(_numbers)}"
    unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
    assert house.operator("POST", "/organization/units", unit).status_code == 201
    owners = [house.person(tenant, "owner") for _ in range(4)]
    pairs = [(owners[n], owners[(n + 1) % 4]) for n in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pair: pair[0]("PATCH", f"/users/{pair[1].id}", {"disabled": True}),
                      pairs))  # fmt: skip
    left = f"select count(*) from users where tenant = '{tenant}' and disabled_at_s is null"
    assert house.rows(left)[0][0] >= 1


# --- a second factor that is lost -----------------------------------------------------------


def with_totp(house: Platform, tenant: str, role: str | None) -> tuple[Caller, str, list[str]]:
    """Somebody with a second factor: its secret and its recovery codes."""
    person = house.person(tenant, role, password=PASSWORD)
    secret = person("POST", "/me/totp").json()["secret"]
    body = {"secret": secret, "code": code_of(secret), "password": PASSWORD}
    confirmed = person("POST", "/me/totp/confirm", body)
    assert confirmed.status_code == 200
    return person, secret, confirmed.json()["recovery_codes"]


def long_trusted(house: Platform, person: Caller) -> None:
    """Let somebody's roles and second factor be some days old."""
    long_ago = int(time.time()) - 3 * 86_400
    with house.engine.begin() as connection:
        for statement in ("update bindings set created_at_s = :s where user_id = :i",
                          "update users set totp_since_s = :s where id = :i"):  # fmt: skip
            connection.execute(text(statement), {"s": long_ago, "i": person.id})


def test_a_recovery_code_lets_in_once_and_is_nowhere_to_read(house: Platform) -> None:
    person, _, codes = with_totp(house, "acme", "viewer")
    email = email_of(house, person.id)
    assert len(set(codes)) == 10 and all(len(code) == 19 for code in codes)
    stored = str(house.rows("select code_hash, user_id from recovery_codes"))
    assert not any(code in stored or code.replace("-", "") in stored for code in codes)
    assert sign_in(house, email, PASSWORD).status_code == 401
    assert sign_in(house, email, WRONG, recovery_code=codes[0]).status_code == 401
    assert sign_in(house, email, PASSWORD, recovery_code=codes[0].upper()).status_code == 201
    assert sign_in(house, email, PASSWORD, recovery_code=codes[0]).status_code == 401
    assert sign_in(house, email, PASSWORD, recovery_code=codes[1].replace("-", "")).is_success
    other, _, others = with_totp(house, "acme", "viewer")
    assert sign_in(house, email, PASSWORD, recovery_code=others[0]).status_code == 401
    # Another second factor brings other codes.
    secret = other("POST", "/me/totp").json()["secret"]
    body = {"secret": secret, "code": code_of(secret), "password": PASSWORD,
            "recovery_code": others[0]}  # fmt: skip
    assert other("POST", "/me/totp/confirm", body).status_code == 200
    reply = sign_in(house, email_of(house, other.id), PASSWORD, recovery_code=others[1])
    assert reply.status_code == 401


def test_one_recovery_code_used_by_many_at_once_lets_in_one(house: Platform) -> None:
    person, _, codes = with_totp(house, "acme", "viewer")
    email = email_of(house, person.id)
    with ThreadPoolExecutor(4) as pool:
        replies = list(
            pool.map(lambda _: sign_in(house, email, PASSWORD, recovery_code=codes[0]), range(4))
        )
    assert sorted(reply.status_code for reply in replies).count(201) == 1


def test_recovery_codes_are_not_guessed(house: Platform) -> None:
    person, _, codes = with_totp(house, "acme", "viewer")
    email = email_of(house, person.id)
    for _ in range(login_throttle.FREE_TRIES + 1):
        assert not sign_in(house, email, PASSWORD, recovery_code="aaaa-bbbb-cccc-dddd").is_success
        with house.engine.begin() as connection:  # each try comes from another address
            others = text("delete from login_failures where address <> :anywhere")
            connection.execute(others, {"anywhere": login_throttle.ANYWHERE})
    assert not sign_in(house, email, PASSWORD, recovery_code=codes[0]).is_success
    assert house.rows(f"select count(*) from recovery_codes where user_id = '{person.id}'") == [
        (10,)
    ]


def test_a_lost_second_factor_is_taken_away_by_an_owner_who_signs_in_again(
    house: Platform,
) -> None:
    lost, _, codes = with_totp(house, "acme", "viewer")
    email, path = email_of(house, lost.id), f"/users/{lost.id}/totp/reset"
    owner, secret, _ = with_totp(house, "acme", "owner")
    long_trusted(house, owner)
    proof = {"password": PASSWORD, "code": code_of(secret, 1)}
    admin = house.person("acme", "admin", password=PASSWORD)
    assert admin("POST", path, {"password": PASSWORD}).status_code == 403
    stranger = house.person("beta", "owner", password=PASSWORD)
    assert stranger("POST", path, {"password": PASSWORD}).status_code == 404
    assert owner("POST", path, {}).status_code == 400
    assert owner("POST", path, {"password": PASSWORD}).status_code == 401, "its own second factor"
    assert owner("POST", path, proof | {"password": WRONG}).status_code == 401
    program = house.person("acme", "owner", password=PASSWORD, token_kind="api")
    assert program("POST", path, {"password": PASSWORD}).status_code == 403
    assert lost("GET", "/me").status_code == 200
    assert owner("POST", f"/users/{owner.id}/totp/reset", proof).status_code == 403, "its own"

    done = owner("POST", path, proof)
    assert (done.status_code, done.json()["has_totp"]) == (200, False), done.text
    assert lost("GET", "/me").status_code == 401, "sessions end"
    assert sign_in(house, email, PASSWORD, recovery_code=codes[0]).status_code == 201
    assert house.rows(f"select count(*) from recovery_codes where user_id = '{lost.id}'") == [(0,)]
    assert count(house, f"action = 'factors:reset' and target = '{lost.id}'") == 1
    ((tenant, detail),) = house.rows(
        f"select tenant, detail from alerts where kind = 'second_factor_reset' "
        f"and detail like '%{lost.id}%'"
    )
    assert tenant == "acme" and owner.id in detail and email in detail
    assert owner.id in words("second_factor_reset", tenant, json.loads(detail))[1]
    assert house.operator("POST", path, {}).status_code == 409, "there is none any more"


def test_who_has_less_takes_no_second_factor_away(house: Platform) -> None:
    """A help desk's role does not reach its owner's account, nor a tenant's the platform's."""
    boss, _, _ = with_totp(house, "acme", "owner")
    desk = {"permissions": ["factors:reset", "users:read"]}
    assert house.operator("PUT", "/roles/acme/help-desk", desk).status_code == 200
    helper, _, codes = with_totp(house, "acme", "help-desk")
    long_trusted(house, helper)

    def reset(user: Caller) -> int:
        proof = {"password": PASSWORD, "recovery_code": codes.pop()}
        return helper("POST", f"/users/{user.id}/totp/reset", proof).status_code

    assert reset(boss) == 403
    nobody, _, _ = with_totp(house, "acme", None)
    assert reset(nobody) == 200
    platform_user, _, _ = with_totp(house, "*", "viewer")
    path = f"/users/{platform_user.id}/totp/reset"
    assert boss("POST", path, {"password": PASSWORD}).status_code == 404
    assert house.operator("POST", f"/users/{boss.id}/totp/reset", {}).status_code == 200
