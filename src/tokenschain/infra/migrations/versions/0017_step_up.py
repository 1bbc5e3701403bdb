"""Since when roles and second factors are there, and when a session showed its user's proof again.

A step down forgets it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("bindings", "created_at_s"), ("users", "totp_since_s"), ("tokens", "stepped_up_at_s"),
)  # fmt: skip


def upgrade() -> None:
    for table, column in _COLUMNS:
        op.add_column(table, sa.Column(column, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for table, column in reversed(_COLUMNS):
        op.drop_column(table, column)
