"""Signing in: delays, second factors."""

from __future__ import annotations

import time

from tests.control.people import PASSWORD, person, sign_in
from tests.stack import Stack
from tokenschain.infra.security import passwords


def test_wrong_passwords_delay_the_next_try_and_say_nothing(house: Stack) -> None:
    email = person(house, "alpha", "viewer").email
    unknown = sign_in(house, "nobody@alpha.example", PASSWORD)
    wrong = [sign_in(house, email, "wrong wrong wrong") for _ in range(5)]
    assert {r.status_code for r in (unknown, *wrong)} == {401}
    assert unknown.text == wrong[0].text
    locked = sign_in(house, email, PASSWORD)
    assert (locked.status_code, locked.json()["error"]["code"]) == (429, "account_locked")
    assert int(locked.headers["retry-after"]) > 60


def test_a_second_factor_is_asked_for_and_each_code_counts_once(house: Stack) -> None:
    user = person(house, "alpha", "viewer")
    email = user.email
    offered = user("POST", "/me/totp").json()
    assert offered["uri"].startswith("otpauth://totp/TokensChain%3A")
    step = int(time.time() // 30)
    code = passwords.totp_code(offered["secret"], step)
    confirm = {"secret": offered["secret"], "code": code, "password": PASSWORD}
    assert user("POST", "/me/totp/confirm", json=confirm).status_code == 200
    assert sign_in(house, email, PASSWORD).status_code == 401
    assert sign_in(house, email, PASSWORD, code).status_code == 401, "it has confirmed"
    code = passwords.totp_code(offered["secret"], max(step, int(time.time() // 30)) + 1)
    assert sign_in(house, email, PASSWORD, code).status_code == 201
    assert sign_in(house, email, PASSWORD, code).status_code == 401
