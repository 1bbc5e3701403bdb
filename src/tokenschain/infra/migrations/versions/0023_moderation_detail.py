"""What moderation found in a call: nothing is known of earlier ones."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "ledger",
        sa.Column("moderation_detail", sa.String(200), server_default="", nullable=False),
    )


def downgrade() -> None:
    op.execute("ALTER TABLE ledger DROP COLUMN moderation_detail")
