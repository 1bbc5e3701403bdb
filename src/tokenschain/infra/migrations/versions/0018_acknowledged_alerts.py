"""Who acknowledged an alert, and when.

A step down forgets it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("alerts", sa.Column("acknowledged_at_s", sa.BigInteger(), nullable=True))
    op.add_column("alerts", sa.Column("acknowledged_by", sa.String(64), nullable=True))


def downgrade() -> None:
    op.drop_column("alerts", "acknowledged_by")
    op.drop_column("alerts", "acknowledged_at_s")
