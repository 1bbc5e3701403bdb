"""Billing ledger: takes journal records in exactly once, and sums them up."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    func,
    insert,
    select,
    tuple_,
)

from tokenschain.control.audit import pending
from tokenschain.control.billing import call_filters, limits, rejected_records, rollups
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.control.model_latency import ModelLatency
from tokenschain.control.shipping import Shipping
from tokenschain.control.upstream_health import UpstreamHealth
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord, CallRecord, Overhead, is_outage
from tokenschain.core.moderation.verdict import ENGINE_CURRENCY, EngineCost
from tokenschain.core.pricing.catalog import to_yuan
from tokenschain.core.snapshot import Snapshot
from tokenschain.infra.config.groups import TAGS_PER_KEY_DAY_MAX
from tokenschain.infra.database import engine as db
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import (
    balances,
    ledger,
    platform_costs,
    usage_by_tag,
)
from tokenschain.infra.database.tables import ledger_entries as entries
from tokenschain.infra.security import prescribed, secrets


class Ledger:
    """Enters records; each event id counts once, however often it arrives."""

    def __init__(
        self,
        engine: Engine,
        tags_per_key_day_max: int = TAGS_PER_KEY_DAY_MAX,
        *,
        audited: bool = True,
    ) -> None:
        """
        Args:
            tags_per_key_day_max: the sums of more are kept under one name.
            audited: whether calls go into the sealed audit log, too.
        """
        self._engine = engine
        self._audited = audited
        self.engine_zones: dict[str, str] = {}
        self._zones: dict[str, str] = {}
        self.beside: list[Callable[[Connection, list[CallRecord], Mapping[str, str]], None]] = []
        """Told of calls in the transaction that enters them, with the zones of upstreams."""
        self.tag_names = rollups.TagNames(tags_per_key_day_max)
        self._models: frozenset[str] | None = None
        self._days: set[int] = set()
        self.clouds: dict[str, str] = {}
        """Providers of upstreams, kept in step by the publisher."""
        self.usd_cny_micro = 7_000_000
        self.received = 0
        self.entered = 0
        self._uses: dict[str, int] = {}
        self.upstream_health = UpstreamHealth()
        self.model_latency = ModelLatency()
        self.shipping = Shipping()

    def follow(self, snapshot: Snapshot) -> None:
        """Take up a new configuration."""
        self.clouds = {u.id: u.provider for u in snapshot.upstreams.values()}
        self._zones = self.engine_zones | {u.id: u.zone for u in snapshot.upstreams.values()}
        self.usd_cny_micro = snapshot.usd_cny_micro
        self._models = frozenset((*snapshot.models, *snapshot.aliases))

    def take_uses(self) -> dict[str, int]:
        """When keys were used last, since this was last asked; Unix time."""
        uses, self._uses = self._uses, {}
        return uses

    def ingest(self, payloads: Sequence[bytes], backlog_bytes: int = 0) -> int:
        """Enter records, their sums, entries and budgets, in one transaction.

        What cannot be read or entered is set aside, with its reason; see `rejected_records`.

        Args:
            backlog_bytes: what the gateway has still to ship.

        Returns how many were new.
        """
        records: dict[str, tuple[CallRecord, bytes]] = {}
        rejected: list[tuple[bytes, str]] = []
        for payload in payloads:
            try:
                record = call_record.decode(payload)
            except msgspec.DecodeError as error:
                rejected.append((payload, str(error)))
                continue
            problem = call_record.problem_of(record)
            if problem:
                rejected.append((payload, problem))
            else:
                records[record.event_id] = record, payload
        if rejected:
            rejected_records.keep(self._engine, rejected)
        fresh = self._enter(records)
        self._note(fresh)
        self.received += len(payloads)
        if fresh:
            now_s, oldest = time.time(), min(fresh, key=lambda record: record.started_ms)
            lag_s = now_s - (oldest.started_ms + oldest.total_ms) / 1e3
            self.shipping.note(oldest.gateway, lag_s, backlog_bytes, now_s)
        return len(fresh)

    def enter_processes(self, payloads: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Have it audited that gateways began or ended; see `pending.add_processes`."""
        return pending.add_processes(self._engine, payloads) if self._audited else []

    def enter_again(self, connection: Connection, record: CallRecord) -> None:
        """Enter a record that was set aside; one that is there already stays as it is.

        Raises:
            ValueError: it is refused again, and why.
        """
        problem = call_record.problem_of(record)
        if problem:
            raise ValueError(problem)
        try:
            self._ensure_days({record.started_ms // db.DAY_MS})
            self._note(self._enter_all(connection, [record]))
        except db.REFUSED as error:
            raise ValueError(str(error)) from error

    def _note(self, fresh: list[CallRecord]) -> None:
        self.upstream_health.note(fresh)
        self.model_latency.note(fresh, time.time())
        uses = self._uses
        for record in fresh:
            at_s = record.started_ms // 1_000
            if at_s > uses.get(record.key_id, 0):
                uses[record.key_id] = at_s
        self.entered += len(fresh)

    def _enter(self, records: dict[str, tuple[CallRecord, bytes]]) -> list[CallRecord]:
        """Enter records in a transaction; where one of them is refused, by ever smaller parts, so
        that it stops none of the others. Returns those that are new."""
        # Rows are entered in one order by all, so that two writers cannot deadlock.
        names = sorted(records)
        try:
            self._ensure_days({r.started_ms // db.DAY_MS for r, _ in records.values()})
            with self._engine.begin() as connection:
                return self._enter_all(connection, [records[name][0] for name in names])
        except db.REFUSED as error:
            self._days.clear()  # a day that was dropped meanwhile is made again
            if len(names) == 1:
                rejected_records.keep(self._engine, [(records[names[0]][1], str(error))])
                return []
            half = len(names) // 2
            parts = names[:half], names[half:]
            return [r for part in parts for r in self._enter({n: records[n] for n in part})]

    def _enter_all(self, connection: Connection, records: list[CallRecord]) -> list[CallRecord]:
        """All of them or none; returns those that are new.

        Raises:
            one of `db.REFUSED`: the database takes one of them not.
        """
        by_id = {record.event_id: record for record in records}
        new = db.insert_new(connection, ledger, _COLUMNS, [_row(r) for r in records])
        fresh = [by_id[name] for name in sorted(new)]
        if self._audited:
            pending.add_calls(connection, fresh, self._zones)
        _keep_platform_costs(connection, fresh)
        self._roll_up(connection, fresh)
        _book(connection, fresh)
        limits.spend(connection, map(self._use, fresh))
        for tell in self.beside:
            tell(connection, fresh, self._zones)
        return fresh

    def _use(self, r: CallRecord) -> limits.Use:
        tokens = r.prompt_tokens + r.completion_tokens
        charge = to_yuan(r.charge_pico or 0, r.charge_currency, self.usd_cny_micro)
        return limits.Use(r.started_ms, r.gateway, limits.facts_of(r), r.requests, tokens, charge)

    def _ensure_days(self, days: set[int]) -> None:
        missing = days - self._days
        if missing:
            db.ensure_days(self._engine, missing)
            self._days |= missing

    def _roll_up(self, connection: Connection, records: list[CallRecord]) -> None:
        rollup = rollups.Rollup(self.clouds, self.tag_names, self._models)
        for r in records:
            rollup.add(
                r,
                r.charge_currency,
                calls=1,
                failed_calls=int(is_outage(r.status, r.outcome, r.fault)),
                estimated_calls=int(r.usage_source == "estimated"),
                unpriced_calls=int(r.charge_pico is None),
                prompt_tokens=r.prompt_tokens,
                cached_tokens=r.cached_tokens,
                completion_tokens=r.completion_tokens,
                reasoning_tokens=r.reasoning_tokens,
                cost_pico=r.cost_pico or 0,
                charge_pico=r.charge_pico or 0,
            )
            if r.outcome == "ok":
                rollup.add_cached(r)
            for attempt in platform_costs_of(r):
                rollup.add(
                    msgspec.structs.replace(
                        r, upstream=attempt.upstream, currency=attempt.currency
                    ),
                    r.charge_currency,
                    platform_prompt_tokens=attempt.prompt_tokens,
                    platform_completion_tokens=attempt.completion_tokens,
                    platform_cost_pico=attempt.cost_pico or 0,
                )
        rollup.enter(connection)


# --- rows -----------------------------------------------------------------------------------

_ELSEWHERE = ("engine_costs", "sequence", "subject")
_COLUMNS = tuple(name for name in CallRecord.__struct_fields__ if name not in _ELSEWHERE)
"""All but what `platform_costs` has rows of, the audit log alone keeps, or counts people abroad."""
_KEPT = tuple(at for at, name in enumerate(CallRecord.__struct_fields__) if name in _COLUMNS)
_as_tuple = msgspec.structs.astuple
_kept = itemgetter(*_KEPT)
_ATTEMPTS, _ROUTE = _COLUMNS.index("attempts"), _COLUMNS.index("route")
_json = msgspec.json.Encoder().encode


def _row(record: CallRecord) -> list[Any]:
    """A record's values, its lists as JSON objects."""
    row = list(_kept(_as_tuple(record)))
    row[_ATTEMPTS] = _objects(record.attempts)
    row[_ROUTE] = _objects(record.route) if record.route else "[]"
    return row


def platform_costs_of(record: CallRecord) -> list[AttemptRecord]:
    """What the platform bears of a call, see `core.call_record.Overhead`: attempts, and what
    moderation engines are owed as if each were one."""
    return [
        *(attempt for attempt in record.attempts if attempt.overhead),
        *map(_attempt_of, record.engine_costs),
    ]


def _attempt_of(cost: EngineCost) -> AttemptRecord:
    return AttemptRecord(
        cost.upstream, 0.0, outcome="ok", currency=ENGINE_CURRENCY, cost_pico=cost.cost_pico,
        overhead=Overhead.MODERATION,
    )  # fmt: skip


def _keep_platform_costs(connection: Connection, records: list[CallRecord]) -> None:
    """A row for each attempt and engine that no caller pays for; once, as the calls are new."""
    rows = [
        {
            "event_id": record.event_id,
            "attempt": number,
            "started_ms": record.started_ms,
            "kind": attempt.overhead,
            "model_served": attempt.model,
            "model_asked": record.model_asked,
        }
        | {name: getattr(attempt, name) for name in _OF_ATTEMPT}
        | {name: getattr(record, name) for name in _OF_CALL}
        for record in records
        for number, attempt in enumerate((*record.attempts, *map(_attempt_of, record.engine_costs)))
        if attempt.overhead
    ]
    if rows:
        connection.execute(insert(platform_costs), rows)


_OF_ATTEMPT = (
    "upstream", "outcome", "prompt_tokens", "cached_tokens", "completion_tokens",
    "reasoning_tokens", "usage_source", "price_version", "currency", "cost_pico",
)  # fmt: skip
_OF_CALL = ("tenant", "project", "key_id")


def _objects(structs: Iterable[Any]) -> str:
    return _json([msgspec.structs.asdict(struct) for struct in structs]).decode()


Row = dict[str, Any]

# --- double entry ----------------------------------------------------------------------------

CUSTOMER, REVENUE, COST, UPSTREAM, CASH = "customer", "revenue", "cost", "upstream", "cash"
PLATFORM_COST = "platform_cost"
"""What upstreams are owed for answers that nobody pays for."""


_ENTRY_COLUMNS = (
    "id", "transaction_id", "at_s", "kind", "account", "tenant", "currency", "amount_pico",
    "reference",
)  # fmt: skip


class AlreadyEntered(Exception):
    """A transaction that is entered once only was entered before; its id is the argument."""


def post(
    connection: Connection,
    kind: str,
    lines: Sequence[tuple[str, str, str, int]],
    reference: str,
    at_s: int | None = None,
    transaction_id: str = "",
) -> str:
    """Add a transaction to the double-entry ledger; returns its id.

    Args:
        lines: account, tenant, currency and pico-units of each; positive is what the account
            receives.
        transaction_id: one that can be entered once only; a new one if empty.

    Raises:
        ValueError: the lines of a currency do not sum to zero.
        AlreadyEntered: there is a transaction of that id.
    """
    sums: dict[str, int] = defaultdict(int)
    for _, _, currency, amount in lines:
        sums[currency] += amount
    if any(sums.values()):
        raise ValueError(f"a transaction must sum to zero: {dict(sums)}")
    transaction_id = transaction_id or secrets.new_id("txn")
    now = int(time.time()) if at_s is None else at_s
    lines = [line for line in lines if line[3]]
    if lines:
        rows = [
            (f"{transaction_id}_{at}", transaction_id, now, kind, *line, reference)
            for at, line in enumerate(lines)
        ]
        if not db.insert_new(connection, entries, _ENTRY_COLUMNS, rows):
            raise AlreadyEntered(transaction_id)
        changes: dict[tuple[str, str, str], int] = defaultdict(int)
        for account, _, currency, amount in lines:
            changes[account, currency, kind] += amount
        totals = [(*key, changes[key]) for key in sorted(changes)]
        columns = ("account", "currency", "kind", "amount_pico")
        db.add_up(connection, balances, columns, ("amount_pico",), totals)
    return transaction_id


def _book(connection: Connection, records: list[CallRecord]) -> None:
    """One transaction a batch: what customers owe and what upstreams are owed."""
    charges: dict[tuple[str, str], int] = defaultdict(int)
    costs: dict[tuple[str, str], int] = defaultdict(int)
    borne: dict[tuple[str, str], int] = defaultdict(int)
    for record in records:
        if record.charge_pico:
            charges[record.tenant, record.charge_currency] += record.charge_pico
        if record.cost_pico:
            costs[record.upstream, record.currency] += record.cost_pico
        for attempt in platform_costs_of(record):
            borne[attempt.upstream, attempt.currency] += attempt.cost_pico or 0
    lines = [*usage_lines(charges, costs), *_cost_lines(borne, PLATFORM_COST)]
    if lines:
        post(connection, "usage", lines, f"{len(records)} calls from {records[0].event_id}")


def usage_lines(
    charges: dict[tuple[str, str], int], costs: dict[tuple[str, str], int]
) -> list[tuple[str, str, str, int]]:
    """Entries for charges by (tenant, currency) and costs by (upstream, currency)."""
    lines = []
    for (tenant, currency), amount in sorted(charges.items()):
        lines.append((f"{CUSTOMER}:{tenant}", tenant, currency, -amount))
        lines.append((REVENUE, "", currency, amount))
    lines += _cost_lines(costs, COST)
    return [line for line in lines if line[3]]


def _cost_lines(costs: dict[tuple[str, str], int], account: str) -> list[tuple[str, str, str, int]]:
    """Entries for what upstreams are owed, by (upstream, currency), against an account."""
    lines = []
    for (upstream, currency), amount in sorted(costs.items()):
        if amount:
            lines.append((f"{UPSTREAM}:{upstream}", "", currency, amount))
            lines.append((account, "", currency, -amount))
    return lines


def deposit(
    connection: Connection, tenant: str, currency: str, amount_pico: int, reference: str
) -> str:
    """A customer paid; returns the transaction's id.

    A reference counts once for a tenant, again only when its deposit was reversed. The id is
    made of it, so that of two at the same time one is refused, too.

    Raises:
        AlreadyEntered: it was entered before.
    """
    account = f"{CUSTOMER}:{tenant}"
    known = connection.execute(
        select(entries.c.transaction_id).where(
            entries.c.tenant == tenant,
            entries.c.kind == "deposit",
            entries.c.account == account,
            entries.c.reference == reference,
        )
    ).scalars()
    before = list(known)
    for transaction_id in before:
        if not is_reversed(connection, transaction_id):
            raise AlreadyEntered(transaction_id)
    name = prescribed.fingerprint(f"{tenant}\0{reference}\0{len(before)}".encode())
    lines = [(account, tenant, currency, amount_pico), (CASH, "", currency, -amount_pico)]
    return post(connection, "deposit", lines, reference, transaction_id=f"txn_{name[:20]}")


def reverse(connection: Connection, transaction_id: str, reference: str) -> str | None:
    """Undo a transaction by its opposite; None when there is none or it is undone already."""
    rows = connection.execute(
        select(entries).where(entries.c.transaction_id == transaction_id)
    ).all()
    if not rows or rows[0].kind == "reversal" or is_reversed(connection, transaction_id):
        return None
    lines = [(row.account, row.tenant, row.currency, -row.amount_pico) for row in rows]
    return post(connection, "reversal", lines, f"{transaction_id} {reference}"[:200])


def is_reversed(connection: Connection, transaction_id: str) -> bool:
    """Whether another transaction undoes it."""
    found = connection.execute(
        select(entries.c.id).where(
            entries.c.kind == "reversal",
            entries.c.reference.startswith(f"{transaction_id} "),
        )
    ).first()
    return found is not None


def balances_of(connection: Connection, tenant: str) -> dict[str, int]:
    """What a tenant has left, by currency, in pico-units; negative: it owes that."""
    rows = connection.execute(
        select(balances.c.currency, func.sum(balances.c.amount_pico))
        .where(balances.c.account == f"{CUSTOMER}:{tenant}")
        .group_by(balances.c.currency)
    )
    return {currency: int(amount) for currency, amount in rows}


def credited(connection: Connection, tenant: str, usd_cny_micro: int) -> int:
    """What a tenant has paid and was credited in all, in pico-yuan; what it used is not in it."""
    rows = connection.execute(
        select(balances.c.currency, func.sum(balances.c.amount_pico))
        .where(balances.c.account == f"{CUSTOMER}:{tenant}", balances.c.kind != "usage")
        .group_by(balances.c.currency)
    )
    return sum(to_yuan(int(amount), currency, usd_cny_micro) for currency, amount in rows)


# --- questions --------------------------------------------------------------------------------

DIMENSIONS = (
    "tenant", "account", "project", "environment", "key_id", "model", "upstream", "cloud", "tag",
    "day", "hour",
)  # fmt: skip
Where = Sequence[tuple[str, str]]
_TAG_DIMENSIONS = {"tenant", "project", "key_id", "tag", "model", "day", "hour"}


def usage(
    connection: Connection,
    *,
    group_by: Sequence[str],
    from_s: int,
    until_s: int,
    tenant: str | None = None,
    where: Where = (),
    models: Collection[str] | None = None,
    zone_s: int = 0,
    with_costs: bool = True,
    rows_max: int = 100_000,
) -> list[dict[str, Any]]:
    """Sums over the rollups, added up by the database; currencies of charges never mix.

    Args:
        group_by: some of `DIMENSIONS`; hours are UTC. With `tag`, a call counts once for each of
            its tags.
        from_s: Unix time, inclusive; `until_s` exclusive.
        where: dimensions and the value each must have.
        models: only calls that asked for one of these; None: all.
        zone_s: how far the days begin before those of UTC.
        with_costs: keep currencies of costs apart, too; else costs mean nothing.

    Raises:
        ValueError: a dimension that tags are not counted by.
    """
    by_hour = "hour" in group_by or bool(zone_s and "day" in group_by)
    table, sums, currencies = _source(group_by, from_s, until_s, where, by_hour=by_hour)
    keys = (*group_by, *(currencies if with_costs else currencies[-1:]))
    columns = [_dimension(table, name, zone_s) for name in keys]
    query = (
        select(
            *(column.label(f"d{at}") for at, column in enumerate(columns)),
            *(func.sum(table.c[name]).label(name) for name in sums),
        )
        .group_by(*columns)
        .order_by(*columns)
        .limit(rows_max)
    )
    if tenant is not None:
        query = query.where(table.c.tenant == tenant)
    for name, value in where:
        query = query.where(table.c[name] == value)
    if models is not None:
        query = query.where(table.c.model.in_(models))
    return [_usage_row(row, keys, sums) for row in connection.execute(query)]


def _source(
    group_by: Sequence[str], from_s: int, until_s: int, where: Where, *, by_hour: bool
) -> tuple[FromClause, Sequence[str], Sequence[str]]:
    """What is added up: the rows, their sums, and the currencies that keep them apart.

    Raises:
        ValueError: a dimension that tags are not counted by.
    """
    asked = {*group_by, *(name for name, _ in where)}
    if "tag" not in asked:
        table = rollups.between(from_s, until_s, by_hour=by_hour)
        return table, rollups.SUMS, ("currency", "charge_currency")
    if not asked <= _TAG_DIMENSIONS:
        wrong = ", ".join(sorted(asked - _TAG_DIMENSIONS))
        raise ValueError(f"usage by tag is not kept by {wrong}")
    by_tag = (
        select(usage_by_tag, usage_by_tag.c.hour_s.label("at_s"))
        .where(usage_by_tag.c.hour_s >= from_s, usage_by_tag.c.hour_s < until_s)
        .subquery()
    )
    return by_tag, rollups.TAG_SUMS, ("charge_currency",)


def _usage_row(row: Sequence[Any], keys: Sequence[str], sums: Sequence[str]) -> Row:
    found = dict(zip(keys, row[: len(keys)], strict=True))
    for name in ("day", "hour"):
        if name in found:
            found[name] = _moment(name, found[name])
    found |= {name: int(value) for name, value in zip(sums, row[len(keys) :], strict=True)}
    return found


def _dimension(table: FromClause, name: str, zone_s: int) -> ColumnElement[Any]:
    if name == "day":
        local_s = table.c.at_s + zone_s
        return local_s - local_s % DAY_S
    if name == "hour":
        return table.c.at_s
    return table.c[name]


def _moment(name: str, at_s: int) -> str:
    if name == "day":
        return time.strftime("%Y-%m-%d", time.gmtime(at_s))
    return time.strftime("%Y-%m-%dT%H:00Z", time.gmtime(at_s))


def calls(
    connection: Connection,
    *,
    tenant: str | None,
    from_ms: int,
    until_ms: int,
    where: Where = (),
    models: Collection[str] | None = None,
    after: tuple[str | int, ...] | None = None,
    count: int,
) -> list[dict[str, Any]]:
    """Single calls, the latest first.

    Args:
        where: columns and the value each must have; `tag` is one of a call's tags, `tried` an
            upstream that was tried for it, `result` what became of it in one word.
        models: see `usage`.
        after: time and id of the last row of the page before.
    """
    query = select(ledger).where(ledger.c.started_ms >= from_ms, ledger.c.started_ms < until_ms)
    if tenant is not None:
        query = query.where(ledger.c.tenant == tenant)
    for name, value in where:
        query = query.where(call_filters.condition(name, value))
    if models is not None:
        query = query.where(ledger.c.model_asked.in_(models))
    if after is not None:
        query = query.where(tuple_(ledger.c.started_ms, ledger.c.event_id) < after)
    query = query.order_by(ledger.c.started_ms.desc(), ledger.c.event_id.desc()).limit(count)
    return [_shown(dict(row)) for row in connection.execute(query).mappings()]


def call(connection: Connection, event_id: str) -> Row | None:
    """One call by its id, which is the `x-request-id` of its answer; None when there is none."""
    row = connection.execute(select(ledger).where(ledger.c.event_id == event_id)).mappings().first()
    return None if row is None else _shown(dict(row))


def calls_page(
    connection: Connection,
    page: Page,
    *,
    tenant: str | None,
    from_ms: int,
    until_ms: int,
    where: Where = (),
    models: Collection[str] | None = None,
) -> Rows:
    """One page of single calls, the latest first; see `calls`."""
    order = (ledger.c.started_ms, ledger.c.event_id)
    after = paging.after_of(page, order)
    rows = calls(
        connection, tenant=tenant, from_ms=from_ms, until_ms=until_ms, where=where,
        models=models, after=after, count=page.limit,
    )  # fmt: skip
    return Rows(rows, paging.cursor_after(rows, page, order))


def each_call(
    engine: Engine, *, tenant: str | None, from_ms: int, until_ms: int, page: int = 5_000
) -> Iterator[list[dict[str, Any]]]:
    """All calls of a time, page by page.

    Each page is a transaction of its own: a slow reader does not keep others from writing.
    """
    after: tuple[int, str] | None = None
    while True:
        with db.reading(engine) as connection:
            rows = calls(
                connection,
                tenant=tenant, from_ms=from_ms, until_ms=until_ms, after=after, count=page,
            )  # fmt: skip
        if not rows:
            return
        yield rows
        after = (rows[-1]["started_ms"], rows[-1]["event_id"])


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    for name in ("attempts", "route"):
        row[name] = msgspec.json.decode(row[name])
    return row


def entries_page(
    connection: Connection, page: Page, tenant: str | None, transaction_id: str | None = None
) -> Rows:
    """One page of the double-entry ledger, the latest entry first."""
    query, order = select(entries), (entries.c.at_s, entries.c.id)
    if transaction_id is not None:
        query = query.where(entries.c.transaction_id == transaction_id)
    return paging.read_page(connection, query, page, order, newest=True, tenant=tenant)


def tenants_of(connection: Connection, transaction_id: str) -> list[str]:
    """Whose balances a transaction changed."""
    rows = connection.execute(
        select(entries.c.tenant)
        .where(entries.c.transaction_id == transaction_id, entries.c.tenant != "")
        .distinct()
    )
    return sorted(rows.scalars())


def capture(connection: Connection, ledger_: Ledger) -> dict[str, Any]:
    """How much of what gateways sent is in the ledger.

    `capture_rate` is entered over readable records received, duplicates not counted: below 1
    means that something could not be read and waits in `rejected_records`.
    """
    rejected = rejected_records.count(connection)
    total = ledger_.entered + rejected
    return {
        "received": ledger_.received,
        "entered": ledger_.entered,
        "rejected": rejected,
        "capture_rate": 1.0 if not total else ledger_.entered / total,
    }
