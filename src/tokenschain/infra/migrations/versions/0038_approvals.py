"""Acts that wait for a second person."""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("target", sa.String(300), nullable=False),
        sa.Column("request_hash", sa.String(80), nullable=False),
        sa.Column("requested_by", sa.String(64), nullable=False),
        sa.Column("requested_at_s", sa.BigInteger, nullable=False),
        sa.Column("expires_at_s", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("decided_by", sa.String(64)),
        sa.Column("decided_at_s", sa.BigInteger),
        sa.Column("reason", sa.String(500), nullable=False, server_default=""),
    )
    op.create_index("approvals_by_tenant", "approvals", ["tenant", "requested_at_s", "id"])
    op.create_index("approvals_by_request", "approvals", ["request_hash", "requested_by"])


def downgrade() -> None:
    op.drop_table("approvals")
