"""Anthropic as a provider; its formats are in `core.formats.anthropic`."""

from __future__ import annotations

from tokenschain.core.formats.anthropic import outbound
from tokenschain.providers.vendor_profile import VendorProtocol

PROTOCOL = VendorProtocol(
    path="messages",
    request=outbound.request_of,
    whole=outbound.reply_from,
    stream=outbound.MessagesStreamIn,
    headers=(("anthropic-version", "2023-06-01"),),
)
