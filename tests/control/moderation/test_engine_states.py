"""State of moderation engines: what all gateways say, as one, and who is shown it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.security.platform import Platform, platform
from tokenschain.control import gateways
from tokenschain.control.moderation.engine_states import together
from tokenschain.core.gateway_status import GatewayStatus
from tokenschain.core.moderation.engine_record import EngineStatus

GREEN = EngineStatus(
    "green", "alibaba-green", "closed", "cn", answered=30, errors={"timeout": 1},
    waits={40: 30}, last_error="timeout 0.3 s", last_error_s=1_000.0, requests_today=70,
    requests_a_day=100,
)  # fmt: skip
LOCAL = EngineStatus("local", "local", "closed", "own", answered=5, waits={5: 5})


def _changed(**fields: object) -> EngineStatus:
    return msgspec.structs.replace(GREEN, **fields)


def test_the_worst_breaker_shows_and_counts_add_up() -> None:
    other = _changed(breaker="open", answered=10, errors={"timeout": 2, "quota": 4}, waits={60: 10},
                     last_error="quota", last_error_s=2_000.0, requests_today=100,
                     credential=False)  # fmt: skip
    local, green = together([GREEN, LOCAL, other])
    assert local.name == "local" and local.p50_ms is not None and local.p95_ms is None
    assert (green.breaker, green.gateways, green.without_credential) == ("open", 2, 1)
    assert green.answered == 40 and green.errors == {"quota": 4, "timeout": 3}
    assert (green.last_error, green.last_error_s) == ("quota", 2_000.0)
    assert (green.requests_today, green.requests_left_today) == (170, 30)
    assert green.p50_ms is not None and green.p95_ms is not None and green.p95_ms > green.p50_ms


def test_without_a_bound_at_one_gateway_nothing_is_left_to_tell() -> None:
    (green,) = together([GREEN, _changed(requests_a_day=None)])
    assert green.requests_left_today is None


def test_a_state_that_is_not_known_counts_as_the_worst() -> None:
    (green,) = together([_changed(breaker="molten"), _changed(breaker="open")])
    assert green.breaker == "molten"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("engines")) as made:
        body = {"kind": "tenant", "tenant": "alpha", "name": "alpha"}
        assert made.operator("POST", "/organization/units", body).status_code == 201
        yield made


def test_the_platform_sees_engines_and_a_tenant_does_not(house: Platform) -> None:
    """How much is screened, and fails, tells of other tenants."""
    assert house.operator("GET", "/moderation/engines").json() == {"data": []}
    said = GatewayStatus("g-1", 0, 1, "0.1.0", 0.0, 5, 0.2, 0, 1, 0.0, engines=(LOCAL, GREEN))
    gateways.note(house.engine, said)
    gateways.note(house.engine, msgspec.structs.replace(said, name="g-2"))
    rows = house.operator("GET", "/moderation/engines").json()["data"]
    assert [(one["name"], one["gateways"], one["answered"]) for one in rows] == [
        ("local", 2, 10),
        ("green", 2, 60),
    ]
    assert rows[1]["errors"] == {"timeout": 2} and rows[1]["requests_left_today"] == 60
    for role in ("reviewer", "owner", "developer"):
        assert house.person("alpha", role)("GET", "/moderation/engines").status_code == 403
