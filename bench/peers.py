"""The gateways this one is compared with, as their packages install them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Peer(NamedTuple):
    """How to start a peer and call it."""

    name: str
    port: int
    ready: str
    calls_per_s: float
    """About what one core does; a slow peer gets fewer calls."""
    command: Callable[[Path, Path, int], list[str]]
    environment: Callable[[Path], dict[str, str]]
    headers: Callable[[str, int], str]


def _litellm(build: Path, folder: Path, mock_port: int) -> list[str]:
    config = folder / "litellm.yaml"
    models = "".join(
        f"  - model_name: m{variant}\n    litellm_params:\n      model: openai/m\n"
        f"      api_base: http://127.0.0.1:{mock_port}/{variant + '/' if variant else ''}v1\n"
        "      api_key: none\n"
        for variant in ("", "d60", "p20")
    )
    config.write_text(f"model_list:\n{models}general_settings:\n  master_key: sk-bench\n")
    return [str(build / "litellm" / "bin" / "litellm"), "--config", str(config), "--port", "9201"]


def _portkey(build: Path, folder: Path, mock_port: int) -> list[str]:
    server = build / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build"
    return ["node", str(server / "start-server.js"), "--port=9202", "--headless"]


def _portkey_headers(variant: str, mock_port: int) -> str:
    base = f"http://127.0.0.1:{mock_port}/{variant + '/' if variant else ''}v1"
    return f"x-portkey-provider: openai\r\nx-portkey-custom-host: {base}\r\n"


PEERS = (
    Peer(
        "litellm", 9_201, "/health/liveliness", 90, _litellm,
        lambda folder: {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "HOME": str(folder),
        },
        lambda variant, port: "",
    ),
    Peer("portkey", 9_202, "/", 900, _portkey, lambda folder: {}, _portkey_headers),
)  # fmt: skip
