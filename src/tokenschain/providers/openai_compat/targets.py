"""Targets: addresses and request headers of upstreams."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.snapshot import Upstream
from tokenschain.providers.access_tokens import TokenKeeper
from tokenschain.providers.auth import SIGNERS
from tokenschain.providers.credential_pool import KeyRing, UpstreamKey
from tokenschain.providers.images import MediaUrls
from tokenschain.providers.vendor_profile import KeyScheme, Signer, Vendor
from tokenschain.wire import client as http
from tokenschain.wire.request_head import encode_lines


class Target(msgspec.Struct, frozen=True):
    """One upstream's address and all of the request head that never changes but for the key."""

    upstream: Upstream
    vendor: Vendor
    origin: http.Origin
    path: str
    lines: tuple[str, ...]
    keyless_head: bytes
    waits: http.Waits
    keys: KeyRing | None
    sign: Signer | None
    tokens: TokenKeeper | None
    media_urls: MediaUrls
    may_lead_back: bool
    """Whether nobody knows where it leads: perhaps to this gateway."""


def target_of(
    upstream: Upstream,
    vendor: Vendor,
    api: Api,
    elsewhere: str | None,
    keys: KeyRing | None,
    tokens: TokenKeeper | None,
) -> Target:
    """
    Raises:
        ValueError: it cannot be asked as it is configured.
    """
    origin = http.Origin.of(upstream.base_url)
    address, mark, query = upstream.base_url.partition("?")
    base = "/" + address.split("://", 1)[1].partition("/")[2].strip("/")
    protocol = vendor.protocol if api is Api.CHAT else None
    end = protocol.path if protocol is not None else vendor.paths.get(api, api.value)
    end = elsewhere or end
    path = end if end.startswith("/") else f"{base.rstrip('/')}/{end}"
    path += mark + query  # `?api-version=...` of Azure-like deployments
    limits = upstream.limits
    lines = (
        f"POST {path} HTTP/1.1",
        f"host: {origin.authority}",
        *(f"{name}: {value}" for name, value in (protocol.headers if protocol else ())),
        "content-type: application/json",
        "accept-encoding: identity",
        "user-agent: tokenschain",
    )
    return Target(
        upstream,
        vendor,
        origin,
        path,
        lines,
        encode_lines(lines),
        http.Waits(
            connect_max_s=limits.connect_max_s,
            pool_max_s=limits.queue_wait_max_s,
            first_byte_max_s=limits.first_byte_max_s,
            idle_max_s=limits.idle_max_s,
            total_max_s=limits.total_max_s,
        ),
        keys,
        SIGNERS.get(upstream.auth) or (protocol.sign if protocol is not None else None),
        tokens,
        _media_urls(upstream, vendor),
        bool(upstream.tenant) or upstream.provider == "custom",
    )


def _media_urls(upstream: Upstream, vendor: Vendor) -> MediaUrls:
    """What becomes of URLs that an upstream would fetch: an engine of one's own would do so from
    within the network, and of a `custom` one nobody knows where it is. That an address inside may
    be reached is for the platform alone to say, not for a tenant of its own upstream."""
    own, wanted = upstream.zone == "own", upstream.media_urls
    if wanted == "pass":
        return MediaUrls.PASSED if own and not upstream.tenant else MediaUrls.RESOLVED
    if wanted or own or vendor.images_as_data or upstream.provider == "custom":
        return MediaUrls.INLINED
    return MediaUrls.READ


def probe_of(upstream: Upstream) -> tuple[http.Origin, bytes]:
    """Where and how it is asked whether it is there.

    Raises:
        ValueError: it cannot be asked as it is configured.
    """
    origin = http.Origin.of(upstream.base_url)
    asked = f"GET {upstream.probe_path} HTTP/1.1"
    return origin, encode_lines((asked, f"host: {origin.authority}")) + b"\r\n"


def head_of(target: Target, key: UpstreamKey) -> bytes:
    """The request head with a key, made once for each."""
    head = key.heads.get(target.path)
    if head is None:
        auth = _AUTH_LINES.get(target.vendor.auth)
        line = (f"{auth}{key.value}",) if auth is not None else ()
        whole = (*target.lines[:2], *line, *target.lines[2:])
        head = key.heads[target.path] = encode_lines(whole)
    return head


LOOP_HEADER = b"cdn-loop"
_LOOP_MARK = b"tokenschain"
_LOOP_LINE = b"cdn-loop: tokenschain\r\n"
LOOP_PASSES_MAX = 3
"""Gateways that a call passes one after the other, as one of a company's before one of a region's.
Each marks what it sends on in `CDN-Loop` (RFC 8586), so that an upstream which is the gateway
itself ends there, and not when its connections do."""


def loop_line(headers: Mapping[bytes, bytes]) -> bytes:
    """The header line that marks a call as sent on by a gateway.

    Args:
        headers: of the call as it came.

    Raises:
        ApiError: it passed too many.
    """
    before = headers.get(LOOP_HEADER)
    if before is None:
        return _LOOP_LINE
    if before.count(_LOOP_MARK) >= LOOP_PASSES_MAX:
        raise ApiError(
            "loop_detected", f"The call came through {LOOP_PASSES_MAX} gateways in a row already."
        )
    return b"%b: %b, %b\r\n" % (LOOP_HEADER, before, _LOOP_MARK)


_AUTH_LINES = {KeyScheme.BEARER: "authorization: Bearer ", KeyScheme.X_API_KEY: "x-api-key: "}


def lines_of(headers: tuple[tuple[str, str], ...]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1")
