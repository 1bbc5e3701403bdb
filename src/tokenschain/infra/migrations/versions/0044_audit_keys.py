"""Public keys of the sealed audit log, from which size each of them signs."""

import sqlalchemy as sa
from alembic import op

revision = "0044"
down_revision = "0043"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("audit_keys"):
        return
    op.create_table(
        "audit_keys",
        sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("note", sa.Text),
    )


def downgrade() -> None:
    """The table stays, and older versions pass over it: its hand-overs are nowhere else, and
    without them the log is not proved any more."""
