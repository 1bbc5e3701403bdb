"""Bounds of the configuration: a tenant has its share, and what is beyond it may shrink."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import httpx
import msgspec
import pytest

from tests.security.platform import Caller, Platform, platform
from tokenschain.control.configuration import bounds


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("bounds")) as made:
        yield made


def upstream(*models: str) -> dict[str, Any]:
    return {"base_url": "https://models.example/v1", "models": list(models)}


def tenant_of(house: Platform, name: str) -> Caller:
    unit = {"kind": "tenant", "tenant": name, "name": name}
    assert house.operator("POST", "/organization/units", unit).status_code == 201
    return house.person(name, "admin")


def upstreams_of(tenant: str, numbers: Iterable[int], *models: str) -> dict[str, Any]:
    documents = [
        {"kind": "upstream", "tenant": tenant, "name": f"u{n}", "spec": upstream(*models)}
        for n in numbers
    ]
    return {"documents": documents}


def test_a_tenant_has_a_bounded_number_of_upstreams(house: Platform) -> None:
    owner, path = tenant_of(house, "wide"), "/configuration/apply"
    assert owner("POST", path, upstreams_of("wide", range(50), "m")).status_code == 200
    beyond = owner("PUT", "/upstreams/one-more?tenant=wide", {"spec": upstream("m")})
    assert beyond.status_code == 409
    said = "A tenant may have at most 50 upstreams of its own; wide would have 51."
    assert said in beyond.json()["error"]["message"]
    assert owner("DELETE", "/upstreams/u1?tenant=wide").status_code == 200
    assert tenant_of(house, "narrow")(
        "PUT", "/upstreams/u?tenant=narrow", {"spec": upstream("m")}
    ).status_code == 200, "others have their own share"  # fmt: skip


def test_model_names_are_bounded_at_all_upstreams_together(house: Platform) -> None:
    owner, path = tenant_of(house, "deep"), "/configuration/apply"
    names = [f"model-{n}" for n in range(999)]
    assert owner("POST", path, upstreams_of("deep", range(2), *names)).status_code == 200
    virtual = {"spec": {"entries": [{"model": "model-1"}]}}
    for n, status in enumerate((200, 200, 409)):
        reply = owner("PUT", f"/virtual-models/v{n}?tenant=deep", virtual)
        assert reply.status_code == status, reply.text
    assert "at most 2000 model names" in reply.json()["error"]["message"]
    # With no list, an upstream has all that the catalog knows of its provider.
    spec = {"spec": {"provider": "alibaba"}}
    assert owner("PUT", "/upstreams/catalog?tenant=deep", spec).status_code == 409
    assert owner("PUT", "/upstreams/u1?tenant=deep", {"spec": upstream("m")}).status_code == 200
    assert owner("PUT", "/upstreams/catalog?tenant=deep", spec).status_code == 200


def test_a_tenants_specs_are_bounded_in_bytes(house: Platform) -> None:
    owner = tenant_of(house, "long")
    entries = [{"model": "sold-to-long", "when": {"tags": ["x" * 570]}} for _ in range(100)]
    assert owner(
        "PUT", "/upstreams/u?tenant=long", {"spec": upstream("sold-to-long")}
    ).status_code == 200  # fmt: skip
    documents = [
        {"kind": "virtual-model", "tenant": "long", "name": f"v{n}", "spec": {"entries": entries}}
        for n in range(18)
    ]
    few = owner("POST", "/configuration/apply", {"documents": documents[:16]})
    many = owner("POST", "/configuration/apply", {"documents": documents})
    assert few.status_code == 200, few.text
    assert many.status_code == 409 and "1048576 bytes of specs" in many.text


def test_what_is_beyond_the_bounds_may_shrink(
    house: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = tenant_of(house, "grown")
    made = owner("POST", "/configuration/apply", upstreams_of("grown", range(3), "m"))
    assert made.status_code == 200
    monkeypatch.setattr(bounds, "TENANT_MAX", bounds.TENANT_MAX._replace(upstreams=1))
    assert owner("DELETE", "/upstreams/u0?tenant=grown").status_code == 200
    assert (
        owner("PATCH", "/upstreams/u1?tenant=grown", {"spec": {"drain": True}}).status_code == 200
    )
    assert owner("PUT", "/upstreams/u0?tenant=grown", {"spec": upstream("m")}).status_code == 409


def test_a_tenant_changes_its_configuration_so_often_a_minute_and_operators_more(
    house: Platform,
) -> None:
    before = house.app.state.context
    control = msgspec.structs.replace(
        before.settings.control,
        configuration_changes_per_minute_max=3, operator_changes_per_minute_max=5,
    )  # fmt: skip
    settings = msgspec.structs.replace(before.settings, control=control)
    owner, other = tenant_of(house, "busy"), tenant_of(house, "idle")
    house.app.state.context = before._replace(settings=settings)
    try:
        path = "/upstreams/v?tenant=busy"

        def change(caller: Caller, number: int, where: str = path) -> httpx.Response:
            return caller("PUT", where, {"spec": upstream(f"m{number}")})

        done = [change(owner, number).status_code for number in range(3)]
        assert done == [200] * 3 and change(owner, 2).status_code == 200, "nothing changes"
        refused = change(owner, 3)
        assert refused.status_code == 429
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        revision = house.rows("select max(revision) from config_revisions")[0][0]
        back = owner("POST", f"/revisions/{revision}/rollback", {})
        assert back.status_code == 429, "undoing is a change"
        dry = owner("PUT", f"{path}&dry_run=true", {"spec": upstream("x")})
        assert dry.status_code == 200, "looking is free"
        assert change(other, 1, "/upstreams/v?tenant=idle").status_code == 200
        assert [change(house.operator, n).status_code for n in (4, 5, 6)] == [200, 200, 429]
        assert change(house.operator, 1, "/upstreams/all").status_code == 200
        house.rows("update config_revisions set at_ms = at_ms - 60000 returning revision")
        assert change(owner, 7).status_code == 200
    finally:
        house.app.state.context = before
