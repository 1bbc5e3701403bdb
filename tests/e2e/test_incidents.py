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
from tokenschain.cli.doctor.command import examine

CONTINUED_S = 10.0
"""Far below the 20 s that a poll of the configuration may wait for a change."""


class Incident:
    """A platform over two clouds, PostgreSQL and Redis, and what it says."""

    def __init__(self, folder: Path, postgres: Postgres, redis: RedisStack) -> None:
        self.clouds = FaultyClouds(2)
        self.access_log = folder / "access.log"
        self.stack = Stack(
            folder / "incidents", "http://unused", upstreams=self.clouds.upstreams(PRICES),
            routing={"policy": "cost-first", "explore": 0.0}, log_format="json",
            database={"url": postgres.database()}, redis={"url": redis.url},
            server={"access_log": str(self.access_log)},
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


def test_each_call_has_a_line_in_the_access_log_by_the_id_that_its_caller_quotes(
    incident: Incident,
) -> None:
    reply = web.post(f"{incident.stack.url}/v1/chat/completions", headers=incident.stack.headers,
                     json={"model": "m", "messages": [{"role": "user", "content": "a word"}]})  # fmt: skip
    quoted = f'"{reply.headers["x-request-id"]}"'
    until(lambda: incident.access_log.exists() and quoted in incident.access_log.read_text("utf-8"))
    text = incident.access_log.read_text("utf-8")
    (line,) = [json.loads(li) for li in text.splitlines() if quoted in li]
    usage = reply.json()["usage"]
    assert (line["status"], line["outcome"], line["upstream"]) == (200, "ok", "cloud0")
    assert line["finish_reason"] == "stop" and line["tenant"] == "default" and line["key"]
    assert line["completion_tokens"] == usage["completion_tokens"]
    assert 0 < line["first_byte_ms"] <= line["total_ms"]
    assert "a word" not in text and incident.stack.key not in text


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


def _until_refused(incident: Incident, key: str, code: str) -> None:
    """Until the gateway knows that a key is refused."""
    headers = {"authorization": f"Bearer {key}"}

    def refused() -> bool:
        reply = web.post(f"{incident.stack.url}/v1/chat/completions", headers=headers,
                         json={"model": "m", "messages": []})  # fmt: skip
        return bool(reply.json().get("error", {}).get("code") == code)

    until(refused)


@pytest.mark.parametrize("killed", ["api_key_revoked", "api_key_expired", "account_suspended"])
def test_a_key_that_is_killed(incident: Incident, killed: str) -> None:
    """Cause and effect, from log, metrics and doctor alone."""
    stack, project = incident.stack, killed.replace("_", "-")
    path = "/api/v1/organization/units"
    unit = stack.admin("POST", path, json={"tenant": "default", "kind": "project",
                                           "name": project}).json()  # fmt: skip
    made = stack.admin("POST", "/api/v1/keys", json={"project": project}).json()
    stack.until_known(made["key"])
    key = f"/api/v1/keys/{made['id']}"
    match killed:
        case "api_key_revoked":
            stack.admin("DELETE", key)
        case "api_key_expired":
            stack.admin("PATCH", key, json={"expires_at_s": 1})
        case _:
            stack.admin("PATCH", f"{path}/{unit['id']}", json={"closed": True})
    _until_refused(incident, made["key"], killed)
    line = until(lambda: incident.lines("key_refused", key=made["id"]))[0]
    assert (line["why"], line["tenant"], line["project"]) == (killed, "default", project)
    counted = f'tokenschain_refused_requests_total{{reason="{killed}",worker="0"}}'
    assert incident.figure(counted) >= 1
    said = f"API key {made['id']} of tenant default is in use and refused: {killed}"
    found = until(lambda: [one for one in examine(stack.settings, offline=False)
                           if said in one.said])  # fmt: skip
    assert found[0].check == "keys" and found[0].mend
    until(lambda: f'"{killed}"' in incident.access_log.read_text("utf-8"))
    assert made["key"] not in stack.read_log()


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
