"""HTTP client of the admin API, for the commands."""

from __future__ import annotations

import os
from typing import Any

import msgspec

from tokenschain.infra import config
from tokenschain.infra.config import ADMIN_TOKEN_VARIABLE, Settings

_TIMEOUT_S = 10.0


class AdminError(Exception):
    """Control refused or cannot be reached; the message says what to do."""


def call(
    settings: Settings,
    method: str,
    path: str,
    body: object | None = None,
    query: dict[str, str] | None = None,
) -> Any:
    """One call of the admin API; returns the decoded answer.

    Raises:
        AdminError: refused, or not reachable.
    """
    return msgspec.json.decode(_exchange(settings, method, path, body, query))


def text(settings: Settings, path: str) -> str:
    """What a GET of the admin API answers as text.

    Raises:
        AdminError: refused, or not reachable.
    """
    return _exchange(settings, "GET", path).decode("utf-8", "replace")


def _exchange(
    settings: Settings,
    method: str,
    path: str,
    body: object | None = None,
    query: dict[str, str] | None = None,
) -> bytes:
    import httpx  # noqa: PLC0415 - gateways do without

    from tokenschain.cli import http  # noqa: PLC0415

    at = settings.control_base_url
    with http.client(at, _token(settings), _TIMEOUT_S) as client:
        try:
            reply = client.request(method, path, json=body, params=query)
        except httpx.HTTPError as error:
            raise AdminError(
                f"control at {at} cannot be reached ({error}); is `tokenschain up` running? "
                f"Settings: {config.config_file() or 'no tokenschain.yaml in this folder'}"
            ) from None
    if reply.is_error:
        raise AdminError(http.message_of(reply))
    return reply.content


def _token(settings: Settings) -> str:
    named = os.environ.get(ADMIN_TOKEN_VARIABLE)
    if named:
        return named
    try:
        return settings.operator_token_path.read_text(encoding="utf-8").strip()
    except OSError:
        raise AdminError(
            f"no admin token: set {ADMIN_TOKEN_VARIABLE}, or run this on the machine and as the "
            "user that runs control"
        ) from None
