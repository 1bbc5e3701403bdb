"""Evidence of the audit log and of the records of calls."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, func, select

from tokenschain.control.audit import cosigning, log, log_keys, reconciliation, search
from tokenschain.control.compliance.evidence import screening
from tokenschain.control.compliance.evidence.finding import (
    KEPT_DAYS_MIN,
    PlatformFacts,
    QueryResult,
    gaps_if,
)
from tokenschain.core.audit import checkpoint, merkle, segment
from tokenschain.core.audit.merkle import Digest
from tokenschain.infra.config import Settings
from tokenschain.infra.database.audit_tables import audit_segments
from tokenschain.infra.database.tables import ledger, rejected_records
from tokenschain.infra.security import secret_files
from tokenschain.infra.security.note_keys import NoteSecret, note_key
from tokenschain.infra.security.sm2 import Sm2Missing
from tokenschain.infra.security.suite import INTERNATIONAL

SEALED_WITHIN_S = 180.0
"""An idle log is sealed each minute; one that was not for so long has stopped."""
COSIGNED_WITHIN_S = 600.0
SEGMENTS_CHECKED = 200
"""The latest, of each report; `audit-verify` checks all of an export."""
HANDED_OVER_DAYS_MIN = 1_096
"""Three years: Network Data Security Regulations, article 12."""
RECONCILED_S = 3_600
"""The last full hour, of each report; `audit reconcile` compares a day."""


def audit_is_sealed(facts: PlatformFacts) -> QueryResult:
    """Until when the log is sealed."""
    size, last = log.size_of(facts.db), _last_header(facts.db)
    age_s = None if last is None else int(facts.now_s - last.until_ms / 1e3)
    return QueryResult(
        {
            "sealing": facts.settings.audit.sealing,
            "segments": size,
            "sealed_until_ms": None if last is None else last.until_ms,
            "waiting": log.waiting_count(facts.db),
        },
        [
            *gaps_if(not facts.settings.audit.sealing, "audit_off"),
            *gaps_if(last is None, "audit_empty"),
            *gaps_if(
                age_s is not None and age_s > SEALED_WITHIN_S, "audit_behind", seconds=age_s or 0
            ),
        ],
    )


def calls_sealed(facts: PlatformFacts) -> QueryResult:
    """Whether calls, with what was found in them and decided, are in the sealed log."""
    call, sealed = _last_sealed_call(facts.db), audit_is_sealed(facts)
    return QueryResult(
        {**sealed.values, "last_call": call}, sealed.gaps, gaps_if(call is None, "no_call")
    )


def _last_header(db: Connection, size: int | None = None) -> segment.Header | None:
    size = log.size_of(db) if size is None else size
    found = log.read_segments(db, size - 1, size)
    return segment.decode(found[0].header) if found else None


def audit_verifies(facts: PlatformFacts) -> QueryResult:
    """Whether the latest segments, the tree and the signature are what they say."""
    db, digest = facts.db, INTERNATIONAL.digest
    note = log.latest_checkpoint(db)
    if note is None:
        return QueryResult({"segments_checked": 0}, gaps_if(True, "audit_empty"))
    stated = log.checkpoint_of(note)
    first = max(0, stated.size - SEGMENTS_CHECKED)
    wrong = _first_wrong(digest, log.read_segments(db, first, stated.size))
    rooted = merkle.root(digest, stated.size, log.subtrees(db, digest)) == stated.root
    return QueryResult(
        {"segments_checked": stated.size - first, "root_agrees": rooted, "log": stated.origin},
        [
            *gaps_if(wrong is not None, "audit_segment_wrong", segment=wrong or 0),
            *gaps_if(not rooted, "audit_root_wrong", size=stated.size),
            *gaps_if(not _signed(db, facts.settings, note, stated.origin), "audit_signature_wrong"),
        ],
    )


def _first_wrong(digest: Digest, found: Sequence[log.Segment]) -> int | None:
    before: tuple[segment.Header, bytes] | None = None
    for one in found:
        header = segment.decode(one.header)
        lines = [line.partition(b"\t")[0] for line in one.lines()]
        if (before or header.number == 0) and segment.problem_after(digest, before, header):
            return one.number
        if segment.records_root(digest, lines).hex() != header.root:
            return one.number
        before = (header, one.header)
    return None


def _signed(db: Connection, settings: Settings, note: str, origin: str) -> bool:
    """Whether a checkpoint is signed with the key in force, and that is made of the key file."""
    try:
        secret, *former = secret_files.read(settings.audit_key_path)
        signs = NoteSecret(INTERNATIONAL, secret, settings.crypto.suite, former)
        if signs.signing_with(origin, log_keys.ids_in_force(db, origin)) is None:
            return False
        keys = log_keys.public_key(db, signs, origin).split()
        checkpoint.opened(note, [note_key(line) for line in keys])
    except (OSError, secret_files.SecretFileRefused, ValueError, Sm2Missing):
        return False
    return True


def witness_cosigns(facts: PlatformFacts) -> QueryResult:
    """Whether somebody else remembers the log."""
    wanted = len(facts.settings.audit.witnesses)
    latest = log.latest_checkpoint(facts.db)
    origin = "" if latest is None else log.checkpoint_of(latest).origin
    note = cosigning.latest_cosigned(facts.db, origin)
    last = None if note is None else _last_header(facts.db, log.checkpoint_of(note).size)
    age_s = None if last is None else int(facts.now_s - last.until_ms / 1e3)
    return QueryResult(
        {"witnesses": wanted, "cosigned_until_ms": None if last is None else last.until_ms},
        [
            *gaps_if(not wanted, "no_witness"),
            *gaps_if(
                bool(wanted) and (age_s is None or age_s > COSIGNED_WITHIN_S),
                "witness_silent",
                seconds=-1 if age_s is None else age_s,
            ),
        ],
    )


def audit_reconciles(facts: PlatformFacts) -> QueryResult:
    """Whether each call of the last full hour is in the log and in the ledger, and the same."""
    until_ms = int(facts.now_s // RECONCILED_S * RECONCILED_S * 1_000)
    found = reconciliation.compare(
        facts.db, INTERNATIONAL.digest, until_ms - RECONCILED_S * 1_000, until_ms
    )
    wrong = sum(count for kind, count in found.counts.items() if kind != "rerated")
    return QueryResult(
        {
            "from_ms": found.from_ms,
            "until_ms": found.until_ms,
            "log_calls": found.log.calls,
            "ledger_calls": found.ledger.calls,
            "waiting": found.waiting,
        },
        gaps_if(wrong, "audit_and_ledger_differ", count=wrong),
        gaps_if(not (found.log.calls or found.ledger.calls), "no_calls_compared"),
    )


def records_kept(facts: PlatformFacts) -> QueryResult:
    """How long records of calls are kept."""
    days = facts.settings.database.ledger_days
    return QueryResult(
        {"ledger_days": days, "days_min": KEPT_DAYS_MIN},
        gaps_if(days < KEPT_DAYS_MIN, "records_kept_short", days=days, least=KEPT_DAYS_MIN),
    )


def handing_over_kept(facts: PlatformFacts) -> QueryResult:
    """How long it is kept what was handed to whom, where calls hold personal information."""
    days = facts.settings.database.ledger_days
    return QueryResult(
        {"ledger_days": days, "days_min": HANDED_OVER_DAYS_MIN},
        gaps_if(days < HANDED_OVER_DAYS_MIN, "handing_over_short", days=days),
    )


def records_entered(facts: PlatformFacts) -> QueryResult:
    """Whether call records wait that nobody could read."""
    count = facts.db.execute(select(func.count()).select_from(rejected_records)).scalar_one()
    return QueryResult(
        {"set_aside": count},
        gaps_if(count > 0, "records_set_aside", count=count),
        gaps_if(facts.db.execute(select(ledger.c.event_id).limit(1)).first() is None, "no_call"),
    )


def labels_traced(facts: PlatformFacts) -> QueryResult:
    """Whether answers carry the number of their call, and it leads to the call's sealed record."""
    call = _last_sealed_call(facts.db)
    lost = call is not None and search.find(facts.db, call) is None
    return QueryResult(
        {"looked_for": call},
        [
            *screening.metadata_labelled(facts).gaps,
            *gaps_if(not log.size_of(facts.db), "audit_empty"),
            *gaps_if(lost, "call_untraced", call=call or ""),
        ],
        gaps_if(call is None, "no_call"),
    )


def _last_sealed_call(db: Connection) -> str | None:
    c = audit_segments.c
    latest = select(func.max(c.number)).where(c.calls_until_ms.is_not(None))
    number = db.execute(latest).scalar()
    for one in () if number is None else log.read_segments(db, number, number + 1):
        for position, line in enumerate(one.lines()):
            row = search.FoundRecord(one, position, line).row()
            if row["kind"] == "call":
                return str(row["id"])
    return None
