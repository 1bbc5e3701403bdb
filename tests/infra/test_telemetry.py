"""Metrics of a gateway worker: what is counted, and how many labels there may be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.records import record
from tokenschain.core.call_record import AttemptRecord
from tokenschain.infra import telemetry
from tokenschain.infra.telemetry import GatewayMetrics, Gauges


def sample(text: str, name: str, **labels: str) -> float:
    """The value of one series, whatever the order of its labels."""
    for line in text.splitlines():
        found = re.fullmatch(rf"tokenschain_{name}{{(.*)}} (\S+)", line)
        if found and dict(re.findall(r'(\w+)="([^"]*)"', found[1])) == {"worker": "0", **labels}:
            return float(found[2])
    return 0.0


def made(tmp_path: Path, gauges: Gauges | None = None) -> GatewayMetrics:
    return GatewayMetrics(
        "0", tmp_path, lambda: gauges or {}, {"known"}.__contains__, {"breaker_open": 2}
    )


def attempts(*outcomes: tuple[str, str]) -> list[AttemptRecord]:
    return [AttemptRecord(upstream, 0.0, None, 1.0, outcome) for upstream, outcome in outcomes]


def test_attempts_count_those_that_another_upstream_made_up_for(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    for number in range(3):
        metrics.observe(record(number, upstream="b", attempts=attempts(("b", "ok"))))
    rescued = attempts(("a", "upstream_unreachable"), ("b", "ok"))
    metrics.observe(record(3, upstream="b", attempts=rescued))
    failed = attempts(("a", "upstream_timeout"), ("b", "upstream_failed"))
    metrics.observe(record(4, upstream="b", outcome="upstream_failed", attempts=failed))
    text = metrics.text().decode()
    assert sample(text, "attempts_total", upstream="b", outcome="ok") == 4
    assert sample(text, "attempts_total", upstream="b", outcome="upstream_failed") == 1
    for outcome in ("upstream_unreachable", "upstream_timeout"):
        assert sample(text, "attempts_total", upstream="a", outcome=outcome) == 1
    assert sample(text, "log_events_total", event="breaker_open") == 2


def test_look_ups_of_the_cache_are_told_apart(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    for number, cache in enumerate(["hit-exact", "hit-exact", "hit-semantic", "miss", "bypass"]):
        metrics.observe(record(number, model_asked="known", cache=cache))
    text = metrics.text().decode()
    for tier, outcome, count in [("exact", "hit", 2), ("semantic", "hit", 1), ("", "miss", 1),
                                 ("", "bypass", 1)]:  # fmt: skip
        labels = {"model": "known", "tier": tier, "outcome": outcome}
        assert sample(text, "cache_lookups_total", **labels) == count, labels


def test_names_that_callers_make_up_are_one_label(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    for number in range(200):
        metrics.observe(
            record(number, model_asked=f"made\tup-{number}", model_served="", upstream="",
                   outcome="model_not_found")
        )  # fmt: skip
    metrics.observe(record(200, model_asked="known", model_served="", upstream="",
                           outcome="rate_limit_exceeded"))  # fmt: skip
    text = metrics.text().decode()
    assert "up-1" not in text
    assert set(re.findall(r'model="([^"]*)"', text)) == {"other", "known"}


def test_models_and_upstreams_of_tenants_own_are_counted_together(tmp_path: Path) -> None:
    metrics = made(tmp_path, {"upstream_in_flight": {"acme/a": 1.0, "acme/b": 2.0, "b": 3.0}})
    for number in range(9):
        metrics.observe(
            record(number, model_asked=f"mine-{number}", model_served="m", outcome="upstream_failed",
                   upstream=f"acme/{number}", attempts=attempts((f"acme/{number}", "upstream_failed")))
        )  # fmt: skip
    text = metrics.text().decode()
    assert "acme" not in text and "mine" not in text
    assert sample(text, "attempts_total", upstream="own", outcome="upstream_failed") == 9
    assert sample(text, "upstream_in_flight", upstream="own") == 3


def test_upstreams_beyond_the_bound_are_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "_UPSTREAMS_MAX", 10)
    text = made(tmp_path, {"upstream_in_flight": {f"u{n:02}": 1.0 for n in range(25)}}).text()
    found = re.findall(r'upstream="([^"]*)"', text.decode())
    assert len(found) == 11
    assert sample(text.decode(), "upstream_in_flight", upstream="other") == 15


def test_waits_are_counted_by_priority(tmp_path: Path) -> None:
    metrics = made(tmp_path)
    metrics.waited("bulk", 4.0)
    metrics.waited("interactive", 0.02)
    text = metrics.text().decode()
    assert sample(text, "queue_wait_seconds_sum", priority="bulk") == 4.0
    assert sample(text, "queue_wait_seconds_bucket", priority="interactive", le="0.05") == 1.0
