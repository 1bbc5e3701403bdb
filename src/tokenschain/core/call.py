"""One call while it is being served: its request and the result of each step.

Every field of `Call` is written by one step, which its docstring names; all others only read it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Protocol, TypeVar

import msgspec

from tokenschain.core.cache.store import CacheEntry
from tokenschain.core.call_record import CallRecord, HitKind
from tokenschain.core.errors import ApiError, Fault
from tokenschain.core.formats.bridged_request import NO_NAMES
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.formats.formats import ApiFormat
from tokenschain.core.formats.openai_chat import ParsedRequest
from tokenschain.core.moderation.case_record import CaseRecord
from tokenschain.core.moderation.verdict import EngineCost
from tokenschain.core.pricing.catalog import Usage
from tokenschain.core.routing.selection import Decision
from tokenschain.core.snapshot import Candidate, Plan
from tokenschain.core.tags import NO_TAGS, Tags
from tokenschain.core.tenancy import KeyGrant


class ResponseWriter(Protocol):
    """The way back to the caller. What is written after the caller left is dropped."""

    on_pause: Callable[[], None] | None
    """Called when the caller reads too slowly: stop producing."""
    on_resume: Callable[[], None] | None

    @property
    def bytes_out(self) -> int: ...

    @property
    def takes_raw(self) -> bool:
        """Whether a stream's bytes may pass as they came: the API is OpenAI's own."""

    def begin_stream(self, call: Call) -> None:
        """Commit to a streamed answer; nothing happens the second time."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are; only where `takes_raw`."""

    def event(self, data: bytes) -> None:
        """Send one canonical chunk in the API's own format."""

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        """Send an event of the API's own protocol as it came; `chunks` say the same."""

    def close(self, call: Call, last: bytes) -> None:
        """Send the last bytes, or `call.error` in the format the answer has by now."""


class CallerWriter(ResponseWriter, Protocol):
    """The caller's own way back."""

    @property
    def ends_long(self) -> bool:
        """Whether what ends a stream repeats all of it, and that is long."""

    def add_headers(self, lines: bytes) -> None:
        """Have header lines sent beside the usual ones; before the answer begins."""

    def complete(self, call: Call, last: bytes) -> bytes:
        """What ends the answer in the API's own format; nothing is sent yet.

        A call is settled when its answer is complete in that form: what cannot be said to the
        caller is not charged to it.

        Args:
            last: the whole canonical answer, or nothing where it was a stream.

        Raises:
            ApiError: `translation_failed`.
        """

    def keeps_long(self, call: Call, last: bytes) -> bool:
        """Whether the answer is to be stored and so long that `keep` takes its time."""

    def keep(self, call: Call, last: bytes) -> bytes:
        """Store an answer that is to be; before `close`, which does it otherwise.

        Args:
            last: what ends the answer.

        Returns:
            The same, which says so where it could not be stored.
        """


class CallRequest(msgspec.Struct, eq=False):
    """What came in; never changed, but that its body is let go of."""

    id: str
    api_format: ApiFormat
    body: bytes
    key_digest: bytes
    """Of the API key; empty where none was sent."""
    headers: dict[bytes, bytes]
    received_at: float
    """Monotonic seconds."""
    started_ms: int
    """Unix milliseconds."""
    client_address: Callable[[], str] = str
    """Where the caller is, looked up behind trusted proxies only."""
    bytes_in: int = 0


class Reservation(Protocol):
    """What the quota holds for a call until it is settled."""

    def settle(self, record: CallRecord) -> None:
        """Count what was really used instead; on every way out, once the call has its record."""

    def headers(self) -> bytes:
        """`x-ratelimit-*` lines, as OpenAI names them."""


class Hit:
    """A cached answer that a call is given."""

    __slots__ = ("_name", "entry", "key", "kind")

    def __init__(self, kind: HitKind, entry: CacheEntry | None, key: bytes) -> None:
        self.kind = kind
        self.entry = entry
        """None until the answer of a call in flight is complete."""
        self.key = key
        self._name = ""

    @property
    def name(self) -> str:
        """The key in hex, as callers and records name the answer."""
        if not self._name:
            self._name = self.key.hex()
        return self._name


class HeldBytes(Protocol):
    """Bytes that are kept for a call, of a budget."""

    def grow(self, amount: int) -> None:
        """Count more.

        Raises:
            ApiError: `overloaded`: there is no room; nothing was counted.
        """

    def release(self) -> None:
        """Give all back."""


class Deliverable(Protocol):
    """See `core.ports.Answer`."""

    def deliver(self, call: Call) -> bytes | Coroutine[None, None, bytes]: ...

    def abort(self) -> None: ...


Opened = TypeVar("Opened", bound=Deliverable)


