"""Receipt of a call: what a caller keeps to ask later whether the audit log has the call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

from tokenschain.core.audit import canonical_json
from tokenschain.core.audit.merkle import Digest
from tokenschain.core.call_record import CallRecord

HEADER = "x-tc-audit-receipt"
CHARACTERS_MAX = 1_000
"""With room for the longest name of a tenant, whose every character may be quoted as twelve."""
DUE_MS = 3_600_000
"""After a call began it is sealed within that time, or its receipt is evidence that it was not."""
_FORM = "r1"
_COMMITTED = (
    "at_ms", "id", "key_id", "model_asked", "model_served", "outcome", "prompt_tokens",
    "completion_tokens", "status", "tenant",
)  # fmt: skip
"""Of the record, what the receipt commits to."""


class Receipt(NamedTuple):
    """What a receipt says of a call, `.` between its parts and the form before them."""

    call: str
    gateway_label: str
    sequence: int
    at_ms: int
    """When the call began; Unix time."""
    salt: str
    commitment: str
    """Salted digest of what the record of the call says, in hex."""
    tenant: str

    def body(self) -> str:
        """What the code of its issuer is over."""
        *parts, tenant = map(str, self)
        return ".".join((_FORM, *parts, quote(tenant, safe="")))

    def is_of(self, digest: Digest, fields: Mapping[str, Any]) -> bool:
        """Whether a record of the log is what the receipt was given for."""
        place = fields.get("id"), fields.get("gateway_label"), fields.get("sequence")
        named = place == (self.call, self.gateway_label, self.sequence)
        return named and _commitment(digest, self.salt, fields) == self.commitment


def issued(digest: Digest, gateway_label: str, salt: bytes, record: CallRecord) -> Receipt:
    """The receipt of a call that is on record."""
    fields = {name: getattr(record, name, None) for name in _COMMITTED}
    fields |= {"at_ms": record.started_ms, "id": record.event_id}
    commitment = _commitment(digest, salt.hex(), fields)
    return Receipt(
        record.event_id, gateway_label, record.sequence, record.started_ms, salt.hex(), commitment,
        record.tenant,
    )  # fmt: skip


def parsed(text: str) -> tuple[Receipt, str]:
    """A receipt and the code of its issuer.

    Raises:
        ValueError: it is none.
    """
    body, _, code = text.strip().rpartition(".")
    form, *parts = body.split(".", len(Receipt._fields))
    if form != _FORM or len(parts) != len(Receipt._fields) or len(text) > CHARACTERS_MAX:
        raise ValueError("no receipt of a call")
    call, label, sequence, at_ms, salt, commitment, tenant = parts
    found = Receipt(call, label, int(sequence), int(at_ms), salt, commitment, unquote(tenant))
    if f"{found.body()}.{code}" != text.strip():
        raise ValueError("no receipt of a call")
    return found, code


def _commitment(digest: Digest, salt: str, fields: Mapping[str, Any]) -> str:
    said = canonical_json.encode({name: fields.get(name) for name in _COMMITTED})
    return digest(salt.encode() + said).hex()[:32]
