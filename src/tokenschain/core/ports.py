"""Ports of the pipeline: what each step of a call promises, and null steps for those left out.

A null step says what it does not do: the journal then reads `bypass` and
`not_scanned`, never `miss` or `passed`.

A step that seldom has to wait gives None when it is done, and else what is to be awaited: each
coroutine costs a call some 1,500 instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol, TypeVar

from tokenschain.core.call import Call
from tokenschain.core.call_record import CallRecord
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.formats.openai_chat import ParsedRequest
from tokenschain.core.moderation.verdict import (
    Direction,
    EngineContext,
    EngineVerdict,
    RiskFinding,
)
from tokenschain.core.snapshot import Candidate, Plan
from tokenschain.core.tenancy import KeyGrant

T = TypeVar("T")


class OffLoop(Protocol):
    """Where long work is done on what came from outside, so that no other call waits for it."""

    async def __call__(self, work: Callable[[], T], caller: KeyGrant | None = None) -> T:
        """What the work gives, or raises.

        Args:
            caller: whose turn it takes.

        Raises:
            ApiError: `overloaded`: too much work waits.
        """


class Answer(Protocol):
    """An upstream that has begun to answer."""

    def deliver(self, call: Call) -> bytes | Coroutine[None, None, bytes]:
        """Give the caller all but the last bytes; return those, at once where all is there.

        They are held back until the call's record is written.

        Raises:
            ApiError: the upstream failed or broke off.
        """

    def abort(self) -> None:
        """Give it up undelivered: the upstream is told to stop."""

    def partial_output(self) -> PartialOutput | None:
        """After it broke off: what the caller has, when another can safely go on."""


async def delivered(answer: Answer, call: Call) -> bytes:
    """What `Answer.deliver` gives, waited for if need be."""
    last = answer.deliver(call)
    return last if isinstance(last, bytes) else await last


class Auth(Protocol):
    def authenticate(self, call: Call) -> KeyGrant:
        """Who calls; also notes it, its tags and the snapshot on the call.

        Raises:
            ApiError: 401.
        """


class RoutePlanner(Protocol):
    def plan(self, call: Call, caller: KeyGrant) -> Plan:
        """What may serve the call, best first.

        Raises:
            ApiError: 403, 404 or 503.
        """


class ConversationState(Protocol):
    def load(self, call: Call, caller: KeyGrant) -> Coroutine[None, None, bytes] | None:
        """The call's body with the conversation written out that it goes on from; None where it
        names none.

        Raises:
            ApiError: 404, or 503 when it cannot be reached.
        """


Load = Callable[[Plan], float]
"""How full the upstreams of a plan are, the emptiest first: 0 to 1."""


class Quota(Protocol):
    def reserve(
        self, call: Call, caller: KeyGrant, plan: Plan
    ) -> Coroutine[None, None, None] | None:
        """Hold the call's estimated use as `call.reservation`; nothing where no limit applies.
        None where it is held by now.

        Raises:
            ApiError: 402, 429 or 503.
        """


class Moderation(Protocol):
    def screen_input(
        self, call: Call, caller: KeyGrant, plan: Plan
    ) -> Coroutine[None, None, None] | None:
        """Refuse what may not be asked; None where nothing is screened.

        Raises:
            ApiError: 400 `content_filter`, 403 `frozen` or `end_user_suspended`, 503
                `moderation_unavailable`.
        """

    async def classify(self, caller: KeyGrant, texts: Sequence[str]) -> list[list[RiskFinding]]:
        """What is in each of some texts, whatever a policy makes of it."""


class ModerationEngine(Protocol):
    """An engine that screens content elsewhere, as a cloud's content moderation does."""

    @property
    def name(self) -> str:
        """As in policies, records and metrics."""

    @property
    def takes_images(self) -> bool: ...

    async def screen(
        self,
        texts: Sequence[str],
        direction: Direction,
        context: EngineContext,
        images: Sequence[str] = (),
    ) -> EngineVerdict:
        """What is in the texts, all of them within `context.deadline_s`.

        Args:
            images: web addresses or data URLs, only where `takes_images`; findings in them count
                on from the texts.

        Raises:
            EngineFailed: there is no verdict; never anything else, but cancellation.
        """


