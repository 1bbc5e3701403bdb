"""Tables of compliance: acts that wait for a second person, signing keys, former passwords."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table

from tokenschain.infra.database import audit_tables

metadata = audit_tables.metadata

approvals = Table(
    "approvals",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("operation", String(32), nullable=False),
    Column("tenant", String(64), nullable=False),  # `*`: of the platform
    Column("target", String(300), nullable=False),
    Column("request_hash", String(80), nullable=False),  # of all that was asked for
    Column("requested_by", String(64), nullable=False),
    Column("requested_at_s", BigInteger, nullable=False),
    Column("expires_at_s", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),  # pending, approved, rejected, used
    Column("decided_by", String(64)),
    Column("decided_at_s", BigInteger),
    Column("reason", String(500), nullable=False, server_default=""),  # of the decision
    Index("approvals_by_tenant", "tenant", "requested_at_s", "id"),
    Index("approvals_by_request", "request_hash", "requested_by"),
)
"""One row for each act that a second person has to approve; see `control.identity.approvals`."""

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("id", String(40), primary_key=True),  # of the public key
    Column("user_id", String(40), nullable=False),
    Column("name", String(64), nullable=False),
    Column("public_key", String(200), nullable=False),
    Column("created_at_s", BigInteger, nullable=False),
    Column("used_at_ms", BigInteger, nullable=False),  # when the last act was signed
    Column("revoked_at_s", BigInteger),
    Index("signing_keys_by_user", "user_id"),
)
"""Public keys that people sign acts with; see `control.identity.signing_keys`."""

former_passwords = Table(
    "former_passwords",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("user_id", String(40), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("until_s", BigInteger, nullable=False),  # when another one took its place
    Index("former_passwords_by_user", "user_id", "until_s"),
)
"""Hashes of passwords that people had, while `access.passwords_remembered` is set."""
