"""All token classes on a ledger row; stored responses."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_CLASSES = (
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "audio_prompt_tokens",
    "image_prompt_tokens",
    "audio_completion_tokens",
)


def upgrade() -> None:
    with op.batch_alter_table("ledger") as ledger:
        for name in _CLASSES:
            ledger.add_column(
                sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0"))
            )
        ledger.add_column(
            sa.Column("thinking", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    op.create_table(
        "stored_responses",
        sa.Column("id", sa.String(length=80), primary_key=True),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("expires_at_s", sa.BigInteger(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
    )
    op.create_index("stored_responses_by_expiry", "stored_responses", ["expires_at_s"])


def downgrade() -> None:
    op.drop_table("stored_responses")
    with op.batch_alter_table("ledger") as ledger:
        for name in (*_CLASSES, "thinking"):
            ledger.drop_column(name)
