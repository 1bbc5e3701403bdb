"""Prometheus metrics of a gateway worker, counted from journal records.

Counting is a few additions to plain integers; Prometheus' own types are only
built at a scrape. Workers share a port, so whichever is scraped
answers for all: each leaves its counts in a file that the others read.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from tokenschain.core.call_record import CallRecord

SECONDS_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_MS_BOUNDS = tuple(b * 1e3 for b in SECONDS_BOUNDS)
_SERIES_MAX = 5_000
"""Distinct label sets kept; what comes beyond is counted under `other`."""
OWN = "own"
"""Label of models that tenants named themselves, and of their own upstreams."""
_UPSTREAMS_MAX = 1_000
"""Upstreams with figures of their own; what others add up to is that of `other`."""
OTHER = "other"
WAIT_BOUNDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 30, 300)
BYPASS = "bypass"
"""What the cache did for most calls: it is not counted, but what is left over."""

Gauges = dict[str, dict[str, float]]
"""Values by name, and by the values of its labels, with tabs in between."""


class Described(NamedTuple):
    """What a metric means, and its labels besides `worker`."""

    meaning: str
    labels: tuple[str, ...] = ()


@dataclass(slots=True)
class _Series:
    """What is counted for one (api, model, upstream); its slots are written in a third of the
    instructions that a `Struct` takes."""

    outcomes: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    cost_pico: dict[str, float] = field(default_factory=dict)
    """Floats, as Prometheus has them: a sum of integers may leave 64 bits, and then the file."""
    total_ms: float = 0.0
    total_buckets: list[int] = field(default_factory=lambda: [0] * (len(SECONDS_BOUNDS) + 1))
    first_token_ms: float = 0.0
    first_token_buckets: list[int] = field(default_factory=lambda: [0] * (len(SECONDS_BOUNDS) + 1))
    cached: dict[str, int] = field(default_factory=dict)
    """What the cache did, but for bypasses."""


@dataclass(slots=True)
class _Waits:
    """How long calls of one priority waited for an upstream."""

    total_s: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(WAIT_BOUNDS) + 1))


class _Counts(msgspec.Struct):
    """One worker's counts, as left for its siblings."""

    worker: str
    series: dict[str, _Series] = {}
    attempts: dict[str, int] = {}
    """By upstream and outcome; those are left out that answered a call at once (`series`)."""
    refusals: dict[str, int] = {}
    """By error code."""
    waits: dict[str, _Waits] = {}
    events: dict[str, int] = {}
    gauges: Gauges = {}