class Screening(Protocol):
    """What moderation does for a call that a policy is for."""

    @property
    def caller(self) -> KeyGrant:
        """Who calls, with the data classes of what was found in the request."""

    @property
    def may_cache(self) -> bool:
        """Whether the cache may be asked, and keep the answer."""

    @property
    def plan(self) -> Plan | None:
        """What may serve the call, where a policy asks for filed models; None: all of its plan."""

    @property
    def engine_costs(self) -> list[EngineCost]:
        """What moderation engines are owed for the call."""

    def filing_of(self, upstream: str, model: str) -> str:
        """The number under which a model answered; empty where no policy asks for one."""

    def around(self, call: Call, writer: ResponseWriter) -> ResponseWriter:
        """A writer that screens what it passes on."""

    def beside(
        self, call: Call, opening: Coroutine[None, None, Opened]
    ) -> Coroutine[None, None, Opened]:
        """Open an upstream, unless the request is blocked meanwhile.

        Raises:
            ApiError: `content_filter`, or `moderation_unavailable`.
        """

    def deliver(self, call: Call, answer: Deliverable) -> Coroutine[None, None, bytes]:
        """Deliver an answer, screened; see `core.ports.Answer.deliver`."""

    def end(self) -> None:
        """The call is over: nothing is waited for any more."""

    def case(self, call: Call) -> CaseRecord | None:
        """What people are to see of the call; None where they are to see nothing."""


class InFlight(Protocol):
    """A call that identical ones may wait for (single flight), and whose answer may be kept."""

    def recorder(self, writer: ResponseWriter) -> ResponseWriter:
        """A writer that also passes the answer on to the calls that wait."""

    def goes_on(self, cancel: Callable[[], None]) -> bool:
        """The caller left. Whether the answer is made to its end, since others wait for it.

        Args:
            cancel: called when none of them does any more.
        """

    def settle(self, call: Call, last: bytes) -> None:
        """Keep what the call was answered, if it may be; on every way out, after its record.

        Args:
            last: the whole answer, or nothing where it was a stream.
        """


class CacheResult:
    """What the response cache did for a call."""

    __slots__ = ("hit", "hit_confidence", "in_flight", "outcome", "reason")

    def __init__(self, outcome: str, reason: str = "") -> None:
        self.outcome = outcome
        """`bypass`, `miss`, or the kind of the hit."""
        self.reason = reason
        """Why it was bypassed; of a miss `LEARNING`, `UNAVAILABLE`, or nothing."""
        self.hit: Hit | None = None
        self.hit_confidence = 0.0
        """Estimated probability that the nearest cached answer is right for this question, given
        or not; 1 for the very same question, 0 where none was compared."""
        self.in_flight: InFlight | None = None
        """Set where others may wait for this call's answer."""

    @property
    def text(self) -> str:
        """As in `x-tc-cache`: the outcome, with the reason after a colon if there is one."""
        return f"{self.outcome}:{self.reason}" if self.reason else self.outcome


NOT_CACHED = CacheResult("bypass")
"""Of calls that no cache was asked about; never changed."""


class Attempt:
    """One upstream tried for a call. Times are monotonic seconds."""

    __slots__ = (
        "candidate",
        "delivered",
        "ended_at",
        "finish_reason",
        "first_byte_at",
        "first_token_at",
        "outcome",
        "started_at",
        "thinking",
        "usage",
    )

    def __init__(self, candidate: Candidate, started_at: float) -> None:
        self.candidate = candidate
        self.started_at = started_at
        self.first_byte_at: float | None = None
        self.first_token_at: float | None = None
        self.ended_at: float | None = None
        self.outcome = "open"
        self.usage: Usage | None = None
        """What the upstream is owed for; None when it produced nothing."""
        self.delivered: Usage | None = None
        """What the caller had of it, where that is not `usage`: the whole of a stream that began
        at another upstream."""
        self.finish_reason = ""
        self.thinking = False
        """Whether thinking was asked for; prices may depend on it."""


