"""When passwords were set and sessions used last, and former passwords."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("tokens") as table:
        table.add_column(sa.Column("used_at_s", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("users") as table:
        table.add_column(sa.Column("password_set_at_s", sa.BigInteger(), nullable=True))
    users = sa.table("users", sa.column("password_hash"), sa.column("password_set_at_s"))
    op.execute(  # those that are there count from now
        users.update()
        .where(users.c.password_hash.is_not(None))
        .values(password_set_at_s=int(time.time()))
    )
    op.create_table(
        "former_passwords",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("user_id", sa.String(40), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("until_s", sa.BigInteger, nullable=False),
    )
    op.create_index("former_passwords_by_user", "former_passwords", ["user_id", "until_s"])


def downgrade() -> None:
    op.drop_table("former_passwords")
    with op.batch_alter_table("users") as table:
        table.drop_column("password_set_at_s")
    with op.batch_alter_table("tokens") as table:
        table.drop_column("used_at_s")
