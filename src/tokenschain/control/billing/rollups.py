"""Usage rollups by hour, day and tag, and what the cache did, kept in the ledger's transaction."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Protocol

from sqlalchemy import Connection, Subquery, or_, select, union_all

from tokenschain.core.call_record import UNKNOWN_MODEL, CallRecord
from tokenschain.core.tags import parse as parse_tags
from tokenschain.infra.config.groups import TAGS_PER_KEY_DAY_MAX
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import (
    cache_hourly,
    usage_by_tag,
    usage_daily,
    usage_hourly,
)

HOUR_S, DAY_S = 3_600, 86_400
KEY = (
    "tenant", "project", "environment", "key_id", "model", "upstream", "currency",
    "charge_currency",
)  # fmt: skip
SUMS = (
    "calls",
    "failed_calls",
    "estimated_calls",
    "unpriced_calls",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "cost_pico",
    "charge_pico",
    "platform_prompt_tokens",
    "platform_completion_tokens",
    "platform_cost_pico",
)
"""The last three: of attempts whose cost the platform bears; in none of the others."""
NOTHING = dict.fromkeys(SUMS, 0)
_MORE = ("account", "cloud")
TAG_KEY = ("tenant", "project", "key_id", "tag", "model", "charge_currency")
TAG_SUMS = ("calls", "prompt_tokens", "completion_tokens", "charge_pico")
CACHE_KEY = ("tenant", "model", "cache", "cache_reason", "currency")
CACHE_SUMS = ("calls", "saved_tokens", "saved_pico")
_OF_TAGS = tuple(map(SUMS.index, TAG_SUMS))
OTHER_TAG = "other"
"""Stands for the tags of a key and day beyond their bound; no tag is without `=`."""
_REMEMBERED_TAGS_MAX = 200_000


class Place(Protocol):
    """Where a call's sums belong: a journal record, or a row of the ledger."""

    started_ms: int
    tenant: str
    account: str
    project: str
    environment: str
    key_id: str
    model_asked: str
    upstream: str
    outcome: str
    currency: str
    tags: str


class TagNames:
    """Which tags have rows of their own: the first so many of each key and day.

    What the database has by name stays by name, so a later correction of a call finds its row.
    """

    def __init__(self, per_key_and_day_max: int = TAGS_PER_KEY_DAY_MAX) -> None:
        self._max = per_key_and_day_max
        self._seen: dict[tuple[str, ...], set[str]] = {}
        self._count = 0

    def named(self, connection: Connection, key: tuple[Any, ...]) -> tuple[Any, ...]:
        """The row of a tag; `key` is its hour and `TAG_KEY`."""
        hour_s, tenant, project, key_id, tag, *rest = key
        day_s = hour_s // DAY_S * DAY_S
        of = (str(day_s), tenant, project, key_id)
        seen = self._seen.get(of)
        if seen is None:
            if self._count > _REMEMBERED_TAGS_MAX:
                self._seen.clear()
                self._count = 0
            seen = self._seen[of] = _tags_of(connection, day_s, *of[1:])
            self._count += 1 + len(seen)
        if tag not in seen:
            if len(seen) >= self._max:
                return (hour_s, tenant, project, key_id, OTHER_TAG, *rest)
            seen.add(tag)
            self._count += 1
        return key


def _tags_of(
    connection: Connection, day_s: int, tenant: str, project: str, key_id: str
) -> set[str]:
    column = usage_by_tag.c
    return set(
        connection.execute(
            select(column.tag)
            .distinct()
            .where(
                column.tenant == tenant,
                column.hour_s >= day_s,
                column.hour_s < day_s + DAY_S,
                column.project == project,
                column.key_id == key_id,
                column.tag != OTHER_TAG,
            )
        ).scalars()
    )


