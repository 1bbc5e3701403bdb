"""Review queue of moderation: calls that people look at, claim and decide."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, delete, func, or_, select, update

from tokenschain.control.moderation import appeals, offenders
from tokenschain.core.errors import ApiError
from tokenschain.core.moderation import case_record
from tokenschain.core.moderation.case_record import CaseRecord, KeptText
from tokenschain.core.routing.language import language_of
from tokenschain.core.snapshot import Snapshot
from tokenschain.core.snapshot.moderation_policy import (
    ModerationPolicy,
    OffenderLimits,
    policies_for,
)
from tokenschain.infra.database import engine as database
from tokenschain.infra.database import held_calls, paging
from tokenschain.infra.database.moderation_tables import moderation_cases as cases
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.security import case_texts, secrets
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Unsealable

CLAIM_S = 15 * 60
"""How long a case is one person's; afterwards it is back in the queue by itself."""
HOUR_S = 3_600
DECIDED_KEPT_S = 180 * 86_400
"""Logs of what was generated and for whom are kept for six months at least (Measures for Labelling
AI-Generated Content, article 9)."""
OPEN_KEPT_S = 360 * 86_400
BULK_MAX = 100
CaseState = Literal["open", "second", "escalated", "decided"]
"""`second`: a second person is to decide; `escalated`: somebody with `moderation:write` is."""
Decision = Literal["uphold", "release", "escalate"]


class CaseFilter(NamedTuple):
    """Which cases of the queue."""

    state: CaseState | None = None
    category: str = ""
    overdue: bool = False
    claimed_by: str = ""
    appeals: bool | None = None
    """Only appeals, or only others."""


class CaseBook:
    """Enters cases as gateways ship them; each call has one, however often it arrives."""

    def __init__(self, engine: Engine, shared: Sealer, sealer: Sealer) -> None:
        """
        Args:
            shared: opens what gateways sealed.
            sealer: seals it for the database.
        """
        self._engine, self.shared, self._sealer = engine, shared, sealer
        self._policies: Mapping[str, ModerationPolicy] = {}

    def follow(self, snapshot: Snapshot) -> None:
        """Take up a new configuration."""
        self._policies = snapshot.moderation

    def enter(self, payloads: Sequence[bytes]) -> list[tuple[bytes, str]]:
        """Enter cases; returns those that could not be, and why."""
        found: list[tuple[CaseRecord, bytes]] = []
        rejected: list[tuple[bytes, str]] = []
        for payload in payloads:
            try:
                found.append((case_record.decode(payload), payload))
            except msgspec.DecodeError as error:
                rejected.append((payload, str(error)))
        return rejected + self._enter(found)

    def _enter(self, found: list[tuple[CaseRecord, bytes]]) -> list[tuple[bytes, str]]:
        if not found:
            return []
        try:
            with self._engine.begin() as connection:
                self._enter_all(connection, [one for one, _ in found])
        except database.REFUSED as error:
            if len(found) == 1:
                return [(found[0][1], str(error))]
            half = len(found) // 2
            return self._enter(found[:half]) + self._enter(found[half:])
        return []

    def _enter_all(self, connection: Connection, records: Sequence[CaseRecord]) -> None:
        offenders.count(connection, self._engine, records, self._offenders_of, time.time())
        rows = {}
        for one in records:
            if not one.queued:
                continue
            about = one
            if one.appeal_of:
                found = appeals.about(connection, one)
                if found is None:
                    continue  # of another's call, or of one that moderation did nothing to
                about = found
            rows[one.event_id] = self._row(about)
        if not rows:
            return
        connection.execute(
            database.upsert(self._engine, cases).on_conflict_do_nothing(
                index_elements=["event_id"]
            ),
            [rows[name] for name in sorted(rows)],
        )

    def _offenders_of(self, one: CaseRecord) -> list[OffenderLimits]:
        """What the policies of a call make of blocked calls of its end user."""
        found = policies_for(self._policies, one.tenant, one.project)
        return [policy.offenders for _, policy in found if policy.offenders is not None]

    def _row(self, one: CaseRecord) -> dict[str, Any]:
        policies = [p for _, p in policies_for(self._policies, one.tenant, one.project)]
        hours = min((policy.review_hours for policy in policies), default=24)
        now_s, name = int(time.time()), secrets.new_id("case")
        sealed, language = self._resealed(one, name)
        return {
            "id": name, "event_id": one.event_id, "tenant": one.tenant, "project": one.project,
            "key_id": one.key_id, "api": one.api, "model": one.model,
            "started_ms": one.started_ms, "moderation": one.moderation, "detail": one.detail,
            "category": one.detail.partition(":")[0][:64], "state": "open",
            "created_at_s": now_s, "due_at_s": now_s + hours * HOUR_S,
            "second_review": any(policy.second_review for policy in policies),
            "sealed": sealed, "language": language, "appeal_of": one.appeal_of,
        }  # fmt: skip

    def _resealed(self, one: CaseRecord, name: str) -> tuple[bytes, str]:
        """A case's texts sealed for the database, and their language."""
        if not one.sealed:
            return b"", ""
        try:
            texts = self.shared.unseal(case_texts.place_of(one.tenant, one.event_id), one.sealed)
        except Unsealable:  # with a secret that is no longer shared: the case is there without them
            return b"", ""
        try:
            said = "\n".join(kept.text for kept in case_record.decode_texts(texts))
        except msgspec.DecodeError:  # of a gateway whose format is newer
            said = ""
        return self._sealer.seal(place_of(one.tenant, name), texts), language_of(said)


