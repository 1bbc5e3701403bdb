"""Egress rules: under a sovereignty mode, what may be connected to follows from configuration."""

from __future__ import annotations

import asyncio
import smtplib
import subprocess
import sys
from typing import Any

import pytest
from sqlalchemy import select

from tests.upstreams import UpstreamSimulator
from tokenschain.control.audit.egress_refusals import ACTION, AGAIN_S, EgressRefusals
from tokenschain.core.log_events import silent
from tokenschain.core.snapshot import Upstream
from tokenschain.infra.config import Settings, SettingsError
from tokenschain.infra.config.groups import DatabaseSettings, RedisSettings
from tokenschain.infra.config.mail import SmtpSettings
from tokenschain.infra.config.sovereignty import SovereigntySettings
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import audit_events
from tokenschain.infra.egress import exchange
from tokenschain.infra.egress_rules import Egress, EgressRefused
from tokenschain.wire.client import ConnectFailed, Origin, Waits

WAITS = Waits(connect_max_s=5.0, pool_max_s=5.0, first_byte_max_s=5.0, idle_max_s=5.0,
              total_max_s=5.0)  # fmt: skip
PUBLIC = "8.8.8.8"


def rules(mode: str, told: list[Any] | None = None, **more: Any) -> Egress:
    hosts = more.pop("hosts", {})
    settings = Settings(sovereignty=SovereigntySettings(mode=mode, hosts=hosts), **more)
    report: Any = silent if told is None else lambda *a, **b: told.append((a, b))
    return Egress(settings, report)


def may(egress: Egress, host: str, *addresses: str) -> bool:
    try:
        egress.check(host, addresses)
    except EgressRefused:
        return False
    return True


@pytest.mark.parametrize(
    ("mode", "host", "address", "allowed"),
    [
        ("none", "anywhere.example", PUBLIC, True),
        ("domestic-only", "anywhere.example", PUBLIC, False),
        ("domestic-only", "hook.example.cn", PUBLIC, True),
        ("domestic-only", "a.corp.example", PUBLIC, True),
        ("domestic-only", "far.example", "10.0.0.9", False),  # declared abroad: a tunnel
        ("domestic-only", "box", "10.0.0.9", True),
        ("domestic-only", "api.deepseek.com", PUBLIC, True),  # the catalog says where it is
        ("domestic-only", "api.openai.com", PUBLIC, False),
        ("zone:gov", "hook.example.cn", PUBLIC, False),
        ("zone:gov", "gov.example.cn", PUBLIC, True),
        ("zone:gov", "localhost", "127.0.0.1", True),  # the platform's own processes
        ("air-gapped", "gov.example.cn", PUBLIC, False),
        ("air-gapped", "box", "10.0.0.9", True),
        ("air-gapped", "localhost", "::1", True),
        ("air-gapped", "mixed", "10.0.0.9,8.8.8.8", False),
        ("air-gapped", "nat64", "64:ff9b::808:808", False),
        ("air-gapped", "mapped", "::ffff:8.8.8.8", False),
        ("air-gapped", "far.example", "10.0.0.9", False),
    ],
)  # fmt: skip
def test_what_may_be_reached_follows_from_the_configuration(
    mode: str, host: str, address: str, allowed: bool
) -> None:
    hosts = {"hook.example.cn": "cn", "gov.example.cn": "gov", "*.corp.example": "own",
             "far.example": "abroad"}  # fmt: skip
    assert may(rules(mode, hosts=hosts), host, *address.split(",")) is allowed


def test_an_upstream_is_reached_by_its_zone_and_a_machine_in_two_zones_by_none() -> None:
    def one(name: str, host: str, zone: str) -> Upstream:
        return Upstream(name, base_url=f"https://{host}/v1", zone=zone)  # type: ignore[arg-type]

    egress = rules("domestic-only")
    rows = [one("a", "a.example", "mlps3"), one("b", "b.example", "abroad"),
            one("c", "c.example", ""), one("d", "d.example", "cn"),
            one("e", "d.example", "abroad")]  # fmt: skip
    now = {row.id: row for row in rows}
    egress.upstreams = lambda: now
    assert [may(egress, f"{x}.example", PUBLIC) for x in "abcd"] == [True, False, False, False]
    # A configuration that takes one away holds at once.
    now = {}
    assert not may(egress, "a.example", PUBLIC)


