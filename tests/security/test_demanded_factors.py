"""A second factor that the tenant or the platform demands comes before anything else."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.security.platform import Platform, platform
from tests.security.test_permissions import OPERATIONS
from tests.security.test_sign_in import code_of, email_of, sign_in, with_totp

PASSWORD = "correct horse battery"
BEFORE_FACTOR = {
    "DELETE /sessions", "GET /me", "POST /me/totp", "POST /me/totp/confirm", "POST /me/step-up",
    "POST /me/password",
}  # fmt: skip
"""What is done without it: setting it up, and what is the own account's."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("factors")) as made:
        for tenant in ("acme", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        yield made


def test_who_has_none_sets_it_up_and_may_go_on(house: Platform) -> None:
    unit = f"/organization/units/{house.unit('tenant', 'acme', 'acme')}"
    boss = house.person("acme", "owner", password=PASSWORD)
    viewer = house.person("acme", "viewer", password=PASSWORD)
    has_one, _, _ = with_totp(house, "acme", "viewer")
    program = house.person("acme", "viewer", token_kind="api")
    other = house.person("beta", "owner", password=PASSWORD)
    assert viewer("PATCH", unit, {"second_factor_required": True}).status_code == 403
    assert other("PATCH", unit, {"second_factor_required": True}).status_code == 404
    made = boss("PATCH", unit, {"second_factor_required": True})
    assert made.status_code == 200 and made.json()["second_factor_required"] is True
    for person in (boss, viewer):
        for method, path in (("GET", "/keys"), ("GET", f"/users/{person.id}/tokens"),
                             ("GET", "/me/search?text=keys")):  # fmt: skip
            refused = person(method, path, {} if method == "POST" else None)
            assert refused.status_code == 403, (path, refused.text)
            assert refused.json()["error"]["code"] == "second_factor_required"
        assert person("GET", "/me").json()["must_set_up_factor"] is True
    assert boss("PATCH", unit, {"second_factor_required": False}).status_code == 403
    for untouched in (has_one, program, other, house.operator):
        assert untouched("GET", "/keys").status_code == 200
        assert untouched("GET", "/me").json()["must_set_up_factor"] is False
    secret = viewer("POST", "/me/totp").json()["secret"]
    body = {"secret": secret, "code": code_of(secret), "password": PASSWORD}
    assert viewer("POST", "/me/totp/confirm", body).status_code == 200
    assert viewer("GET", "/keys").status_code == 200
    assert viewer("GET", "/me").json()["must_set_up_factor"] is False
    entered = sign_in(house, email_of(house, boss.id), PASSWORD)
    assert entered.status_code == 201, "signing in leads to setting it up"
    again = house.with_token(entered.json()["token"], boss.id)
    assert again("GET", "/keys").json()["error"]["code"] == "second_factor_required"


def test_every_operation_for_who_is_signed_in_waits_for_it_but_few() -> None:
    early = {name for name, needed in OPERATIONS.items() if needed and needed.before_factor}
    assert early == BEFORE_FACTOR


def test_the_platforms_setting_holds_for_all_whatever_a_tenant_says(house: Platform) -> None:
    person = house.person("beta", "owner", password=PASSWORD)
    colleague = house.person("*", "viewer", password=PASSWORD)
    unit = f"/organization/units/{house.unit('tenant', 'beta', 'beta')}"
    before = house.app.state.context
    control = msgspec.structs.replace(before.settings.control, second_factor_required=True)
    settings = msgspec.structs.replace(before.settings, control=control)
    house.app.state.context = before._replace(settings=settings)
    try:
        for one in (person, colleague):
            refused = one("PATCH", unit, {"second_factor_required": False})
            assert refused.json()["error"]["code"] == "second_factor_required"
        assert house.operator("GET", "/users").status_code == 200
    finally:
        house.app.state.context = before
    assert person("PATCH", unit, {"second_factor_required": True}).status_code == 200


def test_only_a_tenant_demands_it(house: Platform) -> None:
    body = {"kind": "project", "tenant": "beta", "name": "search"}
    project = house.operator("POST", "/organization/units", body).json()["id"]
    reply = house.operator(
        "PATCH", f"/organization/units/{project}", {"second_factor_required": True}
    )
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == "second_factor_required"
