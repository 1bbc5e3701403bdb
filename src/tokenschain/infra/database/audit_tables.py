"""Tables of the audit log: what waits, sealed segments, tree nodes and checkpoints."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()
"""Of all tables; see `infra.database.tables`."""

audit_pending = Table(
    "audit_pending",
    metadata,
    Column("at_ms", BigInteger, nullable=False),
    Column("id", String(40), nullable=False),
    Column("records_count", Integer, nullable=False),
    Column("records", LargeBinary, nullable=False),  # see `zones`
    Column("gateways", Text, nullable=False),  # JSON: how many are calls of each
    Column("zones", Text),  # JSON, by upstream, of call records in MessagePack; null: of lines
    Column("calls_from_ms", BigInteger),  # null: there are no calls
    Column("calls_until_ms", BigInteger),
    PrimaryKeyConstraint("at_ms", "id"),
)
"""Records that are in no segment yet: a row for each batch of calls, and for each event."""

audit_segments = Table(
    "audit_segments",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("header", LargeBinary, nullable=False),  # canonical JSON
    Column("records", LargeBinary),  # compressed lines; null: there are none
    Column("calls_from_ms", BigInteger),  # when the first of its calls began; null: none
    Column("calls_until_ms", BigInteger),
    Index(
        "audit_segments_by_calls",
        "calls_from_ms",
        "calls_until_ms",
        postgresql_where=text("calls_from_ms IS NOT NULL"),
        sqlite_where=text("calls_from_ms IS NOT NULL"),
    ),
)

audit_nodes = Table(
    "audit_nodes",
    metadata,
    Column("level", Integer, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    PrimaryKeyConstraint("level", "position"),
)
"""Complete subtrees over the headers, from level 1 on: level 0 is digests of the headers."""

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),
)
"""Signed checkpoints: the latest, and the last of each hour."""

audit_keys = Table(
    "audit_keys",
    metadata,
    Column("size", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text, nullable=False),
    Column(
        "note", Text
    ),  # the hand-over, signed by the key before and by this one; null: the first
)
"""Public keys of the log: each signs the checkpoints that are larger than its size."""

audit_anchors = Table(
    "audit_anchors",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("kind", String(16), nullable=False),  # timestamp, object
    Column("place", Text, nullable=False),  # its address
    Column("at_s", BigInteger, nullable=False),
    Column("note", Text, nullable=False),  # the checkpoint, byte for byte
    Column("evidence", LargeBinary, nullable=False),
    Index("audit_anchors_by_place", "kind", "place", "at_s"),
)
"""Checkpoints that were kept where nobody here can change them."""
