"""Existence oracles: what is another tenant's is answered like what is not there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute

from tests import kept_content, moderation_cases, waiting_approvals
from tests.records import record
from tests.security.platform import Platform, platform
from tokenschain.control.api import app as app_module
from tokenschain.core import call_record

NOWHERE = "nowhere"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("existence")) as made:
        for tenant in ("acme", "beta"):
            unit = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", unit).status_code == 201
            unit = {"kind": "project", "tenant": tenant, "name": "p1"}
            assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


def theirs(house: Platform) -> dict[str, str]:
    """One of each thing that the other tenant has, by the name of a path's part."""
    boss = house.operator
    owner = house.person("beta", "owner")
    rate = {"kind": "rate", "measure": "requests", "amount": 5, "match": {"tenant": "beta"}}
    assert boss("PUT", "/limits/beta-rpm", rate).status_code == 200
    target = {"tenant": "beta", "kind": "email", "name": "n", "address": "a@b.example"}
    assert boss("PUT", "/roles/beta/beta-role", {"permissions": ["org:read"]}).status_code == 200
    call = record(1, event_id="beta-call", tenant="beta", project="p1")
    house.app.state.context.ledger.ingest([call_record.encode(call)])
    silence = {"tenant": "beta", "expires_at_s": int(time.time()) + 3_600, "reason": "load test"}
    freeze = {"tenant": "beta", "model": "m", "reason": "incident"}
    asked = {"tenant": "beta", "kind": "access", "end_user": "user-1"}
    deposit = boss("POST", "/wallets/beta/deposits", {"amount": "5", "reference": "bank"})
    return {
        "unit_id": house.unit("tenant", "beta", "beta"),
        "key_id": owner("POST", "/keys", {"tenant": "beta", "project": "p1"}).json()["id"],
        "limit_id": "beta/beta-rpm",
        "tenant": "beta",
        "user_id": owner.id,
        "binding_id": str(house.rows("select id from bindings where tenant = 'beta'")[0][0]),
        "token_id": owner("GET", f"/users/{owner.id}/tokens").json()["data"][0]["id"],
        "target_id": boss("POST", "/alert-targets", target).json()["id"],
        "silence_id": boss("POST", "/alert-silences", silence).json()["id"],
        "freeze_id": boss("POST", "/moderation-freezes", freeze).json()["id"],
        "approval_id": waiting_approvals.ask(house, "beta"),
        "incident_id": boss("POST", "/incidents", {"tenant": "beta", "title": "t"}).json()["id"],
        "request_id": boss("POST", "/subject-requests", asked).json()["id"],
        "proposal_id": moderation_cases.propose(house, "beta"),
        "suspension_id": moderation_cases.suspend(house, "beta"),
        "case_id": moderation_cases.enter(house, "beta"),
        "call_id": kept_content.enter(house, "beta"),
        "hold_id": kept_content.hold(house, "beta"),
        "transaction_id": deposit.json()["transaction_id"],
        "name": "beta-role",
        "event_id": "beta-call",
        "day": "2026-11-25",
        "standard": "mlps3",
        "template": "user-notice",
    }


def bodies_of(route: APIRoute) -> dict[str, Any] | None:
    """A body that makes sense."""
    for field in route.dependant.body_params:
        kind: Any = field.field_info.annotation
        kind = next(iter(get_args(kind)), kind)
        return dict(kind.example)
    return None


def test_what_is_anothers_is_answered_like_what_is_not_there(house: Platform) -> None:
    found = theirs(house)
    owner = house.person("acme", "owner")
    asked = 0
    for subject in app_module.ADMIN_SUBJECTS:
        for route in subject.router.routes:
            assert isinstance(route, APIRoute)
            method, path = min(route.methods or ()), route.path.removeprefix("/api/v1")
            if path.startswith(("/oidc", "/me", "/sessions")):
                continue
            queries = {
                field.alias: field.field_info.examples[0]
                for field in route.dependant.query_params
                if field.field_info.examples
            }
            answers = []
            for theirs_ in (True, False):
                target = path
                for name, value in found.items():
                    made_up = NOWHERE if name == "tenant" else f"{value[:-2]}zz"
                    target = target.replace(f"{{{name}}}", value if theirs_ else made_up)
                tenant = found["tenant"] if theirs_ else NOWHERE
                body = bodies_of(route)
                if body is not None and "tenant" in body and target == path:
                    body["tenant"] = tenant
                if body is not None and "match" in body:
                    body["match"] = {"tenant": tenant}
                query = queries | ({"tenant": tenant} if target == path and body is None else {})
                reply = owner(method, target, body, params=query)
                if reply.status_code == 400 and "tenant" in query:  # it takes none
                    reply = owner(method, target, body, params=queries)
                answers.append((reply.status_code, reply.text.replace(tenant, "X")))
                asked += 1
            assert answers[0] == answers[1], (method, path, answers)
            if "{" in path or "tenant" in queries:
                assert answers[0][0] in (400, 403, 404), (method, path, answers)
    assert asked > 80


def test_the_name_of_a_limit_is_its_tenants_own(house: Platform) -> None:
    acme, beta, boss = house.person("acme", "owner"), house.person("beta", "owner"), house.operator
    rate = {"kind": "rate", "measure": "requests", "amount": 5}
    for asker, tenant, amount in ((acme, "acme", 7), (beta, "beta", 8)):
        body = rate | {"amount": amount, "match": {"tenant": tenant}}
        made = asker("PUT", "/limits/cap", body)
        assert (made.status_code, made.json()["id"]) == (200, f"{tenant}/cap")
        assert made.json()["version"] == 1
    for name in ("cap", "acme/cap"):
        assert acme("GET", f"/limits/{name}").json()["amount"] == 7
    assert acme("GET", "/limits/beta/cap").status_code == 404
    assert acme("DELETE", "/limits/beta/cap").status_code == 404
    # Another tenant's is not moved into one's own, nor one's own into another.
    for name, tenant, status in (("beta/cap", "acme", 409), ("acme/cap", "beta", 403)):
        body = rate | {"match": {"tenant": tenant}}
        assert acme("PUT", f"/limits/{name}", body).status_code == status
    assert boss("GET", "/limits/beta/cap").json()["amount"] == 8
    # Who sees both says which; the platform's own has the bare name.
    assert boss("GET", "/limits/cap").status_code == 409
    assert boss("PUT", "/limits/cap", rate | {"amount": 9}).json()["id"] == "cap"
    assert boss("GET", "/limits/cap").json()["amount"] == 9
    assert acme("GET", "/limits/cap").json()["amount"] == 7
    assert acme("DELETE", "/limits/cap").json() == {"id": "acme/cap", "deleted": True}
    assert acme("GET", "/limits/cap").status_code == 404
    assert beta("GET", "/limits/cap").json()["amount"] == 8


def test_a_wallet_is_a_limit_that_nobody_sets_or_takes_away(house: Platform) -> None:
    unit = house.unit("tenant", "acme", "acme")
    prepaid = house.operator("PATCH", f"/organization/units/{unit}", {"prepaid": True})
    assert prepaid.status_code == 200
    rich = {"kind": "budget", "measure": "spend", "amount": 10**18, "match": {"tenant": "acme"}}
    for asker in (house.person("acme", "owner"), house.operator):
        for name in ("wallet", "acme/wallet"):
            assert asker("PUT", f"/limits/{name}", rich).status_code == 409
            assert asker("DELETE", f"/limits/{name}").status_code == 409
            assert asker("GET", f"/limits/{name}").json()["amount"] == 0
