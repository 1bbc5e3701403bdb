"""Structured logging: one event a line, JSON for machines, text for terminals."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from tokenschain.core.redaction import Redactor

VALUE_CHARACTERS_MAX = 20_000
"""Of one text in a line."""
_REPEAT_S = 1.0


def configure(log_format: str, redact: Callable[[str], str] | None = None) -> None:
    """Set up logging for this process; lines go to standard error.

    Args:
        redact: takes credentials out of what is logged; by default those that look like some.
    """
    redact = redact or Redactor().secret_free
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Thinning(),
            structlog.processors.format_exc_info,
            partial(_redacted, redact),
            structlog.processors.JSONRenderer(ensure_ascii=False)
            if as_json
            else structlog.dev.ConsoleRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


def _redacted(redact: Callable[[str], str], logger: Any, method: str, event: Any) -> Any:
    """Every text of a line, without credentials."""
    return {
        name: redact(value[:VALUE_CHARACTERS_MAX]) if isinstance(value, str) else value
        for name, value in event.items()
    }


class _Thinning:
    """Lets one line a second of each event pass, of each upstream: a fault must not become a log
    storm."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}
        self._dropped: dict[str, int] = {}

    def __call__(self, logger: Any, method: str, event: Any) -> Any:
        name = f"{event.get('event')} {event.get('upstream', '')}"
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
