"""Client of control's admin API, for this machine's commands."""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlencode

import msgspec

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
    url = f"{settings.control_base_url}{path}" + (f"?{urlencode(query)}" if query else "")
    request = urllib.request.Request(  # noqa: S310 - the operator's own address
        url,
        method=method,
        data=None if body is None else msgspec.json.encode(body),
        headers={
            "authorization": f"Bearer {_token(settings)}",
            "content-type": "application/json",
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:  # noqa: S310
            return msgspec.json.decode(reply.read())
    except urllib.error.HTTPError as error:
        found = msgspec.json.decode(error.read() or b"{}")
        message = found.get("error", {}).get("message", f"HTTP {error.code}")
        raise AdminError(message) from None
    except OSError as error:
        raise AdminError(
            f"control at {settings.control_base_url} cannot be reached ({error}); "
            "is `tokenschain up` running?"
        ) from None


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
