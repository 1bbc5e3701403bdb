"""Checks of a configuration: what they cost, what tenants may not do, and what they are not told."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import Connection, event

from tests.security.platform import Caller, Platform, platform
from tokenschain.control.configuration import changes, checks, configuration, kinds, model_routes
from tokenschain.control.configuration.checks import Organization
from tokenschain.control.configuration.kinds import Spec
from tokenschain.control.configuration.resources import Kind, Owned, Problem, ResourceKey
from tokenschain.infra import catalog_file
from tokenschain.infra.config import Settings
from tokenschain.wire.client import Origin

VIRTUAL = Kind.VIRTUAL_MODEL
TOO_LONG = 3.0
"""How many times as long twice as much may take: what is quadratic takes four times."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("checks")) as made:
        for tenant in ("acme", "bravo"):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


def upstream(*models: str, **fields: Any) -> dict[str, Any]:
    return {"provider": "custom", "base_url": "https://models.example/v1",
            "models": list(models)} | fields  # fmt: skip


# --- cost ----------------------------------------------------------------------------------------


def circular(count: int) -> dict[ResourceKey, dict[str, Any]]:
    """Virtual models that name each other, a hundred entries each."""
    return {
        ResourceKey(VIRTUAL, "acme", f"v{n}"): {
            "entries": [{"model": f"v{(n * 7 + at) % count}"} for at in range(100)]
        }
        for n in range(count)
    }


def misspelt(count: int) -> dict[ResourceKey, dict[str, Any]]:
    """Virtual models of a platform with many names, each entry a near miss of some."""
    names = [f"model-number-{n}" for n in range(1_000)]
    entries = [{"model": f"model-numbr-{at}", "upstream": "mein"} for at in range(100)]
    return {
        ResourceKey(Kind.UPSTREAM, "acme", "mine"): upstream(*names),
        **{ResourceKey(VIRTUAL, "acme", f"v{n}"): {"entries": entries} for n in range(count)},
    }


def for_nobody(count: int) -> dict[ResourceKey, dict[str, Any]]:
    """Rules for models and projects that there are none of."""
    modes = {f"{part}/model-numbr-{at}": "exact"
             for part in ("model", "project") for at in range(count * 20)}  # fmt: skip
    spec = {"mode_overrides": modes}
    return misspelt(0) | {ResourceKey(Kind.CACHE_RULES, "acme", kinds.SINGLE): spec}


def took_s(given: dict[ResourceKey, dict[str, Any]]) -> float:
    specs: dict[ResourceKey, Spec] = {key: kinds.stored(key, one) for key, one in given.items()}
    whole = configuration.of_specs(specs)
    settings, catalog = Settings(), catalog_file.load()
    there = Organization(
        frozenset(["acme"]), frozenset(Owned("acme", f"project-{n}") for n in range(1_000))
    )
    began = time.thread_time()
    routes = model_routes.build(whole, settings, catalog, ())
    found = [*checks.problems(whole, routes), *checks.reference_problems(whole, routes, there)]
    took = time.thread_time() - began
    assert found
    return took


@pytest.mark.parametrize("wrong", [circular, misspelt, for_nobody])
def test_what_is_wrong_costs_in_proportion(
    wrong: Callable[[int], dict[ResourceKey, dict[str, Any]]],
) -> None:
    once, twice = (min(took_s(wrong(count)) for _ in range(3)) for count in (20, 40))
    assert twice < TOO_LONG * once + 0.05, (once, twice)
    # Near names are looked for where they are shown: a thousand look-ups take seconds.
    assert twice < 1.0, twice


def test_a_great_many_mistakes_are_refused_at_once(house: Platform) -> None:
    owner = house.person("acme", "admin")
    documents = [
        {"kind": key.kind, "tenant": key.tenant, "name": key.name, "spec": spec}
        for key, spec in circular(95).items()
    ]
    assert len(msgspec.json.encode(documents)) < 1_000_000
    began = time.monotonic()
    reply = owner("POST", "/configuration/apply", {"documents": documents})
    assert reply.status_code == 400, reply.text
    assert "is a virtual model" in reply.json()["error"]["message"]
    assert time.monotonic() - began < 10.0


