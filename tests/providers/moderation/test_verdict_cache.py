"""The verdict cache: for whom a verdict is kept, how long, and in what memory."""

from __future__ import annotations

import hashlib

from tokenschain.core.moderation.verdict import Level, RiskFinding
from tokenschain.providers.moderation.vendor import PieceVerdict
from tokenschain.providers.moderation.verdict_cache import KEPT_S, VerdictCache, VerdictKey

BAD = PieceVerdict((RiskFinding("values/other", Level.HIGH, span=(1, 3)),), "r")


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def cache(entries_max: int = 10) -> VerdictCache:
    return VerdictCache(digest, str.lower, entries_max)


def key(kept: VerdictCache, words: str, tenant: str = "bank", policy: str = "1") -> VerdictKey:
    return VerdictKey("green", "input", tenant, policy, kept.digest_of(words))


def test_a_verdict_is_given_again_for_as_long_as_it_holds() -> None:
    kept = cache()
    kept.put(key(kept, "A bad"), "A bad", BAD, 0.0)
    assert kept.get(key(kept, "A bad"), "A bad", KEPT_S - 1) == BAD
    assert kept.get(key(kept, "A bad"), "A bad", KEPT_S) is None
    assert len(kept) == 0


def test_another_tenant_or_policy_asks_for_itself() -> None:
    kept = cache()
    kept.put(key(kept, "A bad"), "A bad", BAD, 0.0)
    assert kept.get(key(kept, "A bad", tenant="clinic"), "A bad", 1.0) is None
    assert kept.get(key(kept, "A bad", policy="2"), "A bad", 1.0) is None


def test_the_same_text_in_other_letters_has_the_verdict_without_its_places() -> None:
    kept = cache()
    kept.put(key(kept, "A bad"), "A bad", BAD, 0.0)
    found = kept.get(key(kept, "a BAD"), "a BAD", 1.0)
    assert found is not None
    assert found.findings[0].level is Level.HIGH and found.findings[0].span is None


def test_it_holds_so_many_and_no_more() -> None:
    kept = cache(entries_max=3)
    for number in range(5):
        kept.put(key(kept, str(number)), str(number), BAD, 0.0)
        kept.get(key(kept, "0"), "0", 0.0)
    assert len(kept) == 3
    assert kept.get(key(kept, "0"), "0", 0.0) == BAD, "used again and again"
    assert kept.get(key(kept, "1"), "1", 0.0) is None
