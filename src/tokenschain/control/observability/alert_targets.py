"""Alert targets: webhooks, e-mail addresses and chat groups' robots that alerts are sent to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from tokenschain.control.identity import shares
from tokenschain.control.identity.users import EMAIL_CHARACTERS_MAX
from tokenschain.core import mail_address
from tokenschain.core.errors import ApiError
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import alert_targets, audit_events
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Suite

LINK_LASTS_S = 7 * 86_400
"""Of a link that confirms an address, from when the target was added."""
LETTERS_PER_DAY_MAX = 30
"""Of a tenant: whom they go to has not been asked."""
CODE_PREFIX = "tct-"
ACTION = "alert-target letter"
"""In the audit trail, which letters are counted by."""


def check_address(kind: str, address: str, allowed: Sequence[str]) -> None:
    """Insist that an address is of its kind, and not plainly one of this machine's.

    Names are resolved, and checked, when something is sent.

    Raises:
        ApiError: `invalid_value`.
    """
    if kind == "email":
        if len(address) > EMAIL_CHARACTERS_MAX or not mail_address.is_one(address):
            raise ApiError("invalid_value", "This is no e-mail address.", param="address")
        return
    try:
        parts = urlsplit(address)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or parts.username:
        raise ApiError("invalid_value", "This is no http(s) URL.", param="address")
    try:
        found = ip_address(host)
    except ValueError:
        return
    if not found.is_global and not any(found in ip_network(net) for net in allowed):
        raise ApiError("invalid_value", "This address is not public.", param="address")


class Added(NamedTuple):
    """A target that was added."""

    id: str
    confirmed_at_s: int | None
    code: str | None
    """Of the link that confirms it; None: nothing is to be confirmed."""


def add(
    connection: Connection,
    sealer: Sealer,
    suite: Suite,
    *,
    tenant: str,
    kind: str,
    name: str,
    address: str,
    secret: str,
) -> Added:
    """Add a target. A tenant's mail address waits until its holder confirms it by a link.

    Args:
        sealer: seals its address and secret.
        tenant: whose alerts it gets; empty: those of all tenants.

    Raises:
        ApiError: `conflict` where the tenant has too many, `rate_limit_exceeded` where it had
            too many letters sent.
    """
    shares.check(connection, shares.ALERT_TARGETS, tenant)
    now_s, target_id = int(time.time()), secrets.new_id("tgt")
    code = None
    if kind == "email" and tenant:
        _check_letters(connection, tenant, now_s)
        code = secrets.new_token(CODE_PREFIX)
    confirmed_at_s = now_s if code is None else None
    content = msgspec.json.encode({"address": address, "secret": secret})
    connection.execute(
        insert(alert_targets).values(
            id=target_id, tenant=tenant, kind=kind, name=name,
            sealed=sealer.seal(place_of(tenant, target_id), content),
            created_at_s=now_s, confirmed_at_s=confirmed_at_s,
            code_hash=None if code is None else suite.hex_digest(code.encode()),
        )
    )  # fmt: skip
    return Added(target_id, confirmed_at_s, code)


def _check_letters(connection: Connection, tenant: str, now_s: int) -> None:
    table = audit_events.c
    sent = select(func.count()).where(
        table.tenant == tenant, table.action == ACTION, table.at_ms > (now_s - 86_400) * 1_000
    )
    if connection.execute(sent).scalar_one() >= LETTERS_PER_DAY_MAX:
        raise ApiError("rate_limit_exceeded", f"{LETTERS_PER_DAY_MAX} mail addresses are asked a "
                       "day.", retry_after_s=3_600.0)  # fmt: skip


def confirm(connection: Connection, suite: Suite, code: str, now_s: int) -> Any | None:
    """The target (`id`, `tenant`) that a link confirms, which is used up; None where there is
    none, or it is over. Of two at once, the second finds nothing."""
    table = alert_targets.c
    return connection.execute(
        update(alert_targets)
        .where(
            table.code_hash == suite.hex_digest(code.encode()),
            table.created_at_s > now_s - LINK_LASTS_S,
        )
        .values(confirmed_at_s=now_s, code_hash=None)
        .returning(table.id, table.tenant)
    ).first()


def place_of(tenant: str, target_id: str) -> Place:
    """Where a target's address and secret are sealed for."""
    return Place(Sealable.ALERT_TARGET, tenant, target_id)


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of targets, by id, without their addresses."""
    table = alert_targets.c
    query = select(
        table.id, table.tenant, table.kind, table.name, table.created_at_s, table.confirmed_at_s
    )
    return paging.read_page(connection, query, page_, (table.id,), tenant=tenant)


def find(connection: Connection, target_id: str) -> dict[str, Any] | None:
    """The `tenant` of a target, empty for all tenants, and when it was confirmed
    (`confirmed_at_s`); None when there is no such target."""
    table = alert_targets.c
    wanted = select(table.tenant, table.confirmed_at_s).where(table.id == target_id)
    row = connection.execute(wanted).mappings().first()
    return None if row is None else dict(row)


def remove(connection: Connection, target_id: str) -> None:
    """Take a target away."""
    connection.execute(alert_targets.delete().where(alert_targets.c.id == target_id))
