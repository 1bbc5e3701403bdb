"""Cost of the local moderation rules: a 4 KB request and a chunk of a stream, with 10,000 words.

    python -m bench.moderation

Times are of this machine; what is compared is their ratio to parsing the same 4 KB as JSON.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import msgspec

from tokenschain.core.moderation import personal_data
from tokenschain.core.moderation.library import RuleLibrary
from tokenschain.core.moderation.packs import Pack, PackWord
from tokenschain.core.moderation.rules import Rules
from tokenschain.core.moderation.stream import OutputRules, TextScreener
from tokenschain.core.moderation.verdict import Action, Direction
from tokenschain.infra.moderation_classifier import load_classifier
from tokenschain.infra.moderation_packs import character_tables

WORDS = 10_000
ROUNDS = 400
CHUNKS = 20_000
_COMMON = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后"
    "多定行学法所"
)


def main() -> None:
    pick = random.Random(20)
    rules = _rules(pick)
    text = "".join(pick.choice(_COMMON) for _ in range(1_365))  # 4 KB in UTF-8
    body = msgspec.json.encode({"messages": [{"role": "user", "content": text}]})
    parsing = _times(lambda: msgspec.json.decode(body))
    rows = {
        "JSON of 4 KB": parsing,
        "words and attacks": _times(lambda: rules.screen(text, Direction.INPUT)),
        "personal data": _times(lambda: personal_data.find(text)),
        "chunk of a stream": _chunks(rules, pick),
    }
    for name, times in rows.items():
        middle, late = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"{name:20} p50 {middle * 1e6:8.1f} us   p99 {late * 1e6:8.1f} us")


def _rules(pick: random.Random) -> Rules:
    words = tuple(
        PackWord("".join(chr(pick.randint(0x4E00, 0x9FA5)) for _ in range(pick.randint(2, 8))),
                 "A.1.h", match=2)
        for _ in range(WORDS)
    )  # fmt: skip
    library = RuleLibrary(character_tables, lambda: "2026-11-27", load_classifier)
    library.install({"bench": Pack("bench", "1", "a", "b", "2099-01-01", words)})
    return library.rules(("*",))


def _times(work: Callable[[], object]) -> list[float]:
    work()
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return sorted(found)


def _chunks(rules: Rules, pick: random.Random) -> list[float]:
    screener = TextScreener(OutputRules(rules, lambda one: Action.BLOCK))
    pieces = [
        "".join(pick.choice(_COMMON) for _ in range(pick.randint(1, 4))) for _ in range(CHUNKS)
    ]
    found = []
    for piece in pieces:
        began = time.perf_counter()
        screener.feed(piece)
        found.append(time.perf_counter() - began)
    return sorted(found)


if __name__ == "__main__":
    main()
