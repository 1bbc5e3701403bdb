"""Invitations: a one-time link, by which somebody comes in who was let in by another."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec
import pytest
from sqlalchemy import text

from tests.security.platform import Caller, Platform, platform
from tokenschain.control.api import invitations as invitations_api
from tokenschain.control.identity import invitations
from tokenschain.infra.config.mail import SmtpSettings

PASSWORD = "correct horse battery"
_numbers = itertools.count()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("invitations")) as made:
        for tenant in ("acme", "beta"):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


def _body(**fields: Any) -> dict[str, Any]:
    email = f"n{next(_numbers)}@acme.example"
    return {"tenant": "acme", "email": email, "name": "Ann", "role": "developer", **fields}


def _invite(boss: Caller, **fields: Any) -> dict[str, Any]:
    made = boss("POST", "/invitations", _body(**fields))
    assert made.status_code == 201, made.text
    found: dict[str, Any] = made.json()
    return found


def _code(made: dict[str, Any]) -> str:
    (code,) = parse_qs(urlsplit(made["link"]).query)["code"]
    return code


def _accept(house: Platform, code: str, **fields: Any) -> httpx.Response:
    body = {"code": code, "name": "Ann B.", "password": PASSWORD, **fields}
    found: httpx.Response = house.client.post("/api/v1/invitations/accept", json=body)
    return found


def _look(house: Platform, code: str) -> httpx.Response:
    found: httpx.Response = house.client.post("/api/v1/invitations/look", json={"code": code})
    return found


def _age(house: Platform, user_id: str, seconds: int) -> None:
    with house.engine.begin() as connection:
        for table, column, whose in (
            ("audit_events", "at_ms = at_ms - :s * 1000", "target"),
            ("tokens", "expires_at_s = expires_at_s - :s", "user_id"),
        ):
            connection.execute(
                text(f"update {table} set {column} where {whose} = :id"),
                {"s": seconds, "id": user_id},
            )


def test_who_is_invited_chooses_a_password_and_has_the_role(house: Platform) -> None:
    boss = house.person("acme", "owner")
    made = _invite(boss)
    code, user_id = _code(made), made["user_id"]
    assert made["mailed"] is False and made["link"].startswith("http")
    listed = boss("GET", f"/users/{user_id}").json()
    assert listed["invited_until_s"] == made["expires_at_s"] and not listed["has_password"]
    (row,) = [u for u in boss("GET", "/users?limit=200").json()["data"] if u["id"] == user_id]
    assert row["invited_until_s"] == made["expires_at_s"]
    seen = _look(house, code).json()
    assert (seen["tenant"], seen["email"], seen["name"]) == ("acme", made["email"], "Ann")
    assert code not in boss("GET", f"/users/{user_id}/tokens").text
    weak = _accept(house, code, password="short")
    assert weak.status_code == 400 and weak.json()["error"]["param"] == "password"
    entered = _accept(house, code)
    assert entered.status_code == 201, entered.text
    me = house.with_token(entered.json()["token"], user_id)
    assert me("GET", "/me").json()["account"]["name"] == "Ann B."
    assert me("GET", "/keys").status_code == 200 and me("GET", "/users").status_code == 403
    login = {"email": made["email"], "password": PASSWORD}
    assert house.client.post("/api/v1/sessions", json=login).status_code == 201
    for again in (_accept(house, code), _look(house, code)):
        assert (again.status_code, again.json()["error"]["code"]) == (401, "invalid_login")
    listed = boss("GET", f"/users/{user_id}").json()
    assert listed["invited_until_s"] is None
    assert listed["email_confirmed_at_s"] is None, "who handed the link over may have used it"
    trail = boss("GET", f"/audit?target={user_id}").json()["data"]
    assert {"invitation", "login"} <= {line["action"] for line in trail}
    assert code not in str(trail)


def test_only_the_hash_of_the_code_is_stored_and_it_is_no_token(house: Platform) -> None:
    made = _invite(house.person("acme", "owner"))
    code = _code(made)
    assert all(code not in str(row) for row in house.rows("select * from tokens"))
    stranger = house.with_token(code, made["user_id"])
    assert stranger("GET", "/me").status_code == 401
    assert stranger("GET", f"/users/{made['user_id']}/tokens").status_code == 401


def test_a_link_ends_by_time_by_another_by_withdrawal_and_when_the_account_is_shut(
    house: Platform,
) -> None:
    boss = house.person("acme", "owner")
    late, again, withdrawn, shut, given = (_invite(boss) for _ in range(5))
    _age(house, late["user_id"], invitations.LASTS_S)
    early = boss("POST", f"/invitations/{again['user_id']}/resend")
    assert early.status_code == 429 and "retry-after" in early.headers
    _age(house, again["user_id"], invitations.AGAIN_AFTER_S)
    second = boss("POST", f"/invitations/{again['user_id']}/resend")
    assert second.status_code == 201, second.text
    path = f"/invitations/{withdrawn['user_id']}"
    assert boss("DELETE", path).status_code == 200 and boss("DELETE", path).status_code == 404
    assert boss("PATCH", f"/users/{shut['user_id']}", {"disabled": True}).status_code == 200
    new = {"password": "a better horse battery"}
    assert boss("PATCH", f"/users/{given['user_id']}", new).status_code == 200
    told = {_accept(house, _code(one)).text for one in (late, again, withdrawn, shut, given)}
    told.add(_accept(house, "tci-nothing-that-was-ever-made-by-us").text)
    assert len(told) == 1, "nothing tells why"
    assert _accept(house, _code(second.json())).status_code == 201
    for one in (again, shut, given):
        _age(house, one["user_id"], invitations.AGAIN_AFTER_S)
        reply = boss("POST", f"/invitations/{one['user_id']}/resend")
        assert reply.status_code == 409, "there is another way in, or none at all"
    late_again = boss("POST", f"/invitations/{late['user_id']}/resend")
    assert late_again.status_code == 201


def test_nobody_invites_to_what_they_lack_or_elsewhere(house: Platform) -> None:
    admin = house.person("acme", "admin")
    for body, status in (
        (_body(role="owner"), 403), (_body(tenant="beta"), 403), (_body(tenant="*"), 403),
        (_body(role="nothing"), 404), (_body(email="a@b.example,c"), 400),
        (_body(email="a,c@b.example"), 400), (_body(email="<a@b.example>"), 400),
    ):  # fmt: skip
        reply = admin("POST", "/invitations", body)
        assert reply.status_code == status, (body, reply.text)
        gone = house.rows(f"select id from users where email = '{body['email']}'")
        assert gone == [], "nobody is left half made"
    taken = _invite(admin)
    assert admin("POST", "/invitations", _body(email=taken["email"].upper())).status_code == 409
    elsewhere = house.person("beta", "owner")
    same = elsewhere("POST", "/invitations", _body(tenant="beta", email=taken["email"]))
    assert same.status_code == 201, "an address tells nothing of another tenant"
    for method, path in (("POST", "/resend"), ("DELETE", "")):
        reply = elsewhere(method, f"/invitations/{taken['user_id']}{path}")
        assert reply.status_code == 404
    assert taken["user_id"] not in elsewhere("GET", "/users?limit=200").text
    owner = _invite(house.person("acme", "owner"), role="owner")
    assert admin("DELETE", f"/invitations/{owner['user_id']}").status_code == 403


def test_a_tenant_sends_so_many_a_day(house: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invitations, "PER_DAY_MAX", 2)
    unit = {"kind": "tenant", "tenant": "gamma", "name": "gamma"}
    assert house.operator("POST", "/organization/units", unit).status_code == 201
    boss = house.person("gamma", "owner")
    first = _invite(boss, tenant="gamma")
    _invite(boss, tenant="gamma")
    assert boss("POST", "/invitations", _body(tenant="gamma")).status_code == 429
    _age(house, first["user_id"], 86_400)
    _invite(boss, tenant="gamma")


def test_a_mailbox_gets_so_many_a_day_from_all_tenants(
    house: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invitations, "PER_MAILBOX_PER_DAY_MAX", 2)
    bosses = {tenant: house.person(tenant, "owner") for tenant in ("acme", "beta")}
    first = _invite(bosses["acme"], email="victim@post.example")
    _invite(bosses["beta"], tenant="beta", email="victim+b@post.example")
    more = _body(tenant="beta", email="victim+c@post.example")
    refused = bosses["beta"]("POST", "/invitations", more)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    _invite(bosses["beta"], tenant="beta", email="victim2@post.example")
    _age(house, first["user_id"], 86_400)
    _invite(bosses["beta"], tenant="beta", email="victim+c@post.example")


@pytest.mark.parametrize(
    ("by", "named"),
    [("ann.li+x@acme.example", True), ("www.evil.example/you-won?id=7#go@evil.example", False)],
)
def test_a_letter_names_no_inviter_that_reads_like_a_link(by: str, named: bool) -> None:
    row = {"email": "b@post.example", "tenant": "acme"}
    assert (by in invitations_api._letter(row, by, "https://ai.example/x").text) is named


def test_with_a_mail_server_the_link_goes_to_the_address_alone(house: Platform) -> None:
    context = house.app.state.context
    settings = msgspec.structs.replace(context.settings, smtp=SmtpSettings(host="mail.example"))
    house.app.state.context = context._replace(settings=settings)
    try:
        made = _invite(house.person("acme", "owner"), name="<b>https://evil.example</b>")
    finally:
        house.app.state.context = context
    assert made["mailed"] is True and made["link"] is None
    (row,) = house.rows("select id, sealed from mails")
    assert made["email"].encode() not in row[1], "sealed"


def test_strangers_ask_so_often_a_minute(house: Platform) -> None:
    codes = [f"tci-guess-number-{n:020}" for n in range(200)]
    statuses = [_look(house, code).status_code for code in codes]
    assert set(statuses) == {401, 429}
