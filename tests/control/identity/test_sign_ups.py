"""Signing up: a tenant of one's own once the address is confirmed, and not before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from email import message_from_bytes
from typing import Any

import httpx
import msgspec
import pytest
from aiosmtpd.controller import Controller

from tests import web
from tests.control.observability.test_alerts import Mailbox
from tests.ports import free_port
from tests.records import record
from tests.security.platform import Platform, platform
from tests.waiting import until
from tokenschain.control.billing import grants
from tokenschain.control.identity import sign_ups
from tokenschain.control.mails import Letter
from tokenschain.core import call_record
from tokenschain.infra.config.mail import SmtpSettings
from tokenschain.infra.config.sign_in import SignUpSettings
from tokenschain.infra.security.suite import Place, Sealable

PASSWORD = "correct horse battery"
TERMS = "https://ai.example/terms-2"
YUAN = 10**12
SETTINGS = SignUpSettings(
    enabled=True, terms_url=TERMS, credit=Decimal(5), credit_days=10, per_day_max=10_000,
    per_network_per_day_max=10_000, domains_refused=("trash.example",),
)  # fmt: skip
_numbers = itertools.count()


@contextmanager
def signing_up(made: Platform, **changes: Any) -> Iterator[None]:
    """The settings in force, changed for a while."""
    before = made.app.state.context
    settings = msgspec.structs.replace(
        before.settings, smtp=SmtpSettings(host="mail.example"),
        sign_up=msgspec.structs.replace(SETTINGS, **changes),
    )  # fmt: skip
    made.app.state.context = before._replace(settings=settings)
    try:
        yield
    finally:
        made.app.state.context = before


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("sign-ups")) as made, signing_up(made):
        yield made


@pytest.fixture(autouse=True)
def _patient(house: Platform) -> None:
    house.app.state.open_rates._empty_at.clear()


def _email() -> str:
    return f"new{next(_numbers)}@startup.example"


def _ask(house: Platform, email: str, **fields: Any) -> httpx.Response:
    body = {"email": email, "password": PASSWORD, "organization": "Startup Ltd",
            "accepted_terms": True, **fields}  # fmt: skip
    found: httpx.Response = house.client.post("/api/v1/sign-ups", json=body)
    return found


def letters(house: Platform) -> list[Letter]:
    """The mails that wait, the oldest first."""
    sealer = house.app.state.context.sealer
    rows = house.rows("select id, sealed from mails order by rowid")
    return [
        msgspec.json.decode(sealer.unseal(Place(Sealable.MAIL, "", one), sealed), type=Letter)
        for one, sealed in rows
    ]


def code_of(letter: Letter) -> str:
    return letter.text.partition("?code=")[2].split()[0]


def _confirm(house: Platform, code: str, password: str = PASSWORD) -> httpx.Response:
    body = {"code": code, "password": password}
    found: httpx.Response = house.client.post("/api/v1/sign-ups/confirm", json=body)
    return found


def _signed_up(house: Platform, email: str = "", **fields: Any) -> dict[str, Any]:
    assert _ask(house, email or _email(), **fields).status_code == 202
    done = _confirm(house, code_of(letters(house)[-1]))
    assert done.status_code == 201, done.text
    found: dict[str, Any] = done.json()
    return found


def test_nobody_signs_up_unless_it_is_switched_on_and_addresses_can_be_confirmed(
    house: Platform,
) -> None:
    assert not SignUpSettings().enabled
    with signing_up(house, enabled=False):
        assert _ask(house, _email()).status_code == 404
        assert _confirm(house, "tcc-" + "x" * 30).status_code == 404


def test_a_confirmed_address_has_a_tenant_with_all_that_it_begins_with(house: Platform) -> None:
    email = _email()
    before = len(house.rows("select id from organization_units"))
    assert _ask(house, email, organization="Größe & <b>长</b>").status_code == 202
    assert len(house.rows("select id from organization_units")) == before
    assert house.rows(f"select id from users where email = '{email}'") == []
    letter = letters(house)[-1]
    code = code_of(letter)
    assert letter.address == email and "<b>" not in letter.text, "no words of a stranger's"
    assert all(code not in str(row) for row in house.rows("select * from sign_ups"))
    seen = house.client.post("/api/v1/sign-ups/look", json={"code": code}).json()
    assert seen == {"email": email, "organization": "Größe & <b>长</b>"}
    wrong = _confirm(house, code, "another's password")
    assert wrong.status_code == 401, "who was sent a link that they did not ask for"
    done = _confirm(house, code)
    assert done.status_code == 201, done.text
    made = done.json()
    tenant = made["tenant"]
    assert tenant.startswith("gr-e-b-b") and tenant.isascii()
    boss = house.with_token(made["token"], "")
    me = boss("GET", "/me").json()
    assert me["tenant"] == tenant and me["bindings"][0]["permissions"] == ["*"]
    (key,) = boss("GET", "/keys").json()["data"]
    assert made["key"].startswith(key["prefix"][:4]) and key["tenant"] == tenant
    limits = {one["id"]: one["amount"] for one in boss("GET", "/limits").json()["data"]}
    assert limits[f"{tenant}/free-plan-requests"] == 60
    assert limits[f"{tenant}/wallet"] == 5 * YUAN
    raised = {"kind": "rate", "measure": "requests", "amount": 10**6, "match": {"tenant": tenant}}
    assert boss("PUT", f"/limits/{tenant}/free-plan-requests", raised).status_code == 403
    wallet = boss("GET", f"/wallets/{tenant}").json()
    assert wallet["prepaid"] and wallet["balances_pico"] == {"CNY": 5 * YUAN}
    assert [(g["amount_pico"], g["left_pico"]) for g in wallet["grants"]] == [(5 * YUAN, 5 * YUAN)]
    trail = boss("GET", "/audit").json()["data"]
    (line,) = [one for one in trail if one["action"] == "sign-up"]
    assert line["detail"]["terms"] == TERMS
    for again in (_confirm(house, code), _confirm(house, "tcc-" + "x" * 30)):
        assert (again.status_code, again.json()["error"]["code"]) == (401, "invalid_login")
    assert boss("GET", "/users?tenant=*").status_code == 403


def test_known_and_unknown_addresses_get_the_same_answer(house: Platform) -> None:
    known = _email()
    assert _ask(house, known).status_code == 202
    first = code_of(letters(house)[-1])
    assert _ask(house, known.upper()).status_code == 202
    second = code_of(letters(house)[-1])
    assert _confirm(house, second).status_code == 201
    assert _confirm(house, first).status_code == 401, "one account for an address"
    answers = {(r.status_code, r.text) for r in (_ask(house, known), _ask(house, _email()))}
    assert len(answers) == 1
    told = next(one for one in letters(house)[::-1] if one.address == known)
    assert "?code=" not in told.text and "/console/sign-in" in told.text


def _login(house: Platform, email: str, password: str, **fields: str) -> httpx.Response:
    body = {"email": email, "password": password, **fields}
    found: httpx.Response = house.client.post("/api/v1/sessions", json=body)
    return found


def test_who_makes_a_user_with_a_strangers_address_neither_keeps_it_out_nor_has_it(
    house: Platform,
) -> None:
    """By any way that needs no look into the stranger's mailbox: before they are here, and after."""
    evil = house.with_token(_signed_up(house)["token"], "")
    tenant = evil("GET", "/me").json()["tenant"]
    (mine,) = evil("GET", "/users").json()["data"]
    assert mine["email_confirmed_at_s"] is not None
    with house.engine.begin() as connection:
        connection.exec_driver_sql("update tokens set stepped_up_at_s = created_at_s")
    planted = "a password of somebody else"
    for n, made in enumerate(
        ({}, {"password": planted}, {"invite": True}, {"invite": True, "password": planted})
    ):
        email = _email()
        if "invite" in made:
            wanted = {"tenant": tenant, "email": email, "name": "V", "role": "viewer"}
            user_id = evil("POST", "/invitations", wanted).json()["user_id"]
            if n == 3:
                new = {"password": planted}
                assert evil("PATCH", f"/users/{user_id}", new).status_code == 200
        else:
            user = {"tenant": tenant, "email": email, "name": "V", **made}
            user_id = evil("POST", "/users", user).json()["id"]
        assert evil("GET", f"/users/{user_id}").json()["email_confirmed_at_s"] is None
        assert _ask(house, email).status_code == 202
        own = _confirm(house, code_of(letters(house)[-1]))
        assert own.status_code == 201, (made, own.text)
        assert _login(house, email, PASSWORD).status_code == 201, made
        assert _login(house, email, planted).status_code == 401, made
        there = _login(house, email, planted, tenant=tenant).status_code
        assert there == (201 if "password" in made else 401)
    late = {"tenant": tenant, "email": email.upper(), "name": "V", "password": planted}
    assert evil("POST", "/users", late).status_code == 409, "once in a tenant"