class GatewayMetrics(Collector):
    """Counts calls; renders its own and its siblings' counts."""

    def __init__(
        self,
        worker: str,
        folder: Path,
        gauges: Callable[[], Gauges],
        serves: Callable[[str], bool] = lambda model: True,
        events: Mapping[str, int] = {},
    ) -> None:
        """
        Args:
            folder: where the workers of one gateway leave their counts.
            gauges: read at each scrape; see `GAUGES`.
            serves: whether the platform has a model of a name; those that callers make up are
                `other`. A tenant's own are counted together, as are its own upstreams: tenants
                make as many as they like.
            events: of the log, by name; read at each scrape.
        """
        self._serves = serves
        self._counts = _Counts(worker)
        self._folder = folder
        self._gauges = gauges
        self._events = events
        self._by_call: dict[tuple[str, str, str], _Series] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def observe(self, record: CallRecord) -> None:
        """Count one finished call."""
        asked = record.model_asked
        if not record.model_served and asked and not self._serves(asked):
            asked = OTHER
        key = (record.api, asked, record.upstream)
        series = self._by_call.get(key)
        if series is None:
            series = self._new_series(key)
        outcome = record.outcome
        series.outcomes[outcome] += 1
        if outcome != "ok" or len(record.attempts) > 1:
            self._count_attempts(record)
        cache = record.cache
        if cache != BYPASS:
            if record.cache_reason:
                cache = f"{cache}:{record.cache_reason}"  # as `miss:learning`
            series.cached[cache] = series.cached.get(cache, 0) + 1
        series.prompt_tokens += record.prompt_tokens
        series.cached_tokens += record.cached_tokens
        series.completion_tokens += record.completion_tokens
        if record.usage_source == "estimated":
            series.estimated += 1
        if record.cost_pico:
            costs, currency = series.cost_pico, record.currency
            costs[currency] = costs.get(currency, 0.0) + record.cost_pico
        total = record.total_ms
        series.total_ms += total
        series.total_buckets[bisect_left(_MS_BOUNDS, total)] += 1
        first = record.first_token_ms
        if first is not None:
            series.first_token_ms += first
            series.first_token_buckets[bisect_left(_MS_BOUNDS, first)] += 1

    def refused(self, code: str) -> None:
        """Count a request that was refused before an upstream was asked.

        Args:
            code: of `core.errors`, of which there are so many.
        """
        refusals = self._counts.refusals
        refusals[code] = refusals.get(code, 0) + 1

    def _count_attempts(self, record: CallRecord) -> None:
        """Of a call that did not simply go well; one that did counts as one attempt that did."""
        counted = self._counts.attempts
        if record.error and not record.attempts:
            self.refused(record.error)
        for attempt in record.attempts:
            name = f"{_upstream_label(attempt.upstream)}\t{attempt.outcome}"
            counted[name] = counted.get(name, 0) + 1
        if record.outcome == "ok" and record.upstream:
            name = f"{_upstream_label(record.upstream)}\tok"
            counted[name] = counted.get(name, 0) - 1

    def waited(self, priority: str, wait_s: float) -> None:
        """Count a call that waited for an upstream with room, whether or not it got one."""
        waits = self._counts.waits.get(priority)
        if waits is None:
            waits = self._counts.waits[priority] = _Waits()
        waits.total_s += wait_s
        waits.buckets[bisect_left(WAIT_BOUNDS, wait_s)] += 1

    def _new_series(self, key: tuple[str, str, str]) -> _Series:
        api, model, upstream = key
        if model and model != OTHER and not self._serves(model):
            model = OWN
        labels = "\t".join((api, model, _upstream_label(upstream)))
        named = self._counts.series
        if labels not in named and len(named) >= _SERIES_MAX:
            labels = "\t".join((OTHER, OTHER, OTHER))
        series = named.setdefault(labels, _Series())
        if len(self._by_call) >= 2 * _SERIES_MAX:
            self._by_call.clear()
        self._by_call[key] = series
        return series

    def leave(self) -> None:
        """Write this worker's counts where its siblings read them."""
        self._counts.gauges = {name: _bounded(name, of) for name, of in self._gauges().items()}
        self._counts.events = dict(self._events)
        path = self._folder / f"{self._counts.worker}.metrics"
        partial = path.with_suffix(".part")
        partial.write_bytes(msgspec.msgpack.encode(self._counts))
        os.replace(partial, path)

    def text(self) -> bytes:
        """All workers' metrics in Prometheus' text format."""
        with contextlib.suppress(OSError):  # its siblings' counts are as old as they are
            self.leave()
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        counted = {name: _counter(name) for name in COUNTERS}
        timed = {name: _histogram(name) for name in HISTOGRAMS}
        gauges: dict[str, GaugeMetricFamily] = {}
        for counts in self._all_counts():
            worker = counts.worker
            for joined, series in counts.series.items():
                _add_series(counted, timed, [worker, *joined.split("\t")], series)
            for (upstream, outcome), number in _attempts(counts).items():
                counted["attempts"].add_metric([worker, upstream, outcome], number)
            for (model, tier, outcome), number in _cached(counts).items():
                counted["cache_lookups"].add_metric([worker, model, tier, outcome], number)
            for code, number in counts.refusals.items():
                counted["refused_requests"].add_metric([worker, code], number)
            for event, number in counts.events.items():
                counted["log_events"].add_metric([worker, event], number)
            for priority, waits in counts.waits.items():
                at = [worker, priority]
                _add(timed["queue_wait_seconds"], at, WAIT_BOUNDS, waits.buckets, waits.total_s)
            for name, values in counts.gauges.items():
                family = gauges.setdefault(name, _gauge(name))
                for joined, value in values.items():
                    family.add_metric([worker, *(joined.split("\t") if joined else ())], value)
        yield from (*counted.values(), *timed.values(), *gauges.values())

    def _all_counts(self) -> Iterator[_Counts]:
        yield self._counts
        for path in sorted(self._folder.glob("*.metrics")):
            if path.stem != self._counts.worker:
                try:
                    yield msgspec.msgpack.decode(path.read_bytes(), type=_Counts)
                except (OSError, msgspec.DecodeError):
                    continue


