"""Control channel protocol: gateways of the version before go on drawing leases."""

from __future__ import annotations

import msgspec

from tokenschain.core.limits import LeaseRequest
from tokenschain.infra.control_channel.protocol import LeaseBatch


def test_a_gateway_of_the_version_before_is_understood_when_it_asks_for_leases() -> None:
    wish = {"limit": "wallet/acme", "subject": "", "want": 5, "need": 1, "held": 2}
    asked = msgspec.msgpack.encode({"holder": "gateway-0", "wishes": [wish]})
    assert msgspec.msgpack.decode(asked, type=LeaseBatch) == LeaseBatch(
        "gateway-0", (LeaseRequest("wallet/acme", "", 5, 1, 2),)
    )
