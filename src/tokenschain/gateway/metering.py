"""Metering: one journal record per authenticated call, whatever becomes of it.

Calls refused before the key was known belong to no tenant: they are counted in
the metrics and not in the journal, so a flood of guesses cannot fill a disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msgspec import Raw, structs

from tokenschain.core import call_record
from tokenschain.core.audit import receipt
from tokenschain.core.cache.store import CacheEntry
from tokenschain.core.call import NOT_CACHED, Attempt, Call, CallRequest, Screening
from tokenschain.core.call_record import (
    AMOUNT_MAX,
    CHARACTERS_MAX,
    MODEL_CHARACTERS_MAX,
    WORD_CHARACTERS_MAX,
    AttemptRecord,
    CallRecord,
    Overhead,
    RouteRecord,
)
from tokenschain.core.compliance.transfers import ABROAD
from tokenschain.core.errors import ApiError, Fault
from tokenschain.core.formats.end_user import SAFETY_IDENTIFIER, USER, end_user_of
from tokenschain.core.moderation import case_record
from tokenschain.core.pricing.catalog import (
    PICO_PER_MICRO,
    Occasion,
    Price,
    Usage,
    cost_of,
    tier_cost,
)
from tokenschain.core.routing.selection import Decision
from tokenschain.core.snapshot import OWN_UPSTREAM_PRICE, Offer, Served
from tokenschain.core.tags import NO_TAGS
from tokenschain.core.tenancy import KeyGrant

ROUTE_ROWS_MAX = 32
_RECEIPT = receipt.HEADER.encode()
TABLE_ON_RECORD = "0"
"""Last digit of the ids, counted in hex, of calls that have their candidates on record though there
was nothing to ask: one in sixteen. The table is 8,000 instructions of a call with three."""
PER_MILLION = 1_000_000
_USUAL_ENDS = frozenset({"stop", "length", "tool_calls", ""})
_NO_USAGE = Usage()
_NO_OFFER = Offer("", "")
_NOBODY = KeyGrant("", "", "", "")
_NO_CHOICE: tuple[list[RouteRecord], str, float] = ([], "", 1.0)
"""What is on record where there was one candidate only; the list stays empty."""


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
        numbers: memoryview[int],
        receipt_of: Callable[[CallRecord], str],
        subject_digest: Callable[[bytes], bytes] | None = None,
    ) -> None:
        """
        Args:
            full: what `journal` raises when it has no room.
            observe: sees every record, for the metrics; must not block.
            name: of this process, noted on each record.
            numbers: its first item becomes the number of the last call on record.
            receipt_of: makes what callers get who ask for a receipt, or whose rules send one.
            subject_digest: keyed; of the end users of calls that go abroad.
        """
        self._served = served
        self._name = name
        self._subject_digest = subject_digest
        self._journal = journal
        self._full = full
        self._observe = observe
        self._numbers = numbers
        self._receipt_of = receipt_of

    def admit(self, call: Call) -> None:
        """See `core.ports.Metering.admit`."""
        try:
            self._journal.check_room()
        except self._full as error:
            raise ApiError("journal_full", f"Calls cannot be recorded: {error}.") from error

    def settle(self, call: Call, unsent: int = 0) -> CallRecord:
        """See `core.ports.Metering.settle`."""
        try:
            now, attempts, hit = time.monotonic(), call.attempts, call.cache.hit
            if attempts or hit is None or hit.entry is None or call.error is not None:
                record = record_of(call, now, self._name, unsent)
                if attempts and call.caller is not None:
                    last, fields = attempts[-1], call.parsed.fields
                    if USER in fields or SAFETY_IDENTIFIER in fields:
                        record.subject = self._subject(fields, attempts, call.caller)
                    if (
                        self._served.sells
                        or last.delivered is not None
                        or last.candidate.upstream.tenant
                    ):
                        self._price(record, call)
            else:
                record = hit_record_of(call, hit.name, hit.entry, now, self._name, unsent)
                share = round(self._served.get().cache.hit_price * PER_MILLION)
                if share:
                    self._price_hit(record, hit.entry, share)
        except Exception:
            # A fault of ours: what is known for certain is on record all the same.
            call.blame_ourselves()
            self._keep(call, begun(call, self._name))
            raise
        if call.screening is not None:
            record.moderation_detail = call.moderation_detail
            record.engine_costs = call.screening.engine_costs
            record.filing = call.screening.filing_of(record.upstream, record.model_served)
            self._keep_case(call, call.screening)
        return self._keep(call, record)

    def _subject(
        self, fields: Mapping[str, Raw], attempts: Sequence[Attempt], caller: KeyGrant
    ) -> str:
        """The end user that a call names, as a keyed hash, if data of it went abroad; nothing else
        of people is on record."""
        if not any(attempt.candidate.upstream.zone in ABROAD for attempt in attempts):
            return ""
        named = end_user_of(fields)
        if not named or self._subject_digest is None:
            return ""
        return self._subject_digest(f"subject\0{caller.tenant}\0{named}".encode())[:16].hex()

    def _keep(self, call: Call, record: CallRecord) -> CallRecord:
        """Append a record and count it."""
        caller = call.caller
        if caller is not None:
            if call.screening is not None:
                caller = call.screening.caller
            if caller.data_class:
                width = CHARACTERS_MAX["data_class"]
                record.data_class = call_record.fitting(caller.data_class, width)
            try:
                record = self._append(record)
                if caller.receipts or _RECEIPT in call.request.headers:
                    call.receipt = self._receipt_of(record)
            except self._full as error:
                # The answer is complete but for its last byte, which now never leaves.
                call.error = ApiError("journal_full", f"The call was not recorded: {error}.")
        call.record = record
        self._observe(record)
        return record

    def _keep_case(self, call: Call, screening: Screening) -> None:
        """Append what people are to see of the call. Whoever has no room for it has none for the
        record that follows."""
        case = screening.case(call)
        if case is None:
            return
        try:
            self._journal.append(case_record.encode(case))
        except ValueError:  # too long with its texts
            self._journal.append(case_record.encode(structs.replace(case, sealed=b"")))
        except self._full as error:
            call.error = ApiError("journal_full", f"The call was not recorded: {error}.")

    def _append(self, record: CallRecord) -> CallRecord:
        """Returns what was written."""
        record.sequence = number = self._numbers[0] + 1
        cost, charge = record.cost_pico, record.charge_pico
        if (cost and cost > AMOUNT_MAX) or (charge and charge > AMOUNT_MAX):
            record = call_record.reduced(record)
        try:
            self._journal.append(call_record.encode(record))
        except (ValueError, OverflowError):
            # Too large, or with a number that no record holds: less of it is still on record.
            record = call_record.reduced(record)
            self._journal.append(call_record.encode(record))
        self._numbers[0] = number
        return record

    def _price(self, record: CallRecord, call: Call) -> None:
        """What the customer pays, where that may be another amount than what the upstream is
        owed, at which `record_of` has it sold."""
        answered = call.answered_by
        if answered is None:
            return
        upstream, offer = answered.candidate.upstream, answered.candidate.offer
        if upstream.tenant:
            # The tenant pays the vendor itself.
            record.charge_pico = upstream.call_fee_micro_cny * PICO_PER_MICRO
            record.charge_currency = OWN_UPSTREAM_PRICE.currency
            record.charge_version = OWN_UPSTREAM_PRICE.version
            return
        price = None
        if self._served.sells:
            directory = self._served.directory(record.tenant)
            price = directory.selling_price(record.model_asked, offer, record.started_ms / 1e3)
        if price is None:
            price = offer.price
            if price is None or answered.delivered is None:
                return  # sold at cost, which is known by now, or known not to be
        usage = answered.delivered or answered.usage or _NO_USAGE
        record.charge_pico = _cost(usage, price, record.thinking, record.started_ms)
        record.charge_currency = price.currency
        record.charge_version = price.version

    def _price_hit(self, record: CallRecord, entry: CacheEntry, share: int) -> None:
        """The customer pays a share of what the answer would cost, in millionths."""
        if entry.price_version == OWN_UPSTREAM_PRICE.version:
            return
        directory = self._served.directory(record.tenant)
        price = directory.selling_price(record.model_asked, None, record.started_ms / 1e3)
        if price is not None:
            usage = Usage(entry.prompt_tokens, entry.completion_tokens)
            whole = _cost(usage, price, False, record.started_ms)
            record.charge_currency, record.charge_version = price.currency, price.version
        else:
            whole = entry.cost_pico or 0
            record.charge_currency, record.charge_version = entry.currency, entry.price_version
        record.charge_pico = whole * share // PER_MILLION


def begun(call: Call, name: str) -> CallRecord:
    """Who called, and how it ended: what is on record of every call."""
    request = call.request
    record = CallRecord(request.id, request.started_ms, request.api_format.name)
    record.gateway = name
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
        record.status, record.outcome, record.fault, record.error = _failure(call, error)
    return record


def record_of(call: Call, now: float, name: str = "", unsent: int = 0) -> CallRecord:
    """The record of a call that ends now, sold at cost; see `CallRecord` for units.

    Nothing is charged where no answer was given: what upstreams are owed stands on its attempts.

    Args:
        name: of this process.
        unsent: bytes of the answer that are still to be sent.
    """
    request, parsed, attempts, error = call.request, call.parsed, call.attempts, call.error
    caller, began = call.caller or _NOBODY, request.received_at
    answered, offer, usage = None, _NO_OFFER, _NO_USAGE
    tries: list[AttemptRecord] = []
    finish_reason, first_token_ms, thinking = "", None, False
    cost_pico: int | None = 0
    if attempts:
        last = attempts[-1]
        answered = last if error is None else call.answered_by
        offer = last.candidate.offer
        finish_reason = last.finish_reason
        if finish_reason not in _USUAL_ENDS:
            finish_reason = call_record.fitting(finish_reason, WORD_CHARACTERS_MAX)
        if last.first_token_at is not None:
            first_token_ms = (last.first_token_at - began) * 1e3
        if answered is not None:
            usage = answered.delivered or answered.usage or _NO_USAGE
            thinking = last.thinking or usage.reasoning_tokens > 0
            cost_pico = _owed(answered, request.started_ms)
        tries = [_attempt_record(last, answered, cost_pico, request)]
        if len(attempts) > 1:
            tries = _attempt_records(attempts, answered, cost_pico, request)
    trace_id = _trace_id(request) if b"traceparent" in request.headers else request.id
    status, outcome, fault, code = (200, "ok", "", "") if error is None else _failure(call, error)
    decision = call.decision
    route, reason, propensity = _NO_CHOICE if decision is None else _explained(call, decision)
    price = offer.price
    version, currency = ("", "") if price is None else (price.version, price.currency)
    # By position: a third of the instructions of setting so many fields one by one. In two
    # tuples, as more than thirty arguments, or items of a tuple, pass through a list that grows.
    begins = (
        request.id, request.started_ms, request.api_format.name,
        caller.tenant, caller.project, caller.environment, caller.key_id,
        call_record.fitting(parsed.model, MODEL_CHARACTERS_MAX), offer.model, offer.upstream,
        tries, status, outcome, fault, code, parsed.stream,
        usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.reasoning_tokens,
        usage.source, version, currency, cost_pico, call.cache.outcome, call.moderation,
    )  # fmt: skip
    ends = (
        first_token_ms, (now - began) * 1e3, request.bytes_in, call.writer.bytes_out + unsent,
        finish_reason, trace_id, "" if call.tags is NO_TAGS else call.tags.line,
        call.snapshot_version, usage.cache_write_tokens, usage.cache_write_1h_tokens,
        usage.audio_prompt_tokens, usage.image_prompt_tokens, usage.audio_completion_tokens,
        thinking, route, reason, propensity, caller.account, name,
        cost_pico, currency, "" if answered is None else version,
    )  # fmt: skip
    record = CallRecord(*(begins + ends))
    if call.cache is not NOT_CACHED:
        _note_cache(record, call)
    if attempts:
        if parsed.choices != 1 or parsed.prompts != 1:
            record.requests = parsed.requests
        if answered is not last or len(attempts) > 1:
            _give_reasons(record, answered)
    return record


def hit_record_of(
    call: Call, key: str, entry: CacheEntry, now: float, name: str = "", unsent: int = 0
) -> CallRecord:
    """The record of a call that was given a cached answer, free of charge: `record_of` it, in a
    third of the instructions, and what the answer saved.

    Args:
        key: of the answer, in hex.
        name: of this process.
        unsent: bytes of the answer that are still to be sent.
    """
    request, parsed, cache, caller = call.request, call.parsed, call.cache, call.caller or _NOBODY
    started_ms = request.started_ms
    age_s = started_ms / 1e3 - entry.stored_s
    trace_id = _trace_id(request) if b"traceparent" in request.headers else request.id
    return CallRecord(
        request.id, started_ms, request.api_format.name,
        caller.tenant, caller.project, caller.environment, caller.key_id,
        call_record.fitting(parsed.model, MODEL_CHARACTERS_MAX), entry.model_served, "",
        [], 200, "ok", "", "", parsed.stream, 0, 0, 0, 0,
        "cache", "", entry.currency, 0, cache.outcome, call.moderation,
        None, (now - request.received_at) * 1e3, request.bytes_in, call.writer.bytes_out + unsent,
        "", trace_id, "" if call.tags is NO_TAGS else call.tags.line,
        call.snapshot_version, 0, 0, 0, 0, 0,
        False, [], "", 1.0, caller.account, name,
        0, "", "", "", key,
        entry.prompt_tokens + entry.completion_tokens, entry.cost_pico or 0,
        cache.hit_confidence, age_s if age_s > 0.0 else 0.0,
    )  # fmt: skip


def _failure(call: Call, error: ApiError) -> tuple[int, str, str, str]:
    """Status, outcome, fault and code of a call that did not go well."""
    if call.partial:
        return 200, "partial", error.kind.fault, error.code
    return error.status, error.code, error.kind.fault, error.code


def _note_cache(record: CallRecord, call: Call) -> None:
    cache = call.cache
    if cache.reason:
        record.cache_reason = cache.reason
    if cache.hit_confidence:
        record.cache_confidence = cache.hit_confidence
    if cache.hit is not None:
        record.cache_key = cache.hit.name
        if cache.hit.entry is not None:
            record.cache_age_s = max(0.0, record.started_ms / 1e3 - cache.hit.entry.stored_s)


def _owed(attempt: Attempt, started_ms: int) -> int | None:
    """What an upstream is owed for an attempt; None when its price is unknown."""
    price, usage = attempt.candidate.offer.price, attempt.usage
    if price is None:
        return None
    if usage is None:
        return 0
    if len(price.tiers) == 1:
        return tier_cost(usage, price.tiers[0])
    return _cost(usage, price, attempt.thinking or usage.reasoning_tokens > 0, started_ms)


def _cost(usage: Usage, price: Price, thinking: bool, started_ms: int) -> int:
    if len(price.tiers) == 1:
        return tier_cost(usage, price.tiers[0])
    return cost_of(usage, price, Occasion(thinking, started_ms / 1e3))


def _explained(call: Call, decision: Decision) -> tuple[list[RouteRecord], str, float]:
    """The candidates that were compared, why the one was chosen, and how likely that was."""
    if len(decision.weighed) < 2 and not decision.filtered and not decision.left_out:
        return _NO_CHOICE
    request = call.request
    # Where somebody may ask why, and of a sample.
    of_note = (
        not decision.obvious
        or request.id[-1] == TABLE_ON_RECORD
        or call.error is not None
        or len(call.attempts) > 1
        or b"x-tc-route" in request.headers
    )
    return _table(decision) if of_note else [], decision.reason, decision.propensity


def _table(decision: Decision) -> list[RouteRecord]:
    """The candidates of the first choice."""
    table = [
        RouteRecord(endpoint.name, first_token_s * 1e3, cost_pico, load, meets_slo)
        for endpoint, first_token_s, cost_pico, load, meets_slo, _ in decision.weighed
    ]
    if decision.filtered or decision.left_out:
        for name, why in (*decision.filtered, *decision.left_out)[:ROUTE_ROWS_MAX]:
            table.append(RouteRecord(name, excluded=why))
    return table


def _attempt_record(
    attempt: Attempt, answered: Attempt | None, cost_pico: int | None, request: CallRequest
) -> AttemptRecord:
    """
    Args:
        cost_pico: of the attempt that answered.
    """
    began, first, ended = request.received_at, attempt.first_byte_at, attempt.ended_at
    offer, usage = attempt.candidate.offer, attempt.usage
    price, version, currency = offer.price, "", ""
    if usage is None:
        usage, cost_pico = _NO_USAGE, 0
    else:
        if price is not None:
            version, currency = price.version, price.currency
        if attempt is not answered:
            cost_pico = _owed(attempt, request.started_ms)
    made = AttemptRecord(
        offer.upstream,
        (attempt.started_at - began) * 1e3,
        None if first is None else (first - began) * 1e3,
        None if ended is None else (ended - began) * 1e3,
        attempt.outcome,
        usage.prompt_tokens, usage.completion_tokens,
        offer.model,
        usage.cached_tokens, usage.reasoning_tokens,
        usage.source,
        version, currency, cost_pico,
    )  # fmt: skip
    if attempt is not answered and usage.prompt_tokens + usage.completion_tokens:
        made.overhead = Overhead.FAILOVER
    return made


def _attempt_records(
    attempts: Sequence[Attempt],
    answered: Attempt | None,
    cost_pico: int | None,
    request: CallRequest,
) -> list[AttemptRecord]:
    return [_attempt_record(attempt, answered, cost_pico, request) for attempt in attempts]


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


def _trace_id(request: CallRequest) -> str:
    """The caller's W3C trace id, or the call's own id where it is none."""
    parts = request.headers[b"traceparent"].split(b"-")
    valid = len(parts) >= 4 and len(parts[1]) == 32 and parts[1].isalnum()
    return parts[1].decode() if valid else request.id
