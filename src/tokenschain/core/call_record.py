"""Call record: what the journal keeps of one call, for ledger, audit and metrics.

Records are encoded as MessagePack arrays. Fields are only ever appended, each
with a default, so that old records stay readable.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class HitKind(StrEnum):
    """Which look-up of the response cache found the answer: a value of `CallRecord.cache` and of
    the header `x-tc-cache`."""

    EXACT = "hit-exact"
    """The very same request was answered before."""
    INFLIGHT = "hit-inflight"
    """An identical request was being answered: single flight."""
    SEMANTIC = "hit-semantic"
    """A question that means the same was answered before."""


class Overhead(StrEnum):
    """Why the platform, not the caller, bears what an upstream is owed for an attempt."""

    FAILOVER = "failover_overhead"
    """Another upstream gave the answer, or the rest of it."""
    HEDGE = "hedge_overhead"
    """Another upstream was faster."""
    TRANSLATION = "translation_failure"
    """The answer could not be written in the caller's form, or another fault of the platform."""
    FAILED = "failed_call"
    """The caller had an error, for want of an answer that could be given."""


class AttemptRecord(msgspec.Struct, array_like=True):
    """One upstream tried for a call; times are milliseconds since the call began."""

    upstream: str
    started_ms: float
    first_byte_ms: float | None = None
    ended_ms: float | None = None
    outcome: str = "open"
    """`ok`, `lost_race` or a code of `core.errors`."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """What the upstream produced in this attempt, whoever pays for it."""
    model: str = ""
    """The upstream's name of it."""
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: str = "none"
    price_version: str = ""
    currency: str = ""
    cost_pico: int | None = 0
    """What the upstream is owed for this attempt; None when its price is unknown."""
    overhead: str = ""
    """An `Overhead`, where the platform bears the cost; empty where it is the call's own."""


class RouteRecord(msgspec.Struct, array_like=True):
    """One candidate as the first choice weighed it."""

    upstream: str
    first_token_ms: float = 0.0
    """Expected."""
    cost_pico: float = 0.0
    """Expected, in pico-yuan."""
    load: float = 0.0
    """Share of its limit in use."""
    meets_slo: bool = False
    excluded: str = ""
    """Why it was not weighed at all."""


class CallRecord(msgspec.Struct, array_like=True):
    """One call. Content is never here, only counts and references.

    Times are milliseconds: `started_ms` since the Unix epoch, all others since
    the call began. `cost_pico` is None when the price is unknown, never zero.
    """

    event_id: str
    started_ms: int
    api: str
    tenant: str = ""
    project: str = ""
    environment: str = ""
    key_id: str = ""
    model_asked: str = ""
    model_served: str = ""
    upstream: str = ""
    attempts: list[AttemptRecord] = []
    status: int = 0
    outcome: str = ""
    """`ok`, `partial` (broken off after the first token) or an error code."""
    fault: str = ""
    error: str = ""
    streamed: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    usage_source: str = "none"
    price_version: str = ""
    currency: str = ""
    cost_pico: int | None = 0
    cache: str = "bypass"
    """`bypass`, `miss` or a `HitKind`."""
    moderation: str = "not_scanned"
    first_token_ms: float | None = None
    total_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    finish_reason: str = ""
    trace_id: str = ""
    tags: str = ""
    snapshot_version: str = ""
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    audio_prompt_tokens: int = 0
    image_prompt_tokens: int = 0
    audio_completion_tokens: int = 0
    thinking: bool = False
    route: list[RouteRecord] = []
    """Empty when there was one candidate only."""
    route_reason: str = ""
    route_propensity: float = 1.0
    account: str = ""
    gateway: str = ""
    """The process that served it."""
    charge_pico: int | None = 0
    """What the customer pays; None when the price is unknown."""
    charge_currency: str = ""
    charge_version: str = ""
    cache_reason: str = ""
    """Why the cache was bypassed."""
    cache_key: str = ""
    """Of the cached response that was given, in hex."""
    saved_tokens: int = 0
    """Prompt and completion tokens of the cached response that was given."""
    saved_pico: int = 0
    """What its upstream would have cost, in `currency`, if that was known."""
    cache_confidence: float = 0.0
    """Estimated probability that the nearest cached answer was right, whether given or not."""
    cache_age_s: float = 0.0
    """Age of the cached response that was given."""
    requests: int = 1
    """As how many requests it counts: its choices times its prompts."""


MODEL_CHARACTERS_MAX = 256
WORD_CHARACTERS_MAX = 64
COUNT_MAX = 10**12
"""Of tokens or bytes in one record; some millions of such add up within 64 bits."""


def fitting(text: str, characters_max: int) -> str:
    """Text from outside as it may stand in a record: cut, and without control characters."""
    if len(text) <= characters_max and text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:characters_max])


def reduced(record: CallRecord) -> CallRecord:
    """What is left of a record that cannot be written as it is: who called what, how it ended,
    and counts that are bounded and therefore estimates."""
    kept = CallRecord(record.event_id, record.started_ms, record.api)
    for name in _KEPT:
        setattr(kept, name, fitting(getattr(record, name), WORD_CHARACTERS_MAX))
    kept.model_asked = fitting(record.model_asked, MODEL_CHARACTERS_MAX)
    kept.model_served = fitting(record.model_served, MODEL_CHARACTERS_MAX)
    kept.status, kept.streamed = record.status, record.streamed
    kept.total_ms, kept.first_token_ms = record.total_ms, record.first_token_ms
    kept.prompt_tokens = min(max(record.prompt_tokens, 0), COUNT_MAX)
    kept.completion_tokens = min(max(record.completion_tokens, 0), COUNT_MAX)
    kept.usage_source = "estimated"
    for name in ("cost_pico", "charge_pico"):
        amount = getattr(record, name)
        setattr(kept, name, amount if amount is not None and 0 <= amount < 2**63 else None)
    return kept


_KEPT = (
    "tenant", "project", "environment", "key_id", "account", "gateway", "upstream", "outcome",
    "fault", "error", "finish_reason", "trace_id", "snapshot_version", "currency",
    "charge_currency", "cache",
)  # fmt: skip
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CallRecord).decode
_FORMER_HITS = {"exact": HitKind.EXACT, "shared": HitKind.INFLIGHT, "semantic": HitKind.SEMANTIC}
"""As gateways of 0.1 wrote them: their journals may be shipped after an upgrade of control."""


def encode(record: CallRecord) -> bytes:
    """The record as bytes for the journal."""
    return _encode(record)


def decode(data: bytes | memoryview) -> CallRecord:
    """Read a record back.

    Raises:
        msgspec.DecodeError: the bytes are no record (`ValidationError` included).
    """
    record = _decode(data)
    record.cache = _FORMER_HITS.get(record.cache, record.cache)
    return record
