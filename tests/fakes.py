"""Fakes for the pipeline's ports, each as small as its port allows."""

from __future__ import annotations

from collections.abc import Callable

from tokenschain.core.call import Attempt, Call, CallRequest
from tokenschain.core.call_record import CallRecord
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.formats.formats import API_FORMATS, ApiFormat
from tokenschain.core.ports import Answer, NoCache, NoModeration, NoQuota
from tokenschain.core.pricing.catalog import Price, PriceTier
from tokenschain.core.snapshot import (
    Candidate,
    ModelRoute,
    Offer,
    Served,
    Snapshot,
    Upstream,
)
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.dispatcher import Dispatch
from tokenschain.gateway.dispatch.router import Router
from tokenschain.gateway.pipeline import Steps

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
CHAT = API_FORMATS[0]
GRANT = KeyGrant("key_1", "t", "p", "e")


class FakeResponseWriter:
    """Remembers what the caller got, in `log`, in order with what was settled."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.on_pause: Callable[[], None] | None = None
        self.on_resume: Callable[[], None] | None = None
        self.bytes_out = 0
        self.takes_raw = True

    def begin_stream(self, call: Call) -> None:
        self.log.append("begin")

    def write(self, data: bytes) -> None:
        self.log.append(data.decode())

    def event(self, data: bytes) -> None:
        self.log.append(data.decode())

    def close(self, call: Call, last: bytes) -> None:
        self.log.append(f"close {call.error.code if call.error else last.decode()}")


def price(at: int) -> Price:
    """Each upstream costs more than the one before, so that they are asked in order."""
    return Price("CNY", (PriceTier(100 + at, 100 + at),), "test")


def call_of(body: bytes, log: list[str] | None = None, api_format: ApiFormat = CHAT) -> Call:
    """A call as the API would begin it; what its caller gets stands in `log`."""
    request = CallRequest("req_1", api_format, body, b"key", {}, 0.0, 0, bytes_in=len(body))
    return Call(request, FakeResponseWriter([] if log is None else log))


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
        dispatch = Dispatch(router, self, lambda: 0.0, lambda: 0.5, lambda *_: None)
        self.steps = Steps(self, self, self, router, NoQuota(), NoModeration(), NoCache(), dispatch)

    def call(self, body: bytes = BODY) -> Call:
        return call_of(body, self.log)

    def admit(self, call: Call) -> None:
        if self.room is not None:
            raise self.room

    def settle(self, call: Call) -> CallRecord:
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
