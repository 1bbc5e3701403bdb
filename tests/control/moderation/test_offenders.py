"""Repeated offenders: who is suspended after how many blocked calls, seen and released by whom."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest
from msgspec import Raw

from tests import moderation_cases, web
from tests.security.platform import Platform, platform
from tests.stack import Stack
from tests.waiting import until
from tokenschain.control.moderation import offenders
from tokenschain.core.formats.end_user import end_user_of
from tokenschain.core.snapshot import Snapshot, restrictions
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy, OffenderLimits

PATH = "/moderation-suspensions"
POLICY = ModerationPolicy(offenders=OffenderLimits())
_numbers = itertools.count()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("offenders")) as made:
        for tenant in ("alpha", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        yield made


def _calls(house: Platform, user: str, outcomes: str, tenant: str = "alpha") -> list[str]:
    """Calls of an end user, a letter each: b blocked, p passed; returns their ids."""
    now_ms, made = int(time.time() * 1e3), []
    for at, letter in enumerate(outcomes):
        name = f"req_offender_{next(_numbers)}"
        queued = letter == "b"
        if queued:
            moderation_cases.enter(
                house, tenant, policy=POLICY, event_id=name, end_user=user,
                started_ms=now_ms + at,
            )  # fmt: skip
        else:
            moderation_cases.count_only(house, tenant, name, user, now_ms + at)
        made.append(name)
    return made


def _of(house: Platform, user: str) -> list[dict[str, object]]:
    listed = house.operator("GET", f"{PATH}?limit=200").json()["data"]
    return [one for one in listed if one["end_user"] == user]


@pytest.mark.parametrize(
    ("outcomes", "cause"),
    [("bb", None), ("bbb", "in_a_row"), ("bbpb", None), ("bpbpbpb", None),
     ("bpbpbpbpb", "a_day")],
)  # fmt: skip
def test_three_in_a_row_or_five_a_day(house: Platform, outcomes: str, cause: str | None) -> None:
    user = f"user-{outcomes}"
    _calls(house, user, outcomes)
    assert [one["cause"] for one in _of(house, user)] == ([] if cause is None else [cause])


def test_each_call_counts_once_and_for_its_tenants_user_only(house: Platform) -> None:
    names = _calls(house, "twice", "bb")
    for name in names:
        moderation_cases.enter(house, "alpha", policy=POLICY, event_id=name, end_user="twice")
    assert not _of(house, "twice"), "shipped again, they are the same calls"
    _calls(house, "twice", "b", tenant="beta")
    assert not _of(house, "twice"), "another tenant's user of the same id is somebody else"
    _calls(house, "twice", "b")
    assert [one["tenant"] for one in _of(house, "twice")] == ["alpha"]


def test_a_tenant_releases_its_own_with_a_reason_and_what_was_counted_does_not_count_again(
    house: Platform,
) -> None:
    _calls(house, "freed", "bbb")
    (made,) = _of(house, "freed")
    path, body = f"{PATH}/{made['id']}/release", {"reason": "a mistake"}
    stranger, reviewer = house.person("beta", "owner"), house.person("alpha", "reviewer")
    assert stranger("POST", path, body).status_code == 404
    assert "freed" not in stranger("GET", PATH).text
    assert reviewer("POST", path, body).status_code == 403
    owner = house.person("alpha", "admin")
    assert owner("POST", path, {"reason": ""}).status_code == 400
    released = owner("POST", path, body).json()
    assert (released["released_by"], released["release_reason"]) == (owner.id, "a mistake")
    log = house.operator("GET", "/audit?tenant=alpha").json()["data"]
    found = [one["detail"] for one in log if one["target"] == made["id"]]
    assert found[0] == {"released": "freed", "reason": "a mistake"}
    assert found[1]["cause"] == "in_a_row", "that it began stands there, too"
    with house.engine.connect() as connection:
        assert "freed" not in offenders.in_force(connection, time.time()).get("alpha", {})
    assert house.operator("GET", f"{PATH}?in_force=true").json()["data"] is not None
    assert "freed" not in house.operator("GET", f"{PATH}?in_force=true").text


def test_who_was_blocked_by_mistake_is_free_when_people_say_so(house: Platform) -> None:
    name = _calls(house, "wronged", "bbb")[0]
    (made,) = _of(house, "wronged")
    (case,) = house.rows(f"select id from moderation_cases where event_id = '{name}'")[0]
    reviewer = house.person("alpha", "reviewer")
    body = {"decision": "release", "reason": "a quotation"}
    assert reviewer("POST", f"/moderation-cases/{case}/decide", body).status_code == 200
    (freed,) = _of(house, "wronged")
    assert (freed["id"], freed["released_by"]) == (made["id"], reviewer.id)


def test_old_calls_and_suspensions_are_forgotten(house: Platform) -> None:
    _calls(house, "old", "bbb")
    with house.engine.begin() as connection:
        offenders.sweep(connection, time.time() + offenders.CALLS_KEPT_S + 9)
    assert not house.rows("select * from end_user_calls where end_user = 'old'")
    assert _of(house, "old")
    with house.engine.begin() as connection:
        offenders.sweep(connection, time.time() + 2 * offenders.KEPT_S)
    assert not _of(house, "old")


def test_a_suspension_holds_where_the_rest_of_a_configuration_is_of_no_use() -> None:
    later = restrictions.of_snapshot(Snapshot("2", {}, {}, suspended={"a": {"u": 9}}))
    kept = restrictions.decode(restrictions.encode(later))
    assert restrictions.restricted(Snapshot("1", {}, {}), kept, "2").suspended == later.suspended


@pytest.mark.parametrize(
    ("fields", "user"),
    [({}, ""), ({"user": b'"u"'}, "u"), ({"user": b"7"}, ""), ({"user": b"null"}, ""),
     ({"user": b'"u"', "safety_identifier": b'"s"'}, "s"),
     ({"user": b'"u"', "safety_identifier": b"{}"}, "u")],
)  # fmt: skip
def test_the_end_user_is_whom_the_call_names(fields: dict[str, bytes], user: str) -> None:
    assert end_user_of({name: Raw(raw) for name, raw in fields.items()}) == user


def test_gateways_refuse_a_suspended_end_user_and_serve_others(stack: Stack) -> None:
    spec = {"state": "active", "scope": "project/offenders", "offenders": {"in_a_row": 2}}
    path = "/api/v1/moderation-policies/offenders"
    assert stack.admin("PUT", path, json={"spec": spec}).status_code == 200
    key = stack.new_key(project="offenders")

    def ask(user: str, text: str) -> tuple[int, str]:
        body = {"model": "sim-chat", "messages": [{"role": "user", "content": text}], "user": user}
        reply = web.post(
            f"{stack.url}/v1/chat/completions", json=body, timeout=30,
            headers={"authorization": f"Bearer {key}"},
        )  # fmt: skip
        return reply.status_code, reply.json().get("error", {}).get("code", "")

    blocked = "违规测试词甲"
    until(lambda: ask("first", blocked)[0] == 400)
    until(lambda: ask("first", blocked)[1] == "end_user_suspended")
    assert ask("first", "你好") == (403, "end_user_suspended")
    assert ask("second", "你好")[0] == 200, "another end user is served"
    (made,) = stack.admin("GET", f"/api/v1{PATH}?in_force=true").json()["data"]
    assert "first" not in made["end_user"]
    stack.admin("POST", f"/api/v1{PATH}/{made['id']}/release", json={"reason": "seen"})
    until(lambda: ask("first", "你好")[0] == 200)
    assert stack.admin("DELETE", path).status_code == 200
