"""Broken access control: each operation of the admin API asked with roles of every kind.

The table that is walked is the one that the checks are made from: what the routes declare, and
`control.identity.ownership`. What may happen is worked out here once more, from the table alone.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from docs import permissions_reference
from sqlalchemy import insert, update

from tests import kept_content, moderation_cases, waiting_approvals
from tests.records import record
from tests.security.platform import Caller, Platform, platform
from tokenschain.control.api.context import Permission
from tokenschain.control.api.evaluations import NewEvaluation
from tokenschain.control.audit.log import SegmentSealer
from tokenschain.control.configuration import history
from tokenschain.control.identity import invitations, ownership
from tokenschain.control.identity.ownership import Extent, FieldRight
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord, HitKind
from tokenschain.core.gateway_status import RefusedRevision
from tokenschain.core.snapshot import ModelRoute, Offer
from tokenschain.core.tenancy import ACTIONS, PLATFORM, Resource, RoleBinding, may
from tokenschain.infra.database.tables import alerts
from tokenschain.infra.database.tables import roles as roles_table
from tokenschain.infra.security import receipts, secret_files
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

RANDOM_ROLES = 3
"""Of each operation, beside those that are made from what it needs."""
OPERATIONS = {o.name: o.needed for o in permissions_reference.operations()}
WALKED = [name for name, needed in OPERATIONS.items() if needed and needed.action]
BY_PROJECT = ("GET /usage", "GET /calls")
"""Lists of sums and calls that are asked of one project by who is bound to it."""
OF_NO_TENANT = (
    "GET /fx-rates", "GET /served-models", "GET /audit-log/checkpoint",
    "GET /audit-log/consistency", "GET /compliance/notice",
    "GET /moderation/packs", "POST /moderation/test",
)  # fmt: skip
"""Lists that are the same for every tenant."""
_numbers = itertools.count()


class Place(NamedTuple):
    """Where a role is given."""

    tenant: str
    project: str = ""


Models = tuple[str, ...] | None
"""That a role is for; None: all."""
EVERYWHERE, ACME, P1 = Place(PLATFORM), Place("acme"), Place("acme", "p1")
P2, BETA = Place("acme", "p2"), Place("beta")
PLACES = (EVERYWHERE, ACME, P1, P2, BETA)
WHOLE = Resource("acme")
PART = Resource("acme", "north", "p1", "default")


class House:
    """A platform with two tenants, and people whose roles are made as the walk asks for them."""

    def __init__(self, made: Platform) -> None:
        self.platform = made
        self._people: dict[tuple[frozenset[str], Place, Models], Caller] = {}
        boss = made.operator
        for tenant in ("acme", "beta"):
            unit = {"tenant": tenant, "name": tenant}
            assert boss("POST", "/organization/units", unit | {"kind": "tenant"}).status_code == 201
            north = unit | {"kind": "account", "name": "north"}
            assert boss("POST", "/organization/units", north).status_code == 201
            for project in ("p1", "p2"):
                body = unit | {"kind": "project", "name": project, "account": "north"}
                assert boss("POST", "/organization/units", body).status_code == 201
        for model in ("m", "n"):
            route = ModelRoute(model, "chat", (Offer("up", model),))
            made.app.state.context.publisher.snapshot.models[model] = route
        walk = {"base_url": "https://models.example/v1", "models": ["m"],
                "prices": {"m": {"input": 1, "output": 1}}}  # fmt: skip
        self.made("/upstreams/walk", {"spec": walk}, "PUT")
        self.made("/roles/acme/writing", {"permissions": ["users:write"]}, "PUT")
        self.ingest(
            "seen", cache=HitKind.EXACT, cache_key="ab" * 16, attempts=[AttemptRecord("up", 1.0)]
        )
        for model in ("m", "n"):
            self.ingest(f"of-{model}", model_asked=model)
            price = {"model": model, "input": "1", "output": "1", "from_s": 1}
            self.made("/prices", price)
        secret = secret_files.read_or_make(made.app.state.context.settings.audit_key_path)[0]
        SegmentSealer(made.engine, INTERNATIONAL, NoteSecret(INTERNATIONAL, secret), 1.0).seal()

    def ingest(self, name: str, **fields: object) -> None:
        place = {"tenant": "acme", "account": "north", "project": "p1"}
        made = record(1, event_id=name, started_ms=int(time.time() * 1e3), **(place | fields))
        self.platform.app.state.context.ledger.ingest([call_record.encode(made)])

    def receipt(self) -> str:
        """Of the call `seen`, as it is sealed."""
        path = self.platform.app.state.context.settings.internal_secret_path
        issue = receipts.issuer(INTERNATIONAL, lambda: secret_files.read_or_make(path), "")
        found = self.platform.operator("GET", "/audit-log/proofs/seen").json()["record"]
        at_ms = json.loads(found)["at_ms"]
        return issue(record(1, event_id="seen", started_ms=at_ms, tenant="acme"))

    def person(self, permissions: frozenset[str], place: Place, models: Models = None) -> Caller:
        found = self._people.get((permissions, place, models))
        if found is None:
            name = f"r{next(_numbers)}"
            role = {"tenant": PLATFORM, "name": name, "permissions": "[]"}
            with self.platform.engine.begin() as connection:
                connection.execute(insert(roles_table).values(**role))
            found = self._people[permissions, place, models] = self.platform.person(
                place.tenant, name, project=place.project,
                models=None if models is None else list(models),
            )  # fmt: skip
            given = json.dumps(sorted(permissions))
            with self.platform.engine.begin() as connection:
                # Past the API, which keeps some apart: every combination is to be tried.
                connection.execute(
                    update(roles_table).where(roles_table.c.name == name).values(permissions=given)
                )
        return found

    def made(self, path: str, body: Any, method: str = "POST") -> Any:
        reply = self.platform.operator(method, path, body)
        assert reply.status_code in (200, 201), (path, reply.text)
        return reply.json()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with platform(tmp_path_factory.mktemp("permissions")) as made:
        yield House(made)


# --- what is asked ---------------------------------------------------------------------------


def _limit(house: House) -> str:
    name = f"limit-{next(_numbers)}"
    body = {"kind": "rate", "measure": "requests", "amount": 5}
    match = {"tenant": "acme", "account": "north", "project": "p1"}
    setter = house.person(frozenset({"limits:*"}), ACME)
    assert setter("PUT", f"/limits/{name}", body | {"match": match}).status_code == 200
    return name


def _user(house: House) -> str:
    number = next(_numbers)
    body = {"tenant": "acme", "name": "S", "kind": "service", "email": f"s{number}@acme.example"}
    return str(house.made("/users", body)["id"])


def _invited(house: House) -> str:
    """A user who can be invited again, and has an open invitation."""
    body = {"tenant": "acme", "name": "I", "email": f"i{next(_numbers)}@acme.example"}
    user = str(house.made("/users", body)["id"])
    with house.platform.engine.begin() as connection:
        invitations.make(connection, INTERNATIONAL, user, mailed=False)
    return user


def _alert_target(house: House) -> str:
    """A target of alerts, without the one before: a tenant has few."""
    for one in house.platform.operator("GET", f"/alert-targets?tenant={TARGET['tenant']}").json()[
        "data"
    ]:
        house.platform.operator("DELETE", f"/alert-targets/{one['id']}")
    return str(house.made("/alert-targets", TARGET)["id"])


def _binding(house: House) -> str:
    body = {"role": "writing", "tenant": "acme"}
    return str(house.made(f"/users/{_user(house)}/bindings", body)["id"])


def _token(house: House) -> str:
    user = _user(house)
    house.made(f"/users/{user}/tokens", {})
    (token,) = house.platform.operator("GET", f"/users/{user}/tokens").json()["data"]
    return str(token["id"])


def _rejected(house: House) -> str:
    name = f"odd_{next(_numbers)}"
    house.ingest(name, finish_reason="x" * 99)
    listed = house.platform.operator("GET", "/rejected-records?limit=200").json()["data"]
    return next(str(one["id"]) for one in listed if one["event_id"] == name)


def _deposit(house: House) -> str:
    body = {"amount": "5", "reference": f"r{next(_numbers)}"}
    return str(house.made("/wallets/acme/deposits", body)["transaction_id"])


def _alert(house: House) -> str:
    """An alert of acme's that nobody has acknowledged."""
    name = f"alr-{next(_numbers)}"
    with house.platform.engine.begin() as connection:
        row = {"id": name, "tenant": "acme", "at_s": 1, "kind": "test", "detail": "{}"}
        connection.execute(insert(alerts).values(**row, next_try_s=1, sent_at_s=1))
    return name


