"""The gateways this one is compared with, as their packages install them.

nginx only passes calls on and is the measure of all others; `gateway.go` is a minimal gateway in
Go; the rest are products. The mock upstream knows a call's variant by the model's name.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

KEY = "sk-bench"
VARIANTS = ("", "d60", "p20")
_NGINX = """daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_max_body_size 64m;
  upstream mock {{ server 127.0.0.1:{mock_port}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://mock;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
# The package has the gateway's HTTP server but no command of its own; it chooses its port.
_TENSORZERO = (
    "import sys, threading; from tensorzero import tensorzero as t; "
    "g = t._start_http_gateway(config_file=sys.argv[1], clickhouse_url=None, postgres_url=None,"
    " valkey_url=None, async_setup=False); print(g.base_url, flush=True); threading.Event().wait()"
)


class Run(NamedTuple):
    """Where a peer finds what it needs."""

    build: Path
    folder: Path
    mock_port: int
    port: int


class Peer(NamedTuple):
    """How to start a peer and call it."""

    name: str
    port: int
    """0: the one that it prints when it starts."""
    ready: str
    calls_per_s: float
    """About what one core does; a slow peer gets fewer calls."""
    command: Callable[[Run], list[str]]
    environment: Callable[[Path], dict[str, str]] = lambda _: {}
    headers: Callable[[int], str] = lambda _: ""
    path: str = "/v1/chat/completions"
    model: str = "m"
    """What the variant's name is added to."""


def _nginx(run: Run) -> list[str]:
    config = run.folder / "nginx.conf"
    config.write_text(_NGINX.format(**run._asdict()))
    return ["nginx", "-c", str(config), "-p", str(run.folder)]


def _go(run: Run) -> list[str]:
    return [str(run.build / "gateway"), str(run.port), str(run.mock_port)]


def _router(name: str, *arguments: str) -> Callable[[Run], list[str]]:
    def command(run: Run) -> list[str]:
        return [
            str(run.build / "peers" / "bin" / name), *arguments, "--host", "127.0.0.1",
            "--port", str(run.port), "--worker-urls", f"http://127.0.0.1:{run.mock_port}",
            "--policy", "random", "--log-level", "error", "--prometheus-port", str(run.port + 50),
        ]  # fmt: skip

    return command


def _tensorzero(run: Run) -> list[str]:
    config = run.folder / "tensorzero.toml"
    models = "".join(
        f'[models.m{variant}]\nrouting = ["mock"]\n[models.m{variant}.providers.mock]\n'
        f'type = "openai"\napi_base = "http://127.0.0.1:{run.mock_port}/v1/"\n'
        f'model_name = "m{variant}"\napi_key_location = "none"\n'
        for variant in VARIANTS
    )
    config.write_text(f"[gateway]\nobservability.enabled = false\n{models}")
    return [str(run.build / "peers" / "bin" / "python"), "-c", _TENSORZERO, str(config)]


def _litellm(run: Run) -> list[str]:
    config = run.folder / "litellm.yaml"
    models = "".join(
        f"  - model_name: m{variant}\n    litellm_params:\n      model: openai/m{variant}\n"
        f"      api_base: http://127.0.0.1:{run.mock_port}/v1\n      api_key: none\n"
        for variant in VARIANTS
    )
    config.write_text(f"model_list:\n{models}general_settings:\n  master_key: {KEY}\n")
    command = run.build / "litellm" / "bin" / "litellm"
    return [str(command), "--config", str(config), "--port", str(run.port)]


def _portkey(run: Run) -> list[str]:
    server = run.build / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build"
    return ["node", str(server / "start-server.js"), f"--port={run.port}", "--headless"]


NGINX = Peer("nginx", 9_203, "/health", 40_000, _nginx)
PEERS = (
    Peer("Go, minimal", 9_204, "/health", 9_000, _go),
    Peer("vllm-router", 9_205, "/health", 12_000, _router("vllm-router")),
    Peer("sglang-router", 9_206, "/health", 9_000, _router("sglang-router", "launch")),
    Peer(
        "TensorZero", 0, "/", 3_500, _tensorzero, lambda _: {"RUST_LOG": "error"},
        path="/openai/v1/chat/completions", model="tensorzero::model_name::m",
    ),
    Peer(
        "Portkey", 9_202, "/", 900, _portkey,
        headers=lambda port: (
            "x-portkey-provider: openai\r\n"
            f"x-portkey-custom-host: http://127.0.0.1:{port}/v1\r\n"
        ),
    ),
    Peer(
        "LiteLLM", 9_201, "/health/liveliness", 90, _litellm,
        lambda folder: {
            "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR",
            "LITELLM_MODE": "PRODUCTION", "HOME": str(folder),
        },
    ),
)  # fmt: skip
