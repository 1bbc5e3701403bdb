"""Trains the semantic cache's verifier, and says how well it ranks questions that it has not seen.

    python -m bench.verifier --data FOLDER             # leave one source out, train, write
    python -m bench.verifier --data FOLDER --streams   # streams of calls, without their source
    python -m bench.verifier --data FOLDER --check     # fails where it ranks worse than a cosine
    python -m bench.verifier --data FOLDER --centre    # the mean of the fast embedder's vectors

The figures are of leaving one source out: each set is weighed by a verifier that was trained
without it, and our own synthetic ones are left out together. Sources: our own
(`semantic.synthetic_questions`, `semantic.synthetic_faq`, guard pairs) and public sets whose
licences allow training: Banking77 and CLINC150 (CC BY), bitext (CDLA-Sharing), GPTCache's mock
pairs (MIT), PAWS-X (free with acknowledgement to Google), fow-cache's pairs (CC BY 4.0). LCQMC and
BQ are for measuring only. The weights hold none of the texts.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tokenschain.core.cache.key import normal
from tokenschain.semantic import synthetic_faq, synthetic_questions
from tokenschain.semantic.embedders import Embedders, Flags, Vectors, fast_mean, likeness
from tokenschain.semantic.evaluation import (
    CALLS,
    EmbeddingCache,
    PairSet,
    Scores,
    StreamCall,
    auc,
    chinese_faq_stream,
    intent_stream,
    rank,
    run,
    score,
)
from tokenschain.semantic.guards import Guards
from tokenschain.semantic.verifier import EVIDENCE, VETOED, Matrix, Verifier, is_english

DATA = Path(__file__).parent.parent / "src/tokenschain/data"
OUT, ENGLISH_OUT = DATA / "verifier.json", DATA / "english_mean.json"
FAST_MEAN_OUT = DATA / "fast_mean.json"
INTENTS = {"banking77": 2_000, "bitext": 700, "clinc150": 1_100}
"""Texts of each set of intents."""
PAIRS_MAX = 3_000
"""Of each source."""
SYNTHETIC = 400
OTHERS = {"gptcache_mock": 100, "pawsx_zh": 500, "guardpairs": 1_005, "fow_pairs": 284}
MEASURED = ("lcqmc_dev", "bq_dev")
OWN = ("faq", "web", "synthetic", "rules")
NATURAL = ("lcqmc_dev", "bq_dev", "banking77", "clinc150", "bitext", "faq", "web")
TRAPS = ("guardpairs", "fow_pairs")
TRAPS_MIN = 0.97
"""Area under the curve of all pairs of a trap set."""
RIDGE = {"e5": 2e-4, "use_en": 0.003, "use_zh": 0.003, "gist_en": 0.001, "use": 0.02}
RIDGE_VETOED, RIDGE_OTHERS = 0.05, 0.03
"""The better cosine is the anchor: other evidence has to be strong to move what it says."""
NEWTON_STEPS = 40
WORSE_BY_MAX = 0.002
"""Area under the curve that is within the noise."""
ENGLISH_MIN = 50
"""Texts of a source from which it counts in the mean of English questions."""
FIFTHS = 5
SEEDS = (1, 2, 3)


class Source(NamedTuple):
    """A set of pairs, weighed."""

    pairs: PairSet
    scores: Scores
    """By the shipped verifier where it is checked."""
    evidence: Matrix
    kept: Any
    """Which pairs the guards let pass."""
    open: Any
    """Which pairs no veto settles: those that are ranked."""
    english: Flags
    fine: tuple[Vectors, Vectors]
    """Of both sides of each pair."""
    centre: Vectors | None
    """The mean of its English questions, where there are enough."""

    def evidence_with(self, mean: Vectors) -> Matrix:
        """The evidence, had English questions another mean."""
        found = self.evidence.copy()
        found[:, list(EVIDENCE).index("e5")] = likeness(*self.fine, self.english, mean)
        return found


def main() -> None:
    """Train, say how well, write; or check, or measure the mean."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep-embeddings", type=Path, help="Folder to keep them in.")
    parser.add_argument(
        "--check", action="store_true", help="Fail where it ranks worse; write nothing."
    )
    parser.add_argument("--streams", action="store_true", help="Run streams; write nothing.")
    parser.add_argument("--calls", type=int, default=CALLS, help="Of a stream.")
    parser.add_argument("--centre", action="store_true", help="Measure and write the mean only.")
    given = parser.parse_args()
    if given.check and not (given.data / "lcqmc_dev.jsonl").exists():
        print(f"check-verifier: skipped, there are no development sets in {given.data}")
        return
    if given.centre:
        measure_fast_mean(given.data)
        return
    embeddings = EmbeddingCache(Embedders, given.keep_embeddings)
    verifier = Verifier.shipped() if given.check else untrained()
    found = {
        pairs.name: weighed(pairs, embeddings, verifier)
        for pairs in sources(given.data, embeddings)
    }
    if given.streams:
        show_streams(found, given.data, embeddings, given.calls)
        return
    rows = leave_one_out(found)
    show(found, rows)
    if given.check:
        faults = check(found, rows, verifier)
        print(
            "\n".join(faults) or "check-verifier: it ranks at least as well as cosines everywhere"
        )
        sys.exit(1 if faults else 0)
    weights, mean = train_without(found, ())
    OUT.write_text(json.dumps(weights, indent=1) + "\n", encoding="utf-8")
    write_mean(ENGLISH_OUT, mean)
    print(f"written: {OUT}, {ENGLISH_OUT}")