def _silence() -> dict[str, Any]:
    return {"tenant": "acme", "expires_at_s": int(time.time()) + 3_600, "reason": "load test"}


def _freeze() -> dict[str, Any]:
    return {"tenant": "acme", "model": f"m{next(_numbers)}", "reason": "incident"}


def _hold() -> dict[str, Any]:
    return {"tenant": "acme", "from_s": 1, "until_s": 2, "reason": "test"}


def _policy() -> dict[str, Any]:
    return {"tenant": "acme", "project": "p1", "content": "hash", "retention": "6 months"}


def _erasure() -> dict[str, Any]:
    return {"tenant": "acme", "end_user": "ada", "reason": "test"}


def _incident() -> dict[str, Any]:
    return {"tenant": "acme", "title": "test", "severity": "larger"}


def _subject_request() -> dict[str, Any]:
    return {"tenant": "acme", "kind": "access", "end_user": f"user-{next(_numbers)}"}


def _role(house: House) -> str:
    name = f"made-{next(_numbers)}"
    house.made(f"/roles/acme/{name}", {"permissions": ["users:write"]}, "PUT")
    return name


def _own_virtual_model(house: House) -> Any:
    body = {"spec": SPECS["virtual-models"]}
    return house.made(f"/virtual-models/v{next(_numbers)}?tenant=acme", body, "PUT")


