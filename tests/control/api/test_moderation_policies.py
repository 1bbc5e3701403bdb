"""Effective values of moderation policies by the admin API: of one, and of all for a project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.security.platform import Platform, platform
from tokenschain.control.api import moderation_policies


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("policies")) as made:
        boss = made.operator
        for tenant in ("alpha", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert boss("POST", "/organization/units", body).status_code == 201
        base = {"state": "active", "actions": {"medium": "block"}}
        own = {"state": "active", "scope": "project/p1", "stream": "full", "sector": "finance",
               "engines": ["green"], "audience": "internal", "classifier": {}}  # fmt: skip
        watching = {"state": "shadow", "media": "block"}
        for path, spec in (
            ("everybody", base), ("bank?tenant=alpha", own), ("watch?tenant=alpha", watching),
        ):  # fmt: skip
            reply = boss("PUT", f"/moderation-policies/{path}", {"spec": spec})
            assert reply.status_code == 200, reply.text
        yield made


def _held(answer: dict[str, Any]) -> dict[str, tuple[Any, list[tuple[str, str]]]]:
    return {
        one["field"]: (one["value"], [(by["level"], by["name"]) for by in one["policies"]])
        for one in answer["data"]
    }


def test_one_policy_shows_what_holds_where_it_says_nothing(house: Platform) -> None:
    reply = house.person("alpha", "owner")("GET", "/moderation-policies/bank?tenant=alpha")
    assert reply.json()["spec"]["classifier"] == {}
    found = {one["field"]: (one["value"], one["origin"]) for one in reply.json()["effective"]}
    assert found["classifier.high"] == (0.9, "policy")
    assert found["engine_failure"] == ("block", "sector")
    assert found["personal_data.bank_card"] == ("reversible", "sector")
    assert found["actions.medium"] == ("review", "default")
    assert "effective" not in house.operator("GET", "/moderation-policies").json()["data"][0]


def test_each_value_for_a_project_is_said_to_be_whose_it_is(house: Platform) -> None:
    platform_, project = [("platform", "everybody")], [("project", "bank")]
    path = "/moderation/effective?tenant=alpha&project="
    found = _held(house.operator("GET", f"{path}p1").json())
    assert found["actions.medium"] == ("block", platform_)
    assert found["stream"] == ("full", project)
    assert found["personal_data.resident_id"] == ("reversible", project)
    assert found["engine_failure"] == ("block", project)
    assert found["media"] == ("pass", [])
    shadow = _held(house.operator("GET", f"{path}p1&state=shadow").json())
    assert shadow["media"] == ("block", [("tenant", "watch")])
    other = house.operator("GET", f"{path}p2").json()
    assert [one["level"] for one in other["policies"]] == ["platform"]
    assert _held(other)["stream"] == ("holdback", platform_)


def test_a_tenant_sees_that_the_platform_says_so_but_not_by_which_policy(house: Platform) -> None:
    alpha, beta = (house.person(tenant, "owner") for tenant in ("alpha", "beta"))
    reply = alpha("GET", "/moderation/effective?project=p1")
    assert _held(reply.json())["actions.medium"] == ("block", [("platform", "")])
    assert "everybody" not in reply.text
    assert alpha("GET", "/moderation/effective?tenant=beta").status_code == 403
    theirs = beta("GET", "/moderation/effective?project=p1")
    assert theirs.status_code == 200 and "bank" not in theirs.text
    assert house.person("alpha", "reviewer")("GET", "/moderation/effective").status_code == 403


def test_more_policies_and_categories_than_an_answer_holds_are_refused(
    house: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/moderation/effective?tenant=beta"
    named = {"values/terrorism": {"high": "block"}, "values/other": {"high": "block"}}
    spec = {"state": "active", "category_actions": named}
    for name in ("one", "two"):
        made = house.operator("PUT", f"/moderation-policies/{name}?tenant=beta", {"spec": spec})
        assert made.status_code == 200, made.text
    monkeypatch.setattr(moderation_policies, "SHOWN_MAX", 6)  # the platform's is a third policy
    assert house.operator("GET", path).status_code == 200
    monkeypatch.setattr(moderation_policies, "SHOWN_MAX", 5)
    refused = house.operator("GET", path)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "conflict")
    assert "3 policies that name 2 categories" in refused.text
