"""Redaction: credentials and internal addresses are taken out of texts before others read them.

An upstream's error may quote the request it got, with the platform's key in it, or the address of
the machine behind it. What callers get and what the log holds passes here.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from urllib.parse import quote

CREDENTIAL = "[credential]"
ADDRESS = "[address]"
PIECE_CHARACTERS = 10
"""A part of a credential this long is taken for it, wherever it was cut off."""
_WHOLE_CHARACTERS_MIN = 6
"""A shorter value is no secret, and would be found in words."""

# Forms of credentials that are not ours to know: other tenants', or of services behind an upstream.
_FORMS = re.compile(
    r"(?i:\b(?:bearer|basic|authorization:|x-api-key:|api-key:)\s+)(?=\S{8})(?!\[credential\])"
    r"[^\s\"',;)}\]]+"
    # Also behind the end of a colour's sequence, as in what a terminal was shown.
    r"|(?:(?<![\w-])|(?<=[0-9\[]m))(?:sk|tc[a-z]?|pk|ak|rk|gsk|xai|hf|ghp|nvapi)[-_][A-Za-z0-9_-]{16,}"
    r"|\b(?:AKIA|ASIA|LTAI|AKID|AKLT|AIza)[A-Za-z0-9_-]{12,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]{8,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*"
    r"|(?<=://)[^/\s@]+:[^/\s@]+(?=@)"
    # Addresses that are credentials: whoever has a chat robot's may write as it.
    r"|(?i:(?<=[?&]access_token=)|(?<=[?&]token=)|(?<=[?&]secret=)|(?<=[?&]sign=)|(?<=[?&]key=))"
    r"[^&\s\"'<>)}\]]{8,}"
    r"|(?<=/hook/)[A-Za-z0-9_-]{16,}|(?<=/services/)[A-Z0-9]{8,}/[A-Z0-9]{8,}/[A-Za-z0-9]{16,}"
)
_NUMERIC = re.compile(
    r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)(?::\d{1,5})?"
    r"|(?<![\w:])\[?[0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9a-fA-F:.]*\]?(?::\d{1,5})?"
)
_NAMES = re.compile(
    r"(?i)(?<![\w.-])(?:[\w-]+\.)*"
    r"(?:localhost|[\w-]+\.(?:internal|intranet|local|localdomain|lan|corp|svc|home\.arpa"
    r"|svc\.cluster\.local|cluster\.local))(?![\w-])(?::\d{1,5})?"
    r"|(?<=://)[\w-]+(?::\d{1,5})?(?=[/\s\"')]|$)"
)


class Redactor:
    """Takes out of texts what nobody outside is to read."""

    def __init__(
        self,
        credentials: Callable[[], frozenset[str]] = frozenset,
        hosts: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        """
        Args:
            credentials: the values that are secret now.
            hosts: names of machines that are nobody's business, whatever they look like.
        """
        self._credentials = credentials
        self._hosts = hosts
        self._known: frozenset[str] = frozenset()
        self._pieces: frozenset[str] = frozenset()
        self._short: tuple[str, ...] = ()

    def text(self, text: str) -> str:
        """A text for callers: without credentials and internal addresses."""
        text = self.secret_free(text)
        for host in self._hosts():
            if host in text:
                # A name of one word is also that of an upstream: it is an address with its port.
                port = r"(?::\d+)?" if "." in host else r":\d+"
                text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?!\.?[\w-]){port}", ADDRESS, text)
        text = _NUMERIC.sub(_numeric, text)
        return _NAMES.sub(ADDRESS, text)

    def secret_free(self, text: str) -> str:
        """A text for the operator's log: without credentials."""
        known = self._credentials()
        if known != self._known:
            self._learn(known)
        return _FORMS.sub(CREDENTIAL, self._without_known(text))

    def _learn(self, known: frozenset[str]) -> None:
        self._known = known
        written = [form for value in known for form in _written(value)]
        self._pieces = frozenset(piece for form in written for piece in _pieces(form))
        self._short = tuple(
            value for value in known if _WHOLE_CHARACTERS_MIN <= len(value) < PIECE_CHARACTERS
        )

    def _without_known(self, text: str) -> str:
        for value in self._short:
            text = text.replace(value, CREDENTIAL)
        pieces = self._pieces
        if not pieces:
            return text
        kept: list[str] = []
        start = at = 0
        while at + PIECE_CHARACTERS <= len(text):
            if text[at : at + PIECE_CHARACTERS] not in pieces:
                at += 1
                continue
            kept += (text[start:at], CREDENTIAL)
            while text[at : at + PIECE_CHARACTERS] in pieces:
                at += 1
            start = at = at + PIECE_CHARACTERS - 1
        return "".join((*kept, text[start:])) if kept else text


def _written(value: str) -> Iterable[str]:
    """The ways in which a value may stand in a text."""
    yield value
    yield quote(value, safe="")
    for before in range(3):
        # Base64 of it where it begins at any of the three places in a group.
        coded = base64.b64encode(b"\0" * before + value.encode()).decode()
        yield coded[4 if before else 0 :].rstrip("=")[:-1]


def _pieces(form: str) -> Iterable[str]:
    return (form[at : at + PIECE_CHARACTERS] for at in range(len(form) - PIECE_CHARACTERS + 1))


def _numeric(found: re.Match[str]) -> str:
    """An address in numbers, taken out unless the whole world may reach it."""
    text = found.group()
    bare = text
    if bare.startswith("["):
        bare = bare[1:].partition("]")[0]
    elif bare.count(":") == 1:
        bare = bare.partition(":")[0]
    bare = bare.rstrip(".:") or bare
    try:
        address = ip_address(bare)
    except ValueError:
        return text
    return text if address.is_global else ADDRESS