_BY_CALL = ("api", "model", "upstream")
COUNTERS = {
    "calls": Described("Calls finished, by outcome.", (*_BY_CALL, "outcome")),
    "attempts": Described(
        "Attempts at upstreams, those included that another upstream made up for.",
        ("upstream", "outcome"),
    ),
    "refused_requests": Described(
        "Requests refused before an upstream was asked, by error code; also those that were no "
        "calls.",
        ("reason",),
    ),
    "cache_lookups": Described(
        "What the response cache did for calls.", ("model", "tier", "outcome")
    ),
    "tokens": Described("Tokens metered, by class.", (*_BY_CALL, "class")),
    "usage_estimated_calls": Described("Calls whose usage the upstream did not give.", _BY_CALL),
    "cost": Described("Cost metered, in currency units.", (*_BY_CALL, "currency")),
    "log_events": Described("Events of the log, those included that it left out.", ("event",)),
}
HISTOGRAMS = {
    "call_seconds": Described("Duration of a call, in seconds.", _BY_CALL),
    "first_token_seconds": Described("Time to the first token, in seconds.", _BY_CALL),
    "queue_wait_seconds": Described(
        "Wait of calls that found no upstream with room, in seconds.", ("priority",)
    ),
}
GAUGES = {
    "connections": Described("Open connections of callers."),
    "running_calls": Described("Calls in progress."),
    "waiting_calls": Described("Calls that wait for an upstream with a free slot.", ("priority",)),
    "upstream_state": Described(
        "1 for the state that an upstream is in: closed, open, trial, resting or slow_start.",
        ("upstream", "state"),
    ),
    "upstream_breaker_open": Described(
        "Whether an upstream's circuit breaker is open.", ("upstream",)
    ),
    "upstream_in_flight": Described("Calls in progress at an upstream.", ("upstream",)),
    "upstream_concurrency_limit": Described(
        "Calls that an upstream is given at a time, as learned, over all its models.",
        ("upstream",),
    ),
    "upstream_keys": Described(
        "An upstream's keys by state: ready, cooling, exhausted, denied, dead or missing.",
        ("upstream", "state"),
    ),
    "retry_budget": Described("Retries that a model's calls may make at once.", ("model",)),
    "cached_answers": Described("Cached answers in memory."),
    "cached_bytes": Described("Bytes of cached answers in memory."),
    "journal_unshipped_bytes": Described(
        "Bytes of call records that wait on disk for control to acknowledge them."
    ),
    "snapshot_revision": Described("Revision of the configuration in force."),
    "snapshot_age_seconds": Described("Seconds since the last answer of control."),
    "resident_bytes": Described("Resident memory of the process, in bytes."),
    "access_log_dropped": Described(
        "Calls without a line in the access log, which could not be written fast enough."
    ),
}


def _upstream_label(upstream: str) -> str:
    return OWN if "/" in upstream else upstream


