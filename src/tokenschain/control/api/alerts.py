"""Admin API: alert targets and alerts."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field, JsonValue

from tokenschain.control import mails
from tokenschain.control.api.bodies import (
    AnswerBody,
    Deleted,
    Example,
    ListAnswer,
    RequestBody,
    listed,
)
from tokenschain.control.api.context import (
    VISIBLE_LINE,
    AdminRoute,
    MaybeLabel,
    NameQuery,
    Paged,
    Permission,
    RequestContext,
    address_of,
    context_of,
)
from tokenschain.control.api.found_rows import need_found
from tokenschain.control.api.open_doors import check_rate
from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.identity.ownership import Extent
from tokenschain.control.mails import Letter
from tokenschain.control.observability import alert_silences, alert_targets, alerts
from tokenschain.control.observability.alert_destinations import Destinations
from tokenschain.control.observability.alert_silences import SilencedKind
from tokenschain.core.errors import ApiError
from tokenschain.core.log_events import silent
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.egress_rules import Egress, EgressRefused

router = APIRouter(prefix="/api/v1", route_class=AdminRoute, tags=["alerts"])
_READ = "alerts:read"
Reading = Annotated[RequestContext, Depends(Permission(_READ, Extent.ROWS))]
Adding = Annotated[RequestContext, Depends(Permission("alerts:write", Extent.TENANT))]
Changing = Annotated[RequestContext, Depends(Permission("alerts:write", Extent.TENANT, _READ))]
CONFIRM_PAGE = "/console/confirm-alerts"
"""That the link in the mail leads to."""
TargetKind = Literal["webhook", "email", "dingtalk", "feishu", "wecom"]


class NewTarget(RequestBody):
    """Where alerts go: a webhook (signed), an e-mail address, or a chat group's robot."""

    example: ClassVar[Example] = {
        "kind": "email", "name": "operators", "address": "ops@example.com", "tenant": "",
    }  # fmt: skip
    tenant: MaybeLabel = ""
    kind: TargetKind
    name: Annotated[str, Field(min_length=1, max_length=100, pattern=VISIBLE_LINE)]
    address: Annotated[str, Field(min_length=3, max_length=1_000, pattern=r"^[\x21-\x7e]+$")]
    secret: Annotated[str, Field(max_length=200)] = ""


class AddedTarget(AnswerBody):
    """A target that was added."""

    id: str
    kind: TargetKind
    name: str
    confirmed_at_s: int | None
    """Unix time; null: the holder of the mail address has not opened the link in the mail yet,
    and nothing is sent there. Only a tenant's mail addresses are to be confirmed."""


class TargetCode(RequestBody):
    """The code of a link that confirms a mail address."""

    example: ClassVar[Example] = {"code": "tct-Zm9yIHRoaXMgb25lIHRpbWUgYW5kIG5ldmVyIGFnYWlu"}
    code: Annotated[str, Field(min_length=20, max_length=100)]


class ConfirmedTarget(AnswerBody):
    """A target that gets alerts from now on."""

    id: str
    tenant: str


class Target(AddedTarget):
    """Where alerts go; never the address, which may hold a secret."""

    tenant: str
    created_at_s: int


class Alert(AnswerBody):
    """What was found, and whether it was sent."""

    id: str
    tenant: str
    at_s: int
    kind: str
    detail: dict[str, JsonValue]
    tries: int
    next_try_s: int
    sent_at_s: int | None
    targets_left: str | None
    """JSON array of the targets it has still to reach; null: all."""
    acknowledged_at_s: int | None
    acknowledged_by: str | None
    """Who looks after it; null: it is not acknowledged."""
    silenced_by: str | None
    """The silence for which it was not sent; null: none."""


