"""Alert targets: webhooks, e-mail addresses and chat groups' robots that alerts are sent to."""

from __future__ import annotations

import time
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

import msgspec
from sqlalchemy import Connection, insert, select

from tokenschain.control.identity import shares
from tokenschain.control.identity.users import EMAIL_CHARACTERS_MAX
from tokenschain.core import mail_address
from tokenschain.core.errors import ApiError
from tokenschain.infra.database import paging
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import alert_targets
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Place, Sealable, Sealer


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


def add(
    connection: Connection,
    sealer: Sealer,
    *,
    tenant: str,
    kind: str,
    name: str,
    address: str,
    secret: str,
) -> str:
    """Add a target; returns its id.

    Args:
        sealer: seals its address and secret.
        tenant: whose alerts it gets; empty: those of all tenants.
    """
    shares.check(connection, shares.ALERT_TARGETS, tenant)
    target_id = secrets.new_id("tgt")
    content = msgspec.json.encode({"address": address, "secret": secret})
    connection.execute(
        insert(alert_targets).values(
            id=target_id, tenant=tenant, kind=kind, name=name,
            sealed=sealer.seal(place_of(tenant, target_id), content),
            created_at_s=int(time.time()),
        )
    )  # fmt: skip
    return target_id


def place_of(tenant: str, target_id: str) -> Place:
    """Where a target's address and secret are sealed for."""
    return Place(Sealable.ALERT_TARGET, tenant, target_id)


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of targets, by id, without their addresses."""
    table = alert_targets.c
    query = select(table.id, table.tenant, table.kind, table.name, table.created_at_s)
    return paging.read_page(connection, query, page_, (table.id,), tenant=tenant)


def tenant_of(connection: Connection, target_id: str) -> str | None:
    """The tenant of a target, empty for all tenants; None when there is no such target."""
    return connection.execute(
        select(alert_targets.c.tenant).where(alert_targets.c.id == target_id)
    ).scalar()


def remove(connection: Connection, target_id: str) -> None:
    """Take a target away."""
    connection.execute(alert_targets.delete().where(alert_targets.c.id == target_id))
