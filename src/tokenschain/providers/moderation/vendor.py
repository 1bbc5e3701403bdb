"""What a cloud's moderation service is asked and how it answers; pure, one vendor a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from tokenschain.core.moderation.verdict import (
    Direction,
    EngineContext,
    EngineFailure,
    Level,
    RiskFinding,
)
from tokenschain.core.routing.health import AttemptOutcome
from tokenschain.providers.signing import KeyPair
from tokenschain.providers.vendor_profile import HeaderLines
from tokenschain.wire.client import Origin

OTHER = "values/other"
"""Of a label that we do not know: no finding is lost for its name."""
DETAIL_CHARACTERS_MAX = 64


class PieceLimit(NamedTuple):
    """How much text one request may hold."""

    characters: int
    bytes: int | None = None
    """In UTF-8, where the vendor counts so."""


class Asking(NamedTuple):
    """What a request is made from, beside the words."""

    direction: Direction
    context: EngineContext
    keys: KeyPair
    now_s: float
    """Unix time."""
    nonce: str
    """Another one each time."""


class PieceVerdict(NamedTuple):
    """What was found in one piece of text, or one image."""

    findings: tuple[RiskFinding, ...] = ()
    request_id: str = ""


class VendorRequest(NamedTuple):
    """One signed request."""

    origin: Origin
    target: str
    headers: HeaderLines
    """All but `host` and `content-length`."""
    body: bytes
    read: Callable[[int, bytes], PieceVerdict]
    """Status and body to what was found.

    Raises:
        Unanswered: the vendor said no.
        msgspec.MsgspecError: not in the vendor's form.
    """


class ModerationVendor(Protocol):
    """One vendor's service, as it is set up."""

    @property
    def takes_images(self) -> bool: ...

    def limit(self, direction: Direction) -> PieceLimit: ...

    def text_request(self, piece: str, asking: Asking) -> VendorRequest: ...

    def image_request(self, url: str, asking: Asking) -> VendorRequest:
        """
        Args:
            url: http(s) or data.
        """


class Unanswered(Exception):
    """A vendor gave no verdict."""

    def __init__(
        self, failure: EngineFailure, detail: object, outcome: AttemptOutcome | None = None
    ) -> None:
        """
        Args:
            detail: the vendor's error code.
            outcome: what that says of the engine, where not what the failure says.
        """
        text = str(detail)[:DETAIL_CHARACTERS_MAX]
        self.detail = text if text.isprintable() else ""
        super().__init__(self.detail)
        self.failure = failure
        self.outcome = outcome or _OUTCOMES[failure]
        self.answered: Sequence[int] = ()
        """Characters of each request that was answered beside the one that failed."""


_OUTCOMES = {
    EngineFailure.TIMEOUT: AttemptOutcome.HARD,
    EngineFailure.UNREACHABLE: AttemptOutcome.HARD,
    EngineFailure.GARBAGE: AttemptOutcome.HARD,
    EngineFailure.THROTTLED: AttemptOutcome.RATE,
    EngineFailure.REFUSED: AttemptOutcome.AUTH,
}


def wrong_request(detail: object) -> Unanswered:
    """The vendor does not take this one request; that says nothing of others."""
    return Unanswered(EngineFailure.REFUSED, detail, AttemptOutcome.CLIENT)


def category_of(label: str, table: Mapping[str, str]) -> str:
    """Our category of a vendor's label, by the longest beginning of it in the table."""
    text = label.lower()
    while text:
        if text in table:
            return table[text]
        text = text[:-1]
    return OTHER


def finding(
    label: str,
    table: Mapping[str, str],
    level: Level,
    percent: float,
    span: tuple[int, int] | None = None,
) -> RiskFinding:
    """A vendor's finding in our words.

    Args:
        percent: how sure the vendor is, 0 to 100.
    """
    score = min(max(percent / 100, 0.0), 1.0)
    shown = label[:DETAIL_CHARACTERS_MAX]
    if not shown.isprintable():
        shown = ""
    return RiskFinding(category_of(label, table), level, score, span=span, label=shown)


def span_of(piece: str, word: str, start: int | None) -> tuple[int, int] | None:
    """Where a word that a vendor names stands; where it counts otherwise, the word's first place.
    None where it is not in the text, as when the vendor rewrote it."""
    if not word:
        return None
    if start is None or start < 0 or not piece.startswith(word, start):
        start = piece.find(word)
    return None if start < 0 else (start, start + len(word))
