"""Incidents with their timeline, and requests of data subjects."""

import sqlalchemy as sa
from alembic import op

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        *(sa.Column(n, sa.String(32), nullable=False) for n in ("kind", "severity", "operator")),
        sa.Column("title", sa.String(200), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        *(sa.Column(n, sa.String(4_000), nullable=False) for n in ("description", "measures")),
        *(sa.Column(n, sa.BigInteger, nullable=False) for n in ("began_at_s", "detected_at_s")),
        *(sa.Column(n, sa.BigInteger) for n in ("ended_at_s", "reported_at_s", "final_at_s")),
        *(sa.Column(n, sa.String(200), nullable=False) for n in ("reported_to", "reference")),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("created_at_s", sa.BigInteger, nullable=False),
    )
    op.create_index("incidents_by_time", "incidents", ["detected_at_s", "id"])
    op.create_table(
        "incident_events",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("incident_id", sa.String(64), nullable=False),
        sa.Column("at_s", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(64), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("text", sa.String(2_000), nullable=False),
    )
    op.create_index("incident_events_by_incident", "incident_events", ["incident_id", "at_s", "id"])
    op.create_table(
        "subject_requests",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("end_user", sa.String(64), nullable=False),
        sa.Column("content_subjects", sa.Text, nullable=False),
        sa.Column("note", sa.String(2_000), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        *(sa.Column(n, sa.BigInteger, nullable=False) for n in ("received_at_s", "due_at_s")),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("decided_by", sa.String(64)),
        sa.Column("decided_at_s", sa.BigInteger),
        sa.Column("reason", sa.String(2_000), nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
    )
    op.create_index(
        "subject_requests_by_due", "subject_requests", ["tenant", "state", "due_at_s", "id"]
    )


def downgrade() -> None:
    for name in ("subject_requests", "incident_events", "incidents"):
        op.drop_table(name)
