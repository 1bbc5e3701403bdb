"""Wrong tokens: how many an address may show, which each cost a look into the database."""

from __future__ import annotations

import time

from fastapi import Request

from tokenschain.control.identity import login_throttle
from tokenschain.core.errors import ApiError
from tokenschain.core.keyed_rates import KeyedRates
from tokenschain.infra.security.suite import Suite

PER_MINUTE_MAX = 600
RIGHT_MAX = 10_000
"""Tokens remembered that were right: they are asked for whatever others of the address do."""


class WrongTokens:
    """Rates of wrong tokens by address, in one process; for the event loop alone."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._rates = KeyedRates(PER_MINUTE_MAX)
        self._right: dict[str, None] = {}

    def check(self, request: Request) -> None:
        """Refuse another unknown token of an address that showed too many wrong ones.

        Raises:
            ApiError: `rate_limit_exceeded`.
        """
        place = _place_of(request)
        token = request.headers.get("authorization")
        if token is None or not self._rates.is_full(place, time.monotonic()):
            return
        if self._suite.hex_digest(token.encode()) not in self._right:
            raise ApiError("rate_limit_exceeded", "Your address sent too many wrong tokens; wait.",
                           retry_after_s=60.0 / PER_MINUTE_MAX)  # fmt: skip

    def note(self, request: Request, *, right: bool) -> None:
        """Count a request's token that was wrong, or remember one that was right."""
        token = request.headers.get("authorization")
        if token is None:
            return
        digest = self._suite.hex_digest(token.encode())
        self._right.pop(digest, None)
        if not right:
            self._rates.wait_s(_place_of(request), time.monotonic())
            return
        if len(self._right) >= RIGHT_MAX:
            del self._right[next(iter(self._right))]
        self._right[digest] = None


def _place_of(request: Request) -> str:
    return login_throttle.place_of("" if request.client is None else request.client.host)
