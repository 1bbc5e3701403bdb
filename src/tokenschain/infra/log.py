"""Structured logging: one event a line, JSON for machines, text for terminals."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import structlog

_REPEAT_S = 1.0


def configure(log_format: str) -> None:
    """Set up logging for this process; lines go to standard error."""
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Thinning(),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=False)
            if as_json
            else structlog.dev.ConsoleRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


class _Thinning:
    """Lets one line a second of each event pass: a fault must not become a log storm."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._dropped: dict[str, int] = {}

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        name = str(event.get("event"))
        now = time.monotonic()
        if now - self._last.get(name, -_REPEAT_S) < _REPEAT_S:
            self._dropped[name] = self._dropped.get(name, 0) + 1
            raise structlog.DropEvent
        self._last[name] = now
        dropped = self._dropped.pop(name, 0)
        if dropped:
            event["repeated"] = dropped
        return event


def get(**context: Any) -> Any:
    """A logger whose lines carry `context`."""
    return structlog.get_logger().bind(**context)
