"""Checks of a configuration: cost in proportion to it, however much of it is wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from tests.security.platform import Platform, platform
from tokenschain.control.configuration import checks, configuration, kinds, model_routes
from tokenschain.control.configuration.checks import Organization
from tokenschain.control.configuration.kinds import Spec
from tokenschain.control.configuration.resources import Kind, Owned, ResourceKey
from tokenschain.infra import catalog_file
from tokenschain.infra.config import Settings

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