def _resource(house: House, path: str) -> str:
    """A fresh resource of the kind that a path is of, and the path to it."""
    kind = path.split("/")[1]
    single = kind in ("routing", "cache-rules", "label-rules", "receipt-rules")
    name = "default" if single else f"r{next(_numbers)}"
    path = path.replace("{resource_name}", name) + (
        "" if kind in ("models", "filings", "processors") else "?tenant=acme"
    )
    house.made(path.replace("/test?", "?"), {"spec": SPECS[kind]}, "PUT")
    return path


SPECS: dict[str, dict[str, Any]] = {
    "upstreams": {"base_url": "https://models.example/v1", "models": ["m"]},
    "credentials": {"value": "secret"},
    "models": {"offers": [{"upstream": "walk", "model": "m"}]},
    "virtual-models": {"entries": [{"model": "m"}]},
    "routing": {"policy": "cost-first"},
    "cache-rules": {"mode": "exact"},
    "moderation-policies": {"state": "shadow"},
    "filings": {"number": "1", "models": ["m"], "source": "notice"},
    "label-rules": {"explicit": "end"},
    "receipt-rules": {"send": "always"},
    "data-classes": {"cache": "none"},
    "processors": {"vendor": "V", "purpose": "answers"},
}
KEY = {"tenant": "acme", "project": "p1"}
TARGET = {"tenant": "acme", "kind": "webhook", "name": "n", "address": "https://b.example"}
OBJECTS: dict[str, Callable[[House], str]] = {
    "unit_id": lambda house: house.platform.unit("project", "acme", "p1"),
    "key_id": lambda house: str(house.made("/keys", KEY)["id"]),
    "limit_id": _limit,
    "user_id": _user,
    "binding_id": _binding,
    "token_id": _token,
    "record_id": _rejected,
    "transaction_id": _deposit,
    "event_id": lambda _: "seen",
    "receipt": lambda house: house.receipt(),
    "target_id": _alert_target,
    "alert_id": _alert,
    "silence_id": lambda house: str(house.made("/alert-silences", _silence())["id"]),
    "freeze_id": lambda house: str(house.made("/moderation-freezes", _freeze())["id"]),
    "approval_id": lambda house: waiting_approvals.ask(house.platform, "acme"),
    "incident_id": lambda house: str(house.made("/incidents", _incident())["id"]),
    "request_id": lambda house: str(house.made("/subject-requests", _subject_request())["id"]),
    "proposal_id": lambda house: moderation_cases.propose(house.platform, "acme"),
    "suspension_id": lambda house: moderation_cases.suspend(house.platform, "acme"),
    "case_id": lambda house: moderation_cases.enter(house.platform, "acme"),
    "call_id": lambda house: kept_content.enter(house.platform, "acme"),
    "hold_id": lambda house: kept_content.hold(house.platform, "acme"),
    "tenant": lambda _: "acme",
    "name": _role,
    "day": lambda _: "2026-11-25",
    "standard": lambda _: "mlps3",
    "template": lambda _: "user-notice",
    "revision": lambda house: str(_own_virtual_model(house)["revision"]),
}
"""A fresh object for each variable part of a path, in project p1 where it can be."""
RATE = {"kind": "rate", "measure": "requests", "amount": 5}
BODIES: dict[str, Callable[[], dict[str, Any] | None]] = {
    "POST /organization/units": lambda: {
        "kind": "environment", "tenant": "acme", "project": "p1", "name": f"e{next(_numbers)}"
    },
    "PATCH /organization/units/{unit_id}": lambda: {"title": "T"},
    "POST /keys": lambda: KEY,
    "PATCH /keys/{key_id}": lambda: {"name": "n"},
    "POST /keys/{key_id}/rotate": dict,
    "POST /playground/keys": lambda: KEY,
    "PUT /limits/{limit_id}": lambda: RATE | {"match": {"tenant": "acme", "account": "north",
                                                        "project": "p1"}},
    "POST /rejected-records/{record_id}/retry": lambda: {"reduced": True},
    "POST /wallets/{tenant}/deposits": lambda: {"amount": "1", "reference": f"r{next(_numbers)}"},
    "POST /ledger-entries/{transaction_id}/reverse": lambda: {"reason": "twice"},
    "POST /prices": lambda: {"model": "m", "input": "1", "output": "1",
                             "from_s": 2_000_000_000 + next(_numbers)},
    "PUT /fx-rates/{day}": lambda: {"usd_cny": "7", "source": "test"},
    "POST /rerate": lambda: {"tenant": "acme", "model": "none", "from_s": 1, "until_s": 2,
                             "reason": "test"},
    "POST /alert-targets": lambda: TARGET,
    "POST /cache/flush": lambda: {"tenant": "acme", "dry_run": True},
    "POST /cache/pairs": lambda: {"tenant": "acme", "project": "p1", "model": "m",
                                  "pairs": [{"a": "x", "b": "y", "y": 1}]},
    "POST /cache/feedback": lambda: {"request_id": "seen", "right": True},
    "POST /users": lambda: {"tenant": "acme", "name": "N", "kind": "service",
                            "email": f"n{next(_numbers)}@acme.example"},
    "PATCH /users/{user_id}": lambda: {"name": "N"},
    "POST /users/{user_id}/totp/reset": dict,
    "POST /users/{user_id}/bindings": lambda: {"role": "writing", "tenant": "acme"},
    "POST /invitations": lambda: {"tenant": "acme", "name": "N", "role": "writing",
                                  "email": f"n{next(_numbers)}@acme.example"},
    "POST /invitations/{user_id}/resend": lambda: None,
    "POST /alert-targets/{target_id}/test": lambda: None,
    "POST /alerts/{alert_id}/acknowledge": lambda: None,
    "POST /alert-silences": _silence,
    "POST /alert-silences/{silence_id}/end": lambda: None,
    "POST /moderation/test": lambda: {"text": "a word"},
    "POST /moderation-freezes": _freeze,
    "PUT /compliance/separation": lambda: {"on": False},
    "POST /compliance/evaluations": lambda: dict(NewEvaluation.example),
    "POST /approvals/{approval_id}/approve": dict,
    "POST /approvals/{approval_id}/reject": dict,
    "POST /incidents": _incident,
    "PATCH /incidents/{incident_id}": lambda: {"note": "seen"},
    "POST /incidents/{incident_id}/report": lambda: {"reported_to": "the office"},
    "POST /subject-requests": _subject_request,
    "POST /subject-requests/{request_id}/decide": lambda: {"decision": "done", "reason": "sent"},
    "POST /moderation-freezes/{freeze_id}/lift": lambda: None,
    "POST /moderation-cases/{case_id}/proposals": lambda: {"kind": "word", "word": "test"},
    "POST /moderation-proposals/{proposal_id}/decide": lambda: {"accept": True, "reason": "test"},
    "POST /moderation-suspensions/{suspension_id}/release": lambda: {"reason": "test"},
    "POST /moderation-cases/decide": lambda: {"tenant": "acme", "case_ids": ["case_1"],
                                              "decision": "uphold", "reason": "test"},
    "POST /moderation-cases/{case_id}/open": lambda: None,
    "POST /moderation-cases/{case_id}/claim": lambda: None,
    "POST /moderation-cases/{case_id}/return": lambda: None,
    "POST /moderation-cases/{case_id}/decide": lambda: {"decision": "uphold", "reason": "test"},
    "PUT /content-policies": _policy,
    "POST /audit-log/content/{call_id}/open": lambda: {"reason": "test"},
    "POST /audit-log/content/export": lambda: {"tenant": "acme", "reason": "test"},
    "POST /content-erasures": _erasure,
    "POST /legal-holds": _hold,
    "POST /legal-holds/{hold_id}/release": lambda: {"reason": "test"},
    "PUT /roles/{tenant}/{name}": lambda: {"permissions": ["users:write"]},
    "POST /users/{user_id}/tokens": dict,
    "POST /configuration/apply": lambda: {"documents": [
        {"kind": "cache-rules", "name": "default", "tenant": "acme", "spec": {}}]},
    "POST /revisions/{revision}/rollback": dict,
    "POST /upstreams/{resource_name}/test": dict,
    **{f"PUT /{kind}/{{resource_name}}": lambda spec=spec: {"spec": spec}
       for kind, spec in SPECS.items()},
    **{f"PATCH /{kind}/{{resource_name}}": lambda spec=spec: {"spec": spec}
       for kind, spec in SPECS.items()},
}  # fmt: skip
REFUSED_LATER = {
    "GET /audit-log/reconciliation/{day}": 404,  # nothing is sealed of that day
    "POST /cache/pairs": 409, "POST /users/{user_id}/totp/reset": 400,
    "POST /alert-targets/{target_id}/test": 429, "POST /moderation-cases/{case_id}/proposals": 409,
}  # fmt: skip
"""What is permitted and cannot be done here: no questions are compared by meaning, the asker
shows no password, a target is tested once a minute, and a word is proposed once."""
QUERIES = {
    "GET /usage": "?tenant=acme&project=p1",
    "GET /calls": "?tenant=acme&project=p1",
    "GET /calls/export": "?tenant=acme&from_s=0&until_s=1000000000000",
}


