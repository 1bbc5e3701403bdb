"""Every change is in the audit trail."""

from __future__ import annotations

from tests.control.people import PASSWORD, As
from tests.stack import Stack


def test_every_change_is_in_the_audit_and_no_secret_is(house: Stack) -> None:
    boss = As(house, house.admin_token)
    key = boss("POST", "/keys", json={"tenant": "alpha", "project": "audited"}).json()
    boss("DELETE", f"/keys/{key['id']}")
    events = boss("GET", "/audit?tenant=alpha&limit=200")
    assert key["key"] not in events.text and PASSWORD not in events.text
    mine = [e for e in events.json()["data"] if e["target"] == key["id"]]
    assert [e["action"] for e in mine] == ["keys:revoke", "keys:create"]
    assert {e["actor"] for e in mine} == {"platform"}
