"""Who may do what in the admin API, signing in, and what one tenant sees of another: nothing."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import web
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.core.tenancy import (
    ACTIONS,
    ROLES,
    KeyGrant,
    Resource,
    RoleBinding,
    conflict,
    may,
    may_use,
)
from tokenschain.infra.security import passwords

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("people"), upstream.base_url).start()
    for tenant in ("alpha", "beta"):
        made.admin("POST", "/api/v1/keys", json={"tenant": tenant, "project": "p1"})
        made.admin("POST", "/api/v1/keys", json={"tenant": tenant, "project": "p2"})
    yield made
    made.close()


class As:
    """The admin API as one user sees it."""

    def __init__(self, stack: Stack, token: str, email: str = "") -> None:
        self.email = email
        self.base = f"http://127.0.0.1:{stack.control_port}/api/v1"
        self.headers = {"authorization": f"Bearer {token}"}

    def __call__(self, method: str, path: str, **more: Any) -> httpx.Response:
        headers = self.headers | more.pop("headers", {})
        return web.request(method, self.base + path, headers=headers, timeout=10, **more)


_numbers = itertools.count()


def person(stack: Stack, tenant: str, role: str, **where: Any) -> As:
    """A user of a tenant with a role, signed in."""
    email = f"u{next(_numbers)}@{tenant}.example"
    body = {"tenant": tenant, "email": email, "name": "U", "password": PASSWORD}
    made = stack.admin("POST", "/api/v1/users", json=body)
    assert made.status_code == 201, made.text
    bound = stack.admin(
        "POST", f"/api/v1/users/{made.json()['id']}/bindings",
        json={"role": role, "tenant": tenant, **where},
    )  # fmt: skip
    assert bound.status_code == 201, bound.text
    return As(stack, sign_in(stack, email, PASSWORD).json()["token"], email)


def sign_in(stack: Stack, email: str, password: str, code: str | None = None) -> httpx.Response:
    return web.post(
        f"http://127.0.0.1:{stack.control_port}/api/v1/sessions",
        json={"email": email, "password": password, "code": code},
        timeout=10,
    )


# --- the one decision ---------------------------------------------------------------------


def test_a_binding_reaches_down_the_tree_and_never_up_or_across() -> None:
    admin = ROLES["admin"]
    of_project = RoleBinding(admin, "t", "", "p")
    assert may((of_project,), "keys:create", Resource("t", "", "p", "e"))
    assert not may((of_project,), "keys:create", Resource("t"))
    assert not may((of_project,), "keys:create", Resource("t", "", "q"))
    assert not may((of_project,), "keys:create", Resource("u", "", "p"))
    assert not may((RoleBinding(admin, ""),), "keys:create", Resource(""))
    assert may((RoleBinding(admin, "*"),), "keys:create", Resource("anyone"))
    assert not may((RoleBinding(ROLES["viewer"], "*"),), "keys:create", Resource("t"))
    assert may((RoleBinding(ROLES["auditor"], "t"),), "audit:read", Resource("t"))


def test_every_role_permits_only_what_there_is() -> None:
    kinds = {action.partition(":")[0] for action in ACTIONS}
    for role, permissions in ROLES.items():
        for permission in permissions:
            kind, _, verb = permission.partition(":")
            assert (
                permission in ACTIONS
                or permission == "*"
                or kind == "*"
                or (kind in kinds and verb == "*")
            ), (role, permission)
        assert conflict(permissions) is None


def test_a_key_may_call_its_models_at_its_doors_and_nothing_else() -> None:
    grant = KeyGrant("k", "t", "p", "e", models=("m",), apis=("chat/completions",))
    assert may_use(grant, "m", "chat/completions") and may_use(grant, "m")
    assert not may_use(grant, "n") and not may_use(grant, "m", "embeddings")
    assert not any(
        may((grant,), action, Resource("t", "", "p", "e")) for action in ACTIONS
        if action != "models:call"
    )  # fmt: skip


# --- isolation ------------------------------------------------------------------------------


def get_routes(stack: Stack) -> list[str]:
    schema = web.get(f"http://127.0.0.1:{stack.control_port}/openapi.json").json()
    return [path for path, methods in schema["paths"].items() if "get" in methods]


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
            of_nobody = path in ("/me", "/models", "/upstreams", "/metering", "/fx-rates")
            for query in ("",) if name or of_nobody else ("", "?tenant=beta"):
                reply = alpha("GET", target + query)
                assert "beta" not in reply.text.replace("?tenant=beta", ""), (target, reply.text)
                assert reply.status_code in (
                    (403,) if query or name == "tenant" else (200, 404, 403)
                )
                checked += 1
                seen = beta("GET", target)
                if not name and target in ("/organization/units", "/keys", "/limits", "/users", "/usage",
                                           "/calls", "/ledger-entries", "/prices", "/audit",
                                           "/alert-targets", "/roles"):  # fmt: skip
                    assert "beta" in seen.text, target
    assert checked > 25
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
        ("PUT", "/limits/beta-own", rate | {"match": {"tenant": "alpha"}}),
        ("PUT", "/limits/new", rate | {"match": {"tenant": "beta"}}),
        ("PUT", "/limits/new", rate),
        ("DELETE", "/limits/beta-own", None),
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


def test_nobody_gives_what_they_lack(house: Stack) -> None:
    boss = person(house, "alpha", "admin")
    mine = boss("GET", "/me").json()["id"]
    for role in ("owner", "finance", "auditor"):
        reply = boss("POST", f"/users/{mine}/bindings", json={"role": role, "tenant": "alpha"})
        assert reply.status_code in (403, 409), (role, reply.text)
    grand = boss("PUT", "/roles/alpha/grand", json={"permissions": ["billing:write"]})
    assert grand.status_code == 403
    assert "grand" not in boss("GET", "/roles?tenant=alpha").text
    owner_id = person(house, "alpha", "owner")("GET", "/me").json()["id"]
    taken = boss("PATCH", f"/users/{owner_id}", json={"password": "a new password 1"})
    assert taken.status_code == 403, "whoever sets an owner's password is an owner"


def test_issuing_keys_and_reading_the_audit_stay_apart(house: Stack) -> None:
    both = {"permissions": ["keys:create", "audit:read"]}
    assert house.admin("PUT", "/api/v1/roles/alpha/both", json=both).status_code == 400
    made = house.admin("POST", "/api/v1/users",
                       json={"tenant": "alpha", "email": "sod@a.example", "name": "S"}).json()  # fmt: skip
    path = f"/api/v1/users/{made['id']}/bindings"
    assert house.admin("POST", path, json={"role": "developer", "tenant": "alpha"}).is_success
    reply = house.admin("POST", path, json={"role": "auditor", "tenant": "alpha"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "conflict")


def test_a_project_developer_stays_in_the_project(house: Stack) -> None:
    dev = person(house, "alpha", "developer", project="p1")
    assert {k["project"] for k in dev("GET", "/keys").json()["data"]} == {"p1"}
    assert dev("POST", "/keys", json={"tenant": "alpha", "project": "p1"}).status_code == 201
    assert dev("POST", "/keys", json={"tenant": "alpha", "project": "p2"}).status_code == 403
    assert dev("GET", "/usage").status_code == 403
    assert dev("GET", "/usage?project=p1").status_code == 200
    assert dev("GET", "/usage?project=p2").status_code == 403
    assert dev("GET", "/audit").status_code == 403
    names = {node["name"] for node in dev("GET", "/organization/units").json()["data"]}
    assert "p1" in names and "p2" not in names


# --- signing in -------------------------------------------------------------------------------


def test_wrong_passwords_lock_the_account_and_say_nothing(house: Stack) -> None:
    email = person(house, "alpha", "viewer").email
    unknown = sign_in(house, "nobody@alpha.example", PASSWORD)
    wrong = [sign_in(house, email, "wrong wrong wrong") for _ in range(5)]
    assert {r.status_code for r in (unknown, *wrong)} == {401}
    assert unknown.text == wrong[0].text
    locked = sign_in(house, email, PASSWORD)
    assert (locked.status_code, locked.json()["error"]["code"]) == (429, "account_locked")
    assert int(locked.headers["retry-after"]) > 60


def test_a_second_factor_is_asked_for_and_each_code_counts_once(house: Stack) -> None:
    user = person(house, "alpha", "viewer")
    email = user.email
    offered = user("POST", "/me/totp").json()
    assert offered["uri"].startswith("otpauth://totp/TokensChain%3A")
    step = int(time.time() // 30)
    code = passwords.totp_code(offered["secret"], step)
    confirm = {"secret": offered["secret"], "code": code}
    assert user("POST", "/me/totp/confirm", json=confirm).status_code == 200
    assert sign_in(house, email, PASSWORD).status_code == 401
    code = passwords.totp_code(offered["secret"], int(time.time() // 30))
    assert sign_in(house, email, PASSWORD, code).status_code == 201
    assert sign_in(house, email, PASSWORD, code).status_code == 401


def test_totp_follows_rfc_6238() -> None:
    """Appendix B, SHA-1, cut to six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    for at, code in ((59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")):
        assert passwords.totp_code(secret, at // 30) == code
        assert passwords.totp_step(secret, code, at) == at // 30
    assert passwords.totp_step(secret, "000000", 59) is None


def test_sessions_and_tokens_end_when_they_should(house: Stack) -> None:
    user = person(house, "alpha", "viewer")
    me = user("GET", "/me").json()["id"]
    token = user("POST", f"/users/{me}/tokens", json={"name": "ci"}).json()
    program = As(house, token["token"])
    assert program("GET", "/me").json()["id"] == me
    listed = user("GET", f"/users/{me}/tokens")
    assert token["token"] not in listed.text and token["id"] in listed.text
    assert user("DELETE", f"/tokens/{token['id']}").status_code == 200
    assert program("GET", "/me").status_code == 401
    change = {"old": PASSWORD, "new": "another good password"}
    assert user("POST", "/me/password", json=change).status_code == 200
    assert user("GET", "/me").status_code == 401
    again = As(house, sign_in(house, user.email, change["new"]).json()["token"])
    assert again("GET", "/me").status_code == 200
    assert house.admin("PATCH", f"/api/v1/users/{me}", json={"disabled": True}).status_code == 200
    assert again("GET", "/me").status_code == 401
    assert sign_in(house, user.email, change["new"]).status_code == 401


# --- how the API behaves ------------------------------------------------------------------------


def test_a_post_with_an_idempotency_key_is_done_once(house: Stack) -> None:
    body = {"tenant": "alpha", "project": "once", "name": "once"}
    headers = {"idempotency-key": "abc"}
    boss = As(house, house.admin_token)
    first = boss("POST", "/keys", json=body, headers=headers)
    again = boss("POST", "/keys", json=body, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json() and again.headers["idempotent-replay"] == "true"
    found = boss("GET", "/keys?tenant=alpha&project=once").json()["data"]
    assert len(found) == 1
    other = boss("POST", "/keys", json=body | {"name": "x"}, headers=headers)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    failed = boss("POST", "/organization/units", json={"kind": "project", "tenant": "none", "name": "x"},
                  headers={"idempotency-key": "later"})  # fmt: skip
    assert failed.status_code == 404
    sealed = house.rows("select sealed from idempotency")
    assert all(first.json()["key"].encode() not in row["sealed"] for row in sealed)


def test_changes_need_the_version_they_were_made_from(house: Stack) -> None:
    boss = As(house, house.admin_token)
    path = "/limits/versioned"
    body = {"kind": "rate", "measure": "requests", "amount": 10, "match": {"tenant": "alpha"}}
    known = {"if-match": boss("PUT", path, json=body).headers["etag"]}
    assert boss("PUT", path, json=body | {"amount": 20}, headers=known).is_success
    late = boss("PUT", path, json=body | {"amount": 30}, headers=known)
    assert (late.status_code, late.json()["error"]["code"]) == (412, "precondition_failed")
    assert boss("GET", path).json()["amount"] == 20


def test_lists_come_in_pages_that_lose_and_double_nothing(house: Stack) -> None:
    boss = As(house, house.admin_token)
    for number in range(7):
        boss("POST", "/keys", json={"tenant": "alpha", "project": "pages", "name": f"k{number}"})
    seen, cursor = [], ""
    while True:
        page = boss("GET", f"/keys?project=pages&limit=3&cursor={cursor}").json()
        seen += [key["id"] for key in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 7
    for wrong in ("x", "eyJ4IjoxfQ==", "WzEsMiwzXQ=="):
        reply = boss("GET", f"/keys?cursor={wrong}")
        assert (reply.status_code, reply.json()["error"]["param"]) == (400, "cursor")


def test_every_change_is_in_the_audit_and_no_secret_is(house: Stack) -> None:
    boss = As(house, house.admin_token)
    key = boss("POST", "/keys", json={"tenant": "alpha", "project": "audited"}).json()
    boss("DELETE", f"/keys/{key['id']}")
    events = boss("GET", "/audit?tenant=alpha&limit=200")
    assert key["key"] not in events.text and PASSWORD not in events.text
    mine = [e for e in events.json()["data"] if e["target"] == key["id"]]
    assert [e["action"] for e in mine] == ["keys:revoke", "keys:create"]
    assert {e["actor"] for e in mine} == {"platform"}