class Call(NamedTuple):
    """One request of the walk."""

    method: str
    path: str
    body: dict[str, Any] | None


def call_of(house: House, operation: str) -> Call:
    """A request about project p1 of `acme`, or about the whole tenant."""
    method, _, path = operation.partition(" ")
    if path.startswith("/invitations/{user_id}"):
        path = path.replace("{user_id}", _invited(house))
    for name, make in OBJECTS.items():
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", make(house))
    if "{resource_name}" in path:
        path = _resource(house, path)
    elif operation in QUERIES:
        path += QUERIES[operation]
    elif method == "GET" and "{" not in operation and takes_tenant(operation):
        path += "?tenant=acme"
    body = BODIES[operation]() if operation in BODIES else None
    if operation in ("POST /keys", "POST /playground/keys"):
        house.made("/keys", KEY)  # not everyone makes an environment on the way
    return Call(method, path, body)


def takes_tenant(operation: str) -> bool:
    """Whether a list is of one tenant."""
    needed = OPERATIONS[operation]
    assert needed is not None
    return needed.extent is not Extent.PLATFORM and operation not in OF_NO_TENANT


def is_permitted(needed: Permission, operation: str, binding: RoleBinding) -> bool:
    """Whether the table lets somebody with one binding do it."""
    assert needed.action is not None
    within: tuple[Resource, ...]
    match needed.extent:
        case Extent.PLATFORM:
            within = (Resource(PLATFORM),)
        case Extent.TENANT:
            within = (WHOLE,)
        case Extent.PART:
            within = (PART,)
        case _ if operation in BY_PROJECT:
            within = (PART,)
        case _ if operation in OF_NO_TENANT:
            return may((binding,), needed.action, Resource(binding.tenant, "", binding.project))
        case _:  # any part of the tenant
            within = (WHOLE, Resource("acme", "", binding.project))
    actions = [needed.action, *([needed.found_with] if needed.found_with else [])]
    return any(all(may((binding,), action, place) for action in actions) for place in within)


