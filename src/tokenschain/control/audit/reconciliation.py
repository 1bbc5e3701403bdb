"""Sealed audit log against the ledger: each call is in both, with the same tokens and money."""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, select

from tokenschain.control.audit import log, pending
from tokenschain.control.audit.log import Segment
from tokenschain.core.audit import records, segment
from tokenschain.core.audit.merkle import Digest
from tokenschain.infra.database.audit_tables import audit_pending, audit_segments
from tokenschain.infra.database.tables import ledger

DIFFERENCES_MAX = 200
"""That are named one by one; all are counted."""
_WINDOW_MS = 600_000
_AGREED = (
    "tenant", "key_id", "model_asked", "model_served", "upstream", "outcome", "prompt_tokens",
    "completion_tokens",
)  # fmt: skip
"""Of a call, in both."""
_PLATFORM = ("cost_pico", "currency")
"""Of a call, in the platform's part."""
_CHARGED = ("charge_pico", "charge_currency")
_SUMS = ("prompt_tokens", "completion_tokens", "charge_pico", "cost_pico")
_COLUMNS = (*_AGREED, *_PLATFORM, *_CHARGED, "charge_version")
_BEGAN = "started_ms"
"""When a call began: `at_ms` of the log."""
_to_object = msgspec.json.Decoder(dict[str, Any]).decode

Kind = Literal["not_in_log", "not_in_ledger", "changed", "rerated"]


class CallDifference(NamedTuple):
    """A call of which log and ledger do not say the same."""

    kind: Kind
    """`rerated`: only the charge differs, and by another price; a change of prices does that, and
    is in the log itself."""
    event_id: str
    segment: int | None
    """Where it is in the log."""
    fields: list[str]
    """That differ."""


class LogSide(NamedTuple):
    """Counts and sums of one side."""

    calls: int
    sums: dict[str, int]


class Reconciliation(NamedTuple):
    """What was compared, and what differs."""

    from_ms: int
    """Calls that began from then on: never before the log did."""
    until_ms: int
    log: LogSide
    ledger: LogSide
    waiting: int
    """Calls of the ledger that wait to be sealed."""
    counts: dict[Kind, int]
    differences: list[CallDifference]

    def agrees(self) -> bool:
        """Whether nothing was added, removed or changed on either side."""
        return not any(count for kind, count in self.counts.items() if kind != "rerated")


class _Sealed(NamedTuple):
    segment: int
    fields: dict[str, Any]


def compare(connection: Connection, digest: Digest, from_ms: int, until_ms: int) -> Reconciliation:
    """Compare the calls that began in a time, as far as the log goes back."""
    first = log.read_segments(connection, 0, 1)
    began_ms = segment.decode(first[0].header).from_ms if first else until_ms
    from_ms = min(max(from_ms, began_ms), until_ms)
    counts: dict[Kind, int] = {"not_in_log": 0, "not_in_ledger": 0, "changed": 0, "rerated": 0}
    found: list[CallDifference] = []
    sides = LogSide(0, dict.fromkeys(_SUMS, 0)), LogSide(0, dict.fromkeys(_SUMS, 0))
    waiting = 0
    for at_ms in range(from_ms, until_ms, _WINDOW_MS):
        end_ms = min(at_ms + _WINDOW_MS, until_ms)
        # In this order: what is sealed meanwhile is seen as waiting, or in the log, or both.
        rows = _rows(connection, at_ms, end_ms)
        unsealed = waiting_calls(connection, digest, at_ms, end_ms)
        sealed = _sealed(connection, at_ms, end_ms)
        late = _existing(connection, sealed.keys() - rows.keys(), at_ms, end_ms)
        waiting += len(rows.keys() & (unsealed - sealed.keys()))
        known = {name: one.fields for name, one in sealed.items()}
        sides = _added(sides[0], known), _added(sides[1], rows)
        for one in _differences(rows, sealed, unsealed, late):
            counts[one.kind] += 1
            if len(found) < DIFFERENCES_MAX:
                found.append(one)
    return Reconciliation(from_ms, until_ms, *sides, waiting, counts, found)


