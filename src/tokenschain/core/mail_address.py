"""Mail addresses: how one that mail is sent to is written, and which mailbox it stands for."""

from __future__ import annotations

import re
from typing import NamedTuple

PATTERN = r"^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$"
"""Written one way only, and never several addresses."""


class Mailbox(NamedTuple):
    """Where mail to an address arrives; what stands behind a `+` is the same mailbox."""

    name: str
    domain: str

    def __str__(self) -> str:
        return f"{self.name}@{self.domain}"


def is_one(text: str) -> bool:
    """Whether it is an address, and no option of a mail program."""
    return re.fullmatch(PATTERN, text) is not None and not text.startswith("-")


def mailbox_of(address: str) -> Mailbox:
    """The mailbox of an address, in small letters."""
    local, _, domain = address.lower().rpartition("@")
    return Mailbox(local.partition("+")[0], domain)
