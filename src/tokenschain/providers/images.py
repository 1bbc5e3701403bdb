"""Images named by URL, fetched for vendors that take only data.

A URL in a request must not reach what only this machine can reach; see `infra.egress`.
"""

from __future__ import annotations

import base64

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.infra.egress import exchange
from tokenschain.wire.client import ClientError, HttpClient, Waits

IMAGE_BYTES_MAX = 10_485_760
IMAGES_MAX = 16
CALL_BYTES_MAX = 33_554_432
"""Of all images of a call together, as they are sent on."""
_WAITS = Waits(
    connect_max_s=3.0, pool_max_s=3.0, first_byte_max_s=10.0, idle_max_s=5.0, total_max_s=20.0
)
_KINDS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"})
_encode = msgspec.json.Encoder().encode


class ImageFetcher:
    """Writes images into a request as data."""

    def __init__(self, client: HttpClient) -> None:
        """
        Args:
            client: one with an `infra.egress.PublicResolver`.
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
        fetched = size = 0
        for at, message in enumerate(messages):
            content = message.get("content")
            for number, part in enumerate(content if isinstance(content, list) else ()):
                image = part.get("image_url") if isinstance(part, dict) else None
                if image is None:
                    continue
                # Some clients write the URL itself.
                given = image.get("url") if isinstance(image, dict) else image
                url = str(given).strip()
                scheme = url.partition(":")[0].lower()
                if scheme == "data":
                    continue
                param = f"messages[{at}].content[{number}].image_url"
                if scheme not in ("http", "https"):
                    raise _bad(param, "only `data:`, `http:` and `https:` are taken")
                fetched += 1
                if fetched > IMAGES_MAX:
                    raise _bad(param, f"more than {IMAGES_MAX} images are not fetched")
                data = await self._fetch(url, param)
                size += len(data)
                if size > CALL_BYTES_MAX:
                    raise _bad(param, f"the images have more than {CALL_BYTES_MAX} bytes in all")
                part["image_url"] = (image | {"url": data}) if isinstance(image, dict) else data
        return fields | {"messages": Raw(_encode(messages))}

    async def _fetch(self, url: str, param: str) -> str:
        try:
            reply, body = await exchange(
                self._client, "GET", url, {"accept": "image/*"}, b"", _WAITS, IMAGE_BYTES_MAX
            )
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
