"""Admin API: the sealed audit log, its checkpoint, and proofs.

(No postponed annotations here: FastAPI reads them.)
"""

import calendar
import time
from typing import Annotated, Literal

from fastapi import APIRouter, BackgroundTasks, Depends, Query
from pydantic import JsonValue

from tokenschain.control.api.bodies import AnswerBody, ListAnswer
from tokenschain.control.api.context import (
    AdminRoute,
    IntMoment,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
)
from tokenschain.control.audit import log, log_keys, reconciliation, search
from tokenschain.control.billing.limits import CHINA_S
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.control.identity import ownership
from tokenschain.control.identity.ownership import Extent
from tokenschain.control.observability import alerts
from tokenschain.core.audit import merkle
from tokenschain.core.audit.receipt import DUE_MS
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.paging import Rows
from tokenschain.infra.security import receipts, secret_files
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

router = APIRouter(prefix="/api/v1/audit-log", route_class=AdminRoute, tags=["audit"])
ReadingLog = Annotated[RequestContext, Depends(Permission("audit:read", Extent.ROWS))]
Reconciling = Annotated[RequestContext, Depends(Permission("audit:read", Extent.PLATFORM))]
ReadingRecord = Annotated[RequestContext, Depends(Permission("audit:read", Extent.PART))]
_ENTRIES, _PROOF = "GET /audit-log/entries", "GET /audit-log/proofs/{event_id}"


class SealedEntry(AnswerBody):
    """A record of the sealed log, and where it stands there."""

    sequence: int
    """Number in the whole log."""
    segment: int
    position: int
    """In the segment."""
    sealed_at_ms: int
    id: str
    kind: Literal["call", "content", "event", "gateway"]
    tenant: str
    record: dict[str, JsonValue]
    """As it was sealed."""
    platform: dict[str, JsonValue] | None = None
    """What only the platform sees of a call; the record has its digest."""


class ProofAnswer(AnswerBody):
    """What shows that a record is in the log; `tokenschain audit verify` checks it as a file."""

    v: int = 1
    log: str
    key: str
    """The log's public key, and with a space between a second one of the suite `dual`: compare
    it with what you have from elsewhere."""
    hand_overs: list[str] | None = None
    """Signed notes by which the log was handed over from key to key, until the one above."""
    checkpoint: str
    """Signed note over the tree of all segments' headers."""
    header: str
    """Of the segment; a leaf of that tree."""
    header_proof: list[str]
    position: int
    """Of the record in the segment."""
    record: str
    """Byte for byte, a leaf of the segment's tree."""
    record_proof: list[str]
    platform: str | None = None
    """What only the platform sees, byte for byte."""


class ReceiptAnswer(AnswerBody):
    """What became of the call of a receipt."""

    state: Literal["sealed", "waiting", "missing", "contradicted"]
    """`missing`: it should have been sealed by now, and neither is nor waits; `contradicted`: its
    record says another thing than when the call was answered."""
    call: str
    due_s: int
    """When it is sealed at the latest; Unix time."""
    segment: int | None = None
    sequence: int | None = None
    """Of its record, in the whole log."""
    sealed_at_ms: int | None = None


class CheckpointAnswer(AnswerBody):
    """The latest checkpoint: keep it, and the log cannot be rewritten unseen."""

    log: str
    size: int
    """Segments."""
    checkpoint: str
    key: str


class ConsistencyAnswer(AnswerBody):
    """What shows that the log of `new_size` segments begins with that of `old_size` (RFC 9162)."""

    old_size: int
    new_size: int
    old_root: str
    new_root: str
    proof: list[str]


class ReconciledSide(AnswerBody):
    """Calls of a day, and their sums: tokens, and amounts of 10^-12 of the currency units."""

    calls: int
    sums: dict[str, int]


class ReconciledCall(AnswerBody):
    """A call of which log and ledger do not say the same."""

    kind: reconciliation.Kind
    event_id: str
    segment: int | None
    """Of the log."""
    fields: list[str]
    """That differ."""


class ReconciliationAnswer(AnswerBody):
    """The sealed log against the ledger."""

    agrees: bool
    """Whether nothing was added, removed or changed on either side; new prices may have been
    applied."""
    from_ms: int
    """Calls that began from then on; where the log begins later, from there."""
    until_ms: int
    log: ReconciledSide
    ledger: ReconciledSide
    waiting: int
    """Calls of the ledger that are not sealed yet."""
    counts: dict[str, int]
    """By kind of difference."""
    differences: list[ReconciledCall]
    """The first 200."""


