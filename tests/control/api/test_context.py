"""Every operation of the admin API: typed, described, permitted, and strict about names."""

from __future__ import annotations

import ast
import inspect
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast, get_type_hints

import pytest
from fastapi import FastAPI, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy import Engine

from tests.security.platform import platform
from tests.stack import Stack
from tokenschain.control.api import app as app_module
from tokenschain.control.api import context as context_module
from tokenschain.control.api import former_names, usage
from tokenschain.control.api.context import AdminRoute, ApiContext, Permission, RequestContext
from tokenschain.core.call_record import AttemptRecord, CallRecord, RouteRecord
from tokenschain.core.limits import Budget, Rate
from tokenschain.core.tenancy import ACTIONS
from tokenschain.infra.database import tables

WITHOUT_PERMISSION = re.compile(
    r"/api/v1/((sessions|me|oidc)(/|$)|invitations/(look|accept)$|sign-ups(/look|/confirm)?$"
    r"|alert-targets/confirm$)"
)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The application, to read its description; nothing behind it."""
    nothing = cast(Any, None)
    context = ApiContext(*[nothing] * len(ApiContext._fields))
    return app_module.create_app(context, nothing, nothing, [], "", nothing)


def operations(app: FastAPI) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def admin_routes() -> Iterator[APIRoute]:
    for subject in app_module.ADMIN_SUBJECTS:
        for route in subject.router.routes:
            assert isinstance(route, AdminRoute), route
            yield route


def test_every_operation_has_a_schema_a_summary_and_an_example(app: FastAPI) -> None:
    found = dict(operations(app))
    assert len(found) == sum(len(route.methods or ()) for route in admin_routes()) > 50
    without: list[str] = []
    for name, operation in found.items():
        answers = [a for status, a in operation["responses"].items() if status.startswith("2")]
        contents = [c for answer in answers for c in answer.get("content", {}).values()]
        described = bool(contents) and all(content.get("schema") for content in contents)
        if not described and "302" not in operation["responses"]:
            without.append(name)
        assert operation["summary"], name
        assert operation["x-codeSamples"][0]["source"].startswith("curl "), name
    assert without == []


def test_every_operation_says_which_permission_it_needs(app: FastAPI) -> None:
    for name, operation in operations(app):
        _, _, path = name.partition(" ")
        permission = operation.get("x-permission")
        if WITHOUT_PERMISSION.match(path):
            assert permission is None, name
        else:
            assert permission in ACTIONS, name


def test_no_operation_takes_or_gives_what_is_not_typed() -> None:
    for route in admin_routes():
        hints = get_type_hints(route.endpoint, include_extras=False)
        for name, hint in hints.items():
            assert "Any" not in str(hint) and not re.search(r"\bdict\b", str(hint)), (route, name)
        given = hints["return"]
        plain = given is Response or (isinstance(given, type) and issubclass(given, BaseModel))
        assert plain or "|" in str(given) or "Union" in str(given), (route.path, given)


def test_routes_leave_tables_to_the_subjects() -> None:
    for subject in (*app_module.ADMIN_SUBJECTS, context_module):
        for node in ast.walk(ast.parse(inspect.getsource(subject))):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                assert node.module != "tokenschain.infra.database.tables", subject
                names = {alias.name for alias in node.names}
                if node.module == "sqlalchemy":
                    assert names <= {"Connection", "Engine"}, subject


def test_answers_describe_the_rows_there_are() -> None:
    calls = usage.CallRow.model_fields
    # Rows of their own, `platform_costs` and people abroad; and what the audit log alone keeps.
    elsewhere = {"engine_costs", "sequence", "subject"}
    assert (
        set(calls) == set(CallRecord.__struct_fields__) - elsewhere == set(tables.ledger.c.keys())
    )
    assert set(usage.Attempt.model_fields) == set(AttemptRecord.__struct_fields__)
    assert set(usage.RouteCandidate.model_fields) == set(RouteRecord.__struct_fields__)


def test_a_route_that_never_asks_whether_it_may_answers_nothing(engine: Engine) -> None:
    """The declared permission is checked, or the request fails and is undone."""
    nothing = cast(Any, None)
    asked = RequestContext(nothing, nothing, nothing, "keys:read", nothing, nothing, reads=False)
    assert not asked.decided
    with pytest.raises(AssertionError):
        Permission("keys:fly")

    class Request:
        class state:
            db = engine.connect()
            claimed = None

        class url:
            path = "/forgetful"

    Request.state.asked = asked  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="never asked for `keys:read`"):
        context_module._end(cast(Any, Request), Response())
    assert Request.state.db.closed


def test_unknown_query_parameters_are_refused_everywhere(stack: Stack) -> None:
    for route in admin_routes():
        if not route.refuses_unknown_queries:  # type: ignore[attr-defined]
            continue
        path = re.sub(r"\{[^}]*\}", "x", route.path)
        for method in route.methods or ():
            reply = stack.admin(method, f"{path}?surprise=1")
            assert reply.status_code == 400, (method, path, reply.text)
            error = reply.json()["error"]
            assert (error["code"], error["param"]) == ("invalid_value", "surprise")


def test_former_names_are_refused_and_the_new_one_is_named(stack: Stack) -> None:
    rate = {"kind": "rate", "measure": "requests", "amount": 1}
    for body, said in (
        ({"of": {"tenant": "t"}}, "`of` is now `match`."),
        ({"each": ["key_id"]}, "`each` is now `per`."),
        ({"unknown": "open"}, "`unknown` is now `on_unavailable`."),
        ({"borrow": True}, "`borrow` is now `burst_when_idle`."),
        ({"on_unavailable": "closed"}, "`closed` is now `deny`."),
    ):
        reply = stack.admin("PUT", "/api/v1/limits/former", json=rate | body)
        assert (reply.status_code, reply.json()["error"]["message"]) == (400, said)
    reply = stack.admin("POST", "/api/v1/keys", json={"endpoints": ["embeddings"]})
    assert reply.json()["error"]["message"] == "`endpoints` is now `apis`."
    for former, new in former_names.PATHS.items():
        for path in (former, f"{former}/x"):
            reply = stack.admin("GET", path)
            assert reply.status_code == 404
            assert reply.json()["error"]["message"] == f"`{former}` is now `{new}`."
    fields = {*Rate.__struct_fields__, *Budget.__struct_fields__, "apis"}
    assert set(former_names.FIELDS.values()) <= fields
    assert fields.isdisjoint(former_names.FIELDS)


def revisions_of(stack: Stack) -> set[int]:
    return {one["revision"] for one in stack.admin("GET", "/api/v1/revisions").json()["data"]}


def test_examples_are_bodies_that_are_taken(stack: Stack, app: FastAPI) -> None:
    schemas = app.openapi()["components"]["schemas"]
    tried = 0
    before = revisions_of(stack)
    for path, spec in (
        ("credentials/bailian-1", {"value": "secret"}),
        ("upstreams/bailian", {"provider": "alibaba", "credential": "stored:bailian-1"}),
    ):
        assert stack.admin("PUT", f"/api/v1/{path}", json={"spec": spec}).is_success
    for name, operation in operations(app):
        method, _, path = name.partition(" ")
        if "requestBody" not in operation or WITHOUT_PERMISSION.match(path):
            continue
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        kinds = schema.get("oneOf", [schema])
        for kind in kinds:
            example = schemas[kind["$ref"].rpartition("/")[2]]["examples"][0]
            assert example, name
            if "expires_at_s" in example:
                example = example | {"expires_at_s": int(time.time()) + 3_600}
            target = path.replace("{day}", "2026-11-25")
            target = re.sub(
                "(routing|cache-rules|label-rules|receipt-rules)/{resource_name}",
                r"\1/default",
                target,
            )
            target = target.replace("{revision}", "1")
            target = re.sub(r"\{[^}]*\}", f"none-{tried}", target)
            reply = stack.admin(method, target, json=example)
            missing = reply.status_code == 404
            assert reply.is_success or missing, (name, reply.text)
            tried += 1
    assert tried > 15
    for revision in sorted(revisions_of(stack) - before, reverse=True):  # others call it, too
        undone = stack.admin("POST", f"/api/v1/revisions/{revision}/rollback", json={})
        assert undone.is_success, undone.text
    assert (
        stack.admin("GET", "/openapi.json").json()["paths"].keys() == app.openapi()["paths"].keys()
    )


def test_a_query_parameter_that_is_unknown_is_refused_with_a_near_name_on_every_route(
    tmp_path: Path,
) -> None:
    """The routes are those of the running app; a callback gets what its provider sends along."""
    with platform(tmp_path) as made:
        asked = 0
        for route in admin_routes():
            if not route.refuses_unknown_queries:
                assert route.path.startswith("/api/v1/oidc/"), route.path
                continue
            path = re.sub(r"\{\w+(:path)?\}", "x", route.path_format).removeprefix("/api/v1")
            for known in ("no_such_parameter", *sorted(route.queries)):
                wrong = known if known == "no_such_parameter" else f"{known}z"
                reply = made.operator(min(route.methods or ()), path, {}, params={wrong: "1"})
                error = reply.json()["error"]
                said = (route.path, wrong, reply.text)
                assert (reply.status_code, error["code"]) == (400, "invalid_value"), said
                assert error["param"] == wrong, said
                assert ("Did you mean" in error["message"]) == (wrong != known), said
                asked += 1
        assert asked > 100
