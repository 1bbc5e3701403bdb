"""Incidents: clocks that run out and are told of, timeline, and reports filled with live data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import insert, select

from tests.records import record
from tests.security.platform import Platform, platform
from tokenschain.control.duties.incidents import OPEN_MAX
from tokenschain.control.observability import alerts
from tokenschain.core import call_record
from tokenschain.core.compliance.incident_report import draft
from tokenschain.core.compliance.incidents import OperatorKind, Severity, clocks_of
from tokenschain.infra.database.duty_tables import incidents as incidents_table
from tokenschain.infra.database.tables import alerts as alerts_table

HOUR_S, DAY_S = 3_600, 86_400
PATH = "/incidents"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("incidents")) as made:
        for tenant in ("alpha", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        yield made


@pytest.mark.parametrize(
    ("operator", "hours"),
    [("critical-infrastructure", 1), ("central-body", 2), ("operator", 4)],
)
def test_a_first_report_is_due_by_whose_incident_it_is(operator: OperatorKind, hours: int) -> None:
    for now_s, done, state in (
        (0, None, "running"),
        (hours * HOUR_S, None, "running"),
        (hours * HOUR_S + 1, None, "overdue"),
        (9 * HOUR_S, hours * HOUR_S, "done"),
        (9 * HOUR_S, hours * HOUR_S + 1, "late"),
    ):
        (clock,) = clocks_of("larger", operator, 0, done, None, None, now_s)
        assert (clock.due_at_s, clock.state) == (hours * HOUR_S, state)


def test_small_incidents_have_no_clock_and_the_end_starts_another() -> None:
    small: Severity = "general"
    assert clocks_of(small, "operator", 0, None, None, None, 10**9) == []
    first, final = clocks_of("major", "operator", 0, 60, 5, None, 10)
    assert first.state == "done" and not first.confirmed
    assert (final.name, final.due_at_s, final.confirmed) == ("final-report", 5 + 30 * DAY_S, False)


def opened(house: Platform, **more: Any) -> Any:
    body = {"tenant": "alpha", "title": "key leaked", "severity": "larger"} | more
    made = house.operator("POST", PATH, body)
    assert made.status_code == 201, made.text
    return made.json()


def test_an_incident_is_reported_ended_and_its_timeline_kept(house: Platform) -> None:
    now_s = int(time.time())
    made = opened(house, detected_at_s=now_s - 2 * HOUR_S)
    (clock,) = made["clocks"]
    assert clock["state"] == "running" and clock["due_at_s"] == now_s + 2 * HOUR_S
    one = f"{PATH}/{made['id']}"
    reported = house.operator("POST", f"{one}/report", {"reported_to": "office", "reference": "7"})
    assert reported.json()["clocks"][0]["state"] == "done"
    assert house.operator("POST", f"{one}/report", {"reported_to": "office"}).status_code == 409
    early = house.operator("POST", f"{one}/report", {"reported_to": "office", "final": True})
    assert early.status_code == 400 and early.json()["error"]["param"] == "final_at_s"
    change = {"measures": "key revoked", "ended_at_s": now_s}
    assert len(house.operator("PATCH", one, change).json()["clocks"]) == 2
    assert house.operator("PATCH", one, {}).status_code == 400
    assert house.operator("PATCH", one, {"note": "told them"}).status_code == 200
    told = [(one["action"], one["text"]) for one in house.operator("GET", one).json()["timeline"]]
    assert told == [
        ("opened", "key leaked"), ("reported", "office 7"), ("ended", "measures, ended_at_s"),
        ("noted", "told them"),
    ]  # fmt: skip
    log = house.operator("GET", f"/audit?target={made['id']}").json()["data"]
    assert len(log) == 4 and {one["tenant"] for one in log} == {"alpha"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"began_at_s": 100, "detected_at_s": 99},
        {"detected_at_s": 2**41},
        {"severity": "huge"},
        {"title": ""},
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(house: Platform, wrong: dict[str, Any]) -> None:
    reply = house.operator("POST", PATH, {"tenant": "alpha", "title": "t"} | wrong)
    assert reply.status_code == 400, reply.text


def test_a_tenant_has_its_own_and_sees_no_other(house: Platform) -> None:
    theirs = opened(house)["id"]
    owner, stranger = house.person("alpha", "owner"), house.person("beta", "owner")
    assert owner("GET", f"{PATH}/{theirs}").status_code == 200
    assert stranger("GET", f"{PATH}/{theirs}").status_code == 404
    assert stranger("PATCH", f"{PATH}/{theirs}", {"note": "x"}).status_code == 404
    assert theirs not in stranger("GET", PATH).text
    for tenant in ("alpha", ""):
        body = {"tenant": tenant, "title": "t"}
        assert stranger("POST", PATH, body).status_code == 403


def test_the_report_counts_the_calls_concerned_and_names_what_is_missing(house: Platform) -> None:
    now_ms = int(time.time() * 1e3)
    fields = {"tenant": "alpha", "model_asked": "leaky", "model_served": "leaky-1"}
    calls = [
        record(1, event_id=f"in-{n}", started_ms=now_ms - n, filing="F-1", **fields)
        for n in range(3)
    ]
    calls.append(record(1, event_id="before", started_ms=now_ms - 10**8, **fields))
    calls.append(record(1, event_id="else", started_ms=now_ms, tenant="beta", model_asked="leaky"))
    house.app.state.context.ledger.ingest([call_record.encode(one) for one in calls])
    made = opened(house, model="leaky", began_at_s=now_ms // 1_000 - 60, description="*leak*")
    found = house.operator("GET", f"{PATH}/{made['id']}/report?language=en").json()
    assert [(one["tenant"], one["calls"], one["filing"]) for one in found["groups"]] == [
        ("alpha", 3, "F-1")
    ]
    assert "| alpha | leaky | leaky-1 |" in found["markdown"]
    assert "\\*leak\\*" in found["markdown"], "people's words are no markup"
    assert (
        "measures taken" in found["missing"]
        and "[TO BE ADDED: measures taken]" in found["markdown"]
    )
    zh = house.operator("GET", f"{PATH}/{made['id']}/report").json()
    assert "涉及的调用" in zh["markdown"] and "损失与社会影响" in zh["missing"]
    own = house.person("alpha", "owner")("GET", f"{PATH}/{made['id']}/report")
    assert own.status_code == 200 and len(own.json()["groups"]) == 1


def test_a_report_without_calls_says_so() -> None:
    empty = dict.fromkeys(("id", "title", "kind", "severity", "tenant", "model", "description",
                           "measures"), "")  # fmt: skip
    times = dict.fromkeys(("began_at_s", "detected_at_s", "ended_at_s", "reported_at_s"))
    made = draft(
        empty | times, [], complete=False, end_users=0, freezes=[], timeline=[], language="en"
    )
    assert "no call of that time in the ledger" in made.missing
    assert "more calls than are counted" in made.missing


def test_a_chinese_report_says_kind_severity_and_timeline_in_chinese(house: Platform) -> None:
    made = opened(house, kind="personal-data")
    house.operator("PATCH", f"{PATH}/{made['id']}", {"note": "asked"})
    report = house.operator("GET", f"{PATH}/{made['id']}/report?language=zh").json()["markdown"]
    for words in ("**类型**: 个人信息", "**级别**: 较大", " 登记: ", " 备注: asked"):
        assert words in report, report


def test_an_alert_comes_when_a_clock_runs_out_once_each(house: Platform) -> None:
    now_s = int(time.time())
    made = opened(house, title="late", detected_at_s=now_s - 3 * HOUR_S)
    engine = house.app.state.context.engine

    def told() -> list[int]:
        with engine.connect() as connection:
            rows = connection.execute(
                select(alerts_table.c.detail, alerts_table.c.tenant).where(
                    alerts_table.c.kind == "incident_report_due"
                )
            ).all()
        assert {row.tenant for row in rows} <= {"alpha"}
        return [row.detail.count('"percent":100') for row in rows if made["id"] in row.detail]

    alerts.look_at_incidents(engine, now_s)
    assert told() == [0], "three quarters are gone"
    alerts.look_at_incidents(engine, now_s + HOUR_S + 1)
    alerts.look_at_incidents(engine, now_s + HOUR_S + 2)
    assert sorted(told()) == [0, 1]
    house.operator("POST", f"{PATH}/{made['id']}/report", {"reported_to": "office"})
    alerts.look_at_incidents(engine, now_s + 9 * HOUR_S)
    assert sorted(told()) == [0, 1]
    detail = {"subject": ["i", "first-report"], "title": "t", "percent": 100, "due_at_s": 0}
    zh, en = alerts.words("incident_report_due", "alpha", detail)
    assert "已逾期" in zh and "was due at 1970-01-01 08:00:00 +08:00" in en


def test_incidents_without_a_running_clock_push_none_out_that_has_one(house: Platform) -> None:
    made = opened(house, title="the last")
    kinds = ({"severity": "general"}, {"reported_at_s": 3})
    row = {
        "tenant": "beta", "title": "t", "kind": "security", "severity": "larger",
        "operator": "operator", "model": "", "description": "", "measures": "", "began_at_s": 1,
        "detected_at_s": 2, "ended_at_s": None, "reported_at_s": None, "final_at_s": None,
        "reported_to": "", "reference": "", "created_by": "u", "created_at_s": 2,
    }  # fmt: skip
    rows = [
        row | kind | {"id": f"inc_{of}_{n}"}
        for of, kind in enumerate(kinds)
        for n in range(OPEN_MAX // len(kinds) + 1)
    ]
    with house.engine.begin() as connection:
        connection.execute(insert(incidents_table), rows)
    due = house.operator("GET", "/compliance/deadlines?is_open=true").json()["data"]
    assert made["id"] in {one["id"] for one in due} and "inc_0_0" not in {one["id"] for one in due}
