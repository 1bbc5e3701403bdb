"""The gateway's route table: every path is found, and every handler exists."""

from __future__ import annotations

import inspect

import pytest

from tokenschain.gateway.api import app, routes


@pytest.mark.parametrize("route", routes.ROUTES, ids=lambda route: route.path)
def test_each_route_is_found_by_its_path(route: routes.Route) -> None:
    found = routes.find(route.path.replace("{id}", "resp_1").encode())
    assert found is not None and found[0] is route


def test_what_follows_the_fixed_part_is_handed_on() -> None:
    found = routes.find(b"/v1/models/qwen/qwen3-max")
    assert found is not None and found[1] == b"qwen/qwen3-max"
    assert routes.find(b"/v1/model") is None


def test_the_dispatcher_knows_every_handler_of_the_table() -> None:
    source = inspect.getsource(app.Gateway)
    for route in routes.ROUTES:
        assert route.handler == "call" or f'case "{route.handler}"' in source
