"""Response cache: single flight, exact, then semantic look-up.

Memory first, then the store that gateways share, then questions that mean the same. Whatever is
slow, broken or in doubt is a miss.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import NamedTuple, Protocol

import msgspec
from msgspec import structs

from tokenschain.core.backoff import Backoff
from tokenschain.core.cache.directives import Directives, directives_of, refusal_of, ttl_of
from tokenschain.core.cache.key import Identity, KeyedDigest, Namespace, identify
from tokenschain.core.cache.response import ReplyTemplate
from tokenschain.core.cache.store import (
    TTL_JITTER,
    CacheEntry,
    CacheStore,
    decode_entry,
    encode_entry,
)
from tokenschain.core.call import CacheResult, Call, CallRequest, Hit, ResponseWriter
from tokenschain.core.call_record import LEARNING, UNAVAILABLE, HitKind
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api, ParsedRequest
from tokenschain.core.ports import Answer, OffLoop, ReadyAnswer, on_loop
from tokenschain.core.snapshot import Plan, Served
from tokenschain.core.snapshot.cache_rules import CacheRules, flush_name
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.cache.replay import CachedAnswer
from tokenschain.gateway.cache.single_flight import (
    Behind,
    Flight,
    FollowedAnswer,
    RecordingWriter,
    nothing,
)

SHARED_WAIT_MAX_S = 0.03
"""A shared store on the same network answers in 1 ms; a miss costs the caller no more than this."""
SHARED_BACKOFF_S = 1.0
"""Pause after the shared store failed or was too slow: calls must not each wait for it."""
STORES_MAX = 1_000
"""Answers on their way to the shared store; beyond it the oldest are dropped."""
KEYS_WATCHED_MAX = 10_000
REPEATED_BYTES_MAX, REPEATED_OVERHEAD_BYTES = 4_194_304, 2_048
"""Memory for bodies that were asked again; one may take a hundredth of it."""
_REPEATED_BODY_BYTES_MAX = REPEATED_BYTES_MAX // 100 - REPEATED_OVERHEAD_BYTES
TAGS_MAX = 16
"""Tags kept with an answer, by which it can be flushed."""
_TEMPERATURE = msgspec.json.Decoder(float | None).decode


class SharedCacheStore(Protocol):
    """Answers that gateways share; raises one of its errors when it is away."""

    async def get(self, key: bytes) -> bytes | None:
        """What was put there, sealed and opened by the store itself."""

    async def put(self, key: bytes, value: bytes, ttl_s: float) -> None:
        """Keep it for so long."""


class Found(NamedTuple):
    """What a semantic look-up found."""

    hit: Hit | None
    confidence: float
    """Of the nearest cached answer, whether it is given or not; see `CacheResult`."""
    learning: bool = False
    """Nothing is served yet, for want of pairs of questions that were compared."""


UNANSWERED = Found(None, 0.0)
"""Of a process that does not answer, or not in time."""


class SemanticLookup(Protocol):
    """Finds questions that mean the same; every failure is a miss."""

    def exact(self, call: Call) -> None:
        """The very same question was answered from memory."""

    async def find(self, call: Call, identity: Identity) -> Found:
        """An answer to a question that means the same."""

    def learn(self, call: Call, identity: Identity, rules: CacheRules, entry: CacheEntry) -> None:
        """A question was answered by an upstream."""

    def is_learning(self, call: Call) -> bool | None:
        """Whether nothing is served yet to such callers; None before a first look-up."""

    def drop(self, call: Call, identity: Identity, rules: CacheRules, key: bytes) -> None:
        """An answer may not be given any more."""


class ResponseCache:
    """See `core.ports.Cache`."""

    def __init__(
        self,
        served: Served,
        digest: KeyedDigest,
        unix_time: Callable[[], float],
        random: Callable[[], float],
        shared: SharedCacheStore | None = None,
        store_errors: tuple[type[Exception], ...] = (),
        semantic: SemanticLookup | None = None,
        off_loop: OffLoop = on_loop,
        may_compare: Callable[[Call, KeyGrant, Plan], bool] | None = None,
    ) -> None:
        """
        Args:
            digest: keyed with a secret, makes all digests.
            unix_time: Unix time.
            store_errors: what the shared store raises.
            off_loop: where long requests are identified.
            may_compare: whether a call's texts may go where meanings are compared; None where
                that is on machines of the platform alone.
        """
        self._served = served
        self._digest = digest
        self._unix_time = unix_time
        self._random = random
        self._shared = shared
        self._store_errors: tuple[type[Exception], ...] = (TimeoutError, *store_errors)
        self._semantic = semantic
        self._off_loop = off_loop
        self._may_compare = may_compare
        self._shared_backoff = Backoff(unix_time, SHARED_BACKOFF_S)
        self._generation = -1
        self._rules = CacheRules()
        self._on = False
        self._size = (0, 0.0)
        self._store = CacheStore(*self._size)
        self._flights: dict[tuple[object, ...], Flight] = {}
        self._behind = Behind()
        self._writes: dict[str, tuple[int, int]] = {}
        self._stores: deque[tuple[bytes, CacheEntry]] = deque(maxlen=STORES_MAX)
        self._stored = asyncio.Event()
        self._repeated: dict[tuple[bytes, str, bytes], _Repeated] = {}
        """By the digest of the key, API and body."""
        self._repeated_bytes = 0

    @property
    def entries(self) -> int:
        """Answers in memory."""
        return len(self._store)

    @property
    def bytes_held(self) -> int:
        """Bytes of answers in memory."""
        return self._store.bytes_held

    def look_up(
        self, call: Call, caller: KeyGrant, plan: Plan
    ) -> Coroutine[None, None, Answer | None] | None:
        """See `core.ports.Cache.look_up`."""
        if self._generation != self._served.generation:
            self._renew()
        return self._look_up(call, caller, plan) if self._on else None

    async def _look_up(self, call: Call, caller: KeyGrant, plan: Plan) -> Answer | None:
        directives = directives_of(call.request.headers.get(b"x-tc-cache"))
        repeated = self._repeated_of(call, plan)
        if repeated is not None and (directives.look or directives.store):
            identity: Identity | str = repeated.identity
        else:
            identity = (
                await self._off_loop(
                    partial(self._identity, call, caller, plan, directives), caller
                )
                if call.takes_long
                else self._identity(call, caller, plan, directives)
            )
        if isinstance(identity, str):
            call.cache = CacheResult("bypass", identity)
            if directives.only:
                raise _not_cached(identity)
            return None
        result = call.cache = CacheResult("miss")
        lookup = CacheLookup(
            identity,
            directives,
            self._rules.flushed_at(caller.tenant, caller.project, call.parsed.model),
        )
        if directives.look:
            hit = self._in_memory(call, lookup) or await self._elsewhere(call, lookup)
            if hit is not None:
                assert hit.entry is not None, "only what is in flight has none yet"
                result.hit, result.outcome = hit, hit.kind
                template = None
                if hit.kind is HitKind.EXACT:
                    result.hit_confidence = 1.0
                    if repeated is None:
                        repeated = self._remember(call, plan, identity)
                    template = repeated.template_of(hit) if repeated else None
                return CachedAnswer(hit.entry, self._rules.replay_chars_per_s, template)
        if directives.only:
            raise _not_cached("miss")
        if not directives.store:
            return None
        return await self._lead_or_follow(call, lookup)

    def explain(self, call: Call, caller: KeyGrant) -> dict[str, object]:
        """See `core.ports.Cache.explain`."""
        rules = self._served.get().cache
        mode = rules.mode_of(caller.tenant, caller.project, call.parsed.model)
        by_meaning = mode == "semantic" and self._semantic is not None
        learning = self._semantic.is_learning(call) if by_meaning and self._semantic else None
        return {"mode": mode, "learning": learning}

    # --- requests that come again, letter by letter ------------------------------------------

    def ready(self, call: Call) -> ReadyAnswer | None:
        """See `core.ports.Cache.ready`; none where the call says how the cache is to be used."""
        if not self._repeated:
            return None
        request = call.request
        known = self._known(request, request.body)
        if known is None or known.parsed.stream or b"x-tc-cache" in request.headers:
            return None
        return known

    def recall(self, call: Call, caller: KeyGrant, body: bytes) -> ParsedRequest | None:
        """See `core.ports.Cache.recall`."""
        known = self._known(call.request, body) if self._repeated else None
        # A copy: a call lets go of its fields, and an alias renames the model.
        return None if known is None else structs.replace(known.parsed)

    def _known(self, request: CallRequest, body: bytes) -> _Repeated | None:
        # Whose key it is, and what that may do, is the same while the generation is.
        if self._generation != self._served.generation or len(body) > _REPEATED_BODY_BYTES_MAX:
            return None
        return self._repeated.get((request.key_digest, request.api_format.name, body))

    def _repeated_of(self, call: Call, plan: Plan) -> _Repeated | None:
        known = self._known(call.request, call.request.body)
        return known if known is not None and known.place == _place_of(call, plan) else None

    def entry_of(self, key: bytes) -> CacheEntry | None:
        """What is kept in memory under a key and young enough."""
        return self._store.get(key, self._unix_time())

    def count_exact(self, call: Call, identity: Identity) -> None:
        """A call was given the answer to its very question."""
        if self._semantic is not None and identity.namespace:
            self._semantic.exact(call)

    def _remember(self, call: Call, plan: Plan, identity: Identity) -> _Repeated | None:
        """The next call with this body need not be parsed and identified again.

        Only what was asked at least twice, and whose parsed form no call changes.
        """
        parsed, request = call.parsed, call.request
        if len(request.body) > _REPEATED_BODY_BYTES_MAX or parsed.native or parsed.mended:
            return None
        size = len(request.body) + REPEATED_OVERHEAD_BYTES
        if self._repeated_bytes + size > REPEATED_BYTES_MAX:
            self._forget_repeated()
        self._repeated_bytes += size
        known = _Repeated(self, structs.replace(parsed), identity, _place_of(call, plan))
        self._repeated[request.key_digest, request.api_format.name, request.body] = known
        return known

    def _forget_repeated(self) -> None:
        self._repeated.clear()
        self._repeated_bytes = 0

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
                    await asyncio.sleep(self._shared_backoff.failed())
                else:
                    self._shared_backoff.answered()
            self._stored.clear()
            await self._stored.wait()

    # --- whether the cache may be used -----------------------------------------------------

    def _identity(
        self, call: Call, caller: KeyGrant, plan: Plan, directives: Directives
    ) -> Identity | str:
        rules, parsed = self._rules, call.parsed
        mode = rules.mode_of(caller.tenant, caller.project, parsed.model)
        if mode == "off":
            return "off"
        if not directives.look and not directives.store:
            return "asked"
        if caller.data_class and rules.classes:
            kept = rules.of_classes(caller.tenant, caller.data_class)
            if kept == "none":
                return "data_class"
            if kept == "exact":
                mode = "exact"
        user = _user_of(parsed, caller) if rules.scope == "user" else ""
        if parsed.api in (Api.CHAT, Api.COMPLETIONS):
            temperature = parsed.fields.get("temperature")
            if temperature is not None and (_TEMPERATURE(temperature) or 0) > rules.temperature_max:
                return "temperature"
        namespace = Namespace(
            caller.tenant, caller.project, caller.environment, user, caller.data_class,
            parsed.model, *_place_of(call, plan), "",
        )  # fmt: skip
        return identify(
            parsed,
            namespace,
            self._digest,
            semantic=mode == "semantic"
            and self._semantic is not None
            and (self._may_compare is None or self._may_compare(call, caller, plan)),
        )

    def _renew(self) -> None:
        """Serve by a new snapshot."""
        self._generation = self._served.generation
        self._forget_repeated()
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

    # --- look-up -------------------------------------------------------------------------

    def _in_memory(self, call: Call, lookup: CacheLookup) -> Hit | None:
        key, now = lookup.identity.key, self._unix_time()
        entry = self._store.get(key, now)
        if entry is None or not self._fresh(entry, key, lookup, now):
            return None
        self.count_exact(call, lookup.identity)
        return Hit(HitKind.EXACT, entry, key)

    async def _elsewhere(self, call: Call, lookup: CacheLookup) -> Hit | None:
        key, now = lookup.identity.key, self._unix_time()
        if self._shared is not None and not self._shared_backoff.wait_s:
            entry = await self._from_shared(key)
            if entry is not None and self._fresh(entry, key, lookup, now):
                self._store.put(key, entry)
                return Hit(HitKind.EXACT, entry, key)
        if self._semantic is not None and lookup.identity.namespace:
            found = await self._semantic.find(call, lookup.identity)
            hit, call.cache.hit_confidence = found.hit, found.confidence
            if found.learning and hit is None:
                call.cache.reason = LEARNING
            elif found is UNANSWERED:
                call.cache.reason = UNAVAILABLE
            if hit is not None and hit.entry is not None:
                if self._fresh(hit.entry, hit.key, lookup, now):
                    return hit
                if not self._kept(hit.entry, hit.key, lookup):
                    self._semantic.drop(call, lookup.identity, self._rules, hit.key)
        return None

    def _fresh(self, entry: CacheEntry, key: bytes, lookup: CacheLookup, now: float) -> bool:
        """Whether an answer is young enough for this caller, and was not flushed."""
        if entry.expires_s <= now or now - entry.stored_s > lookup.directives.max_age_s:
            return False
        return self._kept(entry, key, lookup)

    def _kept(self, entry: CacheEntry, key: bytes, lookup: CacheLookup) -> bool:
        flushed = self._rules.flushed
        if not flushed:
            return True
        names = [flush_name(entry.tenant, "entry", key.hex())]
        names += [flush_name(entry.tenant, "tag", tag) for tag in entry.tags]
        return entry.stored_s > max(lookup.flushed_s, *(flushed.get(name, 0.0) for name in names))

    async def _from_shared(self, key: bytes) -> CacheEntry | None:
        assert self._shared is not None
        try:
            async with asyncio.timeout(SHARED_WAIT_MAX_S):
                data = await self._shared.get(key)
        except self._store_errors:
            self._shared_backoff.failed()
            return None
        self._shared_backoff.answered()
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
            flight.join()
            follows = False
            try:
                follows = await flight.begins()
            finally:
                if not follows:
                    flight.leave()
            if not follows:
                return None  # it failed before it said anything: each for itself
            result = call.cache
            result.hit = Hit(HitKind.INFLIGHT, flight.entry, key)
            result.outcome, result.reason = HitKind.INFLIGHT, ""
            result.hit_confidence = 1.0
            return FollowedAnswer(flight, result)
        # From here to the pipeline's `recorder` nothing is awaited: who comes next finds the
        # flight, and everything the leader is sent is recorded.
        flight = self._flights[name] = Flight(name, self._rules.entry_bytes_max, self._behind)
        call.cache.in_flight = _Leader(self, flight, lookup, parsed.stream)
        return None

    def close(self, flight: Flight) -> None:
        """Nobody may join a flight any more."""
        if self._flights.get(flight.name) is flight:
            del self._flights[flight.name]

    def land(self, call: Call, flight: Flight, lookup: CacheLookup, last: bytes) -> None:
        """A leader is over: its followers get the answer, the cache keeps it if it may; also where
        the leader has left, and the upstream went on to the end for them."""
        self.close(flight)
        entry = None
        if call.has_whole_answer:
            entry = self._entry(call, lookup, flight.whole(call) if call.parsed.stream else last)
        flight.end(entry)

    def _entry(self, call: Call, lookup: CacheLookup, body: bytes) -> CacheEntry | None:
        """The answer as identical calls in flight get it, kept for later ones if it may be."""
        rules, caller, record = self._rules, call.caller, call.record
        assert caller is not None and record is not None, "who was answered is known"
        refusal = refusal_of(body, rules) if body else "not_whole"
        if refusal == "tool_calls":
            return None
        ttl_s = ttl_of(rules, lookup.identity.question, rules.scope == "user")
        now = self._unix_time()
        entry = CacheEntry(
            body, caller.tenant, record.model_served, now, now,
            record.prompt_tokens, record.completion_tokens, record.cost_pico, record.currency,
            record.price_version, call.tags.words[:TAGS_MAX], lookup.identity.question,
        )  # fmt: skip
        if refusal or isinstance(ttl_s, str) or not self._may_write(caller.key_id, now):
            return entry
        entry.expires_s = now + ttl_s * (1 + TTL_JITTER * (2 * self._random() - 1))
        key = lookup.identity.key
        self._store.put(key, entry)
        if self._shared is not None:
            self._stores.append((key, entry))
            self._stored.set()
        if self._semantic is not None and lookup.identity.namespace:
            self._semantic.learn(call, lookup.identity, rules, entry)
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


class _Repeated:
    """A body that was asked again, what it means, and its answer; see `core.ports.ReadyAnswer`."""

    __slots__ = ("_cache", "_entry", "_result", "_template", "identity", "parsed", "place")

    def __init__(
        self,
        cache: ResponseCache,
        parsed: ParsedRequest,
        identity: Identity,
        place: tuple[str, str],
    ) -> None:
        self._cache = cache
        self.parsed = parsed
        self.identity = identity
        self.place = place
        """What beside key, API and body is in the identity."""
        self._entry: CacheEntry | None = None
        self._template: ReplyTemplate
        self._result: CacheResult

    def template_of(self, hit: Hit) -> ReplyTemplate:
        """The answer that a call was found to be given, ready to be filled for others."""
        entry = hit.entry
        assert entry is not None, "only what is in flight has none yet"
        if self._entry is not entry:
            self._template = ReplyTemplate(entry.body)
            self._result = CacheResult(hit.kind)
            self._result.hit, self._result.hit_confidence = hit, 1.0
            self._entry = entry
        return self._template

    def holds(self, call: Call, plan: Plan) -> bool:
        """See `core.ports.ReadyAnswer.holds`."""
        if self._entry is None or self.place != _place_of(call, plan):
            return False
        # The very entry that was found for such a call before: what was flushed since is of
        # another generation, so that only its age can have changed.
        return self._cache.entry_of(self.identity.key) is self._entry

    def give(self, call: Call) -> bytes:
        """See `core.ports.ReadyAnswer.give`."""
        self._cache.count_exact(call, self.identity)
        call.cache = self._result
        request = call.request
        return self._template.fill(request.id, request.started_ms // 1_000, self.parsed.api)


ANSWER_HEADERS = (b"x-tc-unsupported", b"anthropic-beta")
"""Headers that change what an upstream is asked, and so the answer."""
_USERS = ("user", "safety_identifier")
_NOBODY = (b"null", b'""')


def _user_of(parsed: ParsedRequest, caller: KeyGrant) -> str:
    """Whose answers a call may get where users do not share them; who names nobody is the key."""
    given = [
        name.encode() + b"=" + raw
        for name in _USERS
        if (raw := bytes(parsed.fields.get(name, b"null"))) not in _NOBODY
    ]
    return b"&".join(given).decode("utf-8", "replace") if given else caller.key_id


def _place_of(call: Call, plan: Plan) -> tuple[str, str]:
    """Where a call goes, and how its headers let it be changed for that; an entry of a virtual
    model may name the upstream itself."""
    route, headers = plan.route.name, call.request.headers
    if route != call.parsed.model:
        route = " ".join((route, *(candidate.upstream.id for candidate in plan.candidates)))
    for name in ANSWER_HEADERS:
        if name in headers:
            break
    else:
        return route, ""
    given = [headers.get(name, b"") for name in ANSWER_HEADERS]
    return route, b"\n".join(given).decode("latin-1").strip()


class CacheLookup:
    """What one call looked for."""

    __slots__ = ("directives", "flushed_s", "identity")

    def __init__(self, identity: Identity, directives: Directives, flushed_s: float) -> None:
        self.identity = identity
        self.directives = directives
        self.flushed_s = flushed_s
        """Answers stored before this Unix time are not given."""


class _Leader:
    """The first of identical calls; see `core.call.InFlight`."""

    __slots__ = ("_cache", "_flight", "_lookup", "_streams")

    def __init__(
        self, cache: ResponseCache, flight: Flight, lookup: CacheLookup, streams: bool
    ) -> None:
        self._cache = cache
        self._flight = flight
        self._lookup = lookup
        self._streams = streams

    def recorder(self, writer: ResponseWriter) -> ResponseWriter:
        """See `core.call.InFlight.recorder`; a whole answer needs none."""
        return RecordingWriter(writer, self._flight) if self._streams else writer

    def goes_on(self, cancel: Callable[[], None]) -> bool:
        """See `core.call.InFlight.goes_on`."""
        flight = self._flight
        if not flight.followers:
            self._cache.close(flight)
            return False
        flight.on_followed, flight.on_alone = nothing, cancel
        return True

    def settle(self, call: Call, last: bytes) -> None:
        """See `core.call.InFlight.settle`."""
        self._cache.land(call, self._flight, self._lookup, last)


def _not_cached(why: str) -> ApiError:
    return ApiError("not_cached", f"The answer is not in the cache ({why}).")
