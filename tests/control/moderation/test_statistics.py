"""Moderation statistics: what is added up, by what, and that a tenant sees its own only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests import moderation_cases
from tests.records import record
from tests.security.platform import Platform, platform
from tokenschain.control.api.internal import enter_batch
from tokenschain.core import call_record
from tokenschain.core.moderation.case_record import KeptText

FROM_S = 1_790_000_000
WHEN = f"from_s={FROM_S}&until_s={FROM_S + 86_400}"
WORDS = "values/other:high:bank#1*2"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("statistics")) as made:
        for tenant in ("alpha", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        calls = [
            ("alpha", "blocked", f"{WORDS};attack/jailbreak:high:role"), ("alpha", "blocked", WORDS),
            ("alpha", "passed", ""), ("alpha", "not_scanned", ""), ("beta", "blocked", WORDS),
        ]  # fmt: skip
        rows = [
            record(at, tenant=tenant, moderation=outcome, moderation_detail=detail)
            for at, (tenant, outcome, detail) in enumerate(calls)
        ]
        enter_batch(made.app.state.internal, [call_record.encode(one) for one in rows])
        said = KeptText("input", "这是一句中文")
        case = moderation_cases.enter(made, "alpha", [said], event_id=rows[1].event_id)
        reviewer = made.person("alpha", "reviewer")
        decided = {"decision": "release", "reason": "harmless"}
        assert reviewer("POST", f"/moderation-cases/{case}/decide", decided).status_code == 200
        yield made


def _rows(house: Platform, group_by: str, more: str = "&tenant=alpha") -> list[dict[str, Any]]:
    path = f"/moderation/statistics?group_by={group_by}&{WHEN}{more}"
    reply = house.person("alpha", "reviewer")("GET", path)
    assert reply.status_code == 200, reply.text
    return reply.json()["data"]  # type: ignore[no-any-return]


def test_a_call_counts_once_by_action_and_once_for_each_category(house: Platform) -> None:
    nothing = {"disputed": 0, "upheld": 0, "released": 0}
    assert _rows(house, "action") == [
        {"action": "blocked", "calls": 2, "findings": 5, "disputed": 0, "upheld": 0, "released": 1},
        {"action": "passed", "calls": 1, "findings": 0} | nothing,
    ]
    assert _rows(house, "category,engine") == [
        {"category": "", "engine": "", "calls": 1, "findings": 0} | nothing,
        {"category": "attack/jailbreak", "engine": "attack_rules", "calls": 1, "findings": 1}
        | nothing,
        {"category": "values/other", "engine": "words", "calls": 2, "findings": 4, "disputed": 0, "upheld": 0,
         "released": 1},
    ]  # fmt: skip


def test_the_language_is_that_of_kept_texts_and_days_are_those_of_the_zone(
    house: Platform,
) -> None:
    found = {one["language"]: one["calls"] for one in _rows(house, "language")}
    assert found == {"zh": 1, "unknown": 2}
    (day,) = {one["day"] for one in _rows(house, "day,model")}
    assert day == "2026-09-21"
    (later,) = {one["day"] for one in _rows(house, "day", "&tenant=alpha&zone=Asia/Shanghai")}
    assert later == "2026-09-21"


def test_a_tenant_sees_its_own_only_and_the_platform_all(house: Platform) -> None:
    stranger = house.person("beta", "reviewer")
    path = f"/moderation/statistics?group_by=tenant&{WHEN}"
    assert stranger("GET", f"{path}&tenant=alpha").status_code == 403
    assert {one["tenant"] for one in stranger("GET", path).json()["data"]} == {"beta"}
    everything = house.operator("GET", path).json()["data"]
    assert {one["tenant"]: one["calls"] for one in everything} == {"alpha": 3, "beta": 1}


def test_what_is_no_dimension_or_too_long_is_refused(house: Platform) -> None:
    for query in ("group_by=secret", "group_by=day&from_s=0"):
        reply = house.operator("GET", f"/moderation/statistics?{query}")
        assert reply.status_code == 400, reply.text
        assert reply.json()["error"]["code"] == "invalid_value"
