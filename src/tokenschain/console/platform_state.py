"""What is wrong with the platform, by its diagnostics: since when, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from tokenschain.core.gateway_status import (
    FAILURE_SHARE_WARN,
    FAILURES_WARN,
    HEARD_MAX_S,
    JOURNAL_LAG_WARN_S,
    JOURNAL_SHARE_FAIL,
    JOURNAL_SHARE_WARN,
    REPORTED_MAX_S,
)

RUNBOOK = "docs/operations/incidents.md"
UPSTREAM_DOWN, KEY_REFUSED = "an-upstream-is-down", "a-key-is-refused"
CONTROL_DOWN, DATABASE_DOWN, REDIS_DOWN = "control-is-down", "the-database-is-down", "redis-is-down"
"""Its sections."""


class DiagnosedDatabase(msgspec.Struct):
    """The database that control works with."""

    kind: str
    migration: str | None
    migration_latest: str


class DiagnosedUpstream(msgspec.Struct):
    """An upstream, and what calls met there lately."""

    id: str
    provider: str
    zone: str
    probe: str
    health: str
    succeeded: int
    failed: int
    last_success_s: float | None
    last_error: str
    unset_variables: dict[str, list[str]]

    @property
    def is_down(self) -> bool:
        """Whether a probe or the calls say so."""
        return self.health.startswith("down") or self.probe.startswith("down")


class DiagnosedKey(msgspec.Struct):
    """A key that is in use and refused."""

    id: str
    tenant: str
    refused: int


class DiagnosedGateway(msgspec.Struct):
    """A gateway process as it said it last."""

    name: str
    worker: int
    version: str
    received_s: float
    revision: int
    snapshot_age_s: float
    journal_backlog_bytes: int
    journal_bytes_max: int
    journal_lag_s: float
    lost: dict[str, str]
    rejected_revision: int | None
    rejected_reason: str
    refused_keys: list[DiagnosedKey]
    waiting: int = 0

    @property
    def place(self) -> str:
        """Which worker of which gateway it is, whatever process does its work."""
        return self.name.rpartition("-")[0]

    @property
    def journal_share(self) -> float:
        """How full its journal is, of one."""
        return self.journal_backlog_bytes / max(1, self.journal_bytes_max)


class DiagnosedRecords(msgspec.Struct):
    """Call records that control got since it started."""

    received: int
    entered: int
    rejected: int


class DiagnosedCryptography(msgspec.Struct):
    """What control seals, signs and digests with."""

    suite: str
    self_test_failed: list[str]
    key_store: str
    master_key_written_s: float | None
    audit_key_written_s: float | None
    tls_gm_suites: list[str]


class Diagnosis(msgspec.Struct):
    """How the platform is; see `GET /diagnostics`."""

    version: str
    unix_time_s: float
    revision: int
    published_revision: int
    database: DiagnosedDatabase
    upstreams: list[DiagnosedUpstream]
    records: DiagnosedRecords
    gateways: list[DiagnosedGateway]
    semantic: dict[str, bool]
    mail_warnings: list[str]
    cryptography: DiagnosedCryptography | None = None

    @property
    def latest_gateways(self) -> list[DiagnosedGateway]:
        """Of each worker the process that was heard last."""
        found = {one.place: one for one in sorted(self.gateways, key=lambda one: one.received_s)}
        return sorted(found.values(), key=lambda one: one.place)


class Concern(NamedTuple):
    """Something that is wrong."""

    key: str
    """Of the texts `concern.` (what it is) and `concern.do.` (what to do)."""
    values: Mapping[str, object]
    is_bad: bool
    """Whether calls suffer, or will soon; else somebody should look."""
    since_s: float | None = None
    runbook: str = ""
    """A section of the page of incidents."""
    upstream: str = ""
    """Which it is about."""


def concerns(seen: Diagnosis) -> list[Concern]:
    """All that is wrong, the worst first."""
    found = [*_of_control(seen), *_of_gateways(seen), *_of_upstreams(seen)]
    return sorted(found, key=lambda one: not one.is_bad)


def _of_control(seen: Diagnosis) -> Iterator[Concern]:
    if seen.database.migration != seen.database.migration_latest:
        yield Concern("migration", {"have": seen.database.migration or "—",
                                    "latest": seen.database.migration_latest},
                      True, runbook=DATABASE_DOWN)  # fmt: skip
    if seen.published_revision < seen.revision - 1:
        told = {"published": seen.published_revision, "revision": seen.revision}
        yield Concern("unpublished", told, True, runbook=CONTROL_DOWN)
    if seen.records.rejected:
        yield Concern("rejected", {"n": seen.records.rejected}, False)
    for address, answers in seen.semantic.items():
        if not answers:
            yield Concern("semantic", {"address": address}, False)
    for gap in seen.mail_warnings:
        yield Concern(gap, {}, False)


def _of_gateways(seen: Diagnosis) -> Iterator[Concern]:
    if not seen.gateways:
        yield Concern("no_gateway", {}, True)
    for one in seen.latest_gateways:
        name: dict[str, object] = {"name": one.place}
        silent_s = seen.unix_time_s - one.received_s
        if silent_s > REPORTED_MAX_S:
            yield Concern("silent", name, True, one.received_s)
            continue
        if one.rejected_revision is not None:
            told = name | {"revision": one.rejected_revision, "reason": one.rejected_reason}
            yield Concern("refused_revision", told, True)
        if one.version != seen.version:
            yield Concern("version", name | {"version": one.version, "own": seen.version}, False)
        if one.snapshot_age_s > HEARD_MAX_S:
            since_s = one.received_s - one.snapshot_age_s
            yield Concern("unheard", name, False, since_s, CONTROL_DOWN)
        if one.journal_share >= JOURNAL_SHARE_WARN or one.journal_lag_s > JOURNAL_LAG_WARN_S:
            since_s = one.received_s - one.journal_lag_s
            is_bad = one.journal_share >= JOURNAL_SHARE_FAIL
            yield Concern("journal", name | {"share": f"{one.journal_share:.0%}"}, is_bad, since_s,
                          DATABASE_DOWN)  # fmt: skip
        for what, why in one.lost.items():
            runbook = {"redis": REDIS_DOWN, "control": CONTROL_DOWN}.get(what, "")
            told = name | {"what": what, "why": why or "—"}
            yield Concern("lost", told, what == "control", runbook=runbook)
        for key in one.refused_keys:
            told = name | {"key": key.id, "tenant": key.tenant or "—", "n": key.refused}
            yield Concern("refused_key", told, False, runbook=KEY_REFUSED)


def _of_upstreams(seen: Diagnosis) -> Iterator[Concern]:
    for one in seen.upstreams:
        name: dict[str, object] = {"name": one.id}
        tried = one.succeeded + one.failed
        if one.is_down:
            by_calls = one.health.startswith("down")
            told_down = one.health if by_calls else one.probe
            why = (by_calls and one.last_error) or told_down.removeprefix("down: ")
            yield Concern("down", name | {"why": why}, True, one.last_success_s, UPSTREAM_DOWN,
                          one.id)  # fmt: skip
        elif one.failed >= FAILURES_WARN and one.failed >= FAILURE_SHARE_WARN * tried:
            told = name | {"failed": one.failed, "tried": tried, "why": one.last_error or "—"}
            yield Concern("failing", told, False, runbook=UPSTREAM_DOWN, upstream=one.id)
        for variable, places in one.unset_variables.items():
            told = name | {"variable": variable, "places": ", ".join(places)}
            yield Concern("variable", told, False, upstream=one.id)
