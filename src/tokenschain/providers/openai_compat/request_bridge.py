"""Request bridge: a call's request as one vendor takes it, and what is said of the changes."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import continuation, parameter_bridge
from tokenschain.core.formats.anthropic.relay import relayed
from tokenschain.core.formats.bridged_request import Bridged, Origin
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.formats.openai_chat import Api, ParsedRequest
from tokenschain.core.formats.translation_changes import (
    NOT_OFFERED,
    NOT_PASSED_ON,
    OPENAI_NAMES,
    Changes,
    Loss,
    Policy,
    listed,
)
from tokenschain.core.snapshot import Candidate
from tokenschain.core.steering import STEERING
from tokenschain.providers import rerank
from tokenschain.providers.vendor_profile import Vendor

POLICY_HEADER = b"x-tc-unsupported"
# Looked up once: a member of an enumeration costs more than the comparison with it.
_CHAT = Api.CHAT
_encode = msgspec.json.Encoder().encode


def bridged_request(
    call: Call, candidate: Candidate, vendor: Vendor, said: PartialOutput | None
) -> Bridged:
    """The request in the vendor's dialect; the call's own fields stay for the next upstream."""
    parsed, offer = call.parsed, candidate.offer
    native, protocol = parsed.native, vendor.protocol
    if native is not None and protocol is not None and protocol.relays == native.api:
        gathers = candidate.upstream.stream_whole and not parsed.stream
        if said is None and not gathers and not call.reads_answer:
            most = offer.output_tokens_max
            return relayed(native, offer.model, vendor.dialect, policy_of(call), most)
    fields = parsed.fields
    if said is not None and vendor.prefill is not None:
        fields = continuation.request(fields, said, vendor.prefill)
    choices = parsed.choices
    if "n" in fields and (choices == 1 or choices > vendor.dialect.choices_max):
        fields = {name: raw for name, raw in fields.items() if name != "n"}
    most = offer.output_tokens_max
    if parsed.api is not _CHAT:
        return _bridge_other(call, dict(fields), vendor, most)
    losses: tuple[Loss, ...] = ()
    if native is not None:
        losses = native.losses
        if native.api == "messages" and b"anthropic-beta" in call.request.headers:
            losses = (*losses, Loss("anthropic-beta"))
    over = most is not None and (parsed.output_tokens_max or 0) > most
    if not over and not losses and not parameter_bridge.touches(
        vendor.dialect, offer.model, fields, parsed.roles,
        texts=parsed.all_text and said is None, translated=native is not None,
    ):  # fmt: skip
        return Bridged(dict(fields), untouched=native is None)
    names = OPENAI_NAMES if native is None else native.names
    origin = Origin(names, losses, native is not None, most)
    return parameter_bridge.bridge(fields, offer.model, vendor.dialect, policy_of(call), origin)


_NOT_ASKED = (b"null", b"false", b'""', b"1")
"""Values of `echo`, `suffix` and `best_of` that ask for nothing."""
_USUAL = (b'"auto"', b'"default"', b"[]", b"{}")
"""And of parameters that steer."""


def _bridge_other(
    call: Call, fields: dict[str, Raw], vendor: Vendor, output_tokens_max: int | None
) -> Bridged:
    """The request of another API than chat: relayed, but for what its vendor has no place for."""
    parsed, changes = call.parsed, Changes(policy_of(call))
    asked = parsed.output_tokens_max
    if output_tokens_max is not None and asked is not None and asked > output_tokens_max:
        fields["max_tokens"] = Raw(_encode(output_tokens_max))
        changes.limit(
            "max_tokens", output_tokens_max, f"its model gives {output_tokens_max} at most"
        )
    dialect = vendor.dialect
    some = STEERING.intersection(dialect.values)  # of which chat takes some values
    for name in sorted(fields.keys() & (dialect.steering | some)):
        if bytes(fields.pop(name)) not in (*_NOT_ASKED, *_USUAL):
            changes.drop(name, NOT_PASSED_ON)
    if parsed.api is Api.COMPLETIONS:
        for name in sorted(fields.keys() & vendor.dialect.completions_refused):
            if bytes(fields.pop(name)) not in _NOT_ASKED:
                changes.drop(name, NOT_OFFERED, essential=True)
    if parsed.api is Api.RERANK and vendor.texts_rerank:
        for name in sorted(fields.keys() - rerank.TEXTS_FIELDS):
            changes.drop(name, NOT_OFFERED)
    return Bridged(fields, listed(changes.dropped), adapted=listed(changes.adapted))


def schema_param(parsed: ParsedRequest) -> str:
    """Where the caller wrote the schema of the answer."""
    if parsed.native is None:
        return "response_format.json_schema.schema"
    return f"{parsed.native.names.of('response_format')}.schema"


def tell(call: Call, bridged: Bridged) -> None:
    """Note on the call what was changed, for the caller and for who reads the answer."""
    native = call.parsed.native
    call.dropped, call.emulated = bridged.dropped, bridged.emulated
    mended = call.parsed.mended
    call.adapted = (*mended, *bridged.adapted) if mended else bridged.adapted
    call.older_functions = bridged.older_functions
    call.tool_names = bridged.tool_names
    call.called_by_schema = bridged.called_by_schema
    call.freeform = bridged.freeform if native is None else bridged.freeform | native.freeform


def policy_of(call: Call) -> Policy:
    wanted = call.request.headers.get(POLICY_HEADER)
    if wanted is None:
        return Policy.AUTO
    try:
        return Policy(wanted.decode("latin-1"))
    except ValueError:
        known = ", ".join(Policy)
        raise ApiError(
            "invalid_value", f"`x-tc-unsupported` is one of: {known}.", param="x-tc-unsupported"
        ) from None
