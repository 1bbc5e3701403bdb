"""Redis: rates that gateways share, and what they tell each other. The only owner of the library.

Everything is one script an exchange: counts are sliding windows of slots, as in
`core.limits.Window`, on Redis' own clock, so that gateways' clocks need not agree. Nothing here
is ever waited for on a call's path but by `gateway.quota.leases`, which bounds that wait.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import redis as sync_redis
from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from tokenschain.core.limits import (
    HOLDER_TTL_S,
    SLOTS,
    Lease,
    Rate,
    Wish,
)
from tokenschain.core.snapshot import Served
from tokenschain.infra.security import sealing

REDIS_FAILURES: tuple[type[Exception], ...] = (RedisError, OSError)
CONNECT_MAX_S = 0.3
ANSWER_MAX_S = 0.4
CONNECTIONS_MAX = 4
LISTEN_S = 1.0
LARGE_SPACE, COUNT_EVERY_S, SPACES_COUNTED_MAX = 5_000, 60.0, 10_000
_PREFIX = "{tokenschain}:"
_SCRIPT = """
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local holder, ttl = ARGV[1], tonumber(ARGV[2])
redis.call('ZADD', KEYS[1], now, holder)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ttl)
redis.call('PEXPIRE', KEYS[1], ttl * 4)
local answer = {redis.call('ZCARD', KEYS[1])}
local function grant_of(want, need, left)
  if want <= left then return want end
  if need <= left then return need end
  return left
