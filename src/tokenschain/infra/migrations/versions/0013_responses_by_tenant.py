"""Stored responses by tenant: their bytes are summed up, and bounded."""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("stored_responses_by_tenant", "stored_responses", ["tenant"])


def downgrade() -> None:
    op.drop_index("stored_responses_by_tenant", "stored_responses")
