"""Signing in: wrong tries by account and address, people by subject, scopes of tokens.

An address is unique in its tenant, so that no tenant learns of another's. Accounts that can be
entered otherwise lose the roles that single sign-on gave to whoever had their address. Tokens of
earlier versions keep all that their users may. A step down forgets it all; the later of two users
with one address gets another.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# The name that PostgreSQL gave it; SQLite's has none.
_NAMES = {"uq": "%(table_name)s_%(column_0_name)s_key"}


def upgrade() -> None:
    with op.batch_alter_table("users", naming_convention=_NAMES) as users:
        users.drop_constraint("users_email_key", type_="unique")
        users.drop_column("failed_logins")
        users.drop_column("locked_until_s")
        users.add_column(sa.Column("oidc_issuer", sa.String(length=300)))
        users.add_column(sa.Column("oidc_subject", sa.String(length=255)))
    op.create_index("users_by_email", "users", ["email", "tenant"], unique=True)
    op.create_index("users_by_subject", "users", ["oidc_subject", "oidc_issuer"], unique=True)
    op.create_table(
        "login_failures",
        sa.Column("account", sa.String(length=300), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("next_try_s", sa.BigInteger(), nullable=False),
        sa.Column("forget_at_s", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "address"),
    )
    op.create_index("login_failures_by_time", "login_failures", ["forget_at_s"])
    op.add_column(
        "tokens", sa.Column("permissions", sa.Text(), server_default='["*"]', nullable=False)
    )
    op.execute(
        "DELETE FROM bindings WHERE source = 'oidc' AND user_id IN (SELECT id FROM users "
        "WHERE password_hash IS NOT NULL OR totp_sealed IS NOT NULL OR kind <> 'user')"
    )


def downgrade() -> None:
    op.execute("ALTER TABLE tokens DROP COLUMN permissions")
    op.drop_table("login_failures")
    op.drop_index("users_by_subject", "users")
    op.drop_index("users_by_email", "users")
    op.execute(
        "UPDATE users SET email = id || '@duplicate.invalid' WHERE EXISTS ("
        "SELECT 1 FROM users AS first WHERE first.email = users.email AND first.id < users.id)"
    )
    with op.batch_alter_table("users") as users:
        users.drop_column("oidc_subject")
        users.drop_column("oidc_issuer")
        users.add_column(sa.Column("locked_until_s", sa.BigInteger()))
        users.add_column(
            sa.Column("failed_logins", sa.Integer(), server_default=sa.text("0"), nullable=False)
        )
        users.create_unique_constraint("users_email_key", ["email"])
