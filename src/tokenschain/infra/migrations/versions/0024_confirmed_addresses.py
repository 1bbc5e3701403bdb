"""Who showed that an address is theirs, and whom a mail invites.

Of users who are there already it is known for those of single sign-on, and for those who signed
up, which took a link that was sent to the address.
"""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("email_confirmed_at_s", sa.BigInteger()))
    op.execute(
        "UPDATE users SET email_confirmed_at_s = created_at_s WHERE oidc_subject IS NOT NULL"
        " OR id IN (SELECT actor FROM audit_events WHERE action = 'sign-up')"
    )
    op.add_column("mails", sa.Column("user_id", sa.String(40)))
    op.create_index("mails_by_user", "mails", ["user_id"])


def downgrade() -> None:
    op.drop_index("mails_by_user", "mails")
    op.execute("ALTER TABLE mails DROP COLUMN user_id")
    op.execute("ALTER TABLE users DROP COLUMN email_confirmed_at_s")
