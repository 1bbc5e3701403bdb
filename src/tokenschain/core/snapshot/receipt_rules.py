"""Receipt rules as published: whose calls get a receipt of the audit log without asking for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Send = Literal["asked", "always"]
SEND_MEANS = (
    "Which answers have a receipt in `x-tc-audit-receipt`: those of callers that ask for one by "
    "that header, or all."
)


class ReceiptRules(msgspec.Struct, frozen=True):
    """Which answers have a receipt."""

    send: Annotated[Send, Meta(description=SEND_MEANS)] = "asked"


def are_sent(rules: Mapping[str, Send], tenant: str, project: str) -> bool:
    """Whether each answer of a project has a receipt; the narrowest rule holds."""
    for scope in (f"tenant/{tenant}/project/{project}", f"tenant/{tenant}", "*"):
        if scope in rules:
            return rules[scope] == "always"
    return False
