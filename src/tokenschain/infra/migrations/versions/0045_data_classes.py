"""Data classes of tenants and projects, and of each call: nothing is known of earlier calls."""

import sqlalchemy as sa
from alembic import op

revision = "0045"
down_revision = "0044"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, length in (("ledger", 200), ("organization_units", 32)):
        column = sa.Column("data_class", sa.String(length), server_default="", nullable=False)
        op.add_column(table, column)


def downgrade() -> None:
    op.execute("ALTER TABLE ledger DROP COLUMN data_class")
    op.execute("ALTER TABLE organization_units DROP COLUMN data_class")
