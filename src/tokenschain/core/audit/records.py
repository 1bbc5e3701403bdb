"""Records of the audit log: calls, commitments to what they said, events and gateways as canonical
JSON; never content.

A line of a segment is a record and, for a call, behind a tab what is the platform's alone: the
record has its salted digest, so that a tenant checks its record without seeing that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tokenschain.core.audit import canonical_json
from tokenschain.core.audit.merkle import Digest
from tokenschain.core.call_record import CallRecord
from tokenschain.core.process_record import ProcessRecord

CALL, EVENT, GATEWAY, CONTENT = "call", "event", "gateway", "content"
CONTENT_MARK = "content_"
"""Before a call's id: what the record of its content is called by."""
SALT_BYTES = 16
_TAB, _PART = b"\t", b"\x02"
"""JSON has no tab as it is. What the digest of a part is over begins otherwise than any leaf."""


class AuditedCall(msgspec.Struct, gc=False):
    """What the log keeps of a call. Fields stand in the order of their names, as canonical JSON
    has them."""

    account: str
    api: str
    at_ms: int
    """When it began; Unix time."""
    cache: str
    charge_currency: str
    charge_pico: int | None
    charge_version: str
    completion_tokens: int
    data_class: str
    """See `CallRecord.data_class`."""
    environment: str
    filing: str
    """The number under which the model answered; see `CallRecord.filing`."""
    gateway_label: str
    """See `segment.gateway_label`."""
    id: str
    key_id: str
    kind: str
    model_asked: str
    model_served: str
    moderation: str
    moderation_detail: str
    outcome: str
    platform: str
    """Digest of the `PlatformPart`, in hex."""
    project: str
    prompt_tokens: int
    revision: str
    """Of the configuration that it was served by."""
    sent_to: str
    """Zones of all that were sent its content, upstreams that failed and moderation engines, too;
    with commas, `unknown` for one whose zone is not known."""
    sequence: int
    """Which call of its gateway it is; 0 where that gave no numbers."""
    status: int
    tenant: str
    total_us: int
    upstream: str
    zone: str
    """Of the upstream; empty where it is not known."""


class PlatformPart(msgspec.Struct, gc=False):
    """What no tenant is shown of a call; see `control.identity.ownership`."""

    cost_pico: int | None
    currency: str
    gateway: str
    price_version: str
    salt: str
    """Random: without it the digest could be found by trying."""


_encode = msgspec.json.Encoder().encode


def of_call(
    digest: Digest,
    record: CallRecord,
    zone: str,
    salt: bytes,
    gateway_label: str,
    sent_to: str = "",
) -> bytes:
    """A call as a line of the log."""
    part = _canonical(
        PlatformPart(
            record.cost_pico, record.currency, record.gateway, record.price_version, salt.hex()
        )
    )
    data = _canonical(
        AuditedCall(
            record.account,
            record.api,
            record.started_ms,
            record.cache,
            record.charge_currency,
            record.charge_pico,
            record.charge_version,
            record.completion_tokens,
            record.data_class,
            record.environment,
            record.filing,
            gateway_label,
            record.event_id,
            record.key_id,
            CALL,
            record.model_asked,
            record.model_served,
            record.moderation,
            record.moderation_detail,
            record.outcome,
            part_digest(digest, part).hex(),
            record.project,
            record.prompt_tokens,
            record.snapshot_version,
            sent_to,
            record.sequence,
            record.status,
            record.tenant,
            int(record.total_ms * 1_000),
            record.upstream,
            zone,
        )
    )
    return data + _TAB + part


def _canonical(fields: msgspec.Struct) -> bytes:
    data = _encode(fields)
    # ASCII is in NFC; of the rest hardly anything is not, but all of it is looked at.
    return data if data.isascii() else canonical_json.encode(msgspec.json.decode(data))


def part_digest(digest: Digest, part: bytes) -> bytes:
    """What a record says of its platform's part."""
    return digest(_PART + part)


def split(line: bytes) -> tuple[bytes, bytes]:
    """The record of a line, which is the leaf, and the platform's part; empty where it has none."""
    record, _, part = line.partition(_TAB)
    return record, part


def of_content(
    call_id: str, at_ms: int, tenant: str, project: str, kept: str, committed: tuple[bytes, bytes]
) -> bytes:
    """What was kept of a call's content: commitments to it, and nothing of it.

    Args:
        committed: to what was asked and to what was answered; see `core.audit.content`.
    """
    return canonical_json.encode(
        {
            "at_ms": at_ms, "call": call_id, "id": f"{CONTENT_MARK}{call_id}",
            "input_commitment": committed[0].hex(), "kept": kept, "kind": CONTENT,
            "output_commitment": committed[1].hex(), "project": project, "tenant": tenant,
        }
    )  # fmt: skip


def of_event(row: Mapping[str, Any]) -> bytes:
    """A change by the admin API, or what people do about themselves; its detail as text."""
    return canonical_json.encode({"kind": EVENT, **row})


def of_process(name: str, found: ProcessRecord) -> bytes:
    """That a gateway process began or ended, and how many calls it numbered."""
    return canonical_json.encode(
        {"kind": GATEWAY, "id": name, "tenant": "", **msgspec.structs.asdict(found)}
    )
