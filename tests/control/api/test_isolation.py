"""What one tenant sees and changes of another: nothing."""

from __future__ import annotations

from typing import Any

from tests import web
from tests.control.people import PASSWORD, person
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator


def get_routes(stack: Stack) -> list[str]:
    schema = stack.admin("GET", "/openapi.json").json()
    return [path for path, methods in schema["paths"].items() if "get" in methods]


def _made(who: Any, path: str, body: dict[str, str]) -> str:
    made = who("POST", path, json=body)
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def test_tenant_a_sees_no_row_of_b_over_any_get(house: Stack, upstream: UpstreamSimulator) -> None:
    """Every list and every read: `beta` is in no answer, asked for or not."""
    for tenant in ("alpha", "beta"):
        key = house.admin("POST", "/api/v1/keys", json={"tenant": tenant, "project": "p1",
                                                        "tags": [f"whose={tenant}"]}).json()  # fmt: skip
        of = {"tenant": tenant}
        house.admin("PUT", f"/api/v1/limits/{tenant}-rpm",
                    json={"kind": "rate", "measure": "requests", "amount": 100, "match": of})  # fmt: skip
        house.admin("PUT", f"/api/v1/limits/{tenant}-month",
                    json={"kind": "budget", "measure": "spend", "amount": 1, "match": of,
                          "hard": False})  # fmt: skip
        house.admin("POST", f"/api/v1/wallets/{tenant}/deposits",
                    json={"amount": "5", "reference": f"bank {tenant}"})  # fmt: skip
        house.admin("POST", "/api/v1/prices", json={"tenant": tenant, "model": "sim-chat",
                                                    "input": "3", "output": "4"})  # fmt: skip
        house.admin("POST", "/api/v1/alert-targets",
                    json={"tenant": tenant, "kind": "email", "name": tenant,
                          "address": f"x@{tenant}.example"})  # fmt: skip
        house.admin("PUT", f"/api/v1/roles/{tenant}/{tenant}-role",
                    json={"permissions": ["org:read"]})  # fmt: skip
        house.admin("PUT", f"/api/v1/virtual-models/faq?tenant={tenant}",
                    json={"spec": {"entries": [{"model": "sim-chat"}]}})  # fmt: skip
        house.until_known(key["key"])
        body = {"model": "sim-chat", "messages": [{"role": "user", "content": "x"}]}
        reply = web.post(f"{house.url}/v1/chat/completions", json=body,
                           headers={"authorization": f"Bearer {key['key']}"})  # fmt: skip
        assert reply.status_code == 200, reply.text
        house.row_of(reply)
    beta = person(house, "beta", "owner")
    alpha = person(house, "alpha", "owner")
    theirs = {
        "unit_id": [n["id"] for n in beta("GET", "/organization/units").json()["data"]],
        "key_id": [k["id"] for k in beta("GET", "/keys").json()["data"]],
        "limit_id": ["beta-rpm", "beta-month"],
        "tenant": ["beta"],
        "user_id": [u["id"] for u in beta("GET", "/users").json()["data"]],
        "record_id": ["0" * 64],
        "event_id": [c["event_id"] for c in beta("GET", "/calls").json()["data"]],
        "revision": [str(r["revision"]) for r in beta("GET", "/revisions").json()["data"]],
        "resource_name": ["faq"],
        "case_id": ["case_0"],
        "incident_id": [_made(beta, "/incidents", {"tenant": "beta", "title": "x"})],
        "request_id": [
            _made(beta, "/subject-requests", {"tenant": "beta", "kind": "access", "end_user": "u"})
        ],
    }
    assert all(theirs.values())
    checked = 0
    for route in get_routes(house):
        path = route.removeprefix("/api/v1")
        if path.startswith("/oidc") or path == "/calls/export":
            continue
        name = path.partition("{")[2].partition("}")[0].partition(":")[0]
        for value in theirs.get(name, [""]):
            target = path
            if name:
                target = path[: path.index("{")] + value + path[path.index("}") + 1 :]
            of_nobody = path in ("/me", "/me/search", "/me/signing-keys", "/served-models", "/upstream-health", "/metering", "/fx-rates",
                                 "/metrics", "/rejected-records", "/diagnostics", "/gateways",
                                 "/audit-log/checkpoint", "/audit-log/consistency", "/settings",
                                 "/compliance/standards", "/compliance/separation", "/compliance/notice",
                                 "/moderation/packs", "/moderation/engines")  # fmt: skip
            for query in ("",) if name or of_nobody else ("", "?tenant=beta"):
                reply = alpha("GET", target + query)
                assert "beta" not in reply.text.replace("?tenant=beta", ""), (target, reply.text)
                assert reply.status_code in (
                    (403,) if query or name == "tenant" else (200, 404, 403)
                ), (target + query, reply.text)
                checked += 1
                seen = beta("GET", target)
                if not name and target in ("/organization/units", "/keys", "/limits", "/users", "/usage",
                                           "/calls", "/ledger-entries", "/prices", "/audit",
                                           "/alert-targets", "/roles", "/virtual-models",
                                           "/configuration", "/revisions"):  # fmt: skip
                    assert "beta" in seen.text, target
    assert checked > 25
    assert alpha("GET", "/me/search?text=beta").json() == {"data": []}
    assert "beta" in beta("GET", "/me/search?text=beta").text
    export = alpha("GET", f"/calls/export?from_s=0&until_s={2**40}&format=csv")
    assert export.status_code == 200 and "alpha" in export.text and "beta" not in export.text
    refused = alpha("GET", f"/calls/export?from_s=0&until_s={2**40}&tenant=beta")
    assert refused.status_code == 403


