"""Call record: what the journal keeps of one call, for ledger, audit and metrics.

Records are encoded as MessagePack arrays. Fields are only ever appended, each
with a default, so that old records stay readable.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from operator import attrgetter
from typing import Literal, TypeVar, get_type_hints

import msgspec

from tokenschain.core.moderation.verdict import EngineCost
from tokenschain.core.tags import TAGS_BYTES_MAX


class HitKind(StrEnum):
    """Which look-up of the response cache found the answer: a value of `CallRecord.cache` and of
    the header `x-tc-cache`."""

    EXACT = "hit-exact"
    """The very same request was answered before."""
    INFLIGHT = "hit-inflight"
    """An identical request was being answered: single flight."""
    SEMANTIC = "hit-semantic"
    """A question that means the same was answered before."""


CallResult = Literal["ok", "cached", "rescued", "failed", "limited", "blocked"]
"""What became of a call, in one word; see `result_of`."""
LIMITED = frozenset({
    "rate_limit_exceeded", "budget_exceeded", "insufficient_balance", "overloaded",
})  # fmt: skip
"""Outcomes of calls for which a rate, budget, wallet or the upstreams' own limits left no room."""
BLOCKED = frozenset({"content_filter"})
_HITS = frozenset(HitKind)


def result_of(status: int, outcome: str, cache: str, attempts: int) -> CallResult:
    """What became of a call by its record; `control.billing.ledger` asks the same of its rows.

    Args:
        cache: see `CallRecord.cache`.
        attempts: how many there were.
    """
    if status == 429 or outcome in LIMITED:
        return "limited"
    if outcome in BLOCKED:
        return "blocked"
    if outcome != "ok":
        return "failed"
    if cache in _HITS:
        return "cached"
    return "rescued" if attempts > 1 else "ok"


def is_outage(status: int, outcome: str, fault: str) -> bool:
    """Whether a call failed because of the platform or an upstream: what availability counts.

    What callers did wrong, what a limit left no room for and what moderation blocked is none.

    Args:
        fault: see `core.errors.Fault`; empty in old records, whose status tells.
    """
    if result_of(status, outcome, "", 1) != "failed":
        return False
    return fault != "caller" if fault else status >= 500 or status == 200


UNKNOWN_MODEL = "(unknown)"
"""Stands for every model that was refused since there is none of its name: callers make those up,
and each would have rows of its own."""
LEARNING = "learning"
"""Why a question missed that was looked up by meaning: too few pairs were compared so far."""
UNAVAILABLE = "unavailable"
"""The same, where the process that compares questions did not answer."""


class Overhead(StrEnum):
    """Why the platform, not the caller, bears what an upstream is owed for an attempt."""

    FAILOVER = "failover_overhead"
    """Another upstream gave the answer, or the rest of it."""
    HEDGE = "hedge_overhead"
    """Another upstream was faster."""
    TRANSLATION = "translation_failure"
    """The answer could not be written in the caller's form, or another fault of the platform."""
    MODERATION = "moderation"
    """An engine screened the call: no attempt, and no answer of an upstream."""
    FAILED = "failed_call"
    """The caller had an error, for want of an answer that could be given."""


class AttemptRecord(msgspec.Struct, array_like=True, gc=False):
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


ENGINE_COSTS_MAX = 32
"""Engines in one record."""


class RouteRecord(msgspec.Struct, array_like=True, gc=False):
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


class CallRecord(msgspec.Struct, array_like=True, gc=False):
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
    """`not_scanned`, `passed`, `review`, `masked`, `replaced` or `blocked`; after `shadow:` what a
    policy would have done that only watches."""
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
    """What was weighed. Empty when there was one candidate only, and for most calls that went where
    the policy says while all could take them in time: see `gateway.metering`."""
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
    """Why the cache was bypassed; of a miss `LEARNING`, `UNAVAILABLE`, or nothing."""
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
    moderation_detail: str = ""
    """What moderation found: categories, levels and rules, never a caller's words."""
    engine_costs: list[EngineCost] = []
    """Of moderation engines, each once: costs of the platform, beside `cost_pico`."""
    filing: str = ""
    """The filing or registration number under which the model answered, where a policy asks for
    one; see `core.snapshot.filings`."""
    sequence: int = 0
    """Which call of its gateway process it is, counted from 1; 0 of gateways before there were
    numbers."""
    subject: str = ""
    """The end user that the caller names, as a keyed hash; only of calls whose data went abroad, or
    where nobody knows."""
    data_class: str = ""
    """The data classes that held for it, with `+` between: of its tenant, project and key, and of
    what moderation found."""


