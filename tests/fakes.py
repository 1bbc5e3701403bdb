"""Fakes for the pipeline's ports, each as small as its port allows."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tokenschain.core.call import Attempt, CacheResult, Call, CallRequest, ResponseWriter
from tokenschain.core.call_record import CallRecord
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.formats.formats import API_FORMATS, ApiFormat
from tokenschain.core.formats.openai_chat import UNREAD, ParsedRequest
from tokenschain.core.log_events import silent
from tokenschain.core.ports import Answer, NoCache, NoModeration, NoQuota
from tokenschain.core.pricing.catalog import Price, PriceTier
from tokenschain.core.snapshot import (
    Candidate,
    ModelRoute,
    Offer,
    Plan,
    Served,
    Snapshot,
    Upstream,
)
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.router import Router
from tokenschain.gateway.pipeline import Steps
from tokenschain.infra.security.suite import INTERNATIONAL

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
CHAT = API_FORMATS[0]
KEY_DIGEST = INTERNATIONAL.digest(b"key")
GRANT = KeyGrant("key_1", "t", "p", "e")


class FakeResponseWriter:
    """Remembers what the caller got, in `log`, in order with what was settled."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.bytes_out = 0
        self.takes_raw = True
        self.ends_long = False

    def begin_stream(self, call: Call) -> None:
        self.log.append("begin")

    def write(self, data: bytes) -> None:
        self.log.append(data.decode())

    def event(self, data: bytes) -> None:
        self.log.append(data.decode())

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        self.log.append(data.decode())

    def complete(self, call: Call, last: bytes) -> bytes:
        return last

    def keeps_long(self, call: Call, last: bytes) -> bool:
        return False

    def keep(self, call: Call, last: bytes) -> bytes:
        return last

    def close(self, call: Call, last: bytes) -> None:
        self.log.append(f"close {call.error.code if call.error else last.decode()}")


def price(at: int) -> Price:
    """Each upstream costs more than the one before, so that they are asked in order."""
    return Price("CNY", (PriceTier(100 + at, 100 + at),), "test")


def call_of(body: bytes, log: list[str] | None = None, api_format: ApiFormat = CHAT) -> Call:
    """A call as the API would begin it; what its caller gets stands in `log`."""
    request = CallRequest("req_1", api_format, body, KEY_DIGEST, {}, 0.0, 0, bytes_in=len(body))
    writer = FakeResponseWriter([] if log is None else log)
    return Call(request, writer, writer, UNREAD)


class FakeAnswer:
    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    async def deliver(self, call: Call) -> bytes:
        for piece in self.pieces[:-1]:
            call.writer.write(piece.encode())
        return self.pieces[-1].encode()

    def abort(self) -> None: ...

    def partial_output(self) -> PartialOutput | None:
        return None


class FakeHouse:
    """All steps: upstreams answer with pieces, or raise what they are given."""

    def __init__(self, **upstreams: list[str] | Exception) -> None:
        self.upstreams = upstreams
        self.log: list[str] = []
        self.room: ApiError | None = None
        router = Router(self.served(), lambda: 0.0, lambda: 0.0, lambda: 0.5)
        dispatch = Dispatch(router, self, lambda: 0.0, lambda: 0.5, silent)
        self.steps = Steps(self, self, self, router, NoQuota(), NoModeration(), NoCache(), dispatch)

    def call(self, body: bytes = BODY) -> Call:
        return call_of(body, self.log)

    def admit(self, call: Call) -> None:
        if self.room is not None:
            raise self.room

    def settle(self, call: Call, unsent: int = 0) -> CallRecord:
        self.log.append(f"settle {call.error.code if call.error else 'ok'}")
        return CallRecord(call.request.id, 0, "")

    def authenticate(self, call: Call) -> KeyGrant:
        return GRANT

    async def load(self, call: Call, caller: KeyGrant) -> bytes:
        return call.request.body

    def served(self) -> Served:
        upstreams = {name: Upstream(name, "sim", "http://127.0.0.1/v1") for name in self.upstreams}
        offers = tuple(Offer(name, "m", price(at)) for at, name in enumerate(self.upstreams))
        return Served(Snapshot("1", upstreams, {"m": ModelRoute("m", "chat", offers)}))

    def can_resume(self, candidate: Candidate) -> bool:
        return False

    async def open(
        self, call: Call, candidate: Candidate, said: PartialOutput | None = None
    ) -> Answer:
        call.attempts.append(Attempt(candidate, 0.0))
        self.log.append(f"open {candidate.upstream.id}")
        outcome = self.upstreams[candidate.upstream.id]
        if isinstance(outcome, Exception):
            raise outcome
        return FakeAnswer(outcome)


