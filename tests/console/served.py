"""A console that listens, and tabs of a real browser before it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import sync_playwright

from tests.console.visitors import unseen
from tests.ports import free_port
from tokenschain.console.app import Console
from tokenschain.core.errors import ApiError, wire_refusal
from tokenschain.infra.asgi import AsgiHandler
from tokenschain.wire.server import HttpServer, Limits

CHROMIUM = "/usr/bin/chromium"
START_MAX_S = 30


@contextlib.contextmanager
def served(console: Console) -> Iterator[str]:
    """Serves the console from a thread of its own; gives its address."""
    port, loop, up = free_port(), asyncio.new_event_loop(), threading.Event()
    stop: list[Callable[[], object]] = []

    def failed() -> tuple[int, bytes, bytes]:
        error = ApiError("internal_error", "failed")
        return error.status, b"", error.body()

    async def serve() -> None:
        server = HttpServer(AsgiHandler(console, failed, unseen), wire_refusal, Limits(), [])
        await server.listen("127.0.0.1", port)
        up.set()
        try:
            await asyncio.Event().wait()
        finally:
            await server.drain(1.0)

    def run() -> None:
        task = loop.create_task(serve())
        stop.append(lambda: loop.call_soon_threadsafe(task.cancel))
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert up.wait(START_MAX_S)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop[0]()
        thread.join(START_MAX_S)
        loop.close()


@contextlib.contextmanager
def chromium() -> Iterator[Chromium]:
    """Debian's browser."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()
