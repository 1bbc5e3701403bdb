"""Quality of the local moderation engine on public test sets, as tables with 95 % intervals.

    python -m bench.moderation quality --data FOLDER

FOLDER holds what is there of: `cold_dev.csv`, `cold_test.csv` or `cold_test_sample.csv`
(COLDataset), `safetybench_zh_sample.json` (SafetyBench; its items on offensiveness),
`cvalues_responsibility_prompts.jsonl` (CValues), `jade_v1_benchmark_zh.csv` (JADE),
`jbb_behaviors_en.json` (JailbreakBench), and `cold_train.csv`, of which a keyword list is drawn.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.moderation_classifier import read_posts
from tokenschain.core.moderation.library import RuleLibrary
from tokenschain.core.moderation.packs import Pack, PackWord
from tokenschain.core.moderation.rules import Rules
from tokenschain.core.moderation.verdict import ClassifierThresholds, Direction, Level
from tokenschain.infra.moderation_classifier import load_classifier
from tokenschain.infra.moderation_packs import character_tables, seed_pack

WORDS = 500
WORD_COUNT_MIN = 15
"""Of the training posts with it."""
Z = 1.96
_OFFENSIVE_QUESTION = "请问下面的文本是否包含攻击性的内容？\n"

Engine = Callable[[str], Level]


class LabelledSet(NamedTuple):
    """Texts of one kind: all of them ought to be found, or none."""

    name: str
    harmful: bool
    texts: list[str]


def main(folder: Path) -> None:
    """Print the tables."""
    engines = _engines(folder)
    print(f"| set | texts | {' | '.join(engines)} |")
    print(f"|---|---|{'---|' * len(engines)}")
    hits: dict[tuple[str, bool, str], tuple[int, int]] = {}
    for one in _sets(folder):
        cells = []
        for name, engine in engines.items():
            levels = Counter(engine(text) for text in one.texts)
            flagged = levels[Level.MEDIUM] + levels[Level.HIGH]
            hits[one.name, one.harmful, name] = flagged, len(one.texts)
            blocked = levels[Level.HIGH]
            cells.append(
                f"{interval(flagged, len(one.texts))}; {interval(blocked, len(one.texts))}"
            )
        kind = "harmful" if one.harmful else "harmless"
        print(f"| {one.name}, {kind} | {len(one.texts)} | {' | '.join(cells)} |")
    print(f"\n| accuracy | texts | {' | '.join(engines)} |\n|---|---|{'---|' * len(engines)}")
    for name in dict.fromkeys(name for name, harmful, _ in hits if harmful):
        if (name, False, next(iter(engines))) not in hits:
            continue
        cells = []
        for engine_name in engines:
            found, harmful_count = hits[name, True, engine_name]
            wrong, harmless_count = hits[name, False, engine_name]
            texts = harmful_count + harmless_count
            cells.append(interval(found + harmless_count - wrong, texts))
        print(f"| {name} | {texts} | {' | '.join(cells)} |")


def interval(hits: int, of: int) -> str:
    """A share and its Wilson interval, in per cent."""
    share = hits / of
    middle = (share + Z * Z / (2 * of)) / (1 + Z * Z / of)
    half = Z * math.sqrt(share * (1 - share) / of + Z * Z / (4 * of * of)) / (1 + Z * Z / of)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


def _engines(folder: Path) -> dict[str, Engine]:
    library = RuleLibrary(character_tables, lambda: "2026-11-27", load_classifier)
    seed = seed_pack()
    library.install({seed.name: seed})
    classifier, thresholds = library.classifier(), ClassifierThresholds()

    def by(rules: Rules) -> Engine:
        def of(text: str) -> Level:
            found = rules.screen(text, Direction.INPUT)
            return max((one.level for one in found), default=Level.NONE)

        return of

    def classified(text: str) -> Level:
        return thresholds.level(classifier.probability(text))

    shipped = by(library.rules(("*",)))
    engines = {"shipped rules": shipped, "classifier": classified}
    training = folder / "cold_train.csv"
    if training.is_file():
        library.install({seed.name: seed, "drawn": drawn_list(training)})
        drawn = by(library.rules(("*",)))
        engines["drawn list"] = drawn
        engines["drawn list and classifier"] = lambda text: max(drawn(text), classified(text))
    return engines


def drawn_list(training: Path) -> Pack:
    """What an operator would make of the same posts: the words that tell most, as keywords."""
    counts: Counter[str] = Counter()
    offensive: Counter[str] = Counter()
    for post in read_posts(training):
        grams = {
            post.text[at : at + size]
            for size in (2, 3, 4)
            for at in range(len(post.text) - size + 1)
            if post.text[at : at + size].isalpha()
        }
        counts.update(grams)
        if post.label:
            offensive.update(grams)
    telling = sorted(
        (word for word, count in counts.items() if count >= WORD_COUNT_MIN),
        key=lambda word: (-(offensive[word] + 1) / (counts[word] + 4), word),
    )[:WORDS]
    words = tuple(PackWord(word, "A.2.i", level=3, match=2) for word in telling)
    return Pack("drawn", "1", "bench", "nobody", "2099-01-01", words)


def _sets(folder: Path) -> Iterator[LabelledSet]:
    cold = {"COLD dev": "cold_dev.csv", "COLD test": "cold_test.csv"}
    if not (folder / "cold_test.csv").is_file():
        cold |= {"COLD test": "cold_test_sample.csv"}
    for name, file in cold.items():
        if (folder / file).is_file():
            posts = read_posts(folder / file)
            yield from _both(name, [(post.text, bool(post.label)) for post in posts])
    if (path := folder / "safetybench_zh_sample.json").is_file():
        items = [
            (item["question"].removeprefix(_OFFENSIVE_QUESTION), item)
            for item in json.loads(path.read_text("utf-8"))
            if item["question"].startswith(_OFFENSIVE_QUESTION)
        ]
        yes = [item["options"][item["answer"]["answer"]].startswith("是") for _, item in items]
        yield from _both(
            "SafetyBench", [(text, one) for (text, _), one in zip(items, yes, strict=True)]
        )
    if (path := folder / "cvalues_responsibility_prompts.jsonl").is_file():
        lines = path.read_text("utf-8").splitlines()
        yield LabelledSet("CValues", False, [json.loads(line)["prompt"] for line in lines])
    if (path := folder / "jade_v1_benchmark_zh.csv").is_file():
        with path.open(encoding="utf-8-sig", newline="") as file_:
            yield LabelledSet("JADE", True, [row["问题"] for row in csv.DictReader(file_)])
    if (path := folder / "jbb_behaviors_en.json").is_file():
        goals = [item["goal"] for item in json.loads(path.read_text("utf-8"))]
        yield LabelledSet("JailbreakBench", True, goals)


def _both(name: str, given: Sequence[tuple[str, bool]]) -> Iterator[LabelledSet]:
    for harmful in (True, False):
        yield LabelledSet(name, harmful, [text for text, label in given if label is harmful])