def test_an_address_is_confirmed_by_the_link_of_a_mail_and_no_more_once_others_set_the_password(
    house: Platform,
) -> None:
    boss = house.person("*", "owner")
    email = _email()
    wanted = {"tenant": "*", "email": email, "name": "Ann", "role": "viewer"}
    made = boss("POST", "/invitations", wanted).json()
    path = f"/users/{made['user_id']}"
    seen = boss("GET", path).json()
    assert made["mailed"] and seen["invitation_mail"] == "waiting"
    assert seen["email_confirmed_at_s"] is None
    body = {"code": code_of(letters(house)[-1]), "name": "Ann", "password": PASSWORD}
    accepted = house.client.post("/api/v1/invitations/accept", json=body)
    assert accepted.status_code == 201, accepted.text
    seen = boss("GET", path).json()
    assert seen["invitation_mail"] is None and seen["email_confirmed_at_s"] is not None
    own = house.with_token(accepted.json()["token"], made["user_id"])
    new = {"old": PASSWORD, "new": "a better horse battery"}
    assert own("POST", "/me/password", new).status_code == 200
    assert boss("GET", path).json()["email_confirmed_at_s"] is not None
    changed = boss("PATCH", path, {"password": "a password of somebody else"})
    assert changed.json()["email_confirmed_at_s"] is None
    with signing_up(house):
        assert _ask(house, email).status_code == 202
    assert "?code=" not in letters(house)[-1].text, "an address of the platform is settled"


