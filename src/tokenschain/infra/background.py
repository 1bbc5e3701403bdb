"""Background work of a process: what fails is reported and begun again, and ends nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tokenschain.core.log_events import Reporter, report_failure

BEGIN_AGAIN_S = 1.0


async def kept_up(work: Callable[[], Awaitable[None]], report: Reporter) -> None:
    """Do it until cancelled, and begin again whatever it fails of: descriptors that the system
    refuses, data that nobody foresaw. Calls go on, so the process must.

    Args:
        report: told `background_failed`.
    """
    while True:
        try:
            await work()
        except* Exception as errors:  # noqa: BLE001 - see above
            error: BaseException = errors
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            report_failure(report, error)
        await asyncio.sleep(BEGIN_AGAIN_S)
