"""The admin API needs its token, and its errors have the API's one shape."""

from __future__ import annotations

import socket
import time

import psycopg.errors
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy.exc import DataError

from tests import web
from tests.stack import Stack
from tokenschain.control.api import errors, open_doors


def test_the_admin_api_needs_its_token_and_speaks_the_apis_errors(stack: Stack) -> None:

    base = f"http://127.0.0.1:{stack.control_port}"
    schema = stack.admin("GET", "/openapi.json").json()
    routes = [(m, p) for p, methods in schema["paths"].items() for m in methods]
    assert len(routes) >= 5
    open_to_all = {
        "/api/v1/sessions", "/api/v1/sessions/link", "/api/v1/oidc/start",
        "/api/v1/oidc/callback", *open_doors.PATHS,
    }  # fmt: skip
    for method, path in routes:
        if path in open_to_all and method != "delete":
            continue
        url = base + path.replace("{key_id}", "key_x")
        for headers in ({}, {"authorization": f"Bearer {stack.key}"}):
            reply = web.request(
                method, url, headers=headers, json={} if method in ("post", "put") else None
            )
            assert reply.status_code == 401, (method, path)
            assert reply.json()["error"]["type"] == "invalid_request_error"
    for method, path in (("GET", "/internal/v3/snapshot"), ("POST", "/internal/v1/journal")):
        reply = stack.admin(method, path)
        assert reply.status_code == 401
    wrong = stack.admin("POST", "/api/v1/keys", json={"tenant": "../x"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "tenant")
    assert stack.admin("GET", "/api/v1/usage?group_by=nope").json()["error"]["param"] == "group_by"
    assert stack.admin("DELETE", "/api/v1/keys/key_nope").status_code == 404
    assert "TokensChain" in web.get(base).text
    refused = stack.admin("DELETE", "/api/v1/alerts")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
    assert refused.json()["error"]["code"] == "method_not_allowed"


def test_a_body_that_is_cut_off_is_no_fault_of_controls(stack: Stack) -> None:
    """A gateway that ends while it ships: control says nothing of it in its log."""
    seen = (stack.folder / "log").stat().st_size
    for path in ("/internal/v1/journal", "/internal/v1/leases", "/api/v1/keys"):
        with socket.create_connection(("127.0.0.1", stack.control_port)) as caller:
            head = (
                f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stack.admin_token}\r\n"
            )
            caller.sendall(f"{head}content-length: 1000\r\n\r\nabc".encode())
            time.sleep(0.05)
    assert web.get(f"http://127.0.0.1:{stack.control_port}/api/v1").status_code
    with (stack.folder / "log").open("rb") as log:
        log.seek(seen)
        assert b"Traceback" not in log.read()


def test_a_name_is_a_line_that_can_be_seen_and_typed_again(stack: Stack) -> None:
    unit = {"kind": "tenant", "tenant": "named", "name": "named"}
    target = {"tenant": "default", "kind": "email", "address": "a@b.example"}
    user = {"tenant": "*", "email": "n@b.example"}
    tries: list[tuple[str, dict[str, str], str]] = [
        (path, body, name)
        for name in ("line\nbreak", "a\x00b", "a\x7f", "\u2028", "\r", "  ", "\ufeff")
        for path, body in (("keys", {}), ("alert-targets", target), ("users", user))
    ]
    for path, body, name in tries:
        said = stack.admin("POST", f"/api/v1/{path}", json=body | {"name": name})
        assert (said.status_code, said.json()["error"]["param"]) == (400, "name"), (path, name)
    said = stack.admin("POST", "/api/v1/organization/units", json=unit | {"title": "a\nb"})
    assert (said.status_code, said.json()["error"]["param"]) == (400, "title")


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (psycopg.errors.StringDataRightTruncation(), "A text is longer than can be stored."),
        (psycopg.errors.NumericValueOutOfRange(), "A number is larger than can be stored."),
        (
            psycopg.errors.CharacterNotInRepertoire(),
            "A text has characters that cannot be stored.",
        ),
    ],
)
def test_what_the_database_does_not_store_is_said_as_it_is(
    refused: psycopg.DataError, said: str
) -> None:
    app = FastAPI()
    errors.add_handlers(app)

    @app.get("/")
    def store() -> None:
        raise DataError("INSERT", None, refused)

    reply = TestClient(app).get("/")
    assert reply.status_code == 400
    assert (reply.json()["error"]["code"], reply.json()["error"]["message"]) == (
        "invalid_value",
        said,
    )