class LoggedSteps:
    """All steps of the pipeline, each a line in `log`; one of them may fail.

    What `reserve` and `look_up` begin, they begin before they fail, as the real ones do.
    """

    def __init__(self, fails_at: str = "", failure: BaseException | None = None) -> None:
        self.log: list[str] = []
        self.hit = False
        """Whether the cache has the answer."""
        self._fails_at = fails_at
        self._failure = failure
        self.steps = Steps(self, self, self, self, self, self, self, self)

    def call(self) -> Call:
        return call_of(BODY, self.log, msgspec.structs.replace(CHAT, parse=self._parse))

    def _do(self, step: str) -> None:
        self.log.append(step)
        if step == self._fails_at and self._failure is not None:
            raise self._failure

    def admit(self, call: Call) -> None:
        self._do("admit")

    def authenticate(self, call: Call) -> KeyGrant:
        self._do("authenticate")
        call.caller = GRANT
        return GRANT

    async def load(self, call: Call, caller: KeyGrant) -> bytes:
        self._do("load conversation")
        return call.request.body + b" and what was said before"

    def _parse(self, body: bytes) -> ParsedRequest:
        assert body == BODY + b" and what was said before"
        self._do("parse")
        return CHAT.parse(BODY)

    def plan(self, call: Call, caller: KeyGrant) -> Plan:
        assert call.parsed.model == "m" and caller is GRANT
        self._do("plan")
        return Plan(ModelRoute("m", "chat", ()), ())

    async def reserve(self, call: Call, caller: KeyGrant, plan: Plan) -> None:
        call.reservation = LoggedReservation(self.log)
        self._do("reserve")

    async def screen_input(self, call: Call, caller: KeyGrant, plan: Plan) -> None:
        self._do("screen input")

    def ready(self, call: Call) -> None:
        return None

    def recall(self, call: Call, caller: KeyGrant, body: bytes) -> ParsedRequest | None:
        return None

    async def look_up(self, call: Call, caller: KeyGrant, plan: Plan) -> Answer | None:
        call.cache = CacheResult("miss")
        if self.hit:
            self._do("look up")
            return self
        call.cache.in_flight = LoggedFlight(self.log)
        self._do("look up")
        return None

    async def open(self, call: Call, caller: KeyGrant, plan: Plan) -> Answer:
        self._do("open")
        return self

    def explain(self, call: Call, caller: KeyGrant, plan: Plan) -> dict[str, object]:
        return {}

    async def deliver(self, call: Call) -> bytes:
        self._do("deliver")
        call.output.write(b"first")
        return b"last"

    def abort(self) -> None: ...

    def partial_output(self) -> PartialOutput | None:
        return None

    def settle(self, call: Call, unsent: int = 0) -> CallRecord:
        self._do("record")
        call.record = CallRecord(call.request.id, 0, "")
        return call.record


class LoggedReservation:
    def __init__(self, log: list[str]) -> None:
        self._log = log

    def settle(self, record: CallRecord) -> None:
        self._log.append("settle reservation")

    def headers(self) -> bytes:
        return b""


class LoggedFlight:
    """A single flight whose recorder shows in the log what passed through it."""

    def __init__(self, log: list[str]) -> None:
        self._log = log

    def recorder(self, writer: ResponseWriter) -> ResponseWriter:
        self._log.append("record the output")
        return FakeRecorder(self._log)

    def settle(self, call: Call, last: bytes) -> None:
        assert call.record is not None, "the record comes first: it says what was used"
        self._log.append(f"settle flight {last.decode()}".rstrip())


class FakeRecorder(FakeResponseWriter):
    def write(self, data: bytes) -> None:
        self.log.append(f"recorded {data.decode()}")
