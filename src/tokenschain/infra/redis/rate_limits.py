"""Redis rate limits shared by gateways: leases drawn by one script.

Everything is one script an exchange: counts are sliding windows of slots, as in
`core.limits.Window`, on Redis' own clock, so that gateways' clocks need not agree. Nothing here
is ever waited for on a call's path but by `gateway.quota.leases`, which bounds that wait.
"""

from __future__ import annotations

from collections.abc import Sequence

from redis.exceptions import NoScriptError

from tokenschain.core.limits import (
    HOLDER_TTL_S,
    SLOTS,
    Lease,
    LeaseRequest,
    Rate,
)
from tokenschain.core.snapshot import Served
from tokenschain.infra.redis.connection import KEY_PREFIX, WrongAnswer, connect, understood

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


class RedisRateLimits:
    """Shared rate limits; `draw` is what `gateway.quota.leases` asks."""

    def __init__(self, url: str, served: Served, holder: str) -> None:
        """
        Args:
            url: as `redis://:password@host:6379/0`, or `rediss://` for TLS.
            holder: name of this process.
        """
        self._redis = connect(url)
        self._served = served
        self._holder = holder
        self._sha = ""
        self.gateways = 1
        """Processes heard of lately, this one included."""

    async def draw(self, requests: Sequence[LeaseRequest]) -> Sequence[Lease]:
        """One exchange.

        Raises:
            RedisError, OSError: Redis is away, or answers wrongly.
        """
        rates = {rate.id: rate for rate in self._served.get().rates}
        keys = [f"{KEY_PREFIX}gateways"]
        arguments: list[str | int] = [self._holder, int(HOLDER_TTL_S * 1e3)]
        asked: list[int] = []
        for number, request in enumerate(requests):
            rate = rates.get(request.limit)
            if rate is None:
                continue
            asked.append(number)
            keys.append(f"{KEY_PREFIX}rate:{rate.id}:{_shape(rate)}:{request.subject}")
            slot_ms, slots = _slots(rate)
            arguments += [rate.amount, slot_ms, slots, request.want, request.need, request.held]
        leases = [Lease(0, 0)] * len(requests)
        with understood():
            answer = await self._run(keys, arguments)
            gateways, *rest = answer
            for number, found in zip(asked, zip(*[iter(rest)] * 3, strict=True), strict=True):
                leases[number] = _lease(requests[number], *found)
        self.gateways = max(1, gateways)
        return leases

    async def _run(self, keys: list[str], arguments: list[str | int]) -> list[int]:
        if self._sha:
            try:
                return list(await self._redis.evalsha(self._sha, len(keys), *keys, *arguments))
            except NoScriptError:  # Redis was started anew
                pass
        self._sha = str(await self._redis.script_load(_SCRIPT))
        return list(await self._redis.evalsha(self._sha, len(keys), *keys, *arguments))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _lease(request: LeaseRequest, granted: int, left: int, reset_ms: int) -> Lease:
    """
    Raises:
        WrongAnswer: it is none that the script gives.
    """
    if not (min(0, request.want) <= granted <= max(0, request.want) and left >= 0 <= reset_ms):
        raise WrongAnswer(f"Redis grants {granted} of {request.want}, and leaves {left}")
    return Lease(granted, left, reset_ms / 1e3)


def _slots(rate: Rate) -> tuple[int, int]:
    if rate.measure == "concurrent":
        return 1_000, 0
    slots = SLOTS[rate.window_s]
    return rate.window_s * 1_000 // slots, slots


def _shape(rate: Rate) -> str:
    return f"{rate.measure}{rate.window_s}"
