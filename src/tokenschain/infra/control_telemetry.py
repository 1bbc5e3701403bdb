"""Prometheus metrics of a control process; its figures are read at each scrape."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tokenschain.infra.telemetry import Described

CONTROL_COUNTERS = {
    "records_received": Described(
        "Call records received from gateways, since this process started."
    ),
    "records_entered": Described(
        "Call records that were new and are in the ledger now, since it started."
    ),
    "log_events": Described("Events of the log, those included that it left out.", ("event",)),
}
CONTROL_GAUGES = {
    "rejected_records": Described(
        "Call records that the ledger could not take and that wait to be entered."
    ),
    "ledger_lag_seconds": Described(
        "Age of the oldest call record among those entered last, of the gateway furthest behind."
    ),
    "journal_backlog_bytes": Described(
        "Bytes of journal that gateways had still to ship when they shipped last."
    ),
    "revision": Described("Revision of the configuration that is published."),
    "database_up": Described("Whether the database answered when it was asked last."),
    "database_connections": Described("Connections to the database that are in use."),
    "database_connections_max": Described("Connections to the database there may be."),
    "gateway_processes": Described("Gateway processes that drew leases in the last minute."),
    "leases": Described("Leases of budgets that gateways hold."),
    "alerts_unsent": Described("Alerts that have still to reach a target."),
    "alerts_raised": Described("Alerts that were raised in the last 24 hours.", ("kind",)),
    "resident_bytes": Described("Resident memory of the process, in bytes."),
}

Figures = dict[str, float | Mapping[str, float]]
"""Values by name; of a metric with a label, by its values."""


class ControlMetrics(Collector):
    """What control says of itself."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def text(self) -> bytes:
        """In Prometheus' text format."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        for name, found in self._figures.items():
            full = f"tokenschain_control_{name}"
            family: CounterMetricFamily | GaugeMetricFamily
            if name in CONTROL_COUNTERS:
                described = CONTROL_COUNTERS[name]
                family = CounterMetricFamily(full, described.meaning, labels=described.labels)
            else:
                described = CONTROL_GAUGES[name]
                family = GaugeMetricFamily(full, described.meaning, labels=described.labels)
            for value, count in found.items() if isinstance(found, Mapping) else [((), found)]:
                family.add_metric([value] if value else [], count)
            yield family
