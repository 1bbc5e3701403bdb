"""Readiness of a platform that was just started: every process answers, and a first call works.

The first call costs nothing and is in nobody's bill: one token of the embedded engine, asked of it
directly, and the way of a call through the gateway without the call (`/api/v1/routes/explain`)
with the key that the start made. Clouds are not called: `tokenschain upstreams test` does that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import msgspec

from tokenschain.cli import http
from tokenschain.infra.config import Settings

READY_MAX_S = 300.0
"""A large model of one's own takes minutes to load."""
FIRST_CALL_MAX_S = 20.0
"""For what the first call needs once all are ready, as the key in the gateway's configuration."""
SAID_AFTER_S = 10.0
"""What is still awaited then is said, and each time that it changes."""
_ANSWER_MAX_S = 15.0
_LOOK_S = 0.1


class NotReady(Exception):
    """What does not answer, and why."""


class Step(NamedTuple):
    """Something that has to work before the platform is up."""

    what: str
    check: Callable[[httpx.AsyncClient], Awaitable[str]]
    """Gives why it does not work yet; empty when it does."""


async def wait(settings: Settings, tell: Callable[[str], None]) -> None:
    """Wait until every process is ready.

    Args:
        tell: told what is awaited, when it takes long.

    Raises:
        NotReady: one is not after `READY_MAX_S`.
    """
    deadline = time.monotonic() + READY_MAX_S
    async with _client() as client:
        for step in _processes(settings):
            why = await _until(step, client, deadline, tell)
            if why:
                raise NotReady(f"{step.what} was not ready after {READY_MAX_S:g} s: {why}")


async def first_call(settings: Settings, key: str | None, model: str | None) -> str:
    """Why a first call would be refused; empty when it works.

    Args:
        key: an API key to ask with; None where none is known.
        model: of callers; None where none is served.
    """
    steps = []
    if settings.runs_engine:
        steps.append(_one_token(settings))
    if key is not None and model is not None:
        steps.append(_route(settings, key, model))
    deadline = time.monotonic() + FIRST_CALL_MAX_S
    async with _client() as client:
        for step in steps:
            why = await _until(step, client, deadline, lambda _: None)
            if why:
                return f"{step.what}: {why}"
    return ""


def _client() -> httpx.AsyncClient:
    # Certificates are for callers' name of the gateway, and the way there leaves no machine.
    return httpx.AsyncClient(
        verify=False,  # noqa: S501  # nosec B501  # see above
        trust_env=False,
        timeout=_ANSWER_MAX_S,
    )


async def _until(
    step: Step, client: httpx.AsyncClient, deadline: float, tell: Callable[[str], None]
) -> str:
    began, told = time.monotonic(), ""
    while True:
        try:
            why = await step.check(client)
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
        now = time.monotonic()
        if not why:
            return ""
        if why != told and now - began > SAID_AFTER_S:
            tell(f"{step.what} is not ready yet: {why} (`tokenschain doctor` says more)")
            told = why
        if now > deadline:
            return why
        await asyncio.sleep(_LOOK_S)


def _processes(settings: Settings) -> Iterator[Step]:
    yield _answering("control", f"{settings.control_base_url}/readyz")
    gateway = settings.gateway_base_url.removesuffix("/v1")
    yield _answering("the gateway", f"{gateway}/readyz", settings.metrics_token_path)
    if settings.runs_engine:
        address = f"http://{settings.engine.host}"
        yield _answering("the engine", f"{address}:{settings.engine.port}/health")
        yield _answering("the embedder", f"{address}:{settings.engine.embedder_port}/health")


class _Problems(msgspec.Struct, frozen=True):
    """Why a gateway is not ready, for who has the token for metrics."""

    problems: tuple[str, ...] = ()


def _answering(what: str, url: str, token_file: Path | None = None) -> Step:
    async def check(client: httpx.AsyncClient) -> str:
        reply = await client.get(url, headers=_bearer(_secret_of(token_file)))
        if reply.status_code == 200:
            return ""
        try:
            problems = msgspec.json.decode(reply.content, type=_Problems).problems
        except msgspec.DecodeError:
            problems = ()
        return "; ".join(problems) or http.message_of(reply)

    return Step(what, check)


def _one_token(settings: Settings) -> Step:
    url = f"http://{settings.engine.host}:{settings.engine.port}/v1/chat/completions"
    # What is cached of this prompt would change how later ones are computed.
    body = _asked(settings.engine.model) | {"max_tokens": 1, "cache_prompt": False}

    async def check(client: httpx.AsyncClient) -> str:
        key = _secret_of(settings.engine_key_path)
        reply = await client.post(url, json=body, headers=_bearer(key))
        return http.message_of(reply) if reply.is_error else ""

    return Step(f"the engine's model {settings.engine.model}", check)


class _Explained(msgspec.Struct, frozen=True):
    """Where a call would go."""

    chosen: str | None = None
    reason: str = ""


def _route(settings: Settings, key: str, model: str) -> Step:
    url = settings.gateway_base_url.removesuffix("/v1") + "/api/v1/routes/explain"

    async def check(client: httpx.AsyncClient) -> str:
        reply = await client.post(url, json=_asked(model), headers=_bearer(key))
        if reply.is_error:
            return http.message_of(reply)
        explained = msgspec.json.decode(reply.content, type=_Explained)
        return "" if explained.chosen else explained.reason or "no upstream can take it"

    return Step(f"calls of {model}", check)


def _asked(model: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}


def _secret_of(file: Path | None) -> str:
    """The first secret of a file that another process makes as it starts."""
    try:
        return "" if file is None else file.read_text(encoding="utf-8").split()[0]
    except (OSError, IndexError):
        return ""


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}
