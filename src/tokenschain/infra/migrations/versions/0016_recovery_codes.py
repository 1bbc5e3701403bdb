"""Recovery codes of second factors, by their hashes. A step down forgets them."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "recovery_codes",
        sa.Column("code_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("code_hash"),
    )
    op.create_index("recovery_codes_by_user", "recovery_codes", ["user_id"])


def downgrade() -> None:
    op.drop_table("recovery_codes")
