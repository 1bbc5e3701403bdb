"""Access tokens of vendors: short-lived, traded for a key pair, renewed before they expire."""

from __future__ import annotations

import asyncio
import time

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.providers.auth import TOKEN_REFRESH_S, AccessToken, TokenExchange, key_pair
from tokenschain.wire.client import ClientError, HttpClient, Origin, Waits
from tokenschain.wire.request_head import can_be_value, encode_lines

_WAITS = Waits(
    connect_max_s=3.0, pool_max_s=3.0, first_byte_max_s=5.0, idle_max_s=5.0, total_max_s=8.0
)
_REPLY_BYTES_MAX = 65_536


class TokenKeeper:
    """The tokens of one upstream, by key and model."""

    def __init__(self, client: HttpClient, exchange: TokenExchange, url: str | None) -> None:
        """
        Args:
            url: of the vendor's token service, where not the public one.
        """
        self._client = client
        self._exchange = exchange
        self._origin = Origin.of(url or exchange.url)
        self._tokens: dict[tuple[str, str], AccessToken] = {}
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}

    async def token_of(self, value: str, model: str) -> str:
        """The token of a key; waits for it only the first time.

        Raises:
            ApiError: it cannot be had.
        """
        token = self._tokens.get((value, model))
        if token is None or token.until_s <= time.time():
            token = await self._fetch(value, model)
        return token.value

    def values(self) -> list[str]:
        """The tokens at hand."""
        return [token.value for token in self._tokens.values()]

    async def refresh(self, values: set[str]) -> None:
        """Replace what expires soon, forget keys that are gone. Off the hot path."""
        for value, model in list(self._tokens):
            if value not in values:
                del self._tokens[value, model]
            elif self._tokens[value, model].until_s - TOKEN_REFRESH_S < time.time():
                try:
                    await self._fetch(value, model)
                except ApiError:
                    continue  # the one at hand still holds; it is tried again

    async def _fetch(self, value: str, model: str) -> AccessToken:
        at = (value, model)
        async with self._locks.setdefault(at, asyncio.Lock()):
            token = self._tokens.get(at)
            if token is not None and token.until_s - TOKEN_REFRESH_S > time.time():
                return token  # another call was quicker
            target, headers, body = self._exchange.request(
                self._origin.authority, model, key_pair(value), time.time()
            )
            head = encode_lines((
                f"{target} HTTP/1.1", f"host: {self._origin.authority}",
                *(f"{name}: {text}" for name, text in headers), f"content-length: {len(body)}",
            ))  # fmt: skip
            try:
                asked = b"%b\r\n%b" % (head, body)
                reply = await self._client.open(self._origin, asked, _WAITS)
                text = await reply.read(_REPLY_BYTES_MAX)
                if reply.status not in (200, 201):
                    raise ApiError(
                        "upstream_rejected_credentials",
                        f"The upstream's token service answered HTTP {reply.status}.",
                    )
                token = self._exchange.read(text)
                if not can_be_value(token.value):
                    raise ValueError("no header can carry the token")
                self._tokens[at] = token
            except ClientError as error:
                raise ApiError(
                    "upstream_unreachable",
                    "The upstream's token service cannot be reached.",
                    detail=str(error),
                ) from error
            except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
                # `OverflowError`: its end is no time of this machine's.
                raise ApiError(
                    "upstream_invalid_reply", "The upstream's token service gave no token."
                ) from error
            return token
