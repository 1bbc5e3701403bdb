"""Rate limits and budgets in the database: definitions, leases of gateways, spending."""

from __future__ import annotations

import datetime
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    Connection,
    Engine,
    RowMapping,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from tokenschain.control import revisions
from tokenschain.control.billing import rollups
from tokenschain.control.billing.rollups import DAY_S, HOUR_S, Place
from tokenschain.core.errors import ApiError
from tokenschain.core.limits import (
    HOLDER_TTL_S,
    OTHER,
    Budget,
    Facts,
    Lease,
    LeaseRequest,
    Rate,
    SharedRates,
    by_tags,
    grant_of,
    other_of,
    shown_subject,
    subject_of,
)
from tokenschain.core.pricing.catalog import to_yuan
from tokenschain.core.tags import parse as parse_tags
from tokenschain.infra.control_channel.protocol import LeaseBatch
from tokenschain.infra.database import engine as db
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import budget_counts, lease_streams, limits

CHINA_S = 8 * 3_600
CHINA = datetime.timezone(datetime.timedelta(seconds=CHINA_S))
_KINDS: dict[str, type[Rate] | type[Budget]] = {"rate": Rate, "budget": Budget}
WALLET = "wallet"
"""The name of each prepaid tenant's wallet among its limits."""
SUBJECT_CHARACTERS_MAX = 300
SUBJECTS_MAX = 20_000
"""Counts of one budget and period by values of tags, which callers make up; in each tenant, project
or whatever else it is counted per. Those beyond are one count."""
USED_MAX = 100
"""Counts of one budget that are listed."""
COUNTS_KEPT_S = 7 * DAY_S
"""After their period: records may come late."""
_NAMES_AT_ONCE = 500
STREAMS_MAX = 10_000
"""Gateway processes whose last request is remembered in memory; those not heard for longest are
forgotten first, and their requests are too old by then (`signatures.WINDOW_S`)."""


def all_limits(connection: Connection) -> tuple[tuple[Rate, ...], tuple[Budget, ...]]:
    """Every rate and budget, wallets included."""
    rates, budgets = [], []
    for row in connection.execute(select(limits.c.kind, limits.c.spec).order_by(limits.c.id)):
        if row.kind == "rate":
            rates.append(msgspec.json.decode(row.spec, type=Rate))
        else:
            budgets.append(msgspec.json.decode(row.spec, type=Budget))
    return tuple(rates), tuple(budgets)


def put(
    connection: Connection,
    limit: Rate | Budget,
    tenant: str,
    alerts: Sequence[int] = (),
    usd_cny_micro: int = 7_000_000,
) -> None:
    """Set a limit, anew or changed. A new budget counts what was used in its period before."""
    kind = "rate" if isinstance(limit, Rate) else "budget"
    values = {
        "kind": kind,
        "tenant": tenant,
        "spec": msgspec.json.encode(limit).decode(),
        "alerts": msgspec.json.encode(list(alerts)).decode(),
    }
    changed = connection.execute(
        update(limits).where(limits.c.id == limit.id).values(**values, version=limits.c.version + 1)
    ).rowcount
    if not changed:
        connection.execute(
            insert(limits).values(id=limit.id, created_at_s=int(time.time()), **values)
        )
        if isinstance(limit, Budget) and not by_tags(limit):
            _count_past(connection, limit, usd_cny_micro)
    revisions.bump(connection)


def remove(connection: Connection, limit_id: str) -> bool:
    """Take a limit away; false when there is none."""
    removed = connection.execute(delete(limits).where(limits.c.id == limit_id)).rowcount
    connection.execute(delete(budget_counts).where(budget_counts.c.budget_id == limit_id))
    revisions.bump(connection)
    return bool(removed)


Row = dict[str, Any]


def id_of(tenant: str, name: str) -> str:
    """The id of a limit: a name is one in its tenant, and for the platform one without tenant."""
    return f"{tenant}/{name}" if tenant else name


def find(connection: Connection, limit_id: str) -> Row | None:
    """A limit as it is set, or None."""
    row = connection.execute(select(limits).where(limits.c.id == limit_id)).mappings().first()
    return None if row is None else shown(row)


