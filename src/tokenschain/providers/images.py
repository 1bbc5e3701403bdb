"""Media named by URL: images fetched for vendors that take only data, addresses checked for all.

A URL in a request must not reach what only this machine, or an engine beside it, can reach; see
`infra.egress`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from enum import Enum
from functools import partial
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_bounds import LONG_BYTES
from tokenschain.core.ports import OffLoop, on_loop
from tokenschain.core.tenancy import KeyGrant
from tokenschain.infra.egress import exchange, is_local
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
BESIDE_MESSAGES = frozenset({"system", "input", "documents", "query", "mcp_servers", "tools"})
"""Fields that may hold URLs as messages do."""
_FIELDS = BESIDE_MESSAGES | {"messages"}
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
_SIGNS = (b'_url"', b'"url"', b'image"', b'video"', b'audio"', b'file"', b"\\u")
_NO_MEDIA = frozenset({"tool_calls", "function_call", "reasoning_details"})
_FETCHED = frozenset({"http", "https", "ftp", "ws", "wss", "rtsp", "rtmp"})
"""Schemes whose URLs name a host; those of vendors' own name a file that was uploaded."""
_SCHEME_CHARACTERS = 8
_NAMES_HOST = re.compile(rb'"\s*(?:%b):' % "|".join(sorted(_FETCHED | {"file"})).encode(), re.I)
HOSTS_MAX = 64
"""Names that are looked up for one call."""
_encode = msgspec.json.Encoder().encode
T = TypeVar("T")


class MediaUrls(Enum):
    """What becomes of URLs of media in a request, which its upstream would fetch."""

    PASSED = 0
    READ = 1
    """Passed on if they lead to no address that is written as one inside."""
    RESOLVED = 2
    """And if their names, looked up here, have a public address."""
    INLINED = 3
    """Images are fetched here, other media are refused."""


class ImageFetcher:
    """Writes images into a request as data, within a budget of the process."""

    def __init__(
        self,
        client: HttpClient,
        bytes_max: int = PROCESS_BYTES_MAX,
        off_loop: OffLoop = on_loop,
    ) -> None:
        """
        Args:
            client: one with an `infra.egress.PublicResolver`.
            bytes_max: of all images that calls of this process hold at once.
            off_loop: where URLs are looked for in long requests.
        """
        self._client = client
        self._bytes_max = bytes_max
        self._off_loop = off_loop
        self._held = 0

    @asynccontextmanager
    async def inlined(
        self, fields: dict[str, Raw], caller: KeyGrant | None = None
    ) -> AsyncIterator[dict[str, Raw]]:
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
            yield await self._inline(fields, hold, caller)
        finally:
            self._held -= held

    async def check(
        self, fields: dict[str, Raw], media: MediaUrls, caller: KeyGrant | None = None
    ) -> None:
        """Refuse URLs that lead inside, or to the upstream's own files.

        Raises:
            ApiError: `invalid_value`, naming the part.
        """
        hosts = await self._do(partial(_hosts_in, fields), fields, caller)
        if media is not MediaUrls.RESOLVED:
            return
        if len(hosts) > HOSTS_MAX:
            param = list(hosts.values())[HOSTS_MAX]
            raise _bad(param, f"media of more than {HOSTS_MAX} hosts are not taken")
        for (host, port), param in hosts.items():
            try:
                await self._client.resolver.resolve(host, port)
            except (OSError, ValueError) as error:
                raise _bad(param, _NOT_PUBLIC) from error

    async def _do(
        self, work: Callable[[], T], fields: dict[str, Raw], caller: KeyGrant | None
    ) -> T:
        """Do what reads a request, where nobody waits for it if it takes long."""
        long = any(memoryview(raw).nbytes > LONG_BYTES for raw in fields.values())
        return await self._off_loop(work, caller) if long else work()

    async def _inline(
        self, fields: dict[str, Raw], hold: Callable[[int], None], caller: KeyGrant | None
    ) -> dict[str, Raw]:
        made = dict(fields)
        fetched = size = 0
        for name, decoded, places in await self._do(partial(_images_in, fields), fields, caller):
            for place in places:
                url = place.url.strip()
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
                place.write(data)
            if places:
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


_NOT_PUBLIC = "its address is not public"


def _host_of(place: _Place) -> tuple[str, int] | None:
    """The host and port that a URL is fetched from; None where it names no host.

    Raises:
        ApiError: it leads inside, or can be read in two ways.
    """
    url = place.url.strip()
    scheme, colon, _ = url[:_SCHEME_CHARACTERS].partition(":")  # a picture has megabytes
    scheme = scheme.lower()
    if scheme == "file":
        raise _bad(place.param, "files of the upstream are not named here")
    if not colon or scheme not in _FETCHED:
        return None
    odd = "\\" in url or any(c.isspace() or not c.isprintable() for c in url)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or 443
    except ValueError:
        odd = True
    if odd or url[len(scheme) + 1 :][:2] != "//" or not host:
        raise _bad(place.param, "it is no URL as browsers write it")
    if is_local(host):
        raise _bad(place.param, _NOT_PUBLIC)
    return host, port


