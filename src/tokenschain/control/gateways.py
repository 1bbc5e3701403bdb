"""Gateways as they said it last: what each serves by, and which configuration it refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, Engine, delete, select

from tokenschain.control import revisions
from tokenschain.control.configuration import history
from tokenschain.control.observability import alerts
from tokenschain.core.gateway_status import REPORTED_MAX_S, GatewayStatus
from tokenschain.infra.database.tables import meta

FORGOTTEN_S = 600.0
"""A gateway that says nothing for so long is gone: each process has a name of its own."""
_PREFIX = "gw/"
_encode = msgspec.json.Encoder().encode


class Seen(msgspec.Struct, frozen=True):
    """A report and when it came."""

    status: GatewayStatus
    seen_s: float
    """Unix time by the database's writer."""


_decode = msgspec.json.Decoder(Seen).decode


def note(engine: Engine, status: GatewayStatus) -> None:
    """Keep a report; a configuration that was refused is noted on its revision, and alerted."""
    now_s = time.time()
    with engine.begin() as connection:
        revisions.put_meta(connection, _PREFIX + status.name, _encode(Seen(status, now_s)).decode())
        refused = status.refused
        new = refused is not None and history.refuse(connection, refused, status.name)
        _forget(connection, now_s)
    if refused is not None and new:
        detail = {"subject": [status.name], "reason": refused.why}
        alerts.configuration_refused(engine, detail, now_s)


def seen(connection: Connection) -> list[Seen]:
    """All gateways that are there, by name."""
    now_s = time.time()
    return [one for one in _reports(connection) if now_s - one.seen_s < FORGOTTEN_S]


def running(connection: Connection) -> Counter[str]:
    """Calls that run at each upstream, by its id, at all gateways together."""
    found: Counter[str] = Counter()
    for one in seen(connection):
        found.update({upstream.id: upstream.running for upstream in one.status.upstreams})
    return found


def lacking(connection: Connection, variables: Iterable[str]) -> dict[str, list[str]]:
    """Of these environment variables, those that are not set at gateways that run now, with their
    names. A gateway gets those that are named as it starts."""
    wanted = sorted(set(variables))
    if not wanted:
        return {}
    now_s = time.time()
    told = [one.status for one in _reports(connection) if now_s - one.seen_s < REPORTED_MAX_S]
    found = {
        name: [
            status.name
            for status in told
            if status.set_variables is not None and name not in status.set_variables
        ]
        for name in wanted
    }
    return {name: at for name, at in found.items() if at}


def refusing(connection: Connection) -> list[str]:
    """The names of gateways that keep an earlier configuration than the one published."""
    return [one.status.name for one in seen(connection) if one.status.refused is not None]


def _reports(connection: Connection) -> list[Seen]:
    query = select(meta.c.value).where(meta.c.name.like(f"{_PREFIX}%")).order_by(meta.c.name)
    return list(map(_decode, connection.scalars(query)))


def _forget(connection: Connection, now_s: float) -> None:
    gone = [
        _PREFIX + one.status.name
        for one in _reports(connection)
        if now_s - one.seen_s >= FORGOTTEN_S
    ]
    if gone:
        connection.execute(delete(meta).where(meta.c.name.in_(gone)))
