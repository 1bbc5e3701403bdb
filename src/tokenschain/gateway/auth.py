"""Who calls: an API key against the hashes in the snapshot."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tokenschain.core.calls import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import Served
from tokenschain.core.tenancy import KeyGrant

_REMEDY = "Send it as `Authorization: Bearer <key>` or `x-api-key: <key>`."


class KeyAuth:
    """Looks keys up by their SHA-256.

    A key has 256 random bits, so a plain hash cannot be searched, and a look-up by
    hash tells a guesser nothing by its timing: a guess that shares a prefix with a
    key does not share one with its hash.
    """

    def __init__(self, served: Served, now_s: Callable[[], float]) -> None:
        """
        Args:
            now_s: the clock, Unix seconds.
        """
        self._served = served
        self._now_s = now_s

    def authenticate(self, call: Call) -> KeyGrant:
        """See `core.ports.Auth.authenticate`; also notes the snapshot on the call."""
        grant = self.grant_of(call.credential)
        call.caller = grant
        call.snapshot_version = self._served.version
        return grant

    def grant_of(self, credential: bytes) -> KeyGrant:
        """What a key may do.

        Raises:
            ApiError: 401, with what to do about it.
        """
        if not credential:
            raise ApiError("missing_api_key", f"No API key was sent. {_REMEDY}")
        grant = self._served.get().keys.get(hashlib.sha256(credential).hexdigest())
        if grant is None:
            raise ApiError("invalid_api_key", f"The API key is not valid. {_REMEDY}")
        if grant.revoked:
            raise ApiError("api_key_revoked", "The API key has been revoked.")
        if grant.expires_at_s is not None and self._now_s() >= grant.expires_at_s:
            raise ApiError("api_key_expired", "The API key has expired.")
        return grant


def credential_of(headers: dict[bytes, bytes]) -> bytes:
    """The API key in a request's headers, or nothing."""
    value = headers.get(b"authorization")
    if value is not None:
        scheme, _, key = value.partition(b" ")
        return key.strip() if scheme.lower() == b"bearer" else b""
    return headers.get(b"x-api-key", b"").strip()
