"""Background work is begun again whatever it failed of, and says so."""

from __future__ import annotations

import asyncio

import pytest

from tokenschain.infra import background

FAILURES = [
    UnicodeError("label empty or too long"), OSError("too many open files"), KeyError("x"),
    ExceptionGroup("group", [ExceptionGroup("inner", [ValueError("bad")])]),
]  # fmt: skip


def test_work_that_fails_is_begun_again_until_it_is_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(background, "BEGIN_AGAIN_S", 0.0)
    said: list[tuple[str, str, bool]] = []
    left = list(FAILURES)

    def report(event: str, /, why: str = "", **fields: object) -> None:
        said.append((event, why, "exc_info" in fields))

    async def run() -> None:
        ran = asyncio.Event()

        async def work() -> None:
            if left:
                raise left.pop(0)
            ran.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(background.kept_up(work, report))
        async with asyncio.timeout(10):
            await ran.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert said == [
        ("background_failed", "UnicodeError('label empty or too long')", True),
        ("background_failed", "too many open files", False),
        ("background_failed", "KeyError('x')", True),
        ("background_failed", "ValueError('bad')", True),
    ]
