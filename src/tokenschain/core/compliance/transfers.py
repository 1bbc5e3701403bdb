"""Transfers abroad: which calls are, and how many people's data may go on what legal basis.

The numbers are those of the Provisions on Promoting and Regulating Cross-Border Data Flows
(Cyberspace Administration of China, order 16, in force since 22 March 2024), articles 5, 7 and 8:
distinct people since 1 January of the year, sensitive personal information counted apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from tokenschain.core.call_record import CallRecord

Basis = Literal["count", "exempt", "contract", "assessment"]
"""On what data goes abroad: only counted; exempt for few people; by a standard contract or a
certification; by a security assessment."""
ABROAD = ("abroad", "")
"""Zones that count as abroad: one that nobody knows is not known to be inside."""
CHINA_MS = 28_800_000
WARN_SHARE = 0.8
"""Of a limit, from which the report warns."""
DATA_CLASS = "data_class:"


class PeopleLimit(NamedTuple):
    """How many people's data may go abroad in a year."""

    people: int | None
    sensitive: int | None


LIMITS: Mapping[Basis, PeopleLimit] = {
    "count": PeopleLimit(None, None),
    "exempt": PeopleLimit(100_000, 1),
    "contract": PeopleLimit(1_000_000, 10_000),
    "assessment": PeopleLimit(None, None),
}
"""Reached means stopped: `fewer than` is what the articles allow."""


def zone_abroad(record: CallRecord, zones: Mapping[str, str]) -> str | None:
    """The zone abroad that a call's data went to, of any attempt; None where all stayed inside.

    Args:
        zones: of upstreams, by id.
    """
    gone = {zones.get(attempt.upstream, "") for attempt in record.attempts}
    return next((zone for zone in ABROAD if zone in gone), None)


def is_sensitive(record: CallRecord, classes: Iterable[str]) -> bool:
    """Whether moderation found data of one of these classes in a call."""
    detail = record.moderation_detail
    if DATA_CLASS not in detail:
        return False
    found = set(re.split(r"[^\w:.-]+", detail))
    return any(f"{DATA_CLASS}{name}" in found for name in classes)


def day_of(started_ms: int) -> int:
    """The day in China, since 1970."""
    return (started_ms + CHINA_MS) // 86_400_000


def basis_of(bases: Mapping[str, Basis], tenant: str) -> Basis:
    """On what a tenant's data goes abroad."""
    return bases.get(tenant) or bases.get("*", "count")


def is_over(limit: PeopleLimit, people: int, sensitive: int) -> bool:
    """Whether no more may go."""
    return (limit.people is not None and people >= limit.people) or (
        limit.sensitive is not None and sensitive >= limit.sensitive
    )


def is_near(limit: PeopleLimit, people: int, sensitive: int) -> bool:
    """Whether the report warns."""
    return (limit.people is not None and people >= limit.people * WARN_SHARE) or (
        limit.sensitive is not None and sensitive >= limit.sensitive * WARN_SHARE
    )
