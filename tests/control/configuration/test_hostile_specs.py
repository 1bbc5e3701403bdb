"""Specs that are well formed and that somebody further on could not read: refused where they come
in, and where one is in the database all the same, control and what is served stay."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import text

from tests.control.configuration.conftest import Platform, upstream
from tokenschain.control.configuration import bounds, changes
from tokenschain.control.configuration.changes import Change, ConfigurationRefused
from tokenschain.control.configuration.resources import Kind, ResourceKey
from tokenschain.control.identity import organization
from tokenschain.control.publisher import Publisher
from tokenschain.core.snapshot import Snapshot, encoding
from tokenschain.infra.config import Settings
from tokenschain.infra.security.suite import INTERNATIONAL

HUGE = 10**25
OWN = "https://models.example/v1"
UPSTREAM: dict[str, Any] = {"base_url": OWN, "models": ["m"]}


def priced(price: str) -> dict[str, Any]:
    return {"prices": {"m": {"input": price, "output": "1"}}}


def entry(**fields: Any) -> dict[str, Any]:
    return {"entries": [{"model": "m", **fields}]}


HOSTILE: list[tuple[Kind, dict[str, Any]]] = [
    *((Kind.UPSTREAM, UPSTREAM | fields) for fields in (
        {"concurrency_max": HUGE}, {"connections_max": HUGE}, {"preference": HUGE},
        {"call_fee_micro_cny": HUGE}, {"total_max_s": float("inf")}, {"idle_max_s": float("nan")},
        {"first_byte_max_s": 1e300}, {"connect_max_s": HUGE},
        priced("1e30"), priced("1e5000"), priced("Infinity"), priced("NaN"), priced("sNaN"),
        {"base_url": f"{OWN}\n"}, {"base_url": f"{OWN}\x1f"}, {"probe_path": "/h\n"},
        {"region": "cn\x00"}, {"region": "\ud800"}, {"models": ["m\r\n"]},
        {"models": {"m": "x\ny"}}, {"credential": ["stored:k\n"]},
    )),
    *((Kind.VIRTUAL_MODEL, spec) for spec in (
        entry(weight=HUGE), entry(when={"prompt_tokens_min": HUGE}),
        entry(when={"prompt_tokens_max": HUGE}), entry(when={"tags": ["a=\n"]}),
    )),
    (Kind.CREDENTIAL, {"value": "sk-linefeed\n"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "spec"), HOSTILE, ids=[f"{kind}-{ascii(spec)[-60:]}" for kind, spec in HOSTILE]
)
@pytest.mark.parametrize("tenant", ["", "acme"])
def test_it_is_refused_and_nothing_is_kept(
    platform: Platform, kind: Kind, spec: dict[str, Any], tenant: str
) -> None:
    platform.put(Kind.UPSTREAM, "sells", upstream("m"))
    platform.put(Kind.CREDENTIAL, "k", {"value": "secret"}, tenant)
    right = {Kind.UPSTREAM: UPSTREAM, Kind.VIRTUAL_MODEL: entry(), Kind.CREDENTIAL: {"value": "s"}}
    platform.put(kind, "right", right[kind], tenant)
    before = platform.state
    with pytest.raises(ConfigurationRefused):
        platform.put(kind, "wrong", spec, tenant)
    assert platform.state == before


def test_what_else_gateways_could_not_read_is_refused(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the next such fault is."""

    def fails(payload: bytes) -> Snapshot:
        raise ValueError("no such thing")

    monkeypatch.setattr(changes.encoding, "decode", fails)
    with pytest.raises(ConfigurationRefused, match="could not read it: no such thing"):
        platform.change([Change(ResourceKey(Kind.UPSTREAM, "", "u"), upstream("m"))])


def test_what_is_too_large_for_gateways_is_refused_and_may_shrink(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("u", "v"):
        platform.put(Kind.UPSTREAM, name, upstream("m"))
    monkeypatch.setattr(bounds, "SNAPSHOT_BYTES_MAX", 100)
    with pytest.raises(ConfigurationRefused, match="larger than 100 bytes"):
        platform.put(Kind.UPSTREAM, "w", upstream("m"))
    platform.put(Kind.UPSTREAM, "v", None)


def test_a_tenant_named_like_an_address_has_upstreams_of_its_own(platform: Platform) -> None:
    tenant = "ann@corp.example"
    with platform.engine.begin() as connection:
        organization.ensure(connection, tenant, "p", "default")
    platform.change([Change(ResourceKey(Kind.UPSTREAM, tenant, "own"), dict(UPSTREAM))])
    publisher = published(platform, [])
    part = json.loads(publisher.manifest)["snapshot"]
    body = publisher.part(part)
    assert body is not None and f"{tenant}/own" in encoding.decode(body).upstreams


def test_control_stays_where_what_is_stored_cannot_be_published(platform: Platform) -> None:
    platform.change([Change(ResourceKey(Kind.UPSTREAM, "", "u"), upstream("m"))])
    said: list[str] = []
    publisher = published(platform, said)
    served, version = publisher.snapshot, publisher.version
    with platform.engine.begin() as connection:
        connection.execute(text("UPDATE meta SET value = value + 1 WHERE name = 'revision'"))
    publisher._build = lambda connection: 1 / 0  # type: ignore[assignment, return-value]
    assert publisher._refresh_or_say() is False and publisher._refresh_or_say() is False
    assert (publisher.snapshot, publisher.version) == (served, version)
    assert len(said) == 1 and "division" in said[0]


def published(platform: Platform, said: list[str]) -> Publisher:
    def report(event: str, why: str = "", **_: object) -> None:
        if event == "chore_failed":
            said.append(why)

    secrets = ["internal" * 6]
    return Publisher(
        platform.engine, Settings(), platform.configurator, INTERNATIONAL, lambda: secrets, report
    )
