"""Acts that wait for a second person, for tests."""

from __future__ import annotations

import itertools
import time

from sqlalchemy import insert

from tests.security.platform import Platform
from tokenschain.infra.database.compliance_tables import approvals

_numbers = itertools.count()


def ask(house: Platform, tenant: str, by: str = "usr_another") -> str:
    """Something that somebody wants to do; returns the approval's id."""
    number, now_s = next(_numbers), int(time.time())
    row = {
        "id": f"apr_{number}", "operation": "calls:export", "tenant": tenant, "target": "1..2",
        "request_hash": f"h{number}", "requested_by": by, "requested_at_s": now_s,
        "expires_at_s": now_s + 3_600, "state": "pending",
    }  # fmt: skip
    with house.engine.begin() as connection:
        connection.execute(insert(approvals).values(**row))
    return f"apr_{number}"
