"""Gives answers a second time: identical calls in flight share one, later ones get it again.

Memory first, then what gateways share, then questions that mean the same. Whatever is slow,
broken or in doubt is a miss.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from tokenschain.core.cache import response
from tokenschain.core.cache.directives import Directives, directives_of, refusal_of, ttl_of
from tokenschain.core.cache.key import Identity, Space, identify
from tokenschain.core.cache.store import TTL_JITTER, Entry, Shelf, decode_entry, encode_entry
from tokenschain.core.call import Call, Hit, Outlet
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import stream_aggregation
from tokenschain.core.formats.openai_chat import Door
from tokenschain.core.ports import Answer
from tokenschain.core.snapshot import Plan, Served
from tokenschain.core.snapshot.cache_rules import CacheRules, flush_name
from tokenschain.core.tenancy import KeyGrant
from tokenschain.wire import sse

FOLLOW_MAX_S = 300.0
"""How long a call waits for an identical one that is being answered."""
SHARED_WAIT_MAX_S = 0.03
SHARED_REST_S = 1.0
"""After the shared store was silent, it is left alone for so long."""
STORES_MAX = 1_000
"""Answers on their way to the shared store."""
KEYS_WATCHED_MAX = 10_000
_TEMPERATURE = msgspec.json.Decoder(float | None).decode


class SharedShelf(Protocol):
    """Answers that gateways share; raises one of its failures when it is away."""

    async def get(self, key: bytes) -> bytes | None:
        """What was put there, sealed and opened by the shelf itself."""

    async def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Keep it for so long."""


class Meaning(Protocol):
    """Finds questions that mean the same; every failure is a miss."""

    def exact(self, call: Call) -> None:
        """The very same question was answered from memory."""

    async def find(self, call: Call, identity: Identity, rules: CacheRules) -> Hit | None:
        """An answer to a question that means the same."""

    def learn(self, call: Call, identity: Identity, rules: CacheRules, entry: Entry) -> None:
        """A question was answered afresh."""

    def drop(self, call: Call, identity: Identity, rules: CacheRules, key: bytes) -> None:
        """An answer may not be given any more."""