def test_whom_the_platform_shut_out_stays_out(house: Platform) -> None:
    email = _email()
    _signed_up(house, email)
    (row,) = house.rows(f"select id from users where email = '{email}'")
    assert house.operator("PATCH", f"/users/{row[0]}", {"disabled": True}).status_code == 200
    assert _ask(house, email).status_code == 202
    assert "?code=" not in letters(house)[-1].text


def test_free_credit_is_given_once_to_a_mailbox_whatever_becomes_of_the_account(
    house: Platform,
) -> None:
    email = _email()
    first = _signed_up(house, email)
    assert first["credit_pico"] == 5 * YUAN
    house.rows(f"update users set disabled_at_s = 1 where email = '{email}' returning id")
    again = _signed_up(house, email)
    other = _signed_up(house, email.replace("@", "+2@").upper())
    assert again["tenant"] != first["tenant"] and (again["credit_pico"], other["credit_pico"]) == (
        0, 0,
    )  # fmt: skip
    boss = house.with_token(again["token"], "")
    assert boss("GET", f"/wallets/{again['tenant']}").json()["grants"] == []
    assert _signed_up(house, _email())["credit_pico"] == 5 * YUAN


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"email": "a@trash.example"}, "email"), ({"email": "a@mx.Trash.example"}, "email"),
        ({"email": "a@b.example,c@d.example"}, "email"), ({"email": "a b@c.example"}, "email"),
        ({"password": "short"}, "password"), ({"accepted_terms": False}, "accepted_terms"),
        ({"organization": " "}, "organization"), ({"organization": "a\nb"}, "organization"),
        ({"organization": "x" * 101}, "organization"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(
    house: Platform, fields: dict[str, Any], param: str
) -> None:
    count = len(letters(house))
    reply = _ask(house, **({"email": _email()} | fields))
    assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
    assert len(letters(house)) == count


def test_sign_ups_are_bounded_by_day_network_and_address(house: Platform) -> None:
    email = _email()
    statuses = [_ask(house, email).status_code for _ in range(sign_ups.PER_ADDRESS_MAX + 1)]
    assert statuses == [202] * sign_ups.PER_ADDRESS_MAX + [429]
    for bound in ("per_day_max", "per_network_per_day_max"):
        with signing_up(house, **{bound: 1}):
            reply = _ask(house, _email())
            assert reply.status_code == 429 and "retry-after" in reply.headers


def test_what_is_not_confirmed_in_time_is_forgotten(house: Platform) -> None:
    assert _ask(house, _email()).status_code == 202
    code = code_of(letters(house)[-1])
    with house.engine.begin() as connection:
        connection.exec_driver_sql("update sign_ups set created_at_s = created_at_s - 86400")
    assert _confirm(house, code).status_code == 401
    with house.engine.begin() as connection:
        sign_ups.sweep(connection, 2**40)
    assert house.rows("select * from sign_ups") == []


def test_free_credit_is_spent_first_and_what_is_left_ends_once(house: Platform) -> None:

    made = _signed_up(house)
    tenant, boss = made["tenant"], house.with_token(made["token"], "")
    call = record(
        1, event_id=f"of-{tenant}", tenant=tenant, charge_pico=2 * YUAN, charge_currency="CNY"
    )
    house.app.state.context.ledger.ingest([call_record.encode(call)])
    paid = {"amount": "100", "reference": "bank 1"}
    assert house.operator("POST", f"/wallets/{tenant}/deposits", paid).status_code == 201
    wallet = boss("GET", f"/wallets/{tenant}").json()
    assert wallet["grants"][0]["left_pico"] == 3 * YUAN
    ends = wallet["grants"][0]["expires_at_s"]
    ended = []
    for at_s in (ends - 1, ends, ends):
        with house.engine.begin() as connection:
            grants.end_due(connection, at_s, 7_000_000)
        query = f"select ended_at_s from grants where tenant = '{tenant}'"
        ended.append(house.rows(query)[0][0] is not None)
    assert ended == [False, True, True]
    wallet = boss("GET", f"/wallets/{tenant}").json()
    assert wallet["balances_pico"] == {"CNY": 100 * YUAN} and wallet["grants"] == []
    limits = {one["id"]: one["amount"] for one in boss("GET", "/limits").json()["data"]}
    assert limits[f"{tenant}/wallet"] == 102 * YUAN, "what was paid, and what was used of the gift"
    rows = house.rows(
        "select currency, sum(amount_pico) from ledger_entries group by currency, transaction_id"
    )
    assert {amount for _, amount in rows} == {0}
    kinds = {kind for (kind,) in house.rows(
        f"select kind from ledger_entries where tenant = '{tenant}'")}  # fmt: skip
    assert kinds == {"grant", "grant_expiry", "usage", "deposit"}


def test_over_real_sockets_the_mail_leads_to_an_account(own_stack: Any) -> None:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        stack = own_stack(
            smtp={"host": "127.0.0.1", "port": controller.port, "tls": False},
            sign_up={"enabled": True, "credit": 5},
        ).start()
        base = f"http://127.0.0.1:{stack.control_port}"
        body = {"email": "ann@startup.example", "password": PASSWORD, "organization": "Startup"}
        asked = web.post(f"{base}/api/v1/sign-ups", json=body, timeout=10)
        assert asked.status_code == 202, asked.text
        long = web.post(f"{base}/api/v1/sign-ups", content=b"x" * 5_000, timeout=10)
        assert long.status_code == 413, "strangers send little"
        until(lambda: mailbox.letters, 60)
        text = message_from_bytes(mailbox.letters[0].content).get_payload(decode=True).decode()
        code = text.partition("?code=")[2].split()[0]
        page = web.get(f"{base}/console/confirm?code={code}", timeout=10)
        assert page.status_code == 200 and "ann@startup.example" in page.text
        body = {"code": code, "password": PASSWORD}
        done = web.post(f"{base}/api/v1/sign-ups/confirm", json=body, timeout=10)
        assert done.status_code == 201, done.text
        stack.until_known(done.json()["key"])
    finally:
        controller.stop()
