"""Fakes for the pipeline's ports, each as small as its port allows."""

from __future__ import annotations

from collections.abc import Callable

from tokenschain.core.calls import Attempt, Call
from tokenschain.core.errors import ApiError
from tokenschain.core.forms import FORMS
from tokenschain.core.ports import Answer, NoCache, NoModeration, NoQuota
from tokenschain.core.snapshot import Candidate, ModelRoute, Offer, Plan, Upstream
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.pipeline import Steps

BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
GRANT = KeyGrant("key_1", "t", "p", "e")


class FakeOutlet:
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


class FakeAnswer:
    def __init__(self, pieces: list[str]) -> None:
        self.pieces = pieces

    async def deliver(self, call: Call) -> bytes:
        for piece in self.pieces[:-1]:
            call.outlet.write(piece.encode())
        return self.pieces[-1].encode()


class FakeHouse:
    """All steps: upstreams answer with pieces, or raise what they are given."""

    def __init__(self, **upstreams: list[str] | Exception) -> None:
        self.upstreams = upstreams
        self.log: list[str] = []
        self.room: ApiError | None = None
        self.steps = Steps(self, self, self, self, NoQuota(), NoModeration(), NoCache(), self)

    def call(self, body: bytes = BODY) -> Call:
        return Call("req_1", FORMS[0], body, b"key", {}, FakeOutlet(self.log), 0.0, 0)

    def admit(self, call: Call) -> None:
        if self.room is not None:
            raise self.room

    def settle(self, call: Call) -> None:
        self.log.append(f"settle {call.error.code if call.error else 'ok'}")

    def authenticate(self, call: Call) -> KeyGrant:
        return GRANT

    async def recall(self, call: Call, caller: KeyGrant) -> None: ...

    def plan(self, call: Call, caller: KeyGrant) -> Plan:
        candidates = tuple(
            Candidate(Upstream(name, "sim", "http://127.0.0.1/v1"), Offer(name, "m"))
            for name in self.upstreams
        )
        return Plan(ModelRoute("m", "chat", ()), candidates)

    async def open(self, call: Call, candidate: Candidate) -> Answer:
        call.attempts.append(Attempt(candidate, 0.0))
        self.log.append(f"open {candidate.upstream.id}")
        outcome = self.upstreams[candidate.upstream.id]
        if isinstance(outcome, Exception):
            raise outcome
        return FakeAnswer(outcome)
