"""Alert targets: addresses within the house are none."""

from __future__ import annotations

import pytest

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