def named(connection: Connection, name: str) -> list[Row]:
    """The limits of this name, the platform's and every tenant's."""
    rows = connection.execute(
        select(limits)
        .where(or_(limits.c.id == name, limits.c.id.endswith(f"/{name}", autoescape=True)))
        .order_by(limits.c.id)
    )
    return list(map(shown, rows.mappings()))


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of limits, by id, as people see them."""
    found = paging.read_page(connection, select(limits), page_, (limits.c.id,), tenant=tenant)
    return found._replace(rows=list(map(shown, found.rows)))


def shown(row: Row | RowMapping) -> Row:
    """A limit as people see it."""
    spec = msgspec.json.decode(row["spec"], type=_KINDS[row["kind"]])
    return {
        "kind": row["kind"],
        "tenant": row["tenant"],
        "alerts": msgspec.json.decode(row["alerts"]),
        "created_at_s": row["created_at_s"],
        "version": row["version"],
        "set_by_platform": row["set_by_platform"],
        **msgspec.to_builtins(msgspec.structs.asdict(spec)),
        "match": msgspec.structs.asdict(spec.match),
    }


def add_used(connection: Connection, shown_: Sequence[Row]) -> None:
    """Add `used` to budgets: what is spent of the fullest counts in its period, and what is
    promised; and `counts`, how many there are."""
    by_period: dict[str, dict[str, Row]] = defaultdict(dict)
    for row in shown_:
        if row["kind"] == "budget":
            row["used"], row["counts"] = [], 0
            by_period[row["period"]][row["id"]] = row
    for period, rows in by_period.items():
        for one in _fullest(connection, period_of(period, time.time())[0], list(rows)):
            row = rows[one.budget_id]
            row["counts"] = one.counts
            row["used"].append(
                {"subject": shown_subject(one.subject), "spent": int(one.spent),
                 "promised": int(one.promised)}
            )  # fmt: skip


def _fullest(connection: Connection, begins: int, names: list[str]) -> Sequence[Any]:
    """The fullest counts of budgets in the period that began then, with how many each has."""
    table = budget_counts.c
    mine = (table.period_s == begins, table.budget_id.in_(names))
    heard = connection.execute(select(func.max(table.seen_at_s)).where(*mine)).scalar() or 0.0
    held = table.granted - table.spent
    alive = (table.seen_at_s >= heard - HOLDER_TTL_S) & (held > 0)
    spent, promised = func.sum(table.spent), func.sum(case((alive, held), else_=0))
    ranked = (
        select(
            table.budget_id,
            table.subject,
            spent.label("spent"),
            promised.label("promised"),
            func.count().over(partition_by=table.budget_id).label("counts"),
            func.row_number()
            .over(
                partition_by=table.budget_id,
                order_by=((spent + promised).desc(), table.subject),
            )
            .label("place"),
        )
        .where(*mine)
        .group_by(table.budget_id, table.subject)
        .subquery()
    )
    found = select(ranked).where(ranked.c.place <= USED_MAX)
    return connection.execute(found.order_by(ranked.c.budget_id, ranked.c.place)).all()


def budget_of(shown_: Row) -> Budget:
    """The budget that `shown` shows."""
    known = set(Budget.__struct_fields__)
    return msgspec.convert({k: v for k, v in shown_.items() if k in known}, Budget)


# --- periods ----------------------------------------------------------------------------


def period_of(period: str, at_s: float) -> tuple[int, int]:
    """When the period that holds a time begins and ends; Unix time, 0 for never."""
    if period == "total":
        return 0, 0
    day = datetime.datetime.fromtimestamp(at_s, CHINA).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    if period == "day":
        return int(day.timestamp()), int(day.timestamp()) + 86_400
    first = day.replace(day=1)
    following = (first + datetime.timedelta(days=32)).replace(day=1)
    return int(first.timestamp()), int(following.timestamp())


# --- what is spent, as the ledger says ------------------------------------------------------


class Use(NamedTuple):
    """What one call used, or a correction of it, where it belongs."""

    started_ms: int
    holder: str
    """The gateway that served it."""
    facts: Facts
    requests: int
    tokens: int
    spend_pico: int
    """In pico-yuan."""


def facts_of(of: Place) -> Facts:
    """What limits select by, of a journal record or a row of the ledger."""
    tags = parse_tags(of.tags) if of.tags else {}
    return Facts(of.tenant, of.account, of.project, of.environment, of.key_id, of.model_asked, tags)


def spend(connection: Connection, uses: Iterable[Use], *, wallets: bool = True) -> None:
    """Count uses on the budgets they fall under; in the ledger's transaction.

    Args:
        wallets: also on those that follow deposits.
    """
    budgets = [budget for budget in all_limits(connection)[1] if wallets or not budget.wallet]
    if not budgets:
        return
    sums: dict[tuple[str, int], dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
    begins: dict[tuple[str, int], int] = {}
    for use in uses:
        day = (use.started_ms // 1_000 + CHINA_S) // DAY_S
        for budget in budgets:
            subject = subject_of(budget, use.facts)
            if subject is not None:
                begun = begins.get((budget.period, day))
                if begun is None:
                    begun = period_of(budget.period, use.started_ms / 1e3)[0]
                    begins[budget.period, day] = begun
                amounts, key = sums[budget.id, begun], (subject, use.holder)
                measure = budget.measure
                if measure == "requests":
                    amounts[key] += use.requests
                else:
                    amounts[key] += use.tokens if measure == "tokens" else use.spend_pico
    of = {budget.id: budget for budget in budgets}
    added: dict[tuple[str, str, int, str], int] = defaultdict(int)
    for (name, begun), amounts in sums.items():
        used = {key: amount for key, amount in amounts.items() if amount}
        kept = kept_under(connection, of[name], begun, {subject for subject, _ in used})
        for (subject, holder), amount in used.items():
            added[name, kept[subject], begun, holder] += amount
    _add_spent(connection, [(*key, added[key]) for key in sorted(added)])


def kept_under(
    connection: Connection, budget: Budget, begun: int, subjects: Iterable[str]
) -> dict[str, str]:
    """The count of each subject: its own, or beyond `SUBJECTS_MAX` the one of all others.

    What has a count keeps it, so that a lease, what is spent of it and a later correction meet.
    """
    kept = {subject: subject[:SUBJECT_CHARACTERS_MAX] for subject in subjects}
    if not any(name.startswith("tag:") for name in budget.per):
        return kept
    table = budget_counts.c
    mine = (table.budget_id == budget.id, table.period_s == begun)
    known: set[str] = set()
    asked = sorted(set(kept.values()))
    for at in range(0, len(asked), _NAMES_AT_ONCE):
        some = table.subject.in_(asked[at : at + _NAMES_AT_ONCE])
        known.update(connection.execute(select(table.subject).where(*mine, some)).scalars())
    room: dict[str, int] = {}
    for subject in sorted(kept):
        own, other = kept[subject], other_of(budget, subject)
        if own in known:
            continue
        if other not in room:
            place = "%".join(map(_escaped, other.split(OTHER)))
            like = table.subject.like(place, escape="/")
            count = select(func.count(table.subject.distinct())).where(*mine, like)
            room[other] = SUBJECTS_MAX - connection.execute(count).scalar_one()
        if room[other] > 0:
            room[other] -= 1
            known.add(own)
        else:
            kept[subject] = other[:SUBJECT_CHARACTERS_MAX]
    return kept


def _escaped(text: str) -> str:
    return text.replace("/", "//").replace("%", "/%").replace("_", "/_")


def _add_spent(connection: Connection, amounts: Sequence[tuple[str, str, int, str, int]]) -> None:
    """Count amounts on budgets: id, subject, the period's begin, holder and amount of each."""
    columns = ("budget_id", "subject", "period_s", "holder", "spent", "granted", "seen_at_s")
    rows = [(*amount, 0, 0.0) for amount in amounts]
    db.add_up(connection, budget_counts, columns, ("spent",), rows)


