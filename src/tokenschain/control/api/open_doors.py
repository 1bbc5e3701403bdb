"""Requests that need no token: where they are taken, and how often from one network."""

from __future__ import annotations

import time

from fastapi import Request

from tokenschain.control.api.context import address_of
from tokenschain.control.identity import login_throttle
from tokenschain.core.errors import ApiError
from tokenschain.core.keyed_rates import KeyedRates

PATHS = (
    "/api/v1/invitations/look", "/api/v1/invitations/accept", "/api/v1/sign-ups",
    "/api/v1/sign-ups/look", "/api/v1/sign-ups/confirm", "/api/v1/alert-targets/confirm",
)  # fmt: skip
"""Besides those of signing in."""
PER_MINUTE_MAX = 60
"""Of one network: those of an office come from one."""


def new_rates() -> KeyedRates:
    """The counts of one control; `app.state.open_rates`."""
    return KeyedRates(PER_MINUTE_MAX)


def check_rate(request: Request) -> None:
    """Count a request of somebody who is not known.

    Raises:
        ApiError: `rate_limit_exceeded`.
    """
    rates: KeyedRates = request.app.state.open_rates
    wait_s = rates.wait_s(login_throttle.place_of(address_of(request)), time.monotonic())
    if wait_s:
        raise ApiError("rate_limit_exceeded", "Too many requests from your network; wait.",
                       retry_after_s=wait_s)  # fmt: skip
