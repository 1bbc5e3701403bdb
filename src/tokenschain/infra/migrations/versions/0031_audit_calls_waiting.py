"""Calls wait for the audit log as they came; a step down leaves out those that wait then."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("audit_pending") as table:
        table.add_column(sa.Column("zones", sa.Text(), nullable=True))


def downgrade() -> None:
    op.execute("DELETE FROM audit_pending WHERE zones IS NOT NULL")
    with op.batch_alter_table("audit_pending") as table:
        table.drop_column("zones")
