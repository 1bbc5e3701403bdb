"""Traces of calls: published ones, the platform's own journal or ledger, or synthetic.

Formats: Azure's LLM inference trace (CSV: TIMESTAMP, ContextTokens, GeneratedTokens; Splitwise,
ISCA 2024), Mooncake's and Alibaba Bailian's (JSON lines: timestamp, input_length, output_length,
hash_ids of 512- or 16-token blocks; FAST 2025), and segments of a gateway's journal.
"""

from __future__ import annotations

import csv
import math
import random
from bisect import bisect
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import msgspec
from sqlalchemy import select

from tokenschain.core.call_record import CallRecord
from tokenschain.infra import journal
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import ledger

PROMPT_TOKENS_MAX = 120_000
LEDGER_CALLS_MIN = 10


class Arrival(NamedTuple):
    """One call as a trace tells it."""

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    """Hashes of the prompt's blocks, for prefix caches."""
    block_tokens: int = 512
    priority: str = "interactive"
    tenant: str = "a"
    question: int = 0
    """What is asked, where others ask it, too; 0: something of its own."""
    wording: int = 0
    """In which words."""


class _Line(msgspec.Struct):
    timestamp: float
    input_length: int
    output_length: int
    hash_ids: list[int] = []


def load(path: Path) -> list[Arrival]:
    """Read a trace by its form; a folder is a journal's, with all segments below it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is of no known form, damaged, or holds no calls.
    """
    read = _journal if path.is_dir() else _READERS.get(path.suffix)
    if read is None:
        raise ValueError(
            f"{path}: a trace is a .csv (Azure), a .jsonl (Mooncake, Bailian), or a .segment of a "
            "journal or a folder of such"
        )
    try:
        found = read(path)
    except KeyError as error:
        raise ValueError(f"{path}: there is no column {error}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    if not found:
        raise ValueError(f"{path}: there are no calls in it")
    return found


def _azure(path: Path) -> list[Arrival]:
    found: list[Arrival] = []
    start: datetime | None = None
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["TIMESTAMP"][:26])
            start = start or at
            found.append(
                Arrival(
                    (at - start).total_seconds(),
                    max(1, int(row["ContextTokens"])),
                    max(1, int(row["GeneratedTokens"])),
                )
            )
    return found


def _blocks(path: Path) -> list[Arrival]:
    lines = [
        msgspec.json.decode(line, type=_Line) for line in path.read_bytes().splitlines() if line
    ]
    # Mooncake counts milliseconds in blocks of 512 tokens, Bailian seconds in blocks of 16.
    blocks = max(1, sum(len(line.hash_ids) for line in lines))
    block_tokens = 512 if sum(line.input_length for line in lines) > 100 * blocks else 16
    unit = 1e-3 if block_tokens == 512 else 1.0
    return [
        Arrival(
            line.timestamp * unit,
            min(line.input_length, PROMPT_TOKENS_MAX),
            max(1, line.output_length),
            tuple(line.hash_ids),
            block_tokens,
        )
        for line in lines
    ]


def _journal(path: Path) -> list[Arrival]:
    files = sorted(path.rglob(f"*{journal.SUFFIX}")) if path.is_dir() else [path]
    decoder = msgspec.msgpack.Decoder(CallRecord)
    records = (decoder.decode(payload) for file in files for payload in journal.read_segment(file))
    # Calls that reached no upstream have no tokens to tell.
    called = sorted((r for r in records if r.prompt_tokens), key=lambda record: record.started_ms)
    return [
        Arrival(
            (record.started_ms - called[0].started_ms) / 1e3,
            min(record.prompt_tokens, PROMPT_TOKENS_MAX),
            max(1, record.completion_tokens),
            tenant=record.tenant,
        )
        for record in called
    ]


_READERS = {".csv": _azure, ".jsonl": _blocks, journal.SUFFIX: _journal}


