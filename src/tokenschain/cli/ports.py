"""Listening ports of this machine's processes: which, and whether one is taken."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from tokenschain.infra.config import Settings


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
