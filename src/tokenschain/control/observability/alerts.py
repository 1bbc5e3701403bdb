"""Alerts: budget and false-hit findings, sent once by webhook, e-mail and chat robots."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from sqlalchemy import Connection, Engine, RowMapping, func, insert, or_, select, update

from tokenschain.control.billing import limits, rejected_records
from tokenschain.control.billing.rollups import DAY_S
from tokenschain.control.duties import incidents
from tokenschain.control.mails import Mail
from tokenschain.control.observability import alert_silences, audit_alert_words
from tokenschain.control.observability.alert_destinations import Destinations
from tokenschain.control.observability.alert_targets import place_of
from tokenschain.core.cache.semantic_protocol import Report
from tokenschain.core.errors import ApiError
from tokenschain.core.gateway_status import GatewayStatus, PackStatus
from tokenschain.core.limits import Budget, shown_subject
from tokenschain.core.log_events import Reporter
from tokenschain.core.pricing.catalog import format_pico
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database import paging
from tokenschain.infra.database.engine import upsert
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import alert_targets, alerts
from tokenschain.infra.database.tables import limits as limits_table
from tokenschain.infra.egress import exchange
from tokenschain.infra.egress_rules import EgressRefused
from tokenschain.infra.security import prescribed, secrets
from tokenschain.infra.security.suite import Sealer
from tokenschain.wire.client import HttpClient, Waits

LOOK_S = 2.0
PACKS_FRESH_S = 7 * DAY_S
"""Words are to be looked through each week."""
SEND_MAX_S = 10.0
TRIES_MAX = 8
RETRY_FIRST_S = 5
BATCH_MAX = 50
"""Alerts that are sent side by side, of all tenants in turn."""
MAILS_AT_ONCE_MAX = 2
"""Each takes one of the process' few threads."""
RESTS_AFTER = 3
"""Failures in a row of one target, after which it rests."""
REST_S = 60.0
RESTING_MAX = 10_000
TESTS_MINUTE_S = 60
TESTS_PER_MINUTE_MAX = 5
"""Of a tenant; of one target, one."""
TESTS_PER_DAY_MAX = 30
"""Of a tenant: whom a target's mail goes to has not been asked."""
PERSON = "person"
"""In place of a target: the address of whom an alert is about, where a mail server is set."""
FORECAST_FROM = 0.1
"""Share of a period after which its end can be forecast at all."""
_WAITS = Waits(
    connect_max_s=3.0, pool_max_s=3.0, first_byte_max_s=SEND_MAX_S, idle_max_s=3.0,
    total_max_s=SEND_MAX_S,
)  # fmt: skip


# --- found ---------------------------------------------------------------------------------


def look(engine: Engine, now_s: float) -> int:
    """Note what has happened to budgets; each is said once a period. Returns how many."""
    with engine.begin() as connection:
        rows = connection.execute(
            select(limits_table).where(limits_table.c.kind == "budget")
        ).mappings()
        watched = {}
        for row in rows:
            shown = limits.shown(row)
            if shown["alerts"]:
                watched[row["id"]] = (limits.budget_of(shown), shown["tenant"], shown["alerts"])
        budgets = [budget for budget, _, _ in watched.values()]
        found = 0
        for (name, subject), (spent, _) in limits.spent_of(connection, budgets, now_s).items():
            budget, tenant, thresholds = watched[name]
            for kind, detail in _findings(budget, subject, spent, thresholds, now_s):
                found += _say(engine, connection, tenant, kind, detail, now_s)
    return found


def _findings(
    budget: Budget, subject: str, spent: int, thresholds: Sequence[int], now_s: float
) -> list[tuple[str, dict[str, Any]]]:
    begins, ends = limits.period_of(budget.period, now_s)
    detail = {
        "budget": budget.id,
        "subject": shown_subject(subject),
        "period": budget.period,
        "period_s": begins,
        "measure": budget.measure,
        "amount": budget.amount,
    }
    found: list[tuple[str, dict[str, Any]]] = []
    for percent in sorted(thresholds):
        if spent * 100 >= budget.amount * percent:
            found.append(("budget_reached", detail | {"percent": percent, "spent": spent}))
    if ends:
        share = (now_s - begins) / (ends - begins)
        forecast = int(spent / share) if share >= FORECAST_FROM else 0
        if forecast > budget.amount > spent:
            found.append(("budget_forecast", detail | {"spent": spent, "forecast": forecast}))
    return found


