"""The cache's page: what it did, how sure it is, and flushing after a dry run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.console.visitors import House, Page
from tokenschain.control.cache.semantic_client import SemanticProcesses
from tokenschain.core.cache.semantic_protocol import Cluster, Report
from tokenschain.core.cache.semantic_protocol import ThresholdPreview as Preview

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def semantic(house: House, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that compares questions of both tenants."""

    class Process:
        async def reports(self) -> list[Report]:
            return [
                Report(f"{tenant}/p1/{tenant}-model", 0.01, 0.031, 0.02, 0.05, 400, 9_000, 0.87,
                       [Preview(0.01, 0.87, 0.5, 0.009)], 2_000, 150)
                for tenant in ("alpha", "beta")
            ]  # fmt: skip

        async def clusters(self, tenant: str, _keys: object, _limit: int) -> list[Cluster]:
            return [
                Cluster(f"{tenant}/p1/{tenant}-model", [b"a"], [HOSTILE, f"{tenant} asks"], "yes")
            ]

    monkeypatch.setattr(SemanticProcesses, "reports", Process.reports)
    monkeypatch.setattr(SemanticProcesses, "clusters", Process.clusters)
    state = house.platform.app.state
    before = state.context
    state.context = before._replace(semantic=SemanticProcesses.__new__(SemanticProcesses))
    yield
    state.context = before


def _flushes(house: House) -> int:
    return int(house.platform.rows("SELECT count(*) FROM cache_flushes")[0][0])


def test_hits_savings_and_false_hits_of_the_tenant_alone(house: House, semantic: Any) -> None:
    house.enter(tenant="alpha", project="p1", model_asked="alpha-model", cache="hit-semantic",
                cache_key="a" * 32, saved_pico=3 * 10**12, saved_tokens=1_200, currency="CNY")  # fmt: skip
    house.enter(tenant="beta", project="p1", model_asked="beta-model", cache="hit-exact",
                cache_key="b" * 32, saved_pico=10**12, saved_tokens=5, currency="CNY")  # fmt: skip
    text = house.browser("alpha", "developer").get("/console/cache").text
    words = Page(text).words
    assert "¥3.00" in words and "Above" in words
    assert "3.10%" in words and "2.00% – 5.00%" in words and "0.870" in words
    assert "beta-model" not in text and "frequent" not in words.lower().replace("frequent q", "")


def test_frequent_questions_are_shown_when_asked_for_and_that_is_written_down(
    house: House, semantic: Any
) -> None:
    browser = house.browser("alpha", "developer")
    query = "SELECT count(*) FROM audit_events WHERE target = 'query-clusters'"
    before = house.platform.rows(query)[0][0]
    assert "alpha asks" not in browser.get("/console/cache").text
    assert house.platform.rows(query)[0][0] == before
    text = browser.get("/console/cache?questions=1").text
    assert "alpha asks" in text and "<img" not in text
    assert house.platform.rows(query)[0][0] == before + 1
    shut = house.browser("alpha", "auditor").get("/console/cache?questions=1").text
    assert "alpha asks" not in shut and 'id="questions"' not in shut


def test_a_flush_says_first_what_it_costs_and_needs_the_name(house: House) -> None:
    house.enter(tenant="alpha", project="p1", model_asked="alpha-model", cache="hit-exact",
                cache_key="c" * 32)  # fmt: skip
    browser, before = house.browser("alpha", "developer"), _flushes(house)
    form = {"of": "alpha", "part": "entry", "value": "c" * 32, "once": "f-1"}
    seen = browser.post("/console/cache/flush", form | {"step": "preview"})
    assert "1 of these answers were served 1 times" in seen.text and _flushes(house) == before
    wrong = browser.post("/console/cache/flush", form | {"step": "apply", "typed": "Alpha"})
    assert wrong.status_code == 400 and _flushes(house) == before
    done = browser.post("/console/cache/flush", form | {"step": "apply", "typed": "alpha"})
    assert done.status_code == 303 and _flushes(house) == before + 1
    assert "Flushed" in browser.get(done.headers["location"]).text


@pytest.mark.parametrize(("role", "of"), [("viewer", "alpha"), ("owner", "beta"), ("owner", "")])
def test_others_caches_are_not_flushed(house: House, role: str, of: str) -> None:
    before = _flushes(house)
    form = {"of": of, "part": "", "value": "", "step": "apply", "typed": of or "*", "once": "f-2"}
    reply = house.browser("alpha", role).post("/console/cache/flush", form)
    assert reply.status_code == 403 and _flushes(house) == before


def test_what_cannot_be_flushed_is_said(house: House) -> None:
    form = {"of": "alpha", "part": "entry", "value": "no id", "step": "preview"}
    reply = house.browser("alpha", "owner").post("/console/cache/flush", form)
    assert 400 <= reply.status_code < 500 and 'role="alert"' in reply.text
