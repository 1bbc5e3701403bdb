"""Authentication: an API key against the hashes in the snapshot."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from tokenschain.core import tags
from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.gateway_status import RefusedKey
from tokenschain.core.keyed_rates import KeyedRates
from tokenschain.core.log_events import Reporter, silent
from tokenschain.core.snapshot import Served
from tokenschain.core.tenancy import KeyGrant, is_within
from tokenschain.wire.budgets import network_of

_REMEDY = "Send it as `Authorization: Bearer <key>`, `x-api-key: <key>` or `api-key: <key>`."
WRONG_KEYS_PER_MINUTE = 600
REFUSED_KEYS_MAX = 1_000
"""Keys whose refusals are counted; the latest."""
REFUSED_TOLD_S, REFUSED_TOLD_MAX = 600.0, 20
"""How long, and of how many keys, refusals are told in the gateway's status."""
_HEADERS = (b"x-api-key", b"api-key")
"""Where Anthropic's and Azure's clients put the key."""


class KeyAuth:
    """Looks keys up by their digest.

    A key has 256 random bits, so a plain hash cannot be searched, and a look-up by
    hash tells a guesser nothing by its timing: a guess that shares a prefix with a
    key does not share one with its hash.
    """

    def __init__(
        self,
        served: Served,
        digest: Callable[[bytes], bytes],
        now_s: Callable[[], float],
        wrong_keys_per_minute: int = WRONG_KEYS_PER_MINUTE,
        report: Reporter = silent,
        other_digests: Sequence[Callable[[bytes], bytes]] = (),
    ) -> None:
        """
        Args:
            digest: what control stores of each key.
            now_s: the clock, Unix seconds.
            wrong_keys_per_minute: of one address; whoever has a key is served from there still.
            report: told `invalid_keys` of an address with more, and `key_refused` of a key that
                may no longer be used; of each once a minute.
            other_digests: what it may have stored of a key by another suite.
        """
        self._wrong_keys = KeyedRates(wrong_keys_per_minute)
        self._reports = KeyedRates(1)
        self._report = report
        self._refused: OrderedDict[str, RefusedKey] = OrderedDict()
        """By key, the latest last."""
        self._served = served
        self._digest, self._other_digests = digest, other_digests
        self._now_s = now_s

    def key_digest_of(self, headers: dict[bytes, bytes]) -> bytes:
        """The digest of a request's API key, or nothing. Some clients send a placeholder beside
        it: of several, the first that is a key counts."""
        return self.digest_of(credentials_of(headers))

    def digest_of(self, found: tuple[bytes, ...]) -> bytes:
        """That of one of several keys, or nothing."""
        digests = [self._digest(key) for key in found if key]
        for digest in digests:
            if self._served.grant(digest) is not None:
                return digest
        for other in self._other_digests:
            for key in filter(None, found):
                digest = other(key)
                if self._served.grant(digest) is not None:
                    return digest
        return digests[0] if digests else b""

    def authenticate(self, call: Call) -> KeyGrant:
        """See `core.ports.Auth.authenticate`."""
        grant = self.grant_of(
            call.request.key_digest, call.request.api_format.name, call.request.client_address
        )
        call.caller = grant
        call.snapshot_version = self._served.version
        given = call.request.headers.get(tags.HEADER)
        if given is not None or grant.tags:
            call.tags = tags.tags_of(given or b"", grant.tags)
        return grant

    def grant_of(self, key_digest: bytes, api: str, address: Callable[[], str]) -> KeyGrant:
        """What a key may do.

        Args:
            api: the API it is used for; empty for what every key may do.
            address: asked for only when the key is bound to networks.

        Raises:
            ApiError: 401 or 403, with what to do about it.
        """
        if not key_digest:
            raise ApiError("missing_api_key", f"No API key was sent. {_REMEDY}")
        grant = self._served.grant(key_digest)
        if grant is None:
            self._served.get()
            raise self._no_such_key(address())
        if grant.revoked:
            raise self._refusal(grant, "api_key_revoked", "The API key has been revoked.")
        if grant.expires_at_s is not None and self._now_s() >= grant.expires_at_s:
            raise self._refusal(grant, "api_key_expired", "The API key has expired.")
        if grant.suspended:
            why = f"This key is not served: {grant.suspended}."
            raise self._refusal(grant, "account_suspended", why)
        if grant.networks is not None and not is_within(address(), grant.networks):
            why = "The API key may not be used from this address."
            raise self._refusal(grant, "network_not_allowed", why)
        if api and grant.apis is not None and api not in grant.apis:
            raise ApiError("api_not_allowed", f"This API key may not use `/v1/{api}`.")
        return grant

    @property
    def refused_keys(self) -> tuple[RefusedKey, ...]:
        """Keys that were refused lately, the latest last."""
        now, latest = self._now_s(), islice(reversed(self._refused.values()), REFUSED_TOLD_MAX)
        return tuple(reversed([key for key in latest if now - key.last_s < REFUSED_TOLD_S]))

    def _refusal(self, grant: KeyGrant, code: str, message: str) -> ApiError:
        """A key that is known is refused: counted, and said once a minute, since whoever uses it
        most likely does not know."""
        now, name = self._now_s(), grant.key_id
        before = self._refused.pop(name, None)
        refused = 1 if before is None else before.refused + 1
        self._refused[name] = RefusedKey(name, grant.tenant, code, refused, now)
        if len(self._refused) > REFUSED_KEYS_MAX:
            self._refused.popitem(last=False)
        if not self._reports.wait_s(name, now):
            self._report("key_refused", code, key=name, tenant=grant.tenant, project=grant.project,
                         refused=refused)  # fmt: skip
        return ApiError(code, message)

    def _no_such_key(self, address: str) -> ApiError:
        now, network = self._now_s(), network_of(address)
        wait_s = self._wrong_keys.wait_s(network, now)
        if not wait_s:
            return ApiError("invalid_api_key", f"The API key is not valid. {_REMEDY}")
        if not self._reports.wait_s(network, now):
            self._report("invalid_keys", address=network)
        return ApiError(
            "rate_limit_exceeded",
            "Too many wrong API keys came from your address; keys that are right go on.",
            retry_after_s=wait_s,
        )


def credentials_of(headers: dict[bytes, bytes]) -> tuple[bytes, ...]:
    """What may be the API key in a request's headers, the likeliest first."""
    found = []
    value = headers.get(b"authorization")
    if value is not None:
        words = value.split(None, 1)
        if len(words) == 2 and words[0].lower() == b"bearer":
            found.append(words[1].strip())
        elif len(words) == 1 and words[0].lower() not in (b"bearer", b"basic"):
            found.append(words[0])  # the key alone, as some clients write it
    for name in _HEADERS:
        key = headers.get(name)
        if key:
            found.append(key.removeprefix(b"Bearer ").strip())
    return tuple(found)
