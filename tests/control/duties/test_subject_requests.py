"""Requests of data subjects: who may take and decide them, what is held, what a deletion leaves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert

from tests import kept_content
from tests.records import record
from tests.security.platform import Platform, platform
from tokenschain.control.duties.subject_requests import end_user_hash
from tokenschain.core import call_record
from tokenschain.infra.database.moderation_tables import end_user_calls, end_user_suspensions

PATH = "/subject-requests"
DAY_S = 86_400


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("subjects")) as made:
        for tenant in ("alpha", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        yield made


def asked(house: Platform, kind: str, end_user: str = "user-17", **more: Any) -> Any:
    body = {"tenant": "alpha", "kind": kind, "end_user": end_user} | more
    made = house.operator("POST", PATH, body)
    assert made.status_code == 201, made.text
    return made.json()


def known(house: Platform, end_user: str) -> str:
    """Two calls of an end user of `alpha`, one suspension that is over and one in force."""
    context, now_s = house.app.state.context, int(time.time())
    hashed = end_user_hash(context.suite, context.publisher.shared_secrets, "alpha", end_user)
    calls = [
        record(1, event_id=f"{end_user}-{n}", started_ms=now_s * 1_000 + n, tenant="alpha")
        for n in range(2)
    ]
    context.ledger.ingest([call_record.encode(one) for one in calls])
    with context.engine.begin() as db:
        for one in calls:
            db.execute(insert(end_user_calls).values(
                event_id=one.event_id, tenant="alpha", end_user=hashed, started_ms=one.started_ms,
                blocked=False,
            ))  # fmt: skip
        for name, until_s in (("over", now_s - 1), ("holds", now_s + DAY_S)):
            db.execute(insert(end_user_suspensions).values(
                id=f"{end_user}-{name}", tenant="alpha", end_user=hashed, cause="a_day",
                blocked_calls=5, created_at_s=now_s - DAY_S, until_s=until_s,
            ))  # fmt: skip
    return hashed


def test_a_request_is_due_in_thirty_days_and_keeps_no_name(house: Platform) -> None:
    made = asked(house, "access", "zhang.san@example.com")
    assert made["due_at_s"] - made["received_at_s"] == 30 * DAY_S
    assert not house.rows("select * from subject_requests where end_user like '%zhang%'")
    log = house.operator("GET", f"/audit?target={made['id']}").text
    assert made["end_user"] in log and "zhang" not in log
    future = {"tenant": "alpha", "kind": "access", "end_user": "u", "received_at_s": 2**41}
    assert house.operator("POST", PATH, future).status_code == 400


def test_what_is_held_is_exported_with_its_gaps_and_on_the_record(house: Platform) -> None:
    known(house, "user-1")
    made = asked(house, "copy", "user-1")
    found = house.operator("GET", f"{PATH}/{made['id']}/export").json()
    assert [one["event_id"] for one in found["calls"]] == ["user-1-0", "user-1-1"]
    assert len(found["suspensions"]) == 2 and found["complete"] and found["gaps"]
    log = house.operator("GET", f"/audit?target={made['id']}").json()["data"]
    assert {"exported_calls": 2} in [one["detail"] for one in log]
    nobody = asked(house, "access", "user-unknown")
    assert house.operator("GET", f"{PATH}/{nobody['id']}/export").json()["calls"] == []
    deletion = asked(house, "deletion", "user-1")
    assert house.operator("GET", f"{PATH}/{deletion['id']}/export").status_code == 409


def test_a_deletion_takes_the_tie_away_and_leaves_what_protects_others(house: Platform) -> None:
    hashed = known(house, "user-2")
    made = asked(house, "deletion", "user-2")
    decide = f"{PATH}/{made['id']}/decide"
    done = house.operator("POST", decide, {"decision": "done", "reason": "as asked"})
    assert done.status_code == 200, done.text
    assert done.json()["outcome"] == {"calls": 2, "suspensions": 1, "contents": 0, "held": 0}
    assert not house.rows(f"select * from end_user_calls where end_user = '{hashed}'")
    left = house.rows(f"select id from end_user_suspensions where end_user = '{hashed}'")
    assert left == [("user-2-holds",)]
    assert len(house.rows("select * from ledger where event_id like 'user-2-%'")) == 2
    again = house.operator("POST", decide, {"decision": "refused", "reason": "no"})
    assert again.status_code == 409


def test_a_deletion_erases_what_calls_said_even_what_came_after_it_was_asked(
    house: Platform,
) -> None:
    made = asked(house, "deletion", "user-3")
    hers = [kept_content.enter(house, "alpha", "user-3") for _ in range(2)]
    his = kept_content.enter(house, "alpha", "user-4")
    hold = {"tenant": "alpha", "end_user": "user-5", "reason": "case 7"}
    assert house.operator("POST", "/legal-holds", hold).status_code == 201
    held, theirs = asked(house, "deletion", "user-5"), kept_content.enter(house, "alpha", "user-5")
    for request, outcome in ((made, (2, 0)), (held, (0, 1))):
        path = f"{PATH}/{request['id']}/decide"
        done = house.operator("POST", path, {"decision": "done", "reason": "as asked"})
        assert done.status_code == 200, done.text
        assert (done.json()["outcome"]["contents"], done.json()["outcome"]["held"]) == outcome
    left = {row[0] for row in house.rows("select call_id from call_contents")}
    assert {his, theirs} <= left and not left & set(hers)


@pytest.mark.parametrize("kind", ["correction", "restriction", "deletion"])
def test_what_is_refused_deletes_nothing(house: Platform, kind: str) -> None:
    hashed = known(house, f"user-{kind}")
    made = asked(house, kind, f"user-{kind}")
    body = {"decision": "refused", "reason": "not the same person"}
    refused = house.operator("POST", f"{PATH}/{made['id']}/decide", body).json()
    assert (refused["state"], refused["outcome"]) == ("refused", {})
    assert len(house.rows(f"select * from end_user_calls where end_user = '{hashed}'")) == 2


def test_a_tenant_has_its_own_and_sees_no_other(house: Platform) -> None:
    theirs = asked(house, "access")["id"]
    owner, stranger = house.person("alpha", "owner"), house.person("beta", "owner")
    auditor = house.person("alpha", "auditor")
    assert auditor("GET", f"{PATH}/{theirs}").status_code == 200
    body = {"decision": "done", "reason": "x"}
    assert auditor("POST", f"{PATH}/{theirs}/decide", body).status_code == 403
    for path in (f"{PATH}/{theirs}", f"{PATH}/{theirs}/export"):
        assert owner("GET", path).status_code == 200
        assert stranger("GET", path).status_code == 404
    assert stranger("POST", f"{PATH}/{theirs}/decide", body).status_code == 404
    assert theirs not in stranger("GET", PATH).text
    other = {"tenant": "alpha", "kind": "access", "end_user": "u"}
    assert stranger("POST", PATH, other).status_code == 403