def roles_for(needed: Permission, chance: random.Random) -> Iterator[tuple[frozenset[str], Place]]:
    """Roles that have just what it needs, all but that, patterns, and some drawn at random."""
    assert needed.action is not None
    enough = frozenset({needed.action} | ({needed.found_with} - {""}))
    kind, _, verb = needed.action.partition(":")
    lacking = frozenset(ACTIONS) - {needed.action}
    yield from itertools.product((enough, lacking), PLACES)
    if len(enough) > 1:
        yield from itertools.product((frozenset({needed.action}),), (EVERYWHERE, P1))
    wide = (frozenset({f"{kind}:*"}), frozenset({f"*:{verb}"}), frozenset({"*"}))
    yield from itertools.product(wide, (EVERYWHERE, ACME, BETA))
    for _ in range(RANDOM_ROLES):
        some = frozenset(chance.sample(sorted(ACTIONS), chance.randint(1, len(ACTIONS))))
        yield some, chance.choice(PLACES)


@pytest.mark.parametrize("operation", WALKED)
def test_each_operation_is_for_whom_the_table_says(house: House, operation: str) -> None:
    needed = OPERATIONS[operation]
    assert needed is not None
    method = operation.partition(" ")[0]
    assert method in ("GET", "DELETE") or operation in BODIES, "name a body for it"
    seen: Counter[bool] = Counter()
    call = call_of(house, operation)
    for permissions, place in roles_for(needed, random.Random(operation)):
        binding = RoleBinding(permissions, place.tenant, project=place.project)
        expected = is_permitted(needed, operation, binding)
        seen[expected] += 1
        caller = house.person(permissions, place)
        reply = caller(*call)
        said = (operation, sorted(permissions), place, reply.status_code, reply.text[:300])
        if expected:
            assert reply.status_code in (200, 201, REFUSED_LATER.get(operation)), said
            if method != "GET":
                call = call_of(house, operation)  # what was changed is not there to be refused
        else:
            assert reply.status_code in (403, 404), said
    assert seen[True] >= 3 and seen[False] >= 5, seen


