"""Anchors of the audit log: checkpoints that were time-stamped or put under object lock."""

import sqlalchemy as sa
from alembic import op

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if sa.inspect(op.get_bind()).has_table("audit_anchors"):
        return
    op.create_table(
        "audit_anchors",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("place", sa.Text, nullable=False),
        sa.Column("at_s", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("evidence", sa.LargeBinary, nullable=False),
    )
    op.create_index("audit_anchors_by_place", "audit_anchors", ["kind", "place", "at_s"])


def downgrade() -> None:
    """The table stays, and older versions pass over it: its time stamps are nowhere else."""
