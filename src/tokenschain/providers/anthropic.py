"""Anthropic as a vendor; its shapes are in `core.formats.anthropic.inbound`."""

from __future__ import annotations

from tokenschain.core.formats.anthropic import inbound
from tokenschain.providers.vendor_profile import Speech

SPEECH = Speech(
    path="messages",
    request=inbound.request_of,
    whole=inbound.reply_from,
    stream=inbound.StreamIn,
    headers=(("anthropic-version", "2023-06-01"),),
)