def from_ledger(settings: Settings, calls: int) -> list[Arrival]:
    """The platform's own last calls, in order.

    Raises:
        ValueError: the ledger holds too few to say anything.
    """
    rows = ledger.c
    query = (
        select(rows.started_ms, rows.prompt_tokens, rows.completion_tokens, rows.tenant)
        .where(rows.prompt_tokens > 0)
        .order_by(rows.started_ms.desc())
        .limit(calls)
    )
    engine = db.connect(settings.database_url)
    try:
        with engine.connect() as connection:
            found = list(reversed(connection.execute(query).all()))
    finally:
        engine.dispose()
    if len(found) < LEDGER_CALLS_MIN:
        raise ValueError(f"the ledger holds {len(found)} calls; {LEDGER_CALLS_MIN} are needed")
    start = found[0].started_ms
    return [
        Arrival(
            (row.started_ms - start) / 1e3,
            row.prompt_tokens,
            max(1, row.completion_tokens),
            tenant=row.tenant,
        )
        for row in found
    ]


def synthetic(calls: int, seed: int) -> list[Arrival]:
    """Calls like a chat service's: bursty arrivals, log-normal lengths, shared beginnings.

    The medians are Azure's conversation trace's (1,020 tokens in, 129 out); the rest is ours.
    """
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    now, found = 0.0, []
    for _ in range(calls):
        now += rng.expovariate(1.0) * (0.2 if rng.random() < 0.5 else 1.8)
        prompt = int(min(8_000, max(20, rng.lognormvariate(6.9, 0.9))))
        output = int(min(1_500, max(2, rng.lognormvariate(4.9, 0.9))))
        shared = int(rng.paretovariate(1.2))
        blocks = (shared, shared + 1_000_000, *(rng.getrandbits(40) for _ in range(prompt // 512)))
        found.append(Arrival(now, prompt, output, blocks[: max(1, prompt // 512)]))
    return found


def window(trace: list[Arrival], calls: int, seed: int) -> list[Arrival]:
    """A stretch of a trace, another for each seed; it begins at 0."""
    most = max(0, len(trace) - calls)
    start = random.Random(seed).randrange(most + 1) if most else 0  # noqa: S311  # nosec B311  # to be repeated
    part = trace[start : start + calls]
    began = part[0].at_s
    return [arrival._replace(at_s=arrival.at_s - began) for arrival in part]


def at_rate(trace: list[Arrival], calls_per_s: float) -> list[Arrival]:
    """The same calls faster or slower."""
    span = max(trace[-1].at_s, 1e-9)
    factor = (len(trace) / calls_per_s) / span
    return [arrival._replace(at_s=arrival.at_s * factor) for arrival in trace]


def flash_sale(
    trace: list[Arrival], factor: float = 10.0, begins: float = 0.4, lasts: float = 0.2
) -> list[Arrival]:
    """A part of the trace in a tenth of its time; `begins` and `lasts` are shares of its span."""
    span = trace[-1].at_s
    start, end = begins * span, (begins + lasts) * span
    squeezed = (end - start) / factor

    def moved(at: float) -> float:
        if at < start:
            return at
        if at < end:
            return start + (at - start) / factor
        return at - (end - start) + squeezed

    return [arrival._replace(at_s=moved(arrival.at_s)) for arrival in trace]


SALE_FACTOR = 10.0
SALE_BEGINS, SALE_FULL, SALE_ENDS = 1.0, 1.2, 3.2
"""Of a day of `sale_day`, in shares of the time before it: traffic begins to grow, is ten times as
high, and is as before again."""
_USUAL, _SALE = range(1, 2_001), range(2_001, 2_301)
_WORDINGS = 8


def sale_day(
    trace: list[Arrival], seed: int, usual_share: float = 0.4, sale_share: float = 0.8
) -> list[Arrival]:
    """The trace's calls as on the day of a sale: a quiet time at the trace's mean rate, a steep
    climb to ten times as many calls, a plateau twice as long as the quiet time, and quiet again.

    In quiet times `usual_share` of the calls ask what others ask, too, in the sale `sale_share`:
    few questions, about delivery, coupons and returns, by Zipf's law, each in several wordings.
    Both shares are assumptions; there is no public trace of such a day.
    """
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    climb = (SALE_FULL - SALE_BEGINS) * (1 + SALE_FACTOR) / 2
    plateau = (SALE_ENDS - SALE_FULL) * SALE_FACTOR
    parts = 2 + climb + plateau
    quiet_s = trace[-1].at_s / parts

    def moved(share: float) -> float:
        """When as many calls have come, in shares of the quiet time."""
        come = share * parts
        if come < 1:
            return come
        if come < 1 + climb:
            slope = (SALE_FACTOR - 1) / (SALE_FULL - SALE_BEGINS)
            return SALE_BEGINS + (math.sqrt(1 + 2 * slope * (come - 1)) - 1) / slope
        if come < 1 + climb + plateau:
            return SALE_FULL + (come - 1 - climb) / SALE_FACTOR
        return SALE_ENDS + come - 1 - climb - plateau

    found = []
    for arrival in trace:
        at = moved(arrival.at_s / trace[-1].at_s)
        in_sale = SALE_BEGINS <= at < SALE_ENDS
        asked = arrival._replace(at_s=at * quiet_s)
        if rng.random() < (sale_share if in_sale else usual_share):
            asked = _asking(asked, rng, _SALE if in_sale else _USUAL)
        found.append(asked)
    return found


def usual_questions(calls: int, seed: int) -> list[Arrival]:
    """What was asked before a `sale_day`, as far as others ask it, too."""
    rng = random.Random(-seed)  # noqa: S311  # nosec B311  # to be repeated
    return [_asking(Arrival(0.0, 1, 1), rng, _USUAL) for _ in range(calls)]


def _asking(arrival: Arrival, rng: random.Random, questions: range) -> Arrival:
    question = questions[_drawn(rng, len(questions))]
    return arrival._replace(question=question, wording=1 + _drawn(rng, _WORDINGS))


def _drawn(rng: random.Random, count: int) -> int:
    """By Zipf's law."""
    weights = _zipf(count)
    return bisect(weights, rng.random() * weights[-1])


@cache
def _zipf(count: int) -> list[float]:
    return list(accumulate(1 / rank for rank in range(1, count + 1)))


def gamma_gaps(trace: list[Arrival], cv: float, seed: int) -> list[Arrival]:
    """The same calls at the same mean rate, the time between two of them drawn from a gamma
    distribution: bursts above a coefficient of variation of 1 (Poisson), even below."""
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    mean_s = trace[-1].at_s / max(1, len(trace) - 1)
    now, found = 0.0, []
    for arrival in trace:
        found.append(arrival._replace(at_s=now))
        now += rng.gammavariate(1 / cv**2, mean_s * cv**2)
    return at_rate(found, len(trace) / max(trace[-1].at_s, 1e-9))


def on_off(
    trace: list[Arrival], seed: int, on_share: float = 0.25, on_s: float = 8.0
) -> list[Arrival]:
    """The same calls at the same mean rate, all of them within times of a mean length `on_s` that
    are a share of the whole; Poisson within them, nothing between."""
    rng = random.Random(seed)  # noqa: S311  # nosec B311  # to be repeated
    rate = (len(trace) - 1) / max(trace[-1].at_s, 1e-9) / on_share
    now, left_s, found = 0.0, rng.expovariate(1 / on_s), []
    for arrival in trace:
        found.append(arrival._replace(at_s=now))
        gap_s = rng.expovariate(rate)
        while gap_s > left_s:
            gap_s -= left_s
            now += left_s + rng.expovariate(on_share / (on_s * (1 - on_share)))
            left_s = rng.expovariate(1 / on_s)
        now, left_s = now + gap_s, left_s - gap_s
    return at_rate(found, len(trace) / max(trace[-1].at_s, 1e-9))


def with_bulk(trace: Iterable[Arrival], bulk: list[Arrival]) -> list[Arrival]:
    """Two traces on top of each other, the second as bulk of another tenant."""
    marked = [a._replace(priority="bulk", tenant="b") for a in bulk]
    return sorted([*trace, *marked], key=lambda arrival: arrival.at_s)
