"""People as the admin API sees them, for tests."""

from __future__ import annotations

import itertools
from typing import Any

import httpx

from tests import web
from tests.stack import Stack

PASSWORD = "correct horse battery"


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
    """A user of a tenant with a role, signed in, who has shown the password again."""
    email = f"u{next(_numbers)}@{tenant}.example"
    body = {"tenant": tenant, "email": email, "name": "U", "password": PASSWORD}
    made = stack.admin("POST", "/api/v1/users", json=body)
    assert made.status_code == 201, made.text
    bound = stack.admin(
        "POST", f"/api/v1/users/{made.json()['id']}/bindings",
        json={"role": role, "tenant": tenant, **where},
    )  # fmt: skip
    assert bound.status_code == 201, bound.text
    user = As(stack, sign_in(stack, email, PASSWORD).json()["token"], email)
    assert user("POST", "/me/step-up", json={"password": PASSWORD}).status_code == 200
    return user


def sign_in(stack: Stack, email: str, password: str, code: str | None = None) -> httpx.Response:
    return web.post(
        f"http://127.0.0.1:{stack.control_port}/api/v1/sessions",
        json={"email": email, "password": password, "code": code},
        timeout=10,
    )
