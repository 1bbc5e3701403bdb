"""Trains the semantic cache's verifier and writes its weights into the package.

    python -m bench.verifier --data FOLDER

Trained on the questions of `semantic.synthetic_questions` and on public sets whose licences
allow it:
Banking77 and CLINC150 (PolyAI and clinc/oos-eval, CC BY), bitext (CDLA-Sharing), GPTCache's mock
pairs (MIT), PAWS-X (free with acknowledgement to Google). The trap sets that `cache evaluate`
reports on, fow-cache's and the guard pairs, are left out. The weights hold none of the texts.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from tokenschain.semantic import synthetic_questions
from tokenschain.semantic.embedders import Embedders
from tokenschain.semantic.evaluation import EmbeddingCache
from tokenschain.semantic.guards import FEATURES, Guards
from tokenschain.semantic.verifier import Matrix, evidence_of

OUT = Path(__file__).parent.parent / "src/tokenschain/data/verifier.json"
HIDDEN, EPOCHS, RATE, DECAY = 16, 400, 0.01, 3e-3
TEXTS = 2_000
"""Of each set of intents."""
Pairs = list[tuple[str, str, bool]]


def main() -> None:
    """Train, say how well, write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep-embeddings", type=Path, help="Folder to keep them in.")
    given = parser.parse_args()
    embeddings = EmbeddingCache(Embedders, given.keep_embeddings)
    rng = random.Random(7)
    pairs: Pairs = [tuple(pair) for seed in (1, 2, 3) for pair in synthetic_questions.pairs(seed)]  # type: ignore[misc]
    for name in ("banking77", "bitext", "clinc150"):
        pairs += of_intents(given.data / f"{name}.jsonl", embeddings, rng)
    pairs += of_mock(given.data / "gptcache_mock.jsonl", embeddings)
    rows = [(r["a"], r["b"], bool(r["y"])) for r in read(given.data / "pawsx_zh.jsonl")]
    pairs += rng.sample(rows, min(500, len(rows)))
    rng.shuffle(pairs)
    x, y = evidence(pairs, embeddings)
    cut = len(x) * 4 // 5
    weights = train(x[:cut], y[:cut])
    print(f"{len(pairs)} pairs, {len(x)} without a veto, {y.mean():.0%} of them the same")
    print(f"held out: area under the curve {auc(apply(weights, x[cut:]), y[cut:]):.3f}")
    weights = train(x, y)
    OUT.write_text(json.dumps(weights), encoding="utf-8")
    print(f"written: {OUT}")


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def of_intents(path: Path, embeddings: EmbeddingCache, rng: random.Random) -> Pairs:
    """Neighbours of the same intent, and the nearest of another: hard ones on both sides."""
    rows = read(path)
    rows = rng.sample(rows, min(TEXTS, len(rows)))
    texts = [r["text"] for r in rows]
    intents = np.array([r["intent"] for r in rows])
    vectors = embeddings.fine(texts)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, -1)
    found: Pairs = []
    for at, text in enumerate(texts):
        same = np.where(intents == intents[at], alike[at], -1)
        other = np.where(intents != intents[at], alike[at], -1)
        near = np.argsort(-same)[:3]
        mate = int(rng.choice([int(n) for n in near]))
        if same[mate] > 0 and texts[mate] != text:
            found.append((text, texts[mate], True))
        foe = int(rng.choice([int(n) for n in np.argsort(-other)[:2]]))
        found.append((text, texts[foe], False))
    return found


def of_mock(path: Path, embeddings: EmbeddingCache) -> Pairs:
    """Pairs that say the same, and for each the nearest that does not."""
    rows = read(path)
    ones, others = [r["a"] for r in rows], [r["b"] for r in rows]
    alike = embeddings.fine(ones) @ embeddings.fine(others).T
    np.fill_diagonal(alike, -1)
    foes = alike.argmax(axis=1)
    found: Pairs = [(a, b, True) for a, b in zip(ones, others, strict=True)]
    return found + [(a, others[int(foe)], False) for a, foe in zip(ones, foes, strict=True)]


def evidence(pairs: Pairs, embeddings: EmbeddingCache) -> tuple[Matrix, Matrix]:
    """Evidence of the pairs that no veto settles, and which are the same."""
    ones, others = [a for a, _, _ in pairs], [b for _, b, _ in pairs]
    fine = (embeddings.fine(ones) * embeddings.fine(others)).sum(axis=1)
    fast = (embeddings.fast(ones) * embeddings.fast(others)).sum(axis=1)
    guards = Guards.shipped()
    rows, same = [], []
    for at, (a, b, y) in enumerate(pairs):
        facts = guards.facts_of(a), guards.facts_of(b)
        row, why = evidence_of(guards, *facts, float(fine[at]), float(fast[at]))
        if not why:
            rows.append(row)
            same.append(float(y))
    return np.array(rows), np.array(same)


def train(x: Matrix, y: Matrix) -> dict[str, Any]:
    """A network of one hidden layer, by Adam on the whole set."""
    rng = np.random.default_rng(3)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    z = (x - mean) / scale
    shapes = {"hidden": (x.shape[1], HIDDEN), "hidden_bias": (HIDDEN,), "out": (HIDDEN,),
              "out_bias": ()}  # fmt: skip
    w = {n: rng.normal(0, 0.3, s) if len(s) else np.array(0.0) for n, s in shapes.items()}
    first = {n: np.zeros_like(v) for n, v in w.items()}
    second = {n: np.zeros_like(v) for n, v in w.items()}
    for step in range(1, EPOCHS + 1):
        hidden = np.tanh(z @ w["hidden"] + w["hidden_bias"])
        p = 1 / (1 + np.exp(-(hidden @ w["out"] + w["out_bias"])))
        error = (p - y) / len(y)
        back = np.outer(error, w["out"]) * (1 - hidden**2)
        slopes = {"out": hidden.T @ error + DECAY * w["out"] / 10, "out_bias": error.sum(),
                  "hidden": z.T @ back + DECAY * w["hidden"] / 10,
                  "hidden_bias": back.sum(axis=0)}  # fmt: skip
        for name, slope in slopes.items():
            first[name] = 0.9 * first[name] + 0.1 * slope
            second[name] = 0.999 * second[name] + 0.001 * slope**2
            rate = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            w[name] = w[name] - rate * first[name] / (np.sqrt(second[name]) + 1e-8)
    shown = {n: np.round(v, 5).tolist() for n, v in w.items()}
    return {"features": list(FEATURES), "mean": np.round(mean, 5).tolist(),
            "scale": np.round(scale, 5).tolist(), **shown}  # fmt: skip


def apply(weights: dict[str, Any], x: Matrix) -> Matrix:
    """What a network says."""
    z = (x - np.array(weights["mean"])) / np.array(weights["scale"])
    hidden = np.tanh(z @ np.array(weights["hidden"]) + np.array(weights["hidden_bias"]))
    return np.asarray(1 / (1 + np.exp(-(hidden @ np.array(weights["out"]) + weights["out_bias"]))))


def auc(p: Matrix, y: Matrix) -> float:
    """Odds that a pair that is the same scores above one that is not."""
    order = p.argsort().argsort() + 1
    n = y.sum()
    return float((order[y == 1].sum() - n * (n + 1) / 2) / (n * (len(y) - n)))


if __name__ == "__main__":
    main()
