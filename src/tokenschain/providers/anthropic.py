"""Anthropic as a vendor; its shapes are in `core.anthropic`."""

from __future__ import annotations

from tokenschain.core import anthropic
from tokenschain.providers.vendor import Speech

SPEECH = Speech(
    path="messages",
    request=anthropic.request_of,
    whole=anthropic.reply_from,
    stream=anthropic.StreamIn,
    headers=(("anthropic-version", "2023-06-01"),),
)