def _bounded(name: str, values: dict[str, float]) -> dict[str, float]:
    """Values of at most so many upstreams or models; the rest are added up, and so are those of
    tenants' own upstreams."""
    if GAUGES[name].labels[:1] == ("upstream",):
        values = _added_up(values, _upstream_label)
    if len(values) <= _UPSTREAMS_MAX or not GAUGES[name].labels:
        return values
    kept = {joined.split("\t")[0] for joined in sorted(values)[:_UPSTREAMS_MAX]}
    return _added_up(values, lambda one: one if one in kept else OTHER)


def _added_up(values: dict[str, float], label: Callable[[str], str]) -> dict[str, float]:
    """Values under other first labels."""
    found: dict[str, float] = {}
    for joined, value in values.items():
        first, tab, rest = joined.partition("\t")
        name = f"{label(first)}{tab}{rest}"
        found[name] = found.get(name, 0.0) + value
    return found


def _counter(name: str) -> CounterMetricFamily:
    labels = ["worker", *COUNTERS[name].labels]
    return CounterMetricFamily(f"tokenschain_{name}", COUNTERS[name].meaning, labels=labels)


def _histogram(name: str) -> HistogramMetricFamily:
    labels = ["worker", *HISTOGRAMS[name].labels]
    return HistogramMetricFamily(f"tokenschain_{name}", HISTOGRAMS[name].meaning, labels=labels)


def _gauge(name: str) -> GaugeMetricFamily:
    labels = ["worker", *GAUGES[name].labels]
    return GaugeMetricFamily(f"tokenschain_{name}", GAUGES[name].meaning, labels=labels)


def _add_series(
    counted: dict[str, CounterMetricFamily],
    timed: dict[str, HistogramMetricFamily],
    at: list[str],
    series: _Series,
) -> None:
    for outcome, count in series.outcomes.items():
        counted["calls"].add_metric([*at, outcome], count)
    tokens = counted["tokens"]
    tokens.add_metric([*at, "input"], series.prompt_tokens - series.cached_tokens)
    tokens.add_metric([*at, "cached_input"], series.cached_tokens)
    tokens.add_metric([*at, "output"], series.completion_tokens)
    counted["usage_estimated_calls"].add_metric(at, series.estimated)
    for currency, pico in series.cost_pico.items():
        counted["cost"].add_metric([*at, currency], pico / 1e12)
    total, first = timed["call_seconds"], timed["first_token_seconds"]
    _add(total, at, SECONDS_BOUNDS, series.total_buckets, series.total_ms / 1e3)
    _add(first, at, SECONDS_BOUNDS, series.first_token_buckets, series.first_token_ms / 1e3)


def _attempts(counts: _Counts) -> Counter[tuple[str, str]]:
    """Attempts by upstream and outcome: those of calls that went well at once, and the others."""
    found: Counter[tuple[str, str]] = Counter()
    for joined, number in counts.attempts.items():
        upstream, outcome = joined.split("\t")
        found[upstream, outcome] += number
    for joined, series in counts.series.items():
        upstream = joined.split("\t")[2]
        if upstream and series.outcomes.get("ok"):
            found[upstream, "ok"] += series.outcomes["ok"]
    return found


def _cached(counts: _Counts) -> Counter[tuple[str, str, str]]:
    """Look-ups by model, tier and outcome."""
    found: Counter[tuple[str, str, str]] = Counter()
    for joined, series in counts.series.items():
        model = joined.split("\t")[1]
        for how, number in series.cached.items():
            outcome, _, tier = how.partition("-")
            found[model, tier, outcome] += number
        left = sum(series.outcomes.values()) - sum(series.cached.values())
        if left:
            found[model, "", BYPASS] += left
    return found


def _add(
    family: HistogramMetricFamily,
    labels: list[str],
    bounds: Sequence[float],
    buckets: list[int],
    total_s: float,
) -> None:
    seen = 0
    cumulative = []
    for bound, count in zip((*map(str, bounds), "+Inf"), buckets, strict=True):
        seen += count
        cumulative.append((bound, float(seen)))
    family.add_metric(labels, cumulative, total_s)


def resident_bytes() -> int:
    """Resident memory of this process; 0 where it cannot be read."""
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
