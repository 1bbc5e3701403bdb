"""What queries read and what they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from tokenschain.core.compliance.processors import Processor
from tokenschain.core.snapshot import Snapshot
from tokenschain.infra.config import Settings

DAY_S = 86_400
NAMED_MAX = 10
"""Of what is wrong; all are counted."""
KEPT_DAYS_MIN = 183
"""Six months: Cybersecurity Law, article 23 (3)."""

Value = str | int | float | bool | None | Sequence[str]


class Gap(NamedTuple):
    """Something that a control asks and that is not so."""

    code: str
    """Of `gaps` in `controls.yaml`."""
    values: Mapping[str, str | int]


class QueryResult(NamedTuple):
    """What a query found."""

    values: Mapping[str, Value]
    gaps: Sequence[Gap] = ()
    """What is wrong."""
    absent: Sequence[Gap] = ()
    """What there is nothing of yet, so that nothing shows whether the control is met."""


class PlatformFacts(NamedTuple):
    """What queries read."""

    db: Connection
    settings: Settings
    snapshot: Snapshot
    now_s: float
    processors: Mapping[str, Processor] = {}


Query = Callable[[PlatformFacts], QueryResult]


def gaps_if(missing: object, code: str, **values: str | int) -> list[Gap]:
    """One gap, where something is missing."""
    return [Gap(code, values)] if missing else []


def named(names: Iterable[str]) -> str:
    """The first of what is wrong, and how many more there are."""
    found = sorted(names)
    more = f" … (+{len(found) - NAMED_MAX})" if len(found) > NAMED_MAX else ""
    return ", ".join(found[:NAMED_MAX]) + more
