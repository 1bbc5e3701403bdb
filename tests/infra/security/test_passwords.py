"""Passwords: what is compared where there is none costs the same as a real one."""

from __future__ import annotations

from argon2 import extract_parameters

from tokenschain.infra.security import passwords


def test_no_password_matches_nothing_and_has_the_parameters_of_new_ones():
    assert not passwords.password_matches(passwords.UNKNOWN_USER_HASH, "")
    fresh = passwords.password_hash("right")
    assert passwords.password_matches(fresh, "right")
    assert extract_parameters(fresh) == extract_parameters(passwords.UNKNOWN_USER_HASH)