# --- roles for certain models -------------------------------------------------------------------


def _limit_of(house: House, model: str) -> str:
    name = f"limit-{next(_numbers)}"
    body = RATE | {"match": {"tenant": "acme", "project": "p1", "model": model}}
    setter = house.person(frozenset({"limits:*"}), ACME)
    assert setter("PUT", f"/limits/{name}", body).status_code == 200
    return name


def _about(house: House, operation: str, model: str) -> Call:
    """A request about one model; of what is about none, any."""
    method, path, body = call_of(house, operation)
    if "{key_id}" in operation:
        key = house.made("/keys", KEY | {"models": [model]})["id"]
        path = operation.partition(" ")[2].replace("{key_id}", key)
    elif "{limit_id}" in operation:
        path = operation.partition(" ")[2].replace("{limit_id}", _limit_of(house, model))
    elif "/calls/{event_id}" in operation:
        path = f"/calls/of-{model}"
    if operation in ("POST /keys", "POST /playground/keys"):
        body = KEY | {"models": [model]}
    elif operation == "PUT /limits/{limit_id}":
        body = RATE | {"match": {"tenant": "acme", "project": "p1", "model": model}}
    return Call(method, path, body)


BY_MODEL = [name for name in WALKED if (needed := OPERATIONS[name]) and needed.by_model]
NAMED = {"GET /usage": "model", "GET /calls": "model_asked", "GET /prices": "model",
         "GET /served-models": "name", "GET /keys": "models", "GET /limits": "match"}  # fmt: skip
"""Where each list has the model."""


@pytest.mark.parametrize("operation", WALKED)
def test_a_role_for_certain_models_does_what_the_table_says(house: House, operation: str) -> None:
    needed = OPERATIONS[operation]
    assert needed is not None
    callers = [house.person(frozenset({"*"}), place, ("m",)) for place in (EVERYWHERE, ACME, P1)]
    if not needed.by_model:
        call = _about(house, operation, "m")
        for few in callers:
            reply = few(*call)
            assert reply.status_code in (403, 404), (call, reply.status_code, reply.text)
        return
    for few, model in itertools.product(callers, ("m", "n")):
        permitted = model == "m" or operation in NAMED
        call = _about(house, operation, model)
        reply = few(*call)
        assert (reply.status_code in (200, 201)) is permitted, (call, reply.text)
        assert permitted or reply.status_code in (403, 404), (call, reply.text)
    if operation in NAMED:
        _check_rows(house, operation, callers)


def _check_rows(house: House, operation: str, callers: list[Caller]) -> None:
    """Of a list, only the rows of the one model are shown."""
    for key_models in (["m"], ["n"], ["m", "n"], None):
        house.made("/keys", KEY | {"models": key_models})
    for model in ("m", "n", ""):
        _limit_of(house, model)
    for few in callers:
        rows = few(*_about(house, operation, "m")).json()["data"]
        seen = [row[NAMED[operation]] for row in rows]
        if operation == "GET /limits":
            seen = [match["model"] for match in seen]
        assert seen and all(one in ("m", ["m"]) for one in seen), rows


def test_every_operation_that_answers_for_certain_models_is_walked_with_them() -> None:
    assert {name for name in BY_MODEL if "{" not in name and name.startswith("GET")} == set(NAMED)


def test_what_is_wider_than_a_models_key_or_limit_is_not_there_for_its_role(house: House) -> None:
    few = house.person(frozenset({"*"}), ACME, ("m",))
    for wide in (KEY, KEY | {"models": []}, KEY | {"models": ["m", "n"]}):
        key = str(house.made("/keys", wide)["id"])
        for method, path, body in (
            ("GET", f"/keys/{key}", None), ("PATCH", f"/keys/{key}", {"name": "n"}),
            ("POST", f"/keys/{key}/rotate", {}), ("DELETE", f"/keys/{key}", None),
        ):  # fmt: skip
            assert few(method, path, body).status_code == 404
        assert few("POST", "/keys", wide).status_code == 403
    mine = KEY | {"models": ["m"]}
    own = few("POST", "/keys", mine).json()["id"]
    for wider in (None, ["n"], ["m", "n"], []):
        assert few("PATCH", f"/keys/{own}", {"models": wider}).status_code == 403
    for new in ({"project": "made-by-a-key"}, {"environment": "made-by-a-key"}):
        assert few("POST", "/keys", mine | new).status_code == 403
    units = house.platform.operator("GET", "/organization/units?tenant=acme&limit=200")
    assert "made-by-a-key" not in units.text
    limit = _limit_of(house, "m")
    for match in ({"tenant": "acme"}, {"tenant": "acme", "model": "n"}, {"model": "m"}):
        assert few("PUT", f"/limits/{limit}", RATE | {"match": match}).status_code == 403
    assert few("GET", f"/limits/{_limit(house)}").status_code == 404
    whole = house.platform.operator("GET", "/usage?tenant=acme&model=m").json()["data"]
    for query in ("", "&group_by=tenant", "&group_by=upstream", "&group_by=model"):
        rows = few("GET", f"/usage?tenant=acme{query}").json()["data"]
        assert sum(row["calls"] for row in rows) == sum(row["calls"] for row in whole) > 0, query
    assert few("GET", "/usage?tenant=acme&model=n").json()["data"] == []


