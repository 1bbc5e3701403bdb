"""Tables of transfers of data abroad."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table

from tokenschain.core.call_record import CHARACTERS_MAX
from tokenschain.infra.database import audit_tables

metadata = audit_tables.metadata

transfer_days = Table(
    "transfer_days",
    metadata,
    Column("tenant", String(CHARACTERS_MAX["tenant"]), primary_key=True),
    Column("day", Integer, primary_key=True),  # in China, since 1970
    Column("zone", String(16), primary_key=True),  # `abroad`, or empty where it is not known
    Column("calls", BigInteger, nullable=False),
    Column("unnamed_calls", BigInteger, nullable=False),  # whose end user nobody named
)

transfer_subjects = Table(
    "transfer_subjects",
    metadata,
    # Year, whether sensitive, and the person as a keyed hash: each once a year.
    Column("id", String(48), primary_key=True),
    Column("tenant", String(CHARACTERS_MAX["tenant"]), nullable=False),
    Column("year", Integer, nullable=False),
    Column("sensitive", Boolean, nullable=False),
    Column("day", Integer, nullable=False),
    Index("transfer_subjects_by_tenant", "tenant", "year"),
)

transfer_stops = Table(
    "transfer_stops",
    metadata,
    Column("tenant", String(CHARACTERS_MAX["tenant"]), primary_key=True),
    Column("year", Integer, primary_key=True),
    Column("basis", String(16), primary_key=True),  # whose limit was reached
    Column("at_s", BigInteger, nullable=False),
)
