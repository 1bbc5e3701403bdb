"""Silences: what they hold for, how long, and that they end by themselves."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import select

from tests.security.platform import Platform, platform
from tokenschain.control.observability import alert_silences, alerts
from tokenschain.infra.database.tables import alert_silences as table

HOUR_S = 3_600


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with platform(tmp_path_factory.mktemp("silences")) as made:
        yield made


def _alert(house: Platform, tenant: str, kind: str, now_s: int, **more: str) -> str:
    """Something that is found now; returns its id."""
    detail = {"subject": [str(time.monotonic_ns())], "email": "a@b.example", "by": "x", "user": "u"}
    with house.engine.begin() as connection:
        alerts._say(house.engine, connection, tenant, kind, detail | more, now_s)
        found = connection.execute(select(alerts.alerts).order_by(alerts.alerts.c.id)).mappings()
        told = [row for row in found if detail["subject"][0] in row["detail"]]
    return str(told[0]["id"])


def _send(house: Platform, now_s: int) -> None:
    mail = alerts.Mail(None, 25, None, lambda: None, "a@b.example", False)
    context = house.app.state.context
    sender = alerts.Sender(house.engine, context.sealer, Mock(), mail, Mock(), Mock())
    asyncio.run(sender.send_due(now_s))


def _state(house: Platform, alert: str) -> tuple[bool, str | None]:
    """Whether it is settled, and by which silence."""
    rows = house.operator("GET", "/alerts?limit=200").json()["data"]
    found = next(one for one in rows if one["id"] == alert)
    return found["sent_at_s"] is not None, found["silenced_by"]


def _silence(house: Platform, tenant: str = "", lasts_s: int = HOUR_S, **more: Any) -> str:
    body = {"tenant": tenant, "expires_at_s": int(time.time()) + lasts_s, "reason": "load test"}
    reply = house.operator("POST", "/alert-silences", body | more)
    assert reply.status_code == 201, reply.text
    return str(reply.json()["id"])


def _end(house: Platform, silence: str) -> None:
    assert house.operator("POST", f"/alert-silences/{silence}/end").status_code == 200


def test_a_silenced_alert_is_listed_and_not_sent_then_or_later(house: Platform) -> None:
    silence = _silence(house, "alpha", kind="budget_reached")
    now_s = int(time.time())
    quiet = _alert(house, "alpha", "budget_reached", now_s)
    other_kind = _alert(house, "alpha", "budget_forecast", now_s)
    other_tenant = _alert(house, "beta", "budget_reached", now_s)
    _send(house, now_s)
    assert _state(house, quiet) == (True, silence)
    assert _state(house, other_kind)[1] is None and _state(house, other_tenant)[1] is None
    _send(house, now_s + HOUR_S + 1)
    assert _state(house, quiet) == (True, silence)
    # Over by itself: what is found then is sent.
    late = _alert(house, "alpha", "budget_reached", now_s)
    _send(house, now_s + HOUR_S + 1)
    assert _state(house, late)[1] is None
    _end(house, silence)


def test_the_platforms_silence_holds_for_all_tenants_and_one_upstream_for_no_other(
    house: Platform,
) -> None:
    silence = _silence(house, upstream="bailian")
    now_s = int(time.time())
    about = _alert(house, "beta", "cache_false_hits", now_s, upstream="bailian")
    about_another = _alert(house, "beta", "cache_false_hits", now_s, upstream="volcano")
    _send(house, now_s)
    assert _state(house, about)[1] == silence and _state(house, about_another)[1] is None
    _end(house, silence)
    after = _alert(house, "beta", "cache_false_hits", now_s, upstream="bailian")
    _send(house, int(time.time()))
    assert _state(house, after)[1] is None, "it was ended"


def test_what_protects_accounts_is_told_all_the_same(house: Platform) -> None:
    silence = _silence(house)
    now_s = int(time.time())
    reset = _alert(house, "alpha", "second_factor_reset", now_s)
    _send(house, now_s)
    assert _state(house, reset)[1] is None
    reply = house.operator("POST", "/alert-silences", {
        "kind": "second_factor_reset", "expires_at_s": now_s + 60, "reason": "quiet"})  # fmt: skip
    assert reply.status_code == 400 and "kind" in reply.text
    _end(house, silence)


def test_a_silence_lasts_thirty_days_at_most_and_says_why(house: Platform) -> None:
    now_s = int(time.time())
    for lasts_s, more in (
        (30 * 86_400 + 60, {}), (-1, {}), (HOUR_S, {"from_s": now_s + 2 * HOUR_S}),
        (29 * 86_400, {"from_s": now_s - 2 * 86_400}), (HOUR_S, {"reason": ""}),
    ):  # fmt: skip
        body = {"expires_at_s": now_s + lasts_s, "reason": "why"} | more
        reply = house.operator("POST", "/alert-silences", body)
        assert reply.status_code == 400, (lasts_s, more)
        assert reply.json()["error"]["param"] in ("expires_at_s", "reason")


def test_a_silence_is_its_tenants_own_and_is_written_down(house: Platform) -> None:
    owner = house.person("alpha", "owner")
    body = {"tenant": "alpha", "expires_at_s": int(time.time()) + 60, "reason": "load test"}
    made = owner("POST", "/alert-silences", body).json()
    stranger, viewer = house.person("beta", "owner"), house.person("alpha", "viewer")
    assert stranger("POST", f"/alert-silences/{made['id']}/end").status_code == 404
    assert stranger("POST", "/alert-silences", body).status_code == 403
    assert viewer("POST", f"/alert-silences/{made['id']}/end").status_code in (403, 404)
    assert made["id"] not in stranger("GET", "/alert-silences").text
    assert owner("GET", "/alert-silences").json()["data"][0]["created_by"] == owner.id
    ended = owner("POST", f"/alert-silences/{made['id']}/end").json()
    assert ended["ended_by"] == owner.id and ended["expires_at_s"] <= time.time()
    noted = [row for row in house.operator("GET", "/audit?limit=200").json()["data"]
             if row["target"] == made["id"]]  # fmt: skip
    assert len(noted) == 2


def test_long_over_silences_are_forgotten_and_a_tenant_has_a_share_of_them(
    house: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence = _silence(house, "alpha", 60)
    with house.engine.begin() as connection:
        alert_silences.sweep(connection, time.time() + 80 * 86_400)
        assert alert_silences.find(connection, silence) is not None
        monkeypatch.setattr(
            alert_silences.shares, "ALERT_SILENCES",
            alert_silences.shares.ALERT_SILENCES._replace(most=1),
        )  # fmt: skip
    body = {"tenant": "alpha", "expires_at_s": int(time.time()) + 60, "reason": "one more"}
    assert house.operator("POST", "/alert-silences", body).status_code == 409
    with house.engine.begin() as connection:
        alert_silences.sweep(connection, time.time() + 91 * 86_400)
        assert not connection.execute(select(table)).all()