def _added(side: LogSide, calls: Mapping[str, Mapping[str, Any]]) -> LogSide:
    sums = {
        name: total + sum(one[name] or 0 for one in calls.values())
        for name, total in side.sums.items()
    }
    return LogSide(side.calls + len(calls), sums)


def _differences(
    rows: Mapping[str, Mapping[str, Any]],
    sealed: Mapping[str, _Sealed],
    unsealed: set[str],
    late: set[str],
) -> Iterator[CallDifference]:
    for name in sorted(rows.keys() | sealed.keys()):
        row, one = rows.get(name), sealed.get(name)
        if one is None:
            if name not in unsealed:
                yield CallDifference("not_in_log", name, None, [])
        elif row is None:
            if name not in late:
                yield CallDifference("not_in_ledger", name, one.segment, [])
        else:
            compared = (*_COLUMNS, _BEGAN)
            wrong = [field for field in compared if _sealed_as(row[field]) != one.fields[field]]
            if wrong:
                rerated = "charge_version" in wrong and set(wrong) <= {*_CHARGED, "charge_version"}
                kind: Kind = "rerated" if rerated else "changed"
                yield CallDifference(kind, name, one.segment, wrong)


def _sealed_as(value: object) -> object:
    """What the log has for a value of the ledger: text in one form of Unicode."""
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _rows(connection: Connection, from_ms: int, until_ms: int) -> dict[str, Mapping[str, Any]]:
    columns = [ledger.c[name] for name in ("event_id", *_COLUMNS, _BEGAN)]
    query = select(*columns).where(ledger.c.started_ms >= from_ms, ledger.c.started_ms < until_ms)
    return {row["event_id"]: dict(row) for row in connection.execute(query).mappings()}


def _existing(connection: Connection, names: set[str], from_ms: int, until_ms: int) -> set[str]:
    """Of calls of a time that the ledger did not have a moment ago, those that it has now. One that
    stands at another time was moved, and is missing."""
    found: set[str] = set()
    asked = sorted(names)
    for at in range(0, len(asked), 500):
        query = select(ledger.c.event_id).where(
            ledger.c.event_id.in_(asked[at : at + 500]),
            ledger.c.started_ms >= from_ms, ledger.c.started_ms < until_ms,
        )  # fmt: skip
        found |= set(connection.execute(query).scalars())
    return found


def _sealed(connection: Connection, from_ms: int, until_ms: int) -> dict[str, _Sealed]:
    c = audit_segments.c
    query = (
        select(c.number, c.header, c.records)
        .where(c.calls_from_ms < until_ms, c.calls_until_ms >= from_ms)
        .order_by(c.number)
    )
    found: dict[str, _Sealed] = {}
    for one in log.segments(connection, query):
        try:
            found |= _calls_of(one, from_ms, until_ms)
        except (zlib.error, msgspec.DecodeError, LookupError, TypeError):
            continue  # not as it was sealed: its calls are missing in the log
    return found


def _calls_of(one: Segment, from_ms: int, until_ms: int) -> dict[str, _Sealed]:
    found = {}
    for line in one.lines():
        fields = _fields(line, from_ms, until_ms)
        if fields is not None:
            compared = {name: fields[name] for name in _COLUMNS} | {_BEGAN: fields["at_ms"]}
            found[fields["id"]] = _Sealed(one.number, compared)
    return found


def waiting_calls(connection: Connection, digest: Digest, from_ms: int, until_ms: int) -> set[str]:
    """The ids of calls that began in a time and are not sealed yet."""
    c = audit_pending.c
    query = select(audit_pending).where(c.calls_from_ms < until_ms, c.calls_until_ms >= from_ms)
    found = set()
    for row in connection.execute(query):
        for line in pending.read(row, digest).lines:
            fields = _fields(line, from_ms, until_ms)
            if fields is not None:
                found.add(fields["id"])
    return found


def _fields(line: bytes, from_ms: int, until_ms: int) -> dict[str, Any] | None:
    """What is compared of a call that began in a time."""
    record, part = records.split(line)
    fields = _to_object(record)
    if fields["kind"] != records.CALL or not from_ms <= fields["at_ms"] < until_ms:
        return None
    return fields | _to_object(part) if part else fields
