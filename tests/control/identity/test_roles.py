"""Nobody gives what they lack, and duties stay apart."""

from __future__ import annotations

from pathlib import Path

from tests.control.people import person
from tests.security.platform import platform
from tests.stack import Stack


def test_nobody_gives_what_they_lack(house: Stack) -> None:
    boss = person(house, "alpha", "admin")
    mine = boss("GET", "/me").json()["id"]
    for role in ("owner", "finance", "auditor"):
        reply = boss("POST", f"/users/{mine}/bindings", json={"role": role, "tenant": "alpha"})
        assert reply.status_code in (403, 409), (role, reply.text)
    grand = boss("PUT", "/roles/alpha/grand", json={"permissions": ["billing:write"]})
    assert grand.status_code == 403
    assert "grand" not in boss("GET", "/roles?tenant=alpha").text
    owner_id = person(house, "alpha", "owner")("GET", "/me").json()["id"]
    taken = boss("PATCH", f"/users/{owner_id}", json={"password": "a new password 1"})
    assert taken.status_code == 403, "whoever sets an owner's password is an owner"


def test_issuing_keys_and_reading_the_audit_stay_apart(house: Stack) -> None:
    both = {"permissions": ["keys:create", "audit:read"]}
    assert house.admin("PUT", "/api/v1/roles/alpha/both", json=both).status_code == 400
    made = house.admin("POST", "/api/v1/users",
                       json={"tenant": "alpha", "email": "sod@a.example", "name": "S"}).json()  # fmt: skip
    path = f"/api/v1/users/{made['id']}/bindings"
    assert house.admin("POST", path, json={"role": "developer", "tenant": "alpha"}).is_success
    reply = house.admin("POST", path, json={"role": "auditor", "tenant": "alpha"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "conflict")


def test_a_project_developer_stays_in_the_project(house: Stack) -> None:
    dev = person(house, "alpha", "developer", project="p1")
    assert {k["project"] for k in dev("GET", "/keys").json()["data"]} == {"p1"}
    assert dev("POST", "/keys", json={"tenant": "alpha", "project": "p1"}).status_code == 201
    assert dev("POST", "/keys", json={"tenant": "alpha", "project": "p2"}).status_code == 403
    assert dev("GET", "/usage").status_code == 403
    assert dev("GET", "/usage?project=p1").status_code == 200
    assert dev("GET", "/usage?project=p2").status_code == 403
    assert dev("GET", "/audit").status_code == 403
    names = {node["name"] for node in dev("GET", "/organization/units").json()["data"]}
    assert "p1" in names and "p2" not in names


def test_a_role_is_taken_away_when_nobody_has_it(tmp_path: Path) -> None:
    with platform(tmp_path) as made:
        boss = made.operator
        unit = {"kind": "tenant", "tenant": "acme", "name": "acme"}
        assert boss("POST", "/organization/units", unit).status_code == 201
        body = {"permissions": ["users:write", "audit:read"]}
        assert boss("PUT", "/roles/acme/helper", body).status_code == 200
        helper = made.person("acme", "helper")
        held = boss("DELETE", "/roles/acme/helper")
        assert (held.status_code, held.json()["error"]["code"]) == (409, "conflict")
        assert "1 bindings" in held.json()["error"]["message"]
        with_less = made.person("acme", "admin")
        (binding,) = boss("GET", f"/users/{helper.id}").json()["bindings"]
        assert boss("DELETE", f"/bindings/{binding['id']}").status_code == 200
        assert with_less("DELETE", "/roles/acme/helper").status_code == 403, "it lacks audit:read"
        assert boss("DELETE", "/roles/acme/helper").status_code == 200
        assert boss("DELETE", "/roles/acme/helper").status_code == 404
        assert boss("DELETE", "/roles/acme/owner").status_code == 404, "it is always there"