# --- sources --------------------------------------------------------------------------------


def sources(folder: Path, embeddings: EmbeddingCache) -> Iterable[PairSet]:
    """All that is there."""
    rng = random.Random(5)
    for name, texts in INTENTS.items():
        if (folder / f"{name}.jsonl").exists():
            yield of_intents(name, read(folder / f"{name}.jsonl"), texts, embeddings, rng)
    for name, most in OTHERS.items():
        if (folder / f"{name}.jsonl").exists():
            rows = read(folder / f"{name}.jsonl")
            rows = random.Random(7).sample(rows, min(most, len(rows)))
            pairs = [(r["a"], r["b"], bool(r["y"])) for r in rows]
            if all(same for *_, same in pairs):
                pairs += nearest_others(rows, embeddings)
            yield pair_set(name, pairs)
    yield pair_set("faq", sampled(synthetic_faq.faq_pairs(1), rng))
    yield pair_set("web", sampled(synthetic_faq.web_pairs(1), rng))
    yield pair_set("synthetic", sampled(synthetic_questions.pairs(1), rng)[:SYNTHETIC])
    yield pair_set("rules", sampled(synthetic_faq.rule_pairs(typed_texts(folder), 1), rng))
    for name in MEASURED:
        if (folder / f"{name}.jsonl").exists():
            yield pair_set(
                name, [(r["a"], r["b"], bool(r["y"])) for r in read(folder / f"{name}.jsonl")]
            )


def typed_texts(folder: Path) -> list[str]:
    """Texts that the rules of `paraphrases` are applied to."""
    rng = random.Random(11)
    found = [rng.choice(ways) for questions in synthetic_faq.faq().values() for ways in questions]
    for name, texts in (("banking77", 200), ("bitext", 80), ("clinc150", 120)):
        if (folder / f"{name}.jsonl").exists():
            rows = random.Random(7).sample(read(folder / f"{name}.jsonl"), INTENTS[name])
            found += [row["text"] for row in rows[:texts]]
    return found


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sampled(pairs: list[Any], rng: random.Random) -> list[tuple[str, str, bool]]:
    """At most `PAIRS_MAX` of them."""
    return [tuple(pair) for pair in rng.sample(pairs, min(PAIRS_MAX, len(pairs)))]


def pair_set(name: str, pairs: list[tuple[str, str, bool]]) -> PairSet:
    """Pairs under a name."""
    return PairSet(name, [(a, b) for a, b, _ in pairs], np.array([float(y) for *_, y in pairs]),
                   [""] * len(pairs))  # fmt: skip


