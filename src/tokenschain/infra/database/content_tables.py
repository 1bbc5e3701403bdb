"""Tables of kept content: keys, what calls said, policies, legal holds and erasures."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    text,
)

from tokenschain.core.call_record import CHARACTERS_MAX
from tokenschain.infra.database import audit_tables

metadata = audit_tables.metadata
_LIVE = text("destroyed_at_ms IS NULL")

tenant_keys = Table(
    "tenant_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("sealed", LargeBinary, nullable=False),  # by the master key; empty: destroyed
    Column("created_at_ms", BigInteger, nullable=False),
    Column("destroyed_at_ms", BigInteger),
    Column("data_class", String(200), nullable=False, server_default=""),  # whose own key it is
    Index(
        "tenant_keys_live",
        "tenant",
        "data_class",
        unique=True,
        postgresql_where=_LIVE,
        sqlite_where=_LIVE,
    ),
)
"""One live key for each tenant whose content is kept, and for each class that has one apart."""

content_keys = Table(
    "content_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("parent", String(40), nullable=False),  # a tenant key, or the day key of a subject's
    Column("day", Integer, nullable=False),  # since 1970-01-01, UTC
    Column("subject", String(64), nullable=False),  # a keyed hash; empty: the key of the day
    Column("wrapped", LargeBinary, nullable=False),  # by the parent; empty: destroyed
    Column("created_at_ms", BigInteger, nullable=False),
    Column("destroyed_at_ms", BigInteger),
    Column("data_class", String(200), nullable=False, server_default=""),  # as its tenant key's
    Index(
        "content_keys_live", "tenant", "data_class", "day", "subject", unique=True,
        postgresql_where=_LIVE, sqlite_where=_LIVE,
    ),
)  # fmt: skip
"""Keys of days, and of end users on a day."""

call_contents = Table(
    "call_contents",
    metadata,
    Column("call_id", String(CHARACTERS_MAX["event_id"]), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("subject", String(64), nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("day", Integer, nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("kept", String(16), nullable=False),
    Column("blocked", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),  # sealed by the key
    Column("data_class", String(CHARACTERS_MAX["data_class"]), nullable=False, server_default=""),
    Index("call_contents_by_tenant", "tenant", "started_ms", "call_id"),
    Index("call_contents_by_key", "key_id"),
)
"""What was asked and answered, sealed; see `control.content`."""

content_policies = Table(
    "content_policies",
    metadata,
    Column("tenant", String(64), nullable=False),  # empty: the platform
    Column("project", String(64), nullable=False),  # empty: the whole tenant
    Column("content", String(16), nullable=False),
    Column("retention_days", Integer, nullable=False),
    Column("changed_by", String(64), nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "project"),
)

legal_holds = Table(
    "legal_holds",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    # JSON: the hashes of an end user, one for each suite; empty: all of the tenant's.
    Column("subjects", Text, nullable=False, server_default="[]"),
    Column("from_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("reason", String(500), nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("released_by", String(64)),
    Column("released_at_ms", BigInteger),  # null: in force
    Column("release_reason", String(500)),
    Index("legal_holds_by_tenant", "tenant", "released_at_ms"),
)

content_erasures = Table(
    "content_erasures",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("subject", String(64), nullable=False),  # empty: all of the tenant's
    Column("before_ms", BigInteger, nullable=False),  # of calls that began before
    Column("reason", String(500), nullable=False),
    Column("erased_by", String(64), nullable=False),
    Column("erased_at_ms", BigInteger, nullable=False),
    Column("contents", Integer, nullable=False),
    Column("held", Integer, nullable=False),
    Column("keys", Text, nullable=False),  # JSON: ids of what was destroyed
    Index("content_erasures_by_tenant", "tenant", "erased_at_ms", "id"),
)
