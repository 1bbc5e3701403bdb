"""Alert targets: addresses within the house are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control.identity.test_sign_ups import code_of, letters
from tests.security.platform import platform
from tokenschain.control.observability import alert_targets
from tokenschain.core.errors import ApiError


def test_an_address_within_the_house_is_no_target() -> None:
    for address in ("http://127.0.0.1/x", "http://169.254.169.254/latest", "http://[::1]:80/",
                    "file:///etc/passwd", "ftp://example.com", "http://u:p@example.com/",
                    "http://10.1.2.3/", "gopher://x"):  # fmt: skip
        with pytest.raises(ApiError, match=r"URL|public"):
            alert_targets.check_address("webhook", address, ())
    alert_targets.check_address("webhook", "https://example.com/hook?x=1", ())
    alert_targets.check_address("webhook", "http://10.1.2.3/", ("10.0.0.0/8",))
    alert_targets.check_address("email", "on-call@ops.example", ())


@pytest.mark.parametrize(
    "address",
    ["not an address", "a,b@x.example", '"x"<v@x.example>', "(c)v@x.example", "a:v@x.example;",
     "v@[127.0.0.1]", "-v@x.example", "v@x.example\n", "v" * 200 + "@x.example"],
)  # fmt: skip
def test_mail_goes_to_one_address_written_one_way(address: str) -> None:
    with pytest.raises(ApiError, match="e-mail"):
        alert_targets.check_address("email", address, ())


def test_a_tenants_mail_address_waits_for_its_link_which_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with platform(tmp_path) as house:
        unit = {"kind": "tenant", "tenant": "acme", "name": "acme"}
        assert house.operator("POST", "/organization/units", unit).status_code == 201
        owner = house.person("acme", "owner")
        mail = {"kind": "email", "name": "click http://evil.example", "address": "a@b.example"}
        hook = {"kind": "webhook", "name": "n", "address": "https://b.example"}
        for boss, body in ((house.operator, mail), (owner, hook | {"tenant": "acme"})):
            assert boss("POST", "/alert-targets", body).json()["confirmed_at_s"]
        assert letters(house) == [], "operators' own, and what is no mail, is told at once"
        for _ in range(2):
            made = owner("POST", "/alert-targets", mail | {"tenant": "acme"})
            assert made.status_code == 201 and made.json()["confirmed_at_s"] is None
        first, second = letters(house)
        assert first.address == "a@b.example" and "evil" not in first.text + first.subject

        def confirm(code: str) -> int:
            body = {"code": code}
            return int(house.client.post("/api/v1/alert-targets/confirm", json=body).status_code)

        assert confirm(code_of(first)) == 200 and confirm(code_of(first)) == 401
        listed = owner("GET", "/alert-targets").json()["data"]
        assert sorted(one["confirmed_at_s"] is None for one in listed) == [False, False, True]
        lasts = alert_targets.LINK_LASTS_S
        house.rows(f"update alert_targets set created_at_s = created_at_s - {lasts} returning id")
        assert confirm(code_of(second)) == 401, "it is over"
        monkeypatch.setattr(alert_targets, "LETTERS_PER_DAY_MAX", 2)
        house.rows("delete from alert_targets returning id")
        late = owner("POST", "/alert-targets", mail | {"tenant": "acme"})
        assert late.status_code == 429, "taking targets away brings no new letters"