def place_of(tenant: str, case_id: str) -> Place:
    """Where the texts of a case are sealed for."""
    return Place(Sealable.MODERATION_CASE, tenant, case_id)


# --- the queue -------------------------------------------------------------------------------

_SHOWN = [column for column in cases.c if column.name != "sealed"]


def page(
    connection: Connection, page_: Page, tenant: str | None, wanted: CaseFilter, now_s: int
) -> Rows:
    """One page of cases, what is due first first; without texts."""
    query = select(*_SHOWN, (cases.c.sealed != b"").label("has_texts"))
    query = query.where(*_conditions(wanted, now_s))
    found = paging.read_page(
        connection, query, page_, (cases.c.due_at_s, cases.c.id), tenant=tenant
    )
    return found._replace(rows=[_shown(row, now_s) for row in found.rows])


def _conditions(wanted: CaseFilter, now_s: int) -> list[ColumnElement[bool]]:
    table, found = cases.c, []
    if wanted.state is not None:
        found.append(table.state == wanted.state)
    if wanted.category:
        group = wanted.category.removesuffix("*")
        whole = group == wanted.category
        found.append(
            table.category == group if whole else table.category.startswith(group, autoescape=True)
        )
    if wanted.overdue:
        found += [table.state != "decided", table.due_at_s < now_s]
    if wanted.appeals is not None:
        found.append(table.appeal_of != "" if wanted.appeals else table.appeal_of == "")
    if wanted.claimed_by:
        found += [table.claimed_by == wanted.claimed_by, table.claimed_until_s > now_s]
    return found


def _shown(row: Mapping[str, Any], now_s: int) -> dict[str, Any]:
    """A case as it is now: a claim that is over is none."""
    shown = dict(row)
    if (shown["claimed_until_s"] or 0) <= now_s or shown["state"] == "decided":
        shown["claimed_by"] = shown["claimed_until_s"] = None
    shown["overdue"] = shown["state"] != "decided" and shown["due_at_s"] < now_s
    return shown


def find(connection: Connection, case_id: str, now_s: int) -> dict[str, Any] | None:
    """One case, without texts."""
    query = select(*_SHOWN, (cases.c.sealed != b"").label("has_texts"))
    row = connection.execute(query.where(cases.c.id == case_id)).mappings().first()
    return None if row is None else _shown(dict(row), now_s)


def texts_of(connection: Connection, sealer: Sealer, case_id: str) -> list[KeptText]:
    """What was kept of a case's call; nothing where its policies keep none."""
    wanted = select(cases.c.tenant, cases.c.sealed).where(cases.c.id == case_id)
    row = connection.execute(wanted).one()
    if not row.sealed:
        return []
    return case_record.decode_texts(sealer.unseal(place_of(row.tenant, case_id), row.sealed))


def claim(connection: Connection, case_id: str, by: str, now_s: int) -> None:
    """Make a case somebody's for `CLAIM_S`, or theirs for longer.

    Raises:
        ApiError: `conflict`: it is somebody else's, or decided.
    """
    table = cases.c
    done = connection.execute(
        update(cases)
        .where(table.id == case_id, table.state != "decided", _is_free(by, now_s))
        .values(claimed_by=by, claimed_until_s=now_s + CLAIM_S)
    )
    if not done.rowcount:
        raise ApiError("conflict", "Somebody else has this case, or it is decided.")


