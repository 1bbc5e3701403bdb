"""Egress allow list: under a sovereignty mode, which machines a process connects to at all.

What may be reached follows from the configuration: machines of the settings, upstreams and clouds
of the catalog by their zones, `sovereignty.hosts`, and private addresses, which are one's own. All
else is refused where connections are opened, so that no feature, now or later, leads past it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

from tokenschain.core.log_events import Reporter
from tokenschain.core.snapshot import Served, Upstream
from tokenschain.core.snapshot.zones import AIR_GAPPED, NONE, ZONES, zones_of
from tokenschain.infra import catalog_file
from tokenschain.infra.config import Settings, SettingsError
from tokenschain.infra.egress import is_own_address, outside_client, upstream_tls
from tokenschain.wire.client import HttpClient, is_loopback
from tokenschain.wire.request_head import ascii_host
from tokenschain.wire.resolver import Resolver

Upstreams = Mapping[str, Upstream]


def upstreams_of(served: Served) -> Upstreams:
    """Those of the configuration in force; none before the first."""
    return served.get().upstreams if served.version else {}


class EgressRefused(OSError):
    """A connection that the sovereignty mode does not allow."""


class Egress:
    """Opens this process' HTTP connections, and says which others it may open."""

    def __init__(
        self, settings: Settings, report: Reporter, upstreams: Callable[[], Upstreams] = dict
    ) -> None:
        """
        Args:
            upstreams: those of the configuration in force.
        """
        self._settings = settings
        self._mode = settings.sovereignty.mode
        self._zones = frozenset(zones_of(self._mode) or ())
        self._report = report
        self.upstreams = upstreams
        hosts = settings.sovereignty.hosts
        self._declared = {_name_of(host): zone for host, zone in hosts.items()}
        self._seen: Upstreams = {}
        self._by_upstream: dict[str, frozenset[str]] = {}
        self.refused: list[Callable[[str], None]] = []
        """Told of each machine that was not connected to."""

    def client(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        proxy: str | None = None,
        resolver: Resolver | None = None,
        past_proxy: Callable[[str], bool] | None = None,
    ) -> HttpClient:
        """An HTTP client that reaches what the mode allows; see `HttpClient`."""
        if self._mode == NONE:
            return HttpClient(tls=tls, proxy=proxy, resolver=resolver, past_proxy=past_proxy)
        goes_past = past_proxy or is_loopback

        def checked(host: str) -> bool:
            past = goes_past(host)
            if not past:
                self.check(host, ())  # the proxy resolves the name
            return past

        guarded = _GuardedResolver(resolver or Resolver(), self)
        return HttpClient(tls=tls, proxy=proxy, resolver=guarded, past_proxy=checked)

    def operators_client(self) -> HttpClient:
        """For machines that the operator names: by the proxy, where there is one."""
        egress = self._settings.egress
        return self.client(tls=upstream_tls(egress.ca_file), proxy=egress.proxy)

    def outside_client(self) -> HttpClient:
        """For upstreams that tenants name; see `infra.egress.outside_client`."""
        egress = self._settings.egress
        return outside_client(egress.ca_file, egress.proxy, self.client)

    def check(self, host: str, addresses: Iterable[str]) -> None:
        """Insist that a machine may be connected to.

        Args:
            addresses: what its name was resolved to; none where somebody else resolves it.

        Raises:
            EgressRefused: it may not.
        """
        if self._mode == NONE:
            return
        why = self._why_not(host, tuple(addresses))
        if why:
            self._refuse(host, self._mode, why)

    def check_within(self, host: str, zones: frozenset[str], mode: str) -> None:
        """Insist that a machine is in some zones by its name alone, which is not looked up.

        Args:
            mode: whose the zones are, in words.

        Raises:
            EgressRefused: it is not, or nobody says where it is.
        """
        why = self._outside(host, (host,), zones)
        if why:
            self._refuse(host, mode, why)

    def _refuse(self, host: str, mode: str, why: str) -> NoReturn:
        self._report("egress_refused", why, host=host, mode=mode)
        for tell in self.refused:
            tell(host)
        raise EgressRefused(f"sovereignty mode {mode}: {why}")

    def hold(self) -> None:
        """Hold this process to its mode: machines that the settings name are checked now, by the
        addresses of their names, and in an air-gapped process Python's own sockets, which are
        libraries', each time.

        Raises:
            SettingsError: one leads where nothing may go.
        """
        if self._mode == NONE:
            return
        for name, url, _ in _machines(self._settings):
            for host in _hosts_of(url):
                try:
                    self.check(host, _addresses(host))
                except EgressRefused as error:
                    raise SettingsError(f"setting {name} leads to {host}; {error}") from None
        if self._mode == AIR_GAPPED:
            sys.addaudithook(self._audited)

    def _audited(self, event: str, given: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(given[1], tuple):
            address = str(given[1][0])
            self.check(address, _addresses(address))

    def _why_not(self, host: str, addresses: tuple[str, ...]) -> str:
        """Why a machine may not be connected to; empty where it may."""
        addresses = addresses or (host,)
        if self._mode == AIR_GAPPED and not all(map(is_own_address, addresses)):
            return f"{host} is at no private address"
        return self._outside(host, addresses, self._zones)

    def _outside(self, host: str, addresses: tuple[str, ...], zones: frozenset[str]) -> str:
        """Why a machine is not known to be in some zones; empty where it is."""
        declared = self._zones_of(host)
        if declared <= zones if declared else all(map(is_own_address, addresses)):
            return ""
        where = ", ".join(zone for zone in ZONES if zone in declared) or "unknown"
        return f"the zone of {host} is {where}; name it in sovereignty.hosts if that is wrong"

    @cached_property
    def _fixed(self) -> Mapping[str, frozenset[str]]:
        return _zones_by_host(_known_places(self._settings))

    def _zones_of(self, host: str) -> frozenset[str]:
        """The zones that a name is known to be in."""
        host = _name_of(host)
        labels = host.split(".")
        wider = ("*." + ".".join(labels[at:]) for at in range(1, len(labels)))
        for name in (host, *wider):
            if name in self._declared:
                return frozenset({self._declared[name]})
        now = self.upstreams()
        if now is not self._seen:
            self._seen = now
            rows = [(u.base_url, u.zone) for u in now.values()]
            rows += [(u.token_url, u.zone) for u in now.values() if u.token_url]
            self._by_upstream = _zones_by_host(rows)
        return self._by_upstream.get(host) or self._fixed.get(host) or frozenset()


class _GuardedResolver(Resolver):
    """Gives no address of a machine that may not be connected to."""

    def __init__(self, inner: Resolver, rules: Egress) -> None:
        super().__init__()
        self._inner, self._rules = inner, rules

    async def resolve(self, host: str, port: int) -> list[str]:
        """See `Resolver.resolve`.

        Raises:
            EgressRefused: the machine may not be connected to.
        """
        found = await self._inner.resolve(host, port)
        self._rules.check(host, found)
        return found


def _zones_by_host(places: Iterable[tuple[str | None, str]]) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for url, zone in places:
        for host in _hosts_of(url):
            found.setdefault(host, set()).add(zone)
    # A machine of which one place does not say where it is, is nowhere that is known.
    return {host: frozenset(zones) - {""} for host, zones in found.items() if "" not in zones}


def _known_places(settings: Settings) -> Iterator[tuple[str | None, str]]:
    """Machines of the catalog and the settings that have a zone."""
    for provider in catalog_file.load().providers:
        yield provider.base_url, provider.zone or ""
    for _, url, zone in _machines(settings):
        if zone:
            yield url, zone


def _machines(settings: Settings) -> Iterator[tuple[str, str | None, str]]:
    """What the settings lead to: the setting, the address and, where they say it, the zone."""
    yield "database.url", settings.database.url, ""
    yield "redis.url", settings.redis.url, ""
    yield "smtp.host", settings.smtp.host and f"//{settings.smtp.host}", ""
    yield "oidc.issuer", settings.oidc.issuer, ""
    yield "egress.proxy", settings.egress.proxy, ""
    yield "control.url", settings.control.url, ""
    yield "engine.url", settings.engine.url, ""
    for url in settings.semantic.urls:
        yield "semantic.urls", url, ""
    for witness in settings.audit.witnesses:
        yield "audit.witnesses", witness.partition(" ")[0], ""
    for url in settings.audit.timestamp_urls:
        yield "audit.timestamp_urls", url, ""
    if settings.audit.object_lock is not None:
        yield "audit.object_lock.url", settings.audit.object_lock.url, ""
    for name, one in (("judge", settings.cache.judge), ("embedder", settings.cache.embedder)):
        if one is not None:
            yield f"cache.{name}.base_url", one.base_url, one.zone
    for name, engine in settings.moderation.engines.items():
        yield f"moderation.engines.{name}.base_url", engine.base_url, engine.zone


def _hosts_of(url: str | None) -> list[str]:
    """The hosts of an address; none for a file, or a socket of this machine. A database's may have
    several, and others in its query."""
    if not url or url.startswith(("sqlite", "unix:")):
        return []
    parts = urlsplit(url)
    places = parts.netloc.rpartition("@")[2].split(",")
    for name, value in parse_qsl(parts.query):
        if url.startswith("postgresql") and name in ("host", "hostaddr"):
            places += value.split(",")
    found = []
    for place in places:
        with contextlib.suppress(ValueError):
            host = _name_of(urlsplit(f"//{place}").hostname or "")
            found += [host] if host else []
    return found


def _name_of(host: str) -> str:
    """A host as it is looked up, however it is written."""
    try:
        return ascii_host(host).rstrip(".").lower()
    except ValueError:
        return host  # nothing is found at it


def _addresses(host: str) -> list[str]:
    """What a name is resolved to; blocks. None where nobody knows it."""
    try:
        return [str(one[4][0]) for one in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except (OSError, ValueError):
        return []