def of_intents(
    name: str,
    rows: list[dict[str, Any]],
    count: int,
    embeddings: EmbeddingCache,
    rng: random.Random,
) -> PairSet:
    """Neighbours of the same intent, and near ones of others: hard ones on both sides."""
    rows = random.Random(7).sample(rows, min(count, len(rows)))
    texts = [r["text"] for r in rows]
    intents = np.array([r["intent"] for r in rows])
    vectors = embeddings.fine(texts)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -1)
    found: list[tuple[str, str, bool]] = []
    for at, text in enumerate(texts):
        if intents[at] == "oos":
            continue
        same = np.where(intents == intents[at], alike[at], -1)
        other = np.argsort(-np.where(intents != intents[at], alike[at], -1))
        for mate in np.argsort(-same)[[0, 2, 5]]:
            if same[mate] > 0 and texts[mate] != text:
                found.append((text, texts[mate], True))
        for foe in (other[0], other[rng.randrange(1, 4)], other[rng.randrange(4, 30)]):
            found.append((text, texts[foe], False))
    return pair_set(name, rng.sample(found, min(PAIRS_MAX, len(found))))


def nearest_others(
    rows: list[dict[str, Any]], embeddings: EmbeddingCache
) -> list[tuple[str, str, bool]]:
    """For each pair that says the same, the nearest that does not."""
    ones, others = [r["a"] for r in rows], [r["b"] for r in rows]
    alike = embeddings.fine(ones) @ embeddings.fine(others).T
    np.fill_diagonal(alike, -1)
    return [(a, others[int(foe)], False) for a, foe in zip(ones, alike.argmax(axis=1), strict=True)]


def weighed(pairs: PairSet, embeddings: EmbeddingCache, verifier: Verifier) -> Source:
    """A set with the evidence for its pairs."""
    scores = score(pairs, embeddings, verifier)
    kept = np.array([not why for why in scores.vetoed])
    facts = [(verifier.facts_of(a), verifier.facts_of(b)) for a, b in pairs.pairs]
    english = np.array([is_english(*both) for both in facts])
    texts = {text for pair in pairs.pairs for text in pair if is_english(verifier.facts_of(text))}
    centre = embeddings.fine(sorted(texts)).mean(axis=0) if len(texts) >= ENGLISH_MIN else None
    ones, others = (embeddings.fine([pair[side] for pair in pairs.pairs]) for side in (0, 1))
    return Source(
        pairs, scores, scores.evidence, kept, scores.settled == 0, english, (ones, others), centre
    )


def write_mean(path: Path, mean: Vectors) -> None:
    """As `embedders` reads it."""
    path.write_text(json.dumps([round(float(x), 4) for x in mean]), encoding="utf-8")


def measure_fast_mean(folder: Path) -> None:
    """Of as many Chinese as English questions: those of the sources."""
    zh = [way for questions in synthetic_faq.faq().values() for ways in questions for way in ways]
    zh += [way for group in synthetic_faq.web_questions() for way in group.ways]
    en = [row["text"] for name in INTENTS for row in read(folder / f"{name}.jsonl")[:700]]
    models = Embedders()
    mean = sum(models.fast_raw(texts).mean(axis=0) for texts in (zh, en)) / 2
    print(f"it moves by {np.linalg.norm(mean - fast_mean()):.4f}")
    write_mean(FAST_MEAN_OUT, mean)


# --- training -------------------------------------------------------------------------------


