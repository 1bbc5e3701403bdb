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
_ANSWER_MAX_S = 3.0


def is_ours(settings: Settings, name: str) -> bool:
    """Whether what listens at a port answers as our process there does.

    Args:
        name: of the port's setting.
    """
    import httpx  # noqa: PLC0415 - gateways do without

    scheme = "https" if name == "server.port" and settings.tls.certificate_file else "http"
    host, port = next((host, port) for one, host, port in all_of(settings) if one == name)
    try:
        # Its certificate is for callers' name of it; nothing is sent that it could betray.
        with httpx.Client(verify=False, trust_env=False, timeout=_ANSWER_MAX_S) as client:  # noqa: S501  # nosec B501  # see above
            reply = client.get(f"{scheme}://{reachable(host)}:{port}{_LIVE[name]}")
    except httpx.HTTPError:
        return False
    if name == "server.port":
        return reply.status_code == 200 and reply.text == "ok\n"
    return reply.status_code == 200 and reply.text.startswith("{")
