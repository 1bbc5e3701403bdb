"""What is due, in one list, and the notice that apps show."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.security.platform import Platform, platform
from tokenschain.core.compliance.notices import notice_of
from tokenschain.core.snapshot import ModelRoute, Routing, Snapshot
from tokenschain.core.snapshot.filings import Filing, FilingKind
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry

TODAY = datetime.date(2026, 11, 28)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("duties")) as made:
        for tenant in ("alpha", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        models = {name: ModelRoute(name, "chat", ()) for name in ("m", "n")}
        models["vectors"] = ModelRoute("vectors", "embedding", ())
        entries = tuple(VirtualModelEntry(model=name) for name in ("m", "n"))
        made.app.state.context.publisher.snapshot = Snapshot(
            "1", {}, models, Routing(models={"both": entries})
        )
        yield made


def filing(number: str, *models: str, kind: FilingKind = "generative-ai", **more: str) -> Filing:
    return Filing(number=number, models=models, source="notice", kind=kind, **more)  # type: ignore[arg-type]


def test_a_notice_says_each_number_once_and_names_no_model_without_one() -> None:
    given = [
        filing("F-1", "m", "n", title="大模型", filer="某公司"),
        filing("R-1", "both", kind="registration", title="某应用"),
        filing("A-1", "m", kind="algorithm", link="https://notice.example/a"),
        filing("old", "o", ended_on="2026-01-01"),
    ]
    found = notice_of(given, ["both", "m", "n", "o"], ["m", "n", "o"], TODAY)
    assert found.zh.splitlines()[1:] == [
        "模型名称：某应用，上线编号：R-1",
        "模型名称：大模型（某公司），备案号：F-1",
        "模型名称：m，算法备案编号：A-1，公示链接：https://notice.example/a",
    ]
    assert "Model: 大模型 (某公司), filing number: F-1" in found.en
    assert found.missing == ["o"]
    assert notice_of([], ["m"], ["m"], TODAY).missing == ["m"]
    assert notice_of([], ["m"], ["m"], TODAY).zh == "", "nothing is said of what is not filed"


def put(house: Platform, name: str, **spec: Any) -> None:
    body = {"spec": {"number": f"No-{name}", "source": "notice"} | spec}
    assert house.operator("PUT", f"/filings/{name}", body).status_code == 200


def test_the_notice_is_made_of_the_register_as_it_is(house: Platform) -> None:
    put(house, "first", models=["m"], title="M")
    for caller in (house.operator, house.person("alpha", "developer")):
        found = caller("GET", "/compliance/notice?model=both").json()
        assert found["missing"] == ["n"] and "No-first" in found["zh"] and "No-first" in found["en"]
        assert [one["model"] for one in found["numbers"]] == ["m"]
    put(house, "second", models=["n", "both"])
    found = house.operator("GET", "/compliance/notice").json()
    assert found["missing"] == []
    assert house.operator("GET", "/compliance/notice?model=gone").json()["missing"] == ["gone"]


def test_what_is_due_stands_in_one_list_each_tenant_its_own(house: Platform) -> None:
    today = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=8))).date()
    put(house, "late", models=["m"], kind="algorithm", launched_on="2026-03-02")
    put(house, "now", models=["m"], kind="algorithm", launched_on=today.isoformat())
    now_s = int(time.time())
    for tenant in ("alpha", "beta"):
        body: dict[str, Any] = {"tenant": tenant, "title": "t", "severity": "major"}
        assert house.operator("POST", "/incidents", body).status_code == 201
        body = {"tenant": tenant, "kind": "access", "end_user": "u", "received_at_s": now_s - 9**8}
        assert house.operator("POST", "/subject-requests", body).status_code == 201
    found = house.operator("GET", "/compliance/deadlines?is_open=true").json()["data"]
    assert [one["due_at_s"] for one in found] == sorted(one["due_at_s"] for one in found)
    states = {(one["subject"], one["id"] if one["subject"] == "filing" else one["tenant"]):
              one["state"] for one in found}  # fmt: skip
    assert states == {
        ("filing", "late"): "overdue", ("filing", "now"): "due",
        ("incident", "alpha"): "due", ("incident", "beta"): "due",
        ("subject-request", "alpha"): "overdue", ("subject-request", "beta"): "overdue",
    }  # fmt: skip
    own = house.person("alpha", "owner")("GET", "/compliance/deadlines").json()["data"]
    assert {one["tenant"] for one in own} == {"alpha"}
    assert {one["subject"] for one in own} == {"incident", "subject-request"}
    denied = house.person("alpha", "developer")("GET", "/compliance/deadlines")
    assert denied.status_code == 403