class ReadyAnswer(Protocol):
    """A whole answer that stands ready for a request which came before letter by letter."""

    parsed: ParsedRequest
    """What the request says; not to be changed, since others say the same."""

    def holds(self, call: Call, plan: Plan) -> bool:
        """Whether it is still to be given, and to a call of this plan; counts as asking for it."""

    def give(self, call: Call) -> bytes:
        """The answer, under the id and time of a call that it `holds` for; noted on
        `call.cache`."""


class Cache(Protocol):
    def ready(self, call: Call) -> ReadyAnswer | None:
        """What stands ready for the very request, by the same key; nothing of it has been read or
        checked so far."""

    def recall(self, call: Call, caller: KeyGrant, body: bytes) -> ParsedRequest | None:
        """What a body says that the same key has sent before, letter by letter; None where that
        is not known: then it is parsed."""

    def look_up(
        self, call: Call, caller: KeyGrant, plan: Plan
    ) -> Coroutine[None, None, Answer | None] | None:
        """A cached answer to the same question by the same tenant; notes on `call.cache` what
        was found, and whether identical calls may wait for this one. None where nothing is
        cached.

        Raises:
            ApiError: `invalid_value` for `x-tc-cache`, `not_cached` when nothing else was wanted.
        """

    def explain(self, call: Call, caller: KeyGrant) -> dict[str, object]:
        """What the cache would do for the call; nothing is looked up."""


class Upstreams(Protocol):
    async def open(
        self, call: Call, candidate: Candidate, said: PartialOutput | None = None
    ) -> Answer:
        """Send the call upstream and wait until it begins to answer.

        Adds an `Attempt` to the call, and keeps its usage right on every way out.

        Args:
            said: what another upstream had said before it broke off: go on from there.

        Raises:
            ApiError: its kind says whether another upstream is worth trying.
        """

    def can_resume(self, candidate: Candidate) -> bool:
        """Whether the upstream goes on from an answer's beginning."""


class Opening(Protocol):
    async def open(self, call: Call, caller: KeyGrant, plan: Plan) -> Answer:
        """Find an upstream that begins to answer.

        Raises:
            ApiError: the call itself is to blame, no upstream has room, or the last one failed.
        """

    def explain(self, call: Call, caller: KeyGrant, plan: Plan) -> dict[str, object]:
        """Where the call would go now, and why; nothing is sent."""


class Metering(Protocol):
    def admit(self, call: Call) -> None:
        """Make sure that the call can be recorded.

        Raises:
            ApiError: 503 `journal_full`.
        """

    def settle(self, call: Call, unsent: int = 0) -> CallRecord:
        """Write the call's one record. Never raises for the caller's fault.

        Args:
            unsent: bytes of the answer that are sent once the record is written.
        """


async def on_loop(work: Callable[[], T], caller: KeyGrant | None = None) -> T:
    """See `OffLoop`: everybody waits."""
    return work()


class NoQuota:
    """Every key may use as much as it likes."""

    def reserve(self, call: Call, caller: KeyGrant, plan: Plan) -> None:
        return None


class NoModeration:
    """Nothing is screened."""

    async def classify(self, caller: KeyGrant, texts: Sequence[str]) -> list[list[RiskFinding]]:
        return [[] for _ in texts]

    def screen_input(self, call: Call, caller: KeyGrant, plan: Plan) -> None:
        return None


class NoCache:
    """Nothing is cached."""

    def ready(self, call: Call) -> None:
        return None

    def recall(self, call: Call, caller: KeyGrant, body: bytes) -> ParsedRequest | None:
        return None

    def look_up(self, call: Call, caller: KeyGrant, plan: Plan) -> None:
        return None

    def explain(self, call: Call, caller: KeyGrant) -> dict[str, object]:
        return {"mode": "off", "learning": None}