def _count_past(connection: Connection, budget: Budget, usd_cny_micro: int) -> None:
    """What was used in the period before the budget was set, from the sums kept."""
    begins, _ = period_of(budget.period, time.time())
    table = rollups.between(begins, int(time.time()) + DAY_S, by_hour=False).c
    names = {"model": table.model, "key_id": table.key_id, "tenant": table.tenant,
             "account": table.account, "project": table.project,
             "environment": table.environment}  # fmt: skip
    query = select(
        *names.values(),
        table.charge_currency,
        func.sum(table.calls).label("calls"),
        func.sum(table.prompt_tokens + table.completion_tokens).label("tokens"),
        func.sum(table.charge_pico).label("charge"),
    )
    for name, column in names.items():
        value = getattr(budget.match, name)
        if value:
            query = query.where(column == value)
    sums: dict[str, int] = defaultdict(int)
    for row in connection.execute(query.group_by(*names.values(), table.charge_currency)):
        facts = Facts(row.tenant, row.account, row.project, row.environment, row.key_id, row.model)
        subject = subject_of(budget, facts)
        if subject is not None:
            charge = to_yuan(int(row.charge), row.charge_currency, usd_cny_micro)
            amount = {"requests": int(row.calls), "tokens": int(row.tokens)}
            sums[subject] += amount.get(budget.measure, charge)
    for subject in sorted(sums):
        connection.execute(
            insert(budget_counts).values(
                budget_id=budget.id, subject=subject[:SUBJECT_CHARACTERS_MAX], period_s=begins,
                holder="", granted=0, spent=sums[subject], seen_at_s=0.0,
            )
        )  # fmt: skip


