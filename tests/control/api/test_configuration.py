"""The configuration by the admin API: resources, documents, revisions, and who may what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.control.configuration.conftest import configurator, upstream
from tests.security.platform import Caller, Platform, platform
from tokenschain.control.publisher import Publisher
from tokenschain.core.log_events import silent
from tokenschain.core.snapshot import encoding
from tokenschain.infra.config import Settings
from tokenschain.infra.security.suite import INTERNATIONAL

SECRET = "sk-a-secret-of-the-vendor"


@pytest.fixture
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("configuration")) as made:
        for tenant in ("acme", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        yield made


def put(caller: Caller, path: str, spec: dict[str, Any], **more: Any) -> httpx.Response:
    return caller("PUT", path, {"spec": spec, **more.pop("body", {})}, **more)


def done(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(reply: httpx.Response, status: int) -> str:
    assert reply.status_code == status, reply.text
    return str(reply.json()["error"]["message"])


def test_a_resource_is_made_read_changed_and_removed(house: Platform) -> None:
    boss = house.operator
    made = done(put(boss, "/upstreams/one", upstream("alpha"), body={"reason": "first"}))
    assert made["resource"]["spec"]["models"] == ["alpha"] and made["effects"]["models"]["gained"]
    read = boss("GET", "/upstreams/one")
    assert read.headers["etag"] == f'"{made["revision"]}"'
    changed = done(boss("PATCH", "/upstreams/one", {"spec": {"region": "cn-beijing"}}))
    (diff,) = changed["changes"]
    assert diff["fields"] == [{"field": "region", "before": None, "after": "cn-beijing"}]
    assert [one["name"] for one in done(boss("GET", "/upstreams"))["data"]] == ["one"]
    assert done(boss("DELETE", "/upstreams/one"))["effects"]["upstreams"]["lost"] == ["one"]
    refused(boss("GET", "/upstreams/one"), 404)


def test_what_was_changed_meanwhile_is_said_with_both_revisions(house: Platform) -> None:
    boss = house.operator
    first = done(put(boss, "/upstreams/one", upstream("alpha")))["revision"]
    second = done(put(boss, "/upstreams/one", upstream("beta")))["revision"]
    for method in ("PUT", "PATCH", "DELETE"):
        body = None if method == "DELETE" else {"spec": upstream("gamma")}
        reply = house.client.request(
            method, "/api/v1/upstreams/one", json=body,
            headers={"authorization": f"Bearer {boss.token}", "if-match": f'"{first}"'},
        )  # fmt: skip
        text = refused(reply, 412)
        assert str(first) in text and str(second) in text


def test_a_dry_run_changes_nothing(house: Platform) -> None:
    boss = house.operator
    dry = done(put(boss, "/upstreams/one?dry_run=true", upstream("alpha")))
    assert dry["revision"] is None and dry["dry_run"] and dry["changes"][0]["action"] == "added"
    refused(boss("GET", "/upstreams/one"), 404)
    assert done(boss("GET", "/revisions"))["data"] == []


def test_unknown_queries_fields_and_names_are_refused_with_near_ones(house: Platform) -> None:
    boss = house.operator
    refused(put(boss, "/upstreams/one?dryrun=true", upstream("alpha")), 400)
    text = refused(put(boss, "/upstreams/one", {"provider": "aliyun", "zome": "cn"}), 400)
    assert "did you mean `zone`" in text
    text = refused(put(boss, "/upstreams/one", {"provider": "aliyun"}), 400)
    assert "no provider aliyun; did you mean alibaba" in text
    assert "its name is `default`" in refused(put(boss, "/routing/mine", {}), 400)
    assert "is the platform's" in refused(
        boss("POST", "/configuration/apply", {"documents": [
            {"kind": "model", "name": "m", "tenant": "acme", "spec": {}}]}), 400
    )  # fmt: skip


def test_a_secret_is_in_no_answer(house: Platform) -> None:
    boss = house.operator
    replies = [put(boss, "/credentials/k", {"value": SECRET}), boss("GET", "/credentials/k")]
    replies += [boss("GET", path) for path in ("/credentials", "/configuration", "/revisions")]
    revision = done(replies[0])["revision"]
    replies += [boss("GET", f"/revisions/{revision}"), boss("GET", "/audit")]
    replies += [put(boss, "/credentials/bad name", {"value": SECRET})]
    replies += [put(boss, "/upstreams/u", upstream("a", credential=SECRET))]
    assert not [reply.text for reply in replies if SECRET in reply.text]
    assert done(replies[1])["spec"].keys() == {"fingerprint"}


# --- tenants -----------------------------------------------------------------------------------


def test_a_tenant_has_its_own_and_sees_no_others(house: Platform) -> None:
    boss, owner = house.operator, house.person("acme", "admin")
    stranger = house.person("beta", "admin")
    done(put(boss, "/upstreams/shared", upstream("alpha")))
    entries = {"entries": [{"model": "alpha"}]}
    done(put(owner, "/virtual-models/faq?tenant=acme", entries))
    done(put(stranger, "/virtual-models/faq?tenant=beta", entries))
    assert [one["tenant"] for one in done(owner("GET", "/virtual-models"))["data"]] == ["acme"]
    assert done(owner("GET", "/upstreams"))["data"] == []
    for method, path in (
        ("GET", "/virtual-models/faq?tenant=beta"), ("DELETE", "/virtual-models/faq?tenant=beta"),
        ("GET", "/upstreams/shared"), ("DELETE", "/upstreams/shared"),
    ):  # fmt: skip
        refused(owner(method, path), 404)
    refused(put(owner, "/virtual-models/faq?tenant=beta", entries), 403)
    refused(put(owner, "/upstreams/shared", upstream("b")), 403)
    refused(put(owner, "/models/m", {"offers": [{"upstream": "shared"}]}), 403)
    documents = [{"kind": "virtual-model", "name": "x", "tenant": "beta", "spec": entries}]
    refused(owner("POST", "/configuration/apply", {"documents": documents}), 403)
    refused(owner("POST", "/configuration/apply", {"documents": [
        {"kind": "upstream", "name": "u", "spec": upstream("a")}]}), 403)  # fmt: skip
    exported = done(owner("GET", "/configuration"))["data"]
    assert [(one["kind"], one["tenant"]) for one in exported] == [("virtual-model", "acme")]
    of_beta = done(boss("GET", "/revisions?tenant=beta"))["data"][0]["revision"]
    refused(owner("GET", f"/revisions/{of_beta}"), 404)
    refused(owner("POST", f"/revisions/{of_beta}/rollback", {}), 404)
    assert {one["tenant"] for one in done(owner("GET", "/revisions"))["data"]} == {"acme"}


def test_a_tenants_upstream_gets_no_key_of_the_machine_and_says_no_zone(house: Platform) -> None:
    boss, owner = house.operator, house.person("acme", "admin")
    path = "/upstreams/mine?tenant=acme"
    plain = upstream("alpha")
    del plain["zone"]
    for field, value in (
        ("zone", "own"), ("call_fee_micro_cny", 1), ("credential", "env:PATH"),
        ("credential", ["file:/etc/passwd"]), ("credential", "sealed:bailian"),
    ):  # fmt: skip
        refused(put(owner, path, plain | {field: value}), 403)
    done(put(owner, "/credentials/k?tenant=acme", {"value": SECRET}))
    done(put(owner, path, plain | {"credential": "stored:k"}))
    # What the platform has said of it stays, and a key of the machine goes nowhere else.
    done(boss("PATCH", path, {"spec": {"zone": "cn"}}))
    refused(put(owner, path, plain | {"credential": "stored:k"}), 403)
    done(owner("PATCH", path, {"spec": {"region": "cn-beijing"}}))
    done(boss("PATCH", path, {"spec": {"credential": "env:KEY"}}))
    refused(owner("PATCH", path, {"spec": {"base_url": "https://thief.example/v1"}}), 403)
    revision = done(boss("GET", "/revisions"))["data"][0]["revision"]
    refused(owner("POST", f"/revisions/{revision}/rollback", {}), 403)


# --- documents ---------------------------------------------------------------------------------

DOCUMENTS: list[dict[str, Any]] = [
    {"kind": "virtual-model", "name": "writer", "spec": {"entries": [{"model": "alpha"}]}},
    {"kind": "routing", "name": "default",
     "spec": {"policy": "cost-first", "residency": {"tenant/acme": ["cn"]}}},
    {"kind": "upstream", "name": "one", "spec": upstream("alpha", credential="env:ONE")},
    {"kind": "model", "name": "own", "spec": {"offers": [
        {"upstream": "one", "model": "alpha", "price": {"input": "0.5", "output": 1}}]}},
    {"kind": "cache-rules", "name": "default", "tenant": "beta", "spec": {"mode": "exact"}},
]  # fmt: skip


def test_documents_are_applied_in_any_order_and_once(house: Platform) -> None:
    boss = house.operator
    dry = done(boss("POST", "/configuration/apply", {"documents": DOCUMENTS, "dry_run": True}))
    first = done(boss("POST", "/configuration/apply", {"documents": DOCUMENTS}))
    assert (dry["changes"], dry["effects"]) == (first["changes"], first["effects"])
    assert first["revision"] and len(first["changes"]) == len(DOCUMENTS)
    again = {"documents": DOCUMENTS[::-1]}
    assert done(boss("POST", "/configuration/apply", again))["revision"] is None


def test_pruning_removes_what_is_in_no_document(house: Platform) -> None:
    boss, owner = house.operator, house.person("acme", "admin")
    done(boss("POST", "/configuration/apply", {"documents": DOCUMENTS}))
    entries = {"entries": [{"model": "alpha"}]}
    done(put(owner, "/virtual-models/faq?tenant=acme", entries))
    fewer = {"documents": [one for one in DOCUMENTS if one["name"] != "writer"], "prune": True}
    pruned = done(boss("POST", "/configuration/apply", fewer))
    assert [one["name"] for one in pruned["changes"]] == ["writer"], "tenants' own stay"
    done(owner("POST", "/configuration/apply", {"documents": [
        {"kind": "cache-rules", "name": "default", "tenant": "acme", "spec": {"mode": "off"}}],
        "prune": True}))  # fmt: skip
    assert [one["kind"] for one in done(owner("GET", "/configuration"))["data"]] == ["cache-rules"]


def test_what_is_exported_makes_the_same_snapshot_elsewhere(
    house: Platform, tmp_path_factory: pytest.TempPathFactory
) -> None:
    done(house.operator("POST", "/configuration/apply", {"documents": DOCUMENTS}))
    exported = done(house.operator("GET", "/configuration"))["data"]
    with platform(tmp_path_factory.mktemp("elsewhere")) as other:
        for tenant in ("acme", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert other.operator("POST", "/organization/units", body).status_code == 201
        done(other.operator("POST", "/configuration/apply", {"documents": exported}))
        assert done(other.operator("GET", "/configuration"))["data"] == exported
        assert published(house) == published(other)


def published(made: Platform) -> bytes:
    """The snapshot that gateways get."""
    secrets = ["internal" * 6]
    publisher = Publisher(
        made.engine, Settings(), configurator(Path("/nowhere")), INTERNATIONAL, lambda: secrets,
        silent,
    )  # fmt: skip
    return encoding.encode(publisher.snapshot)


# --- revisions ---------------------------------------------------------------------------------


def test_a_revision_is_shown_and_rolled_back(house: Platform) -> None:
    boss = house.operator
    done(put(boss, "/upstreams/one", upstream("alpha")))
    number = done(put(boss, "/upstreams/one", upstream("beta"), body={"reason": "try"}))["revision"]
    shown = done(boss("GET", f"/revisions/{number}"))
    assert shown["reason"] == "try" and shown["resources"] == ["upstream one"]
    assert shown["effects"]["models"]["lost"] == ["alpha"]
    dry = done(boss("POST", f"/revisions/{number}/rollback", {"dry_run": True}))
    assert dry["revision"] is None and dry["effects"]["models"]["gained"] == ["alpha"]
    back = done(boss("POST", f"/revisions/{number}/rollback", {"reason": "was wrong"}))
    assert done(boss("GET", f"/revisions/{back['revision']}"))["rolled_back_of"] == number
    text = refused(boss("POST", f"/revisions/{number}/rollback", {}), 409)
    assert f"Revision {back['revision']} changed upstream one since" in text


@pytest.mark.parametrize(
    ("path", "spec"),
    [("label-rules", {"explicit": "end", "implicit": "on"}), ("receipt-rules", {"send": "always"})],
)
def test_labels_and_receipts_are_not_set_for_a_tenant_that_does_not_exist(
    house: Platform, path: str, spec: dict[str, str]
) -> None:
    boss = house.operator
    for more in ("", "&dry_run=true"):
        said = refused(put(boss, f"/{path}/default?tenant=nobody{more}", spec), 404)
        assert said == "There is no such tenant."
    assert boss("GET", f"/{path}/default?tenant=nobody").status_code == 404
