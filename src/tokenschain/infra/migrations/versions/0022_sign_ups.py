"""Sign-ups that wait for their confirmation, and free credit that ends.

A step down forgets sign-ups, and when free credit ends: it stays.
"""

import sqlalchemy as sa
from alembic import op

from tokenschain.infra.database.tables import Pico

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sign_ups",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("email", sa.String(length=200), nullable=False),
        sa.Column("network", sa.String(length=64), nullable=False),
        sa.Column("organization", sa.String(length=200), nullable=False),
        sa.Column("password_hash", sa.String(length=200), nullable=False),
        sa.Column("code_hash", sa.String(length=64), nullable=True),
        sa.Column("terms_url", sa.String(length=500), nullable=False),
        sa.Column("created_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("code_hash"),
    )
    op.create_index("sign_ups_by_time", "sign_ups", ["created_at_s"])
    op.create_index("sign_ups_by_email", "sign_ups", ["email"])
    op.create_table(
        "grants",
        sa.Column("transaction_id", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("amount_pico", Pico(), nullable=False),
        sa.Column("expires_at_s", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_s", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("transaction_id"),
    )
    op.create_index("grants_by_tenant", "grants", ["tenant"])
    op.create_index("grants_by_end", "grants", ["ended_at_s", "expires_at_s"])


def downgrade() -> None:
    op.drop_table("grants")
    op.drop_table("sign_ups")
