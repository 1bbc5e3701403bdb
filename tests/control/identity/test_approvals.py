"""Dual approval: what takes two people is done once, as it was approved, and by nobody else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec
import pytest
from sqlalchemy import event, insert, update

from tests import kept_content
from tests.security.platform import Caller, Platform, platform
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.identity.approvals import (
    KEPT_S,
    ApprovalRequired,
    Wanted,
    keep,
    sweep,
    use,
)
from tokenschain.core.errors import ApiError
from tokenschain.infra.config.value_types import GuardedOperation
from tokenschain.infra.database.compliance_tables import approvals
from tokenschain.wiring import machine

POLICY = "/moderation-policies/all"
EXPORT = "/calls/export?from_s=0&until_s=1000"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("approvals")) as made:
        context = made.app.state.context
        control = msgspec.structs.replace(
            context.settings.control,
            second_person_for=get_args(GuardedOperation),
        )
        settings = msgspec.structs.replace(context.settings, control=control)
        made.app.state.context = context._replace(settings=settings)
        unit = {"kind": "tenant", "tenant": "acme", "name": "acme"}
        assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


@pytest.fixture(scope="module")
def first(house: Platform) -> Caller:
    return house.person("*", "owner")


@pytest.fixture(scope="module")
def second(house: Platform) -> Caller:
    return house.person("*", "admin")


def code_of(reply: Any) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def waits(reply: Any) -> str:
    """The id of what waits for a second person, as the refusal says it."""
    assert code_of(reply) == (403, "approval_required"), reply.text
    found = re.search(r"apr_\w+", reply.json()["error"]["message"])
    assert found is not None
    return found.group()


def shown(who: Caller, approval_id: str) -> dict[str, Any]:
    listed = who("GET", "/approvals?limit=100").json()["data"]
    found: dict[str, Any] = next(one for one in listed if one["id"] == approval_id)
    return found


def test_a_second_person_lets_it_be_done_once(
    house: Platform, first: Caller, second: Caller
) -> None:
    body, other = {"spec": {"state": "active"}}, {"spec": {"state": "shadow"}}
    asked = waits(first("PUT", POLICY, body))
    row = shown(second, asked)
    assert (row["state"], row["operation"], row["target"]) == ("pending", "moderation", "all")
    assert waits(first("PUT", POLICY, body)) == asked, "asking again is no second one"
    assert second("POST", f"/approvals/{asked}/approve", {"reason": "ok"}).is_success
    assert waits(first("PUT", POLICY, other)) != asked, "another request"
    assert waits(second("PUT", POLICY, body)) != asked, "another person"
    assert first("PUT", POLICY, body).is_success
    assert shown(first, asked)["state"] == "used"
    assert waits(first("DELETE", POLICY)) != asked
    assert waits(first("PUT", POLICY, body)) != asked, "once"
    noted = house.rows("select action, target from audit_events order by at_ms")
    assert [row[0] for row in noted if row[1] == asked] == ["approval:request", "approvals:write"]


def test_of_two_requests_at_once_one_is_done(house: Platform) -> None:
    wanted = Wanted("roles", "*", "both", "digest", Author("usr_first"))
    with house.engine.connect() as connection:  # nothing of it stays
        connection.execute(insert(approvals).values(
            id="apr_both", operation="roles", tenant="*", target="both", request_hash="digest",
            requested_by="usr_first", requested_at_s=1, expires_at_s=100, state="approved",
        ))  # fmt: skip

        @event.listens_for(connection, "after_cursor_execute", once=True)
        def _used_by_the_other(*_: Any) -> None:
            connection.execute(update(approvals).values(state="used"))

        with pytest.raises(ApprovalRequired):
            use(connection, wanted, 50, keeps=False)


def test_nobody_approves_their_own(house: Platform, first: Caller) -> None:
    own = waits(first("GET", EXPORT))
    assert code_of(first("POST", f"/approvals/{own}/approve", {})) == (409, "conflict")
    of_machine = waits(house.operator("GET", EXPORT))
    assert of_machine != own
    reply = house.operator("POST", f"/approvals/{of_machine}/approve", {})
    assert code_of(reply) == (409, "conflict")


def _end(house: Platform, approval_id: str) -> None:
    with house.engine.begin() as connection:
        ended = update(approvals).where(approvals.c.id == approval_id).values(expires_at_s=1)
        connection.execute(ended)


def test_what_was_approved_may_be_read_again_until_it_ends(
    house: Platform, first: Caller, second: Caller
) -> None:
    path = "/calls/export?from_s=0&until_s=2000"
    asked = waits(first("GET", path))
    assert second("POST", f"/approvals/{asked}/approve", {}).is_success
    assert [first("GET", path).status_code for _ in range(2)] == [200, 200]
    _end(house, asked)
    assert waits(first("GET", path)) != asked


def test_what_was_rejected_or_has_expired_is_not_done(
    house: Platform, first: Caller, second: Caller
) -> None:
    person = house.person("*", None).id
    path, body = f"/users/{person}/bindings", {"role": "viewer", "tenant": "*"}
    asked = waits(first("POST", path, body))
    assert second("POST", f"/approvals/{asked}/reject", {"reason": "no"}).is_success
    assert code_of(second("POST", f"/approvals/{asked}/approve", {})) == (409, "conflict")
    again = waits(first("POST", path, body))
    assert again != asked
    _end(house, again)
    assert code_of(second("POST", f"/approvals/{again}/approve", {})) == (409, "conflict")
    assert shown(second, again)["state"] == "expired"


def test_what_ended_long_ago_is_forgotten(house: Platform, first: Caller) -> None:
    old, young = (waits(first("GET", f"/calls/export?from_s=0&until_s={n}")) for n in (11, 12))
    _end(house, old)
    with house.engine.begin() as connection:
        sweep(connection, KEPT_S + 2)
    left = {row[0] for row in house.rows("select id from approvals")}
    assert young in left and old not in left


def test_an_apply_and_a_rollback_are_no_way_around(house: Platform, first: Caller) -> None:
    document = {"kind": "moderation-policy", "name": "side", "spec": {"state": "shadow"}}
    reply = first("POST", "/configuration/apply", {"documents": [document]})
    assert code_of(reply) == (403, "approval_required")
    dry = first("POST", "/configuration/apply", {"documents": [document], "dry_run": True})
    assert dry.is_success
    revision = house.rows("select max(revision) from config_revisions")[0][0]
    assert code_of(first("POST", f"/revisions/{revision}/rollback", {})) == (
        403, "approval_required")  # fmt: skip


def approved(first: Caller, second: Caller, method: str, path: str, body: Any) -> Any:
    """The answer once a second person has approved, who the first cannot be."""
    asked = waits(first(method, path, body))
    assert code_of(first("POST", f"/approvals/{asked}/approve", {})) == (409, "conflict")
    assert waits(first(method, path, body)) == asked
    assert second("POST", f"/approvals/{asked}/approve", {}).is_success
    reply = first(method, path, body)
    assert reply.is_success, reply.text
    return reply.json()


def test_exports_erasures_and_releases_take_a_second_person(
    house: Platform, first: Caller, second: Caller
) -> None:
    body = {"tenant": "acme", "end_user": "ada-of-the-test", "reason": "case 7"}
    hold = first("POST", "/legal-holds", body).json()["id"]
    contents = "/audit-log/content/export"
    assert approved(first, second, "POST", contents, body)["data"] == []
    assert first("POST", contents, body | {"cursor": ""}).is_success, "the pages that follow"
    waits(first("POST", contents, body | {"end_user": "bob"}))
    assert first("POST", "/content-erasures", body | {"dry_run": True}).is_success
    assert approved(first, second, "POST", "/content-erasures", body)["contents"] == 0
    waits(first("POST", "/content-erasures", body))
    why = {"reason": "closed"}
    released = approved(first, second, "POST", f"/legal-holds/{hold}/release", why)
    assert released["released_by"] == first.id
    asked = {"tenant": "acme", "kind": "deletion", "end_user": "ada-of-the-test"}
    request = first("POST", "/subject-requests", asked).json()["id"]
    done = {"decision": "done", "reason": "identified"}
    path = f"/subject-requests/{request}/decide"
    assert approved(first, second, "POST", path, done)["state"] == "done"
    kept = house.rows("select * from approvals")
    assert "ada-of-the-test" not in str(kept), "who it is about stands in no approval"


def test_who_opens_many_contents_takes_a_second_person(house: Platform, second: Caller) -> None:
    first = house.person("*", "owner")
    most = house.app.state.context.settings.control.contents_opened_alone_max
    for number in range(most + 2):
        payload = kept_content.shipped(house, "acme", f"many-{number}", started_ms=1)
        assert kept_content.archive(house).enter([payload])
    paths = [f"/audit-log/content/many-{number}/open" for number in range(most + 2)]
    why = {"reason": "complaint 1"}
    assert all(first("POST", path, why).is_success for path in paths[:most])
    approved(first, second, "POST", paths[most], why)
    assert first("POST", paths[most + 1], why).is_success, "until the approval ends"


def test_acts_on_keys_of_the_machine_take_a_second_person(
    house: Platform, first: Caller, second: Caller
) -> None:
    settings = house.app.state.context.settings
    with pytest.raises(ApiError) as refused:
        machine.need_second_person(settings, "seal all anew")
    asked = re.search(r"apr_\w+", str(refused.value))
    assert asked is not None
    reply = house.operator("POST", f"/approvals/{asked.group()}/approve", {})
    assert code_of(reply) == (409, "conflict"), "who has the machine has the admin token"
    assert first("POST", f"/approvals/{asked.group()}/approve", {}).is_success
    machine.need_second_person(settings, "seal all anew")
    with pytest.raises(ApiError):
        machine.need_second_person(settings, "another act")
    noted = house.rows("select target from audit_events where action = 'keys:operate'")
    assert noted == [("seal all anew",)]
    signed = Wanted("keys", "*", "reseal", "signed", Author(first.id))
    keep(house.engine, ApprovalRequired("apr_signed", signed, known=False), 60)
    own = house.operator("POST", "/approvals/apr_signed/approve", {})
    assert code_of(own) == (409, "conflict"), "a person who signed it has the machine, too"
    assert second("POST", "/approvals/apr_signed/approve", {}).is_success
    alone = msgspec.structs.replace(
        settings, control=msgspec.structs.replace(settings.control, second_person_for=())
    )
    machine.need_second_person(alone, "another act")


def test_a_tenants_own_take_one_person(house: Platform) -> None:
    owner = house.person("acme", "owner")
    body = {"spec": {"state": "active"}}
    assert owner("PUT", "/moderation-policies/mine?tenant=acme", body).is_success
    shown_to = owner("GET", "/approvals").json()["data"]
    assert {one["tenant"] for one in shown_to} == {"acme"}, "not what others wait for"


def test_by_default_one_person_is_enough(tmp_path: Any) -> None:
    with platform(tmp_path) as made:
        assert made.operator("PUT", POLICY, {"spec": {"state": "active"}}).is_success
        assert made.rows("select * from approvals") == []
