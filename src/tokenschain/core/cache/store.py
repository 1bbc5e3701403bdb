"""Cache store in memory: S3-FIFO eviction per tenant, weighted by the cost saved.

Whether a call may take from the cache or leave something in it is decided by policy, by the
caller's `x-tc-cache` and by the answer itself; each refusal has a reason.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable

import msgspec

SMALL_SHARE = 0.1
FREQUENCY_MAX = 3
"""S3-FIFO (SOSP 2023): a tenth for newcomers, two bits of frequency."""
COSTLY_WEIGHT = 3
"""A request for an answer that saves more than others, for its size, counts as so many."""
WORTH_MEMORY = 0.999
LOOKED_AT = 8
"""Tenants, of which the one with most answers gives way."""
ENTRY_OVERHEAD_BYTES = 400
TTL_JITTER = 0.1


class CacheEntry(msgspec.Struct, array_like=True):
    """One answer as it is kept: canonical and whole, whatever form it was given in first."""

    body: bytes
    tenant: str
    model_served: str
    stored_s: float
    """Unix time."""
    expires_s: float
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_pico: int | None = None
    """What it cost then; None when the price was unknown."""
    currency: str = ""
    price_version: str = ""
    tags: tuple[str, ...] = ()
    question: str = ""


encode_entry = msgspec.msgpack.Encoder().encode
decode_entry = msgspec.msgpack.Decoder(CacheEntry).decode


class CacheStore:
    """Answers in memory, by key, within so many bytes.

    Each tenant has a queue of its own and no more than its share of the bytes; where all is full,
    one that has much gives way.
    """

    def __init__(
        self,
        bytes_max: int,
        tenant_share: float,
        left: Callable[[bytes], None] | None = None,
    ) -> None:
        """
        Args:
            left: told the key of each answer that is no longer held, for whatever reason.
        """
        self._bytes_max = bytes_max
        self._tenant_max = int(bytes_max * tenant_share)
        self._left = left
        self._homes: dict[bytes, _TenantQueue] = {}
        self._queues: OrderedDict[str, _TenantQueue] = OrderedDict()
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._homes)

    def get(self, key: bytes, now_s: float) -> CacheEntry | None:
        """The answer under a key, unless it is too old."""
        queue = self._homes.get(key)
        if queue is None:
            return None
        entry = queue.ask_for(key)
        if entry.expires_s <= now_s:
            self.drop(key)
            return None
        return entry

    def put(self, key: bytes, entry: CacheEntry, beside_bytes: int = 0) -> bool:
        """Keep an answer; false when it alone is more than a tenant's share.

        Args:
            beside_bytes: that are held elsewhere for as long as the answer is.
        """
        self.drop(key)
        size = _bytes_of(entry) + beside_bytes
        if size > self._tenant_max:
            return False
        queue = self._queues.get(entry.tenant)
        if queue is None:
            queue = self._queues[entry.tenant] = _TenantQueue()
        while queue.bytes_held + size > self._tenant_max:
            self._evict(queue)
        while self.bytes_held + size > self._bytes_max:
            self._evict(self._large())
        queue.add(key, entry, size)
        self._queues.setdefault(entry.tenant, queue)
        self._homes[key] = queue
        self.bytes_held += size
        return True

    def drop(self, key: bytes) -> None:
        """Forget an answer; nothing happens when there is none."""
        queue = self._homes.pop(key, None)
        if queue is not None:
            tenant, size = queue.remove(key)
            self.bytes_held -= size
            if not queue.bytes_held:
                del self._queues[tenant]
            if self._left is not None:
                self._left(key)

    def _evict(self, queue: _TenantQueue) -> None:
        self.drop(queue.victim())

    def _large(self) -> _TenantQueue:
        """A queue that holds much: the largest of the next few."""
        some = [next(iter(self._queues))]
        for _ in range(min(LOOKED_AT, len(self._queues))):
            name = next(iter(self._queues))
            self._queues.move_to_end(name)
            some.append(name)
        return max((self._queues[name] for name in some), key=lambda queue: queue.bytes_held)


def _bytes_of(entry: CacheEntry) -> int:
    texts = sys.getsizeof(entry.question) + sum(map(sys.getsizeof, entry.tags))
    return len(entry.body) + texts + ENTRY_OVERHEAD_BYTES


class _TenantQueue:
    """One tenant's answers: S3-FIFO over bytes.

    Newcomers enter a small queue; one that is asked for there moves to the main one, others are
    evicted and remembered for a while, so that coming back counts as being asked for. What cost
    more than the average of its size stays longer.
    """

    __slots__ = (
        "_costly", "_entries", "_frequency", "_ghosts", "_main", "_small", "_small_bytes", "_worth",
        "bytes_held",
    )  # fmt: skip

    def __init__(self) -> None:
        self._entries: dict[bytes, CacheEntry] = {}
        self._frequency: dict[bytes, int] = {}
        self._small: OrderedDict[bytes, int] = OrderedDict()
        self._main: OrderedDict[bytes, int] = OrderedDict()
        self._ghosts: OrderedDict[bytes, None] = OrderedDict()
        self._costly: set[bytes] = set()
        self._worth = 0.0
        self._small_bytes = self.bytes_held = 0

    def ask_for(self, key: bytes) -> CacheEntry:
        """An answer that is there."""
        weight = COSTLY_WEIGHT if key in self._costly else 1
        asked = self._frequency[key]
        if asked < FREQUENCY_MAX * weight:
            self._frequency[key] = min(asked + weight, FREQUENCY_MAX * weight)
        return self._entries[key]

    def add(self, key: bytes, entry: CacheEntry, size: int) -> None:
        """Keep an answer that is not there yet."""
        self._entries[key] = entry
        self._frequency[key] = 0
        worth = (entry.cost_pico or 0) / size
        self._worth = worth + WORTH_MEMORY * (self._worth - worth) if self._worth else worth
        if worth > self._worth:
            self._costly.add(key)
        self.bytes_held += size
        if key in self._ghosts:
            del self._ghosts[key]
            self._main[key] = size
        else:
            self._small[key] = size
            self._small_bytes += size

    def remove(self, key: bytes) -> tuple[str, int]:
        """Forget an answer that is there; its tenant and size."""
        del self._frequency[key]
        self._costly.discard(key)
        size = self._small.pop(key, 0)
        self._small_bytes -= size
        size = size or self._main.pop(key)
        self.bytes_held -= size
        return self._entries.pop(key).tenant, size

    def victim(self) -> bytes:
        """Whose turn it is to leave; it is remembered if it was new."""
        while True:
            if self._small and (
                self._small_bytes > SMALL_SHARE * self.bytes_held or not self._main
            ):
                key, size = next(iter(self._small.items()))
                if not self._frequency[key]:
                    self._ghosts[key] = None
                    while len(self._ghosts) > max(16, len(self._entries)):
                        self._ghosts.popitem(last=False)
                    return key
                del self._small[key]
                self._small_bytes -= size
                self._main[key] = size
                self._frequency[key] = 0
                continue
            key = next(iter(self._main))
            if not self._frequency[key]:
                return key
            self._frequency[key] -= 1
            self._main.move_to_end(key)