def test_the_table_has_a_row_for_each_operation_and_fields_of_routes_that_are_there() -> None:
    assert len(OPERATIONS) >= 64
    assert {right.route for right in ownership.FIELD_RIGHTS} <= set(OPERATIONS)
    assert {right.action for right in ownership.FIELD_RIGHTS} <= set(ACTIONS)
    unknown = [name for name, needed in OPERATIONS.items() if needed is None]
    assert unknown == [
        "POST /alert-targets/confirm", "POST /sessions", "POST /sessions/link", "POST /invitations/look",
        "POST /invitations/accept", "POST /sign-ups", "POST /sign-ups/look",
        "POST /sign-ups/confirm", "GET /oidc/start", "GET /oidc/callback",
    ]  # fmt: skip


def test_who_is_nobody_s_may_nothing_that_has_a_permission(house: House) -> None:
    idle = house.platform.person("acme", None)
    for operation in WALKED:
        assert idle(*call_of(house, operation)).status_code in (403, 404), operation


def test_ones_own_tokens_need_no_permission(house: House) -> None:
    caller = house.platform.person("acme", None)
    owned = [name for name, needed in OPERATIONS.items() if needed and needed.or_own]
    assert len(owned) == 3
    made = caller("POST", f"/users/{caller.id}/tokens", {})
    assert made.status_code == 201
    listed = caller("GET", f"/users/{caller.id}/tokens").json()["data"]
    assert caller("DELETE", f"/tokens/{made.json()['id']}").status_code == 200 and listed


# --- fields that are the platform's own ---------------------------------------------------------

ASKED = [right for right in ownership.FIELD_RIGHTS if right.side == "request"]
SHOWN = [right for right in ownership.FIELD_RIGHTS if right.side == "answer"]
VALUES = {"prepaid": False, "credit": "1000000", "closed": True, "disabled": False,
          "email": "new@acme.example", "routing_details": True, "zone": "cn",
          "call_fee_micro_cny": 1, "credential": "env:KEY", "provider": "deepseek",
          "base_url": "https://elsewhere.example/v1",
          "token_url": "https://elsewhere.example/token"}  # fmt: skip


def _owned_object(house: House, right: FieldRight) -> Call:
    """A request that sets the field of an object that is as the row says."""
    method, _, path = right.route.partition(" ")
    boss = house.platform.operator
    body: dict[str, Any] | None = {right.field: VALUES[right.field]} if right.field != "*" else {}
    number = next(_numbers)
    if right.when == ownership.TENANT_UNIT:
        name = f"t{number}"
        if method == "POST":
            body = {"kind": "tenant", "tenant": name, "name": name} | (body or {})
        else:
            unit = {"kind": "tenant", "tenant": name, "name": name}
            path = path.replace("{unit_id}", house.made("/organization/units", unit)["id"])
    elif right.when == ownership.CLOSED:
        unit = {"kind": "project", "tenant": "acme", "name": f"c{number}"}
        path = path.replace("{unit_id}", house.made("/organization/units", unit)["id"])
        assert boss("PATCH", path, {"closed": True}).status_code == 200
        body = {"closed": False}
    elif right.when == ownership.NEW_TENANT:
        body = {"tenant": f"t{number}", "project": "p"}
    elif right.when == ownership.ROUTING_DETAILS:
        body = {**(body or {}), "name": "k"} | ({"tenant": "acme"} if method == "POST" else {})
        path = path.replace("{key_id}", house.made("/keys", {"tenant": "acme"})["id"])
    elif right.when == ownership.SET:
        path = path.replace("{limit_id}", f"set-{number}")
        limit = RATE | {"match": {"tenant": "acme"}}
        assert boss("PUT", path, limit).status_code == 200
        body = limit if method == "PUT" else None
    elif right.when == ownership.OWN:
        path = path.replace("{resource_name}", f"own-{number}") + "?tenant=acme"
        body = {"spec": SPECS["upstreams"] | {right.field: VALUES[right.field]}}
    elif right.when == ownership.PINNED:
        path = path.replace("{resource_name}", f"pinned-{number}") + "?tenant=acme"
        spec = SPECS["upstreams"] | {"call_fee_micro_cny": 5}
        assert boss("PUT", path, {"spec": spec}).status_code == 200
        field = {right.field: VALUES[right.field]} if right.field != "*" else {}
        body = {"spec": spec | field} if method == "PUT" else None
    else:
        path = path.replace("{user_id}", _user(house))
        if right.when:
            assert right.when == ownership.DISABLED
            assert boss("PATCH", path, {"disabled": True}).status_code == 200
    return Call(method, path, body)


