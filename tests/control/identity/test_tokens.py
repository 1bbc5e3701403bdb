"""Sessions and tokens end when they should."""

from __future__ import annotations

from tests.control.people import PASSWORD, As, person, sign_in
from tests.stack import Stack


def test_sessions_and_tokens_end_when_they_should(house: Stack) -> None:
    user = person(house, "alpha", "viewer")
    me = user("GET", "/me").json()["id"]
    token = user(
        "POST", f"/users/{me}/tokens", json={"name": "ci", "permissions": ["keys:read"]}
    ).json()
    program = As(house, token["token"])
    assert program("GET", "/me").json()["id"] == me
    listed = user("GET", f"/users/{me}/tokens")
    assert token["token"] not in listed.text and token["id"] in listed.text
    assert user("DELETE", f"/tokens/{token['id']}").status_code == 200
    assert program("GET", "/me").status_code == 401
    change = {"old": PASSWORD, "new": "another good password"}
    assert user("POST", "/me/password", json=change).status_code == 200
    assert user("GET", "/me").status_code == 401
    again = As(house, sign_in(house, user.email, change["new"]).json()["token"])
    assert again("GET", "/me").status_code == 200
    assert house.admin("PATCH", f"/api/v1/users/{me}", json={"disabled": True}).status_code == 200
    assert again("GET", "/me").status_code == 401
    assert sign_in(house, user.email, change["new"]).status_code == 401
