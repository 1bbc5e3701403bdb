"""Images named by URL, fetched for vendors that take only data.

A URL in a request must not reach what only this machine can reach; see `infra.egress`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.infra.egress import exchange
from tokenschain.wire.client import BadReply, ClientError, HttpClient, Waits

IMAGE_BYTES_MAX = 10_485_760
IMAGES_MAX = 16
CALL_BYTES_MAX = 33_554_432
"""Of all images of a call together, as they are sent on."""
PROCESS_BYTES_MAX = 134_217_728
"""Of all images that calls of one process hold at once."""
_WAITS = Waits(
    connect_max_s=3.0, pool_max_s=3.0, first_byte_max_s=10.0, idle_max_s=5.0, total_max_s=20.0
)
_KINDS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"})
_FIELDS = frozenset({"messages", "input", "documents", "query"})
_IMAGES = frozenset({"image_url", "image", "images", "input_image"})
_MEDIA = _IMAGES | {
    "video_url", "video", "videos", "audio_url", "audio", "file_url", "file", "document_url",
    "input_audio", "input_video", "input_file", "file_data",
}  # fmt: skip
_ADDRESSES = frozenset({"url", "uri", "data", "path"})
_BARE = frozenset({"data", "file_data", "image", "audio", "video"})
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\s-]{256,}", re.ASCII)
"""What is long enough to be no path."""
_PATH_BEGINS = ("/", ".", "~", "\\", "%")
_SIGNS = (b'_url"', b'image"', b'video"', b'audio"', b'file"', b"\\u")
_NO_MEDIA = frozenset({"tool_calls", "function_call", "reasoning_details"})
_encode = msgspec.json.Encoder().encode


class ImageFetcher:
    """Writes images into a request as data, within a budget of the process."""

    def __init__(self, client: HttpClient, bytes_max: int = PROCESS_BYTES_MAX) -> None:
        """
        Args:
            client: one with an `infra.egress.PublicResolver`.
            bytes_max: of all images that calls of this process hold at once.
        """
        self._client = client
        self._bytes_max = bytes_max
        self._held = 0

    @asynccontextmanager
    async def inlined(self, fields: dict[str, Raw]) -> AsyncIterator[dict[str, Raw]]:
        """The same request with every image's URL replaced by its data, which is held as long.

        Raises:
            ApiError: `invalid_value`, naming the part: it is no image, cannot be had, is too
                large or not at a public address; `overloaded` when too much is held already.
        """
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if self._held + size > self._bytes_max:
                raise ApiError(
                    "overloaded", "Too many images are being fetched; try again.", retry_after_s=1
                )
            self._held += size
            held += size

        try:
            yield await self._inline(fields, hold)
        finally:
            self._held -= held

    async def _inline(self, fields: dict[str, Raw], hold: Callable[[int], None]) -> dict[str, Raw]:
        made = dict(fields)
        fetched = size = 0
        for name in _FIELDS & fields.keys():
            raw = bytes(fields[name])
            if raw[:1] not in (b"[", b"{") or not _may_hold_urls(raw):
                continue
            decoded = msgspec.json.decode(raw)
            changed = False
            for place in list(_places(decoded, name)):
                url = place.url.strip()
                scheme = url.partition(":")[0].lower()
                if scheme == "data" or (place.bare and _is_data(url)):
                    continue
                if scheme not in ("http", "https"):
                    raise _bad(place.param, "only `data:`, `http:` and `https:` are taken")
                if not place.image:
                    raise _bad(place.param, "this upstream takes it as data only")
                fetched += 1
                if fetched > IMAGES_MAX:
                    raise _bad(place.param, f"more than {IMAGES_MAX} images are not fetched")
                hold(IMAGE_BYTES_MAX)
                data = await self._fetch(url, place.param)
                hold(len(data) - IMAGE_BYTES_MAX)
                size += len(data)
                if size > CALL_BYTES_MAX:
                    raise _bad(
                        place.param, f"the images have more than {CALL_BYTES_MAX} bytes in all"
                    )
                place.holder[place.key] = data
                changed = True
            if changed:
                made[name] = Raw(_encode(decoded))
        return made

    async def _fetch(self, url: str, param: str) -> str:
        try:
            reply, body = await exchange(
                self._client, "GET", url, {"accept": "image/*"}, b"", _WAITS, IMAGE_BYTES_MAX
            )
        except (BadReply, ValueError) as error:
            raise _bad(param, f"the image cannot be fetched ({error})") from error
        except ClientError as error:
            # Whether a name or a port is there is not told.
            raise _bad(param, "the image cannot be fetched") from error
        if reply.status != 200:
            raise _bad(param, f"the image's server answered HTTP {reply.status}")
        kind = reply.headers.get(b"content-type", b"").decode("latin-1").split(";")[0].strip()
        if kind not in _KINDS:
            raise _bad(param, "what is there is no image")
        return f"data:{kind};base64,{base64.b64encode(body).decode()}"


def _bad(param: str, why: str) -> ApiError:
    return ApiError("invalid_value", f"`{param}`: {why}.", param=param)


class _Place(NamedTuple):
    """Where a URL stands in a request."""

    holder: Any
    key: Any
    param: str
    image: bool
    bare: bool
    """Whether base64 may stand there without `data:` before it."""

    @property
    def url(self) -> str:
        return str(self.holder[self.key])


def _may_hold_urls(raw: bytes) -> bool:
    """A quick look; names of fields may be written with escapes."""
    return any(sign in raw for sign in _SIGNS)


def _is_data(text: str) -> bool:
    """Whether a text is base64 and no address or path."""
    return _BASE64.fullmatch(text) is not None or not (":" in text or text[:1] in _PATH_BEGINS)


def _places(
    value: Any, param: str, *, image: bool = False, media: bool = False
) -> Iterator[_Place]:
    """Every place in messages, or what else holds parts, where a URL is fetched by engines."""
    if isinstance(value, list):
        for at, each in enumerate(value):
            where = f"{param}[{at}]"
            if media and isinstance(each, str):
                yield _Place(value, at, where, image, True)
            elif not isinstance(each, str):
                yield from _places(each, where, image=image, media=media)
    elif isinstance(value, dict):
        for key, each in value.items():
            named = key in _MEDIA
            where = param if media and key in _ADDRESSES else f"{param}.{key}"
            of_image = image if not named else key in _IMAGES
            if isinstance(each, str):
                if named or (media and key in _ADDRESSES):
                    yield _Place(value, key, where, of_image, key in _BARE)
            elif key not in _NO_MEDIA:
                yield from _places(each, where, image=of_image, media=media or named)
