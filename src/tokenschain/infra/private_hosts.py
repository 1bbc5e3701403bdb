"""Private hosts: names of machines that callers are not told of."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from tokenschain.core.snapshot import Served
from tokenschain.infra.config import Settings
from tokenschain.wire.request_head import ascii_host


class PrivateHosts:
    """The machines of the settings, and of the upstreams that are served by."""

    def __init__(self, settings: Settings, served: Served) -> None:
        self._settings = settings
        self._served = served
        self._version = ""
        self._names: frozenset[str] | None = None

    def names(self) -> frozenset[str]:
        """As they are written, and as they are looked up; found once for each configuration."""
        if self._names is None or self._version != self._served.version:
            self._version = self._served.version
            self._names = frozenset(self._found()) - {""}
        return self._names

    def _found(self) -> Iterator[str]:
        for url in filter(None, self._urls()):
            with contextlib.suppress(ValueError):  # of a tenant's, that nothing is found at
                host = urlsplit(url).hostname or ""
                yield host
                yield ascii_host(host)

    def _urls(self) -> Iterator[str | None]:
        settings, served = self._settings, self._served
        yield from (
            settings.control_base_url, settings.semantic_base_url, settings.redis.url,
            settings.egress.proxy, f"//{socket.gethostname()}",
        )  # fmt: skip
        if served.version:
            for upstream in served.get().upstreams.values():
                yield upstream.base_url
                yield upstream.token_url
