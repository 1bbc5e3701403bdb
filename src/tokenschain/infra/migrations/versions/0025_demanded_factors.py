"""Tenants that demand a second factor of their people: none of those that are there."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "organization_units",
        sa.Column(
            "second_factor_required", sa.Boolean(), server_default=sa.false(), nullable=False
        ),
    )


def downgrade() -> None:
    op.execute("ALTER TABLE organization_units DROP COLUMN second_factor_required")