def test_a_machine_is_the_same_however_its_name_is_written() -> None:
    hosts = {"Hook.Example.CN": "cn", "*.接口.example": "own"}
    egress = rules("domestic-only", hosts=hosts)
    one = Upstream("m", base_url="https://模型.example./v1", zone="mlps3")
    egress.upstreams = lambda: {"m": one}
    for url in ("https://hook.example.cn", "https://HOOK.example.cn.", "https://a.接口.example",
                "https://模型.example", "https://模型.EXAMPLE."):  # fmt: skip
        assert may(egress, Origin.of(url).host, PUBLIC), url
    assert not may(egress, Origin.of("https://别的.example").host, PUBLIC)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"redis": RedisSettings(url=f"redis://{PUBLIC}:6379")}, "redis.url"),
        ({"database": DatabaseSettings(url=f"postgresql://u:p@10.0.0.1,{PUBLIC}/x")},
         "database.url"),
        ({"database": DatabaseSettings(url=f"postgresql:///x?host={PUBLIC}")}, "database.url"),
        ({"smtp": SmtpSettings(host=PUBLIC)}, "smtp.host"),
    ],
    ids=["redis", "second-host", "query-host", "smtp"],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["air-gapped", "domestic-only"])
def test_a_process_does_not_start_with_a_store_elsewhere(
    mode: str, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(SettingsError, match=f"setting {named} leads to {PUBLIC}"):
        rules(mode, **settings).hold()
    rules("domestic-only", hosts={PUBLIC: "cn"}, **settings).hold()
    rules("none", **settings).hold()


def test_connections_are_opened_or_refused_where_they_are_made() -> None:
    told: list[Any] = []
    upstream = UpstreamSimulator()

    async def ask(egress: Egress, url: str) -> int:
        client = egress.client()
        try:
            reply, _ = await exchange(client, "GET", url, {}, b"", WAITS, 1_000_000)
            return reply.status
        finally:
            client.close()

    try:
        here = upstream.base_url + "/models"
        egress = rules("air-gapped", told)
        assert asyncio.run(ask(egress, here)) > 0
        with pytest.raises(ConnectFailed, match="sovereignty mode air-gapped"):
            asyncio.run(ask(egress, f"http://{PUBLIC}/"))
        assert told == [(("egress_refused", f"{PUBLIC} is at no private address"),
                         {"host": PUBLIC, "mode": "air-gapped"})]  # fmt: skip
        abroad = rules("domestic-only", hosts={"127.0.0.1": "abroad"})
        with pytest.raises(ConnectFailed, match=r"the zone of 127\.0\.0\.1 is abroad"):
            asyncio.run(ask(abroad, here))
    finally:
        upstream.close()


def test_nothing_is_asked_of_a_proxy_that_may_not_be_reached() -> None:
    upstream = UpstreamSimulator()
    proxy = upstream.base_url.removesuffix("/v1")

    async def ask() -> None:
        client = rules("domestic-only").client(proxy=proxy)
        await exchange(client, "GET", "http://far.example/", {}, b"", WAITS, 1_000)

    try:
        with pytest.raises(ConnectFailed, match=r"the zone of far\.example is unknown"):
            asyncio.run(ask())
    finally:
        upstream.close()


def test_sockets_of_libraries_are_stopped_in_an_air_gapped_process() -> None:
    assert smtplib.SMTP  # the library that is tried below
    program = f"""
import smtplib
from tests.infra.test_egress_rules import rules
rules("air-gapped").hold()
try:
    smtplib.SMTP("{PUBLIC}", 25, timeout=1)
except OSError as error:
    print(type(error).__name__)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                           check=True, timeout=60)  # fmt: skip
    assert found.stdout.strip() == "EgressRefused", found.stderr


def test_a_refused_machine_stands_in_the_audit_log_once_an_hour(tmp_path: Any) -> None:
    engine = db.connect(f"sqlite:///{tmp_path / 'x.db'}")
    db.migrate(engine)
    now = [0.0]
    refusals = EgressRefusals(engine, silent, lambda: now[0])
    egress = rules("air-gapped")
    egress.refused.append(refusals.refused)

    def noted() -> list[str]:
        refusals.write()
        with engine.connect() as connection:
            rows = connection.execute(select(audit_events).where(audit_events.c.action == ACTION))
            return [row.target for row in rows]

    for host in (PUBLIC, "1.1.1.1", PUBLIC):
        assert not may(egress, host, host)
    assert sorted(noted()) == ["1.1.1.1", PUBLIC]
    now[0] = AGAIN_S
    assert not may(egress, PUBLIC, PUBLIC)
    assert sorted(noted()) == ["1.1.1.1", PUBLIC, PUBLIC]
    engine.dispose()
