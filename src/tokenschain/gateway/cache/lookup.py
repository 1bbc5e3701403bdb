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
from tokenschain.core.cache.key import Identity, Namespace, identify
from tokenschain.core.cache.store import TTL_JITTER, CacheStore, Entry, decode_entry, encode_entry
from tokenschain.core.call import Call, Hit, ResponseWriter
from tokenschain.core.call_record import HitKind
from tokenschain.core.errors import ApiError
from tokenschain.core.formats import stream_aggregation
from tokenschain.core.formats.openai_chat import Api
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


class SharedCacheStore(Protocol):
    """Answers that gateways share; raises one of its failures when it is away."""

    async def get(self, key: bytes) -> bytes | None:
        """What was put there, sealed and opened by the shelf itself."""

    async def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Keep it for so long."""


class SemanticLookup(Protocol):
    """Finds questions that mean the same; every failure is a miss."""

    def exact(self, call: Call) -> None:
        """The very same question was answered from memory."""

    async def find(self, call: Call, identity: Identity, rules: CacheRules) -> Hit | None:
        """An answer to a question that means the same."""

    def learn(self, call: Call, identity: Identity, rules: CacheRules, entry: Entry) -> None:
        """A question was answered afresh."""

    def drop(self, call: Call, identity: Identity, rules: CacheRules, key: bytes) -> None:
        """An answer may not be given any more."""


class ResponseCache:
    """See `core.ports.Cache`."""

    def __init__(
        self,
        served: Served,
        secret: bytes,
        unix_time: Callable[[], float],
        random: Callable[[], float],
        shared: SharedCacheStore | None = None,
        store_errors: tuple[type[Exception], ...] = (),
        meaning: SemanticLookup | None = None,
    ) -> None:
        """
        Args:
            secret: keys all digests.
            unix_time: Unix time.
            store_errors: what the shared store raises.
        """
        self._served = served
        self._secret = secret
        self._unix_time = unix_time
        self._random = random
        self._shared = shared
        self._store_errors: tuple[type[Exception], ...] = (TimeoutError, *store_errors)
        self._meaning = meaning
        self._shared_rests_until = 0.0
        self._generation = -1
        self._rules = CacheRules()
        self._on = False
        self._size = (0, 0.0)
        self._store = CacheStore(*self._size)
        self._flights: dict[tuple[object, ...], _Flight] = {}
        self._writes: dict[str, tuple[int, int]] = {}
        self._stores: deque[tuple[bytes, Entry]] = deque(maxlen=STORES_MAX)
        self._stored = asyncio.Event()

    @property
    def entries(self) -> int:
        """Answers in memory."""
        return len(self._store)

    @property
    def bytes_held(self) -> int:
        """Bytes of answers in memory."""
        return self._store.bytes_held

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
        lookup = CacheLookup(found, said, self._rules.flushed_at(
            caller.tenant, caller.project, call.parsed.model
        ))  # fmt: skip
        if said.look:
            hit = await self._hit(call, lookup)
            if hit is not None:
                assert hit.entry is not None, "only what is in flight has none yet"
                call.hit = hit
                call.cache = hit.kind
                return Replayed(hit.entry, self._rules.replay_chars_per_s)
        if said.only:
            raise _not_cached("miss")
        if not said.store:
            return None
        return await self._lead_or_follow(call, lookup)

    def settle(self, call: Call, last: bytes) -> None:
        """See `core.ports.Cache.settle`."""
        lookup = call.lookup
        if not isinstance(lookup, CacheLookup):
            return
        call.lookup = None
        flight = lookup.flight
        assert flight is not None, "only who leads has something to settle"
        if self._flights.get(flight.name) is flight:
            del self._flights[flight.name]
        if isinstance(call.writer, _RecordingWriter):
            call.writer = call.writer.writer
        entry = None
        if call.error is None and not call.partial and call.attempts:
            entry = self._entry(call, lookup, flight.whole(call) if call.parsed.stream else last)
        flight.end(entry)

    async def ship(self) -> None:
        """Put answers where other gateways find them; returns only by cancellation."""
        assert self._shared is not None
        while True:
            while self._stores:
                key, entry = self._stores.popleft()
                ttl_s = entry.expires_s - self._unix_time()
                if ttl_s <= 0:
                    continue
                try:
                    await self._shared.put(key, encode_entry(entry), ttl_s)
                except self._store_errors:
                    self._shared_rests_until = self._unix_time() + SHARED_REST_S
                    await asyncio.sleep(SHARED_REST_S)
            self._stored.clear()
            await self._stored.wait()

    # --- who may -----------------------------------------------------------------------

    def _identity(
        self, call: Call, caller: KeyGrant, plan: Plan, said: Directives
    ) -> Identity | str:
        rules, parsed = self._rules, call.parsed
        mode = rules.mode_of(caller.tenant, caller.project, parsed.model)
        if mode == "off":
            return "off"
        if not said.look and not said.store:
            return "asked"
        user = ""
        if rules.scope == "user":
            given = parsed.fields.get("user")
            user = bytes(given).decode("utf-8", "replace") if given is not None else caller.key_id
        if parsed.api in (Api.CHAT, Api.COMPLETIONS):
            temperature = parsed.fields.get("temperature")
            if temperature is not None and (_TEMPERATURE(temperature) or 0) > rules.temperature_max:
                return "temperature"
        namespace = Namespace(
            caller.tenant, caller.project, caller.environment, user, caller.data_class,
            parsed.model, plan.route.name, "",
        )  # fmt: skip
        return identify(
            parsed,
            namespace,
            self._secret,
            meaning=mode == "semantic" and self._meaning is not None,
        )

    def _renew(self) -> None:
        """Serve by a new snapshot."""
        self._generation = self._served.generation
        rules = self._served.get().cache
        if rules is self._rules:
            return
        self._rules = rules
        self._on = rules.mode != "off" or any(
            mode != "off" for mode in rules.mode_overrides.values()
        )
        size = (rules.memory_bytes_max, rules.tenant_share)
        if size != self._size or not self._on:
            self._store, self._size = CacheStore(*size), size

    # --- what is there -------------------------------------------------------------------

    async def _hit(self, call: Call, lookup: CacheLookup) -> Hit | None:
        key, now = lookup.identity.key, self._unix_time()
        entry = self._store.get(key, now)
        if entry is not None and self._fresh(entry, key, lookup, now):
            if self._meaning is not None and lookup.identity.namespace:
                self._meaning.exact(call)
            return Hit(HitKind.EXACT, entry, key)
        if self._shared is not None and now >= self._shared_rests_until:
            entry = await self._from_shared(key)
            if entry is not None and self._fresh(entry, key, lookup, now):
                self._store.put(key, entry)
                return Hit(HitKind.EXACT, entry, key)
        if self._meaning is not None and lookup.identity.namespace:
            hit = await self._meaning.find(call, lookup.identity, self._rules)
            if hit is not None and hit.entry is not None:
                if self._fresh(hit.entry, hit.key, lookup, now):
                    return hit
                if not self._kept(hit.entry, hit.key, lookup):
                    self._meaning.drop(call, lookup.identity, self._rules, hit.key)
        return None

    def _fresh(self, entry: Entry, key: bytes, lookup: CacheLookup, now: float) -> bool:
        """Whether an answer is young enough for this caller, and was not flushed."""
        if entry.expires_s <= now or now - entry.stored_s > lookup.said.max_age_s:
            return False
        return self._kept(entry, key, lookup)

    def _kept(self, entry: Entry, key: bytes, lookup: CacheLookup) -> bool:
        flushed = self._rules.flushed
        if not flushed:
            return True
        names = [flush_name(entry.tenant, "entry", key.hex())]
        names += [flush_name(entry.tenant, "tag", tag) for tag in entry.tags]
        return entry.stored_s > max(lookup.flushed_s, *(flushed.get(name, 0.0) for name in names))

    async def _from_shared(self, key: bytes) -> Entry | None:
        assert self._shared is not None
        try:
            async with asyncio.timeout(SHARED_WAIT_MAX_S):
                data = await self._shared.get(key)
        except self._store_errors:
            self._shared_rests_until = self._unix_time() + SHARED_REST_S
            return None
        if data is None:
            return None
        try:
            return decode_entry(data)
        except msgspec.DecodeError:
            return None

    # --- calls in flight ------------------------------------------------------------------

    async def _lead_or_follow(self, call: Call, lookup: CacheLookup) -> Answer | None:
        """Go first, or wait for an identical call that did; None: ask an upstream."""
        parsed, key = call.parsed, lookup.identity.key
        name = (key, parsed.stream, parsed.wants_usage, call.writer.takes_raw)
        flight = self._flights.get(name)
        if flight is not None and not flight.too_long:
            flight.followers += 1
            if not await flight.begins():
                return None  # it failed before it said anything: each for itself
            call.hit = Hit(HitKind.INFLIGHT, flight.entry, key)
            call.cache = HitKind.INFLIGHT
            return _Followed(flight, call.hit)
        flight = self._flights[name] = _Flight(name, self._rules.entry_bytes_max)
        call.lookup = lookup
        lookup.flight = flight
        if parsed.stream:
            call.writer = _RecordingWriter(call.writer, flight)
        return None

    def _entry(self, call: Call, lookup: CacheLookup, body: bytes) -> Entry | None:
        """The answer as identical calls in flight get it, kept for later ones if it may be."""
        rules, caller, record = self._rules, call.caller, call.record
        assert caller is not None and record is not None, "who was answered is known"
        refusal = refusal_of(body, rules) if body else "not_whole"
        if refusal == "tool_calls":
            return None
        ttl_s = ttl_of(rules, lookup.identity.question, rules.scope == "user")
        now = self._unix_time()
        entry = Entry(
            body, caller.tenant, record.model_served, now, now,
            record.prompt_tokens, record.completion_tokens, record.cost_pico, record.currency,
            record.price_version, _tags(call), lookup.identity.question,
        )  # fmt: skip
        if refusal or isinstance(ttl_s, str) or not self._may_write(caller.key_id, now):
            return entry
        entry.expires_s = now + ttl_s * (1 + TTL_JITTER * (2 * self._random() - 1))
        key = lookup.identity.key
        self._store.put(key, entry)
        if self._shared is not None:
            self._stores.append((key, entry))
            self._stored.set()
        if self._meaning is not None and lookup.identity.namespace:
            self._meaning.learn(call, lookup.identity, rules, entry)
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


class CacheLookup:
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
        if call.parsed.api is not Api.CHAT or self.too_long:
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


class _RecordingWriter:
    """The way back to the caller of a stream, which also remembers what went there."""

    __slots__ = ("_flight", "writer")

    def __init__(self, writer: ResponseWriter, flight: _Flight) -> None:
        self.writer = writer
        self._flight = flight

    @property
    def on_pause(self) -> Callable[[], None] | None:
        return self.writer.on_pause

    @on_pause.setter
    def on_pause(self, value: Callable[[], None] | None) -> None:
        self.writer.on_pause = value

    @property
    def on_resume(self) -> Callable[[], None] | None:
        return self.writer.on_resume

    @on_resume.setter
    def on_resume(self, value: Callable[[], None] | None) -> None:
        self.writer.on_resume = value

    @property
    def bytes_out(self) -> int:
        return self.writer.bytes_out

    @property
    def takes_raw(self) -> bool:
        return self.writer.takes_raw

    def begin_stream(self, call: Call) -> None:
        self.writer.begin_stream(call)

    def write(self, data: bytes) -> None:
        self._flight.add(True, data)
        self.writer.write(data)

    def event(self, data: bytes) -> None:
        self._flight.add(False, data)
        self.writer.event(data)

    def close(self, call: Call, last: bytes) -> None:
        self.writer.close(call, last)


class _Followed:
    """The answer of an identical call, as it comes."""

    __slots__ = ("_flight", "_hit")

    def __init__(self, flight: _Flight, hit: Hit) -> None:
        self._flight = flight
        self._hit = hit

    async def deliver(self, call: Call) -> bytes:
        flight, writer, sent = self._flight, call.writer, 0
        if call.parsed.stream:
            call.partial = True
            writer.begin_stream(call)
        while True:
            while sent < len(flight.pieces):
                raw, data = flight.pieces[sent]
                sent += 1
                (writer.write if raw else writer.event)(data)
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
        return b"" if call.parsed.stream else response.as_new(flight.entry.body, _target(call))

    def abort(self) -> None: ...

    def partial_output(self) -> None:
        return None


class Replayed:
    """An answer from the cache, in the form this caller asked for."""

    __slots__ = ("_chars_per_s", "_entry")

    def __init__(self, entry: Entry, chars_per_s: float) -> None:
        self._entry = entry
        self._chars_per_s = chars_per_s

    async def deliver(self, call: Call) -> bytes:
        """See `core.ports.Answer.deliver`."""
        if not call.parsed.stream:
            return response.as_new(self._entry.body, _target(call))
        writer = call.writer
        call.partial = True
        writer.begin_stream(call)
        for chars, data in response.chunks(self._entry.body, _target(call)):
            writer.event(data)
            if self._chars_per_s and chars:
                await asyncio.sleep(chars / self._chars_per_s)
        call.partial = False
        return b""

    def abort(self) -> None: ...

    def partial_output(self) -> None:
        return None


def _not_cached(why: str) -> ApiError:
    return ApiError("not_cached", f"The answer is not in the cache ({why}).")


def _tags(call: Call) -> tuple[str, ...]:
    raw = call.headers.get(b"x-tc-tags", b"")
    return tuple(t.strip() for t in raw.decode("utf-8", "replace").split(",") if "=" in t)[:16]


def _target(call: Call) -> response.ReplayTarget:
    """Other formats than OpenAI's read usage from the stream, whether the caller asked or not."""
    parsed = call.parsed
    wants_usage = parsed.wants_usage or not call.writer.takes_raw
    return response.ReplayTarget(call.id, call.started_ms // 1_000, parsed.api, wants_usage)
