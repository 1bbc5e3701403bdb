"""Gateways as they said it last: what each serves by, and which configuration it refused."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, delete, select

from tokenschain.control import revisions
from tokenschain.control.configuration import history
from tokenschain.control.observability import alerts
from tokenschain.core.gateway_status import (
    REPORTED_MAX_S,
    GatewayStatus,
    KeyStatus,
    UpstreamStatus,
)
from tokenschain.infra.database.tables import meta

FORGOTTEN_S = 600.0
"""A gateway that says nothing for so long is gone: each process has a name of its own."""
_PREFIX = "gw/"
_BREAKERS = ("closed", "slow start", "trial", "resting", "open")
_KEYS = ("ready", "cooling", "exhausted", "denied", "missing", "dead")
"""States from the best to the worst; see `core.gateway_status`."""
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
    alerts.look_at_packs(engine, [status], now_s)
    if refused is not None and new:
        detail = {"subject": [status.name], "reason": refused.why}
        alerts.configuration_refused(engine, detail, now_s)


def seen(connection: Connection) -> list[Seen]:
    """All gateways that are there, by name."""
    now_s = time.time()
    return [one for one in _reports(connection) if now_s - one.seen_s < FORGOTTEN_S]


class UpstreamAtGateways(NamedTuple):
    """An upstream as all gateways see it: each thing as at the gateway where it is worst."""

    running: int = 0
    """Calls that run there now."""
    breaker: str = ""
    """Empty where no call came to it yet."""
    why: str = ""
    """Code of the last failure."""
    keys: tuple[KeyStatus, ...] = ()


def upstreams(connection: Connection) -> dict[str, UpstreamAtGateways]:
    """Each upstream that calls came to, by its id."""
    told: dict[str, list[UpstreamStatus]] = {}
    for one in seen(connection):
        for upstream in one.status.upstreams:
            told.setdefault(upstream.id, []).append(upstream)
    return {upstream: _together(statuses) for upstream, statuses in told.items()}


def _together(statuses: list[UpstreamStatus]) -> UpstreamAtGateways:
    worst = max(statuses, key=lambda one: (_badness(_BREAKERS, one.breaker), bool(one.why)))
    keys: dict[int, KeyStatus] = {}
    for key in (key for one in statuses for key in one.keys):
        known = keys.get(key.number)
        if known is None or _badness(_KEYS, key.state) > _badness(_KEYS, known.state):
            keys[key.number] = key
    running = sum(one.running for one in statuses)
    return UpstreamAtGateways(
        running, worst.breaker, worst.why, tuple(keys[number] for number in sorted(keys))
    )


def _badness(states: tuple[str, ...], state: str) -> int:
    return states.index(state) if state in states else len(states)


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
