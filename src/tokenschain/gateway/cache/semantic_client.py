"""Asks the process that compares questions; it being slow, broken or gone is a miss."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from tokenschain.core.cache.key import Identity
from tokenschain.core.cache.semantic_protocol import (
    DROP_PATH,
    FIND_PATH,
    LEARN_PATH,
    Drop,
    Find,
    Finding,
    Learn,
)
from tokenschain.core.cache.store import Entry, decode_entry, encode_entry
from tokenschain.core.call import Call, Hit
from tokenschain.core.call_record import HitKind
from tokenschain.core.snapshot.cache_rules import CacheRules

LEARN_MAX_S = 10.0
REST_S = 2.0
"""After silence it is left alone for so long."""
LEARN_QUEUE_MAX = 1_000
_encode = msgspec.msgpack.Encoder().encode
_finding = msgspec.msgpack.Decoder(Finding).decode


class SemanticClient:
    """See `gateway.cache.lookup.SemanticLookup`."""

    def __init__(
        self,
        send: Callable[[str, bytes], Any],
        store_errors: tuple[type[Exception], ...],
        clock: Callable[[], float],
        report: Callable[[str, str], None],
        find_wait_max_s: float,
    ) -> None:
        """
        Args:
            send: sends a signed request and gives the answer's body.
            store_errors: what that raises.
            find_wait_max_s: how long a call waits to hear of a question that means the same.
            report: told `(event, why)` when it is gone or back.
        """
        self._send = send
        self._store_errors: tuple[type[Exception], ...] = (
            TimeoutError,
            msgspec.DecodeError,
            *store_errors,
        )
        self._clock = clock
        self._report = report
        self._find_wait_max_s = find_wait_max_s
        self._rests_until = 0.0
        self._gone = False
        self._exact: Counter[str] = Counter()
        self._feedback: asyncio.Queue[Learn | Drop] = asyncio.Queue(LEARN_QUEUE_MAX)

    def exact(self, call: Call) -> None:
        """An answer was given to the very same question."""
        self._exact[_group(call)] += 1

    async def find(self, call: Call, identity: Identity, rules: CacheRules) -> Hit | None:
        """See `gateway.cache.lookup.SemanticLookup.find`."""
        if self._clock() < self._rests_until:
            return None
        group = _group(call)
        asked = Find(identity.namespace, group, identity.question, self._exact.pop(group, 0))
        try:
            async with asyncio.timeout(self._find_wait_max_s):
                found = _finding(await self._send(FIND_PATH, _encode(asked)))
            self._back()
            call.hit_confidence = found.hit_confidence
            return (
                Hit(HitKind.SEMANTIC, decode_entry(found.entry), found.key) if found.entry else None
            )
        except self._store_errors as error:
            self._lost(error)
            return None

    def learn(self, call: Call, identity: Identity, rules: CacheRules, entry: Entry) -> None:
        """See `gateway.cache.lookup.SemanticLookup.learn`."""
        self._publish(
            Learn(identity.namespace, _group(call), identity.key, identity.question,
                  encode_entry(entry), _false_hit_rate_max(call, rules))
        )  # fmt: skip

    def drop(self, call: Call, identity: Identity, rules: CacheRules, key: bytes) -> None:
        """See `gateway.cache.lookup.SemanticLookup.drop`."""
        self._publish(Drop(identity.namespace, _group(call), key, _false_hit_rate_max(call, rules)))

    def _publish(self, feedback: Learn | Drop) -> None:
        if not self._feedback.full():
            self._feedback.put_nowait(feedback)

    async def run(self) -> None:
        """Tell what was answered afresh; returns only by cancellation."""
        while True:
            feedback = await self._feedback.get()
            wait_s = self._rests_until - self._clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            try:
                async with asyncio.timeout(LEARN_MAX_S):
                    path = DROP_PATH if isinstance(feedback, Drop) else LEARN_PATH
                    await self._send(path, _encode(feedback))
                self._back()
            except self._store_errors as error:
                self._lost(error)

    def _lost(self, error: Exception) -> None:
        self._rests_until = self._clock() + REST_S
        if not self._gone:
            self._gone = True
            self._report("meaning_lost", str(error) or type(error).__name__)

    def _back(self) -> None:
        if self._gone:
            self._gone = False
            self._report("meaning_back", "")


def _group(call: Call) -> str:
    caller = call.caller
    assert caller is not None, "who asks is known"
    return f"{caller.tenant}/{caller.project}/{call.parsed.model}"


def _false_hit_rate_max(call: Call, rules: CacheRules) -> float:
    caller = call.caller
    assert caller is not None, "who asks is known"
    return rules.false_hit_rate_max_of(caller.tenant, caller.project, call.parsed.model)
