"""Restrictions: what a snapshot limits, forbids and keeps, in force where the rest is not.

A gateway that cannot use what control published keeps what it had; but what was lowered or
forbidden meanwhile holds there, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tokenschain.core.limits import Budget, Rate
from tokenschain.core.snapshot import Snapshot
from tokenschain.core.snapshot.freeze import Freeze
from tokenschain.core.snapshot.kept_content import KeptContent
from tokenschain.core.snapshot.label_rules import LabelRule
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy
from tokenschain.core.snapshot.zones import ResidencyScope, Zone


class _Residency(msgspec.Struct, frozen=True):
    """Of routing, what says where data may go."""

    residency: dict[ResidencyScope, tuple[Zone, ...]] = {}


class Restrictions(msgspec.Struct, frozen=True):
    """What restricts calls; named as in `Snapshot`, so that it can be read out of one."""

    rates: tuple[Rate, ...] = ()
    budgets: tuple[Budget, ...] = ()
    routing: _Residency = _Residency()
    moderation: dict[str, ModerationPolicy] = {}
    freezes: tuple[Freeze, ...] = ()
    suspended: dict[str, dict[str, int]] = {}
    filings: dict[str, str] = {}
    labels: dict[str, LabelRule] = {}
    contents: dict[str, KeptContent] = {}


_decode = msgspec.msgpack.Decoder(Restrictions).decode
_decode_blocks = msgspec.msgpack.Decoder(list[memoryview]).decode


def of_snapshot(snapshot: Snapshot) -> Restrictions:
    """Those of a snapshot."""
    residency = _Residency(snapshot.routing.residency)
    return Restrictions(
        snapshot.rates,
        snapshot.budgets,
        residency,
        snapshot.moderation,
        snapshot.freezes,
        snapshot.suspended,
        snapshot.filings,
        snapshot.labels,
        snapshot.contents,
    )


def of_payload(payload: bytes) -> Restrictions:
    """Those of an encoded snapshot, whatever the rest of it is; see `snapshot.encoding`.

    Raises:
        msgspec.DecodeError: they cannot be read.
    """
    blocks = _decode_blocks(payload)
    if not blocks:
        raise msgspec.DecodeError("the snapshot is empty")
    return _decode(blocks[0])


def encode(restrictions: Restrictions) -> bytes:
    """Restrictions as a part of a configuration of its own."""
    return msgspec.msgpack.encode(restrictions)


def decode(payload: bytes) -> Restrictions:
    """See `encode`.

    Raises:
        msgspec.DecodeError: the bytes are none.
    """
    return _decode(payload)


def restricted(snapshot: Snapshot, later: Restrictions, version: str) -> Snapshot:
    """A snapshot under the limits of a later one; data goes where both allow."""
    residency = _both(snapshot.routing.residency, later.routing.residency)
    return msgspec.structs.replace(
        snapshot,
        version=version,
        rates=later.rates,
        budgets=later.budgets,
        routing=msgspec.structs.replace(snapshot.routing, residency=residency),
        moderation=later.moderation,
        freezes=later.freezes,
        suspended=later.suspended,
        filings=later.filings,
        labels=later.labels,
        contents=later.contents,
    )


def _both(
    one: Mapping[str, tuple[Zone, ...]], other: Mapping[str, tuple[Zone, ...]]
) -> dict[str, Any]:
    """Rules that allow what both do."""
    found: dict[str, tuple[Zone, ...]] = {**one, **other}
    for scope in one.keys() & other.keys():
        found[scope] = tuple(zone for zone in one[scope] if zone in other[scope])
    return found
