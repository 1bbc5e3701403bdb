"""What marks a call that is sent on, and ends one that goes in a circle."""

from __future__ import annotations

import pytest

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.snapshot import Upstream
from tokenschain.providers.openai_compat.targets import LOOP_PASSES_MAX, loop_line, target_of
from tokenschain.providers.vendor_table import vendor_of


def test_each_gateway_adds_its_mark_to_those_of_others() -> None:
    headers: dict[bytes, bytes] = {b"cdn-loop": b"another; v=1"}
    for _ in range(LOOP_PASSES_MAX):
        line = loop_line(headers)
        assert line.endswith(b"tokenschain\r\n") and b"another" in line
        headers = {b"cdn-loop": line.partition(b": ")[2].strip()}
    with pytest.raises(ApiError) as refused:
        loop_line(headers)
    assert (refused.value.code, refused.value.status) == ("loop_detected", 508)
    assert loop_line({}) == b"cdn-loop: tokenschain\r\n"


@pytest.mark.parametrize(
    ("upstream", "marked"),
    [
        (Upstream("u", provider="custom", base_url="https://a.example/v1"), True),
        (Upstream("u", provider="alibaba", base_url="https://a.example/v1"), False),
        (Upstream("u", provider="alibaba", base_url="https://a.example/v1", tenant="acme"), True),
    ],
)
def test_a_vendors_own_address_leads_nowhere_back(upstream: Upstream, marked: bool) -> None:
    target = target_of(upstream, vendor_of(upstream.provider), Api.CHAT, None, None, None)
    assert target.may_lead_back is marked
