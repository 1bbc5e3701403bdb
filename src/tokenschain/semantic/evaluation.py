"""Evaluation of the semantic cache: hit rate and false hit rate, on pairs and on streams of calls.

Pairs say what a threshold could do at best; streams run the whole matcher, which learns its own.
A false hit is an answer to a question that asks something else.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tokenschain.core.cache.key import normal
from tokenschain.core.cache.store import CacheEntry
from tokenschain.core.snapshot.cache_rules import FALSE_HIT_RATE_MAX
from tokenschain.semantic import synthetic_faq, synthetic_questions
from tokenschain.semantic.embedders import Flags, Vectors, english_mean, likeness
from tokenschain.semantic.error_bound import ServingDecision, wilson
from tokenschain.semantic.index import LocalVectorStore
from tokenschain.semantic.matcher import Matcher, Models, answer_in
from tokenschain.semantic.verifier import EVIDENCE, VETOED, Matrix, Verifier, is_english

FALSE_HIT_RATES = (0.005, 0.01, 0.02)
GPTCACHE_COSINE, REDISVL_COSINE, PORTKEY_COSINE = 0.60, 0.80, 0.95
"""Their defaults as cosines (GPTCache: 4 - d² >= 3.2 on unit vectors; RedisVL's LangCache:
distance 0.2; Portkey's 0.95), here on our better embedder: their own are not in the wheels."""
CALLS, ONE_OFF, ZIPF = 12_000, 0.1, 0.9
DRIFT_AT = 0.5


class EmbeddingCache:
    """Embeddings, each made once; stands in for the models."""

    def __init__(self, models: Callable[[], Models], folder: Path | None = None) -> None:
        """
        Args:
            models: loaded when something has to be embedded.
            folder: to store embeddings in between runs.
        """
        self._load = models
        self.english_mean = english_mean()
        self._models: Models | None = None
        self._folder = folder
        self._places: dict[str, int] = {}
        self._fine: list[Any] = []
        self._fast: list[Any] = []
        if folder is not None and (folder / "texts.json").exists():
            texts = json.loads((folder / "texts.json").read_text(encoding="utf-8"))
            self._places = {text: at for at, text in enumerate(texts)}
            self._fine = list(np.load(folder / "fine.npy"))
            self._fast = list(np.load(folder / "fast.npy"))

    def need(self, texts: Sequence[str], done: Callable[[int], None] = lambda n: None) -> None:
        """Embed what is not known yet; `done` is told how many texts that were."""
        new = [text for text in dict.fromkeys(texts) if text not in self._places]
        done(len(texts) - len(new))
        for at in range(0, len(new), 64):
            part = new[at : at + 64]
            self._models = self._models or self._load()
            self._fine += list(self._models.fine(part))
            self._fast += list(self._models.fast(part))
            for text in part:
                self._places[text] = len(self._places)
            done(len(part))
        if new and self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / "texts.json").write_text(
                json.dumps(list(self._places), ensure_ascii=False), encoding="utf-8"
            )
            np.save(self._folder / "fine.npy", np.array(self._fine))
            np.save(self._folder / "fast.npy", np.array(self._fast))

    def to_scale(self, cosines: Vectors) -> Vectors:
        """See `Models.to_scale`."""
        return cosines

    def likeness(self, ones: Vectors, others: Vectors, english: Flags) -> Vectors:
        """See `Models.likeness`."""
        return likeness(ones, others, english, self.english_mean)

    def fine(self, texts: list[str]) -> Vectors:
        """See `Models.fine`."""
        self.need(texts)
        return np.array([self._fine[self._places[text]] for text in texts])

    def fast(self, texts: list[str]) -> Vectors:
        """See `Models.fast`."""
        self.need(texts)
        return np.array([self._fast[self._places[text]] for text in texts])


# --- pairs ----------------------------------------------------------------------------------


class PairSet(NamedTuple):
    """Labeled pairs of questions."""

    name: str
    pairs: list[tuple[str, str]]
    same: Matrix
    kinds: list[str]


def read_pairs(path: Path) -> PairSet:
    """A file of `{"a", "b", "y", "cat"}` lines."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line]
    return PairSet(
        path.stem,
        [(r["a"], r["b"]) for r in rows],
        np.array([float(r["y"]) for r in rows]),
        [str(r.get("cat", "")) for r in rows],
    )


class Scores(NamedTuple):
    """The score of each method for each pair; a method serves from a threshold on."""

    cosine: Matrix
    """Of the better embedder's vectors as they are."""
    unguarded: Matrix
    """Ours as if the guards ruled nothing out."""
    ours: Matrix
    """The verifier's probability; 0 where guards rule it out, which is never served."""
    ranked: Matrix
    """The same, but for what guards rule out and differs in more than that: see `Verifier`."""
    vetoed: list[tuple[str, ...]]
    settled: Matrix
    """1 where guards rule it out and nothing else differs."""
    evidence: Matrix
    """As the verifier weighs it."""


