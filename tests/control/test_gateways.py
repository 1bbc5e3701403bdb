"""What gateways say of themselves is kept while they are there, and refusals are noted once."""

from __future__ import annotations

import msgspec
import pytest
from sqlalchemy import func, select

from tests.control.configuration import conftest
from tests.control.configuration.conftest import Platform, upstream
from tests.stack import Stack
from tests.waiting import until
from tokenschain.control import gateways
from tokenschain.control.configuration import history
from tokenschain.control.configuration.resources import Kind
from tokenschain.core.gateway_status import GatewayStatus, RefusedRevision
from tokenschain.infra.database.tables import alerts, config_revisions

platform = conftest.platform
STATUS = GatewayStatus("gateway-0-abc", 0, 1, "0.1.0", 0.0, 5, 0.2, 0, 1, 0.0)


def test_each_gateway_is_there_as_it_said_it_last(platform: Platform) -> None:
    gateways.note(platform.engine, STATUS)
    gateways.note(platform.engine, msgspec.structs.replace(STATUS, name="gateway-1-def"))
    gateways.note(platform.engine, msgspec.structs.replace(STATUS, revision=6))
    with platform.engine.begin() as connection:
        found = gateways.seen(connection)
    assert [(one.status.name, one.status.revision) for one in found] == [
        ("gateway-0-abc", 6),
        ("gateway-1-def", 5),
    ]


def test_variables_that_gateways_have_not_got_are_known(platform: Platform) -> None:
    """Of those that run, and that say what they have."""
    for name, variables in (("g-1", ("A", "B")), ("g-2", ("B",)), ("old", None)):
        status = msgspec.structs.replace(STATUS, name=name, set_variables=variables)
        gateways.note(platform.engine, status)
    with platform.engine.begin() as connection:
        found = gateways.lacking(connection, ["A", "B", "C"])
    assert found == {"A": ["g-2"], "C": ["g-1", "g-2"]}


def test_gateways_that_say_nothing_are_forgotten(
    platform: Platform,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gateways.note(platform.engine, STATUS)
    monkeypatch.setattr(gateways, "FORGOTTEN_S", -1.0)
    with platform.engine.begin() as connection:
        assert gateways.seen(connection) == []


def test_a_refused_revision_is_noted_on_it_and_alerted_once(platform: Platform) -> None:
    platform.put(Kind.UPSTREAM, "one", upstream("m"))
    with platform.engine.begin() as connection:
        latest = history.latest(connection)
    refused = RefusedRevision(latest, "v", "upstream one: not an http(s) URL")
    for _ in range(3):
        gateways.note(platform.engine, msgspec.structs.replace(STATUS, refused=refused))
    with platform.engine.begin() as connection:
        assert gateways.refusing(connection) == [STATUS.name]
        noted = connection.execute(
            select(config_revisions.c.refusals).where(config_revisions.c.revision == latest)
        ).scalar()
        said = connection.execute(select(func.count()).select_from(alerts)).scalar()
    assert str(noted).count(STATUS.name) == 1 and said == 1


def test_the_gateway_of_a_platform_says_what_it_serves_by(stack: Stack) -> None:
    def there() -> bool:
        found = stack.admin("GET", "/api/v1/gateways").json()["data"]
        return bool(found) and found[0]["revision"] > 0

    until(there)
    (one,) = stack.admin("GET", "/api/v1/gateways").json()["data"]
    assert one["rejected_revision"] is None and one["age_s"] >= 0
