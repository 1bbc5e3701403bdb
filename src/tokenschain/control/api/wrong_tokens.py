"""Wrong tokens: how many an address may show, which each cost a look into the database."""

from __future__ import annotations

import asyncio
import time

from fastapi import Request
from sqlalchemy import Engine
from starlette.concurrency import run_in_threadpool

from tokenschain.control.identity import login_throttle, tokens
from tokenschain.core.errors import ApiError
from tokenschain.core.keyed_rates import KeyedRates
from tokenschain.infra.database.engine import reading
from tokenschain.infra.security.suite import Suite

PER_MINUTE_MAX = 600
RIGHT_MAX = 10_000
"""Tokens remembered that were right: they are asked for whatever others of the address do."""
LOOK_S = 0.25
"""Between two looks for tokens that were issued since, of all addresses that showed too many wrong
ones together."""
_CLOCKS_APART_S = 60
"""At most, of controls that issue tokens."""


class WrongTokens:
    """Rates of wrong tokens by address, in one process; for the event loop alone."""

    def __init__(self, suite: Suite, engine: Engine) -> None:
        self._suite = suite
        self._engine = engine
        self._rates = KeyedRates(PER_MINUTE_MAX)
        self._right: dict[str, None] = {}
        self._seen_to_s = 0
        """When the latest token was issued that was looked for; Unix time."""
        self._look: asyncio.Task[None] | None = None
        """That will begin."""

    async def check(self, request: Request) -> None:
        """Refuse another unknown token of an address that showed too many wrong ones.

        One that was issued a moment ago, by whichever control, is not unknown: what was issued
        since is looked for, once for all who wait, so that a flood costs no look each.

        Raises:
            ApiError: `rate_limit_exceeded`.
        """
        place = _place_of(request)
        token = _token_of(request)
        if not token or not self._rates.is_full(place, time.monotonic()):
            return
        digests = self._suite.stored_digests(token.encode())
        if self._right.keys().isdisjoint(digests):
            if self._look is None:
                self._look = asyncio.ensure_future(self._look_soon())
            await asyncio.shield(self._look)
        if self._right.keys().isdisjoint(digests):
            raise ApiError("rate_limit_exceeded", "Your address sent too many wrong tokens; wait.",
                           retry_after_s=60.0 / PER_MINUTE_MAX)  # fmt: skip

    async def _look_soon(self) -> None:
        await asyncio.sleep(LOOK_S)
        self._look = None  # who comes from now on may have a newer token than this finds
        for digest, issued_at_s in await run_in_threadpool(self._issued):
            self._remember(digest)
            self._seen_to_s = max(self._seen_to_s, issued_at_s)

    def _issued(self) -> list[tuple[str, int]]:
        with reading(self._engine) as db:
            return tokens.issued_since(db, self._seen_to_s - _CLOCKS_APART_S, RIGHT_MAX)

    def note(self, request: Request, *, right: bool) -> None:
        """Count a request's token that was wrong, or remember one that was right."""
        token = _token_of(request)
        if not token:
            return
        digests = self._suite.stored_digests(token.encode())
        if not right:
            for digest in digests:
                self._right.pop(digest, None)
            self._rates.wait_s(_place_of(request), time.monotonic())
            return
        self._remember(digests[0])

    def _remember(self, digest: str) -> None:
        self._right.pop(digest, None)
        if len(self._right) >= RIGHT_MAX:
            del self._right[next(iter(self._right))]
        self._right[digest] = None


def _token_of(request: Request) -> str:
    return request.headers.get("authorization", "").partition(" ")[2]


def _place_of(request: Request) -> str:
    return login_throttle.place_of("" if request.client is None else request.client.host)