@router.get("/entries", response_model_exclude_unset=True)
def list_sealed_entries(
    asked: ReadingLog,
    page: Paged,
    tenant: NameQuery = None,
    kind: Literal["call", "content", "event", "gateway"] | None = None,
    event_id: Annotated[str | None, Query(max_length=64)] = None,
    from_s: IntMoment = None,
    until_s: IntMoment = None,
) -> ListAnswer[SealedEntry]:
    """List records of the sealed log, in the order in which they were sealed.

    Of a `kind`, of the call or event of an id, or sealed within a time. A page may hold fewer
    than asked for, or none, and go on.
    """
    whose = asked.tenant(tenant)
    if event_id is not None:
        found = Rows(_rows(asked, event_id, whose, kind), None)
    else:
        until_ms = None if until_s is None else until_s * 1_000
        found = search.page(
            asked.db, page, whose, kind, (from_s or 0) * 1_000, until_ms,
            lambda row: bool(asked.visible([row])),
        )  # fmt: skip
    seen = ownership.without(asked.visible(found.rows), ownership.hidden_fields(asked, _ENTRIES))
    shown = [SealedEntry(**{k: v for k, v in row.items() if k not in _PLACE}) for row in seen]
    return ListAnswer[SealedEntry](data=shown, next_cursor=found.next_cursor)


_PLACE = ("account", "project", "environment")
"""In the record, if it has them."""


def _rows(
    asked: RequestContext, event_id: str, tenant: str | None, kind: str | None
) -> list[dict[str, JsonValue]]:
    entry = search.find(asked.db, event_id)
    row = None if entry is None else entry.row()
    if row is None or tenant not in (None, row["tenant"]) or kind not in (None, row["kind"]):
        return []
    return [row]


@router.get("/proofs/{event_id}", response_model_exclude_unset=True)
def prove_entry(asked: ReadingRecord, event_id: str) -> ProofAnswer:
    """Prove that a call or event is in the log, below its latest checkpoint.

    The proof holds the record and digests: nothing of other records.
    """
    entry = search.find(asked.db, event_id)
    row = {} if entry is None else entry.row()
    if entry is None or not asked.permitted(
        row["tenant"] or PLATFORM, **{name: row[name] for name in _PLACE}
    ):
        raise ApiError("not_found", "The log has no such record.", param="event_id")
    found = search.prove(asked.db, INTERNATIONAL.digest, entry)
    origin = log.checkpoint_of(found.checkpoint).origin
    answer = {
        "v": 1,
        "log": origin,
        "key": _public_key(asked, origin),
        "checkpoint": found.checkpoint,
        "header": found.header.decode(),
        "header_proof": [one.hex() for one in found.header_proof],
        "position": found.position,
        "record": found.record.decode(),
        "record_proof": [one.hex() for one in found.record_proof],
        "platform": entry.part(),
    }
    if hand_overs := log_keys.hand_overs(asked.db, -1, log.checkpoint_of(found.checkpoint).size):
        answer["hand_overs"] = hand_overs
    (shown,) = ownership.without([answer], ownership.hidden_fields(asked, _PROOF))
    return ProofAnswer(**shown)


@router.get("/receipts/{receipt}")
def verify_receipt(
    asked: ReadingRecord, receipt: str, background: BackgroundTasks
) -> ReceiptAnswer:
    """Verify the receipt that a caller got in `x-tc-audit-receipt`.

    Says whether its call is sealed, and as the receipt says; `audit prove` then proves it. Where it
    should be and is not, there is an alert.
    """
    try:
        secrets = secret_files.read(asked.context.settings.internal_secret_path)
        found = receipts.opened(secrets, receipt)
    except (ValueError, FileNotFoundError, secret_files.SecretFileRefused):
        raise ApiError(
            "not_found", "This platform gave no such receipt.", param="receipt"
        ) from None
    digest = INTERNATIONAL.digest
    # In this order: what is sealed meanwhile is seen as one or the other.
    waiting = reconciliation.waiting_calls(asked.db, digest, found.at_ms, found.at_ms + 1)
    entry = search.find(asked.db, found.call, found.at_ms)
    due_ms = found.at_ms + DUE_MS
    due_s = due_ms // 1_000
    place = {name: entry.row()[name] for name in _PLACE} if entry is not None else {}
    if not asked.permitted(found.tenant or PLATFORM, **place):
        raise ApiError("not_found", "This platform gave no such receipt.", param="receipt")
    if entry is None:
        is_late = found.call not in waiting and time.time() * 1e3 > due_ms
        if is_late:
            _alarm(asked, background, found.call, "missing")
        state: Literal["missing", "waiting"] = "missing" if is_late else "waiting"
        return ReceiptAnswer(state=state, call=found.call, due_s=due_s)
    row = entry.row()
    agrees = found.is_of(digest, row["record"])
    if not agrees:
        _alarm(asked, background, found.call, "contradicted")
    return ReceiptAnswer(
        state="sealed" if agrees else "contradicted",
        call=found.call,
        due_s=due_s,
        segment=row["segment"],
        sequence=row["sequence"],
        sealed_at_ms=row["sealed_at_ms"],
    )


