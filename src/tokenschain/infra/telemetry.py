"""Prometheus metrics of a gateway worker, counted from journal records.

Counting is a few additions to plain integers; Prometheus' own types are only
built at a scrape. Workers share a port, so whichever is scraped
answers for all: each leaves its counts in a file that the others read.
"""

from __future__ import annotations

import contextlib
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

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

_F = TypeVar("_F", CounterMetricFamily, HistogramMetricFamily)
SECONDS_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_MS_BOUNDS = tuple(b * 1e3 for b in SECONDS_BOUNDS)
_SERIES_MAX = 5_000
"""Distinct label sets kept; what comes beyond is counted under `other`."""
OWN = "own"
"""Label of models that tenants named themselves, and of their own upstreams."""


@dataclass(slots=True)
class _Series:
    """What is counted for one (api, model, upstream); its slots are written in a third of the
    instructions that a `Struct` takes."""

    outcomes: dict[str, int] = field(default_factory=dict)
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


class _Counts(msgspec.Struct):
    """One worker's counts, as left for its siblings."""

    worker: str
    series: dict[str, _Series] = {}
    gauges: dict[str, float] = {}


class GatewayMetrics(Collector):
    """Counts calls; renders its own and its siblings' counts."""

    def __init__(
        self,
        worker: str,
        folder: Path,
        gauges: Callable[[], dict[str, float]],
        serves: Callable[[str], bool] = lambda model: True,
    ) -> None:
        """
        Args:
            folder: where the workers of one gateway leave their counts.
            gauges: read at each scrape: connections, running calls, journal size.
            serves: whether the platform has a model of a name; a tenant's own are counted
                together, as are its own upstreams: tenants make as many as they like.
        """
        self._serves = serves
        self._counts = _Counts(worker)
        self._folder = folder
        self._gauges = gauges
        self._by_call: dict[tuple[str, str, str], _Series] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def observe(self, record: CallRecord) -> None:
        """Count one finished call."""
        key = (record.api, record.model_served and record.model_asked, record.upstream)
        series = self._by_call.get(key)
        if series is None:
            series = self._new_series(key)
        outcomes = series.outcomes
        outcome = record.outcome
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
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

    def _new_series(self, key: tuple[str, str, str]) -> _Series:
        api, model, upstream = key
        if model and not self._serves(model):
            model = OWN
        labels = "\t".join((api, model, OWN if "/" in upstream else upstream))
        named = self._counts.series
        if labels not in named and len(named) >= _SERIES_MAX:
            labels = "other\tother\tother"
        series = named.setdefault(labels, _Series())
        if len(self._by_call) >= 2 * _SERIES_MAX:
            self._by_call.clear()
        self._by_call[key] = series
        return series

    def leave(self) -> None:
        """Write this worker's counts where its siblings read them."""
        self._counts.gauges = self._gauges()
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
        labels = ["worker", "api", "model", "upstream"]

        def family(kind: type[_F], name: str, *more: str) -> _F:
            return kind(f"tokenschain_{name}", CALL_METRICS[name], labels=[*labels, *more])

        calls = family(CounterMetricFamily, "calls", "outcome")
        tokens = family(CounterMetricFamily, "tokens", "class")
        estimated = family(CounterMetricFamily, "usage_estimated_calls")
        cost = family(CounterMetricFamily, "cost", "currency")
        total = family(HistogramMetricFamily, "call_seconds")
        first = family(HistogramMetricFamily, "first_token_seconds")
        gauges: dict[str, GaugeMetricFamily] = {}
        for counts in self._all_counts():
            for name, value in counts.gauges.items():
                if name not in gauges:
                    gauges[name] = GaugeMetricFamily(
                        f"tokenschain_{name}", GAUGE_MEANINGS[name], labels=["worker"]
                    )
                gauges[name].add_metric([counts.worker], value)
            for joined, series in counts.series.items():
                at = [counts.worker, *joined.split("\t")]
                for outcome, count in series.outcomes.items():
                    calls.add_metric([*at, outcome], count)
                fresh = series.prompt_tokens - series.cached_tokens
                tokens.add_metric([*at, "input"], fresh)
                tokens.add_metric([*at, "cached_input"], series.cached_tokens)
                tokens.add_metric([*at, "output"], series.completion_tokens)
                estimated.add_metric(at, series.estimated)
                for currency, pico in series.cost_pico.items():
                    cost.add_metric([*at, currency], pico / 1e12)
                _add(total, at, series.total_buckets, series.total_ms / 1e3)
                _add(first, at, series.first_token_buckets, series.first_token_ms / 1e3)
        yield from (calls, tokens, estimated, cost, total, first, *gauges.values())

    def _all_counts(self) -> Iterator[_Counts]:
        yield self._counts
        for path in sorted(self._folder.glob("*.metrics")):
            if path.stem != self._counts.worker:
                try:
                    yield msgspec.msgpack.decode(path.read_bytes(), type=_Counts)
                except (OSError, msgspec.DecodeError):
                    continue


CALL_METRICS = {
    "calls": "Calls finished, by outcome.",
    "tokens": "Tokens metered, by class.",
    "usage_estimated_calls": "Calls whose usage the upstream did not give.",
    "cost": "Cost metered, in currency units.",
    "call_seconds": "Duration of a call, in seconds.",
    "first_token_seconds": "Time to the first token, in seconds.",
}
GAUGE_MEANINGS = {
    "connections": "Open connections of callers.",
    "running_calls": "Calls in progress.",
    "waiting_calls": "Calls that wait for an upstream with a free slot.",
    "cached_answers": "Cached answers in memory.",
    "cached_bytes": "Bytes of cached answers in memory.",
    "journal_unshipped_bytes": "Bytes of journal on disk that control has not acknowledged.",
    "snapshot_age_seconds": "Seconds since the last answer of control.",
    "resident_bytes": "Resident memory of the process, in bytes.",
}

CONTROL_METRICS = {
    "records_received": "Call records received from gateways, since this process started.",
    "records_entered": "Call records that were new and are in the ledger now, since it started.",
    "rejected_records": "Call records that the ledger could not take and that wait to be entered.",
}


class ControlMetrics(Collector):
    """What control says of itself; read at each scrape."""

    def __init__(self, received: int, entered: int, rejected: int) -> None:
        self._counters = {"records_received": received, "records_entered": entered}
        self._gauges = {"rejected_records": rejected}

    def text(self) -> bytes:
        """In Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        for name, count in self._counters.items():
            full = f"tokenschain_control_{name}"
            yield CounterMetricFamily(full, CONTROL_METRICS[name], value=count)
        for name, value in self._gauges.items():
            full = f"tokenschain_control_{name}"
            yield GaugeMetricFamily(full, CONTROL_METRICS[name], value=value)


def _add(
    family: HistogramMetricFamily, labels: list[str], buckets: list[int], total_s: float
) -> None:
    seen = 0
    cumulative = []
    for bound, count in zip((*map(str, SECONDS_BOUNDS), "+Inf"), buckets, strict=True):
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
