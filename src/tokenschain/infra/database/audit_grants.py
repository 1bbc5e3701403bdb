"""PostgreSQL rights of the sealed audit log: control adds to it, and can change nothing of it."""

from __future__ import annotations

from tokenschain.infra.database.audit_tables import (
    audit_anchors,
    audit_keys,
    audit_nodes,
    audit_segments,
)

OWNER = "tokenschain_audit"
"""Nobody logs in as this role."""
SEALED = (audit_segments, audit_nodes, audit_keys, audit_anchors)
"""What is only ever added to."""


def statements(role: str, auditor: str | None = None) -> list[str]:
    """What an administrator of the database runs, after each upgrade again.

    Args:
        role: as which control connects; it may own all other tables.
        auditor: a role that is to read the log and nothing else.
    """
    owner, control = _quoted(OWNER), _quoted(role)
    found = [
        f"DO $$ BEGIN CREATE ROLE {owner} NOLOGIN; "
        "EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    ]
    for table in SEALED:
        name = _quoted(table.name)
        found += [
            f"ALTER TABLE {name} OWNER TO {owner}",
            f"REVOKE ALL ON {name} FROM PUBLIC, {control}",
            f"GRANT SELECT, INSERT ON {name} TO {control}",
        ]
        if auditor is not None:
            found.append(f"GRANT SELECT ON {name} TO {_quoted(auditor)}")
    if auditor is not None:
        found.append(f'GRANT SELECT ON "audit_checkpoints" TO {_quoted(auditor)}')
    return found


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
