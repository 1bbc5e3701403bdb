"""Keys of content, kept content, its policies, legal holds and erasures. A step down forgets
them: what was sealed is then gone for good."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0032"
branch_labels = None
depends_on = None

_LIVE = sa.text("destroyed_at_ms IS NULL")


def _texts(width: int, *names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.String(width), nullable=False) for name in names]


def _numbers(*names: str) -> list[sa.Column[Any]]:
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]


def upgrade() -> None:
    _make_keys_and_contents()
    _make_policies_and_records()


def _make_keys_and_contents() -> None:
    op.create_table(
        "tenant_keys",
        sa.Column("id", sa.String(40), primary_key=True),
        *_texts(64, "tenant"),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        *_numbers("created_at_ms"),
        sa.Column("destroyed_at_ms", sa.BigInteger()),
    )
    op.create_index(
        "tenant_keys_live", "tenant_keys", ["tenant"],
        unique=True, postgresql_where=_LIVE, sqlite_where=_LIVE,
    )  # fmt: skip
    op.create_table(
        "content_keys",
        sa.Column("id", sa.String(40), primary_key=True),
        *_texts(64, "tenant"),
        *_texts(40, "parent"),
        sa.Column("day", sa.Integer(), nullable=False),
        *_texts(64, "subject"),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        *_numbers("created_at_ms"),
        sa.Column("destroyed_at_ms", sa.BigInteger()),
    )
    op.create_index(
        "content_keys_live", "content_keys", ["tenant", "day", "subject"],
        unique=True, postgresql_where=_LIVE, sqlite_where=_LIVE,
    )  # fmt: skip
    op.create_table(
        "call_contents",
        sa.Column("call_id", sa.String(64), primary_key=True),
        *_texts(64, "tenant", "project", "subject"),
        *_numbers("started_ms"),
        sa.Column("day", sa.Integer(), nullable=False),
        *_texts(40, "key_id"),
        *_texts(16, "kept"),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
    )
    op.create_index("call_contents_by_tenant", "call_contents", ["tenant", "started_ms", "call_id"])
    op.create_index("call_contents_by_key", "call_contents", ["key_id"])


def _make_policies_and_records() -> None:
    op.create_table(
        "content_policies",
        *_texts(64, "tenant", "project"),
        *_texts(16, "content"),
        sa.Column("retention_days", sa.Integer(), nullable=False),
        *_texts(64, "changed_by"),
        *_numbers("changed_at_ms"),
        sa.PrimaryKeyConstraint("tenant", "project"),
    )
    op.create_table(
        "legal_holds",
        sa.Column("id", sa.String(40), primary_key=True),
        *_texts(64, "tenant", "subject"),
        *_numbers("from_ms", "until_ms"),
        *_texts(500, "reason"),
        *_texts(64, "created_by"),
        *_numbers("created_at_ms"),
        sa.Column("released_by", sa.String(64)),
        sa.Column("released_at_ms", sa.BigInteger()),
        sa.Column("release_reason", sa.String(500)),
    )
    op.create_index("legal_holds_by_tenant", "legal_holds", ["tenant", "released_at_ms"])
    op.create_table(
        "content_erasures",
        sa.Column("id", sa.String(40), primary_key=True),
        *_texts(64, "tenant", "subject"),
        *_numbers("before_ms"),
        *_texts(500, "reason"),
        *_texts(64, "erased_by"),
        *_numbers("erased_at_ms"),
        sa.Column("contents", sa.Integer(), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("keys", sa.Text(), nullable=False),
    )
    op.create_index(
        "content_erasures_by_tenant", "content_erasures", ["tenant", "erased_at_ms", "id"]
    )


def downgrade() -> None:
    for name in (
        "content_erasures", "legal_holds", "content_policies", "call_contents", "content_keys",
        "tenant_keys",
    ):  # fmt: skip
        op.drop_table(name)