end
for i = 2, #KEYS do
  local at = 3 + (i - 2) * 6
  local amount, slot_ms, slots = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  local want, need, held = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local key, granted, left, reset = KEYS[i], 0, 0, 0
  if slots == 0 then
    local others = 0
    local all = redis.call('HGETALL', key)
    for j = 1, #all, 2 do
      local count, seen = string.match(all[j + 1], '(%d+) (%d+)')
      if now - tonumber(seen) > ttl then redis.call('HDEL', key, all[j])
      elseif all[j] ~= holder then others = others + tonumber(count) end
    end
    left = math.max(0, amount - others - held)
    if want < 0 then granted = math.max(want, -held) else granted = grant_of(want, need, left) end
    if held + granted > 0 then
      redis.call('HSET', key, holder, string.format('%d %d', held + granted, now))
      redis.call('PEXPIRE', key, ttl * 4)
    else redis.call('HDEL', key, holder) end
    left = left - granted
    if granted < need then reset = 1000 end
  else
    local slot = math.floor(now / slot_ms)
    local used, counts = 0, {}
    local all = redis.call('HGETALL', key)
    for j = 1, #all, 2 do
      local number, count = tonumber(all[j]), tonumber(all[j + 1])
      if number < slot - slots then redis.call('HDEL', key, all[j])
      else used = used + count; counts[number] = count end
    end
    if want < 0 then
      local back, number = -want, slot
      while back > 0 and number >= slot - slots do
        local part = math.min(counts[number] or 0, back)
        if part > 0 then redis.call('HINCRBY', key, number, string.format('%.0f', -part)) end
        back = back - part; used = used - part; number = number - 1
      end
      granted = want
      left = math.max(0, amount - used)
    else
      left = math.max(0, amount - used)
      granted = grant_of(want, need, left)
      if granted > 0 then redis.call('HINCRBY', key, slot, string.format('%.0f', granted)) end
      left = left - granted
      if granted < need then
        local over, number = used + math.min(need, amount) - amount, slot - slots
        while over > 0 and number <= slot do
          over = over - (counts[number] or 0)
          number = number + 1
        end
        reset = math.max(0, (number + slots) * slot_ms - now)
      end
    end
    redis.call('PEXPIRE', key, slot_ms * (slots + 2))
  end
  answer[#answer + 1] = granted
  answer[#answer + 1] = left
  answer[#answer + 1] = reset
end
return answer
"""


class RedisRates:
    """Shared rates in Redis; `draw` is what `gateway.quota.leases` asks."""

    def __init__(self, url: str, served: Served, holder: str) -> None:
        """
        Args:
            url: as `redis://:password@host:6379/0`, or `rediss://` for TLS.
            holder: name of this process.
        """
        self._redis = _client(url)
        self._served = served
        self._holder = holder
        self._sha = ""
        self.gateways = 1
        """Processes heard of lately, this one included."""

    async def draw(self, wishes: Sequence[Wish]) -> Sequence[Lease]:
        """One exchange.

        Raises:
            RedisError, OSError: Redis is away.
        """
        rates = {rate.id: rate for rate in self._served.get().rates}
        keys = [f"{_PREFIX}gateways"]
        arguments: list[str | int] = [self._holder, int(HOLDER_TTL_S * 1e3)]
        asked: list[int] = []
        for number, wish in enumerate(wishes):
            rate = rates.get(wish.limit)
            if rate is None:
                continue
            asked.append(number)
            keys.append(f"{_PREFIX}rate:{rate.id}:{_shape(rate)}:{wish.subject}")
            slot_ms, slots = _slots(rate)
            arguments += [rate.amount, slot_ms, slots, wish.want, wish.need, wish.held]
        answer = await self._run(keys, arguments)
        self.gateways = int(answer[0])
        leases = [Lease(0, 0)] * len(wishes)
        for at, number in enumerate(asked):
            granted, left, reset_ms = answer[1 + 3 * at : 4 + 3 * at]
            leases[number] = Lease(int(granted), int(left), int(reset_ms) / 1e3)
        return leases

    async def _run(self, keys: list[str], arguments: list[str | int]) -> list[int]:
        if not self._sha:
            self._sha = str(await self._redis.script_load(_SCRIPT))
        try:
            found = await self._redis.evalsha(self._sha, len(keys), *keys, *arguments)
        except NoScriptError:  # Redis was started anew
            self._sha = ""
            return await self._run(keys, arguments)
        return list(found)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


class RedisNews:
    """What gateways tell each other; see `gateway.dispatch.health_sharing.Wire`."""

    def __init__(self, url: str) -> None:
        self._redis = _client(url)

    async def publish(self, message: bytes) -> None:
        """Tell everybody who listens now."""
        await self._redis.publish(f"{_PREFIX}news", message)

    async def listen(self) -> AsyncIterator[bytes]:
        """What is told; a Redis that does not answer is noticed within `LISTEN_S`."""
        async with self._redis.pubsub(ignore_subscribe_messages=True) as heard:
            await heard.subscribe(f"{_PREFIX}news")
            while True:
                message = await heard.get_message(timeout=LISTEN_S)
                if message is not None:
                    yield message["data"]
                else:
                    await self._redis.ping()

    async def claim(self, name: str, for_s: float) -> bool:
        """Be the only one for a while."""
        key = f"{_PREFIX}trial:{name}"
        return bool(await self._redis.set(key, "1", nx=True, px=int(for_s * 1e3)))

    async def release(self, name: str) -> None:
        """Let another be the one."""
        await self._redis.delete(f"{_PREFIX}trial:{name}")

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


class RedisShelf:
    """Answers that gateways share; see `gateway.cache.lookup.SharedShelf`. Sealed: whoever reads
    Redis learns neither questions nor answers."""

    def __init__(self, url: str, key: bytes) -> None:
        self._redis = _client(url)
        self._key = key

    async def get(self, key: bytes) -> bytes | None:
        """What was put there."""
        name = f"{_PREFIX}answer:{key.hex()}"
        sealed = await self._redis.get(name)
        if sealed is None:
            return None
        assert isinstance(sealed, bytes), "answers are not decoded"
        try:
            return sealing.unseal(self._key, name, sealed)
        except sealing.Unsealable:
            return None

    async def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Keep it for so long."""
        name = f"{_PREFIX}answer:{key.hex()}"
        await self._redis.set(name, sealing.seal(self._key, name, value), px=int(ttl_s * 1e3))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


class RedisMeaning:
    """Questions and answers that machines share, found by their vectors; see
    `semantic.index.Kept`. Texts are sealed; vectors are not, since Redis searches them.

    One index for each pair of embedders, so that vectors of two are never compared.
    """

    def __init__(self, url: str, key: bytes, embedders: str, dimensions: int) -> None:
        """
        Args:
            embedders: what made the vectors; part of every name.
            dimensions: of the vectors that are searched.
        """
        self._redis = sync_redis.Redis.from_url(
            url, socket_connect_timeout=CONNECT_MAX_S, socket_timeout=ANSWER_MAX_S, protocol=2
        )
        self._key = key
        self._prefix = f"{_PREFIX}question:{embedders}:"
        self._index = f"{_PREFIX}questions:{embedders}"
        self._dimensions = dimensions
        self._sizes: dict[str, tuple[float, int]] = {}

    def near(self, space: bytes, fast: Any, count: int) -> list[tuple[bytes, str, float, bytes]]:
        """Key, question, cosine and better vector of the nearest of a space."""
        where = f"@space:{{{space.hex()}}}"
        policy = "HYBRID_POLICY BATCHES " if self._size(where) > LARGE_SPACE else ""
        query = f"({where})=>[KNN {count} @fast $vector {policy}AS far]"
        asked = ("FT.SEARCH", self._index, query, "PARAMS", "2", "vector", fast.tobytes(),
                 "SORTBY", "far", "RETURN", "3", "far", "fine", "question", "LIMIT", "0",
                 str(count), "DIALECT", "2")  # fmt: skip
        rows = self._search(*asked)
        found = []
        for name, fields in zip(rows[1::2], rows[2::2], strict=True):
            values = dict(zip(fields[::2], fields[1::2], strict=True))
            key = bytes.fromhex(name.decode().rpartition(":")[2])
            question = self._unsealed(key, values.get(b"question"))
            if question is not None and b"fine" in values:
                cosine = 1.0 - float(values[b"far"])
                found.append((key, question.decode(), cosine, values[b"fine"]))
        return found

    def _size(self, where: str) -> int:
        """About how many questions a space has. Left to itself, Redis compares all of a large
        space one by one."""
        now = time.monotonic()
        counted_at, size = self._sizes.get(where, (0.0, 0))
        if not counted_at or now - counted_at > COUNT_EVERY_S:
            asked = ("FT.SEARCH", self._index, where, "LIMIT", "0", "0", "DIALECT", "2")
            size = int(self._search(*asked)[0])
            if len(self._sizes) > SPACES_COUNTED_MAX:
                self._sizes.clear()
            self._sizes[where] = (now, size)
        return size

    def _search(self, *command: str | bytes) -> list[Any]:
        """The rows of a search, the number of all first; none where there is no index yet."""
        try:
            found: list[Any] = self._redis.execute_command(*command)  # type: ignore[no-untyped-call]
        except ResponseError as error:
            if "no such index" not in str(error).lower():
                raise
            self._create()
            return [0]
        return found

    def get(self, key: bytes) -> bytes | None:
        """The answer under a key."""
        sealed = self._redis.hget(self._name(key), "entry")
        assert sealed is None or isinstance(sealed, bytes), "answers are not decoded"
        return self._unsealed(key, sealed)

    def put(
        self, space: bytes, key: bytes, question: str, fast: Any, fine: Any, entry: bytes,
        ttl_s: float,
    ) -> None:  # fmt: skip
        """Keep an answer for so long."""
        name = self._name(key)
        fields: dict[str | bytes, bytes | float | int | str] = {
            "space": space.hex(), "fast": fast.tobytes(), "fine": fine.tobytes(),
            "question": sealing.seal(self._key, key.hex(), question.encode()),
            "entry": sealing.seal(self._key, key.hex(), entry),
        }  # fmt: skip
        with self._redis.pipeline() as pipe:
            pipe.hset(name, mapping=fields)  # type: ignore[arg-type]
            pipe.pexpire(name, int(ttl_s * 1e3))
            pipe.execute()

    def drop(self, key: bytes) -> None:
        """Forget an answer."""
        self._redis.delete(self._name(key))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _name(self, key: bytes) -> str:
        return f"{self._prefix}{key.hex()}"

    def _unsealed(self, key: bytes, sealed: bytes | None) -> bytes | None:
        if sealed is None:
            return None
        try:
            return sealing.unseal(self._key, key.hex(), sealed)
        except sealing.Unsealable:
            return None

    def _create(self) -> None:
        """Make the index; what is there already is found by it soon after."""
        try:
            self._redis.execute_command(  # type: ignore[no-untyped-call]
                "FT.CREATE", self._index, "ON", "HASH", "PREFIX", "1", self._prefix, "SCHEMA",
                "space", "TAG", "fast", "VECTOR", "HNSW", "6", "TYPE", "FLOAT32",
                "DIM", str(self._dimensions), "DISTANCE_METRIC", "COSINE",
            )  # fmt: skip
        except ResponseError as error:
            if "already exists" not in str(error).lower():
                raise


def _client(url: str) -> Redis:
    return Redis.from_url(
        url,
        socket_connect_timeout=CONNECT_MAX_S,
        socket_timeout=ANSWER_MAX_S,
        max_connections=CONNECTIONS_MAX,
        retry_on_timeout=False,
        protocol=2,
    )


def _slots(rate: Rate) -> tuple[int, int]:
    if rate.measure == "concurrent":
        return 1_000, 0
    slots = SLOTS[rate.window_s]
    return rate.window_s * 1_000 // slots, slots


def _shape(rate: Rate) -> str:
    return f"{rate.measure}{rate.window_s}"
