"""One call while it is being served."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from tokenschain.core.cache.store import Entry
from tokenschain.core.call_record import CallRecord, HitKind
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.formats.formats import ApiFormat
from tokenschain.core.formats.openai_chat import UNREAD
from tokenschain.core.pricing.catalog import Usage
from tokenschain.core.routing.selection import Decision
from tokenschain.core.snapshot import Candidate
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
        """Whether a stream's bytes may pass as they came: the door speaks OpenAI's chat."""

    def begin_stream(self, call: Call) -> None:
        """Commit to a streamed answer; nothing happens the second time."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are; only where `takes_raw`."""

    def event(self, data: bytes) -> None:
        """Send one canonical chunk in the door's own form."""

    def close(self, call: Call, last: bytes) -> None:
        """Send the last bytes, or `call.error` in the form the answer has by now."""


class Hit(NamedTuple):
    """An answer that was given before."""

    kind: HitKind
    entry: Entry | None
    """None until the answer of a call in flight is complete."""
    key: bytes


class Attempt:
    """One upstream tried for a call. Times are monotonic seconds."""

    __slots__ = (
        "candidate",
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
        self.finish_reason = ""
        self.thinking = False
        """Whether thinking was asked for; prices may depend on it."""


class Call:
    """A request on its way through the house."""

    __slots__ = (
        "api_format",
        "attempts",
        "body",
        "bytes_in",
        "cache",
        "caller",
        "client_address",
        "credential",
        "decision",
        "dropped",
        "emulated",
        "error",
        "headers",
        "hit",
        "hit_confidence",
        "id",
        "lookup",
        "parsed",
        "partial",
        "received_at",
        "record",
        "reservation",
        "resumable",
        "snapshot_version",
        "started_ms",
        "tags",
        "writer",
    )

    def __init__(
        self,
        id: str,
        api_format: ApiFormat,
        body: bytes,
        credential: bytes,
        headers: dict[bytes, bytes],
        writer: ResponseWriter,
        received_at: float,
        started_ms: int,
    ) -> None:
        self.id = id
        self.api_format = api_format
        self.body = body
        self.bytes_in = len(body)
        self.credential = credential
        self.headers = headers
        self.writer = writer
        self.received_at = received_at
        """Monotonic seconds."""
        self.started_ms = started_ms
        """Unix milliseconds."""
        self.client_address: Callable[[], str] = _nowhere
        """Where the caller is, looked up behind trusted proxies only."""
        self.caller: KeyGrant | None = None
        self.parsed = UNREAD
        """The checked body; read once the caller is known."""
        self.attempts: list[Attempt] = []
        self.error: ApiError | None = None
        self.partial = False
        """Broken off after the caller had a part of the answer."""
        self.record: CallRecord | None = None
        """Set when the call is settled."""
        self.reservation: object = None
        """What the quota step holds for the call; only that step looks inside."""
        self.tags: dict[str, str] | None = None
        """What the caller and its key say of the call; read when something needs them."""
        self.snapshot_version = ""
        self.decision: Decision | None = None
        """The first choice among upstreams."""
        self.cache = "bypass"
        """What the cache did: `bypass`, with a reason after a colon if there is one, `miss`, or
        the kind of the hit."""
        self.hit: Hit | None = None
        self.hit_confidence = 0.0
        """Estimated odds that the nearest kept answer is right for this question, given or not;
        0 where none was compared by meaning."""
        self.lookup: object = None
        """What the cache holds for the call; only that step looks inside."""
        self.resumable = False
        """Whether another upstream could go on with a stream that breaks off."""
        self.dropped: tuple[str, ...] = ()
        """Parameters the upstream does not offer and the call went without."""
        self.emulated: tuple[str, ...] = ()
        """Parameters the upstream does not offer and the platform made up for."""

    def blame_ourselves(self) -> None:
        """A fault of our own ended the call, unless something else had before."""
        if self.error is None:
            message = f"A fault of the platform; quote {self.id} when you report it."
            self.error = ApiError("internal_error", message)

    def forget_prompt(self) -> None:
        """Free the request's memory: a stream may outlast it by far."""
        self.body = b""
        if not self.resumable:
            self.parsed.fields = {}


def _nowhere() -> str:
    return ""


class WholeAnswer:
    """An answer that is all there; see `core.ports.Answer`."""

    __slots__ = ("_body",)

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def deliver(self, call: Call) -> bytes:
        return self._body

    def abort(self) -> None: ...

    def partial_output(self) -> PartialOutput | None:
        return None