# --- bounds ----------------------------------------------------------------------------------

MODEL_CHARACTERS_MAX = 256
WORD_CHARACTERS_MAX = 64
COUNT_MAX = 10**12
"""Of tokens or bytes in one record; some millions of such add up within 64 bits."""
AMOUNT_MAX = 10**16
"""Of pico-units in one record: ten thousand yuan. SQLite adds up some hundreds of such."""
NUMBER_MAX = 1e15
STARTED_MS_MAX = 2**42
"""In the year 2109."""
STATUS_MAX = 999
ROUTE_REASON_CHARACTERS_MAX = 1_000
BYTES_MAX = 16_384
"""Of a record in the journal."""

CHARACTERS_MAX: Mapping[str, int] = {
    "event_id": 64,
    "api": 32,
    "tenant": 64,
    "project": 64,
    "environment": 64,
    "key_id": 40,
    "model_asked": MODEL_CHARACTERS_MAX,
    "model_served": MODEL_CHARACTERS_MAX,
    "upstream": 64,
    "outcome": WORD_CHARACTERS_MAX,
    "fault": 16,
    "error": WORD_CHARACTERS_MAX,
    "usage_source": 16,
    "price_version": 300,
    "currency": 3,
    "cache": 16,
    "moderation": 16,
    "finish_reason": WORD_CHARACTERS_MAX,
    "trace_id": 64,
    "tags": TAGS_BYTES_MAX,
    "snapshot_version": 64,
    "route_reason": ROUTE_REASON_CHARACTERS_MAX,
    "account": 64,
    "gateway": 80,
    "charge_currency": 3,
    "charge_version": 300,
    "cache_reason": 64,
    "cache_key": 32,
    "moderation_detail": 200,
    "filing": 100,
    "subject": 32,
    "data_class": 200,
}
"""How long the texts of a record may be: the columns of the ledger are made from it, and both ends
of the journal keep to it."""

ATTEMPT_CHARACTERS_MAX: Mapping[str, int] = {
    "upstream": CHARACTERS_MAX["upstream"],
    "outcome": CHARACTERS_MAX["outcome"],
    "model": MODEL_CHARACTERS_MAX,
    "usage_source": CHARACTERS_MAX["usage_source"],
    "price_version": CHARACTERS_MAX["price_version"],
    "currency": CHARACTERS_MAX["currency"],
    "overhead": 32,
}
"""The same for each attempt."""

_Bounded = TypeVar("_Bounded", CallRecord, AttemptRecord)


def problem_of(record: CallRecord) -> str:
    """Why a record may not be entered: the field that is out of bounds; empty where all fit."""
    if not record.event_id:
        return "event_id is empty"
    problem = _RECORD.problem_in(record)
    for attempt in record.attempts:
        problem = problem or _ATTEMPT.problem_in(attempt)
    for one in record.engine_costs:
        problem = problem or _problem_in_cost(one)
    if len(record.engine_costs) > ENGINE_COSTS_MAX:
        problem = problem or f"engine_costs has more than {ENGINE_COSTS_MAX} entries"
    return problem


def _problem_in_cost(one: EngineCost) -> str:
    if not 0 <= one.requests <= COUNT_MAX or not 0 <= one.cost_pico <= AMOUNT_MAX:
        return "a number of engine_costs is out of bounds"
    if len(one.upstream) > CHARACTERS_MAX["upstream"] or "\0" in one.engine:
        return "a name of engine_costs is too long or has a NUL in it"
    return ""


