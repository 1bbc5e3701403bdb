"""HTTP client of the commands: one library, certificates read once, errors as sentences."""

from __future__ import annotations

import ssl
from functools import cache

import httpx
import msgspec

_MESSAGE_MAX = 500


class _Detail(msgspec.Struct, frozen=True):
    message: str = ""


class _Error(msgspec.Struct, frozen=True):
    """An error in OpenAI's shape, as control and gateway give it."""

    error: _Detail = _Detail()


@cache
def _certificates() -> ssl.SSLContext:
    """The system's authorities; reading them takes some 20 ms."""
    return ssl.create_default_context()


def client(base_url: str, token: str, timeout_s: float) -> httpx.Client:
    """A client of control or of a gateway.

    Args:
        token: sent as `Authorization: Bearer`.
        timeout_s: longest wait for a connection, and between two pieces of an answer.
    """
    return httpx.Client(
        base_url=base_url,
        headers={"authorization": f"Bearer {token}"},
        timeout=timeout_s,
        verify=_certificates(),
    )


def message_of(reply: httpx.Response) -> str:
    """What an answer that is an error says; its status when it says nothing."""
    try:
        message = msgspec.json.decode(reply.content, type=_Error).error.message
    except msgspec.DecodeError:
        message = ""
    return message[:_MESSAGE_MAX] or f"HTTP {reply.status_code}"
