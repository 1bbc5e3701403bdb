"""Checks of filings and processors: days that there are, in their order; and what a filing is not
enough for."""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.resources import Kind, Problem
from tokenschain.core.snapshot import own_id

_DAYS = (
    "launched_on", "filed_on", "changed_on", "change_filed_on", "ended_on", "end_filed_on",
)  # fmt: skip
_AFTER = (
    ("change_filed_on", "changed_on"),
    ("ended_on", "filed_on"),
    ("ended_on", "launched_on"),
)
"""Pairs of days, the later one first."""


def problems(given: Configuration) -> Iterator[Problem]:
    """What is wrong with filings and processors by themselves."""
    for name, entry in given.processors.items():
        if entry.reviewed_on and not _is_day(entry.reviewed_on):
            why = f"reviewed_on = {entry.reviewed_on}: there is no such day"
            yield Problem(Kind.PROCESSOR, "", name, "reviewed_on", why)
    for name, spec in given.filings.items():
        for field in _DAYS:
            day = getattr(spec, field)
            if day and not _is_day(day):
                why = f"{field} = {day}: there is no such day"
                yield Problem(Kind.FILING, "", name, field, why)
        for later, earlier in _AFTER:
            last, first = getattr(spec, later), getattr(spec, earlier)
            if last and first and last < first:
                why = f"{later} = {last} is before {earlier} = {first}"
                yield Problem(Kind.FILING, "", name, later, why, because=(earlier,))


def consequences(before: Configuration, after: Configuration) -> Iterator[Problem]:
    """What is right, and does not do what somebody may think."""
    known = {own_id(*whose) for whose in after.upstreams}
    for name, entry in after.processors.items():
        unknown = sorted(set(entry.upstreams) - known)
        if unknown and before.processors.get(name) != entry:
            why = f"there is no upstream `{unknown[0]}`: the entry is for none of that name."
            yield Problem(Kind.PROCESSOR, "", name, "upstreams", why)
    for name, spec in after.filings.items():
        if before.filings.get(name) == spec:
            continue
        if spec.kind == "registration" and spec.modified:
            yield Problem(
                Kind.FILING, "", name, "modified",
                "a model that was changed by training is to be filed: a registration is for "
                "services that call a filed model as it is (Interim Measures, Art. 17).",
            )  # fmt: skip
        virtual = [model for model in spec.models if model in after.virtual_names]
        if virtual:
            yield Problem(
                Kind.FILING, "", name, "models",
                f"`{virtual[0]}` is a virtual model: its number is shown, and the models behind it "
                "need numbers of their own where a policy has `require_filed`.",
            )  # fmt: skip


def _is_day(text: str) -> bool:
    try:
        datetime.date.fromisoformat(text)
    except ValueError:
        return False
    return True
