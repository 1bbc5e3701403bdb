"""A whole cluster on this machine for people: `make cluster`.

Three gateways, control, PostgreSQL, Redis Stack and the embedded engine, as the tests start
them. Everything is in a folder that is gone when it ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

from rich.console import Console

from tests.ports import free_port
from tests.servers import Postgres, RedisStack
from tests.stack import Stack
from tokenschain.infra.model_store import DEFAULT_MODEL

CACHE = Path(os.environ.get("TEST_MODEL_CACHE", Path.home() / ".cache" / "tokenschain"))
LOOK_S = 0.5


def main() -> None:
    """Start everything, say where it is, and restart what dies until Ctrl-C."""
    console = Console(soft_wrap=True, highlight=False)
    ended: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda got, _: ended.append(got))
    folder = Path(tempfile.mkdtemp(prefix="tokenschain-cluster-"))
    with console.status("PostgreSQL and Redis Stack"):
        postgres, redis = Postgres(), RedisStack()
    stack = Stack(
        folder / "stack", "http://unused", gateways=3, upstreams=[],
        database={"url": postgres.database()}, redis={"url": redis.url},
        engine={"enabled": True, "port": free_port(), "embedder_port": free_port()},
    )  # fmt: skip
    try:
        models = stack.settings.data_dir / "models"
        models.mkdir(parents=True, exist_ok=True)
        for file in (CACHE / "models").glob(f"{DEFAULT_MODEL.name}*"):
            shutil.copyfile(file, models / file.name)
        with console.status("engine, control and three gateways"):
            stack.spawn("engine")
            stack.start()
        console.rule("[bold]A cluster of TokensChain is up")
        for name, url in zip(stack.gateway_names, stack.urls, strict=True):
            console.print(f"{name:<12}[bold cyan]{url}/v1[/]")
        console.print(f"{'control':<12}[bold cyan]http://127.0.0.1:{stack.control_port}/[/]")
        console.print(f"{'PostgreSQL':<12}{postgres.url}\n{'Redis':<12}{redis.url}")
        console.print(f"API key     {stack.key}\nadmin token {stack.admin_token}\n")
        for url in stack.urls:
            console.print(
                f"curl {url}/v1/chat/completions -H 'Authorization: Bearer {stack.key}' "
                "-H 'Content-Type: application/json' -d "
                f'\'{{"model":"{stack.settings.engine.model}","messages":'
                '[{"role":"user","content":"Say hello."}]}\'',
                markup=False,
            )
        pids = ", ".join(f"{name} {p.pid}" for name, p in stack.processes.items())
        console.print(
            f"\nKill what you like, it comes back: {pids}\nCtrl-C ends it. / 按 Ctrl-C 结束。"
        )
        while not ended:
            time.sleep(LOOK_S)
            for name, process in list(stack.processes.items()):
                if process.poll() is not None and not ended:
                    stack.spawn(name)
                    console.print(f"{name} ended and is started again")
    finally:
        stack.close()
        postgres.close()
        redis.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
