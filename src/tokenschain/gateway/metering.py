"""Metering: one journal record per authenticated call, whatever becomes of it.

Calls refused before the key was known belong to no tenant: they are counted in
the metrics and not in the journal, so a flood of guesses cannot fill a disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from tokenschain.core import call_record
from tokenschain.core.cache.store import CacheEntry
from tokenschain.core.call import NOT_CACHED, Attempt, Call
from tokenschain.core.call_record import (
    AMOUNT_MAX,
    MODEL_CHARACTERS_MAX,
    WORD_CHARACTERS_MAX,
    AttemptRecord,
    CallRecord,
    Overhead,
    RouteRecord,
)
from tokenschain.core.errors import ApiError, Fault
from tokenschain.core.pricing.catalog import (
    Occasion,
    Usage,
    cost_of,
    selling_price,
)
from tokenschain.core.routing.selection import Decision
from tokenschain.core.snapshot import Served
from tokenschain.core.tags import NO_TAGS

ROUTE_ROWS_MAX = 32
PER_MILLION = 1_000_000
_NO_USAGE = Usage()


class Book(Protocol):
    """Where records are appended; `infra.journal.Journal` is one."""

    def check_room(self) -> None: ...
    def append(self, payload: bytes) -> None: ...


class JournalMetering:
    """Turns a finished call into its record and appends it."""

    def __init__(
        self,
        journal: Book,
        full: type[Exception],
        observe: Callable[[CallRecord], None],
        served: Served,
        name: str,
    ) -> None:
        """
        Args:
            full: what `journal` raises when it has no room.
            observe: sees every record, for the metrics; must not block.
            name: of this process, noted on each record.
        """
        self._served = served
        self._name = name
        self._journal = journal
        self._full = full
        self._observe = observe

    def admit(self, call: Call) -> None:
        """See `core.ports.Metering.admit`."""
        try:
            self._journal.check_room()
        except self._full as error:
            raise ApiError("journal_full", f"Calls cannot be recorded: {error}.") from error

    def settle(self, call: Call) -> CallRecord:
        """See `core.ports.Metering.settle`."""
        try:
            record = record_of(call, time.monotonic())
            if call.caller is not None:
                if call.attempts:
                    self._price(record, call)
                else:
                    hit = call.cache.hit
                    if hit is not None and hit.entry is not None and call.error is None:
                        self._price_hit(record, hit.entry)
        except Exception:
            # A fault of ours: what is known for certain is on record all the same.
            call.blame_ourselves()
            self._keep(call, begun(call))
            raise
        return self._keep(call, record)

    def _keep(self, call: Call, record: CallRecord) -> CallRecord:
        """Append a record and count it."""
        record.gateway = self._name
        if call.caller is not None:
            try:
                record = self._append(record)
            except self._full as error:
                # The answer is complete but for its last byte, which now never leaves.
                call.error = ApiError("journal_full", f"The call was not recorded: {error}.")
        call.record = record
        self._observe(record)
        return record

    def _append(self, record: CallRecord) -> CallRecord:
        """Returns what was written."""
        cost, charge = record.cost_pico, record.charge_pico
        if (cost and cost > AMOUNT_MAX) or (charge and charge > AMOUNT_MAX):
            record = call_record.reduced(record)
        try:
            self._journal.append(call_record.encode(record))
        except (ValueError, OverflowError):
            # Too large, or with a number that no record holds: less of it is still on record.
            record = call_record.reduced(record)
            self._journal.append(call_record.encode(record))
        return record

    def _price(self, record: CallRecord, call: Call) -> None:
        """What the customer pays: by the selling price, or what the upstream costs.

        Nothing where the answer was not given; then `record` costs nothing either, and what
        upstreams are owed stands on its attempts.
        """
        record.charge_currency = record.currency
        answered = call.answered_by
        if answered is None:
            record.charge_pico = 0
            return
        sell = self._served.get().sell
        at_s = record.started_ms / 1e3
        price = selling_price(sell, record.tenant, record.model_asked, at_s) if sell else None
        if price is None:
            price = answered.candidate.offer.price
        if price is None:
            record.charge_pico = None
            return
        usage = answered.delivered or answered.usage or _NO_USAGE
        record.charge_pico = cost_of(usage, price, Occasion(record.thinking, at_s))
        record.charge_currency = price.currency
        record.charge_version = price.version

    def _price_hit(self, record: CallRecord, entry: CacheEntry) -> None:
        """A cache hit: nothing upstream; the customer pays the share by policy."""
        snapshot = self._served.get()
        record.model_served = entry.model_served
        record.saved_tokens = entry.prompt_tokens + entry.completion_tokens
        record.saved_pico = entry.cost_pico or 0
        record.currency = entry.currency
        record.usage_source = "cache"
        share = round(snapshot.cache.hit_price * PER_MILLION)
        if not share:
            return
        at_s = record.started_ms / 1e3
        price = selling_price(snapshot.sell, record.tenant, record.model_asked, at_s)
        if price is not None:
            usage = Usage(entry.prompt_tokens, entry.completion_tokens)
            whole = cost_of(usage, price, Occasion(False, at_s))
            record.charge_currency, record.charge_version = price.currency, price.version
        else:
            whole = entry.cost_pico or 0
            record.charge_currency, record.charge_version = entry.currency, entry.price_version
        record.charge_pico = whole * share // PER_MILLION


def begun(call: Call) -> CallRecord:
    """Who called, and how it ended: what is on record of every call."""
    request = call.request
    record = CallRecord(request.id, request.started_ms, request.api_format.name)
    record.snapshot_version = call.snapshot_version
    record.bytes_in = request.bytes_in
    caller = call.caller
    if caller is not None:
        record.tenant = caller.tenant
        record.project = caller.project
        record.environment = caller.environment
        record.account = caller.account
        record.key_id = caller.key_id
    error = call.error
    if error is None:
        record.status = 200
        record.outcome = "ok"
    else:
        record.status = 200 if call.partial else error.status
        record.outcome = "partial" if call.partial else error.code
        record.fault = error.kind.fault
        record.error = error.code
    return record


def record_of(call: Call, now: float) -> CallRecord:
    """The record of a call that ends now; see `CallRecord` for units."""
    request = call.request
    began = request.received_at
    record = begun(call)
    record.total_ms = (now - began) * 1e3
    record.trace_id = _trace_id(call)
    record.bytes_out = call.writer.bytes_out
    record.model_asked = call_record.fitting(call.parsed.model, MODEL_CHARACTERS_MAX)
    record.streamed = call.parsed.stream
    if call.tags is not NO_TAGS:
        record.tags = call.tags.line
    cache = call.cache
    if cache is not NOT_CACHED:
        record.cache, record.cache_reason = cache.outcome, cache.reason
        record.cache_confidence = cache.hit_confidence
        if cache.hit is not None:
            record.cache_key = cache.hit.key.hex()
            if cache.hit.entry is not None:
                record.cache_age_s = max(0.0, request.started_ms / 1e3 - cache.hit.entry.stored_s)
    decision = call.decision
    if decision is not None and (len(decision.rows) > 1 or decision.filtered or decision.left_out):
        _explain(record, decision)
    if call.attempts:
        record.requests = call.parsed.requests
        answered = call.answered_by
        _fill(record, call.attempts[-1], answered, began)
        record.attempts = [_attempt_record(record, a, answered, began) for a in call.attempts]
        if answered is not call.attempts[-1] or len(call.attempts) > 1:
            _give_reasons(record, answered)
    return record


def _fill(record: CallRecord, attempt: Attempt, answered: Attempt | None, began: float) -> None:
    """Who answered, what the caller had of it, and what that cost."""
    offer = attempt.candidate.offer
    record.upstream = offer.upstream
    record.model_served = offer.model
    record.finish_reason = call_record.fitting(attempt.finish_reason, WORD_CHARACTERS_MAX)
    if attempt.first_token_at is not None:
        record.first_token_ms = (attempt.first_token_at - began) * 1e3
    price = offer.price
    if price is not None:
        record.price_version = price.version
        record.currency = price.currency
    if answered is None:
        return
    usage = answered.delivered or answered.usage or _NO_USAGE
    record.prompt_tokens = usage.prompt_tokens
    record.cached_tokens = usage.cached_tokens
    record.completion_tokens = usage.completion_tokens
    record.reasoning_tokens = usage.reasoning_tokens
    record.usage_source = usage.source
    record.cache_write_tokens = usage.cache_write_tokens
    record.cache_write_1h_tokens = usage.cache_write_1h_tokens
    record.audio_prompt_tokens = usage.audio_prompt_tokens
    record.image_prompt_tokens = usage.image_prompt_tokens
    record.audio_completion_tokens = usage.audio_completion_tokens
    record.thinking = attempt.thinking or usage.reasoning_tokens > 0
    record.cost_pico = _owed(answered, record.started_ms)


def _owed(attempt: Attempt, started_ms: int) -> int | None:
    """What an upstream is owed for an attempt; None when its price is unknown."""
    price, usage = attempt.candidate.offer.price, attempt.usage
    if price is None:
        return None
    if usage is None:
        return 0
    thinking = attempt.thinking or usage.reasoning_tokens > 0
    return cost_of(usage, price, Occasion(thinking, started_ms / 1e3))


def _explain(record: CallRecord, decision: Decision) -> None:
    """The candidate table of the first choice."""
    record.route_reason = decision.reason
    record.route_propensity = decision.propensity
    record.route = [
        RouteRecord(
            row.endpoint.name, row.first_token_s * 1e3, row.cost_pico, row.load, row.meets_slo
        )
        for row in decision.rows
    ]
    for name, why in (*decision.filtered, *decision.left_out)[:ROUTE_ROWS_MAX]:
        record.route.append(RouteRecord(name, excluded=why))


def _attempt_record(
    record: CallRecord, attempt: Attempt, answered: Attempt | None, began: float
) -> AttemptRecord:
    first, ended = attempt.first_byte_at, attempt.ended_at
    offer, usage = attempt.candidate.offer, attempt.usage
    made = AttemptRecord(
        attempt.candidate.upstream.id,
        (attempt.started_at - began) * 1e3,
        None if first is None else (first - began) * 1e3,
        None if ended is None else (ended - began) * 1e3,
        attempt.outcome,
        model=offer.model,
    )
    if usage is None:
        return made
    made.prompt_tokens, made.completion_tokens = usage.prompt_tokens, usage.completion_tokens
    made.cached_tokens, made.reasoning_tokens = usage.cached_tokens, usage.reasoning_tokens
    made.usage_source = usage.source
    if offer.price is not None:
        made.price_version, made.currency = offer.price.version, offer.price.currency
    mine = attempt is answered
    made.cost_pico = record.cost_pico if mine else _owed(attempt, record.started_ms)
    if not mine and usage.prompt_tokens + usage.completion_tokens:
        made.overhead = Overhead.FAILOVER
    return made


def _give_reasons(record: CallRecord, answered: Attempt | None) -> None:
    """Say why the platform bears what the caller does not."""
    last = record.attempts[-1]
    for attempt in record.attempts:
        if not attempt.overhead:
            continue
        if attempt.outcome == "lost_race":
            attempt.overhead = Overhead.HEDGE
        elif attempt.outcome == "translation_failed":
            attempt.overhead = Overhead.TRANSLATION
        elif attempt is last and answered is None:
            ours = record.fault == Fault.PLATFORM
            attempt.overhead = Overhead.TRANSLATION if ours else Overhead.FAILED


def _trace_id(call: Call) -> str:
    """The caller's W3C trace id, or the call's own id."""
    parent = call.request.headers.get(b"traceparent")
    if parent is None:
        return call.request.id
    parts = parent.split(b"-")
    valid = len(parts) >= 4 and len(parts[1]) == 32 and parts[1].isalnum()
    return parts[1].decode() if valid else call.request.id