def test_a_spec_of_unknown_fields_is_not_read_to_its_end() -> None:
    key = ResourceKey(Kind.UPSTREAM, "acme", "mine")
    values = {f"concurency_max_{n}": 1 for n in range(2_500)}
    began = time.thread_time()
    _, problems = kinds.read(key, values)
    assert len(problems) == 100
    assert time.thread_time() - began < 1.0


# --- zones and fees that the platform has set -----------------------------------------------------


def zone_of(provider: str, base_url: str | None, tenant: str, **more: Any) -> str:
    values = {"provider": provider, "models": ["m"]} | more
    if base_url is not None:
        values["base_url"] = base_url
    key = ResourceKey(Kind.UPSTREAM, tenant, "u")
    whole = configuration.of_specs({key: kinds.stored(key, values)})
    routes = model_routes.build(whole, Settings(), catalog_file.load(), ())
    (found,) = [one for one in routes.upstreams.values() if one.tenant == tenant]
    return found.zone


def test_a_tenants_upstream_is_in_its_providers_zone_only_at_its_providers_address() -> None:
    for provider in catalog_file.load().providers:
        if provider.base_url is None or provider.zone is None:
            continue
        host = Origin.of(provider.base_url).host
        assert zone_of(provider.id, None, "acme") == provider.zone
        assert zone_of(provider.id, f"https://{host.upper()}/v9", "acme") == provider.zone
        for elsewhere in (
            "https://thief.example/v1", f"https://{host}.thief.example/v1", f"https://{host}:444/",
            f"https://thief.example/{host}", f"https://thief.example?{host}", f"http://{host}/v1",
        ):  # fmt: skip
            assert zone_of(provider.id, elsewhere, "acme") == "", elsewhere
            assert zone_of(provider.id, elsewhere, "acme", zone="own") == "own", "the platform's"
    # Where the catalog has no address, nobody but the platform knows.
    for provider in catalog_file.load().providers:
        if provider.base_url is None:
            assert zone_of(provider.id, "https://some.example/v1", "acme") == ""


@pytest.mark.parametrize(
    "pinned", [{"zone": "cn"}, {"call_fee_micro_cny": 777}, {"credential": "env:KEY"}]
)
def test_what_the_platform_said_of_a_tenants_upstream_stays_with_it(
    house: Platform, pinned: dict[str, Any]
) -> None:
    boss, owner = house.operator, house.person("acme", "admin")
    path, field = "/upstreams/pinned?tenant=acme", next(iter(pinned))
    made = boss("PUT", path, {"spec": upstream("m") | pinned})
    assert made.status_code == 200, made.text

    def apply(name: str, *, prune: bool) -> Any:
        document = {"kind": "upstream", "tenant": "acme", "name": name, "spec": upstream("m")}
        body = {"documents": [document], "prune": prune}
        return owner("POST", "/configuration/apply", body)

    elsewhere = {"base_url": "https://thief.example/v1"}
    attempts = [
        owner("PATCH", path, {"spec": elsewhere}),
        owner("PATCH", path, {"spec": {"provider": "deepseek"}}),
        owner("PATCH", path, {"spec": {"token_url": "https://thief.example/t"}}),
        owner("PATCH", path, {"spec": {field: None}}),
        owner("PUT", path, {"spec": upstream("m") | pinned | elsewhere}),
        owner("PUT", path, {"spec": upstream("m")}),
        owner("DELETE", path),
        owner("POST", f"/revisions/{made.json()['revision']}/rollback", {}),
        apply("pinned", prune=False),
        apply("other", prune=True),
    ]
    assert [reply.status_code for reply in attempts] == [403] * len(attempts)
    if field != "credential":
        said = f"The platform set {field} of the upstream pinned of tenant acme: only the platform"
        assert f"{said} changes its base_url." in attempts[0].json()["error"]["message"]
        assert f"{said} takes it away." in attempts[6].json()["error"]["message"]
        assert owner("PATCH", path, {"spec": {"drain": True}}).status_code == 200
        explicit = {"provider": "custom", "token_url": None}
        assert owner("PATCH", path, {"spec": explicit}).status_code == 200, "as it is by default"
    assert boss("GET", path).json()["spec"][field] in (pinned[field], [pinned[field]])
    assert boss("DELETE", path).status_code == 200
    for method, body in (("PUT", {"spec": upstream("m")}), ("PATCH", {"spec": elsewhere})):
        assert owner(method, path, body).status_code == 200, "nothing of it is the platform's"
    assert owner("DELETE", path).status_code == 200