def test_tenant_a_changes_nothing_of_b(house: Stack) -> None:
    alpha = person(house, "alpha", "owner")
    key = house.admin("GET", "/api/v1/keys?tenant=beta").json()["data"][0]
    node = house.admin("GET", "/api/v1/organization/units?tenant=beta").json()["data"][0]
    user = house.admin("POST", "/api/v1/users",
                       json={"tenant": "beta", "email": "victim@b.example", "name": "V"}).json()  # fmt: skip
    house.admin("PUT", "/api/v1/limits/beta-own",
                json={"kind": "rate", "measure": "requests", "amount": 9, "match": {"tenant": "beta"}})  # fmt: skip
    rate = {"kind": "rate", "measure": "requests", "amount": 1}
    for method, path, body in (
        ("POST", "/keys", {"tenant": "beta"}),
        ("PATCH", f"/keys/{key['id']}", {"name": "mine"}),
        ("POST", f"/keys/{key['id']}/rotate", {}),
        ("DELETE", f"/keys/{key['id']}", None),
        ("POST", "/organization/units", {"kind": "project", "tenant": "beta", "name": "x"}),
        ("POST", "/organization/units", {"kind": "tenant", "tenant": "gamma", "name": "gamma"}),
        ("PATCH", f"/organization/units/{node['id']}", {"closed": True}),
        ("PUT", "/limits/beta/beta-own", rate | {"match": {"tenant": "alpha"}}),
        ("PUT", "/limits/new", rate | {"match": {"tenant": "beta"}}),
        ("PUT", "/limits/new", rate),
        ("DELETE", "/limits/beta/beta-own", None),
        ("POST", "/users", {"tenant": "beta", "email": "q@q.example", "name": "Q"}),
        ("POST", "/users", {"tenant": "*", "email": "r@q.example", "name": "Q"}),
        ("PATCH", f"/users/{user['id']}", {"password": PASSWORD}),
        ("POST", f"/users/{user['id']}/bindings", {"role": "owner", "tenant": "alpha"}),
        ("POST", f"/users/{user['id']}/tokens", {}),
        ("PUT", "/roles/beta/mine", {"permissions": ["org:read"]}),
        ("POST", "/wallets/alpha/deposits", {"amount": "100", "reference": "a gift"}),
        ("POST", "/prices", {"tenant": "alpha", "model": "m", "input": "0", "output": "0"}),
        ("PUT", "/fx-rates/2026-11-25", {"usd_cny": "1", "source": "me"}),
        ("POST", "/alert-targets", {"tenant": "beta", "kind": "email", "name": "n",
                                    "address": "a@b.example"}),
    ):  # fmt: skip
        reply = alpha(method, path, json=body)
        assert reply.status_code in (403, 404, 409), (method, path, reply.status_code, reply.text)
