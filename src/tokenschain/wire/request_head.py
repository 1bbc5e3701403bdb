"""Request heads of the client: which hosts and header lines can be sent, and their bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable

_NEVER_IN_A_LINE = re.compile(r"[^\t -~\x80-\xff]")
"""Control characters, which could begin another line (RFC 9110, 5.5), and what is not Latin-1."""


def ascii_host(host: str) -> str:
    """A host as DNS, TLS and `host` lines have it: an internationalised name by its IDNA form.

    Raises:
        ValueError: no name of a host; `UnicodeError` is one.
    """
    found = host.encode("idna").decode()
    if not found or not can_be_value(found) or " " in found:
        raise ValueError(f"no name of a host: {host!r}")
    return found


def can_be_value(text: str) -> bool:
    """Whether a header line can carry a text as it is: printable ASCII."""
    return text.isascii() and text.isprintable()


def encode_lines(lines: Iterable[str]) -> bytes:
    """Lines of a head, each with its end; made once where the lines do not change.

    Raises:
        ValueError: one of them would be another line, or is not Latin-1; it is not quoted, it may
            hold a key.
    """
    lines = tuple(lines)
    if any(map(_NEVER_IN_A_LINE.search, lines)):
        raise ValueError("a line of the request's head holds a control character, or no Latin-1")
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
