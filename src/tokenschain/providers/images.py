"""Images that callers name by URL, fetched for vendors that take only data.

A URL in a request must not reach what only this machine can reach: names are resolved here and
only public addresses are connected to, the very addresses that were checked, so that a name
that changes its mind in between gains nothing. Redirects are not followed.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.wire.client import ClientError, HttpClient, Origin, Resolver, Waits

IMAGE_BYTES_MAX = 10_485_760
IMAGES_MAX = 16
_WAITS = Waits(
    connect_max_s=3.0, pool_max_s=3.0, first_byte_max_s=10.0, idle_max_s=5.0, total_max_s=20.0
)
_KINDS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"})
_encode = msgspec.json.Encoder().encode


class PublicResolver(Resolver):
    """Gives public addresses only, and those of networks that the operator allows."""

    def __init__(self, allowed: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        super().__init__()
        self._allowed = allowed

    async def resolve(self, host: str, port: int) -> list[str]:
        """See `wire.client.Resolver.resolve`.

        Raises:
            OSError: the name has no address that may be reached.
        """
        found = await super().resolve(host, port)
        public = [address for address in found if self._may_reach(address)]
        if not public:
            raise OSError("not a public address")
        return public

    def _may_reach(self, address: str) -> bool:
        parsed = ip_address(address.partition("%")[0])
        mapped = getattr(parsed, "ipv4_mapped", None)
        parsed = mapped or parsed
        if any(parsed in network for network in self._allowed):
            return True
        return parsed.is_global and not parsed.is_multicast


class ImageFetcher:
    """Writes images into a request as data."""

    def __init__(self, client: HttpClient) -> None:
        """
        Args:
            client: one with a `PublicResolver`.
        """
        self._client = client

    async def inline(self, fields: dict[str, Raw]) -> dict[str, Raw]:
        """The same request with every image's URL replaced by its data.

        Raises:
            ApiError: `invalid_value`, naming the image: it cannot be had, is too large, is no
                image, or is not at a public address.
        """
        raw = bytes(fields["messages"])
        if b'"image_url"' not in raw:
            return fields
        messages = msgspec.json.decode(raw)
        fetched = 0
        for at, message in enumerate(messages):
            content = message.get("content")
            for number, part in enumerate(content if isinstance(content, list) else ()):
                image = part.get("image_url") if isinstance(part, dict) else None
                if not isinstance(image, dict):
                    continue
                url = str(image.get("url"))
                if not url.startswith(("http://", "https://")):
                    continue
                param = f"messages[{at}].content[{number}].image_url"
                fetched += 1
                if fetched > IMAGES_MAX:
                    raise _bad(param, f"more than {IMAGES_MAX} images are not fetched")
                image["url"] = await self._fetch(url, param)
        return fields | {"messages": Raw(_encode(messages))}

    async def _fetch(self, url: str, param: str) -> str:
        parts = urlsplit(url)
        try:
            origin = Origin.of(url)
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            if not target.isascii() or any(c.isspace() or not c.isprintable() for c in target):
                raise ValueError("the URL must be percent-encoded")
            head = (
                f"GET {target} HTTP/1.1\r\nhost: {origin.authority}\r\n"
                "accept: image/*\r\nuser-agent: tokenschain\r\n\r\n"
            )
            reply = await self._client.open(origin, head.encode("ascii"), _WAITS)
            body = await reply.read(IMAGE_BYTES_MAX)
        except (ClientError, ValueError) as error:
            raise _bad(param, f"the image cannot be fetched ({error})") from error
        if reply.status != 200:
            raise _bad(param, f"the image's server answered HTTP {reply.status}")
        kind = reply.headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip()
        if kind not in _KINDS:
            raise _bad(param, "what is there is no image")
        return f"data:{kind};base64,{base64.b64encode(body).decode()}"


def _bad(param: str, why: str) -> ApiError:
    return ApiError("invalid_value", f"`{param}`: {why}.", param=param)
