"""Log events: how a part reports that a state changed, and how much each event matters."""

from __future__ import annotations

from typing import Protocol

GOOD_NEWS = (
    "_awaited", "_back", "_resumed", "_ready", "_closed", "_closed_elsewhere", "_in_force",
    "_half_open", "_answers_probe", "_has_key", "_continued",
)  # fmt: skip
"""Endings of events that nobody needs to look at."""


class Reporter(Protocol):
    """Told of an event, `THING_STATE`, with its cause and what happens next."""

    def __call__(self, event: str, /, why: str = "", **fields: object) -> None: ...


def report_failure(report: Reporter, error: BaseException, **fields: object) -> None:
    """Report that work beside the calls failed and is begun again: a fault of ours with its
    traceback, what the system refused in its words."""
    if isinstance(error, OSError):
        report("background_failed", str(error), **fields)
    else:
        report("background_failed", repr(error), exc_info=error, **fields)


def is_good_news(event: str) -> bool:
    """Whether an event is logged at level INFO, not WARNING."""
    return event.endswith(GOOD_NEWS)


def silent(event: str, /, why: str = "", **fields: object) -> None:
    """A `Reporter` for who has nobody to tell."""
