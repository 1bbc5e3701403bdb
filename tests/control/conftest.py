"""A platform with two tenants, shared by the tests of one module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack import Stack
from tests.upstreams import UpstreamSimulator


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("people"), upstream.base_url).start()
    for tenant in ("alpha", "beta"):
        made.admin("POST", "/api/v1/keys", json={"tenant": tenant, "project": "p1"})
        made.admin("POST", "/api/v1/keys", json={"tenant": tenant, "project": "p2"})
    yield made
    made.close()
