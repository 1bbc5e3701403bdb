"""Former names of the admin API: refused, with the new name in the message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIELDS: Mapping[str, str] = {
    "of": "match",
    "each": "per",
    "unknown": "on_unavailable",
    "borrow": "burst_when_idle",
    "endpoints": "apis",
}
"""Of bodies and queries."""
VALUES: Mapping[str, Mapping[str, str]] = {"on_unavailable": {"open": "allow", "closed": "deny"}}
"""By field."""
PATHS: Mapping[str, str] = {
    "/api/v1/endpoints": "/api/v1/upstream-health",
    "/api/v1/nodes": "/api/v1/organization/units",
    "/api/v1/entries": "/api/v1/ledger-entries",
    "/api/v1/cache/outlook": "/api/v1/cache/threshold-preview",
    "/api/v1/cache/ages": "/api/v1/cache/hit-ages",
    "/api/v1/cache/questions": "/api/v1/cache/query-clusters",
}
"""And everything below them."""


def said_of(former: str, new: str) -> str:
    """What a caller is told."""
    return f"`{former}` is now `{new}`."


def of_path(path: str) -> str | None:
    """What to say of a path that is not there; None when it never was."""
    for former, new in PATHS.items():
        if path == former or path.startswith(f"{former}/"):
            return said_of(former, new)
    return None


def of_errors(errors: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """The field and what to say of it, when a body was refused for a former name.

    Args:
        errors: as pydantic lists them.
    """
    for error in errors:
        name = str(error["loc"][-1])
        if error["type"] == "extra_forbidden" and name in FIELDS:
            return _param_of(error), said_of(name, FIELDS[name])
        # What was given may be large: it is looked at where a name is expected.
        given = error["input"] if error["type"] == "literal_error" else None
        new = VALUES.get(name, {}).get(given) if isinstance(given, str) else None
        if new is not None:
            return _param_of(error), said_of(str(given), new)
    return None


def _param_of(error: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in error["loc"][1:])
