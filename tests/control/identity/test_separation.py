"""Separation of powers: while it is on, nobody holds two of the platform's duties."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.security.platform import Caller, Platform, platform
from tokenschain.core.tenancy import ADMINISTRATORS, DUTIES, ROLES, duties_of

PATH = "/compliance/separation"


@pytest.fixture
def house(tmp_path: Any) -> Iterator[Platform]:
    with platform(tmp_path) as made:
        yield made


def give(who: Caller, user: Caller, role: str, tenant: str = "*") -> Any:
    return who("POST", f"/users/{user.id}/bindings", {"role": role, "tenant": tenant})


def test_the_three_roles_have_one_duty_each() -> None:
    found = [duties_of(ROLES[name]) for name in ADMINISTRATORS]
    assert found == [{"system"}, {"security"}, {"audit"}]
    assert duties_of(ROLES["owner"]) == DUTIES.keys()
    assert duties_of(ROLES["viewer"]) == set()


def test_it_is_refused_while_somebody_holds_several(house: Platform) -> None:
    assert house.operator("GET", PATH).json() == {"on": False, "holders": []}
    boss = house.person("*", "admin")
    refused = house.operator("PUT", PATH, {"on": True})
    assert refused.status_code == 409
    assert f"{boss.id}: security, system" in refused.json()["error"]["message"]
    assert house.operator("GET", PATH).json()["holders"] == [
        {"user_id": boss.id, "duties": ["security", "system"]}
    ]
    binding = house.rows(f"select id from bindings where user_id = '{boss.id}'")[0][0]
    assert house.operator("DELETE", f"/bindings/{binding}").is_success
    assert house.operator("PUT", PATH, {"on": True}).json() == {"on": True, "holders": []}


def test_while_it_is_on_no_one_gets_a_second_duty_and_one_authorizes_the_others(
    house: Platform,
) -> None:
    security, system = house.person("*", "security-admin"), house.person("*", "system-admin")
    nobody, other = house.person("*", None), house.person("*", None)
    assert give(security, nobody, "system-admin").status_code == 403, "it lacks what that permits"
    assert house.operator("PUT", PATH, {"on": True}).is_success
    for role in ("security-admin", "audit-admin", "auditor", "owner", "admin"):
        assert give(house.operator, system, role).status_code == 409, role
    assert give(security, nobody, "audit-admin").is_success
    assert give(security, other, "system-admin").is_success
    assert give(security, nobody, "system-admin").status_code == 409
    assert give(security, other, "finance").status_code == 403
    assert give(system, other, "viewer").status_code in (403, 404)
    both = {"permissions": ["users:write", "configuration:write"]}
    assert house.operator("PUT", "/roles/*/both", both).is_success, "a role that nobody has"
    assert give(house.operator, house.person("*", None), "both").status_code == 409
    assert house.operator("PUT", PATH, {"on": False}).is_success
    assert give(house.operator, nobody, "security-admin").is_success


def test_who_is_let_in_again_brings_no_second_duty(house: Platform) -> None:
    boss = house.person("*", "admin")
    assert house.operator("PATCH", f"/users/{boss.id}", {"disabled": True}).is_success
    assert house.operator("PUT", PATH, {"on": True}).is_success
    refused = house.operator("PATCH", f"/users/{boss.id}", {"disabled": False})
    assert refused.status_code == 409, "or somebody would hold two"
    assert house.operator("GET", PATH).json()["holders"] == []
    binding = house.rows(f"select id from bindings where user_id = '{boss.id}'")[0][0]
    assert house.operator("DELETE", f"/bindings/{binding}").is_success
    assert house.operator("PATCH", f"/users/{boss.id}", {"disabled": False}).is_success


def test_a_role_that_changes_brings_no_second_duty(house: Platform) -> None:
    assert house.operator("PUT", "/roles/*/desk", {"permissions": ["users:write"]}).is_success
    house.person("*", "desk")
    assert house.operator("PUT", PATH, {"on": True}).is_success
    more = {"permissions": ["users:write", "org:write"]}
    assert house.operator("PUT", "/roles/*/desk", more).status_code == 409


def test_a_tenants_own_people_are_not_meant(house: Platform) -> None:
    unit = {"kind": "tenant", "tenant": "acme", "name": "acme"}
    assert house.operator("POST", "/organization/units", unit).status_code == 201
    assert house.operator("PUT", PATH, {"on": True}).is_success
    person = house.person("acme", None)
    assert give(house.operator, person, "owner", "acme").is_success
