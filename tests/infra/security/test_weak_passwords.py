"""Weak passwords: what everybody tries is refused, what somebody made up is not."""

from __future__ import annotations

import pytest

from tokenschain.infra.security.weak_passwords import is_weak


@pytest.mark.parametrize(
    "password",
    [
        "Password1234", "P@ssw0rd!2026", "admin@123456", "Admin12345678", "root-root-root",
        "qwertyuiop12", "1234567890ab", "abcdefghijkl", "zyxwvutsrqpo", "1qaz2wsx3edc",
        "aaaaaaaaaaaa", "abababababab", "TokensChain2026!", "welcome-1234", "woaini520520",
        "letmein!!!!!", "000000000000", "changeme.2026",
    ],
)  # fmt: skip
def test_what_everybody_tries_is_weak(password: str) -> None:
    assert is_weak(password)


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery", "a new password 1", "Kx8#vq2!Lm4z", "blaue Stunde am See",
        "今天天气很好我们去公园", "teapots-in-orbit", "my cat is called Otto",
    ],
)  # fmt: skip
def test_what_somebody_made_up_is_not(password: str) -> None:
    assert not is_weak(password)


def test_a_long_one_takes_no_time() -> None:
    assert is_weak("passpassword" * 16)
    assert not is_weak("pass" * 40 + "teapots in orbit")