def score(found: PairSet, models: Models, verifier: Verifier) -> Scores:
    """Weigh all pairs."""
    ones, others = [a for a, _ in found.pairs], [b for _, b in found.pairs]
    facts = [(verifier.facts_of(a), verifier.facts_of(b)) for a, b in found.pairs]
    english = np.array([is_english(a, b) for a, b in facts])
    fine_ones, fine_others = models.fine(ones), models.fine(others)
    cosine = (fine_ones * fine_others).sum(axis=1)
    fine = models.likeness(fine_ones, fine_others, english)
    fast = (models.fast(ones) * models.fast(others)).sum(axis=1)
    compared = [
        verifier.compare(a, b, float(fine[at]), float(fast[at])) for at, (a, b) in enumerate(facts)
    ]
    evidence = np.array([one.evidence for one in compared])
    settled = np.array([float(one.settled) for one in compared])
    ranked = np.where(settled, 0.0, verifier.probability(evidence))
    ours = np.where([bool(one.vetoes) for one in compared], 0.0, ranked)
    unguarded = verifier.probability(np.where([name in VETOED for name in EVIDENCE], 0.0, evidence))
    vetoed = [one.vetoes for one in compared]
    return Scores(cosine.astype(float), unguarded, ours, ranked, vetoed, settled, evidence)


class MethodResult(NamedTuple):
    """One method on one set."""

    method: str
    served: float
    """Share of the pairs that ask the same that is served."""
    traps: float
    """Share of the others that is served: false hits."""
    served_at: tuple[float, ...]
    """Served at most at each of `FALSE_HIT_RATES`, with a threshold chosen in hindsight."""


def table(found: PairSet, scores: Scores) -> list[MethodResult]:
    """All methods on one set."""
    same = found.same
    methods = (
        ("GPTCache's default, cosine 0.60", scores.cosine, GPTCACHE_COSINE),
        ("RedisVL's default, cosine 0.80", scores.cosine, REDISVL_COSINE),
        ("Portkey's default, cosine 0.95", scores.cosine, PORTKEY_COSINE),
        ("ours without guards", scores.unguarded, 0.5),
        ("ours", scores.ours, 0.5),
    )
    return [
        MethodResult(
            method,
            *at(value, same, threshold),
            tuple(best(value, same, rate) for rate in FALSE_HIT_RATES),
        )
        for method, value, threshold in methods
    ]


def at(value: Matrix, same: Matrix, threshold: float) -> tuple[float, float]:
    """Shares of pairs served at a threshold: of those that ask the same, and of the others."""
    served = value >= threshold
    return float(served[same == 1].mean()), float(served[same == 0].mean())


def best(value: Matrix, same: Matrix, false_hit_rate_max: float) -> float:
    """The largest share of those that ask the same that a threshold serves within a limit."""
    order = np.argsort(-value, kind="stable")
    right, wrong = np.cumsum(same[order]), np.cumsum(1 - same[order])
    ends = np.append(value[order][:-1] != value[order][1:], True)
    fine = ends & (wrong <= false_hit_rate_max * (right + wrong)) & (value[order] > 0)
    return float(right[fine].max() / same.sum()) if fine.any() else 0.0


def at_traps(value: Matrix, same: Matrix, traps_max: float) -> tuple[float, float, float]:
    """The threshold that serves most with at most this share of traps, and what it serves."""
    found = (0.0, 0.0, 1.0)
    for threshold in np.unique(value[value > 0]):
        served, traps = at(value, same, float(threshold))
        if traps <= traps_max and served > found[0]:
            found = (served, traps, float(threshold))
    return found


def by_kind(
    found: PairSet, scores: Scores, threshold: float
) -> list[tuple[str, int, float, float]]:
    """Of each kind of trap: how many, wrong by cosine 0.95, wrong by ours."""
    rows = []
    for kind in sorted(set(found.kinds)):
        mask = np.array([k == kind for k in found.kinds]) & (found.same == 0)
        if mask.sum():
            rows.append(
                (kind, int(mask.sum()), float((scores.cosine[mask] >= PORTKEY_COSINE).mean()),
                 float((scores.ours[mask] >= threshold).mean()))
            )  # fmt: skip
    return rows


def roc(value: Matrix, same: Matrix) -> list[tuple[float, float]]:
    """Shares served at every threshold, from the highest: of the traps, and of the others."""
    order = np.argsort(-value, kind="stable")
    ends = np.append(value[order][:-1] != value[order][1:], True) & (value[order] > 0)
    right = np.cumsum(same[order])[ends] / max(1.0, same.sum())
    wrong = np.cumsum(1 - same[order])[ends] / max(1.0, (1 - same).sum())
    return [(0.0, 0.0), *zip(wrong.tolist(), right.tolist(), strict=True)]


