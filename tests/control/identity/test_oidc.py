"""Single sign-on against a real OpenID provider (oidc-provider-mock, built on Authlib)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from tests import web
from tests.stack import Stack
from tests.upstreams import UpstreamSimulator

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from oidc_provider_mock import User, run_server_in_thread

        users = [
            User(
                sub="ann",
                claims={
                    "email": "Ann@corp.example",
                    "name": "Ann",
                    "groups": ["ops", "x"],
                    "email_verified": True,
                },
            ),
            User(
                sub="bob",
                claims={
                    "email": "bob@corp.example",
                    "name": "Bob",
                    "groups": ["x"],
                    "email_verified": True,
                },
            ),
            User(
                sub="eve",
                claims={"email": "eve@corp.example", "email_verified": False, "groups": ["ops"]},
            ),
            User(sub="dan", claims={"email": "dan@corp.example", "groups": ["ops"]}),
            User(
                sub="mallory",
                claims={"email": "root@corp.example", "email_verified": True, "groups": ["ops"]},
            ),
        ]
        with run_server_in_thread(user_claims=users, require_nonce=True) as server:
            yield f"http://localhost:{server.server_port}"


@pytest.fixture(scope="module")
def house(
    tmp_path_factory: pytest.TempPathFactory, upstream: UpstreamSimulator, provider: str
) -> Iterator[Stack]:
    secret = tmp_path_factory.mktemp("secret") / "oidc"
    secret.write_text("of-the-client")
    secret.chmod(0o600)
    made = Stack(
        tmp_path_factory.mktemp("oidc"),
        upstream.base_url,
        oidc={
            "networks": ["127.0.0.0/8"],
            "issuer": provider,
            "client_secret": f"file:{secret}",
            "roles": {"ops": "admin@default", "audit": "auditor@*"},
        },
    ).start("control")
    yield made
    made.close()


def come_back(house: Stack, provider: str, who: str, **changes: Any) -> httpx.Response:
    """Sign in as a person's browser does: there, through the form, and back."""
    base = f"http://127.0.0.1:{house.control_port}/api/v1/oidc"
    with httpx.Client(timeout=10) as browser:
        there = browser.get(f"{base}/start")
        assert there.status_code == 302 and there.headers["location"].startswith(provider)
        cookie = there.cookies["tc_oidc"]
        asked = parse_qs(urlsplit(there.headers["location"]).query)
        assert asked["code_challenge_method"] == ["S256"] and asked["nonce"][0]
        back = browser.post(there.headers["location"], data={"sub": who})
        assert back.status_code == 302, back.text
        query = {k: v[0] for k, v in parse_qs(urlsplit(back.headers["location"]).query).items()}
        query |= changes.get("query", {})
        return web.get(
            f"{base}/callback",
            params=query,
            cookies={"tc_oidc": changes.get("cookie", cookie)},
            timeout=10,
        )


def test_who_signs_in_there_has_the_roles_of_its_groups_here(house: Stack, provider: str) -> None:
    reply = come_back(house, provider, "ann")
    assert reply.status_code == 200, reply.text
    token = reply.json()["token"]
    headers = {"authorization": f"Bearer {token}"}
    base = f"http://127.0.0.1:{house.control_port}/api/v1"
    me = web.get(f"{base}/me", headers=headers).json()
    assert me["tenant"] == "default" and "keys:*" in me["bindings"][0]["permissions"]
    made = web.post(f"{base}/keys", headers=headers, json={})
    assert made.status_code == 201
    again = come_back(house, provider, "ann").json()["token"]
    seen = web.get(f"{base}/me", headers={"authorization": f"Bearer {again}"}).json()
    assert seen.pop("token_id") != me.pop("token_id"), "another sign-in"
    assert seen == me, "the same person, and no role twice"


def test_who_is_in_no_known_group_or_unverified_stays_out(house: Stack, provider: str) -> None:
    assert come_back(house, provider, "bob").status_code == 403
    assert come_back(house, provider, "eve").status_code == 401
    assert come_back(house, provider, "dan").status_code == 401, "nobody vouches for the address"
    refused = house.rows("select target from audit_events where action = 'login:refused'")
    assert {row["target"].partition("@")[0] for row in refused} >= {"bob", "eve", "dan"}
    assert "corp.example" not in str(house.rows("select email from users where email like 'bob%'"))


def test_a_local_account_is_not_joined_and_the_refusal_is_written_down(
    house: Stack, provider: str
) -> None:
    body = {"tenant": "default", "email": "root@corp.example", "name": "R",
            "password": "correct horse battery"}  # fmt: skip
    root = house.admin("POST", "/api/v1/users", json=body).json()["id"]
    reply = come_back(house, provider, "mallory")
    assert reply.status_code == 403 and "another account" in reply.json()["error"]["message"]
    assert house.rows(f"select * from bindings where user_id = '{root}'") == []
    rows = house.rows("select target, detail from audit_events where action = 'login:refused'")
    assert rows[-1]["target"] == "root@corp.example" and "mallory" in rows[-1]["detail"]


def test_a_forged_way_back_is_refused(house: Stack, provider: str) -> None:
    for changes in (
        {"query": {"state": "forged"}},
        {"query": {"code": "forged"}},
        {"query": {"code": ""}},
        {"cookie": "AAAA"},
        {"cookie": ""},
    ):
        reply = come_back(house, provider, "ann", **changes)
        assert reply.status_code == 401, (changes, reply.text)
        assert reply.json()["error"]["code"] == "invalid_login"
