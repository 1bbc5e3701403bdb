"""What of a tenant belongs to the platform: limits it set, units it closed, users it shut out.

Limits of earlier versions belong to who set them last, as the audit log says; where it does not
say, to the platform. A step down forgets it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_FLAGS = (
    ("limits", "set_by_platform"),
    ("organization_units", "closed_by_platform"),
    ("users", "disabled_by_platform"),
)


def upgrade() -> None:
    for table, name in _FLAGS:
        op.add_column(
            table, sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    op.execute(
        "UPDATE limits SET set_by_platform = true WHERE id LIKE 'wallet/%' OR COALESCE(("
        "SELECT e.actor FROM audit_events e WHERE e.action = 'limits:write' "
        "AND e.target = limits.id ORDER BY e.at_ms DESC, e.id DESC LIMIT 1"
        "), 'platform') IN (SELECT u.id FROM users u WHERE u.tenant = '*' "
        "UNION ALL SELECT 'platform')"
    )


def downgrade() -> None:
    for table, name in _FLAGS:
        op.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
