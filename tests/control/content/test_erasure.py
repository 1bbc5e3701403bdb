"""Erasure: retention classes, holds, late arrivals, and backups that bring keys back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from tests import kept_content
from tests.security.platform import Platform, platform
from tokenschain.control.content.content_archive import ContentArchive
from tokenschain.control.content.erasure import DestroyedKeys
from tokenschain.control.content.key_hierarchy import ContentKeys
from tokenschain.control.content.retention import RetentionJob
from tokenschain.infra.database.content_tables import call_contents
from tokenschain.infra.security.suite import GM

DAY_MS = 86_400_000
NOW_MS = int(time.time() * 1e3)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("erasure")) as made:
        made.have_tenants("acme", "back", "first", "free", "gone", "held", "late", "suites", "torn")
        yield made


def keep(house: Platform, tenant: str, call: str, days_ago: int, **more: str) -> int:
    at_ms = NOW_MS - days_ago * DAY_MS
    payload = kept_content.shipped(house, tenant, call, started_ms=at_ms, **more)
    return int(kept_content.archive(house).enter([payload]))


def calls(house: Platform, tenant: str) -> set[str]:
    return {
        row[0] for row in house.rows(f"select call_id from call_contents where tenant='{tenant}'")
    }


def live(house: Platform, tenant: str) -> int:
    query = f"select 1 from content_keys where tenant='{tenant}' and destroyed_at_ms is null"
    return len(house.rows(query))


def policy(house: Platform, tenant: str, retention: str, project: str = "") -> None:
    body = {"tenant": tenant, "project": project, "content": "full", "retention": retention}
    assert house.operator("PUT", "/content-policies", body).status_code == 200


def test_what_is_older_than_its_class_is_erased_and_on_record(
    house: Platform, tmp_path: Path
) -> None:
    policy(house, "acme", "days:10")
    policy(house, "acme", "days:30", "long")
    keep(house, "acme", "new", 5)
    keep(house, "acme", "old", 20, end_user="ada")
    keep(house, "acme", "long", 20, project="long")
    keep(house, "acme", "ancient", 40, project="long", end_user="bob")
    keep(house, "free", "no policy", 400)
    said: list[str] = []
    path = tmp_path / "destroyed"
    job = RetentionJob(house.engine, path, lambda event, *_, **__: said.append(event))
    before = live(house, "acme")
    job.look(NOW_MS)
    assert calls(house, "acme") == {"new", "long"} and calls(house, "free") == {"no policy"}
    assert said == ["content_erased"]
    # The keys of two end users on their days, and of the day on which nothing is left.
    assert before - live(house, "acme") == 3 == len(DestroyedKeys(path).read())
    rows = house.operator("GET", "/content-erasures?tenant=acme").json()["data"]
    assert {one["reason"] for one in rows} == {"retention class days:10", "retention class days:30"}
    assert all(one["erased_by"] == "system" for one in rows)
    events = house.operator("GET", "/audit?action=content:erase").json()["data"]
    assert {one["target"] for one in events} >= {one["id"] for one in rows}
    job.look(NOW_MS)
    assert len(house.operator("GET", "/content-erasures?tenant=acme").json()["data"]) == len(rows)


def test_a_hold_of_a_period_outlives_the_class(house: Platform, tmp_path: Path) -> None:
    policy(house, "held", "days:1")
    keep(house, "held", "inside", 10)
    keep(house, "held", "outside", 20)
    at_s = NOW_MS // 1_000
    body = {"tenant": "held", "from_s": at_s - 12 * 86_400, "until_s": at_s - 8 * 86_400,
            "reason": "case"}  # fmt: skip
    made = house.operator("POST", "/legal-holds", body).json()["id"]
    job = RetentionJob(house.engine, tmp_path / "destroyed", lambda *_, **__: None)
    job.look(NOW_MS)
    assert calls(house, "held") == {"inside"}
    erased = {"tenant": "held", "reason": "asked for"}
    assert house.operator("POST", "/content-erasures", erased).json()["held"] == 1
    house.operator("POST", f"/legal-holds/{made}/release", {"reason": "over"})
    job.look(NOW_MS)
    assert calls(house, "held") == set()


def test_a_hold_of_an_end_user_holds_what_any_suite_sealed(house: Platform) -> None:
    keys = ContentKeys(house.engine, house.app.state.context.sealer, GM)
    shared = house.app.state.internal.cases.shared
    other = ContentArchive(house.engine, shared, keys, audited=False)
    other.enter([kept_content.shipped(house, "suites", "before", end_user="ada")])
    body = {"tenant": "suites", "end_user": "ada", "reason": "case 7"}
    hold = house.operator("POST", "/legal-holds", body).json()
    assert len(hold["subject"]) == 32 and "subjects" not in hold
    keep(house, "suites", "with it", 0, end_user="ada")
    other.enter([kept_content.shipped(house, "suites", "after", end_user="ada")])
    done = house.operator("POST", "/content-erasures", body).json()
    assert (done["contents"], done["held"]) == (0, 3)
    assert calls(house, "suites") == {"before", "with it", "after"}


def test_what_arrives_after_its_erasure_is_not_kept(house: Platform) -> None:
    keep(house, "late", "first", 0, end_user="ada")
    body = {"tenant": "late", "end_user": "ada", "reason": "asked for"}
    assert house.operator("POST", "/content-erasures", body).json()["contents"] == 1
    assert keep(house, "late", "on its way", 1, end_user="ada") == 0
    assert keep(house, "late", "of another", 1, end_user="bob") == 1
    assert calls(house, "late") == {"of another"}


def test_the_first_content_of_a_tenant_is_not_kept_after_its_erasure(house: Platform) -> None:
    body = {"tenant": "first", "end_user": "ada", "reason": "asked for"}
    assert house.operator("POST", "/content-erasures", body | {"dry_run": True}).status_code == 200
    assert not house.rows("select 1 from tenant_keys where tenant = 'first'"), "it is dry"
    assert house.operator("POST", "/content-erasures", body).json()["contents"] == 0
    assert keep(house, "first", "first on its way", 1, end_user="ada") == 0
    assert keep(house, "first", "first of another", 1, end_user="bob") == 1


def test_content_that_was_changed_is_named_by_who_would_read_it(house: Platform) -> None:
    keep(house, "torn", "torn-1", 0)
    keep(house, "torn", "torn-2", 0)
    with house.engine.begin() as connection:
        query = update(call_contents).where(call_contents.c.call_id == "torn-1")
        connection.execute(query.values(body=b"\x01" + bytes(60)))
    for path, body in (
        ("/audit-log/content/torn-1/open", {"reason": "a test"}),
        ("/audit-log/content/export", {"tenant": "torn", "reason": "a test"}),
    ):
        reply = house.operator("POST", path, body)
        assert reply.status_code == 500 and "`torn-1`" in reply.json()["error"]["message"]
    fine = house.operator("POST", "/audit-log/content/torn-2/open", {"reason": "a test"})
    assert fine.status_code == 200


def test_a_tenant_is_erased_with_its_key(house: Platform) -> None:
    keep(house, "gone", "one", 3)
    keep(house, "gone", "two", 0, end_user="ada")
    done = house.operator("POST", "/content-erasures", {"tenant": "gone", "reason": "left"}).json()
    assert done["contents"] == 2 and live(house, "gone") == 0
    keys = house.rows("select length(sealed) from tenant_keys where tenant = 'gone'")
    assert [row[0] for row in keys] == [0]


def test_keys_that_a_backup_brings_back_are_destroyed_again(
    house: Platform, tmp_path: Path
) -> None:
    keep(house, "back", "back-1", 0)
    key = house.rows("select key_id from call_contents where tenant = 'back'")
    DestroyedKeys(tmp_path / "destroyed").note([key[0][0], "ckey_of_nobody"])
    said: list[str] = []
    job = RetentionJob(
        house.engine, tmp_path / "destroyed", lambda event, *_, **__: said.append(event)
    )
    job.look(NOW_MS)
    assert calls(house, "back") == set() and "content_keys_destroyed_again" in said
    assert house.rows(f"select length(wrapped) from content_keys where id='{key[0][0]}'") == [(0,)]
    job.look(NOW_MS)
    assert said.count("content_keys_destroyed_again") == 1
