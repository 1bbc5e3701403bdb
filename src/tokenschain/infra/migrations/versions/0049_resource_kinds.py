"""Kinds of resources have room for their names: `moderation-policy` has 17 characters."""

import sqlalchemy as sa
from alembic import op

revision = "0049"
down_revision = "0048"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("resources") as table:
        table.alter_column("kind", existing_type=sa.String(16), type_=sa.String(32))


def downgrade() -> None:
    """Longer names would not fit again, and the version before reads the wider column as well."""