def spent_of(
    connection: Connection, budgets: Sequence[Budget], at_s: float
) -> dict[tuple[str, str], tuple[int, int]]:
    """What was spent and what is promised of budgets in their periods, by id and subject."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    by_period: dict[int, list[str]] = defaultdict(list)
    for budget in budgets:
        by_period[period_of(budget.period, at_s)[0]].append(budget.id)
    for begins, names in by_period.items():
        table = budget_counts.c
        rows = connection.execute(
            select(
                table.budget_id, table.subject, table.granted, table.spent, table.seen_at_s
            ).where(table.period_s == begins, table.budget_id.in_(names))
        ).all()
        heard = max((row.seen_at_s for row in rows), default=0.0)
        for row in rows:
            spent, promised = found.get((row.budget_id, row.subject), (0, 0))
            held = row.granted - row.spent if heard - row.seen_at_s <= HOLDER_TTL_S else 0
            found[row.budget_id, row.subject] = (spent + row.spent, promised + max(0, held))
    return found


# --- leases ---------------------------------------------------------------------------------


class LeaseManager:
    """Leases budgets from the database, and rates from memory where there is no Redis."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rates = SharedRates()
        self._sequences: dict[str, int] = {}
        self._lock = threading.Lock()
        self._drawn_at = 0.0
        self._back_at = 0.0
        self._all_alive = True

    def draw(
        self, asked: LeaseBatch, rates: Sequence[Rate], budgets: Sequence[Budget]
    ) -> list[Lease]:
        """Grant what a gateway asks for, or as much as there is.

        What is granted to all and what is spent never exceeds a budget, whatever the order
        in which gateways ask and records arrive.

        Raises:
            ApiError: `conflict`: the request came before, or a later one did.
        """
        holder, requests = asked.holder, asked.requests
        stream = f"{holder}/{asked.stream}"
        with self._lock:
            self._count_in_memory(stream, asked.sequence)
        rates_by_id = {rate.id: rate for rate in rates}
        budgets_by_id = {budget.id: budget for budget in budgets}
        leases: dict[int, Lease] = {}
        of_budgets = []
        now = time.time()
        # After a silence of its own, control cannot tell the dead from those it did not hear.
        if now - self._drawn_at > HOLDER_TTL_S / 2:
            self._back_at = now
        self._all_alive = now - self._back_at <= HOLDER_TTL_S
        for number, request in enumerate(requests):
            if request.limit in rates_by_id:
                with self._lock:
                    rate = rates_by_id[request.limit]
                    leases[number] = self._rates.draw(rate, request, holder, now)
            elif request.limit in budgets_by_id:
                of_budgets.append((request.limit, request.subject, number))
            else:
                leases[number] = Lease(0, 0)
        if of_budgets:
            with self._engine.begin() as connection:
                _count(connection, stream, asked.sequence, now)
                # In one order by all, so that two cannot wait for each other.
                for name, subject, number in sorted(of_budgets):
                    budget = budgets_by_id[name]
                    leases[number] = self._lease(
                        connection, budget, subject, requests[number], holder, now
                    )
        self._drawn_at = now
        return [leases[number] for number in range(len(requests))]

    def _count_in_memory(self, stream: str, sequence: int) -> None:
        """Rates are counted by this process alone, and so are the requests for them."""
        if sequence <= self._sequences.get(stream, 0):
            raise _replayed()
        if len(self._sequences) >= STREAMS_MAX:
            self._sequences.pop(next(iter(self._sequences)))
        self._sequences.pop(stream, None)
        self._sequences[stream] = sequence

    def _lease(
        self,
        connection: Connection,
        budget: Budget,
        subject: str,
        request: LeaseRequest,
        holder: str,
        now: float,
    ) -> Lease:
        # The budget's own row is what several controls queue at.
        connection.execute(select(limits.c.id).where(limits.c.id == budget.id).with_for_update())
        begins, ends = period_of(budget.period, now)
        subject = kept_under(connection, budget, begins, (subject,))[subject]
        table = budget_counts.c
        mine = (
            table.budget_id == budget.id,
            table.subject == subject,
            table.period_s == begins,
        )
        rows = connection.execute(
            select(table.holder, table.granted, table.spent, table.seen_at_s).where(*mine)
        ).all()
        committed, own = 0, None
        for row in rows:
            if row.holder == holder:
                own = row
            alive = row.holder == holder or (
                row.seen_at_s > 0 and (self._all_alive or now - row.seen_at_s <= HOLDER_TTL_S)
            )
            committed += max(row.granted, row.spent) if alive else row.spent
        left = max(0, budget.amount - committed)
        granted = request.want if request.want < 0 else grant_of(request, left)
        if own is None:
            granted = max(0, granted)
            connection.execute(
                insert(budget_counts).values(
                    budget_id=budget.id, subject=subject, period_s=begins, holder=holder,
                    granted=granted, spent=0, seen_at_s=now,
                )
            )  # fmt: skip
        else:
            # What its records say it spent beyond its leases is granted after the fact.
            base = max(own.granted, own.spent) if granted > 0 else own.granted
            connection.execute(
                update(budget_counts)
                .where(*mine, table.holder == holder)
                .values(granted=max(0, base + granted), seen_at_s=now)
            )
        reset_s = max(0.0, ends - now) if ends and granted < request.need else 0.0
        return Lease(granted, max(0, left - granted), reset_s, float(ends))

    def sweep(self) -> int:
        """Fold the counts of gateways that are long gone into one row a budget, and forget those
        of periods that are long over."""
        with self._engine.begin() as connection:
            _forget_past(connection, time.time() - COUNTS_KEPT_S)
            before_s = time.time() - HOUR_S
            connection.execute(delete(lease_streams).where(lease_streams.c.seen_at_s < before_s))
            return _fold_dead(connection, before_s)


