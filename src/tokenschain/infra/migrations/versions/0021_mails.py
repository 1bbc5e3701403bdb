"""Messages to people that wait for the mail server.

A step down forgets them, and invitations that are open: their links would be tokens there.
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mails",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_s", sa.BigInteger(), nullable=False),
        sa.Column("expires_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("mails_due", "mails", ["next_try_s", "id"])


def downgrade() -> None:
    op.drop_table("mails")
    op.execute("DELETE FROM tokens WHERE kind = 'invite'")
