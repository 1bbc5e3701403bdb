"""Confidence and age of cached answers on each call's row."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NAMES = ("cache_likeness", "cache_age_s")


def upgrade() -> None:
    with op.batch_alter_table("ledger") as ledger:
        for name in _NAMES:
            ledger.add_column(
                sa.Column(name, sa.Float(), nullable=False, server_default=sa.text("0"))
            )


def downgrade() -> None:
    with op.batch_alter_table("ledger") as ledger:
        for name in _NAMES:
            ledger.drop_column(name)
