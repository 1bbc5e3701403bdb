"""The filing number under which a model answered: nothing is known of earlier calls."""

import sqlalchemy as sa
from alembic import op

revision = "0036"
down_revision = "0035"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("ledger", sa.Column("filing", sa.String(100), server_default="", nullable=False))


def downgrade() -> None:
    op.execute("ALTER TABLE ledger DROP COLUMN filing")