_TOLD_APART = ("budget", "subject", "period_s", "percent", "amount")
"""What of an alert makes it another one; the rest may change while it is the same."""


def look_at_cache(engine: Engine, reports: Sequence[Report], now_s: float) -> int:
    """Note where the rate of false hits exceeds `false_hit_rate_max`, as surely as the
    samples can tell; said once a day. Returns how many."""
    found = 0
    with engine.begin() as connection:
        for one in reports:
            if one.low <= one.false_hit_rate_max:
                continue
            tenant = one.group.partition("/")[0]
            detail = {
                "subject": one.group,
                "period_s": int(now_s // DAY_S) * DAY_S,
                "false_hit_rate_max": one.false_hit_rate_max,
                "false_hit_rate": one.false_hit_rate,
                "low": one.low,
                "high": one.high,
                "checked": one.checked,
            }
            found += _say(engine, connection, tenant, "cache_false_hits", detail, now_s)
    return found


def look_at_records(engine: Engine, now_s: float) -> int:
    """Note that call records were rejected; said once a day. Returns how many alerts."""
    day_s = int(now_s // DAY_S) * DAY_S
    with engine.begin() as connection:
        count, reason = rejected_records.since(connection, day_s)
        if not count:
            return 0
        detail = {"subject": [], "period_s": day_s, "count": count, "reason": reason}
        return _say(engine, connection, "", "records_rejected", detail, now_s)


def look_at_packs(engine: Engine, statuses: Iterable[GatewayStatus], now_s: float) -> int:
    """Note keyword packs that were not renewed for `PACKS_FRESH_S`, or whose words have expired;
    each is said once a week. Returns how many."""
    packs: dict[tuple[str, str], tuple[PackStatus, int]] = {}
    for status in statuses:
        for pack in status.packs:
            known = packs.get((pack.name, pack.version))
            if known is None or pack.renewed_s < known[0].renewed_s:
                # A copy of it that is newer elsewhere was only put there later.
                packs[pack.name, pack.version] = pack, status.words_missing
    if not packs:
        return 0
    found = 0
    week_s = int(now_s // PACKS_FRESH_S) * PACKS_FRESH_S
    with engine.begin() as connection:
        for (name, version), (pack, missing) in sorted(packs.items()):
            if now_s - pack.renewed_s < PACKS_FRESH_S and not pack.expired:
                continue
            detail = {
                "subject": [name, version], "period_s": week_s, "expired": pack.expired,
                "days": int((now_s - pack.renewed_s) // DAY_S), "missing": missing,
            }  # fmt: skip
            found += _say(engine, connection, "", "moderation_packs_stale", detail, now_s)
    return found


def look_at_upstreams(engine: Engine, down: Mapping[str, str], now_s: float) -> int:
    """Note which upstreams are down, a tenant's own to the tenant; said once an hour. Returns
    how many alerts.

    Args:
        down: why, by the upstream's id; a tenant's own is `tenant/name`.
    """
    if not down:
        return 0
    hour_s = int(now_s // 3_600) * 3_600
    with engine.begin() as connection:
        return sum(
            _say(
                engine, connection, name.rpartition("/")[0], "upstream_down",
                {"subject": [name], "upstream": name, "period_s": hour_s, "reason": why}, now_s,
            )
            for name, why in down.items()
        )  # fmt: skip


def look_at_incidents(engine: Engine, now_s: float) -> int:
    """Note whose reports are due soon, or were not made in time; each is said once. Returns how
    many alerts."""
    found = incidents.alarms(engine, now_s)
    if not found:
        return 0
    with engine.begin() as connection:
        return sum(
            _say(engine, connection, tenant, "incident_report_due", detail, now_s)
            for tenant, detail in found
        )


def configuration_refused(engine: Engine, detail: Mapping[str, Any], now_s: float) -> int:
    """Note that a configuration was refused; the same one is said once a day. Returns how many.

    Args:
        detail: `subject`, the file or gateway, and the `reason`.
    """
    day_s = int(now_s // DAY_S) * DAY_S
    subject = [*detail["subject"], prescribed.fingerprint(str(detail["reason"]).encode())[:12]]
    found = {**detail, "subject": subject, "period_s": day_s}
    with engine.begin() as connection:
        return _say(engine, connection, "", "configuration_refused", found, now_s)


def audit_differs(engine: Engine, detail: Mapping[str, Any], now_s: float) -> int:
    """Note that audit log and ledger differ about a day; said once. Returns how many; `subject` of
    `detail` is the day, `count` of how many calls, and some of them the `reason`."""
    with engine.begin() as connection:
        return _say(engine, connection, "", "audit_differs", dict(detail), now_s)


def audit_unwitnessed(engine: Engine, detail: Mapping[str, Any], now_s: float) -> int:
    """Note that fewer witnesses cosign the audit log than are wanted; said once a day. Returns how
    many.

    Args:
        detail: `count` of those that do, `amount` that should, and `reason`.
    """
    return _say_daily(engine, "audit_unwitnessed", detail, now_s)


def audit_unanchored(engine: Engine, detail: Mapping[str, Any], now_s: float) -> int:
    """Note that for a day no checkpoint of the audit log was anchored somewhere; said once a day.
    Returns how many; `detail` as in `audit_unwitnessed`."""
    return _say_daily(engine, "audit_unanchored", detail, now_s)


def audit_unsealed(engine: Engine, detail: Mapping[str, Any], now_s: float) -> int:
    """Note that the audit log is not sealed, and why as `reason`; said once a day. Returns how
    many."""
    return _say_daily(engine, "audit_unsealed", detail, now_s)


def _say_daily(engine: Engine, kind: str, detail: Mapping[str, Any], now_s: float) -> int:
    found = {**detail, "subject": [], "period_s": int(now_s // DAY_S) * DAY_S}
    with engine.begin() as connection:
        return _say(engine, connection, "", kind, found, now_s)


def audit_receipt_broken(engine: Engine, detail: Mapping[str, Any], now_s: float) -> int:
    """Note that the audit log has not what a receipt says of a call; said once. Returns how many;
    `subject` of `detail` is the call, `reason` what became of it."""
    with engine.begin() as connection:
        return _say(engine, connection, "", "audit_receipt_broken", dict(detail), now_s)


def second_factor_reset(
    connection: Connection, tenant: str, detail: Mapping[str, str], now_s: float
) -> int:
    """Note that somebody took a user's second factor away. Returns how many.

    Args:
        detail: `user` and `email` of the user, and who it was `by`.
    """
    found = {**detail, "subject": [detail["user"]], "period_s": now_s}
    told = "" if tenant == PLATFORM else tenant
    return _say(connection.engine, connection, told, "second_factor_reset", found, now_s)


def _say(
    engine: Engine,
    connection: Connection,
    tenant: str,
    kind: str,
    detail: dict[str, Any],
    now_s: float,
) -> int:
    told_apart = (kind, *(detail.get(part) for part in _TOLD_APART))
    name = prescribed.fingerprint(repr(told_apart).encode())
    done = connection.execute(
        upsert(engine, alerts)
        .values(
            id=name, tenant=tenant, at_s=int(now_s), kind=kind,
            detail=msgspec.json.encode(detail).decode(), next_try_s=int(now_s),
        )
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(alerts.c.id)
    )  # fmt: skip
    return len(done.all())


def say_test(connection: Connection, tenant: str, target_id: str, now_s: int) -> dict[str, Any]:
    """Note a message that only tries whether one target gets what it is sent.

    Raises:
        ApiError: `rate_limit_exceeded`.
    """
    detail = {"target": target_id}
    recent = connection.execute(
        select(alerts.c.detail).where(
            alerts.c.tenant == tenant, alerts.c.kind == "test",
            alerts.c.at_s > now_s - TESTS_MINUTE_S,
        )
    ).scalars().all()  # fmt: skip
    if len(recent) >= TESTS_PER_MINUTE_MAX or msgspec.json.encode(detail).decode() in recent:
        raise ApiError("rate_limit_exceeded", "A target is tested once a minute, and a tenant's "
                       f"{TESTS_PER_MINUTE_MAX} times.", retry_after_s=TESTS_MINUTE_S)  # fmt: skip
    today = select(func.count()).where(
        alerts.c.tenant == tenant, alerts.c.kind == "test", alerts.c.at_s > now_s - 86_400
    )
    if connection.execute(today).scalar_one() >= TESTS_PER_DAY_MAX:
        raise ApiError("rate_limit_exceeded", f"Targets are tested {TESTS_PER_DAY_MAX} times a "
                       "day.", retry_after_s=3_600.0)  # fmt: skip
    row = {
        "id": secrets.new_id("alr"), "tenant": tenant, "at_s": now_s, "kind": "test", "tries": 0,
        "detail": msgspec.json.encode(detail).decode(), "next_try_s": now_s, "sent_at_s": None,
        "targets_left": msgspec.json.encode([target_id]).decode(),
        "acknowledged_at_s": None, "acknowledged_by": None, "silenced_by": None,
    }  # fmt: skip
    connection.execute(insert(alerts).values(row))
    return row | {"detail": detail}


def find(connection: Connection, alert_id: str) -> dict[str, Any] | None:
    """One alert."""
    row = connection.execute(select(alerts).where(alerts.c.id == alert_id)).mappings().first()
    return None if row is None else _shown(row)


def acknowledge(connection: Connection, alert_id: str, by: str, now_s: int) -> bool:
    """Note that somebody looks after an alert; whether nobody did before."""
    done = connection.execute(
        update(alerts)
        .where(alerts.c.id == alert_id, alerts.c.acknowledged_at_s.is_(None))
        .values(acknowledged_at_s=now_s, acknowledged_by=by)
    )
    return done.rowcount == 1


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of alerts, the latest first."""
    order = (alerts.c.at_s, alerts.c.id)
    found = paging.read_page(connection, select(alerts), page_, order, newest=True, tenant=tenant)
    return found._replace(rows=[_shown(row) for row in found.rows])


def _shown(row: RowMapping | dict[str, Any]) -> dict[str, Any]:
    return {**row, "detail": msgspec.json.decode(row["detail"])}


# --- sent ----------------------------------------------------------------------------------


class Sender:
    """Sends what was found to the tenant's targets and the platform's, until all have it."""

    def __init__(
        self,
        engine: Engine,
        sealer: Sealer,
        client: HttpClient,
        mail: Mail,
        report: Reporter,
        destinations: Destinations,
    ) -> None:
        """
        Args:
            sealer: unseals targets' addresses.
            client: reaches public addresses only.
            report: told of what could not be sent in the end.
        """
        self._engine = engine
        self._sealer = sealer
        self._client = client
        self._mail = mail
        self._report = report
        self._destinations = destinations
        self._mails = asyncio.Semaphore(MAILS_AT_ONCE_MAX)
        self._failures: dict[str, tuple[int, float]] = {}
        """Of each target: how many in a row, and the (monotonic) time of the last."""

    async def send_due(self, now_s: float) -> int:
        """Try what is due, of all tenants in turn and side by side; returns how many alerts have
        now reached everyone. What is silenced is sent to nobody, then or later."""
        due = await asyncio.to_thread(self._due, int(now_s))
        return sum(await asyncio.gather(*(self._tell(*one, now_s) for one in due)))

    async def _tell(self, alert: Any, targets: list[Any], now_s: float) -> bool:
        """Whether an alert has now reached everyone."""
        results = await asyncio.gather(*(self._try(target, alert) for target in targets))
        failed = [t["id"] for t, why in zip(targets, results, strict=True) if why is not None]
        for target, why in zip(targets, results, strict=True):
            if why is not None and alert["tries"] + 1 >= TRIES_MAX:
                self._report("alert_not_sent", f"{alert['kind']} to {target['id']}: {why}")
        await asyncio.to_thread(self._settle, alert, failed, int(now_s))
        return not failed

    async def _try(self, target: Any, alert: Any) -> str | None:
        """Why it did not arrive; a target that failed several times is let rest."""
        # People are told one by one: who cannot be reached is no reason to tell no other.
        name = target["id"] if target["kind"] != PERSON else f"{PERSON} {alert['id']}"
        count, last_at = self._failures.get(name, (0, 0.0))
        if count >= RESTS_AFTER and time.monotonic() - last_at < REST_S:
            return "it failed several times, and rests"
        try:
            async with asyncio.timeout(2 * SEND_MAX_S):
                why = await self._send(target, alert)
        except TimeoutError:
            why = "TimeoutError"
        except EgressRefused as error:
            return str(error)  # it may be told of others: it does not rest
        # Others to the same target may have ended meanwhile.
        count, _ = self._failures.pop(name, (0, 0.0))
        if why is not None:
            if len(self._failures) >= RESTING_MAX:
                del self._failures[next(iter(self._failures))]
            self._failures[name] = (count + 1, time.monotonic())
        return why

    def _due(self, now_s: int) -> list[tuple[Any, list[Any]]]:
        with self._engine.begin() as connection:
            turn = func.row_number().over(
                partition_by=alerts.c.tenant, order_by=(alerts.c.next_try_s, alerts.c.id)
            )
            rows = (
                connection.execute(
                    select(alerts)
                    .where(alerts.c.sent_at_s.is_(None), alerts.c.next_try_s <= now_s)
                    .order_by(turn, alerts.c.next_try_s)
                    .limit(BATCH_MAX)
                )
                .mappings()
                .all()
            )
            tenants = {row["tenant"] for row in rows}
            silences = alert_silences.in_force(connection, tenants, now_s)
            zones = {one: self._destinations.zones(connection, one) for one in tenants}
            found = []
            for row in rows:
                detail = msgspec.json.decode(row["detail"])
                silence = alert_silences.silence_of(silences, row["tenant"], row["kind"], detail)
                if silence is not None:
                    connection.execute(
                        update(alerts)
                        .where(alerts.c.id == row["id"])
                        .values(sent_at_s=now_s, targets_left="[]", silenced_by=silence)
                    )
                    continue
                targets = connection.execute(
                    select(alert_targets).where(
                        or_(alert_targets.c.tenant == row["tenant"], alert_targets.c.tenant == ""),
                        alert_targets.c.confirmed_at_s.is_not(None),
                    )
                ).mappings()
                left = (
                    None
                    if row["targets_left"] is None
                    else set(msgspec.json.decode(row["targets_left"]))
                )
                wanted = [dict(t) for t in targets if left is None or t["id"] in left]
                if row["kind"] == "second_factor_reset" and (left is None or PERSON in left):
                    wanted.append({"id": PERSON, "kind": PERSON})
                # Whoever else looks for work leaves these alone while we try.
                connection.execute(
                    update(alerts)
                    .where(alerts.c.id == row["id"])
                    .values(next_try_s=now_s + int(SEND_MAX_S * 3))
                )
                found.append((dict(row) | {"zones": zones[row["tenant"]]}, wanted))
            return found

    def _settle(self, alert: Any, failed: list[str], now_s: int) -> None:
        tries = alert["tries"] + 1
        over = not failed or tries >= TRIES_MAX
        values: dict[str, Any] = {"tries": tries}
        if over:
            values["sent_at_s"] = now_s
            values["targets_left"] = msgspec.json.encode(failed).decode()
        else:
            values["next_try_s"] = now_s + RETRY_FIRST_S * 2 ** (tries - 1)
            values["targets_left"] = msgspec.json.encode(failed).decode()
        with self._engine.begin() as connection:
            connection.execute(update(alerts).where(alerts.c.id == alert["id"]).values(**values))

    async def _send(self, target: Any, alert: Any) -> str | None:
        """Why it did not arrive; None when it did."""
        detail = msgspec.json.decode(alert["detail"])
        zh, en = words(alert["kind"], alert["tenant"], detail)
        try:
            if target["kind"] == PERSON:
                if self._mail.host is not None:
                    async with self._mails:
                        await asyncio.to_thread(self._send_mail, detail["email"], zh, en)
                return None
            place = place_of(target["tenant"], target["id"])
            sealed = msgspec.json.decode(self._sealer.unseal(place, target["sealed"]))
            address, secret = sealed["address"], sealed["secret"]
            self._destinations.check(alert["zones"], alert["tenant"], target["kind"], address)
            if target["kind"] == "email":
                async with self._mails:
                    await asyncio.to_thread(self._send_mail, address, zh, en)
                return None
            now_s = int(time.time())
            if target["kind"] == "webhook":
                event = {"id": alert["id"], "type": alert["kind"], "tenant": alert["tenant"],
                         "at_s": alert["at_s"], "detail": detail, "text": en}  # fmt: skip
                body = msgspec.json.encode(event)
                headers = {"x-tc-signature": webhook_signature(secret, now_s, body)}
                url = address
            else:
                url, body = robot_message(target["kind"], address, secret, f"{zh}\n{en}", now_s)
                headers = {}
            headers["content-type"] = "application/json"
            reply, answer = await exchange(self._client, "POST", url, headers, body, _WAITS, 65_536)
        except EgressRefused:
            raise
        except Exception as error:  # noqa: BLE001 - one target's is no reason to tell no other
            return type(error).__name__
        return _complaint(target["kind"], reply.status, answer)

    def _send_mail(self, address: str, zh: str, en: str) -> None:
        self._mail.send(address, f"TokensChain: {en.partition('.')[0]}", f"{zh}\n\n{en}\n")


def webhook_signature(secret: str, at_s: int, body: bytes) -> str:
    """`t=TIME,v1=HMAC` over `TIME.BODY` with SHA-256: a receiver checks both, and the age."""
    signed = prescribed.hmac_sha256(secret.encode(), f"{at_s}.".encode() + body)
    return f"t={at_s},v1={signed.hex()}"


def robot_message(kind: str, address: str, secret: str, text: str, at_s: int) -> tuple[str, bytes]:
    """URL and body for a chat group's robot, signed as each asks for.

    DingTalk: HMAC-SHA256 of `milliseconds\\nsecret` with the secret, in the URL. Feishu: the
    HMAC of nothing with `seconds\\nsecret` as its key, in the body. WeCom: the key is in the URL.
    """
    if kind == "dingtalk":
        if secret:
            stamp = at_s * 1_000
            signed = prescribed.hmac_sha256(secret.encode(), f"{stamp}\n{secret}".encode())
            sign = quote(base64.b64encode(signed).decode(), safe="")
            joint = "&" if "?" in address else "?"
            address = f"{address}{joint}timestamp={stamp}&sign={sign}"
        return address, msgspec.json.encode({"msgtype": "text", "text": {"content": text}})
    if kind == "feishu":
        message: dict[str, Any] = {"msg_type": "text", "content": {"text": text}}
        if secret:
            key = f"{at_s}\n{secret}".encode()
            signed = prescribed.hmac_sha256(key, b"")
            message |= {"timestamp": str(at_s), "sign": base64.b64encode(signed).decode()}
        return address, msgspec.json.encode(message)
    return address, msgspec.json.encode({"msgtype": "text", "text": {"content": text}})


def _complaint(kind: str, status: int, answer: bytes) -> str | None:
    """Why a target did not take a message; robots say so in a 200."""
    if not 200 <= status < 300:
        return f"HTTP {status}"
    if kind in ("dingtalk", "feishu", "wecom"):
        try:
            found = msgspec.json.decode(answer)
            code = found.get("code" if kind == "feishu" else "errcode", 0)
        except (msgspec.DecodeError, AttributeError):
            return "no JSON object"
        if code:
            return f"{kind} answered {code}"
    return None


def _incident_words(detail: Mapping[str, Any]) -> tuple[str, str]:
    name, title = detail["subject"][0], detail["title"]
    until = time.strftime("%Y-%m-%d %H:%M:%S +08:00", time.gmtime(detail["due_at_s"] + 8 * 3_600))
    late = detail["percent"] >= 100
    return (
        f"事件“{title}”（{name}）的报告{'已逾期' if late else '即将到期'}，时限为 {until}。",
        f"The report of the incident “{title}” ({name}) {'was' if late else 'is'} due at {until}.",
    )


def words(kind: str, tenant: str, detail: dict[str, Any]) -> tuple[str, str]:
    """An alert in Chinese and English."""
    if kind == "cache_false_hits":
        whose = detail["subject"]
        share, low, high, share_max = (
            f"{detail[name]:.2%}"
            for name in ("false_hit_rate", "low", "high", "false_hit_rate_max")
        )
        return (
            f"{whose} 的缓存错误命中率为 {share}（95% 区间 {low}–{high}，"
            f"抽查 {detail['checked']} 次），超过约定的 {share_max}。",
            f"Of the semantic cache hits of {whose}, {share} are false (95 % interval {low} to "
            f"{high}, {detail['checked']} checked); at most {share_max} is allowed.",
        )
    if kind == "records_rejected":
        count, reason = detail["count"], detail["reason"]
        return (
            f"今日有 {count} 条调用记录未能入账，已另行保存（例：{reason}）。"
            "请用 tokenschain records rejected 查看。",
            f"{count} call records of today could not be entered and are set aside, one because: "
            f"{reason}. See `tokenschain records rejected`.",
        )
    if kind.startswith("audit_"):
        return audit_alert_words.words(kind, detail)
    if kind == "moderation_packs_stale":
        return _pack_words(detail)
    if kind == "upstream_down":
        return _down_words(detail)
    if kind == "incident_report_due":
        return _incident_words(detail)
    if kind == "test":
        return (
            "这是一条测试消息：告警可以送达这里。",
            "This is a test message: alerts arrive here.",
        )
    if kind == "configuration_refused":
        where, reason = detail["subject"][0], detail["reason"]
        return (
            f"配置（{where}）未生效，仍沿用之前的配置：{reason}",
            f"The configuration ({where}) was refused, and the one before stays in force: {reason}",
        )
    if kind == "second_factor_reset":
        return (
            f"{detail['by']} 已重置 {detail['email']}（{detail['user']}）的双因素认证；"
            "如非本人申请，请立即停用该账号。",
            f"{detail['by']} took away the second factor of {detail['email']} ({detail['user']}). "
            "If that user did not ask for it, shut the account out at once.",
        )
    return _budget_words(kind, tenant, detail)


def _budget_words(kind: str, tenant: str, detail: dict[str, Any]) -> tuple[str, str]:
    name = detail["budget"]
    whose = "/".join(part for part in (tenant, *detail["subject"]) if part)
    periods = {"day": "日", "month": "月", "total": "总"}
    period = detail["period"]

    def shown(amount: int) -> str:
        if detail["measure"] == "spend":
            return format_pico(amount, "CNY")
        return f"{amount:,} {detail['measure']}"

    amount, spent = shown(detail["amount"]), shown(detail["spent"])
    if kind == "budget_forecast":
        forecast = shown(detail["forecast"])
        return (
            f"{whose} 的{periods[period]}预算 {name} 预计将超出：已用 {spent}，"
            f"按当前速度期末为 {forecast}，预算 {amount}。",
            f"The {period} budget {name} of {whose} will not last: {spent} used, {forecast} "
            f"forecast, {amount} set.",
        )
    percent = detail["percent"]
    return (
        f"{whose} 的{periods[period]}预算 {name} 已用 {percent}%：{spent} / {amount}。",
        f"The {period} budget {name} of {whose} has reached {percent} %: {spent} of {amount}.",
    )


def _down_words(detail: dict[str, Any]) -> tuple[str, str]:
    name, reason = detail["upstream"], detail["reason"]
    return (
        f"上游 {name} 不可用：{reason}。处理步骤见 docs/operations/incidents.md。",
        f"Upstream {name} is down: {reason}. What to do: docs/operations/incidents.md.",
    )


def _pack_words(detail: Mapping[str, Any]) -> tuple[str, str]:
    pack, days = " ".join(detail["subject"]), detail["days"]
    expired, missing = detail["expired"], detail["missing"]
    return (
        f"审核词库 {pack} 已 {days} 天未更新，{expired} 个词已过期；"
        f"全部词库距标准要求还缺 {missing} 个词。",
        f"The keyword pack {pack} was renewed {days} days ago and {expired} of its words have "
        f"expired; all packs together lack {missing} words of what the standard asks.",
    )
