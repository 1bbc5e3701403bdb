"""Sequences of lease requests: one that was recorded and is sent again draws nothing."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "lease_streams",
        sa.Column("stream", sa.String(100), primary_key=True),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("seen_at_s", sa.Float(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("lease_streams")
