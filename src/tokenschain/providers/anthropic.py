"""Anthropic as a provider; its formats are in `core.formats.anthropic`."""

from __future__ import annotations

from tokenschain.core.formats.anthropic import event_relay, outbound, request_writer
from tokenschain.providers.vendor_profile import VendorProtocol

PARAMETERS = frozenset(
    {
        "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens",
        "max_completion_tokens", "temperature", "top_p", "top_k", "stop", "stream",
        "stream_options", "thinking", "output_config", "user", "safety_identifier",
        "service_tier", "response_format",
    }
)  # fmt: skip
"""Canonical parameters that Messages requests have a place for."""
PROTOCOL = VendorProtocol(
    path="messages",
    request=request_writer.request_of,
    whole=outbound.reply_from,
    stream=outbound.MessagesStreamIn,
    relays="messages",
    relay=event_relay.EventRelay,
    headers=(("anthropic-version", "2023-06-01"),),
)
