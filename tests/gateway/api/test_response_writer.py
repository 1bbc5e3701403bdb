"""What becomes of a call while its answer is written."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes import call_of
from tokenschain.core.errors import ApiError
from tokenschain.gateway.api.response_writer import CallResponseWriter


@pytest.mark.parametrize("steps_before", [0, 1, 2])
@pytest.mark.parametrize("left", [True, False])
def test_a_call_is_begun_and_ended_however_soon_its_caller_leaves(
    left: bool, steps_before: int
) -> None:
    """A task that is cancelled before its first step runs none: no record, and no end."""
    seen: list[str] = []

    async def run() -> None:
        try:
            seen.append("begun")
            await asyncio.sleep(60)
        finally:
            seen.append("recorded")

    async def of() -> None:
        exchange: Any = SimpleNamespace(request=None, bytes_out=0)
        writer = CallResponseWriter(exchange, b"", lambda *_: None, lambda text: text)
        writer.call = call_of(b"{}")
        writer.task = asyncio.ensure_future(run())
        for _ in range(steps_before):
            await asyncio.sleep(0)
        if left:
            writer.caller_left("caller_gone")
        else:
            writer.end_early(ApiError("invalid_api_key", "No more."))
        await asyncio.wait([writer.task], timeout=30)
        assert writer.task.cancelled() and seen == ["begun", "recorded"]

    asyncio.run(of())
