"""The admin API under generated requests: whatever comes in, what comes out is as described."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.stack import Stack
from tests.upstreams import UpstreamSimulator

EXAMPLES = 25
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("fuzz"), upstream.base_url).start("control")
    yield made
    made.close()


def test_generated_requests_are_answered_as_described(house: Stack) -> None:
    described = schemathesis.openapi.from_url(
        f"http://127.0.0.1:{house.control_port}/openapi.json",
        headers={"authorization": f"Bearer {house.admin_token}"},
    )
    operations = [result.ok() for result in described.get_all_operations()]
    assert len(operations) > 45
    wrong: list[str] = []
    for operation in operations:

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            reply = case.call(headers={"authorization": f"Bearer {house.admin_token}"}, timeout=20)
            case.validate_response(reply, checks=CHECKS)
            if reply.status_code >= 400:
                said = reply.json()["error"]
                assert set(said) - {"problems"} == {"message", "type", "param", "code"}

        try:
            check()
        except BaseExceptionGroup as group:
            said = " | ".join(str(error) for error in group.exceptions)
            wrong.append(f"{operation.label}: {said[:800]} {group.message[-500:]}")
        except Exception as error:
            wrong.append(f"{operation.label}: {str(error)[:800]}")
    assert not wrong, "\n\n".join(wrong)
