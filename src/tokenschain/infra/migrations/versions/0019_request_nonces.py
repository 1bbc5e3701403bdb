"""Nonces of signed requests that were believed. A step down forgets them."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "request_nonces",
        sa.Column("nonce", sa.String(length=16), nullable=False),
        sa.Column("at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("nonce"),
    )
    op.create_index("request_nonces_by_time", "request_nonces", ["at_s"])


def downgrade() -> None:
    op.drop_table("request_nonces")