def give_back(connection: Connection, case_id: str, by: str) -> None:
    """Put a case back that somebody had claimed."""
    connection.execute(
        update(cases)
        .where(cases.c.id == case_id, cases.c.claimed_by == by)
        .values(claimed_by=None, claimed_until_s=None)
    )


def _is_free(by: str, now_s: int) -> ColumnElement[bool]:
    table = cases.c
    return or_(table.claimed_by.is_(None), table.claimed_by == by, table.claimed_until_s <= now_s)


def decide(
    connection: Connection,
    case: Mapping[str, Any],
    decision: Decision,
    reason: str,
    by: str,
    now_s: int,
    *,
    senior: bool,
    reply: str = "",
) -> CaseState:
    """Decide a case, or pass it on; returns what it is then.

    Args:
        case: as `find` gives it.
        reply: what who appealed is told; the last one that is given counts.
        senior: whether they may decide what was escalated.

    Raises:
        ApiError: `conflict`: it is decided, somebody else's, or not theirs to decide.
    """
    if reply and not case["appeal_of"]:
        why = "Nobody is told of the decision of a case that is no appeal."
        raise ApiError("invalid_value", why, param="reply")
    state = _next(case, decision, by, senior=senior)
    values: dict[str, Any] = {"state": state, "claimed_by": None, "claimed_until_s": None}
    if state == "decided":
        values |= {"decision": decision, "reason": reason, "decided_by": by, "decided_at_s": now_s}
    elif case["first_by"] is None:
        values |= {"first_decision": decision, "first_reason": reason, "first_by": by}
    else:
        values |= {"decision": decision, "reason": reason, "decided_by": by}
    if reply:
        values["reply"] = reply
    table = cases.c
    done = connection.execute(
        update(cases)
        .where(table.id == case["id"], table.state == case["state"], _is_free(by, now_s))
        .values(values)
    )
    if not done.rowcount:
        raise ApiError("conflict", "Somebody else has this case, or has decided it.")
    return state


def _next(case: Mapping[str, Any], decision: Decision, by: str, *, senior: bool) -> CaseState:
    """The state after a decision.

    Raises:
        ApiError: `conflict`.
    """
    state = case["state"]
    if state == "decided":
        raise ApiError("conflict", "The case is decided.")
    if case["first_by"] == by:
        raise ApiError("conflict", "Another person than the first is to decide.")
    if state == "escalated":
        if not senior:
            raise ApiError("conflict", "It was escalated: it takes `moderation:write` to decide.")
        if decision == "escalate":
            raise ApiError("conflict", "It was escalated already.")
        if case["decided_by"] == by:
            raise ApiError("conflict", "Another person than the first two is to decide.")
        return "decided"
    if decision == "escalate":
        return "escalated"
    if state == "second":
        return "decided" if decision == case["first_decision"] else "escalated"
    return "second" if case["second_review"] else "decided"


def counts(connection: Connection, tenant: str | None, now_s: int) -> dict[str, int]:
    """How many cases wait, by state, and how many of them too long."""
    table, late = cases.c, _conditions(CaseFilter(overdue=True), now_s)
    waiting = select(table.state, func.count()).where(table.state != "decided")
    overdue = select(func.count()).select_from(cases).where(*late)
    if tenant is not None:
        waiting = waiting.where(table.tenant == tenant)
        overdue = overdue.where(table.tenant == tenant)
    found = dict.fromkeys(("open", "second", "escalated"), 0)
    for state, count in connection.execute(waiting.group_by(table.state)):
        found[state] = int(count)
    return found | {"overdue": int(connection.execute(overdue).scalar() or 0)}


def sweep(connection: Connection, now_s: float) -> None:
    """Forget cases that were decided, or forgotten, long ago, and that no legal hold keeps."""
    table, now = cases.c, int(now_s)
    connection.execute(
        delete(cases).where(
            or_(table.decided_at_s < now - DECIDED_KEPT_S, table.created_at_s < now - OPEN_KEPT_S),
            ~held_calls.is_call_held(table.tenant, table.started_ms, table.event_id),
        )
    )