class _Bounds:
    """Of each text and number of a struct."""

    def __init__(
        self,
        kind: type[CallRecord] | type[AttemptRecord],
        widths: Mapping[str, int],
        **special: int,
    ) -> None:
        """
        Args:
            special: of numbers that have bounds of their own.
        """
        self.widths = widths
        self.scales: dict[str, float] = {}
        """The largest value of each number; none is negative."""
        for name, hint in get_type_hints(kind).items():
            if hint in (int, int | None):
                most = AMOUNT_MAX if name.endswith("_pico") else COUNT_MAX
                self.scales[name] = special.get(name, most)
            elif hint in (float, float | None):
                self.scales[name] = NUMBER_MAX
        self._texts = attrgetter(*widths)
        self._numbers = attrgetter(*self.scales)

    def problem_in(self, one: CallRecord | AttemptRecord) -> str:
        """Which of its fields does not fit; empty where all do."""
        for (name, width), text in zip(self.widths.items(), self._texts(one), strict=True):
            if len(text) > width:
                return f"{name} has more than {width} characters"
            if "\0" in text:
                return f"{name} has a NUL in it"
        for (name, most), number in zip(self.scales.items(), self._numbers(one), strict=True):
            # A NaN is in no range.
            if number is not None and not 0 <= number <= most:
                return f"{name} is not from 0 to {most:g}"
        return ""

    def within(self, one: _Bounded) -> _Bounded:
        """A copy whose fields all fit."""
        kept = msgspec.structs.replace(one)
        for name, width in self.widths.items():
            setattr(kept, name, fitting(getattr(one, name), width))
        for name, most in self.scales.items():
            number = getattr(one, name)
            if number is None or 0 <= number <= most:
                continue
            if name in _PRICED:  # a wrong amount is none: the price is as good as unknown
                setattr(kept, name, None)
            elif isinstance(number, float):
                setattr(kept, name, 0.0)
            else:
                setattr(kept, name, min(max(number, 0), int(most)))
        return kept


def fitting(text: str, characters_max: int) -> str:
    """Text from outside as it may stand in a record: cut, and without control characters."""
    if len(text) <= characters_max and text.isprintable():
        return text
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:characters_max])


def reduced(record: CallRecord) -> CallRecord:
    """What is left of a record that cannot be written as it is: every field within its bounds,
    so that counts are estimates; without the candidates' table, and with as many attempts as fit
    into `BYTES_MAX`."""
    kept = _RECORD.within(record)
    kept.usage_source = "estimated"
    kept.route = []
    kept.engine_costs = [one for one in record.engine_costs if not _problem_in_cost(one)]
    del kept.engine_costs[ENGINE_COSTS_MAX:]
    attempts = [_ATTEMPT.within(attempt) for attempt in record.attempts]
    # What the platform bears for an attempt stands nowhere else.
    kept.attempts = sorted(attempts, key=lambda attempt: not attempt.overhead)
    while kept.attempts and len(encode(kept)) > BYTES_MAX:
        kept.attempts.pop()
    kept.attempts.sort(key=lambda attempt: attempt.started_ms)
    return kept


_PRICED = ("cost_pico", "charge_pico")
_RECORD = _Bounds(CallRecord, CHARACTERS_MAX, started_ms=STARTED_MS_MAX, status=STATUS_MAX)
_ATTEMPT = _Bounds(AttemptRecord, ATTEMPT_CHARACTERS_MAX)


# --- bytes -----------------------------------------------------------------------------------

encode = msgspec.msgpack.Encoder().encode
"""A record as bytes for the journal."""
_decode = msgspec.msgpack.Decoder(CallRecord).decode
decode_list = msgspec.msgpack.Decoder(list[CallRecord]).decode
"""Several records, which `encode` took as a list."""
_FORMER_HITS = {"exact": HitKind.EXACT, "shared": HitKind.INFLIGHT, "semantic": HitKind.SEMANTIC}
"""As gateways of 0.1 wrote them: their journals may be shipped after an upgrade of control."""


def decode(data: bytes | memoryview) -> CallRecord:
    """Read a record back.

    Raises:
        msgspec.DecodeError: the bytes are no record (`ValidationError` included).
    """
    record = _decode(data)
    record.cache = _FORMER_HITS.get(record.cache, record.cache)
    return record
