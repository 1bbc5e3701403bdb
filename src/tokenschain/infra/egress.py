"""SSRF-safe egress: requests to addresses that others name reach public addresses only.

Whatever leaves this machine leaves here or by `wire.client`: a house test finds what does not.
Names are resolved here and only public addresses are connected to, the very addresses that
were checked, so that a name that changes its mind in between gains nothing. Redirects are not
followed.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from email.message import EmailMessage
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from tokenschain.wire.client import HttpClient, Origin, Reply, Waits
from tokenschain.wire.request_head import encode_lines
from tokenschain.wire.resolver import Resolver

# Global by their form, but a way to somewhere else: translators and tunnels carry an IPv4 address
# inside, which may be any, and clouds answer their own machines at some public address.
_NEVER = tuple(
    map(
        ip_network,
        (
            "::/96",  # IPv4-compatible (RFC 4291, 2.5.5.1)
            "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765)
            "64:ff9b::/96",  # NAT64 (RFC 6052)
            "64:ff9b:1::/48",  # NAT64 of one's own (RFC 8215)
            "2001::/32",  # Teredo
            "2002::/16",  # 6to4
            "fec0::/10",  # site-local (RFC 3879)
            "168.63.129.16/32",  # Azure's wire server
        ),
    )
)


_SMTPS_PORT = 465


def upstream_tls(ca_file: Path | None) -> ssl.SSLContext:
    """Whose certificates are taken as an upstream's: the system's authorities', and one's own."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


class PublicResolver(Resolver):
    """Gives public addresses only, and those of networks that the operator allows."""

    def __init__(self, allowed: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        super().__init__()
        self._allowed = allowed

    async def resolve(self, host: str, port: int) -> list[str]:
        """See `wire.resolver.Resolver.resolve`.

        Raises:
            OSError: the name has no address that may be reached.
        """
        try:
            found = await super().resolve(host, port)
        except OSError:
            found = []
        public = [address for address in found if self._may_reach(address)]
        if not public:
            # The same for a name that is not known, so that nobody learns which names there are.
            raise OSError("no public address")
        return public

    def _may_reach(self, address: str) -> bool:
        parsed = _address_of(address)
        return any(parsed in network for network in self._allowed) or _is_public(parsed)


def outside_client(
    ca_file: Path | None, proxy: str | None, make: Callable[..., HttpClient] = HttpClient
) -> HttpClient:
    """For upstreams that tenants name: they lead out, whatever their names resolve to.

    Where a proxy is the only way out, nothing goes past it: it resolves the names, and what may be
    reached is its rule. Hosts that are inside as they are written are refused before it is asked.

    Args:
        make: makes the client, under a sovereignty mode one that keeps to it.
    """
    tls = upstream_tls(ca_file)
    if not proxy:
        return make(tls=tls, resolver=PublicResolver())
    return make(tls=tls, proxy=proxy, past_proxy=_never_inside)


def _never_inside(host: str) -> bool:
    if is_local(host):
        raise OSError("no public address")
    return False


def _address_of(text: str) -> IPv4Address | IPv6Address:
    parsed = ip_address(text.partition("%")[0])
    return getattr(parsed, "ipv4_mapped", None) or parsed


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if any(address in network for network in _NEVER):
        return False
    return address.is_global and not address.is_multicast


def is_own_address(address: str) -> bool:
    """Whether an address is one of a private network, or of this machine."""
    try:
        parsed = _address_of(address)
    except ValueError:
        return False
    return parsed.is_loopback or (
        parsed.is_private and not any(parsed in network for network in _NEVER)
    )


def is_local(host: str) -> bool:
    """Whether a host leads inside by how it is written: as an address that is not public, in any
    spelling that some parser takes, or as a name of a local network. Nothing is looked up.

    Args:
        host: as it stands in a URL; brackets around IPv6 are gone or not.
    """
    text = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").lower()
    text = text.strip("[]").rstrip(".")
    try:
        return not _is_public(_address_of(text))
    except ValueError:
        pass
    try:
        # Of fewer parts, octal, hexadecimal: what the C library takes.
        return not _is_public(IPv4Address(socket.inet_aton(text)))
    except (OSError, ValueError):
        return "." not in text or text.endswith(_LOCAL_NAMES)


_LOCAL_NAMES = (".localhost", ".local", ".internal", ".intranet", ".lan", ".home.arpa", ".svc")
"""Ends of names that no public name has (RFC 6761, 6762, 8375, ICANN), and of Kubernetes'."""


async def exchange(
    client: HttpClient,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    waits: Waits,
    bytes_max: int,
) -> tuple[Reply, bytes]:
    """One request and its whole answer.

    Args:
        client: one with a `PublicResolver`.

    Raises:
        ValueError: the URL is none that may be asked for as it is.
        ClientError: it cannot be reached, or took too long.
    """
    parts = urlsplit(url)
    origin = Origin.of(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or any(c.isspace() or not c.isprintable() for c in target):
        raise ValueError("the URL must be percent-encoded")
    lines = {"host": origin.authority, "user-agent": "tokenschain", **headers}
    if body:
        lines["content-length"] = str(len(body))
    head = encode_lines((f"{method} {target} HTTP/1.1", *(f"{k}: {v}" for k, v in lines.items())))
    reply = await client.open(origin, b"%b\r\n%b" % (head, body), waits)
    return reply, await reply.read(bytes_max)


MailRefused = smtplib.SMTPException


class MailServer(NamedTuple):
    """The operator's own mail server; nobody else names one."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: bool


def send_mail(server: MailServer, message: EmailMessage, wait_max_s: float) -> None:
    """Hand a message to the mail server; blocks.

    Raises:
        OSError: it cannot be reached.
        MailRefused: it does not take the message.
    """
    context = ssl.create_default_context()
    connection: smtplib.SMTP
    if server.port == _SMTPS_PORT:
        connection = smtplib.SMTP_SSL(server.host, server.port, timeout=wait_max_s, context=context)
    else:
        connection = smtplib.SMTP(server.host, server.port, timeout=wait_max_s)
    with connection:
        if server.tls and server.port != _SMTPS_PORT:
            connection.starttls(context=context)
        if server.user and server.password:
            connection.login(server.user, server.password)
        connection.send_message(message)