class AnswerCache:
    """See `core.ports.Cache`."""

    def __init__(
        self,
        served: Served,
        secret: bytes,
        wall: Callable[[], float],
        dice: Callable[[], float],
        shared: SharedShelf | None = None,
        away: tuple[type[Exception], ...] = (),
        meaning: Meaning | None = None,
    ) -> None:
        """
        Args:
            secret: keys all digests.
            wall: Unix time.
            away: what the shared store raises.
        """
        self._served = served
        self._secret = secret
        self._wall = wall
        self._dice = dice
        self._shared = shared
        self._away: tuple[type[Exception], ...] = (TimeoutError, *away)
        self._meaning = meaning
        self._shared_rests_until = 0.0
        self._generation = -1
        self._rules = CacheRules()
        self._on = False
        self._size = (0, 0.0)
        self._shelf = Shelf(*self._size)
        self._flights: dict[tuple[object, ...], _Flight] = {}
        self._writes: dict[str, tuple[int, int]] = {}
        self._stores: deque[tuple[bytes, Entry]] = deque(maxlen=STORES_MAX)
        self._stored = asyncio.Event()

    @property
    def entries(self) -> int:
        """Answers in memory."""
        return len(self._shelf)

    @property
    def bytes_held(self) -> int:
        """Bytes of answers in memory."""
        return self._shelf.bytes_held

    async def look_up(self, call: Call, caller: KeyGrant, plan: Plan) -> Answer | None:
        """See `core.ports.Cache.look_up`."""
        if self._generation != self._served.generation:
            self._renew()
        if not self._on:
            return None
        said = directives_of(call.headers.get(b"x-tc-cache"))
        found = self._identity(call, caller, plan, said)
        if isinstance(found, str):
            call.cache = f"bypass:{found}"
            if said.only:
                raise _not_cached(found)
            return None
        call.cache = "miss"
        visit = _Visit(found, said, self._rules.flushed_at(
            caller.tenant, caller.project, call.ask.model
        ))  # fmt: skip
        if said.look:
            hit = await self._hit(call, visit)
            if hit is not None:
                assert hit.entry is not None, "only what is in flight has none yet"
                call.hit = hit
                call.cache = hit.tier
                return Replayed(hit.entry, self._rules.replay_chars_per_s)
        if said.only:
            raise _not_cached("miss")
        if not said.store:
            return None
        return await self._lead_or_follow(call, visit)

    def settle(self, call: Call, last: bytes) -> None:
        """See `core.ports.Cache.settle`."""
        visit = call.lookup
        if not isinstance(visit, _Visit):
            return
        call.lookup = None
        flight = visit.flight
        assert flight is not None, "only who leads has something to settle"
        if self._flights.get(flight.name) is flight:
            del self._flights[flight.name]
        if isinstance(call.outlet, _Tee):
            call.outlet = call.outlet.outlet
        entry = None
        if call.error is None and not call.partial and call.attempts:
            entry = self._entry(call, visit, flight.whole(call) if call.ask.stream else last)
        flight.end(entry)

    async def ship(self) -> None:
        """Put answers where other gateways find them; returns only by cancellation."""
        assert self._shared is not None
        while True:
            while self._stores:
                key, entry = self._stores.popleft()
                ttl_s = entry.expires_s - self._wall()
                if ttl_s <= 0:
                    continue
                try:
                    await self._shared.put(key, encode_entry(entry), ttl_s)
                except self._away:
                    self._shared_rests_until = self._wall() + SHARED_REST_S
                    await asyncio.sleep(SHARED_REST_S)
            self._stored.clear()
            await self._stored.wait()

    # --- who may -----------------------------------------------------------------------

    def _identity(
        self, call: Call, caller: KeyGrant, plan: Plan, said: Directives
    ) -> Identity | str:
        rules, ask = self._rules, call.ask
        mode = rules.mode_of(caller.tenant, caller.project, ask.model)
        if mode == "off":
            return "off"
        if not said.look and not said.store:
            return "asked"
        user = ""
        if rules.scope == "user":
            given = ask.fields.get("user")
            user = bytes(given).decode("utf-8", "replace") if given is not None else caller.key_id
        if ask.door in (Door.CHAT, Door.COMPLETIONS):
            temperature = ask.fields.get("temperature")
            if temperature is not None and (_TEMPERATURE(temperature) or 0) > rules.temperature_max:
                return "temperature"
        space = Space(
            caller.tenant, caller.project, caller.environment, user, caller.data_class,
            ask.model, plan.route.name, "",
        )  # fmt: skip
        return identify(
            ask, space, self._secret, meaning=mode == "semantic" and self._meaning is not None
        )

    def _renew(self) -> None:
        """Serve by a new snapshot."""
        self._generation = self._served.generation
        rules = self._served.get().cache
        if rules is self._rules:
            return
        self._rules = rules
        self._on = rules.mode != "off" or any(mode != "off" for mode in rules.policies.values())
        size = (rules.memory_bytes_max, rules.tenant_share)
        if size != self._size or not self._on:
            self._shelf, self._size = Shelf(*size), size

    # --- what is there -------------------------------------------------------------------

    async def _hit(self, call: Call, visit: _Visit) -> Hit | None:
        key, now = visit.identity.key, self._wall()
        entry = self._shelf.get(key, now)
        if entry is not None and self._fresh(entry, key, visit, now):
            if self._meaning is not None and visit.identity.space:
                self._meaning.exact(call)
            return Hit("exact", entry, key)
        if self._shared is not None and now >= self._shared_rests_until:
            entry = await self._from_shared(key)
            if entry is not None and self._fresh(entry, key, visit, now):
                self._shelf.put(key, entry)
                return Hit("exact", entry, key)
        if self._meaning is not None and visit.identity.space:
            hit = await self._meaning.find(call, visit.identity, self._rules)
            if hit is not None and hit.entry is not None:
                if self._fresh(hit.entry, hit.key, visit, now):
                    return hit
                if not self._kept(hit.entry, hit.key, visit):
                    self._meaning.drop(call, visit.identity, self._rules, hit.key)
        return None

    def _fresh(self, entry: Entry, key: bytes, visit: _Visit, now: float) -> bool:
        """Whether an answer is young enough for this caller, and was not flushed."""
        if entry.expires_s <= now or now - entry.stored_s > visit.said.max_age_s:
            return False
        return self._kept(entry, key, visit)

    def _kept(self, entry: Entry, key: bytes, visit: _Visit) -> bool:
        flushed = self._rules.flushed
        if not flushed:
            return True
        names = [flush_name(entry.tenant, "entry", key.hex())]
        names += [flush_name(entry.tenant, "tag", tag) for tag in entry.tags]
        return entry.stored_s > max(visit.flushed_s, *(flushed.get(name, 0.0) for name in names))

    async def _from_shared(self, key: bytes) -> Entry | None:
        assert self._shared is not None
        try:
            async with asyncio.timeout(SHARED_WAIT_MAX_S):
                data = await self._shared.get(key)
        except self._away:
            self._shared_rests_until = self._wall() + SHARED_REST_S
            return None
        if data is None:
            return None
        try:
            return decode_entry(data)
        except msgspec.DecodeError:
            return None

    # --- calls in flight ------------------------------------------------------------------

    async def _lead_or_follow(self, call: Call, visit: _Visit) -> Answer | None:
        """Go first, or wait for an identical call that did; None: ask an upstream."""
        ask, key = call.ask, visit.identity.key
        name = (key, ask.stream, ask.wants_usage, call.outlet.takes_raw)
        flight = self._flights.get(name)
        if flight is not None and not flight.too_long:
            flight.followers += 1
            if not await flight.begins():
                return None  # it failed before it said anything: each for itself
            call.hit = Hit("shared", flight.entry, key)
            call.cache = "shared"
            return _Followed(flight, call.hit)
        flight = self._flights[name] = _Flight(name, self._rules.entry_bytes_max)
        call.lookup = visit
        visit.flight = flight
        if ask.stream:
            call.outlet = _Tee(call.outlet, flight)
        return None

    def _entry(self, call: Call, visit: _Visit, body: bytes) -> Entry | None:
        """The answer as identical calls in flight get it, kept for later ones if it may be."""
        rules, caller, record = self._rules, call.caller, call.record
        assert caller is not None and record is not None, "who was answered is known"
        refusal = refusal_of(body, rules) if body else "not_whole"
        if refusal == "tool_calls":
            return None
        ttl_s = ttl_of(rules, visit.identity.question, rules.scope == "user")
        now = self._wall()
        entry = Entry(
            body, caller.tenant, record.model_served, now, now,
            record.prompt_tokens, record.completion_tokens, record.cost_pico, record.currency,
            record.price_version, _tags(call), visit.identity.question,
        )  # fmt: skip
        if refusal or isinstance(ttl_s, str) or not self._may_write(caller.key_id, now):
            return entry
        entry.expires_s = now + ttl_s * (1 + TTL_JITTER * (2 * self._dice() - 1))
        key = visit.identity.key
        self._shelf.put(key, entry)
        if self._shared is not None:
            self._stores.append((key, entry))
            self._stored.set()
        if self._meaning is not None and visit.identity.space:
            self._meaning.learn(call, visit.identity, rules, entry)
        return entry

    def _may_write(self, key_id: str, now: float) -> bool:
        """No key fills the cache by itself: so many answers a minute."""
        minute = int(now // 60)
        at, count = self._writes.get(key_id, (minute, 0))
        count = count + 1 if at == minute else 1
        if len(self._writes) > KEYS_WATCHED_MAX:
            self._writes.clear()
        self._writes[key_id] = (minute, count)
        return count <= self._rules.writes_per_minute


class _Visit:
    """What one call looked for."""

    __slots__ = ("flight", "flushed_s", "identity", "said")

    def __init__(self, identity: Identity, said: Directives, flushed_s: float) -> None:
        self.identity = identity
        self.said = said
        self.flushed_s = flushed_s
        self.flight: _Flight | None = None


class _Flight:
    """A call that is being answered, and what it has been told so far."""

    __slots__ = (
        "_bytes_left", "_changed", "entry", "failed", "followers", "name", "over", "pieces",
    )  # fmt: skip

    def __init__(self, name: tuple[object, ...], bytes_max: int) -> None:
        self.name = name
        self._bytes_left = bytes_max
        self.followers = 0
        self.pieces: list[tuple[bool, bytes]] = []
        """What the stream consists of: bytes as they are, or one canonical chunk."""
        self.over = self.failed = False
        self.entry: Entry | None = None
        self._changed: asyncio.Future[None] | None = None

    def add(self, raw: bool, data: bytes) -> None:
        self._bytes_left -= len(data)
        if self._bytes_left < 0 and not self.followers:
            self.pieces.clear()  # too long to be kept, and nobody waits for it
            return
        self.pieces.append((raw, data))
        self._wake()

    @property
    def too_long(self) -> bool:
        """Whether it is no longer kept whole: nobody may join, and nothing is stored."""
        return self._bytes_left < 0

    def end(self, entry: Entry | None) -> None:
        """It is over; without an entry, it failed or is nobody else's."""
        self.entry = entry
        self.over, self.failed = True, entry is None
        self._wake()

    async def change(self) -> None:
        """Wait for more.

        Raises:
            TimeoutError: there was none for `FOLLOW_MAX_S`.
        """
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(FOLLOW_MAX_S):
            await asyncio.shield(self._changed)

    async def begins(self) -> bool:
        """Whether it said something, in the end."""
        while not self.pieces and not self.over:
            try:
                await self.change()
            except TimeoutError:
                return False
        return bool(self.pieces) or not self.failed

    def whole(self, call: Call) -> bytes:
        """The stream as one canonical reply, with the usage that the caller may not have seen."""
        if call.ask.door is not Door.CHAT or self.too_long:
            return b""
        chunks: list[bytes] = []
        reader = sse.SseReader()
        for raw, data in self.pieces:
            if raw:
                chunks += [event.data for event in reader.feed(data)]
            else:
                chunks.append(data)
        try:
            body = stream_aggregation.whole_of([chunk for chunk in chunks if chunk != b"[DONE]"])
        except (msgspec.DecodeError, UnicodeDecodeError, AttributeError, TypeError):
            return b""
        usage = call.attempts[-1].usage if call.attempts else None
        return body if usage is None else response.with_usage(body, usage)

    def _wake(self) -> None:
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None


class _Tee:
    """The way back to the caller of a stream, which also remembers what went there."""

    __slots__ = ("_flight", "outlet")

    def __init__(self, outlet: Outlet, flight: _Flight) -> None:
        self.outlet = outlet
        self._flight = flight

    @property
    def on_pause(self) -> Callable[[], None] | None:
        return self.outlet.on_pause

    @on_pause.setter
    def on_pause(self, value: Callable[[], None] | None) -> None:
        self.outlet.on_pause = value

    @property
    def on_resume(self) -> Callable[[], None] | None:
        return self.outlet.on_resume

    @on_resume.setter
    def on_resume(self, value: Callable[[], None] | None) -> None:
        self.outlet.on_resume = value

    @property
    def bytes_out(self) -> int:
        return self.outlet.bytes_out

    @property
    def takes_raw(self) -> bool:
        return self.outlet.takes_raw

    def begin_stream(self, call: Call) -> None:
        self.outlet.begin_stream(call)

    def write(self, data: bytes) -> None:
        self._flight.add(True, data)
        self.outlet.write(data)

    def event(self, data: bytes) -> None:
        self._flight.add(False, data)
        self.outlet.event(data)

    def close(self, call: Call, last: bytes) -> None:
        self.outlet.close(call, last)


class _Followed:
    """The answer of an identical call, as it comes."""

    __slots__ = ("_flight", "_hit")

    def __init__(self, flight: _Flight, hit: Hit) -> None:
        self._flight = flight
        self._hit = hit

    async def deliver(self, call: Call) -> bytes:
        flight, outlet, sent = self._flight, call.outlet, 0
        if call.ask.stream:
            call.partial = True
            outlet.begin_stream(call)
        while True:
            while sent < len(flight.pieces):
                raw, data = flight.pieces[sent]
                sent += 1
                (outlet.write if raw else outlet.event)(data)
            if flight.over:
                break
            try:
                await flight.change()
            except TimeoutError:
                flight.failed = True
                break
        if flight.failed or flight.entry is None:
            raise ApiError(
                "upstream_interrupted", "The identical call that was being answered broke off."
            )
        call.hit = self._hit._replace(entry=flight.entry)
        call.partial = False
        return b"" if call.ask.stream else response.as_new(flight.entry.body, _target(call))

    def abort(self) -> None: ...

    def said(self) -> None:
        return None


class Replayed:
    """An answer from the cache, in the form this caller asked for."""

    __slots__ = ("_chars_per_s", "_entry")

    def __init__(self, entry: Entry, chars_per_s: float) -> None:
        self._entry = entry
        self._chars_per_s = chars_per_s

    async def deliver(self, call: Call) -> bytes:
        """See `core.ports.Answer.deliver`."""
        if not call.ask.stream:
            return response.as_new(self._entry.body, _target(call))
        outlet = call.outlet
        call.partial = True
        outlet.begin_stream(call)
        for chars, data in response.chunks(self._entry.body, _target(call)):
            outlet.event(data)
            if self._chars_per_s and chars:
                await asyncio.sleep(chars / self._chars_per_s)
        call.partial = False
        return b""

    def abort(self) -> None: ...

    def said(self) -> None:
        return None


def _not_cached(why: str) -> ApiError:
    return ApiError("not_cached", f"The answer is not in the cache ({why}).")


def _tags(call: Call) -> tuple[str, ...]:
    raw = call.headers.get(b"x-tc-tags", b"")
    return tuple(t.strip() for t in raw.decode("utf-8", "replace").split(",") if "=" in t)[:16]


def _target(call: Call) -> response.ReplayTarget:
    """Other APIs than OpenAI's read the usage from the stream, whether their caller asked or not."""
    ask = call.ask
    wants_usage = ask.wants_usage or not call.outlet.takes_raw
    return response.ReplayTarget(call.id, call.started_ms // 1_000, ask.door, wants_usage)