def _count(connection: Connection, stream: str, sequence: int, now: float) -> None:
    """Note a request for budgets, whichever control it comes to.

    Raises:
        ApiError: `conflict`.
    """
    table = lease_streams.c
    newer = connection.execute(
        update(lease_streams)
        .where(table.stream == stream, table.sequence < sequence)
        .values(sequence=sequence, seen_at_s=now)
    ).rowcount
    if newer:
        return
    first = connection.execute(
        db.upsert(connection.engine, lease_streams)
        .values(stream=stream, sequence=sequence, seen_at_s=now)
        .on_conflict_do_nothing(index_elements=["stream"])
    ).rowcount
    if not first:
        raise _replayed()


def _replayed() -> ApiError:
    return ApiError("conflict", "This request for leases came before, or a later one did.")


def _forget_past(connection: Connection, over_s: float) -> None:
    """Delete the counts of periods that were over by then."""
    table = budget_counts.c
    by_period: dict[str, list[str]] = defaultdict(list)
    for budget in all_limits(connection)[1]:
        by_period[budget.period].append(budget.id)
    for period, names in by_period.items():
        over = table.period_s < period_of(period, over_s)[0]
        for at in range(0, len(names), _NAMES_AT_ONCE):
            some = table.budget_id.in_(names[at : at + _NAMES_AT_ONCE])
            connection.execute(delete(budget_counts).where(some, over))


def _fold_dead(connection: Connection, before_s: float) -> int:
    table = budget_counts.c
    dead = connection.execute(
        select(table.budget_id, table.subject, table.period_s, table.holder, table.spent).where(
            table.holder != "", table.seen_at_s < before_s, table.seen_at_s > 0
        )
    ).all()
    for row in dead:
        connection.execute(
            delete(budget_counts).where(
                table.budget_id == row.budget_id, table.subject == row.subject,
                table.period_s == row.period_s, table.holder == row.holder,
            )
        )  # fmt: skip
        _add_spent(connection, [(row.budget_id, row.subject, row.period_s, "", int(row.spent))])
    return len(dead)
