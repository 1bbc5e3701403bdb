"""Incident freezes: what they hold for, who sets and lifts them, and that gateways keep to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.security.platform import Platform, platform
from tests.stack import Stack
from tests.waiting import until
from tokenschain.core.snapshot import Snapshot, restrictions
from tokenschain.core.snapshot.freeze import Freeze, holds

PATH = "/moderation-freezes"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("freezes")) as made:
        for tenant in ("alpha", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        yield made


def test_a_freeze_holds_for_a_model_a_tenant_or_both() -> None:
    model, tenant, both = Freeze("", "m"), Freeze("a", ""), Freeze("b", "n")
    assert holds([model], "x", ["m"]) and not holds([model], "x", ["n"])
    assert holds([model], "x", ["x/m"]), "by whatever upstream: a tenant's own has its name before"
    assert holds([tenant], "a", ["n"]) and not holds([tenant], "x", ["n"])
    assert holds([both], "b", ["n"]) and not holds([both], "a", ["n"])
    assert not holds([both], "b", ["m"])


def test_a_freeze_holds_where_the_rest_of_a_configuration_is_of_no_use() -> None:
    later = restrictions.of_snapshot(Snapshot("2", {}, {}, freezes=(Freeze("", "m"),)))
    kept = restrictions.decode(restrictions.encode(later))
    assert restrictions.restricted(Snapshot("1", {}, {}), kept, "2").freezes == later.freezes


def test_a_tenant_freezes_its_own_and_no_other(house: Platform) -> None:
    owner, wanted = house.person("alpha", "admin"), {"model": "m", "reason": "incident"}
    for tenant in ("", "beta"):
        assert owner("POST", PATH, wanted | {"tenant": tenant}).status_code == 403
    made = owner("POST", PATH, wanted | {"tenant": "alpha"})
    assert made.status_code == 201, made.text
    assert owner("POST", PATH, wanted | {"tenant": "alpha"}).status_code == 409
    assert owner("POST", PATH, {"tenant": "alpha", "reason": "all"}).status_code == 201
    assert house.operator("POST", PATH, {"reason": "all"}).status_code == 400, "not everything"
    lifting = f"{PATH}/{made.json()['id']}/lift"
    stranger = house.person("beta", "owner")
    assert stranger("POST", lifting).status_code == 404
    assert made.json()["id"] not in stranger("GET", PATH).text
    lifted = owner("POST", lifting).json()
    assert lifted["lifted_by"] == owner.id
    log = house.operator("GET", "/audit?tenant=alpha").json()["data"]
    assert [one["detail"] for one in log if one["target"] == made.json()["id"]] == [
        {"lifted": "m"}, {"model": "m", "reason": "incident"},
    ]  # fmt: skip


def test_gateways_refuse_a_frozen_model_and_serve_it_again_when_it_is_lifted(stack: Stack) -> None:
    wanted = {"model": "other-chat", "reason": "incident"}
    made = stack.admin("POST", f"/api/v1{PATH}", json=wanted)
    assert made.status_code == 201, made.text
    until(lambda: stack.chat(model="other-chat").status_code == 403)
    refused = stack.chat(model="other-chat").json()["error"]
    assert refused["code"] == "frozen" and "incident" in refused["message"]
    assert stack.chat(model="sim-chat").status_code == 200, "another model is served"
    stack.admin("POST", f"/api/v1{PATH}/{made.json()['id']}/lift")
    until(lambda: stack.chat(model="other-chat").status_code == 200)
