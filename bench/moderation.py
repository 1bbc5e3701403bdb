"""Cost of the local moderation rules: a 4 KB request and a chunk of a stream, with 10,000 words.

    python -m bench.moderation
    python -m bench.moderation quality --data FOLDER    # see `bench.moderation_quality`

Times are CPU time of the thread, so that others on the machine count less; what is compared is
their ratio to parsing the same 4 KB as JSON. Texts: random common characters, which hold nothing;
everyday sentences; and notes of which every other sentence is full of numbers. Streams are of
English prose and of programs as well, one in Python and one in C that is next to nothing but signs.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import json

from bench import moderation_quality
from bench.benign_texts import sentence
from tokenschain.core.moderation import personal_data
from tokenschain.core.moderation.library import RuleLibrary
from tokenschain.core.moderation.packs import Pack, PackWord
from tokenschain.core.moderation.rules import Rules
from tokenschain.core.moderation.stream import OutputRules, TextScreener
from tokenschain.core.moderation.verdict import Action, Direction
from tokenschain.infra.moderation_classifier import load_classifier
from tokenschain.infra.moderation_packs import character_tables

WORDS = 10_000
ROUNDS = 1_000
CHUNKS = 20_000
_ROOT = Path(__file__).parents[1]
_ENGLISH, _PYTHON = _ROOT / "docs/guides/moderation.md", _ROOT / "bench/moderation_quality.py"
_C = """for (int i = 0; i < n; i++) { a[i] = b[i] & 0xff; x1 += f(a[i], 12); }
if (p->next == NULL && *p != '<') return -1;  /* 100 %, see <b> */
"""
_COMMON = (
    "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下过子说产种面而方后"
    "多定行学法所"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="?", choices=("speed", "quality"), default="speed")
    parser.add_argument("--data", type=Path, help="folder of the test sets")
    given = parser.parse_args()
    if given.what == "speed":
        speed()
    elif given.data is None:
        parser.error("quality needs --data FOLDER")
    else:
        moderation_quality.main(given.data)


def speed() -> None:
    """Print what the rules cost."""
    pick = random.Random(20)
    library = _library(pick)
    rules, classifier = library.rules(("*",)), library.classifier()

    def everything(text: str) -> None:
        rules.screen(text, Direction.INPUT)
        personal_data.find(text)
        classifier.probability(text)

    texts = {
        "random": ["".join(pick.choice(_COMMON) for _ in range(1_365))],
        "everyday": [_text(pick, 0.15) for _ in range(40)],
        "numbers": [_text(pick, 0.5) for _ in range(40)],
    }
    bodies = [json.encode({"content": text}).decode() for text in texts["random"]]
    rows = {"JSON of 4 KB": _times(json.decode, bodies)}
    for name, some in texts.items():
        rows[f"{name}: words, attacks"] = _times(
            lambda text: rules.screen(text, Direction.INPUT), some
        )
        rows[f"{name}: personal data"] = _times(personal_data.find, some)
        rows[f"{name}: classifier"] = _times(classifier.probability, some)
        rows[f"{name}: all of it"] = _times(everything, some)
    prose = [line for line in _ENGLISH.read_text().splitlines() if line[:1].isalpha()]
    texts |= {"English": prose, "Python": [_PYTHON.read_text()], "C": [_C]}
    for name, some in texts.items():
        rows[f"{name}: chunk of a stream"] = _chunks(rules, "".join(some), pick)
    for name, times in rows.items():
        middle, late = times[len(times) // 2], times[int(len(times) * 0.99)]
        print(f"{name:24} p50 {middle * 1e6:8.1f} us   p99 {late * 1e6:8.1f} us")


def _text(pick: random.Random, numbers: float) -> str:
    """4 KB in UTF-8.

    Args:
        numbers: the share of sentences that are full of them.
    """
    made = ""
    while len(made.encode()) < 4_096:
        made += sentence(pick, numbers=pick.random() < numbers)
    return made


def _library(pick: random.Random) -> RuleLibrary:
    words = tuple(
        PackWord("".join(chr(pick.randint(0x4E00, 0x9FA5)) for _ in range(pick.randint(2, 8))),
                 "A.1.h", match=2)
        for _ in range(WORDS)
    )  # fmt: skip
    library = RuleLibrary(character_tables, lambda: "2026-11-27", load_classifier)
    library.install({"bench": Pack("bench", "1", "a", "b", "2099-01-01", words)})
    return library


def _times(work: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    found = []
    for at in range(ROUNDS):
        text = texts[at % len(texts)]
        if at < len(texts):
            work(text)
        began = time.thread_time()
        work(text)
        found.append(time.thread_time() - began)
    return sorted(found)


def _chunks(rules: Rules, text: str, pick: random.Random) -> list[float]:
    screener = TextScreener(OutputRules(rules, lambda one: Action.BLOCK))
    pieces, at = list[str](), 0
    for _ in range(CHUNKS):
        size = pick.randint(1, 4)
        pieces.append((text[at:] + text)[:size])
        at = (at + size) % len(text)
    found = []
    for piece in pieces:
        began = time.thread_time()
        screener.feed(piece)
        found.append(time.thread_time() - began)
    return sorted(found)


if __name__ == "__main__":
    main()
