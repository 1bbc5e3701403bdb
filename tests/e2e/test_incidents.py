"""What docs/operations/incidents.md says of each kill is what log and metrics show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import web
from tests.faulty import FaultyClouds
from tests.servers import Postgres, RedisStack
from tests.stack import PRICES, Stack
from tests.waiting import until

CONTINUED_S = 10.0
"""Far below the 20 s that a poll of the configuration may wait for a change."""


class Incident:
    """A platform over two clouds, PostgreSQL and Redis, and what it says."""

    def __init__(self, folder: Path, postgres: Postgres, redis: RedisStack) -> None:
        self.clouds = FaultyClouds(2)
        self.stack = Stack(
            folder / "incidents", "http://unused", upstreams=self.clouds.upstreams(PRICES),
            routing={"policy": "cost-first", "explore": 0.0}, log_format="json",
            database={"url": postgres.database()}, redis={"url": redis.url},
        ).start()  # fmt: skip

    def call(self) -> bool:
        reply = web.post(
            f"{self.stack.url}/v1/chat/completions",
            json={"model": "m", "messages": [{"role": "user", "content": "x"}]},
            headers=self.stack.headers,
        )
        return reply.status_code == 200

    def lines(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """Lines of an event so far, with these fields."""
        found = []
        for text in self.stack.read_log().splitlines():
            if text.startswith("{") and f'"{event}"' in text:
                line = json.loads(text)
                if line["event"] == event and fields.items() <= line.items():
                    found.append(line)
        return found

    def until_said(self, event: str, before: int = 0, **fields: object) -> dict[str, Any]:
        """The next line of an event, while calls go on."""
        until(lambda: self.call() and len(self.lines(event, **fields)) > before)
        return self.lines(event, **fields)[-1]

    def figure(self, pattern: str) -> float:
        """One sample of the gateway's metrics."""
        found = re.search(rf"^{pattern} (\S+)$", self.stack.metrics(), re.MULTILINE)
        return float(found[1]) if found else 0.0


@pytest.fixture(scope="module")
def incident(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, redis: RedisStack
) -> Iterator[Incident]:
    redis.flush()
    made = Incident(tmp_path_factory.mktemp("incidents"), postgres, redis)
    yield made
    made.stack.close()
    made.clouds.close()


def test_a_healthy_start_warns_of_nothing_and_each_line_names_its_gateway(
    incident: Incident,
) -> None:
    assert incident.call()
    lines = [json.loads(li) for li in incident.stack.read_log().splitlines() if li[0] == "{"]
    assert [line for line in lines if line["level"] != "info"] == []
    assert {line["node"] for line in lines} == {incident.stack.settings.node_name}
    assert incident.lines("configuration_in_force")


def test_an_upstream_that_is_down(incident: Incident) -> None:
    incident.clouds.break_cloud(0, "refused")
    line = incident.until_said("breaker_open", upstream="cloud0")
    assert line["why"] == "upstream_unreachable" and "Connection refused" in line["detail"]
    assert line["failed"] == 3 and 0 < line["retry_in_s"] < 2
    assert incident.figure('tokenschain_upstream_breaker_open{upstream="cloud0",worker="0"}') == 1
    failed = (
        'tokenschain_attempts_total{outcome="upstream_unreachable",upstream="cloud0",worker="0"}'
    )
    assert incident.figure(failed) >= 3, "callers saw none of these"
    incident.clouds.break_cloud(0, "")
    assert incident.until_said("breaker_closed", upstream="cloud0")["open_s"] > 0
    assert incident.lines("breaker_half_open", upstream="cloud0")
    assert incident.figure('tokenschain_upstream_breaker_open{upstream="cloud0",worker="0"}') == 0


def test_control_that_is_killed(incident: Incident) -> None:
    stack, back = incident.stack, len(incident.lines("control_back"))
    stack.kill("control")
    lost = incident.until_said("control_lost")
    assert lost["why"] and "upstream" not in lost["why"] and lost["retry_in_s"] > 0
    paused = incident.until_said("shipping_paused")
    assert 0 <= paused["backlog_bytes"] < 1_000_000
    until(lambda: incident.figure('tokenschain_journal_unshipped_bytes{worker="0"}') > 0)
    stack.start("control")
    assert incident.until_said("shipping_resumed")["away_s"] > 0
    assert incident.until_said("control_back", back)["failed"] > 0
    until(lambda: incident.figure('tokenschain_snapshot_age_seconds{worker="0"}') < CONTINUED_S)


def test_redis_that_hangs(incident: Incident, redis: RedisStack) -> None:
    redis.pause()
    try:
        assert incident.until_said("redis_lost", level="warning")["retry_in_s"] > 0
    finally:
        redis.resume()
    assert incident.until_said("redis_back", failed=1)["level"] == "info"
    assert incident.figure('tokenschain_log_events_total{event="redis_lost",worker="0"}') >= 1


def test_a_database_that_hangs(incident: Incident, postgres: Postgres) -> None:
    postgres.pause()
    try:
        assert incident.until_said("database_lost")["process"] == "control"
        base = f"http://127.0.0.1:{incident.stack.control_port}"
        shown = web.get(f"{base}/metrics", headers=incident.stack.metrics_headers).text
        assert "tokenschain_control_database_up 0.0" in shown
    finally:
        postgres.resume()
    assert incident.until_said("database_back")["away_s"] >= 0