class NewSilence(RequestBody):
    """Which alerts are not sent for a while; what is left out matches all."""

    example: ClassVar[Example] = {
        "kind": "budget_forecast", "tenant": "acme", "expires_at_s": 2_000_000_000,
        "reason": "load test",
    }  # fmt: skip
    tenant: MaybeLabel = ""
    """Whose alerts; empty: the platform's and those of all tenants."""
    kind: SilencedKind | Literal[""] = ""
    upstream: Annotated[str, Field(max_length=64, pattern=r"^([\w.@-]+/)?[\w.@-]*$")] = ""
    """Only what is about this upstream."""
    from_s: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """Unix time; now by default."""
    expires_at_s: Annotated[int, Field(ge=0, le=2**53)]
    """Unix time; within 30 days."""
    reason: Annotated[str, Field(min_length=1, max_length=500, pattern=VISIBLE_LINE)]


class Silence(AnswerBody):
    """Which alerts are not sent for a while; afterwards it is over by itself."""

    id: str
    tenant: str
    kind: str
    upstream: str
    from_s: int
    expires_at_s: int
    reason: str
    created_by: str
    created_at_s: int
    ended_by: str | None
    """Who ended it early."""


@router.post("/alert-targets", status_code=201)
def create_target(asked: Adding, wanted: NewTarget) -> AddedTarget:
    """Add a target; its address and secret are sealed and not shown again.

    A tenant's mail address gets one letter with a link, and no alert before the link is used.
    """
    asked.need(wanted.tenant or PLATFORM)
    context = asked.context
    alert_targets.check_address(wanted.kind, wanted.address, context.settings.alerts.networks)
    _check_zone(asked, wanted)
    made = alert_targets.add(asked.db, context.sealer, context.suite, **wanted.model_dump())
    asked.note(wanted.tenant, made.id, {"kind": wanted.kind})
    if made.code is not None:
        link = f"{context.settings.console_base_url}{CONFIRM_PAGE}?code={made.code}"
        letter = _letter(wanted.address, wanted.tenant, link)
        mails.put(asked.db, context.sealer, letter, alert_targets.LINK_LASTS_S)
        asked.note(wanted.tenant, made.id, action=alert_targets.ACTION)
    return AddedTarget(
        id=made.id, kind=wanted.kind, name=wanted.name, confirmed_at_s=made.confirmed_at_s
    )


def _check_zone(asked: RequestContext, wanted: NewTarget) -> None:
    """A target outside the tenant's sovereignty modes would never be told anything."""
    context = asked.context
    egress = Egress(context.settings, silent, lambda: context.publisher.snapshot.upstreams)
    destinations = Destinations(context.settings, egress)
    zones = destinations.zones(asked.db, wanted.tenant)
    try:
        destinations.check(zones, wanted.tenant, wanted.kind, wanted.address)
    except EgressRefused as error:
        raise ApiError("invalid_value", f"Nothing is sent there: {error}.",
                       param="address") from None  # fmt: skip


def _letter(address: str, tenant: str, link: str) -> Letter:
    """No words in it are free: nobody writes strangers a letter of ours."""
    days = alert_targets.LINK_LASTS_S // 86_400
    text = (
        f"租户 {tenant} 希望把 TokensChain 的告警发到 {address}。打开链接并确认后才会发送，"
        f"链接 {days} 天内有效，只能使用一次。如不知情，忽略本邮件即可，不会再收到邮件。\n\n"
        f"The tenant {tenant} wants TokensChain's alerts sent to {address}. None is sent before "
        f"you open the link and confirm; it works once, within {days} days.\nIf you do not know "
        f"why, ignore this message: there will be no other.\n\n{link}\n"
    )
    return Letter(address, "TokensChain: 确认告警邮箱 / confirm where alerts go", text)


@router.post("/alert-targets/confirm")
def confirm_target(request: Request, wanted: TargetCode) -> ConfirmedTarget:
    """Confirm a mail address that alerts shall go to, by the code of the link in the mail."""
    check_rate(request)
    context = context_of(request)
    with context.engine.begin() as db:
        row = alert_targets.confirm(db, context.suite, wanted.code, int(time.time()))
        if row is None:
            raise ApiError("invalid_login", "The link was used already, or is over: have the "
                           "address added again.")  # fmt: skip
        by = Author(row.id, address_of(request))
        admin_log.note(db, by, "alert-target confirmed", row.tenant, row.id)
    return ConfirmedTarget(id=row.id, tenant=row.tenant)


