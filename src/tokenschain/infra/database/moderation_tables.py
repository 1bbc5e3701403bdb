"""Tables of moderation's people: cases and appeals, freezes, end users, proposed words."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    UniqueConstraint,
)

from tokenschain.core.call_record import CHARACTERS_MAX, MODEL_CHARACTERS_MAX
from tokenschain.infra.database import audit_tables

metadata = audit_tables.metadata
_OF_CALLS = ("event_id", "tenant", "project", "key_id", "api")

moderation_cases = Table(
    "moderation_cases",
    metadata,
    Column("id", String(64), primary_key=True),
    *(Column(n, String(CHARACTERS_MAX[n]), nullable=False) for n in _OF_CALLS),
    Column("model", String(MODEL_CHARACTERS_MAX), nullable=False),
    Column("moderation", String(16), nullable=False),
    Column("detail", String(CHARACTERS_MAX["moderation_detail"]), nullable=False),
    Column("category", String(64), nullable=False),  # of the first finding
    Column("state", String(16), nullable=False),
    Column("second_review", Boolean, nullable=False),
    *(Column(n, BigInteger, nullable=False) for n in ("started_ms", "created_at_s", "due_at_s")),
    *(Column(n, BigInteger) for n in ("claimed_until_s", "decided_at_s")),
    *(Column(n, String(64)) for n in ("claimed_by", "first_by", "decided_by")),
    *(Column(n, String(16)) for n in ("first_decision", "decision")),
    *(Column(n, String(500)) for n in ("first_reason", "reason")),
    Column("sealed", LargeBinary, nullable=False),  # texts; empty: none were kept
    Column("language", String(8), nullable=False, server_default=""),  # empty: not known
    Column("appeal_of", String(CHARACTERS_MAX["event_id"]), nullable=False, server_default=""),
    Column("reply", String(1_000), nullable=False, server_default=""),  # to who appealed
    UniqueConstraint("event_id"),
    Index("moderation_cases_by_due", "state", "due_at_s", "id"),
    Index("moderation_cases_by_tenant", "tenant", "state", "due_at_s", "id"),
)

moderation_freezes = Table(
    "moderation_freezes",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),  # empty: all
    Column("model", String(MODEL_CHARACTERS_MAX), nullable=False),  # empty: all
    Column("reason", String(500), nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("lifted_by", String(64)),
    Column("lifted_at_s", BigInteger),  # null: in force
)

end_user_calls = Table(
    "end_user_calls",
    metadata,
    Column("event_id", String(CHARACTERS_MAX["event_id"]), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("end_user", String(64), nullable=False),  # a keyed hash
    Column("started_ms", BigInteger, nullable=False),
    Column("blocked", Boolean, nullable=False),
    Index("end_user_calls_by_user", "tenant", "end_user", "started_ms"),
    Index("end_user_calls_by_time", "started_ms"),
)
"""Calls of end users whom a policy counts; kept for a day."""

end_user_suspensions = Table(
    "end_user_suspensions",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("end_user", String(64), nullable=False),
    Column("cause", String(16), nullable=False),
    Column("blocked_calls", Integer, nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("until_s", BigInteger, nullable=False),
    Column("released_by", String(64)),
    Column("released_at_s", BigInteger),  # null: nobody did
    Column("release_reason", String(500)),
    Index("end_user_suspensions_by_end", "until_s", "tenant"),
)

moderation_proposals = Table(
    "moderation_proposals",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("case_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("word", String(64), nullable=False),
    Column("phrase", String(64), nullable=False),  # a hard negative's; else empty
    Column("risk", String(16), nullable=False),
    Column("level", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("proposed_by", String(64), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("decided_by", String(64)),
    Column("decided_at_s", BigInteger),
    Column("reason", String(500)),
    Index("moderation_proposals_by_tenant", "tenant", "state", "created_at_s"),
)
