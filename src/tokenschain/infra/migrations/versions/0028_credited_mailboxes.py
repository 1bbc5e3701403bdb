"""Mailboxes that were given free credit."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "credited_mailboxes",
        sa.Column("mailbox_hash", sa.String(64), primary_key=True),
        sa.Column("at_s", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("credited_mailboxes")
