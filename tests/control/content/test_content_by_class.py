"""Kept content by data class: how long it stays, under which key, and who reads it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from tests import kept_content, moderation_cases
from tests.security.platform import Caller, Platform, platform
from tokenschain.control.configuration import store
from tokenschain.control.content.retention import RetentionJob
from tokenschain.core.call_record import CHARACTERS_MAX
from tokenschain.core.moderation.case_record import KeptText
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import ledger

DAY_MS = 86_400_000
NOW_MS = int(time.time() * 1e3)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("by-class")) as made:
        made.have_tenants("acme", "beta")
        for name, rule in (
            ("important", {"retention_days_min": 30, "own_key": True, "readers": "cleared"}),
            ("personal", {}),
        ):
            reply = made.operator("PUT", f"/data-classes/{name}", {"spec": rule})
            assert reply.status_code == 200, reply.text
        own = {"spec": {"grade": "core", "readers": "cleared"}}
        assert made.operator("PUT", "/data-classes/L4?tenant=acme", own).status_code == 200
        yield made


def keep(house: Platform, tenant: str, call: str, data_class: str, days_ago: int = 0) -> str:
    at_ms = NOW_MS - days_ago * DAY_MS
    payload = kept_content.shipped(
        house, tenant, call, "ada", started_ms=at_ms, data_class=data_class
    )
    assert kept_content.archive(house).enter([payload]) == 1
    return call


def reader(house: Platform, *more: str) -> Caller:
    role = f"reader-{next(_numbers)}"
    rights = ["content:open", "content:read", "moderation:read", "moderation:review", *more]
    made = house.operator("PUT", f"/roles/acme/{role}", {"permissions": rights})
    assert made.status_code == 200, made.text
    return house.person("acme", role)


def test_content_of_a_class_stays_longer_than_the_policy_says(
    house: Platform, tmp_path: Path
) -> None:
    body = {"tenant": "beta", "content": "full", "retention": "days:10"}
    assert house.operator("PUT", "/content-policies", body).status_code == 200
    for call, data_class, days in (
        ("plain", "", 20), ("personal", "personal", 20), ("kept", "important", 20),
        ("beside", "L4+important", 20), ("ancient", "important", 40),
    ):  # fmt: skip
        keep(house, "beta", call, data_class, days)
    job = RetentionJob(
        house.engine, tmp_path / "destroyed", lambda *_, **__: None, store.data_classes
    )
    job.look(NOW_MS)
    left = {row[0] for row in house.rows("select call_id from call_contents where tenant='beta'")}
    assert left == {"kept", "beside"}


def test_a_class_has_a_key_of_its_own_and_it_goes_with_the_tenants(house: Platform) -> None:
    for call, data_class in (("a", "important"), ("b", "personal"), ("c", "important")):
        keep(house, "acme", f"own-{call}", data_class)
    live = "select data_class from tenant_keys where tenant = 'acme' and destroyed_at_ms is null"
    assert sorted(house.rows(live)) == [("",), ("important",)]
    parents = (
        "select distinct d.parent from call_contents c join content_keys s on s.id = c.key_id "
        "join content_keys d on d.id = s.parent where c.call_id in ('own-a', 'own-c')"
    )
    ((parent,),) = house.rows(parents)
    assert house.rows(f"select data_class from tenant_keys where id = '{parent}'") == [
        ("important",)
    ]
    for call in ("own-a", "own-b"):
        opened = house.operator("POST", f"/audit-log/content/{call}/open", {"reason": "r"})
        assert opened.status_code == 200 and opened.json()["input"] == '"hi"'
    erased = {"tenant": "acme", "end_user": "ada", "reason": "asked for"}
    assert house.operator("POST", "/content-erasures", erased).json()["contents"] == 3
    whole = {"tenant": "acme", "reason": "asked for"}
    assert house.operator("POST", "/content-erasures", whole).status_code == 200
    assert house.rows(live) == []


def test_who_reads_needs_the_right_of_the_grade(house: Platform) -> None:
    keep(house, "beta", "of-another-tenant", "important")
    plain, cleared = reader(house), reader(house, "data:important")
    open_it = "/audit-log/content/{}/open"
    for call, data_class in (("free", "personal"), ("closed", "important"), ("own", "L4")):
        call_id = keep(house, "acme", f"read-{call}", data_class, -1)
        path, why = open_it.format(call_id), {"reason": "r"}
        assert house.operator("POST", path, why).status_code == 200
        assert plain("POST", path, why).status_code == (200 if call == "free" else 403), call
        assert cleared("POST", path, why).status_code == (403 if call == "own" else 200), call
    export = {"tenant": "acme", "reason": "r"}
    assert house.operator("POST", "/audit-log/content/export", export).status_code == 200
    refused = cleared("POST", "/audit-log/content/export", export)
    assert refused.status_code == 403 and "data:core" in refused.json()["error"]["message"]


def test_the_texts_of_a_case_need_the_right_too(house: Platform) -> None:
    case = moderation_cases.enter(
        house, "acme", [KeptText("input", "words", ())], event_id="req_important"
    )
    day = NOW_MS // DAY_MS
    db.ensure_days(house.engine, [day])
    row = {
        column.name: "" if column.type.python_type is str else 0
        for column in ledger.columns
        if not column.nullable and column.server_default is None
    } | {"event_id": "req_important", "tenant": "acme", "started_ms": day * DAY_MS,
         "data_class": "important"}  # fmt: skip
    with house.engine.begin() as connection:
        connection.execute(insert(ledger).values(row))
    path = f"/moderation-cases/{case}/open"
    assert reader(house)("POST", path).status_code == 403
    opened = reader(house, "data:important")("POST", path)
    assert opened.status_code == 200 and opened.json()["data"][0]["text"] == "words"


def test_a_case_whose_call_is_on_no_record_may_be_of_any_class(house: Platform) -> None:
    case = moderation_cases.enter(house, "acme", [KeptText("input", "words", ())])
    path = f"/moderation-cases/{case}/open"
    assert reader(house, "data:important")("POST", path).status_code == 403, "it may be L4"
    assert reader(house, "data:important", "data:core")("POST", path).status_code == 200


def test_classes_that_a_record_cannot_hold_may_be_any(house: Platform) -> None:
    cut = "+".join(f"own-{n:028}" for n in range(9))[: CHARACTERS_MAX["data_class"]]
    call = keep(house, "acme", "cut-classes", cut, -1)
    path, why = f"/audit-log/content/{call}/open", {"reason": "r"}
    assert reader(house, "data:important")("POST", path, why).status_code == 403
    assert reader(house, "data:important", "data:core")("POST", path, why).status_code == 200


def test_who_shortens_how_long_a_class_is_kept_may_erase(house: Platform) -> None:
    path, days = "/data-classes/L5?tenant=acme", "retention_days_min"
    admin, owner = house.person("acme", "admin"), house.person("acme", "owner")
    assert admin("PUT", path, {"spec": {days: 30}}).status_code == 200
    assert admin("PUT", path, {"spec": {days: 40, "cache": "none"}}).status_code == 200
    documents = [{"kind": "data-class", "tenant": "acme", "name": "L5", "spec": {}}]
    for method, to, body in (
        ("PUT", path, {"spec": {days: 39}}),
        ("PATCH", path, {"spec": {days: None}}),
        ("DELETE", path, None),
        ("POST", "/configuration/apply", {"documents": documents}),
    ):
        refused = admin(method, to, body)
        assert refused.status_code == 403, (method, refused.text)
        assert "content:erase" in refused.json()["error"]["message"]
    assert owner("DELETE", path).status_code == 200
