"""Privilege escalation: what a tenant's roles cannot do to the platform, to each other, to owners."""

from __future__ import annotations

import base64
import os
import random
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from docs import permissions_reference

from tests import kept_content, moderation_cases, waiting_approvals
from tests.records import record
from tests.security.platform import Caller, Platform, platform
from tokenschain.control.api.evaluations import NewEvaluation
from tokenschain.core import call_record
from tokenschain.core.tenancy import ACTIONS
from tokenschain.infra.database import paging

RATE = {"kind": "rate", "measure": "requests", "amount": 5}
DECIDED = {"decision": "uphold", "reason": "mine"}
SEEDS = range(4)
KINDS = 3
"""Of roles that are walked with: over a tenant, over a project, for certain models."""
STEPS = (50_000 if os.environ.get("PROOFS") == "full" else 4_000) // len(SEEDS) // KINDS
STEPS_MAX = 10 * STEPS
DONE_MIN = 5
"""A walk goes on until so many of its calls were permitted."""
CHANGING = {
    o.name: re.compile(re.sub(r"\{[^}]*\}", "[^/]+", o.name) + "$")
    for o in permissions_reference.operations()
    if not o.name.startswith("GET ") and o.needed is not None and o.needed.action is not None
}
"""Operations that change something."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("rights")) as made:
        found(made)
        yield made


def found(house: Platform) -> None:
    """Two tenants, with accounts and projects, and a platform budget each."""
    boss = house.operator
    shared = {"base_url": "https://models.example/v1", "models": ["m"],
              "prices": {"m": {"input": 1, "output": 1}}, "credential": "stored:k"}  # fmt: skip
    for path, spec in (("credentials/k", {"value": "ours"}), ("upstreams/shared", shared)):
        assert boss("PUT", f"/{path}", {"spec": spec}).status_code == 200
    for tenant in ("acme", "beta"):
        body: dict[str, Any] = {"kind": "tenant", "tenant": tenant, "name": tenant}
        assert boss("POST", "/organization/units", body | {"prepaid": True}).status_code == 201
        for account in ("north", "south"):
            unit = {"kind": "account", "tenant": tenant, "name": account}
            assert boss("POST", "/organization/units", unit).status_code == 201
        for project, account in (("p1", "north"), ("p2", "south"), ("p3", "")):
            unit = {"kind": "project", "tenant": tenant, "name": project, "account": account}
            assert boss("POST", "/organization/units", unit).status_code == 201
        virtual = {"spec": {"entries": [{"model": "m"}]}}
        assert boss("PUT", f"/virtual-models/faq?tenant={tenant}", virtual).status_code == 200
        limit = RATE | {"match": {"tenant": tenant}}
        assert boss("PUT", f"/limits/{tenant}-platform", limit).status_code == 200
        boss("POST", f"/wallets/{tenant}/deposits", {"amount": "1", "reference": f"of {tenant}"})
        target = {"tenant": tenant, "kind": "webhook", "name": "n", "address": "https://b.example"}
        made = boss("POST", "/alert-targets", target)
        assert made.status_code == 201
        assert boss("POST", f"/alert-targets/{made.json()['id']}/test").status_code == 201
        moderation_cases.enter(house, tenant)
        moderation_cases.suspend(house, tenant)
        moderation_cases.propose(house, tenant)
        kept_content.enter(house, tenant, "ada")
        kept_content.hold(house, tenant)
        policy = {"tenant": tenant, "content": "hash", "retention": "6 months"}
        assert boss("PUT", "/content-policies", policy).status_code == 200
        freeze = {"tenant": tenant, "model": "frozen", "reason": "incident"}
        assert boss("POST", "/moderation-freezes", freeze).status_code == 201
        waiting_approvals.ask(house, tenant)
        opened = boss("POST", "/incidents", {"tenant": tenant, "title": "t", "severity": "major"})
        assert opened.status_code == 201
        asked = {"tenant": tenant, "kind": "deletion", "end_user": "user-1"}
        assert boss("POST", "/subject-requests", asked).status_code == 201
        silence = {"tenant": tenant, "expires_at_s": int(time.time()) + 3_600, "reason": "test"}
        assert boss("POST", "/alert-silences", silence).status_code == 201
        fields: dict[str, Any] = {"tenant": tenant, "project": "p1", "cache_key": "ab" * 16}
        now_ms = int(time.time() * 1e3)
        good = record(1, event_id=f"req_{tenant}", started_ms=now_ms, **fields)
        bad = record(1, event_id=f"bad_{tenant}", finish_reason="x" * 99, **fields)
        payloads = [call_record.encode(one) for one in (good, bad)]
        house.app.state.context.ledger.ingest(payloads)


# --- fields of a tenant that belong to the platform ---------------------------------------

SETS = [("POST", {"prepaid": False}), ("POST", {"credit": "1000000"}),
        ("PATCH", {"prepaid": False}), ("PATCH", {"credit": "1000000"}),
        ("PATCH", {"closed": True}), ("PATCH", {"closed": False})]  # fmt: skip
"""Not taken from the table of rights: a row that is missing there has to be missed here."""


@pytest.mark.parametrize("role", ["owner", "admin", "finance"])
@pytest.mark.parametrize(("method", "values"), SETS, ids=str)
def test_a_tenant_does_not_set_what_the_platform_owns(
    house: Platform, method: str, values: dict[str, Any], role: str
) -> None:
    path, body = "/organization/units", dict(values)
    if method == "PATCH":
        path += f"/{house.unit('tenant', 'acme', 'acme')}"
    if method == "POST":
        body |= {"kind": "tenant", "tenant": "acme", "name": "acme"}
    assert house.person("acme", role)(method, path, body).status_code == 403
    assert house.rows(
        "select prepaid, credit_pico, closed_at_s from organization_units"
        " where kind='tenant' and tenant='acme'"
    ) == [(1, 0, None)]


def test_credit_of_a_new_tenant_is_a_matter_of_billing(house: Platform) -> None:
    admin = house.person("*", "admin")
    body = {"kind": "tenant", "tenant": "gift", "name": "gift"}
    assert admin("POST", "/organization/units", body | {"credit": "5"}).status_code == 403
    assert admin("POST", "/organization/units", body).status_code == 201


def test_what_the_platform_closed_or_shut_out_the_tenant_does_not_open(house: Platform) -> None:
    owner = house.person("acme", "owner")
    project = f"/organization/units/{house.unit('project', 'acme', 'p3')}"
    assert owner("PATCH", project, {"closed": True}).status_code == 200
    assert owner("PATCH", project, {"closed": False}).status_code == 200
    assert house.operator("PATCH", project, {"closed": True}).json()["closed_by_platform"]
    assert owner("PATCH", project, {"closed": False}).status_code == 403
    assert house.operator("PATCH", project, {"closed": False}).status_code == 200
    victim = f"/users/{house.person('acme', 'viewer').id}"
    assert house.operator("PATCH", victim, {"disabled": True}).json()["disabled_by_platform"]
    assert owner("PATCH", victim, {"disabled": False}).status_code == 403
    assert house.operator("PATCH", victim, {"disabled": False}).status_code == 200
    assert owner("PATCH", victim, {"disabled": True}).status_code == 200
    assert owner("PATCH", victim, {"disabled": False}).status_code == 200


def test_a_limit_that_the_platform_set_is_changed_by_the_platform(house: Platform) -> None:
    owner = house.person("acme", "owner")
    more = RATE | {"amount": 10**9, "match": {"tenant": "acme"}}
    assert owner("PUT", "/limits/acme-platform", more).status_code == 403
    assert owner("DELETE", "/limits/acme-platform").status_code == 403
    assert owner("GET", "/limits/acme-platform").json()["amount"] == 5
    assert owner("PUT", "/limits/acme-mine", more).status_code == 200
    assert owner("PUT", "/limits/acme-mine", more | {"amount": 1}).status_code == 200
    assert house.operator("PUT", "/limits/acme-mine", more).status_code == 200
    assert owner("DELETE", "/limits/acme-mine").status_code == 403
    assert house.operator("DELETE", "/limits/acme-mine").status_code == 200


# --- replacing needs the right at the old and at the new place ------------------------------


def test_a_limit_is_not_replaced_from_one_project(house: Platform) -> None:
    owner = house.person("acme", "owner")
    dev = house.person("acme", "admin", project="p1")
    everywhere = {"tenant": "acme"}
    assert owner("PUT", "/limits/all-acme", RATE | {"match": everywhere}).status_code == 200
    mine = RATE | {"amount": 9, "match": {"tenant": "acme", "project": "p1"}}
    assert dev("PUT", "/limits/all-acme", mine).status_code == 403
    assert owner("GET", "/limits/all-acme").json()["match"]["project"] == ""
    assert dev("PUT", "/limits/of-p1", mine).status_code == 200
    theirs = RATE | {"match": {"tenant": "acme", "project": "p2"}}
    assert dev("PUT", "/limits/of-p1", theirs).status_code == 403


def test_a_project_moves_by_who_may_over_both_accounts(house: Platform) -> None:
    unit = f"/organization/units/{house.unit('project', 'acme', 'p1')}"
    for where in ({"project": "p1"}, {"account": "north"}):
        mover = house.person("acme", "admin", **where)
        assert mover("PATCH", unit, {"title": "mine"}).status_code == 200
        assert mover("PATCH", unit, {"account": "south"}).status_code == 403
    assert house.person("acme", "admin")("PATCH", unit, {"account": "north"}).status_code == 200


def test_a_role_over_a_project_makes_nothing_beside_it(house: Platform) -> None:
    dev = house.person("acme", "admin", project="p1")
    for body in (
        {"kind": "project", "name": "other", "project": "p1"},
        {"kind": "project", "name": "other", "project": "p1", "account": "south"},
        {"kind": "account", "name": "other", "project": "p1"},
        {"kind": "environment", "name": "test", "project": "p2"},
    ):
        assert dev("POST", "/organization/units", {"tenant": "acme"} | body).status_code == 403
    own = {"kind": "environment", "tenant": "acme", "name": "test", "project": "p1"}
    assert dev("POST", "/organization/units", own).status_code == 201


def test_a_role_is_not_redefined_by_who_lacks_what_it_permits(house: Platform) -> None:
    owner, admin = house.person("acme", "owner"), house.person("acme", "admin")
    strong = {"permissions": ["billing:write", "keys:read"]}
    assert owner("PUT", "/roles/acme/strong", strong).status_code == 200
    assert admin("PUT", "/roles/acme/strong", {"permissions": ["keys:read"]}).status_code == 403
    assert "billing:write" in owner("GET", "/roles?tenant=acme").text


def test_a_tenant_does_not_change_what_a_role_of_the_platform_means(house: Platform) -> None:
    weak = {"permissions": ["keys:read"]}
    assert house.operator("PUT", "/roles/*/support", weak).status_code == 200
    strong = {"permissions": ["keys:*"]}
    assert house.person("acme", "owner")("PUT", "/roles/acme/support", strong).status_code == 409


def test_separation_of_duties_holds_when_a_role_is_redefined(house: Platform) -> None:
    owner = house.person("acme", "owner")
    assert owner("PUT", "/roles/acme/watch", {"permissions": ["usage:read"]}).status_code == 200
    dev = house.person("acme", "developer")
    bound = owner("POST", f"/users/{dev.id}/bindings", {"role": "watch", "tenant": "acme"})
    assert bound.status_code == 201
    both = owner("PUT", "/roles/acme/watch", {"permissions": ["audit:read"]})
    assert both.status_code == 409
    assert dev("GET", "/audit").status_code == 403


# --- a role over a project sees the project -------------------------------------------------


def test_single_calls_are_listed_by_who_may_see_usage_there_and_no_more(house: Platform) -> None:
    boss = house.operator
    for name, permission in (("reading", "usage:read"), ("elsewhere", "keys:read")):
        role = {"permissions": [permission]}
        assert boss("PUT", f"/roles/acme/{name}", role).status_code == 200
    caller = house.person("acme", "reading", project="p1")
    other = {"role": "elsewhere", "tenant": "acme"}
    assert boss("POST", f"/users/{caller.id}/bindings", other).status_code == 201
    assert caller("GET", "/calls").status_code == 403
    assert caller("GET", "/calls?project=p2").status_code == 403
    assert caller("GET", "/calls?project=p1").status_code == 200
    export = "/calls/export?from_s=0&until_s=1"
    assert caller("GET", export).status_code == 403
    assert house.person("acme", "viewer")("GET", export).status_code == 403
    assert house.person("acme", "elsewhere")("GET", "/calls").status_code == 403


def test_who_is_bound_to_a_project_lists_nothing_of_the_tenant(house: Platform) -> None:
    owner = house.person("acme", "owner")
    owner("PUT", "/roles/acme/hidden-role", {"permissions": ["keys:read"]})
    owner("POST", "/keys", {"tenant": "acme", "project": "p2", "name": "hidden-key"})
    hidden = RATE | {"match": {"tenant": "acme", "project": "p2"}}
    owner("PUT", "/limits/hidden-limit", hidden)
    dev = house.person("acme", "admin", project="p1")
    for path in ("/keys", "/limits", "/roles", "/users", "/organization/units", "/alert-targets",
                 "/alerts", "/alert-silences"):  # fmt: skip
        reply = dev("GET", path)
        assert reply.status_code in (200, 403)
        assert "hidden" not in reply.text and '"p2"' not in reply.text, path


LISTS = ("/keys", "/limits", "/organization/units", "/users", "/alert-targets", "/alerts", "/audit",
         "/virtual-models", "/upstreams", "/revisions")  # fmt: skip


@pytest.fixture(scope="module")
def two_projects(house: Platform) -> Platform:
    """A key and a limit of each of two projects, in turn, and something else of their tenant."""
    owner = house.person("acme", "owner")
    for project in ("p2", "p1", "p2", "p1"):
        where = {"tenant": "acme", "project": project}
        assert house.operator("POST", "/keys", where).status_code == 201
    for project in ("p2", "p1"):
        where = {"tenant": "acme", "project": project}
        assert owner("PUT", f"/limits/{project}-own", RATE | {"match": where}).status_code == 200
    upstream = {"spec": {"base_url": "https://models.example/v1", "models": ["m"]}}
    assert owner("PUT", "/upstreams/own?tenant=acme", upstream).status_code == 200
    return house


@pytest.mark.parametrize("path", LISTS)
def test_pages_of_a_list_tell_nothing_of_what_is_not_shown(
    two_projects: Platform, path: str
) -> None:
    """How many there are, and the name in the cursor, would say what the rows do not."""
    owner = two_projects.person("acme", "owner")
    few = two_projects.person("acme", "owner", project="p1")
    whole = few("GET", f"{path}?limit=200")
    assert (whole.status_code, whole.json()["next_cursor"]) == (200, None)
    seen: list[Any] = []
    cursor, pages = "", 0
    while cursor is not None:
        page = few("GET", f"{path}?limit=1&cursor={cursor}").json()
        seen += page["data"]
        pages, cursor = pages + 1, page["next_cursor"]
        if cursor is not None:
            last, named = page["data"][-1], base64.urlsafe_b64decode(cursor).decode()
            assert last["id"] in named or last["name"] in named
    assert seen == whole.json()["data"]
    assert pages <= len(seen) + 1
    everything = owner("GET", f"{path}?limit=200").json()["data"]
    assert len(everything) > len(seen) or path == "/alerts"


def test_a_list_goes_on_behind_many_rows_that_are_not_shown(
    two_projects: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = two_projects.person("acme", "owner", project="p1")
    whole = few("GET", "/keys?limit=200").json()["data"]
    monkeypatch.setattr(paging, "ROUNDS_MAX", 1)
    seen: list[Any] = []
    pages: list[int] = []
    cursor = ""
    while cursor is not None:
        page = few("GET", f"/keys?limit=1&cursor={cursor}").json()
        pages.append(len(page["data"]))
        seen, cursor = seen + page["data"], page["next_cursor"]
    assert seen == whole and len(whole) > 1 and 0 in pages[:-1]


# --- roles for certain models -----------------------------------------------------------------


def test_a_role_for_certain_models_gives_no_more(house: Platform) -> None:
    few = house.person("acme", "admin", models=["small"])
    mine = {"tenant": "acme", "project": "p1"}
    assert few("GET", "/me").json()["bindings"][0]["models"] == ["small"]
    assert few("POST", "/keys", mine).status_code == 403
    assert few("POST", "/keys", mine | {"models": ["small", "large"]}).status_code == 403
    other = house.operator("POST", "/keys", mine).json()["id"]
    made = few("POST", "/keys", mine | {"models": ["small"]})
    assert made.status_code == 201
    assert few("PATCH", f"/keys/{made.json()['id']}", {"models": None}).status_code == 403
    assert few("PATCH", f"/keys/{made.json()['id']}", {"models": ["large"]}).status_code == 403
    assert few("PATCH", f"/keys/{made.json()['id']}", {"name": "n"}).status_code == 200
    assert few("POST", f"/keys/{other}/rotate", {}).status_code == 404
    assert few("PATCH", f"/keys/{other}", {"name": "n"}).status_code == 404
    assert few("DELETE", f"/keys/{other}").status_code == 404
    user = house.person("acme", None).id
    binding = {"role": "viewer", "tenant": "acme"}
    for models in (None, ["large"], ["small"]):
        path = f"/users/{user}/bindings"
        assert few("POST", path, binding | {"models": models}).status_code == 404
    assert few("PUT", "/roles/acme/wide", {"permissions": ["keys:read"]}).status_code == 403
    more = house.person("acme", "viewer")
    assert few("PATCH", f"/users/{more.id}", {"password": "a new password 1"}).status_code == 404


def test_a_role_for_certain_models_names_some_and_a_part_of_a_tenant(house: Platform) -> None:
    path = f"/users/{house.person('*', None).id}/bindings"
    viewer = {"role": "viewer", "tenant": "acme"}
    for models in ([], [""], ["a\nb"], ["x" * 257]):
        reply = house.operator("POST", path, viewer | {"models": models})
        assert reply.status_code in (400, 422), (models, reply.text)
    parts = house.operator("POST", path, {"role": "viewer", "tenant": "*", "project": "p1"})
    assert parts.status_code == 400


# --- owners -----------------------------------------------------------------------------------


def test_an_admin_does_not_remove_demote_or_shut_out_an_owner(house: Platform) -> None:
    admin, owner = house.person("acme", "admin"), house.person("acme", "owner")
    reading = house.operator("GET", f"/users/{owner.id}").json()
    binding = f"/bindings/{reading['bindings'][0]['id']}"
    assert admin("DELETE", binding).status_code == 403
    assert admin("PATCH", f"/users/{owner.id}", {"disabled": True}).status_code == 403
    token = house.operator("GET", f"/users/{owner.id}/tokens").json()["data"][0]["id"]
    assert admin("DELETE", f"/tokens/{token}").status_code == 403
    assert owner("GET", "/audit").status_code == 200
    other = house.person("acme", "owner")
    assert other("DELETE", binding).status_code == 200


def test_a_tenant_does_not_take_roles_from_people_of_the_platform(house: Platform) -> None:
    helper = house.person("*", "viewer", over="acme")
    binding = house.operator("GET", f"/users/{helper.id}").json()["bindings"][0]["id"]
    assert house.person("acme", "owner")("DELETE", f"/bindings/{binding}").status_code == 403


# --- any sequence of calls --------------------------------------------------------------------

OWNED = (
    "select tenant, prepaid, credit_pico, title, closed_at_s from organization_units"
    " where kind='tenant' and tenant='beta'",
    "select prepaid, credit_pico, closed_at_s from organization_units"
    " where kind='tenant' and tenant='acme'",
    "select * from organization_units where tenant='beta'",
    "select * from organization_units where tenant='acme' and kind='account'",
    "select * from organization_units where tenant='acme' and (project='p2'"
    " or (kind='project' and name='p2'))",
    "select * from limits where id like '%-platform' or tenant in ('', 'beta')",
    "select * from limits where id='of-p2'",
    "select * from api_keys where tenant='beta'",
    "select id, models, revoked_at_s, expires_at_s, name from api_keys"
    " where tenant='acme' and (project='p2' or project='p3')",
    "select * from users where tenant in ('*', 'beta')",
    "select * from bindings where tenant in ('*', 'beta')"
    " or user_id in (select id from users where tenant in ('*', 'beta'))",
    "select * from roles where tenant in ('*', 'beta')",
    "select * from tokens where user_id in (select id from users where tenant in ('*', 'beta'))",
    "select * from prices",
    "select * from fx_rates",
    "select * from ledger_entries",
    "select * from balances",
    "select * from ledger",
    "select * from rejected_records",
    "select * from usage_hourly where tenant='beta'",
    "select * from alert_targets where tenant in ('', 'beta')",
    "select * from alerts where tenant in ('', 'beta')",
    "select * from alert_silences where tenant in ('', 'beta')",
    "select * from moderation_cases where tenant in ('', 'beta')",
    "select * from moderation_freezes where tenant in ('', 'beta')",
    "select * from approvals where tenant in ('*', 'beta')",
    "select * from meta where name = 'separation_of_powers'",
    "select * from incidents where tenant in ('', 'beta')",
    "select * from incident_events where incident_id in "
    "(select id from incidents where tenant in ('', 'beta'))",
    "select * from subject_requests where tenant = 'beta'",
    "select * from end_user_suspensions where tenant = 'beta'",
    "select * from moderation_proposals where tenant = 'beta'",
    "select * from content_policies where tenant in ('', 'beta')",
    "select * from legal_holds where tenant in ('', 'beta')",
    "select * from content_erasures where tenant in ('', 'beta')",
    "select * from call_contents where tenant = 'beta'",
    "select * from cache_flushes where selector not like 'acme%'",
    "select * from resources where tenant in ('', 'beta')",
    "select * from credential_values where id not like 'acme/%'",
    "select * from config_revisions where tenant in ('', 'beta')",
)
"""What nobody who is bound to project p1 of `acme` may change."""
OF_NO_MODEL = (
    "select * from organization_units",
    "select * from limits where spec not like '%\"model\":\"small\"%'",
    "select * from api_keys where models is null or models <> '[\"small\"]'",
    "select * from users",
    "select * from bindings",
    "select * from roles",
    "select * from alert_targets",
    "select * from alert_silences",
    "select * from moderation_cases",
    "select * from moderation_freezes",
    "select * from approvals",
    "select * from incidents",
    "select * from subject_requests",
    "select * from end_user_suspensions",
    "select * from moderation_proposals",
    "select * from content_policies",
    "select * from legal_holds",
    "select * from content_erasures",
    "select * from call_contents",
    "select id, acknowledged_by from alerts",
    "select * from cache_flushes",
    "select * from resources",
    "select * from config_revisions",
    *(one for one in OWNED if one.partition(" where ")[0].rpartition(" ")[2] in
      {"prices", "fx_rates", "ledger_entries", "balances", "ledger", "rejected_records"}),
)  # fmt: skip
"""What nobody may change whose roles are for the model `small` alone."""
OF_ALL_BUT_THE_TENANT = tuple(s for s in OWNED if "p2" not in s and "kind='account'" not in s)
"""What no role of the tenant may change."""


class Intruder:
    """Draws calls at random, with what earlier answers gave; only the seed decides."""

    def __init__(
        self, house: Platform, seed: int, *, project: str, models: list[str] | None = None
    ) -> None:
        self.house = house
        self.random = random.Random(seed)
        actions = sorted(ACTIONS)
        self.callers: list[Caller] = []
        for number in range(8):
            name = f"role-{seed}-{number}"
            permissions = self.random.sample(actions, self.random.randint(3, len(actions)))
            if "keys:create" in permissions and "audit:read" in permissions:
                permissions.remove("audit:read")
            made = house.operator("PUT", f"/roles/acme/{name}", {"permissions": permissions})
            assert made.status_code == 200, made.text
            some = models or self.random.choice([None, None, ["small"]])
            self.callers.append(house.person("acme", name, project=project, models=some))
        for role in ("owner", "admin", "finance"):
            self.callers.append(house.person("acme", role, project=project, models=models))
        self.ids: dict[str, list[str]] = {
            "tenant": [
                row[0]
                for row in house.rows(
                    "select id from organization_units where kind='tenant' and tenant='acme'"
                )
            ],
            "unit": [row[0] for row in house.rows("select id from organization_units")],
            "key": [row[0] for row in house.rows("select id from api_keys")],
            "user": [row[0] for row in house.rows("select id from users")],
            "binding": [row[0] for row in house.rows("select id from bindings")],
            "token": [row[0] for row in house.rows("select id from tokens")],
            "limit": [row[0] for row in house.rows("select id from limits")] + ["new-1", "new-2"],
            "target": [row[0] for row in house.rows("select id from alert_targets")],
            "alert": [row[0] for row in house.rows("select id from alerts")],
            "silence": [row[0] for row in house.rows("select id from alert_silences")],
            "incident": [row[0] for row in house.rows("select id from incidents")],
            "request": [row[0] for row in house.rows("select id from subject_requests")],
            "freeze": [row[0] for row in house.rows("select id from moderation_freezes")],
            "approval": [row[0] for row in house.rows("select id from approvals")],
            "proposal": [row[0] for row in house.rows("select id from moderation_proposals")],
            "suspension": [row[0] for row in house.rows("select id from end_user_suspensions")],
            "content": [row[0] for row in house.rows("select call_id from call_contents")],
            "hold": [row[0] for row in house.rows("select id from legal_holds")],
            "case": [row[0] for row in house.rows("select id from moderation_cases")],
            "transaction": [
                row[0] for row in house.rows("select distinct transaction_id from ledger_entries")
            ],
            "revision": [row[0] for row in house.rows("select revision from config_revisions")],
            "rejected": [row[0] for row in house.rows("select payload_hash from rejected_records")],
        }

    def step(self) -> str:
        """One call; says which."""
        pick = self.random.choice
        caller = pick(self.callers)
        method, path, body = self.draw()
        reply = caller(method, path, body)
        assert reply.status_code < 500, (method, path, body, reply.text)
        if reply.status_code == 201:
            answer = reply.json()
            for kind, prefix in (("key", "/keys"), ("user", "/users"), ("unit", "/organization")):
                if path == prefix or (kind == "unit" and path.startswith(prefix)):
                    self.ids[kind].append(answer["id"])
            if path.endswith("/bindings"):
                self.ids["binding"].append(answer["id"])
            if path.endswith("/tokens"):
                self.callers.append(Caller(self.house.client, answer["token"], path.split("/")[2]))
        return f"{method} {path} {body} by {caller.id}: {reply.status_code}"

    def _place(self, pick: Any) -> dict[str, Any]:
        return {
            "tenant": pick(["acme", "acme", "beta"]),
            "account": pick(["", "", "north", "south"]),
            "project": pick(["", "p1", "p1", "p2", "p3", "new"]),
            "environment": pick(["", "", "default", "test"]),
            "model": pick(["", "small", "large"]),
        }

    def _of_configuration(self, pick: Any) -> Iterator[tuple[str, str, Any]]:
        specs: dict[str, dict[str, Any]] = {
            "upstreams": {"base_url": "https://models.example/v1", "models": ["m"],
                          "credential": pick(["env:KEY", "stored:k"])},
            "credentials": {"value": "secret"},
            "models": {"offers": [{"upstream": "shared", "model": "m"}]},
            "virtual-models": {"entries": [{"model": "m"}]},
            "routing": {"policy": "cost-first"},
            "cache-rules": {"mode": "exact"},
            "moderation-policies": {"state": "shadow"},
            "filings": {"number": "1", "models": ["m"], "source": "notice"},
            "label-rules": {"explicit": "end"},
            "receipt-rules": {"send": "always"},
            "data-classes": {"cache": "none"},
            "processors": {"vendor": "V", "purpose": "answers"},
        }  # fmt: skip
        whose = pick(["acme", "acme", "beta", ""])
        for path, spec in specs.items():
            single = path in ("routing", "cache-rules", "label-rules", "receipt-rules")
            name = "default" if single else pick(["k", "shared"])
            for method in ("PUT", "PATCH", "DELETE"):
                body = None if method == "DELETE" else {"spec": spec}
                yield method, f"/{path}/{name}?tenant={whose}", body
        yield "POST", f"/upstreams/{pick(['k', 'shared'])}/test?tenant={whose}", {}
        document = {"kind": "routing", "name": "default", "tenant": whose, "spec": {}}
        prune = pick([True, False])
        yield "POST", "/configuration/apply", {"documents": [document], "prune": prune}
        yield "POST", "/configuration/apply", {"documents": [], "prune": prune}
        yield "POST", f"/revisions/{pick(self.ids['revision'])}/rollback", {}

    def draw(self) -> tuple[str, str, Any]:
        """A call that may change something: method, path and body."""
        pick = self.random.choice
        ids, place = self.ids, self._place(pick)
        number = self.random.randrange(10**6)
        models = pick([None, ["small"], ["large"], ["small", "large"]])
        role = pick(["owner", "admin", "developer", "viewer", "auditor", "finance", "mine"])
        keyed = {name: place[name] or "default" for name in ("tenant", "project", "environment")}
        unit = {
            "kind": pick(["tenant", "account", "project", "environment"]),
            "name": pick(["p1", "p2", "test", f"n{number}"]),
            "tenant": pick(["acme", "beta", f"t{number}"]),
            "account": place["account"],
            "project": place["project"],
        }
        change = pick([
            {"title": "x"}, {"closed": True}, {"closed": False}, {"prepaid": False},
            {"credit": "99"}, {"account": pick(["", "north", "south"])},
        ])  # fmt: skip
        if self.random.random() < 0.3:
            unit |= {"prepaid": False, "credit": "7"}
        calls = [
            ("POST", "/organization/units", unit),
            ("PATCH", f"/organization/units/{pick(ids['unit'])}", change),
            ("PATCH", f"/organization/units/{pick(ids['tenant'])}", change),
            ("POST", "/keys", keyed | {"models": models}),
            ("POST", "/playground/keys", keyed),
            ("PATCH", f"/keys/{pick(ids['key'])}", pick([{"models": models}, {"name": "z"}])),
            ("POST", f"/keys/{pick(ids['key'])}/rotate", {}),
            ("DELETE", f"/keys/{pick(ids['key'])}", None),
            ("PUT", f"/limits/{pick(ids['limit'])}", RATE | {"amount": number, "match": place}),
            ("PUT", f"/limits/{pick(ids['limit'])}",
             {"kind": "budget", "measure": "spend", "amount": number, "match": place}),
            ("DELETE", f"/limits/{pick(ids['limit'])}", None),
            ("POST", "/users", {"tenant": pick(["acme", "beta", "*"]), "name": "N",
                                "kind": pick(["user", "service"]),
                                "email": f"n{number}@x.example"}),
            ("POST", "/invitations",
             {k: v for k, v in place.items() if k != "model"}
             | {"tenant": pick(["acme", "beta", "*"]), "role": role, "models": models,
                "name": "N", "email": f"i{number}@x.example"}),
            ("POST", f"/invitations/{pick(ids['user'])}/resend", None),
            ("DELETE", f"/invitations/{pick(ids['user'])}", None),
            ("PATCH", f"/users/{pick(ids['user'])}", {"disabled": pick([True, False])}),
            ("PATCH", f"/users/{pick(ids['user'])}", {"name": "renamed"}),
            ("POST", f"/users/{pick(ids['user'])}/totp/reset", {}),
            ("POST", f"/users/{pick(ids['user'])}/bindings",
             {k: v for k, v in place.items() if k != "model"}
             | {"tenant": pick(["acme", "beta", "*"]), "role": role, "models": models}),
            ("DELETE", f"/bindings/{pick(ids['binding'])}", None),
            ("PUT", f"/roles/{pick(['acme', 'beta', '*'])}/{pick(['mine', 'support'])}",
             {"permissions": self.random.sample(sorted(ACTIONS), 2)}),
            ("DELETE", f"/roles/{pick(['acme', 'beta', '*'])}/{pick(['mine', 'support'])}", None),
            ("POST", f"/users/{pick(ids['user'])}/tokens", {}),
            ("DELETE", f"/tokens/{pick(ids['token'])}", None),
            ("POST", "/wallets/acme/deposits", {"amount": "5", "reference": f"r{number}"}),
            ("POST", "/prices", {"tenant": "acme", "model": "m", "input": "0", "output": "0"}),
            ("PUT", "/fx-rates/2026-11-25", {"usd_cny": "1", "source": "me"}),
            ("POST", "/alert-targets", {"tenant": pick(["", "acme", "beta"]), "kind": "email",
                                        "name": "n", "address": "a@b.example"}),
            ("POST", "/cache/flush", {"tenant": pick(["", "acme", "beta"])}),
            ("POST", "/cache/pairs", {"tenant": pick(["acme", "beta"]), "project": "p1",
                                      "model": "m", "pairs": [{"a": "x", "b": "y", "y": 1}]}),
            ("POST", "/cache/feedback", {"request_id": pick(["req_beta", "none"]), "right": False}),
            ("DELETE", f"/alert-targets/{pick(ids['target'])}", None),
            ("POST", "/alert-targets/confirm", {"code": f"tct-{number:030}"}),
            ("POST", f"/alert-targets/{pick(ids['target'])}/test", None),
            ("POST", f"/alerts/{pick(ids['alert'])}/acknowledge", None),
            ("POST", "/alert-silences", {"tenant": pick(["", "acme", "beta"]), "reason": "mine",
                                         "expires_at_s": int(time.time()) + 3_600}),
            ("POST", f"/alert-silences/{pick(ids['silence'])}/end", None),
            ("POST", f"/moderation-cases/{pick(ids['case'])}/{pick(['open', 'claim', 'return'])}",
             None),
            ("POST", f"/moderation-cases/{pick(ids['case'])}/decide", DECIDED),
            ("POST", "/moderation/test", {"text": "a word"}),
            ("PUT", "/content-policies", {"tenant": pick(["", "acme", "beta"]), "content": "hash",
                                          "project": pick(["", "p1", "p2"]),
                                          "retention": "6 months"}),
            ("POST", f"/audit-log/content/{pick(ids['content'])}/open", {"reason": "mine"}),
            ("POST", "/audit-log/content/export", {"tenant": pick(["acme", "beta"]),
                                                   "reason": "mine"}),
            ("POST", "/content-erasures", {"tenant": pick(["acme", "beta"]), "reason": "mine",
                                           "end_user": pick(["ada", "bob"])}),
            ("POST", "/legal-holds", {"tenant": pick(["acme", "beta"]), "reason": "mine",
                                      "from_s": 1, "until_s": 2}),
            ("POST", f"/legal-holds/{pick(ids['hold'])}/release", {"reason": "mine"}),
            ("POST", "/moderation-freezes", {"tenant": pick(["", "acme", "beta"]),
                                             "model": "small", "reason": "mine"}),
            ("POST", f"/moderation-freezes/{pick(ids['freeze'])}/lift", None),
            ("PUT", "/compliance/separation", {"on": pick([True, False])}),
            ("POST", "/compliance/evaluations", dict(NewEvaluation.example)),
            ("POST", f"/approvals/{pick(ids['approval'])}/approve", {}),
            ("POST", f"/approvals/{pick(ids['approval'])}/reject", {"reason": "mine"}),
            ("POST", "/incidents", {"tenant": pick(["", "acme", "beta"]), "title": "mine"}),
            ("PATCH", f"/incidents/{pick(ids['incident'])}", {"note": "mine"}),
            ("POST", f"/incidents/{pick(ids['incident'])}/report", {"reported_to": "mine"}),
            ("POST", "/subject-requests", {"tenant": pick(["acme", "beta"]), "kind": "copy",
                                           "end_user": "mine"}),
            ("POST", f"/subject-requests/{pick(ids['request'])}/decide",
             {"decision": "done", "reason": "mine"}),
            ("POST", f"/moderation-cases/{pick(ids['case'])}/proposals",
             {"kind": "word", "word": f"w{number}"}),
            ("POST", f"/moderation-proposals/{pick(ids['proposal'])}/decide",
             {"accept": pick([True, False]), "reason": "mine"}),
            ("POST", f"/moderation-suspensions/{pick(ids['suspension'])}/release",
             {"reason": "mine"}),
            ("POST", "/moderation-cases/decide", DECIDED | {
                "tenant": pick(["acme", "beta"]), "case_ids": [pick(ids["case"])]}),
            ("POST", f"/ledger-entries/{pick(ids['transaction'])}/reverse", {"reason": "mine"}),
            ("POST", "/rerate", {"tenant": pick(["acme", "beta"]), "model": "m", "from_s": 0,
                                 "until_s": 2**31, "reason": "mine"}),
            ("POST", f"/rejected-records/{pick(ids['rejected'])}/retry", {"reduced": True}),
            ("DELETE", f"/rejected-records/{pick(ids['rejected'])}", None),
        ]  # fmt: skip
        return pick([*calls, *self._of_configuration(pick)])  # type: ignore[no-any-return]


def test_the_walk_draws_each_operation_that_changes_something(house: Platform) -> None:
    intruder = Intruder(house, 0, project="")
    drawn = {" ".join(intruder.draw()[:2]).partition("?")[0] for _ in range(3_000)}
    assert all(intruder.ids.values()), "it knows an object of each kind"
    missing = [name for name, path in CHANGING.items() if not any(map(path.match, drawn))]
    assert not missing, "a new operation belongs into `Intruder.draw`"


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize(
    ("project", "models"), [("", None), ("p1", None), ("", ["small"])],
    ids=["tenant", "project", "models"],
)  # fmt: skip
@pytest.mark.parametrize("seed", SEEDS)
def test_no_sequence_of_calls_changes_what_is_the_platforms_or_anothers(
    tmp_path_factory: pytest.TempPathFactory, seed: int, project: str, models: list[str] | None
) -> None:
    with platform(tmp_path_factory.mktemp("walk")) as house:
        found(house)
        for tenant in ("acme", "beta"):
            for name in ("p1", "p2"):
                house.operator("POST", "/keys", {"tenant": tenant, "project": name})
            owner = house.person(tenant, "owner")
            for name in ("p1", "p2"):
                match = {"tenant": tenant, "project": name}
                limit_id = f"of-{name}" if tenant == "acme" else f"beta-{name}"
                owner("PUT", f"/limits/{limit_id}", RATE | {"match": match})
        house.operator("PUT", "/roles/*/support", {"permissions": ["keys:read"]})
        house.person("*", "viewer", over="acme")
        house.person("*", "owner")
        intruder = Intruder(house, seed, project=project, models=models)
        statements = OWNED if project else OF_ALL_BUT_THE_TENANT
        if models is not None:
            statements = (*statements, *OF_NO_MODEL)
        before = {statement: house.rows(statement) for statement in statements}
        done = 0
        for number in range(STEPS_MAX):
            if number >= STEPS and done >= DONE_MIN:
                break
            said = intruder.step()
            done += said.endswith(("200", "201"))
            if number % 10 == 9:
                for statement in statements:
                    assert house.rows(statement) == before[statement], (statement, said)
        assert done >= DONE_MIN, "the walk must get somewhere"