@pytest.mark.parametrize("right", ASKED, ids=lambda r: f"{r.route} {r.when}: {r.field}")
def test_a_field_of_the_platform_is_set_with_its_permission_only(
    house: House, right: FieldRight
) -> None:
    needed = OPERATIONS[right.route]
    assert needed is not None and needed.action is not None
    call = _owned_object(house, right)
    kinds = (needed.action, *([needed.found_with] if needed.found_with else []), right.action)
    for tenant in {"acme", str((call.body or {}).get("tenant", "acme"))}:
        for permissions in (frozenset({"*"}), frozenset(kinds)):
            refused = house.person(permissions, Place(tenant))(*call)
            assert refused.status_code in (403, 404), (right, refused.text)
    # Everything in the tenant and the rest on the platform is not enough; the permission is.
    if right.action not in kinds[:-1]:
        lacking = frozenset(ACTIONS) - {right.action}
        assert house.person(lacking, EVERYWHERE)(*call).status_code == 403
    done = house.person(frozenset(kinds), EVERYWHERE)(*call)
    assert done.status_code in (200, 201), (right, done.text)


@pytest.mark.parametrize("right", SHOWN, ids=lambda r: f"{r.route}: {r.field}")
def test_a_field_of_the_platform_is_shown_with_its_permission_only(
    house: House, right: FieldRight
) -> None:
    needed = OPERATIONS[right.route]
    assert needed is not None and needed.action is not None
    path = (
        right.route.partition(" ")[2]
        + {
            "GET /usage": "?tenant=acme&from_s=0&until_s=1000000000000",
            "GET /calls": "?tenant=acme&from_s=0&until_s=1000000000000",
            "GET /calls/export": "?tenant=acme&from_s=0&until_s=1000000000000",
            "GET /served-models": "",
            "GET /calls/{event_id}": "",
            "GET /audit-log/entries": "?tenant=acme&kind=call",
            "GET /audit-log/proofs/{event_id}": "",
            "GET /revisions": "?tenant=acme",
            "GET /revisions/{revision}": "",
        }[right.route]
    )
    if "/revisions" in path:
        path = path.replace("{revision}", str(_refused_revision(house)))
    path = path.replace("{event_id}", "seen")
    shown = house.person(frozenset({needed.action, right.action}), EVERYWHERE)("GET", path)
    owner = house.person(frozenset({"*"}), ACME)("GET", path)
    lacking = house.person(frozenset(ACTIONS) - {right.action}, EVERYWHERE)("GET", path)
    name = right.field.rpartition(".")[2]
    inside = right.field.rpartition(".")[0]
    assert _has(shown.text, inside, name), shown.text[:500]
    assert not _has(owner.text, inside, name), owner.text[:500]
    if needed.action != right.action:
        assert lacking.status_code == 200 and not _has(lacking.text, inside, name)


def _refused_revision(house: House) -> int:
    """The latest revision, of acme's configuration; a gateway refused it."""
    spec = {"spec": {"entries": [{"model": "m"}]}}
    path = f"/virtual-models/refused-{next(_numbers)}?tenant=acme"
    revision = int(house.made(path, spec, "PUT")["revision"])
    with house.platform.engine.begin() as connection:
        refused = RefusedRevision(revision, "", "an upstream of beta is wrong")
        history.refuse(connection, refused, "gw-1")
    return revision


def _has(text: str, inside: str, name: str) -> bool:
    """Whether an answer has a field in its rows, or in a list of theirs."""
    if text.startswith("{"):
        whole = json.loads(text)
        rows = whole.get("data", [whole])
        assert rows
        rows = [part for row in rows for part in row[inside]] if inside else rows
        return any(name in row for row in rows)
    head, _, rest = text.partition("\n")
    assert rest
    columns = head.strip().split(",")
    return f'""{name}""' in rest if inside else name in columns
