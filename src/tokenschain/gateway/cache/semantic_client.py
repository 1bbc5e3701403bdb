"""Semantic cache client; a timeout or error is a miss."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable

import msgspec

from tokenschain.core.backoff import Backoff
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
from tokenschain.core.cache.store import CacheEntry, decode_entry, encode_entry
from tokenschain.core.call import Call, Hit
from tokenschain.core.call_record import HitKind
from tokenschain.core.log_events import Reporter
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.gateway.cache.lookup import UNANSWERED, Found

LEARN_MAX_S = 10.0
BACKOFF_S = 2.0
"""Pause after it failed or was too slow: a call waits for it once, not every call. While it
answers others, the pause is of the tenant alone whose look-up failed."""
REST_MAX_S = 30.0
"""The longest pause of one tenant's look-ups."""
THERE_S = 10.0
"""A process that answered so lately is there, and busy."""
FAILING_MAX = 3
"""Tenants that fail one after the other, without an answer between: it is not one of them."""
LEARN_QUEUE_MAX = 1_000
GROUPS_MAX = 10_000
_encode = msgspec.msgpack.Encoder().encode
_finding = msgspec.msgpack.Decoder(Finding).decode


class SemanticClient:
    """See `gateway.cache.lookup.SemanticLookup`."""

    def __init__(
        self,
        send: Callable[[str, bytes], Awaitable[bytes]],
        store_errors: tuple[type[Exception], ...],
        clock: Callable[[], float],
        report: Reporter,
        find_wait_max_s: float,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        """
        Args:
            send: sends a signed request and gives the answer's body.
            store_errors: what that raises.
            find_wait_max_s: how long a call waits to hear of a question that means the same.
            refusals: of `store_errors` those that say no more than that it refused one request.
            report: told `semantic_lost`, with why, and `semantic_back`.
        """
        self._send = send
        self._store_errors: tuple[type[Exception], ...] = (
            TimeoutError,
            msgspec.DecodeError,
            *store_errors,
        )
        self._refusals: tuple[type[Exception], ...] = (TimeoutError, *refusals)
        self._find_wait_max_s = find_wait_max_s
        self._clock = clock
        self._answered_s: float | None = None
        """When a look-up was answered last."""
        self._resting: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """By tenant: until when it is not asked for it, and after how long a pause."""
        self._failing: set[str] = set()
        """Tenants whose look-ups failed since the last answer."""
        self._backoff = Backoff(clock, BACKOFF_S, name="semantic", report=report)
        self._exact: Counter[str] = Counter()
        self._learning: OrderedDict[str, bool] = OrderedDict()
        """By group, as the last look-up said."""
        self._feedback = _Feedback(LEARN_QUEUE_MAX)

    @property
    def lost(self) -> str | None:
        """Why the process that compares questions does not answer; None while it does."""
        return self._backoff.why if self._backoff.is_lost else None

    def exact(self, call: Call) -> None:
        """An answer was given to the very same question."""
        self._exact[_group(call)] += 1

    async def find(self, call: Call, identity: Identity) -> Found:
        """See `gateway.cache.lookup.SemanticLookup.find`."""
        group = _group(call)
        tenant = _tenant_of(group)
        if self._backoff.wait_s or self._rests(tenant):
            return UNANSWERED
        asked = Find(identity.namespace, group, identity.question, self._exact.pop(group, 0))
        try:
            async with asyncio.timeout(self._find_wait_max_s):
                found = _finding(await self._send(FIND_PATH, _encode(asked)))
            self._answered(tenant)
            self._learning[group] = found.learning
            if len(self._learning) > GROUPS_MAX:
                self._learning.popitem(last=False)
            if not found.entry:
                return Found(None, found.hit_confidence, found.learning)
            hit = Hit(HitKind.SEMANTIC, decode_entry(found.entry), found.key)
            return Found(hit, found.hit_confidence)
        except self._store_errors as error:
            self._failed(tenant, error)
            return UNANSWERED

    def _rests(self, tenant: str) -> bool:
        found = self._resting.get(tenant)
        return found is not None and found[0] > self._clock()

    def _answered(self, tenant: str) -> None:
        self._answered_s = self._clock()
        self._resting.pop(tenant, None)
        self._failing.clear()
        self._backoff.answered()

    def _failed(self, tenant: str, error: Exception) -> None:
        """One tenant's questions may take long, or make it fail, and others' wait behind them: who
        goes on failing rests longer each time, so that the others are answered meanwhile. All rest
        where it cannot be reached, has not answered anybody lately, or fails several."""
        now, last = self._clock(), self._answered_s
        if isinstance(error, self._refusals):
            self._failing.add(tenant)
            pause_s = min(2 * self._resting.get(tenant, (0.0, BACKOFF_S / 2))[1], REST_MAX_S)
            self._resting[tenant] = now + pause_s, pause_s
            self._resting.move_to_end(tenant)
            if len(self._resting) > GROUPS_MAX:
                self._resting.popitem(last=False)
            lately = last is not None and now - last < THERE_S
            if lately and len(self._failing) < FAILING_MAX:
                return
        self._backoff.failed(str(error) or type(error).__name__)

    def is_learning(self, call: Call) -> bool | None:
        """See `gateway.cache.lookup.SemanticLookup.is_learning`."""
        return self._learning.get(_group(call))

    def learn(self, call: Call, identity: Identity, rules: CacheRules, entry: CacheEntry) -> None:
        """See `gateway.cache.lookup.SemanticLookup.learn`."""
        self._feedback.put(
            Learn(identity.namespace, _group(call), identity.key, identity.question,
                  encode_entry(entry), _false_hit_rate_max(call, rules))
        )  # fmt: skip

    def drop(self, call: Call, identity: Identity, rules: CacheRules, key: bytes) -> None:
        """See `gateway.cache.lookup.SemanticLookup.drop`."""
        self._feedback.put(
            Drop(identity.namespace, _group(call), key, _false_hit_rate_max(call, rules))
        )

    async def run(self) -> None:
        """Send feedback as it comes; returns only by cancellation."""
        while True:
            feedback = await self._feedback.next()
            if self._backoff.wait_s:
                await asyncio.sleep(self._backoff.wait_s)
            try:
                async with asyncio.timeout(LEARN_MAX_S):
                    path = DROP_PATH if isinstance(feedback, Drop) else LEARN_PATH
                    await self._send(path, _encode(feedback))
                self._backoff.answered()
            except self._store_errors as error:
                self._failed(_tenant_of(feedback.group), error)


class _Feedback:
    """What waits to be said, so much in all: tenants take turns, and where all is full, the one
    with most loses its oldest."""

    def __init__(self, held_max: int) -> None:
        self._held_max = held_max
        self._held = 0
        self._waiting: OrderedDict[str, deque[Learn | Drop]] = OrderedDict()
        self._some = asyncio.Event()

    def put(self, feedback: Learn | Drop) -> None:
        if self._held >= self._held_max:
            self._take(max(self._waiting, key=lambda name: len(self._waiting[name])))
        self._waiting.setdefault(_tenant_of(feedback.group), deque()).append(feedback)
        self._held += 1
        self._some.set()

    async def next(self) -> Learn | Drop:
        """The oldest of the tenant whose turn it is; waits for one."""
        while not self._held:
            self._some.clear()
            await self._some.wait()
        tenant = next(iter(self._waiting))
        self._waiting.move_to_end(tenant)
        return self._take(tenant)

    def _take(self, tenant: str) -> Learn | Drop:
        waiting = self._waiting[tenant]
        taken = waiting.popleft()
        self._held -= 1
        if not waiting:
            del self._waiting[tenant]
        return taken


def _tenant_of(group: str) -> str:
    return group.partition("/")[0]


def _group(call: Call) -> str:
    caller = call.caller
    assert caller is not None, "who asks is known"
    return f"{caller.tenant}/{caller.project}/{call.parsed.model}"


def _false_hit_rate_max(call: Call, rules: CacheRules) -> float:
    caller = call.caller
    assert caller is not None, "who asks is known"
    return rules.false_hit_rate_max_of(caller.tenant, caller.project, call.parsed.model)
