"""Overview: the course of the first token over the last day."""

from __future__ import annotations

import json
import time

from tests.console.visitors import House
from tokenschain.console.models import MeasuredModels, MeasuredStep
from tokenschain.console.overview import LATENCY_STEP_S, _course
from tokenschain.control.observability import alerts
from tokenschain.core.cache.semantic_protocol import Report


def test_the_course_has_every_step_of_the_day_and_gaps_where_nothing_was_called() -> None:
    now_s = 1_790_000_123
    step = MeasuredStep(answered=30, failed=0, first_token_p50_ms=100.0, first_token_p95_ms=None,
                        first_token_p99_ms=None, total_p50_ms=1.0, total_p95_ms=1.0,
                        at_s=now_s - now_s % LATENCY_STEP_S - LATENCY_STEP_S)  # fmt: skip
    found = _course(MeasuredModels([], 0, [step], 1_500.0), now_s)
    assert found is not None and len(found.labels) == 48
    assert found.p50_ms[-2:] == [100.0, None] and found.p95_ms == [None] * 48
    assert found.p99_ms == [None] * 48 and found.goal_ms == 1_500.0
    assert found.calls[-2:] == [30, 0] and set(found.p50_ms[:-2]) == {None}
    assert _course(MeasuredModels([], 0), now_s) is None


def test_the_first_token_of_all_models_is_drawn_and_can_be_read_as_a_table(house: House) -> None:
    now_ms = int(time.time() * 1e3)
    for n in range(20):
        house.enter(tenant="zeta", model_asked=f"zeta-{n % 2}", started_ms=now_ms,
                    first_token_ms=200.0 + n, cost_pico=0, charge_pico=0)  # fmt: skip
    text = house.browser("zeta", "owner").get("/console/first-token").text
    data = json.loads(text.partition('data-for="lines">')[2].partition("</script>")[0])
    p50, p95, _ = (row["values"] for row in data["rows"])
    assert [row["name"] for row in data["rows"]] == ["p50", "p95", "p99"]
    assert (data["goal"], data["told"]) == (2_000.0, "Goal 2.00 s")
    (there,) = [n for n, value in enumerate(p50) if value is not None]
    assert 180 < p50[there] < 240 and p95[there] >= p50[there]
    assert "/console/first-token" in house.browser("zeta", "owner").get("/console").text
    asked = house.platform.person("zeta", "owner")("GET", "/insight/latency").json()
    assert sum(step["answered"] for step in asked["steps"]) == 20
    empty = house.browser("eta", "owner").get("/console/first-token").text
    assert 'data-for="lines"' not in empty and "<html" not in empty


def test_who_sees_one_project_has_no_course(house: House) -> None:
    browser = house.browser("alpha", "developer", project="p1")
    reply = browser.get("/console")
    assert reply.status_code == 200 and "/console/first-token" not in reply.text


def test_availability_counts_what_the_platform_or_an_upstream_is_to_blame_for(house: House) -> None:
    ended = [
        (200, "ok", ""), (200, "ok", ""), (502, "upstream_failed", "upstream"),
        (200, "partial", "upstream"), (200, "partial", "caller"), (500, "internal_error", ""),
        (404, "model_not_found", "caller"), (400, "invalid_value", "caller"),
        (429, "rate_limit_exceeded", "caller"), (400, "content_filter", "caller"),
    ]  # fmt: skip
    for status, outcome, fault in ended:
        house.enter(tenant="iota", status=status, outcome=outcome, fault=fault)
    text = house.browser("iota", "owner").get("/console").text
    tile = text.partition("<h2>Availability</h2>")[2].partition("</article>")[0]
    assert "70.000%" in tile and 'title="7 / 10"' in tile
    assert "3 failed by platform or upstream" in tile
    (row,) = house.platform.person("iota", "owner")("GET", "/usage?group_by=tenant").json()["data"]
    assert (row["calls"], row["failed_calls"]) == (10, 3)


def test_the_share_of_cached_answers_stands_beside_the_time_before(house: House) -> None:
    now_ms, day_ms = int(time.time() * 1e3), 86_400_000
    for before_ms, cached in ((0, "hit-exact"), (0, "miss"), (day_ms, "miss"), (day_ms, "miss")):
        house.enter(tenant="kappa", cache=cached, started_ms=now_ms - before_ms)
    text = house.browser("kappa", "owner").get("/console").text
    tile = text.partition("<h2>Cache hits</h2>")[2].partition("</article>")[0]
    assert 'title="1 / 2"' in tile and "+50 pp" in tile and '<svg class="spark cache"' in tile
    wrong = house.platform.person("kappa", "owner")("GET", "/cache/stats?group_by=hour,colour")
    assert wrong.json()["error"]["param"] == "group_by"


def test_what_is_open_and_nobody_has_looked_after_stands_above_the_figures(house: House) -> None:
    person = house.platform.person("alpha", "owner")
    browser = house.as_person(person.token)
    assert 'class="alert warn"' not in browser.get("/console").text
    report = [Report("alpha/p1/warned", 0.01, 0.031, 0.02, 0.05, 400, 9_000, None, [])]
    alerts.look_at_cache(house.platform.engine, report, time.time())
    text = browser.get("/console").text
    assert 'class="alert warn" role="status"' in text and "warned" in text
    assert 'class="alert warn"' not in house.browser("beta", "owner").get("/console").text
    ((alert,),) = house.platform.rows("SELECT id FROM alerts WHERE detail LIKE '%warned%'")
    browser.post("/console/alerts/acknowledge", {"alert": alert})
    assert 'class="alert warn"' not in browser.get("/console").text
