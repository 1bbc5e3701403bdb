"""What is kept of what calls say: by project, tenant or for the platform."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class KeptContent(StrEnum):
    """What is kept of what calls say."""

    NONE = "none"
    """Nothing."""
    HASH = "hash"
    """Salted commitments: who has the words can show that they are those."""
    REDACTED = "redacted"
    """The words, personal data in them masked."""
    FULL = "full"
    """The words."""


def kept_of(contents: Mapping[str, KeptContent], tenant: str, project: str) -> KeptContent:
    """What a project's calls have kept: by its own policy, its tenant's, or the platform's."""
    for name in (f"{tenant}/{project}", f"{tenant}/", "/"):
        found = contents.get(name)
        if found is not None:
            return found
    return KeptContent.NONE
