"""Alert destinations: what is found about a tenant goes only where its sovereignty modes say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from tests.security.platform import Platform, platform
from tests.small_server import JsonHandler, serving
from tokenschain.control.identity import organization
from tokenschain.control.observability import alert_targets, alerts
from tokenschain.control.observability.alert_destinations import Destinations
from tokenschain.infra.config.mail import AlertsSettings, SmtpSettings
from tokenschain.infra.config.sovereignty import SovereigntySettings
from tokenschain.infra.egress import PublicResolver
from tokenschain.infra.egress_rules import Egress, EgressRefused

HOSTS: Any = {"127.0.0.1": "cn", "localhost": "abroad", "*.corp.example.cn": "mlps3",
              "ops.example.cn": "cn", "smtp.example.cn": "cn"}  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("destinations")) as made:
        context = made.app.state.context
        made.app.state.context = context._replace(
            settings=msgspec.structs.replace(
                context.settings,
                sovereignty=SovereigntySettings(hosts=HOSTS),
                alerts=AlertsSettings(networks=("127.0.0.0/8",)),
                smtp=SmtpSettings(host="smtp.example.cn"),
            )
        )
        made.have_tenants("bank", "shop", "late", "clinic")
        mode(made, "bank", "domestic-only")
        yield made


def mode(house: Platform, tenant: str, name: str) -> None:
    spec = {"spec": {"sovereignty": {"*": name}}}
    reply = house.operator("PUT", f"/routing/default?tenant={tenant}", spec)
    assert reply.status_code == 200, reply.text


def add(house: Platform, tenant: str, kind: str, address: str) -> Any:
    body = {"tenant": tenant, "kind": kind, "name": "n", "address": address}
    return house.operator("POST", "/alert-targets", body)


@pytest.mark.parametrize(
    ("kind", "address", "where"),
    [
        ("webhook", "https://hook.corp.example.cn/x", ""),
        ("webhook", "https://HOOK.corp.example.cn./x", ""),
        ("webhook", "http://127.0.0.1/x", ""),
        ("email", "on-call@ops.example.cn", ""),
        ("webhook", "http://localhost/x", "localhost is abroad"),
        ("webhook", "https://hook.example.com/x", "hook.example.com is unknown"),
        ("webhook", "https://8.8.8.8/x", "8.8.8.8 is unknown"),
        ("dingtalk", "https://oapi.dingtalk.com/robot", "oapi.dingtalk.com is unknown"),
        ("email", "on-call@gmail.example", "gmail.example is unknown"),
    ],
)
def test_a_target_whose_zone_is_not_inside_the_mode_is_not_taken(
    house: Platform, kind: str, address: str, where: str
) -> None:
    reply = add(house, "bank", kind, address)
    if where:
        error = reply.json()["error"]
        assert reply.status_code == 400 and error["param"] == "address", reply.text
        assert f"of bank: the zone of {where}; name it in sovereignty.hosts" in error["message"]
    else:
        assert reply.status_code == 201, reply.text
    assert add(house, "shop", kind, address).status_code == 201, "no mode holds for that tenant"
    for row in house.operator("GET", "/alert-targets?limit=200").json()["data"]:
        house.operator("DELETE", f"/alert-targets/{row['id']}")


def test_a_mail_server_elsewhere_takes_no_mail_of_the_tenant(house: Platform) -> None:
    settings = house.app.state.context.settings
    found: list[Any] = []
    egress = Egress(settings, lambda *a, **b: found.append((a, b)))
    smtp = SmtpSettings(host="smtp.example.com")
    outside = Destinations(msgspec.structs.replace(settings, smtp=smtp), egress)
    with pytest.raises(EgressRefused, match=r"of bank: the zone of smtp\.example\.com"):
        outside.check(frozenset({"cn"}), "bank", "email", "a@ops.example.cn")
    outside.check(None, "shop", "email", "a@gmail.example")
    assert [one[1]["host"] for one in found] == ["smtp.example.com"]


def test_the_strictest_of_all_modes_of_a_tenant_holds(house: Platform) -> None:
    """Of the platform, the tenant and its data class; a class that was forgotten goes nowhere."""
    context = house.app.state.context
    destinations = Destinations(context.settings, Mock())

    def zones(tenant: str) -> frozenset[str] | None:
        with house.engine.begin() as connection:
            return destinations.zones(connection, tenant)

    assert zones("clinic") is None and zones("") is None
    rule = {"spec": {"sovereignty": "domestic-only"}}
    assert house.operator("PUT", "/data-classes/important", rule).status_code == 200
    with house.engine.begin() as connection:
        found = organization.find(connection, "tenant", "clinic", "clinic")
        assert found is not None
        organization.change(connection, found, {"data_class": "important"})
    assert zones("clinic") == {"cn", "mlps3", "gov", "own"}
    mode(house, "clinic", "zone:mlps3")
    assert zones("clinic") == {"mlps3"}
    mode(house, "clinic", "none")
    assert house.operator("DELETE", "/data-classes/important").status_code == 200
    assert zones("clinic") == frozenset()


def test_what_is_outside_by_now_is_reported_and_not_sent(house: Platform) -> None:
    """To the tenant's own target and to the platform's, that others' alerts still reach."""
    context, got = house.app.state.context, []

    class Handler(JsonHandler):
        def do_POST(self) -> None:
            body = msgspec.json.decode(self.rfile.read(int(self.headers["content-length"])))
            got.append((self.path, body["tenant"]))
            self._send(200, {})

    reports: list[Any] = []
    refused: list[str] = []

    def report(event: str, /, why: str = "", **fields: object) -> None:
        reports.append((event, why, fields))

    async def send(egress: Egress) -> None:
        client = egress.client(resolver=PublicResolver([ip_network("127.0.0.0/8")]))
        mail: Any = Mock(host=None)
        sender = alerts.Sender(
            house.engine, context.sealer, client, mail, report,
            Destinations(context.settings, egress),
        )  # fmt: skip
        for number in range(alerts.TRIES_MAX):
            if number == alerts.RESTS_AFTER + 1:
                later = {"shop/later": "no answer"}
                assert alerts.look_at_upstreams(house.engine, later, time.time()) == 1
            await sender.send_due(time.time())
            house.rows("update alerts set next_try_s = 0 where sent_at_s is null returning id")
        client.close()

    with serving(Handler) as url:
        far = url.replace("127.0.0.1", "localhost")
        with house.engine.begin() as db:
            for tenant, address in (("late", f"{url}/near"), ("late", f"{far}/far"),
                                    ("", f"{far}/all")):  # fmt: skip
                alert_targets.add(
                    db, context.sealer, context.suite, tenant=tenant, kind="webhook", name="n",
                    address=address, secret="s",
                )  # fmt: skip
        mode(house, "late", "domestic-only")
        egress = Egress(context.settings, report)
        egress.refused.append(refused.append)
        down = {"late/up": "no answer", "shop/up": "no answer"}
        assert alerts.look_at_upstreams(house.engine, down, time.time()) == 2
        asyncio.run(send(egress))
    assert sorted(got) == [("/all", "shop"), ("/all", "shop"), ("/near", "late")]
    assert set(refused) == {"localhost"}
    why = "the zone of localhost is abroad; name it in sovereignty.hosts if that is wrong"
    assert ("egress_refused", why, {"host": "localhost", "mode": "of late"}) in reports
    ended = [why for event, why, _ in reports if event == "alert_not_sent"]
    assert len(ended) == 2 and all(one.startswith("upstream_down to tgt_") for one in ended)
    assert all(one.endswith(why) for one in ended)
