"""Listening ports of this machine's processes: which, whether one is taken, and by whom."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from tokenschain.infra.config import Settings
from tokenschain.infra.config.groups import reachable


def all_of(settings: Settings) -> Iterator[tuple[str, str, int]]:
    yield "server.port", settings.server.host, settings.server.port
    yield "control.port", settings.control.host, settings.control.port
    if settings.runs_engine:
        yield "engine.port", settings.engine.host, settings.engine.port
        yield "engine.embedder_port", settings.engine.host, settings.engine.embedder_port
    if settings.cache.compares_meanings and not settings.semantic.urls:
        yield "semantic.port", settings.semantic.host, settings.semantic.port


def is_taken(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


_LIVE = {
    "server.port": "/livez", "control.port": "/livez", "engine.port": "/health",
    "engine.embedder_port": "/health", "semantic.port": "/health",
}  # fmt: skip


def is_ours(settings: Settings, name: str) -> bool:
    """Whether what listens at a port answers as our process there does.

    Args:
        name: of the port's setting.
    """
    from tokenschain.cli import http  # noqa: PLC0415 - gateways do without

    scheme = "https" if name == "server.port" and settings.tls.certificate_file else "http"
    host, port = next((host, port) for one, host, port in all_of(settings) if one == name)
    text = http.read_own(f"{scheme}://{reachable(host)}:{port}{_LIVE[name]}")
    return text == "ok\n" if name == "server.port" else text.startswith("{")
