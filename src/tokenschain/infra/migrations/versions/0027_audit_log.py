"""The sealed audit log. It begins with what happens from now on; a step down forgets it."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_pending",
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("records_count", sa.Integer(), nullable=False),
        sa.Column("records", sa.LargeBinary(), nullable=False),
        sa.Column("gateways", sa.Text(), nullable=False),
        sa.Column("calls_from_ms", sa.BigInteger()),
        sa.Column("calls_until_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("at_ms", "id"),
    )
    op.create_table(
        "audit_segments",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("records", sa.LargeBinary()),
        sa.Column("calls_from_ms", sa.BigInteger()),
        sa.Column("calls_until_ms", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number"),
    )
    has_calls = sa.text("calls_from_ms IS NOT NULL")
    op.create_index(
        "audit_segments_by_calls",
        "audit_segments",
        ["calls_from_ms", "calls_until_ms"],
        postgresql_where=has_calls,
        sqlite_where=has_calls,
    )
    op.create_table(
        "audit_nodes",
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "position"),
    )
    op.create_table(
        "audit_checkpoints",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("size"),
    )


def downgrade() -> None:
    for table in ("audit_checkpoints", "audit_nodes", "audit_segments", "audit_pending"):
        op.drop_table(table)
