"""Structured logging: one event a line, JSON for machines, text for terminals."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any

import structlog

from tokenschain.core.log_events import Reporter, is_good_news
from tokenschain.core.redaction import Redactor

VALUE_CHARACTERS_MAX = 20_000
"""Of one text in a line."""
REPEAT_S = 1.0
"""One line of the same event of the same thing passes in so long."""
THINGS = ("upstream", "key", "limit", "tenant", "model", "name", "id", "address")
"""Fields that tell of which thing an event is; those of two keys or limits are not the same."""
THINGS_MAX = 4_096
"""Events of things whose last lines are remembered."""

_Line = MutableMapping[str, Any]


def configure(log_format: str, node: str = "", redact: Callable[[str], str] | None = None) -> None:
    """Set up logging for this process; lines go to standard error.

    Args:
        node: the name of the gateway, or of the machine's one; in each line.
        redact: takes credentials out of what is logged; by default those that look like some.
    """
    redact = redact or Redactor().secret_free
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            partial(_named, node),
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


def _named(node: str, logger: Any, method: str, event: _Line) -> _Line:
    if node:
        event["node"] = node
    return event


def _redacted(redact: Callable[[str], str], logger: Any, method: str, event: _Line) -> _Line:
    """Every text of a line, without credentials."""
    return {
        name: redact(value[:VALUE_CHARACTERS_MAX]) if isinstance(value, str) else value
        for name, value in event.items()
    }


class _Thinning:
    """Lets one line a second of each event pass, of each thing: a fault must not become a log
    storm. Of those that are left out, the last is logged when the second is over, with their
    number: what was logged last of a thing is how it stands."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: OrderedDict[str, float] = OrderedDict()
        self._left_out: dict[str, tuple[str, _Line, int]] = {}

    def __call__(self, logger: Any, method: str, event: _Line) -> _Line:
        name = " ".join([str(event.get("event")), *(str(event.get(thing)) for thing in THINGS)])
        now = time.monotonic()
        with self._lock:
            if event.pop(_AGAIN, None) is None and now - self._last.get(name, -REPEAT_S) < REPEAT_S:
                if not self._left_out:
                    self._set_timer()
                number = self._left_out[name][2] if name in self._left_out else 0
                self._left_out[name] = (method, event, number + 1)
                raise structlog.DropEvent
            self._last[name] = now
            self._last.move_to_end(name)
            if len(self._last) > THINGS_MAX:
                self._last.popitem(last=False)
        return event

    def _set_timer(self) -> None:
        timer = threading.Timer(REPEAT_S, self._catch_up)
        timer.daemon = True
        timer.start()

    def _catch_up(self) -> None:
        """Log the last of each event that was left out, once its second is over."""
        now = time.monotonic()
        with self._lock:
            due = [n for n in self._left_out if now - self._last.get(n, 0.0) >= REPEAT_S]
            lines = [self._left_out.pop(name) for name in due]
            if self._left_out:
                self._set_timer()
        for method, event, number in lines:
            again = {name: value for name, value in event.items() if name not in _MADE}
            again |= {"repeated": number, _AGAIN: True}
            getattr(structlog.get_logger(), method)(**again)


_AGAIN = "_again"
"""Marks a line that was left out before."""
_MADE = ("level", "timestamp")
"""Fields that each line is given when it is logged."""


def get(**context: Any) -> Any:
    """A logger whose lines carry `context`."""
    return structlog.get_logger().bind(**context)


class EventLog:
    """Logs what parts report, each event at its level, and counts it; see `Reporter`."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self.counts: Counter[str] = Counter()
        """Events so far, those included that were left out of the log."""

    def __call__(self, event: str, /, why: str = "", **fields: object) -> None:
        self.counts[event] += 1
        if why:
            fields = {"why": why, **fields}
        log = self._logger.info if is_good_news(event) else self._logger.warning
        log(event, **fields)


def report(**context: Any) -> Reporter:
    """A `Reporter` whose lines carry `context`."""
    return EventLog(get(**context))
