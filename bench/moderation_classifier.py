"""Fits the local classifier of moderation, and writes its weights into the package.

    python -m bench.moderation_classifier --data FOLDER

FOLDER holds `cold_train.csv` of COLDataset (thu-coai, Apache-2.0): posts in Chinese with a label,
1 where they are offensive, and a topic (race, region or gender). Harmless texts of our own
(`bench.benign_texts`, the FAQ and the synthetic questions of the semantic cache) are added, since
those posts are all of quarrelsome topics. The development and test parts are not read here:
`bench.moderation quality` measures by them. The weights are tables by hash of n-grams: no text is
in them.

Logistic regression over hashed n-grams, each scaled by how much it tells the classes apart (the
log-count ratio of Wang and Manning, ACL 2012), by Adam; some 2 minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from bench.benign_texts import sentence
from tokenschain.core.moderation.classifier import (
    GRAM_CHARACTERS_MAX,
    TABLE_BITS,
    TOPIC_BITS,
    n_grams,
)
from tokenschain.core.moderation.normalization import Normalizer
from tokenschain.infra.moderation_classifier import WEIGHTS
from tokenschain.infra.moderation_packs import character_tables
from tokenschain.semantic import synthetic_questions

DATA = Path(__file__).parents[1] / "src" / "tokenschain" / "data"
BENIGN = 12_000
ITERATIONS = 120
DECAY = 3e-6
"""Of the weights (L2): chosen by the accuracy on the development part."""
RATE = 0.05
_TOPICS = ("race", "region", "gender")


class Post(NamedTuple):
    text: str
    label: int
    topic: str


class Grams:
    """The n-grams of many texts, in one array."""

    def __init__(self, texts: Sequence[str], normalizer: Normalizer) -> None:
        each = [np.concatenate(n_grams(normalizer.normal(text))) for text in texts]
        self.sizes = np.array([len(grams) for grams in each])
        self.hashes = np.concatenate(each)
        self.document = np.repeat(np.arange(len(each)), self.sizes)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])

    def buckets(self, bits: int) -> npt.NDArray[np.int64]:
        return (self.hashes >> np.uint32(32 - bits)).astype(np.int64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--data", type=Path, required=True, help="folder of `cold_train.csv`")
    parser.add_argument("--write", type=Path, default=DATA / WEIGHTS)
    given = parser.parse_args()
    normalizer = Normalizer(character_tables().simplified)
    posts = read_posts(given.data / "cold_train.csv")
    texts = [post.text for post in posts] + benign_texts(random.Random(20))
    labels = np.zeros(len(texts))
    labels[: len(posts)] = [post.label for post in posts]
    grams = Grams(texts, normalizer)
    table, bias = fit(grams, labels)
    topics = _topics(grams, posts)
    np.savez_compressed(given.write, bias=bias, **_steps("table", "scale", table),
                        **_steps("topics", "topic_scale", topics))  # fmt: skip
    print(f"{len(posts)} posts, {len(texts) - len(posts)} harmless texts, "
          f"{np.count_nonzero(table)} weights, {given.write.stat().st_size} bytes")  # fmt: skip


class _Raw(argparse.RawDescriptionHelpFormatter):
    pass


def read_posts(path: Path) -> list[Post]:
    """Posts of one part of COLDataset."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return [
            Post(row.get("TEXT") or row["text"], int(row["label"]), row["topic"])
            for row in csv.DictReader(file)
        ]


def benign_texts(pick: random.Random) -> list[str]:
    """Harmless texts of our own, each once."""
    found = [sentence(pick, numbers=at % 6 == 0) for at in range(BENIGN)]
    faq = yaml.safe_load((DATA / "faq_zh.yaml").read_text("utf-8"))
    found += [way for domain in faq.values() for ways in domain for way in ways]
    found += [way for topic in synthetic_questions.TOPICS for way in topic if "{" not in way]
    return list(dict.fromkeys(found))


def fit(grams: Grams, labels: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], float]:
    """Weights by bucket, and the bias."""
    buckets, size = grams.buckets(TABLE_BITS), 1 << TABLE_BITS
    told = _ratio(buckets, labels[grams.document], size)
    length = 1 / np.sqrt(_counted(grams.sizes))
    given = (told[buckets] * length[grams.document]).astype(np.float32)
    learned, step = np.zeros(size + 1, np.float32), Adam(size + 1)
    for _ in range(ITERATIONS):
        scores = np.add.reduceat(learned[buckets] * given, grams.starts) + learned[size]
        wrong = (1 / (1 + np.exp(-scores)) - labels) / len(labels)
        slope = np.zeros(size + 1, np.float32)
        slope[:size] = np.bincount(buckets, wrong[grams.document] * given, size)
        slope[:size] += DECAY * learned[:size]
        slope[size] = wrong.sum()
        learned -= step.of(slope)
    return (learned[:size] * told).astype(np.float32), float(learned[size])


class Adam:
    """Step sizes by gradient (Kingma and Ba, 2015), with the usual constants."""

    def __init__(self, size: int) -> None:
        self._mean, self._square = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._steps = 0

    def of(self, slope: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self._steps += 1
        self._mean = 0.9 * self._mean + 0.1 * slope
        self._square = 0.999 * self._square + 0.001 * slope * slope
        mean = self._mean / (1 - 0.9**self._steps)
        square = self._square / (1 - 0.999**self._steps)
        step: npt.NDArray[np.float32] = RATE * mean / (np.sqrt(square) + 1e-8)
        return step


def _counted(sizes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What a text's length counts as: the classifier counts places, each with all its n-grams."""
    return sizes + GRAM_CHARACTERS_MAX * (GRAM_CHARACTERS_MAX - 1) // 2


def _ratio(
    buckets: npt.NDArray[Any], positive: npt.NDArray[Any], size: int
) -> npt.NDArray[np.float32]:
    """How much each bucket tells the classes apart."""
    one = np.bincount(buckets, positive, size) + 1
    other = np.bincount(buckets, 1 - positive, size) + 1
    ratio: npt.NDArray[np.float32] = np.abs(np.log(one / one.sum() * other.sum() / other))
    return ratio.astype(np.float32)


def _topics(grams: Grams, posts: Sequence[Post]) -> npt.NDArray[np.float32]:
    """By topic, the log-count ratio of each bucket: whether it speaks for it."""
    buckets, size = grams.buckets(TOPIC_BITS), 1 << TOPIC_BITS
    names = np.array([post.topic for post in posts] + [""] * (len(grams.sizes) - len(posts)))
    found = []
    for topic in _TOPICS:
        of = (names == topic)[grams.document]
        one = np.bincount(buckets, of, size) + 1
        other = np.bincount(buckets, ~of, size) + 1
        found.append(np.log(one / one.sum() * other.sum() / other))
    return np.array(found, np.float32)


def _steps(table: str, scale: str, weights: npt.NDArray[np.float32]) -> dict[str, Any]:
    step = float(np.abs(weights).max()) / 127
    return {table: np.round(weights / step).astype(np.int8), scale: step}


if __name__ == "__main__":
    main()
