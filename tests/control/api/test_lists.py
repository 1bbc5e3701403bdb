"""Lists come in pages that lose and double nothing, and changes need their version."""

from __future__ import annotations

from tests.control.people import As
from tests.stack import Stack


def test_changes_need_the_version_they_were_made_from(house: Stack) -> None:
    boss = As(house, house.admin_token)
    path = "/limits/versioned"
    body = {"kind": "rate", "measure": "requests", "amount": 10, "match": {"tenant": "alpha"}}
    known = {"if-match": boss("PUT", path, json=body).headers["etag"]}
    assert boss("PUT", path, json=body | {"amount": 20}, headers=known).is_success
    late = boss("PUT", path, json=body | {"amount": 30}, headers=known)
    assert (late.status_code, late.json()["error"]["code"]) == (412, "precondition_failed")
    assert boss("GET", path).json()["amount"] == 20


def test_lists_come_in_pages_that_lose_and_double_nothing(house: Stack) -> None:
    boss = As(house, house.admin_token)
    for number in range(7):
        boss("POST", "/keys", json={"tenant": "alpha", "project": "pages", "name": f"k{number}"})
    seen, cursor = [], ""
    while True:
        page = boss("GET", f"/keys?project=pages&limit=3&cursor={cursor}").json()
        seen += [key["id"] for key in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 7
    for wrong in ("x", "eyJ4IjoxfQ==", "WzEsMiwzXQ=="):
        reply = boss("GET", f"/keys?cursor={wrong}")
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "cursor")


def test_a_list_that_is_as_it_was_is_not_sent_again(house: Stack) -> None:
    boss = As(house, house.admin_token)
    boss("POST", "/keys", json={"tenant": "alpha", "project": "polled", "name": "first"})
    path = "/keys?project=polled"
    first = boss("GET", path)
    known = {"if-none-match": f'"other", {first.headers["etag"]}'}
    again = boss("GET", path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    boss("POST", "/keys", json={"tenant": "alpha", "project": "polled", "name": "second"})
    changed = boss("GET", path, headers=known)
    assert changed.status_code == 200 and len(changed.json()["data"]) == 2
    assert changed.headers["etag"] != first.headers["etag"]
    stranger = As(house, "wrong")("GET", path, headers=known)
    assert stranger.status_code == 401 and "etag" not in stranger.headers