def _hosts_in(fields: dict[str, Raw]) -> dict[tuple[str, int], str]:
    """Hosts and ports that media are fetched from, and where each is named first.

    Raises:
        ApiError: see `_host_of`.
    """
    hosts: dict[tuple[str, int], str] = {}
    for name, decoded in _decoded(fields, _may_name_host):
        for place in _places(decoded, name):
            found = _host_of(place)
            if found is not None:
                hosts.setdefault(found, place.param)
    return hosts


def _images_in(fields: dict[str, Raw]) -> list[tuple[str, Any, list[_Place]]]:
    """Fields, what they hold, and the places of the images in them that are to be fetched.

    Raises:
        ApiError: what stands in a place is not taken.
    """
    found = []
    for name, decoded in _decoded(fields, _may_hold_urls):
        wanted = []
        for place in _places(decoded, name):
            url = place.url.strip()
            scheme = url.partition(":")[0].lower()
            if scheme == "data" or (place.bare and _is_data(url)):
                continue
            if scheme not in ("http", "https"):
                raise _bad(place.param, "only `data:`, `http:` and `https:` are taken")
            if not place.image:
                raise _bad(place.param, "this upstream takes it as data only")
            wanted.append(place)
        found.append((name, decoded, wanted))
    return found


def may_name_media(fields: dict[str, Raw]) -> bool:
    """Whether `ImageFetcher` has anything to look into; never false where it has."""
    return any(_structures(fields, _may_hold_urls))


def _decoded(
    fields: dict[str, Raw], quick_look: Callable[[bytes], bool]
) -> Iterator[tuple[str, Any]]:
    """The fields that may hold URLs of media, decoded."""
    for name, raw in _structures(fields, quick_look):
        yield name, msgspec.json.decode(raw)


def _structures(
    fields: dict[str, Raw], quick_look: Callable[[bytes], bool]
) -> Iterator[tuple[str, bytes]]:
    """Fields that are no plain values and may hold URLs of media."""
    for name in sorted(_FIELDS & fields.keys()):
        raw = bytes(fields[name])
        if raw[:1] in (b"[", b"{") and quick_look(raw):
            yield name, raw


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

    def write(self, data: str) -> None:
        """Put a data URL there, in the form that the place has for data."""
        if self.key == "url" and self.holder.get("type") == "url":
            # The source of a block of Anthropic's.
            kind, _, encoded = data.removeprefix("data:").partition(";base64,")
            self.holder.clear()
            self.holder.update(type="base64", media_type=kind, data=encoded)
        else:
            self.holder[self.key] = data


def _may_hold_urls(raw: bytes) -> bool:
    """A quick look; names of fields may be written with escapes."""
    return any(sign in raw for sign in _SIGNS)


def _may_name_host(raw: bytes) -> bool:
    """As quick, where data may be whatever it is: only what may be a URL is looked into."""
    return _may_hold_urls(raw) and (b"\\" in raw or _NAMES_HOST.search(raw) is not None)


def _is_data(text: str) -> bool:
    """Whether a text is base64 and no address or path."""
    return _BASE64.fullmatch(text) is not None or not (":" in text or text[:1] in _PATH_BEGINS)


def _places(decoded: Any, name: str) -> Iterator[_Place]:
    """Every place in a field where a URL stands that engines fetch."""
    if name == "tools":
        # Of a schema the caller's words mean nothing; a tool elsewhere has an address of its own.
        for at, tool in enumerate(decoded if isinstance(decoded, list) else ()):
            if isinstance(tool, dict) and isinstance(tool.get("server_url"), str):
                yield _Place(tool, "server_url", f"tools[{at}].server_url", False, False)
        return
    yield from _places_in(decoded, name, media=name == "mcp_servers")


def _is_source(value: Any) -> bool:
    """Whether it is where the medium of a block of Anthropic's comes from."""
    return isinstance(value, dict) and value.get("type") != "text"


def _places_in(
    value: Any, param: str, *, image: bool = False, media: bool = False
) -> Iterator[_Place]:
    if isinstance(value, list):
        for at, each in enumerate(value):
            where = f"{param}[{at}]"
            if media and isinstance(each, str):
                yield _Place(value, at, where, image, True)
            elif not isinstance(each, str):
                yield from _places_in(each, where, image=image, media=media)
    elif isinstance(value, dict):
        of_block = value.get("type") == "image"
        for key, each in value.items():
            named = key in _MEDIA or (key == "source" and _is_source(each))
            where = param if media and key in _ADDRESSES else f"{param}.{key}"
            of_image = image if not named else key in _IMAGES or (of_block and key == "source")
            if isinstance(each, str):
                if named or (media and key in _ADDRESSES):
                    yield _Place(value, key, where, of_image, key in _BARE)
            elif key not in _NO_MEDIA:
                yield from _places_in(each, where, image=of_image, media=media or named)
