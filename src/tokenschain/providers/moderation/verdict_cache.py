"""Verdict cache: what an engine said of a piece of text, by tenant, policy and normalised text.

In memory and bounded. Texts are not kept, only their digests. A tenant never meets another's.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from tokenschain.core.moderation.verdict import RiskFinding
from tokenschain.providers.moderation.vendor import PieceVerdict

ENTRIES_MAX = 20_000
KEPT_S = 600.0
"""Vendors change their word lists at any time; what they say of a text holds for so long."""


class VerdictKey(NamedTuple):
    """Of what a verdict is."""

    engine: str
    direction: str
    tenant: str
    policy: str
    """The version of the policy in force."""
    digest: bytes


class _Kept(NamedTuple):
    until_s: float
    exact: bytes
    verdict: PieceVerdict


class VerdictCache:
    """The latest verdicts of one process."""

    def __init__(
        self,
        digest: Callable[[bytes], bytes],
        normalize: Callable[[str], str],
        entries_max: int = ENTRIES_MAX,
        kept_s: float = KEPT_S,
    ) -> None:
        """
        Args:
            normalize: texts that come to the same by it have the same verdict.
        """
        self._digest, self._normalize = digest, normalize
        self._entries_max, self._kept_s = entries_max, kept_s
        self._kept: OrderedDict[VerdictKey, _Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def digest_of(self, words: str) -> bytes:
        """Of a text as it counts here, for its key."""
        return self._digest(self._normalize(words).encode("utf-8", "surrogatepass"))

    def get(self, key: VerdictKey, words: str, now: float) -> PieceVerdict | None:
        """What was said of the same; without places where it was written in another way."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until_s <= now:
            del self._kept[key]
            return None
        self._kept.move_to_end(key)
        if not kept.verdict.findings or kept.exact == self._exact(words):
            return kept.verdict
        return kept.verdict._replace(findings=tuple(map(_placeless, kept.verdict.findings)))

    def put(self, key: VerdictKey, words: str, verdict: PieceVerdict, now: float) -> None:
        """Keep a verdict; the one unused for longest makes room."""
        self._kept[key] = _Kept(now + self._kept_s, self._exact(words), verdict)
        self._kept.move_to_end(key)
        if len(self._kept) > self._entries_max:
            self._kept.popitem(last=False)

    def _exact(self, words: str) -> bytes:
        return self._digest(words.encode("utf-8", "surrogatepass"))


def _placeless(finding: RiskFinding) -> RiskFinding:
    return msgspec.structs.replace(finding, span=None)