def train(found: list[Source], mean: Vectors) -> dict[str, Any]:
    """Logistic regression with signs, by Newton's method on the weights that are free to move.

    Each source has an intercept of its own while it learns, so that shares of pairs that ask the
    same, which are ours to choose, teach nothing; and all weigh alike, however large.
    """
    x = np.concatenate([one.evidence_with(mean)[one.open] for one in found])
    y = np.concatenate([one.pairs.same[one.open] for one in found])
    place = np.concatenate([np.full(int(one.open.sum()), at) for at, one in enumerate(found)])
    weight = np.concatenate(
        [np.full(int(one.open.sum()), 1 / one.open.sum() / len(found)) for one in found]
    )
    middle = np.average(x, axis=0, weights=weight)
    scale = np.sqrt(np.average((x - middle) ** 2, axis=0, weights=weight)) + 1e-2
    z = np.hstack([(x - middle) / scale, np.eye(len(found))[place]])
    sign = np.array([*EVIDENCE.values(), *([0] * len(found))])
    others = {name: RIDGE_VETOED if name in VETOED else RIDGE_OTHERS for name in EVIDENCE}
    ridge = np.array([*((others | RIDGE)[name] for name in EVIDENCE), *[1e-5] * len(found)])
    w = np.zeros(z.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1 / (1 + np.exp(-z @ w))
        slope = z.T @ (weight * (p - y)) + ridge * w
        curve = (z * (weight * p * (1 - p))[:, None]).T @ z + np.diag(ridge)
        free = ~((w == 0) & (sign != 0) & (slope * sign > 0))
        step = np.zeros_like(w)
        step[free] = np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        w = np.where((sign != 0) & ((w - step) * sign < 0), 0.0, w - step)
    own = w[: len(EVIDENCE)] / scale
    # One intercept for all: the middle of the sources' own.
    intercept = float(np.median(w[len(EVIDENCE) :]) - own @ middle)
    return {"evidence": {name: round(float(v), 5) for name, v in zip(EVIDENCE, own, strict=True)},
            "intercept": round(intercept, 5)}  # fmt: skip


def untrained() -> Verifier:
    """Finds evidence, before there are weights for it."""
    return Verifier({"evidence": EVIDENCE, "intercept": 0.0}, Guards.shipped())


def train_without(
    found: dict[str, Source], left_out: tuple[str, ...]
) -> tuple[dict[str, Any], Vectors]:
    """Weights, and the mean of English questions, of all but some sources and what is measured;
    in the mean, too, all sources weigh alike."""
    rest = [one for name, one in found.items() if name not in (*left_out, *MEASURED)]
    mean = np.mean([one.centre for one in rest if one.centre is not None], axis=0)
    return train(rest, mean), mean


def trained_without(found: dict[str, Source], name: str) -> tuple[Verifier, Vectors]:
    """A verifier and a mean that have not seen a source, nor ours where it is one of them."""
    weights, mean = train_without(found, OWN if name in OWN else (name,))
    return Verifier(weights, Guards.shipped()), mean


def leave_one_out(found: dict[str, Source]) -> dict[str, Matrix]:
    """Of each source, what a verifier that was trained without it says."""
    said = {}
    for name, one in found.items():
        trained, mean = trained_without(found, name)
        said[name] = np.where(one.open, trained.probability(one.evidence_with(mean)), 0.0)
    return said


# --- what came of it ------------------------------------------------------------------------


def show(found: dict[str, Source], said: dict[str, Matrix]) -> None:
    """A table: areas under the curve of all pairs and of those that the guards let pass, what these
    rule out, and what would be served at a probability of one half."""
    print("| source | pairs | cosine | and vetoes | ours | let pass: cosine | ours | "
          "ruled out: same | other | served: same | other |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, one in found.items():
        same, kept, ours = one.pairs.same, one.kept, said[name]
        ranking = rank(one.pairs, one.scores)
        out = [float((~kept)[same == y].mean()) for y in (1, 0)]
        served = [float((kept & (ours >= 0.5))[same == y].mean()) for y in (1, 0)]
        print(f"| {name} | {len(same):,} | {ranking.cosine:.3f} | {ranking.cosine_vetoed:.3f} | "
              f"{auc(ours, same):.3f} | {auc(one.scores.cosine[kept], same[kept]):.3f} | "
              f"{auc(ours[kept], same[kept]):.3f} | {out[0]:.1%} | {out[1]:.1%} | "
              f"{served[0]:.1%} | {served[1]:.1%} |")  # fmt: skip


def show_streams(
    found: dict[str, Source], data: Path, embeddings: EmbeddingCache, calls: int
) -> None:
    """A table of streams, each weighed by a verifier that has not seen its source."""
    makers: dict[str, Callable[[int], list[StreamCall]]] = {
        "faq": lambda seed: chinese_faq_stream(seed, calls)
    }
    if (data / "banking77.jsonl").exists():
        makers["banking77"] = lambda seed: intent_stream(
            data / "banking77.jsonl", data / "clinc150.jsonl", seed, calls
        )
    print("| stream | seed | exact | hits | oracle | of its gain | wrong | undecided | first hit |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, make in makers.items():
        verifier, embeddings.english_mean = trained_without(found, name)
        for seed in SEEDS:
            stream = make(seed)
            embeddings.need([normal(asked.text) for asked in stream])
            ran = run(stream, embeddings, verifier, seed)
            print(f"| {name} | {seed} | {ran.exact_alone / calls:.1%} | {ran.hits:.1%} | "
                  f"{ran.repeated / calls:.1%} | {ran.gained:.0%} | {ran.false_hit_rate:.2%} | "
                  f"{ran.undecided} | {ran.first_hit:,} |", flush=True)  # fmt: skip


def check(found: dict[str, Source], said: dict[str, Matrix], verifier: Verifier) -> list[str]:
    """What is worse than it must be; the measured sets are weighed by the shipped verifier.

    Natural sets are judged as a whole, and by what the guards let pass: their labels call pairs
    the same whose amounts, dates or names differ, which a cache must keep apart.
    """
    faults = []
    for name, one in found.items():
        same, cosine, kept = one.pairs.same, one.scores.cosine, one.kept
        ours = one.scores.ranked if name in MEASURED else said[name]
        rivals = []
        if name in NATURAL:
            rivals.append(("a cosine, of what guards let pass", kept, cosine))
            rivals.append(("a cosine", np.full(len(kept), True), cosine))
        if name in TRAPS:
            faults += trap_faults(name, one, ours)
        for rival, among, value in rivals:
            mine, least = auc(ours[among], same[among]), auc(value[among], same[among])
            if mine < least - WORSE_BY_MAX:
                faults.append(f"check-verifier: {name}: {mine:.3f}, {rival} has {least:.3f}")
    natural = [one for name, one in found.items() if name in NATURAL]
    return faults + monotone(natural, verifier)


def trap_faults(name: str, one: Source, ours: Matrix) -> list[str]:
    """What may be served is compared with a cosine and vetoes; and all pairs are ranked."""
    same, kept = one.pairs.same, one.kept
    served, least = (auc(np.where(kept, value, -1.0), same) for value in (ours, one.scores.cosine))
    faults = []
    if served < least - WORSE_BY_MAX:
        faults.append(f"check-verifier: {name}: {served:.3f}, a cosine and vetoes {least:.3f}")
    if auc(ours, same) < TRAPS_MIN:
        faults.append(f"check-verifier: {name}: {auc(ours, same):.3f}, must be {TRAPS_MIN}")
    return faults


def monotone(found: list[Source], verifier: Verifier) -> list[str]:
    """Whether more confidence means more that ask the same, and a higher cosine more confidence."""
    faults = []
    evidence = np.concatenate([one.evidence[one.kept] for one in found])
    same = np.concatenate([one.pairs.same[one.kept] for one in found])
    confidence = verifier.probability(evidence)
    parts = np.array_split(np.argsort(confidence, kind="stable"), FIFTHS)
    shares = [float(same[part].mean()) for part in parts]
    if shares != sorted(shares):
        faults.append(f"check-verifier: shares that ask the same, by confidence: {shares}")
    for at, name in enumerate(EVIDENCE):
        if name in ("e5", "use"):
            nearer = evidence.copy()
            nearer[:, at] += 0.01
            if (verifier.probability(nearer) < confidence).any():
                faults.append(f"check-verifier: a higher {name} lowers the confidence")
    return faults


if __name__ == "__main__":
    main()