class Rollup:
    """Sums on their way into the database."""

    def __init__(
        self,
        clouds: Mapping[str, str],
        tag_names: TagNames,
        models: Container[str] | None = None,
    ) -> None:
        """
        Args:
            clouds: providers of upstreams.
            models: all names that models may be called by; None: not known yet.
        """
        self._clouds = clouds
        self._tag_names = tag_names
        self._models = models
        self._hours: dict[tuple[Any, ...], list[Any]] = {}
        self._tags: dict[tuple[Any, ...], list[int]] = {}
        self._cached: dict[tuple[Any, ...], list[int]] = {}

    def add_cached(self, record: CallRecord) -> None:
        """Add what the cache did for a call that went well."""
        hour_s = record.started_ms // 3_600_000 * HOUR_S
        saved = record.saved_pico
        key = (hour_s, record.tenant, record.model_asked, record.cache, record.cache_reason,
               record.currency if saved else "")  # fmt: skip
        sums = self._cached.get(key)
        if sums is None:
            self._cached[key] = [1, record.saved_tokens, saved]
        else:
            sums[0] += 1
            sums[1] += record.saved_tokens
            sums[2] += saved

    def add(self, of: Place, charge_currency: str, **amounts: int) -> None:
        """Add amounts, by their names in `SUMS`, where a call belongs."""
        sums = tuple((NOTHING | amounts).values())
        hour_s = of.started_ms // 3_600_000 * HOUR_S
        model = self._model_of(of)
        key = (hour_s, of.tenant, of.project, of.environment, of.key_id, model,
               of.upstream, of.currency, charge_currency)  # fmt: skip
        _add(self._hours, key, sums, of.account)
        part = tuple(sums[at] for at in _OF_TAGS)
        if of.tags and any(part):
            for name, value in parse_tags(of.tags).items():
                tag_key = (hour_s, of.tenant, of.project, of.key_id, f"{name}={value}",
                           model, charge_currency)  # fmt: skip
                _add(self._tags, tag_key, part)

    def _model_of(self, of: Place) -> str:
        if of.upstream or of.outcome in ("ok", "partial") or not of.model_asked:
            return of.model_asked
        if self._models is None:
            there = of.outcome != "model_not_found"
        else:
            there = of.model_asked in self._models
        return of.model_asked if there else UNKNOWN_MODEL

    def enter(self, connection: Connection) -> None:
        """Add them to what there is, in one order by all, so that no two writers wait for each
        other."""
        days: dict[tuple[Any, ...], list[Any]] = {}
        for (hour_s, *rest), (*sums, account) in self._hours.items():
            _add(days, (hour_s // DAY_S * DAY_S, *rest), tuple(sums), account)
        columns = (*KEY, *SUMS, *_MORE)
        db.add_up(connection, usage_hourly, ("hour_s", *columns), SUMS, self._rows(self._hours))
        db.add_up(connection, usage_daily, ("day_s", *columns), SUMS, self._rows(days))
        tags: dict[tuple[Any, ...], list[int]] = {}
        for key in sorted(self._tags):
            _add(tags, self._tag_names.named(connection, key), tuple(self._tags[key]))
        by_tag = [(*key, *tags[key]) for key in sorted(tags)]
        db.add_up(connection, usage_by_tag, ("hour_s", *TAG_KEY, *TAG_SUMS), TAG_SUMS, by_tag)
        cached = [(*key, *self._cached[key]) for key in sorted(self._cached)]
        names = ("hour_s", *CACHE_KEY, *CACHE_SUMS)
        db.add_up(connection, cache_hourly, names, CACHE_SUMS, cached)

    def _rows(self, sums: dict[tuple[Any, ...], list[Any]]) -> list[tuple[Any, ...]]:
        return [(*key, *sums[key], self._clouds.get(key[6], "")) for key in sorted(sums)]


def _add(
    into: dict[tuple[Any, ...], list[Any]], key: tuple[Any, ...], sums: tuple[int, ...], *tail: str
) -> None:
    there = into.get(key)
    if there is None:
        into[key] = [*sums, *tail]
    else:
        for at, amount in enumerate(sums):
            there[at] += amount


def between(from_s: int, until_s: int, *, by_hour: bool) -> Subquery:
    """The sums of a time, as rows with `at_s`, `KEY`, `SUMS`, `account` and `cloud`.

    Whole days come from the daily sums, what is left over at both ends from the hourly ones.

    Args:
        from_s: Unix time, inclusive; `until_s` exclusive.
        by_hour: every row of one hour.
    """
    hours, days = usage_hourly.c, usage_daily.c
    names = (*KEY, *SUMS, *_MORE)
    first, last = -(-from_s // DAY_S) * DAY_S, until_s // DAY_S * DAY_S
    single = select(hours.hour_s.label("at_s"), *(hours[name] for name in names)).where(
        hours.hour_s >= from_s, hours.hour_s < until_s
    )
    if by_hour or first >= last:
        return single.subquery()
    edges = single.where(or_(hours.hour_s < first, hours.hour_s >= last))
    whole = select(days.day_s.label("at_s"), *(days[name] for name in names)).where(
        days.day_s >= first, days.day_s < last
    )
    return union_all(whole, edges).subquery()
