"""The database's tables; SQLite and PostgreSQL alike."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    false,
    text,
)

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single values: the configuration's revision, the admin token's hash."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("key_hash", String(64), nullable=False, unique=True),
    Column("prefix", String(16), nullable=False),
    Column("name", String(100), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("models", Text),  # JSON array; null: all
    Column("disconnect", String(8), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger),
    Column("revoked_at_s", BigInteger),
)

ledger = Table(
    "ledger",
    metadata,
    Column("event_id", String(64), primary_key=True),
    Column("started_ms", BigInteger, nullable=False),
    Column("door", String(32), nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("project", String(64), nullable=False),
    Column("environment", String(64), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("model_asked", String(256), nullable=False),
    Column("model_served", String(256), nullable=False),
    Column("upstream", String(64), nullable=False),
    Column("attempts", Text, nullable=False),  # JSON
    Column("status", Integer, nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("fault", String(16), nullable=False),
    Column("error", String(64), nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usage_source", String(16), nullable=False),
    Column("price_version", String(300), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("cost_pico", BigInteger),  # null: price unknown
    Column("cache", String(16), nullable=False),
    Column("moderation", String(16), nullable=False),
    Column("first_token_ms", Float),
    Column("total_ms", Float, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    Column("finish_reason", String(64), nullable=False),
    Column("trace_id", String(64), nullable=False),
    Column("tags", Text, nullable=False),
    Column("snapshot_version", String(64), nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("cache_write_1h_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("audio_prompt_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("image_prompt_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("audio_completion_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("thinking", Boolean, nullable=False, server_default=false()),
    Index("ledger_by_tenant_and_time", "tenant", "started_ms"),
)

usage_hourly = Table(
    "usage_hourly",
    metadata,
    Column("hour_s", BigInteger, primary_key=True),  # Unix time of the hour's start
    Column("tenant", String(64), primary_key=True),
    Column("project", String(64), primary_key=True),
    Column("environment", String(64), primary_key=True),
    Column("key_id", String(40), primary_key=True),
    Column("model", String(256), primary_key=True),
    Column("upstream", String(64), primary_key=True),
    Column("currency", String(3), primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("failed_calls", BigInteger, nullable=False),
    Column("estimated_calls", BigInteger, nullable=False),
    Column("unpriced_calls", BigInteger, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("cost_pico", BigInteger, nullable=False),
)

rejected_records = Table(
    "rejected_records",
    metadata,
    Column("payload_hash", String(64), primary_key=True),
    Column("received_at_s", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)
"""Journal payloads that could not be read: kept for a person, never dropped."""

stored_responses = Table(
    "stored_responses",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Index("stored_responses_by_expiry", "expires_at_s"),
)
"""What callers of the Responses API asked to be kept; sealed, and deleted when expired."""
