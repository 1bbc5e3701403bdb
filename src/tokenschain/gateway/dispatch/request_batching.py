"""Request batching: small embedding and rerank calls of one project share a call upstream.

The first goes at once. While as many batches as there are lanes are under way, what comes waits,
and goes together when one comes back: an idle platform adds nothing, a busy one batches more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import NamedTuple

from tokenschain.core.call import Attempt, Call, WholeAnswer
from tokenschain.core.errors import ApiError, Fault
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.ports import Answer, Opening, delivered
from tokenschain.core.routing import request_batching
from tokenschain.core.routing.request_batching import BatchPart, Size
from tokenschain.core.snapshot import Plan
from tokenschain.core.tenancy import KeyGrant

LANES = 2
"""Batches under way at once for each kind: one is on the wire while one is worked on."""
KINDS_MAX = 10_000
_DECIDING = (b"x-tc-priority", b"x-tc-deadline-ms", b"x-tc-unsupported")
"""Headers that say how a call is served: one call's would hold for its whole batch."""
_CHAT = Api.CHAT


class _Member(NamedTuple):
    call: Call
    caller: KeyGrant
    plan: Plan
    part: BatchPart
    answer: asyncio.Future[bytes]
    """Cancelled when its caller leaves."""
    over: asyncio.Event
    """Set when nothing more comes of its batch for it."""


class _Lane:
    """Calls that may share a batch."""

    __slots__ = ("size", "under_way", "waiting")

    def __init__(self) -> None:
        self.size = Size()
        self.under_way = 0
        self.waiting: deque[_Member] = deque()


class Batching:
    """See `core.ports.Opening`; all but small calls of these two kinds pass straight on."""

    def __init__(self, opening: Opening, clock: Callable[[], float]) -> None:
        self._opening = opening
        self._clock = clock
        self._lanes: dict[tuple[object, ...], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.batches = 0
        self.texts = 0

    def explain(self, call: Call, caller: KeyGrant, plan: Plan) -> dict[str, object]:
        return self._opening.explain(call, caller, plan)

    def open(self, call: Call, caller: KeyGrant, plan: Plan) -> Coroutine[None, None, Answer]:
        parsed = call.parsed
        part = None if parsed.api is _CHAT else request_batching.part_of(parsed)
        if part is None:
            return self._opening.open(call, caller, plan)
        return self._open_part(call, caller, plan, part)

    async def _open_part(self, call: Call, caller: KeyGrant, plan: Plan, part: BatchPart) -> Answer:
        asked = (call.request.headers.get(name) for name in _DECIDING)
        key = (*request_batching.key_of(call.parsed, caller, plan), *asked)
        lane = self._lanes.get(key)
        if lane is None:
            if len(self._lanes) >= KINDS_MAX:
                self._lanes = {k: v for k, v in self._lanes.items() if v.under_way}
            lane = self._lanes.setdefault(key, _Lane())
        if lane.under_way < LANES:
            lane.under_way += 1
            began = self._clock()
            try:
                return await self._opening.open(call, caller, plan)
            finally:
                self._back(lane, self._clock() - began, len(part.texts))
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        member = _Member(call, caller, plan, part, answer, asyncio.Event())
        lane.waiting.append(member)
        try:
            return WholeAnswer(await answer)
        except asyncio.CancelledError:
            if member in lane.waiting:
                lane.waiting.remove(member)
            else:
                # Its share of the batch is known only then: who leaves owes it all the same, and
                # what is held for the call is given back after.
                await member.over.wait()
            raise

    def _back(self, lane: _Lane, took_s: float, texts: int) -> None:
        """A batch is over: the next one goes."""
        self.batches += 1
        self.texts += texts
        lane.size.took(took_s, texts)
        lane.under_way -= 1
        if lane.waiting:
            lane.under_way += 1
            task = asyncio.ensure_future(self._send(lane, self._next(lane)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self, lane: _Lane) -> list[_Member]:
        """The oldest, and others about as long."""
        first = lane.waiting.popleft()
        chosen, texts = [first], len(first.part.texts)
        for member in list(lane.waiting):
            more = len(member.part.texts)
            alike = abs(member.part.bucket - first.part.bucket) <= 1
            if alike and texts + more <= lane.size.texts:
                chosen.append(member)
                lane.waiting.remove(member)
                texts += more
        return chosen

    async def _send(self, lane: _Lane, members: list[_Member]) -> None:
        began = self._clock()
        places: dict[str, int] = {}
        wanted = [[places.setdefault(t, len(places)) for t in m.part.texts] for m in members]
        try:
            await self._ask(members, list(places), wanted)
        except Exception as fault:  # noqa: BLE001 - each call answers for it at its own border
            for member in members:
                _fail(member, fault)
        finally:
            for member in members:
                member.over.set()
            self._back(lane, self._clock() - began, len(places))

    async def _ask(self, members: list[_Member], texts: list[str], wanted: list[list[int]]) -> None:
        first = members[0]
        call = first.call
        joint = call.together_with(request_batching.together(call.parsed, texts))
        weights = [member.call.parsed.prompt_tokens_estimate for member in members]
        try:
            answer = await self._opening.open(joint, first.caller, first.plan)
            body = await delivered(answer, joint)
            attempt = joint.attempts[-1]
            assert attempt.usage is not None, "an answered attempt has its usage"
            parts = request_batching.apart(
                body, attempt.usage, [member.call.parsed for member in members], wanted, weights
            )
        except ApiError as error:
            if error.kind.fault is Fault.CALLER and len(members) > 1:
                await self._one_by_one(members)  # one of them is to blame
                return
            for member in members:
                self._note(member, joint.attempts, first)
                _fail(member, error)
            return
        except ValueError:
            # What the upstream counted for the batch is still owed.
            self._note(first, joint.attempts, first)
            await self._one_by_one(members)
            return
        finally:
            if joint.held is not None:
                joint.held.release()
        for member, (mine, usage) in zip(members, parts, strict=True):
            self._note(member, joint.attempts, first)
            member.call.attempts[-1].usage = usage
            member.call.decision = joint.decision
            if not member.answer.done():
                member.answer.set_result(mine)

    async def _one_by_one(self, members: list[_Member]) -> None:
        for member in members:
            if member.answer.cancelled():
                continue
            try:
                answer = await self._opening.open(member.call, member.caller, member.plan)
                body = await delivered(answer, member.call)
            except ApiError as error:
                _fail(member, error)
            else:
                if not member.answer.done():
                    member.answer.set_result(body)

    @staticmethod
    def _note(member: _Member, attempts: list[Attempt], first: _Member) -> None:
        """What was tried for the batch was tried for each of its calls; it is owed for once."""
        call = member.call
        for attempt in attempts:
            mine = Attempt(attempt.candidate, attempt.started_at)
            mine.first_byte_at = attempt.first_byte_at
            mine.first_token_at = attempt.first_token_at
            mine.ended_at = attempt.ended_at
            mine.outcome = attempt.outcome
            mine.usage = attempt.usage if member is first else None
            call.attempts.append(mine)


def _fail(member: _Member, error: Exception) -> None:
    if not member.answer.done():
        member.answer.set_exception(error)
