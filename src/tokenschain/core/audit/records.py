"""Records of the audit log: a call and an event as canonical JSON; never content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tokenschain.core.audit import canonical_json
from tokenschain.core.call_record import CallRecord

CALL, EVENT = "call", "event"


class AuditedCall(msgspec.Struct, gc=False):
    """What the log keeps of a call. Fields stand in the order of their names, as canonical JSON
    has them."""

    api: str
    at_ms: int
    """When it began; Unix time."""
    cache: str
    charge_currency: str
    charge_pico: int | None
    charge_version: str
    completion_tokens: int
    cost_pico: int | None
    currency: str
    environment: str
    gateway: str
    id: str
    key_id: str
    kind: str
    model_asked: str
    model_served: str
    moderation: str
    moderation_detail: str
    outcome: str
    price_version: str
    project: str
    prompt_tokens: int
    revision: str
    """Of the configuration that it was served by."""
    status: int
    tenant: str
    total_us: int
    upstream: str
    zone: str
    """Of the upstream; empty where it is not known."""


_encode = msgspec.json.Encoder().encode


def of_call(record: CallRecord, zone: str) -> bytes:
    """A call as a record of the log."""
    data = _encode(
        AuditedCall(
            record.api,
            record.started_ms,
            record.cache,
            record.charge_currency,
            record.charge_pico,
            record.charge_version,
            record.completion_tokens,
            record.cost_pico,
            record.currency,
            record.environment,
            record.gateway,
            record.event_id,
            record.key_id,
            CALL,
            record.model_asked,
            record.model_served,
            record.moderation,
            record.moderation_detail,
            record.outcome,
            record.price_version,
            record.project,
            record.prompt_tokens,
            record.snapshot_version,
            record.status,
            record.tenant,
            int(record.total_ms * 1_000),
            record.upstream,
            zone,
        )
    )
    # ASCII is in NFC; of the rest hardly anything is not, but all of it is looked at.
    return data if data.isascii() else canonical_json.encode(msgspec.json.decode(data))


def of_event(row: Mapping[str, Any]) -> bytes:
    """A change by the admin API, or what people do about themselves; its detail as text."""
    return canonical_json.encode({"kind": EVENT, **row})