class Call(msgspec.Struct, eq=False):
    """A request on its way through the steps of `gateway.pipeline`, with what each made of it."""

    request: CallRequest
    writer: CallerWriter
    """The way back to the caller; the API's, and only the API's to close."""
    output: ResponseWriter
    """Where the answer goes: `writer`, or what the pipeline put around it."""
    parsed: ParsedRequest
    """By the pipeline, like `takes_long`: the checked body; `UNREAD` until then."""
    caller: KeyGrant | None = None
    """By authentication, like the next two; with the data classes that moderation found by the
    pipeline."""
    tags: Tags = NO_TAGS
    snapshot_version: str = ""
    goes_on_from: tuple[str, ...] = ()
    """By the conversation state: the models of the stored conversation that it goes on from."""
    takes_long: bool = False
    """By the pipeline: whether to read or write the whole request takes so long that it is done
    off the loop."""
    reservation: Reservation | None = None
    """By the quota, before anything is taken: a refusal shows its limits, too."""
    screening: Screening | None = None
    """By moderation, like the next three; None where no policy is for the call."""
    moderation: str = "not_scanned"
    """See `CallRecord.moderation`."""
    moderation_detail: str = ""
    reads_answer: bool = False
    """Whether the answer is read or written to on its way, in the canonical form:
    nothing of it passes as it came."""
    cache: CacheResult = NOT_CACHED
    """By the cache."""
    decision: Decision | None = None
    """By dispatch, like the next: the first choice among upstreams."""
    resumable: bool = False
    """Whether another upstream could go on with a stream that breaks off."""
    attempts: list[Attempt] = []
    """By the upstreams, like what follows; the one whose answer is given is the last."""
    dropped: tuple[str, ...] = ()
    """Parameters the upstream does not offer and the call went without."""
    emulated: tuple[str, ...] = ()
    """Parameters the upstream does not offer and the platform made up for."""
    adapted: tuple[str, ...] = ()
    """Parts of the request that were written in another way for the upstream."""
    freeform: frozenset[str] = frozenset()
    """Freeform tools that the upstream knows as functions: calls of them are turned back."""
    called_by_schema: bool = False
    """Whether the upstream was made to write a call as JSON: see `formats.forced_calls`."""
    tool_names: Mapping[str, str] = NO_NAMES
    """The caller's names of tools that the upstream knows by others."""
    older_functions: bool = False
    """Whether `functions` were sent as `tools`: a call is to come back as `function_call`."""
    relays: bool = False
    """Whether the upstream speaks the caller's API: its answer passes as it is."""
    native_answer: bytes = b""
    """By the answer that is delivered, where `relays`: a whole answer as it came."""
    partial: bool = False
    """By the answer that is delivered: begun and not complete. With an error at the end, the
    caller has had a part of it."""
    record: CallRecord | None = None
    """By metering, when the call is settled; like the next."""
    receipt: str = ""
    """What the caller may ask the audit log by, where it wants that; see `core.audit.receipt`."""
    held: HeldBytes | None = None
    """By the upstreams: what is kept of their answers; whoever made the call releases it."""
    error: ApiError | None = None
    """What the caller is told instead of an answer; see `fail`."""

    def fail(self, error: ApiError) -> None:
        """The call ends with an error, unless it had failed before: the first cause is told."""
        if self.error is None:
            self.error = error

    def blame_ourselves(self) -> None:
        """A fault of our own ended the call, unless something else had before."""
        message = f"A fault of the platform; quote {self.request.id} when you report it."
        self.fail(ApiError("internal_error", message))

    @property
    def answered_by(self) -> Attempt | None:
        """The attempt that the caller had its answer of, or a part of it; None where it had an
        error instead.

        Who leaves pays for what was produced for it until then. A fault of the platform costs
        the caller nothing, whatever had been sent.
        """
        error = self.error
        if not self.attempts:
            return None
        last = self.attempts[-1]
        if error is None:
            return last
        if error.code in _LEFT:
            return last if last.outcome in ("ok", *_LEFT) else None
        had_a_part = self.partial and error.kind.fault is not Fault.PLATFORM
        return last if had_a_part else None

    @property
    def has_whole_answer(self) -> bool:
        """Whether the answer is all there; its caller may have left before its end."""
        if self.error is not None and self.error.code not in _LEFT:
            return False
        if not self.attempts or self.partial:
            return False
        return self.error is None or self.attempts[-1].outcome == "ok"

    def together_with(self, parsed: ParsedRequest) -> Call:
        """A call of the same caller that asks for several at once; see `gateway.dispatch`."""
        request = msgspec.structs.replace(self.request, body=b"")
        other = Call(request, self.writer, self.writer, parsed)
        other.caller = self.caller
        return other

    def forget_prompt(self) -> None:
        """Free the request's memory: a stream may outlast it by far."""
        self.request.body = b""
        if not self.resumable:
            self.parsed.fields = {}
            if self.parsed.native is not None:
                for name in ("messages", "system", "input"):
                    self.parsed.native.fields.pop(name, None)


_LEFT = ("caller_gone", "caller_stalled")


class WholeAnswer(msgspec.Struct, frozen=True, gc=False):
    """An answer that is all there; see `core.ports.Answer`."""

    body: bytes
    native: bytes = b""
    """The same in the caller's own protocol, where it came so."""

    def deliver(self, call: Call) -> bytes:
        if self.native:
            call.relays, call.native_answer = True, self.native
        return self.body

    def abort(self) -> None: ...

    def partial_output(self) -> PartialOutput | None:
        return None