class Ranking(NamedTuple):
    """How well methods rank the pairs of a set: areas under the ROC curve."""

    cosine: float
    cosine_vetoed: float
    """The cosine, with what the guards rule out ranked last."""
    ours: float
    """As the verifier ranks, see `Scores.ranked`."""


def rank(found: PairSet, scores: Scores) -> Ranking:
    """Of the pairs that no threshold tells apart, each counts half."""
    ruled_out = np.array([bool(why) for why in scores.vetoed])
    return Ranking(
        auc(scores.cosine, found.same),
        auc(np.where(ruled_out, -1.0, scores.cosine), found.same),
        auc(scores.ranked, found.same),
    )


def auc(value: Matrix, same: Matrix) -> float:
    """Odds that a pair that asks the same scores above one that does not; ties count half."""
    _, place, count = np.unique(value, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    yes = float(same.sum())
    no = len(same) - yes
    return float((ranks[same == 1].sum() - yes * (yes + 1) / 2) / max(1.0, yes * no))


def calibration(value: Matrix, same: Matrix, parts: int = 10) -> list[tuple[float, float]]:
    """A reliability diagram: of parts as large as each other, in order, how likely the pairs were
    said to ask the same, and how many do. What was ruled out is left out."""
    order = np.argsort(value[value > 0], kind="stable")
    said, true = value[value > 0][order], same[value > 0][order]
    return [
        (float(said[part].mean()), float(true[part].mean()))
        for part in np.array_split(np.arange(len(said)), parts)
        if len(part)
    ]


# --- streams --------------------------------------------------------------------------------


class StreamCall(NamedTuple):
    """One call of a stream."""

    text: str
    intent: str
    """Answers are the same where this is."""
    topic: str = ""
    """Of a question that is asked once: what it is about. Whether the answer to another one about
    the same would be right, the data do not say: such a hit counts neither as right nor as wrong.
    """


MONEY_TOPICS = frozenset((
    "account_blocked", "apr", "application_status", "balance", "bill_balance", "bill_due",
    "card_declined", "credit_limit", "credit_limit_change", "credit_score", "damaged_card",
    "direct_deposit", "exchange_rate", "expiration_date", "freeze_account",
    "improve_credit_score", "income", "insurance", "insurance_change", "interest_rate",
    "international_fees", "min_payment", "new_card", "order_checks", "pay_bill", "payday",
    "pin_change", "redeem_rewards", "replacement_card_duration", "report_fraud",
    "report_lost_card", "rewards_balance", "rollover_401k", "routing", "spending_history",
    "taxes", "transactions", "transfer", "w2",
))  # fmt: skip
"""Intents of CLINC150 whose questions are also asked in Banking77, under another name."""


def faq_stream(seed: int, calls: int = CALLS, *, drifts: bool = False) -> list[StreamCall]:
    """Synthetic questions to a service in Chinese and English: some asked often, most seldom."""
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    groups = synthetic_questions.groups()
    texts = {
        f"faq{number}": [synthetic_questions.dressed(rng.choice(g.ways), rng) for _ in range(12)]
        for number, g in enumerate(groups)
    }
    once = [f"{way} ({n})" for n, g in enumerate(groups) for way in g.ways]
    return _stream(texts, [(text, "") for text in once], rng, calls, drifts=drifts)


def chinese_faq_stream(seed: int, calls: int = CALLS, *, drifts: bool = False) -> list[StreamCall]:
    """Questions of a Chinese FAQ as people type them, and web questions that are asked once."""
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    once = [(text, "") for text in synthetic_faq.asked_once()]
    return _stream(synthetic_faq.variants(), once, rng, calls, drifts=drifts)


def intent_stream(
    path: Path, others: Path, seed: int, calls: int = CALLS, *, drifts: bool = False
) -> list[StreamCall]:
    """Questions by intent, from files of `{"text", "intent"}` lines.

    Args:
        others: whose texts are asked once; those of `MONEY_TOPICS` are left out, since `path` may
            ask the same.
    """
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    texts: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        texts.setdefault(row["intent"], []).append(row["text"])
    rows = [json.loads(line) for line in others.read_text(encoding="utf-8").splitlines()]
    once = [(r["text"], r["intent"]) for r in rows if r["intent"] not in MONEY_TOPICS]
    return _stream(texts, once, rng, calls, drifts=drifts)


def _stream(
    texts: dict[str, list[str]],
    once: list[tuple[str, str]],
    rng: random.Random,
    calls: int,
    *,
    drifts: bool,
) -> list[StreamCall]:
    """
    Args:
        once: texts that are asked once, as long as there are some, and their topics.
    """
    names = list(texts)
    rng.shuffle(names)
    for ways in texts.values():
        rng.shuffle(ways)
    rng.shuffle(once)
    weights = _zipf(len(names))
    weights_by_count = {count: _zipf(count) for count in {len(ways) for ways in texts.values()}}
    found = []
    for number in range(calls):
        if drifts and number == int(calls * DRIFT_AT):
            names.reverse()
        if rng.random() < ONE_OFF and once:
            text, topic = once.pop()
            found.append(StreamCall(text, f"once:{text}", topic))
            continue
        name = rng.choices(names, weights)[0]
        ways = texts[name]
        found.append(StreamCall(rng.choices(ways, weights_by_count[len(ways)])[0], name))
    return found


def _zipf(count: int) -> list[float]:
    return [1 / (rank + 1) ** ZIPF for rank in range(count)]


class StreamResult(NamedTuple):
    """What a stream got."""

    calls: int
    exact: int
    exact_alone: int
    """Hits of exact matching had there been no semantic tier: where there is one, a text that got a
    semantic hit is not stored."""
    semantic: int
    false_hits: int
    undecided: int
    """Hits of which the data do not say whether they are right."""
    checked: int
    repeated: int
    """Calls that ask what was asked before: the hits of an oracle."""
    first_hit: int
    """The call that got the first semantic hit; 0: none did."""

    @property
    def hits(self) -> float:
        """Share of the calls served from the cache."""
        return (self.exact + self.semantic) / self.calls

    @property
    def false_hit_rate(self) -> float:
        """Share of what was served that was wrong."""
        return self.false_hits / max(1, self._decided)

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of that (Wilson)."""
        return wilson(self.false_hit_rate, self._decided)

    @property
    def gained(self) -> float:
        """Hits over exact matching alone, as a share of what an oracle gains."""
        more = self.exact + self.semantic - self.exact_alone
        return more / max(1, self.repeated - self.exact_alone)

    @property
    def _decided(self) -> int:
        return self.exact + self.semantic - self.undecided


def run(
    stream: Sequence[StreamCall],
    models: Models,
    verifier: Verifier,
    seed: int,
    false_hit_rate_max: float = FALSE_HIT_RATE_MAX,
    comparison_error_rate: float = 0.0,
    warmed: Sequence[StreamCall] = (),
    done: Callable[[int], None] = lambda n: None,
) -> StreamResult:
    """Send a stream through exact matching and the matcher.

    Args:
        comparison_error_rate: how often comparing a cached and a fresh answer goes wrong.
        warmed: asked and answered beforehand.
    """
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    topics: dict[str, str] = {}

    def right(cached: str, fresh: str) -> bool | None:
        if cached != fresh and topics.get(cached) and topics[cached] == topics.get(fresh):
            return None
        return cached == fresh

    def compare(asked: str, cached: str, question: str, fresh: str) -> bool | None:
        found = right(cached, fresh)
        errs = rng.random() < comparison_error_rate
        return found if found is None else found ^ errs

    matcher = Matcher(models, verifier, rng.random, LocalVectorStore(2**30), compare, lambda: 0.0)
    exact: dict[str, str] = {}
    seen: set[str] = set()
    questions: set[str] = set()
    counts: Counter[str] = Counter()
    for number, asked in enumerate((*warmed, *stream)):
        counted = number >= len(warmed)
        counts["repeated"] += counted and asked.intent in seen
        seen.add(asked.intent)
        topics[asked.intent] = asked.topic
        question = normal(asked.text)
        counts["exact_alone"] += counted and question in questions
        questions.add(question)
        cached = exact.get(question)
        if cached is not None:
            matcher.error_bound_of("g").record_exact_hit()
            if counted:
                counts["exact"] += 1
                counts["false_hits"] += cached != asked.intent
            continue
        found = matcher.find(b"s", "g", question)
        if found.decision is ServingDecision.SERVE:
            assert found.entry is not None, "what is served is there"
            was = right(answer_in(found.entry), asked.intent)
            counts["semantic"] += counted
            counts["first_hit"] = counts["first_hit"] or number + 1
            counts["false_hits"] += counted and was is False
            counts["undecided"] += counted and was is None
        else:
            counts["checked"] += found.decision is ServingDecision.CHECK
            body = json.dumps({"choices": [{"message": {"content": asked.intent}}]}).encode()
            entry = CacheEntry(body, "t", "m", 0.0, 1e12, question=question)
            matcher.learn(b"s", "g", question.encode(), question, entry, false_hit_rate_max)
            exact[question] = asked.intent
        done(1)
    names = StreamResult._fields[1:]
    return StreamResult(len(stream), *(counts[name] for name in names))
