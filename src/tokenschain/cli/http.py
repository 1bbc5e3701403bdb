"""HTTP client of the commands: one library, certificates read once, errors as sentences."""

from __future__ import annotations

import ssl
from functools import cache

import httpx
import msgspec

from tokenschain.core.errors import ErrorProblem

_MESSAGE_MAX = 4_000
_OWN_ANSWER_MAX_S = 3.0


class _Detail(msgspec.Struct, frozen=True):
    message: str = ""
    code: str | None = None
    problems: tuple[ErrorProblem, ...] = ()


class _Error(msgspec.Struct, frozen=True):
    """An error in OpenAI's shape, as control and gateway give it."""

    error: _Detail = _Detail()


@cache
def _certificates() -> ssl.SSLContext:
    """The system's authorities; reading them takes some 20 ms."""
    return ssl.create_default_context()


def client(base_url: str, token: str | None, timeout_s: float) -> httpx.Client:
    """A client of control or of a gateway.

    Args:
        token: sent as `Authorization: Bearer`; None: nobody in particular asks.
        timeout_s: longest wait for a connection, and between two pieces of an answer.
    """
    return httpx.Client(
        base_url=base_url,
        headers={} if token is None else {"authorization": f"Bearer {token}"},
        timeout=timeout_s,
        verify=_certificates(),
    )


def read_own(url: str, token: str | None = None) -> str:
    """What a process of this machine answers to a GET; empty unless with 200, in time."""
    try:
        # Its certificate is for callers' name of it, and the way there leaves no machine.
        with httpx.Client(
            verify=False,  # noqa: S501  # nosec B501  # see above
            trust_env=False,
            timeout=_OWN_ANSWER_MAX_S,
        ) as asks:
            reply = asks.get(url, headers={"authorization": f"Bearer {token}"} if token else None)
    except httpx.HTTPError:
        return ""
    return reply.text if reply.status_code == 200 else ""


def problems_of(reply: httpx.Response) -> tuple[ErrorProblem, ...]:
    """The problems that an answer lists, each by itself."""
    try:
        return msgspec.json.decode(reply.content, type=_Error).error.problems
    except msgspec.DecodeError:
        return ()


def code_of(reply: httpx.Response) -> str | None:
    """The code of `core.errors` that an answer has."""
    try:
        return msgspec.json.decode(reply.content, type=_Error).error.code
    except msgspec.DecodeError:
        return None


def message_of(reply: httpx.Response) -> str:
    """What an answer that is an error says; its status when it says nothing."""
    try:
        message = msgspec.json.decode(reply.content, type=_Error).error.message
    except msgspec.DecodeError:
        message = ""
    return message[:_MESSAGE_MAX] or f"HTTP {reply.status_code}"
