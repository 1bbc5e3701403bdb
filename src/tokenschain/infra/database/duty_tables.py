"""Tables of duties: incidents with their timeline, requests of data subjects."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from tokenschain.core.call_record import MODEL_CHARACTERS_MAX
from tokenschain.infra.database import audit_tables

metadata = audit_tables.metadata

incidents = Table(
    "incidents",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),  # empty: the platform's
    *(Column(n, String(32), nullable=False) for n in ("kind", "severity", "operator")),
    Column("title", String(200), nullable=False),
    Column("model", String(MODEL_CHARACTERS_MAX), nullable=False),  # empty: all
    *(Column(n, String(4_000), nullable=False) for n in ("description", "measures")),
    *(Column(n, BigInteger, nullable=False) for n in ("began_at_s", "detected_at_s")),
    *(Column(n, BigInteger) for n in ("ended_at_s", "reported_at_s", "final_at_s")),
    *(Column(n, String(200), nullable=False) for n in ("reported_to", "reference")),
    Column("created_by", String(64), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Index("incidents_by_time", "detected_at_s", "id"),
)

incident_events = Table(
    "incident_events",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("incident_id", String(64), nullable=False),
    Column("at_s", BigInteger, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("action", String(32), nullable=False),
    Column("text", String(2_000), nullable=False),
    Index("incident_events_by_incident", "incident_id", "at_s", "id"),
)

subject_requests = Table(
    "subject_requests",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("end_user", String(64), nullable=False),  # a keyed hash
    Column("content_subjects", Text, nullable=False),  # JSON: those that kept content goes by
    Column("note", String(2_000), nullable=False),
    Column("state", String(16), nullable=False),
    *(Column(n, BigInteger, nullable=False) for n in ("received_at_s", "due_at_s")),
    Column("created_by", String(64), nullable=False),
    Column("decided_by", String(64)),
    Column("decided_at_s", BigInteger),
    Column("reason", String(2_000), nullable=False),
    Column("outcome", Text, nullable=False),  # JSON: what was done, in counts
    Index("subject_requests_by_due", "tenant", "state", "due_at_s", "id"),
)