def _alarm(asked: RequestContext, background: BackgroundTasks, call: str, state: str) -> None:
    detail = {"subject": [call], "reason": state}
    engine = asked.context.engine
    background.add_task(alerts.audit_receipt_broken, engine, detail, time.time())


@router.get("/checkpoint")
def read_checkpoint(asked: ReadingLog) -> CheckpointAnswer:
    """Read the latest checkpoint and the key that it is signed with."""
    note = _latest(asked)
    stated = log.checkpoint_of(note)
    return CheckpointAnswer(
        log=stated.origin,
        size=stated.size,
        checkpoint=note,
        key=_public_key(asked, stated.origin),
    )


@router.get("/consistency")
def prove_consistency(
    asked: ReadingLog,
    old_size: Annotated[int, Query(ge=0, le=2**62)] = 0,
    new_size: Annotated[int | None, Query(ge=0, le=2**62)] = None,
) -> ConsistencyAnswer:
    """Prove that the log of `new_size` segments, by default of all, begins with `old_size`."""
    size = log.checkpoint_of(_latest(asked)).size
    new = size if new_size is None else new_size
    if not old_size <= new <= size:
        raise ApiError(
            "invalid_value",
            f"`old_size` is at most `new_size`, and that at most {size}.",
            param="old_size",
        )
    digest = INTERNATIONAL.digest
    read = log.subtrees(asked.db, digest)
    return ConsistencyAnswer(
        old_size=old_size,
        new_size=new,
        old_root=merkle.root(digest, old_size, read).hex(),
        new_root=merkle.root(digest, new, read).hex(),
        proof=[one.hex() for one in merkle.consistency_proof(digest, old_size, new, read)],
    )


@router.get("/reconciliation/{day}")
def reconcile(asked: Reconciling, day: str) -> ReconciliationAnswer:
    """Compare the calls of a day in China in the sealed log with those in the ledger.

    Each call that is in one alone, or says something else there, is named.
    """
    try:
        from_s = calendar.timegm(time.strptime(day, "%Y-%m-%d")) - CHINA_S
    except ValueError:
        raise ApiError("invalid_value", "A day is as 2026-11-25.", param="day") from None
    digest = INTERNATIONAL.digest
    found = reconciliation.compare(asked.db, digest, from_s * 1_000, (from_s + DAY_S) * 1_000)
    if found.from_ms >= found.until_ms or from_s > time.time():
        raise ApiError(
            "not_found",
            "There is nothing to compare: the log began after that day, or the day has not begun.",
            param="day",
        )
    return ReconciliationAnswer(
        agrees=found.agrees(),
        from_ms=found.from_ms,
        until_ms=found.until_ms,
        log=ReconciledSide(**found.log._asdict()),
        ledger=ReconciledSide(**found.ledger._asdict()),
        waiting=found.waiting,
        counts={str(kind): count for kind, count in found.counts.items()},
        differences=[ReconciledCall(**one._asdict()) for one in found.differences],
    )


def _latest(asked: RequestContext) -> str:
    asked.tenant(None)
    note = log.latest_checkpoint(asked.db)
    if note is None:
        raise ApiError("not_found", "Nothing is sealed yet.")
    return note


def _public_key(asked: RequestContext, origin: str) -> str:
    try:
        return log_keys.public_key(asked.db, None, origin)
    except LookupError:  # an upgrade, and nothing sealed since
        return log_keys.public_key(asked.db, note_secret(asked), origin)


def note_secret(asked: RequestContext) -> NoteSecret:
    """What the log is signed with.

    Raises:
        ApiError: `not_found`: this control has no key of it.
    """
    settings = asked.context.settings
    try:
        secret, *former = secret_files.read(settings.audit_key_path)
    except (FileNotFoundError, secret_files.SecretFileRefused):
        raise ApiError("not_found", "This control has no key of the log.") from None
    return NoteSecret(INTERNATIONAL, secret, settings.crypto.suite, former)
