"""Simulated response cache: one for all gateways, exact and by meaning."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tokenschain.core.call import Call
from tokenschain.core.formats.continuation import PartialOutput
from tokenschain.core.ports import NoCache
from tokenschain.simulation.traces import Arrival

EXACT_S, BY_MEANING_S = 0.002, 0.015
"""What a hit takes: a look into Redis; and the embedding of a question besides."""
RECALL = 0.65
"""Share of other wordings of an answered question that are served: what the stream of Chinese FAQ
questions gave over what a judge who knew all answers would have given (docs/results)."""
_Wording = tuple[int, int]


class SimulatedAnswers:
    """What was answered so far, and what is being answered."""

    def __init__(self, recall: float, seed: int) -> None:
        self._recall = recall
        self._seed = seed
        self._answered: set[_Wording] = set()
        self._questions: set[int] = set()
        self._leaders: dict[_Wording, asyncio.Future[bool]] = {}

    async def find(self, arrival: Arrival) -> bool | None:
        """Whether there is an answer; None where others of the same wording will follow this call,
        which has to be closed then."""
        asked = arrival.question, arrival.wording
        if not arrival.question:
            return False
        if asked in self._answered:
            await asyncio.sleep(EXACT_S)
            return True
        if arrival.question in self._questions and self._is_recognized(asked):
            await asyncio.sleep(BY_MEANING_S)
            return True
        leader = self._leaders.get(asked)
        if leader is None:
            self._leaders[asked] = asyncio.get_running_loop().create_future()
            return None
        # As gateways do: what the first one is told, its followers are told as it comes.
        return await asyncio.shield(leader)

    def begin(self, arrival: Arrival) -> None:
        """An upstream has begun to answer."""
        leader = self._leaders.get((arrival.question, arrival.wording))
        if leader is not None and not leader.done():
            leader.set_result(True)

    def close(self, arrival: Arrival) -> None:
        """A call that others follow is over; whom it told nothing has to ask for itself."""
        leader = self._leaders.pop((arrival.question, arrival.wording))
        if not leader.done():
            leader.set_result(False)

    def add(self, arrival: Arrival) -> None:
        """An answer stands ready from now on."""
        if arrival.question:
            self._answered.add((arrival.question, arrival.wording))
            self._questions.add(arrival.question)

    def _is_recognized(self, asked: _Wording) -> bool:
        """The same for the same wording: the verifier does not change its mind."""
        draw = random.Random(f"{self._seed} {asked}")  # noqa: S311  # nosec B311  # to be repeated
        return draw.random() < self._recall


class SimulatedCache(NoCache):
    """The pipeline's step over it."""

    def __init__(self, answers: SimulatedAnswers) -> None:
        self._answers = answers

    async def look_up(self, call: Call, *_: object) -> _CachedAnswer | None:  # type: ignore[override]
        writer: Any = call.writer
        found = await self._answers.find(writer.arrival)
        writer.leads = found is None
        return _CachedAnswer() if found else None


class _CachedAnswer:
    """An answer that is there."""

    def deliver(self, call: Call) -> bytes:
        call.writer.begin_stream(call)
        return b""

    def abort(self) -> None: ...

    def partial_output(self) -> PartialOutput | None:
        return None