# --- what tenants are not told --------------------------------------------------------------------


def entry_of(caller: Caller, **entry: Any) -> httpx.Response:
    path = "/virtual-models/probe?tenant=acme&dry_run=true"
    return caller("PUT", path, {"spec": {"entries": [entry]}})


def test_names_of_other_tenants_are_as_names_that_there_are_none_of(house: Platform) -> None:
    owner, other = house.person("acme", "admin"), house.person("bravo", "admin")
    spec = {"spec": upstream("m-of-bravo")}
    assert other("PUT", "/upstreams/mine?tenant=bravo", spec).status_code == 200
    entries = {"spec": {"entries": [{"model": "m-of-bravo"}]}}
    assert other("PUT", "/virtual-models/secret-bot?tenant=bravo", entries).status_code == 200
    for name in ("secret-bot", "m-of-bravo", "mine"):
        for field in ("model", "upstream"):
            told = entry_of(owner, **{"model": "none-such"} | {field: name})
            of_none = entry_of(owner, **{"model": "none-such"} | {field: "x" * len(name)})
            assert told.status_code == of_none.status_code == 400, (field, name, told.text)
            assert told.text == of_none.text.replace("x" * len(name), name)


def test_an_upstream_of_the_platform_is_known_by_the_models_it_sells(house: Platform) -> None:
    boss, owner = house.operator, house.person("acme", "admin")
    price = {"input": 1, "output": 1}
    for name, models in (("seller", ["sold"]), ("hidden", ["other"])):
        spec = upstream(*models, prices={model: price for model in models})
        assert boss("PUT", f"/upstreams/{name}", {"spec": spec}).status_code == 200
    assert entry_of(owner, model="sold", upstream="seller").status_code == 200
    told = entry_of(owner, model="sold", upstream="hidden")
    of_none = entry_of(owner, model="sold", upstream="nobody")
    assert told.status_code == of_none.status_code == 400
    assert told.text == of_none.text.replace("nobody", "hidden")
    assert entry_of(owner, model="other", upstream="hidden").status_code == 200


def test_warnings_are_of_tenants_whose_configuration_one_may_read(
    house: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_bravo = Problem(VIRTUAL, "bravo", "secret-bot", "name", "it is of no use now")
    of_acme = dataclasses.replace(of_bravo, tenant="acme", name="mine")
    monkeypatch.setattr(checks, "consequences", lambda before, after: [of_bravo, of_acme])
    for caller, told in ((house.person("acme", "admin"), 1), (house.operator, 2)):
        reply = caller("PUT", "/cache-rules/default?tenant=acme&dry_run=true", {"spec": {}})
        assert reply.status_code == 200 and len(reply.json()["warnings"]) == told
        assert ("bravo" in reply.text) == (told == 2)


# --- two changes at once --------------------------------------------------------------------------

OWN = "/upstreams/own?tenant=acme"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", OWN, {"spec": upstream("m")}),
        ("PATCH", OWN, {"spec": {"drain": True}}),
        ("DELETE", OWN, None),
        ("POST", "/configuration/apply", {"documents": [
            {"kind": "upstream", "tenant": "acme", "name": "u", "spec": upstream("m")}],
            "prune": True}),
        ("POST", "/revisions/{revision}/rollback", {}),
    ],
)  # fmt: skip
def test_what_is_checked_is_read_when_nobody_else_may_change_it(
    house: Platform, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: Any
) -> None:
    """On PostgreSQL a change waits for another at the row of the revision counter only."""
    made = house.operator("PUT", OWN, {"spec": upstream("m", region=f"r-{method}-{len(path)}")})
    path = path.replace("{revision}", str(made.json()["revision"]))
    said: list[str] = []
    lock = changes.lock

    def noted(connection: Connection) -> None:
        said.append("locked")
        lock(connection)

    monkeypatch.setattr(changes, "lock", noted)
    event.listen(house.engine, "before_cursor_execute", lambda *given: said.append(given[2]))
    assert house.person("acme", "admin")(method, path, body).status_code == 200
    begun = said[max(at for at, one in enumerate(said) if one == "BEGIN IMMEDIATE") :]
    assert begun.index("locked") < next(n for n, one in enumerate(begun) if "FROM resources" in one)
