"""Object storage with object lock (S3): objects that nobody can delete before their time.

Anything that speaks the S3 API with `x-amz-object-lock-*` will do. An object counts as kept when
the storage itself says that it is locked for as long as was asked.
"""

from __future__ import annotations

import base64
import calendar
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

from tokenschain.infra.egress import exchange
from tokenschain.providers.signing import KeyPair, Signable, aws_v4, sha256_hex
from tokenschain.wire.client import HttpClient, Origin, Reply, Waits

DAY_S = 86_400
_MODE = "COMPLIANCE"
"""In which not even the owner of the bucket can shorten the time."""
_SERVICE = "s3"
_ANSWER_BYTES_MAX = 65_536
_SAID_CHARACTERS_MAX = 300
_WAITS = Waits(connect_max_s=5.0, first_byte_max_s=30.0, total_max_s=30.0)
_TIME = "%Y-%m-%dT%H:%M:%SZ"


class NotKept(Exception):
    """An object was not put under lock; the text says why."""


class LockedObject(NamedTuple):
    """An object that is locked."""

    url: str
    version: str
    """Which version of the object it is; empty where the storage names none."""
    retain_until: str
    sha256: str


class ObjectLockBucket:
    """Puts objects into a bucket, locked for some days."""

    def __init__(
        self,
        url: str,
        region: str,
        retain_days: int,
        credential: Callable[[], str],
        client: HttpClient,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            url: of the bucket, with a path before the names of objects.
            credential: gives its key pair, `id:secret`.
        """
        self.url = url.rstrip("/")
        self._region = region
        self._retain_s = retain_days * DAY_S
        self._credential = credential
        self._client = client
        self._clock = clock

    async def put(self, name: str, data: bytes) -> LockedObject:
        """Put an object, and ask whether it is locked.

        Raises:
            NotKept: it is not there, or not locked.
        """
        until_s = int(self._clock()) + self._retain_s
        until = time.strftime(_TIME, time.gmtime(until_s))
        digest = base64.b64encode(bytes.fromhex(sha256_hex(data))).decode()
        url = f"{self.url}/{name}"
        put, _ = await self._ask(
            "PUT", url, data,
            {
                "content-type": "text/plain; charset=utf-8",
                "x-amz-checksum-sha256": digest,
                "x-amz-object-lock-mode": _MODE,
                "x-amz-object-lock-retain-until-date": until,
                "x-amz-sdk-checksum-algorithm": "SHA256",
            },
        )  # fmt: skip
        version = _header(put, "x-amz-version-id")
        there, found = await self._ask("GET", url, b"", {}, version)
        locked = _header(there, "x-amz-object-lock-retain-until-date")
        if found != data:
            raise NotKept("the storage has another object than was put")
        if _header(there, "x-amz-object-lock-mode") != _MODE or _moment(locked) < until_s:
            raise NotKept("the storage did not lock it for as long as was asked")
        return LockedObject(url, version, locked, sha256_hex(data))

    async def _ask(
        self, method: str, url: str, body: bytes, more: Mapping[str, str], version: str = ""
    ) -> tuple[Reply, bytes]:
        access, _, secret = self._credential().partition(":")
        headers = {
            "host": Origin.of(url).authority,
            "x-amz-content-sha256": sha256_hex(body),
            "x-amz-date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock())),
            **more,
        }
        query = [("versionId", version)] if version else []
        asked = Signable(method, urlsplit(url).path, tuple(headers.items()), body, query)
        headers["authorization"] = aws_v4(asked, KeyPair(access, secret), self._region, _SERVICE)
        whole = f"{url}?versionId={quote(version, safe='')}" if version else url
        try:
            reply, said = await exchange(
                self._client, method, whole, headers, body, _WAITS, _ANSWER_BYTES_MAX
            )
        except Exception as error:
            raise NotKept(f"{type(error).__name__} {error}".strip()) from error
        if reply.status != 200:
            why = " ".join(said.decode("utf-8", "replace").split())[:_SAID_CHARACTERS_MAX]
            raise NotKept(f"{method} HTTP {reply.status} {why}".strip())
        return reply, said


def _header(reply: Reply, name: str) -> str:
    return reply.headers.get(name.encode(), b"").decode("latin-1")


def _moment(text: str) -> int:
    """Unix time; 0 of what is none. Fractions of a second are left out."""
    try:
        return calendar.timegm(time.strptime(text.partition(".")[0].rstrip("Z") + "Z", _TIME))
    except ValueError:
        return 0
