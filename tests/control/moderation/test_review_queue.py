"""Review queue: who sees, opens, claims and decides what; nothing twice, nothing alone."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests import moderation_cases
from tests.records import record
from tests.security.platform import Caller, Platform, platform
from tokenschain.control.api.internal import enter_batch
from tokenschain.control.moderation import review_queue
from tokenschain.core import call_record
from tokenschain.core.moderation import case_record
from tokenschain.core.moderation.case_record import CaseRecord, KeptText
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy

SAID = KeptText("input", "前文坏词后文", ((2, 4),))
TWO = ModerationPolicy(second_review=True, review_hours=1)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("queue")) as made:
        for tenant in ("alpha", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        yield made


@pytest.fixture(scope="module")
def reviewer(house: Platform) -> Caller:
    return house.person("alpha", "reviewer")


@pytest.fixture(scope="module")
def second(house: Platform) -> Caller:
    return house.person("alpha", "reviewer")


def _decide(who: Caller, case: str, decision: str = "uphold") -> tuple[int, str]:
    body = {"decision": decision, "reason": "seen"}
    reply = who("POST", f"/moderation-cases/{case}/decide", body)
    return reply.status_code, reply.json().get("state", "")


def test_texts_are_sealed_listed_nowhere_and_each_opening_is_audited(
    house: Platform, reviewer: Caller
) -> None:
    case = moderation_cases.enter(house, "alpha", [SAID])
    for path in ("/moderation-cases", f"/moderation-cases/{case}"):
        reply = reviewer("GET", path)
        assert reply.status_code == 200 and "坏词" not in reply.text, reply.text
    (sealed,) = house.rows(f"select sealed from moderation_cases where id = '{case}'")[0]
    assert sealed and "坏词".encode() not in sealed
    found = reviewer("POST", f"/moderation-cases/{case}/open").json()["data"]
    assert found == [{"direction": "input", "text": SAID.text, "spans": [[2, 4]], "cut": False}]
    log = house.operator("GET", "/audit?tenant=alpha").json()["data"]
    opened = [one for one in log if one["target"] == case]
    assert [one["actor"] for one in opened] == [reviewer.id]
    assert "坏词" not in json.dumps(log, ensure_ascii=False)
    # Who may see the queue and no more opens nothing.
    auditor = house.person("alpha", "auditor")
    assert auditor("GET", f"/moderation-cases/{case}").status_code == 200
    assert auditor("POST", f"/moderation-cases/{case}/open").status_code == 403


def test_another_tenant_sees_opens_and_decides_nothing(house: Platform) -> None:
    case = moderation_cases.enter(house, "alpha", [SAID])
    stranger = house.person("beta", "owner")
    assert case not in stranger("GET", "/moderation-cases").text
    assert stranger("GET", "/moderation-cases?tenant=alpha").status_code == 403
    assert stranger("GET", f"/moderation-cases/{case}").status_code == 404
    for verb in ("open", "claim", "return"):
        assert stranger("POST", f"/moderation-cases/{case}/{verb}").status_code == 404
    assert _decide(stranger, case)[0] == 404
    many = {"tenant": "beta", "case_ids": [case], "decision": "release", "reason": "mine"}
    (made,) = stranger("POST", "/moderation-cases/decide", many).json()["data"]
    assert made == {"id": case, "state": None, "error": "There is no such case."}
    assert house.operator("GET", f"/moderation-cases/{case}").json()["state"] == "open"


def test_a_claimed_case_is_one_persons_until_it_returns_by_itself(
    house: Platform, reviewer: Caller, second: Caller
) -> None:
    case = moderation_cases.enter(house, "alpha")
    claimed = reviewer("POST", f"/moderation-cases/{case}/claim").json()
    assert claimed["claimed_by"] == reviewer.id
    assert case in reviewer("GET", "/moderation-cases?mine=true").text
    assert second("POST", f"/moderation-cases/{case}/claim").status_code == 409
    assert _decide(second, case)[0] == 409
    with house.engine.begin() as connection:
        past = f"update moderation_cases set claimed_until_s = 1 where id = '{case}'"
        connection.execute(text(past))
    assert reviewer("GET", f"/moderation-cases/{case}").json()["claimed_by"] is None
    assert second("POST", f"/moderation-cases/{case}/claim").json()["claimed_by"] == second.id
    second("POST", f"/moderation-cases/{case}/return")
    assert _decide(reviewer, case) == (200, "decided")
    assert _decide(second, case)[0] == 409, "once decided, decided"


def test_two_people_decide_where_the_policy_says_so_and_else_it_is_escalated(
    house: Platform, reviewer: Caller, second: Caller
) -> None:
    agreed, disputed = (moderation_cases.enter(house, "alpha", policy=TWO) for _ in range(2))
    assert _decide(reviewer, agreed, "release") == (200, "second")
    assert _decide(reviewer, agreed, "release")[0] == 409, "not the same person"
    assert _decide(second, agreed, "release") == (200, "decided")
    assert _decide(reviewer, disputed) == (200, "second")
    assert _decide(second, disputed, "release") == (200, "escalated")
    for who in (reviewer, second, house.person("alpha", "reviewer")):
        assert _decide(who, disputed)[0] == 409, "it takes somebody with moderation:write"
    assert _decide(house.person("alpha", "admin"), disputed) == (200, "decided")
    row = house.operator("GET", f"/moderation-cases/{disputed}").json()
    assert (row["first_by"], row["decision"]) == (reviewer.id, "uphold")


def test_several_are_decided_at_once_and_each_says_why_not(
    house: Platform, reviewer: Caller, second: Caller
) -> None:
    free, taken = (moderation_cases.enter(house, "alpha") for _ in range(2))
    second("POST", f"/moderation-cases/{taken}/claim")
    body = {"tenant": "alpha", "case_ids": [free, taken, "case_none"], "decision": "uphold",
            "reason": "spam"}  # fmt: skip
    reply = reviewer("POST", "/moderation-cases/decide", body)
    made = {one["id"]: (one["state"], one["error"]) for one in reply.json()["data"]}
    assert made[free] == ("decided", "")
    assert made[taken][0] is None and "Somebody else" in made[taken][1]
    assert made["case_none"][0] is None


def test_what_is_due_comes_first_and_late_cases_are_marked(house: Platform) -> None:
    reader = house.person("beta", "reviewer")
    cases = [moderation_cases.enter(house, "beta", policy=policy)
             for policy in (ModerationPolicy(review_hours=48), TWO)]  # fmt: skip
    listed = reader("GET", "/moderation-cases").json()["data"]
    assert [one["id"] for one in listed] == cases[::-1]
    with house.engine.begin() as connection:
        late = f"update moderation_cases set due_at_s = 5 where id = '{cases[0]}'"
        connection.execute(text(late))
    (overdue,) = reader("GET", "/moderation-cases?overdue=true").json()["data"]
    assert overdue["id"] == cases[0] and overdue["overdue"]
    assert reader("GET", "/moderation-cases?category=values/*").json()["data"]
    assert not reader("GET", "/moderation-cases?category=attack/*").json()["data"]
    counts = reader("GET", "/moderation-cases/counts").json()
    assert counts == {"open": 2, "second": 0, "escalated": 0, "overdue": 1}


def test_a_case_comes_once_however_often_it_is_shipped_and_bad_ones_stop_no_call(
    house: Platform,
) -> None:
    case = CaseRecord("req_once", 1, "alpha", "p", "k", "chat/completions", "m", "review",
                      "values/other:low:x", sealed=b"sealed by a lost key")  # fmt: skip
    calls = [call_record.encode(record(900 + at)) for at in range(3)]
    shipped = [case_record.encode(case), calls[0], b"\x9c\xa4case", *calls[1:]]
    assert [enter_batch(house.app.state.internal, shipped) for _ in range(2)] == [3, 0]
    rows = house.rows("select sealed from moderation_cases where event_id = 'req_once'")
    assert rows == [(b"",)], "what no key opens is left out; the case is there"
    refused = house.operator("GET", "/rejected-records").json()["data"]
    assert [one["readable"] for one in refused] == [False]


def test_decided_cases_are_forgotten_after_half_a_year(house: Platform, reviewer: Caller) -> None:
    decided, waiting = (moderation_cases.enter(house, "alpha") for _ in range(2))
    _decide(reviewer, decided)
    row = house.operator("GET", f"/moderation-cases/{decided}").json()
    for after_s, gone in ((-9, False), (9, True)):
        with house.engine.begin() as connection:
            kept_s = review_queue.DECIDED_KEPT_S
            review_queue.sweep(connection, row["decided_at_s"] + kept_s + after_s)
        found = house.operator("GET", f"/moderation-cases/{decided}").status_code
        assert (found == 404) is gone
    assert house.operator("GET", f"/moderation-cases/{waiting}").status_code == 200
