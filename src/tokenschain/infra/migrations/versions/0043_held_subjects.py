"""Legal holds know an end user by the hashes of all suites, not by one."""

import sqlalchemy as sa
from alembic import op

revision = "0043"
down_revision = "0042"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("legal_holds") as table:
        table.add_column(sa.Column("subjects", sa.Text(), server_default="[]", nullable=False))
    op.execute("""update legal_holds set subjects = '["' || subject || '"]' where subject <> ''""")
    with op.batch_alter_table("legal_holds") as table:
        table.drop_column("subject")


def downgrade() -> None:
    with op.batch_alter_table("legal_holds") as table:
        table.add_column(sa.Column("subject", sa.String(64), server_default="", nullable=False))
    op.execute("update legal_holds set subject = substr(subjects, 3, 32) where subjects <> '[]'")
    with op.batch_alter_table("legal_holds") as table:
        table.drop_column("subjects")
