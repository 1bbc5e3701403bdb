"""Passwords and one-time passwords: what is compared where there is none costs the same as a real one."""

from __future__ import annotations

from argon2 import extract_parameters

from tokenschain.infra.security import passwords


def test_no_password_matches_nothing_and_has_the_parameters_of_new_ones():
    assert not passwords.password_matches(passwords.UNKNOWN_USER_HASH, "")
    fresh = passwords.password_hash("right")
    assert passwords.password_matches(fresh, "right")
    assert extract_parameters(fresh) == extract_parameters(passwords.UNKNOWN_USER_HASH)


def test_totp_follows_rfc_6238() -> None:
    """Appendix B, SHA-1, cut to six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for at, code in ((59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")):
        assert passwords.totp_code(secret, at // 30) == code
        assert passwords.totp_step(secret, code, at) == at // 30
    assert passwords.totp_step(secret, "000000", 59) is None