@router.get("/alert-targets")
def list_targets(asked: Reading, page: Paged, tenant: NameQuery = None) -> ListAnswer[Target]:
    """List where alerts go; never the addresses, which may hold secrets."""
    whose = asked.tenant(tenant)
    found = alert_targets.page(asked.db, page, whose)
    return listed(ListAnswer[Target], found, asked.visible(found.rows))


@router.post("/alert-targets/{target_id}/test", status_code=201)
def send_test(asked: Changing, target_id: str) -> Alert:
    """Send a target a test message, within seconds; `GET /alerts` says whether it arrived.

    `conflict` for a mail address that was not confirmed.
    """
    target = need_found(asked, alert_targets.find(asked.db, target_id), _READ, "target")
    if target["confirmed_at_s"] is None:
        raise ApiError("conflict", "Nothing is sent to this address before its holder confirms "
                       "it by the link in the mail.", param="target_id")  # fmt: skip
    tenant = target["tenant"]
    made = alerts.say_test(asked.db, tenant, target_id, int(time.time()))
    asked.note(tenant, target_id, {"test": made["id"]})
    return Alert.model_validate(made)


@router.delete("/alert-targets/{target_id}")
def delete_target(asked: Changing, target_id: str) -> Deleted:
    """Take a target away."""
    tenant = need_found(asked, alert_targets.find(asked.db, target_id), _READ, "target")["tenant"]
    alert_targets.remove(asked.db, target_id)
    asked.note(tenant, target_id, {"deleted": True})
    return Deleted(id=target_id)


@router.get("/alerts")
def list_alerts(asked: Reading, page: Paged, tenant: NameQuery = None) -> ListAnswer[Alert]:
    """List what was found, and whether it was sent; the latest first."""
    whose = asked.tenant(tenant)
    found = alerts.page(asked.db, page, whose)
    return listed(ListAnswer[Alert], found, asked.visible(found.rows))


@router.post("/alerts/{alert_id}/acknowledge")
def acknowledge_alert(asked: Changing, alert_id: str) -> Alert:
    """Say that you look after an alert; the first who says so stays."""
    found = need_found(asked, alerts.find(asked.db, alert_id), _READ, "alert")
    if alerts.acknowledge(asked.db, alert_id, asked.actor.id, int(time.time())):
        asked.note(found["tenant"], alert_id, {"acknowledged": found["kind"]})
    return Alert.model_validate(alerts.find(asked.db, alert_id))


@router.post("/alert-silences", status_code=201)
def create_silence(asked: Adding, wanted: NewSilence) -> Silence:
    """Silence alerts for a while, at most 30 days: they are listed, and not sent.

    An alert that was silenced is not sent later either. What protects accounts
    (`second_factor_reset`) and test messages are always sent.
    """
    asked.need(wanted.tenant or PLATFORM)
    made = alert_silences.add(
        asked.db, **wanted.model_dump(), by=asked.actor.id, now_s=int(time.time())
    )
    asked.note(wanted.tenant, made["id"], wanted.model_dump(exclude={"tenant"}))
    return Silence.model_validate(made)


@router.get("/alert-silences")
def list_silences(asked: Reading, page: Paged, tenant: NameQuery = None) -> ListAnswer[Silence]:
    """List silences, those of now and those that ended within 90 days; the last to end first."""
    whose = asked.tenant(tenant)
    found = alert_silences.page(asked.db, page, whose)
    return listed(ListAnswer[Silence], found, asked.visible(found.rows))


@router.post("/alert-silences/{silence_id}/end")
def end_silence(asked: Changing, silence_id: str) -> Silence:
    """End a silence now."""
    found = need_found(asked, alert_silences.find(asked.db, silence_id), _READ, "silence")
    if alert_silences.end(asked.db, silence_id, asked.actor.id, int(time.time())):
        asked.note(found["tenant"], silence_id, {"ended": True})
    return Silence.model_validate(alert_silences.find(asked.db, silence_id))
