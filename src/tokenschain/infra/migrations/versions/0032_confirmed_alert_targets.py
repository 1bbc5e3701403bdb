"""Mail addresses of alert targets are confirmed. Those that were there count as confirmed: an
upgrade silences nobody. A step down tells all targets again."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("alert_targets") as table:
        table.add_column(sa.Column("confirmed_at_s", sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("code_hash", sa.String(64), nullable=True))
        table.create_index("alert_targets_by_code", ["code_hash"])
    op.execute("update alert_targets set confirmed_at_s = created_at_s")


def downgrade() -> None:
    with op.batch_alter_table("alert_targets") as table:
        table.drop_index("alert_targets_by_code")
        table.drop_column("code_hash")
        table.drop_column("confirmed_at_s")
