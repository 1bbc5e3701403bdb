"""What the cache did for each call, and what of it was dropped when."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PICO = sa.BigInteger().with_variant(sa.Numeric(38, 0), "postgresql")


def upgrade() -> None:
    zero = sa.text("0")
    with op.batch_alter_table("ledger") as ledger:
        ledger.add_column(
            sa.Column("cache_reason", sa.String(length=64), nullable=False, server_default="")
        )
        ledger.add_column(
            sa.Column("cache_key", sa.String(length=32), nullable=False, server_default="")
        )
        ledger.add_column(
            sa.Column("saved_tokens", sa.BigInteger(), nullable=False, server_default=zero)
        )
        ledger.add_column(sa.Column("saved_pico", _PICO, nullable=False, server_default=zero))
    op.create_table(
        "cache_flushes",
        sa.Column("selector", sa.String(length=400), primary_key=True),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("cache_flushes")
    with op.batch_alter_table("ledger") as ledger:
        for name in ("cache_reason", "cache_key", "saved_tokens", "saved_pico"):
            ledger.drop_column(name)
