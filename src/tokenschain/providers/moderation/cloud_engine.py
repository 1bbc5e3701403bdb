"""Cloud moderation engine: asks one vendor, with breaker, quota, time limit and verdict cache."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.moderation.engine_record import EngineRecord, EngineStatus, NotAsked
from tokenschain.core.moderation.verdict import (
    Direction,
    EngineContext,
    EngineCost,
    EngineFailed,
    EngineFailure,
    EngineVerdict,
    RiskFinding,
)
from tokenschain.core.routing.health import Health
from tokenschain.providers.auth import key_pair
from tokenschain.providers.moderation.division import Piece, in_place, pieces_of
from tokenschain.providers.moderation.vendor import (
    Asking,
    ModerationVendor,
    PieceVerdict,
    Unanswered,
    VendorRequest,
    wrong_request,
)
from tokenschain.providers.moderation.verdict_cache import VerdictCache, VerdictKey
from tokenschain.providers.signing import KeyPair
from tokenschain.wire.client import BadReply, ClientError, HttpClient, TimedOut, Waits
from tokenschain.wire.request_head import encode_lines

PIECES_MAX = 32
"""Of one call, pictures included: a call of more is not judged by this engine."""
CONNECTIONS_MAX = 64
_REPLY_BYTES_MAX = 1_048_576
_REQUEST_IDS_MAX = 4
_DAY_S = 86_400.0


class EngineClock(NamedTuple):
    """Time and randomness, handed in."""

    monotonic: Callable[[], float]
    unix_time: Callable[[], float]
    random: Callable[[], float]
    nonce: Callable[[], str]


class CallQuota:
    """How often an engine is asked: a bucket that holds a second's calls, and a day's budget.

    Of this process: each gateway has its own.
    """

    def __init__(self, per_second: float, per_day: int | None = None) -> None:
        self._per_second, self._per_day = per_second, per_day
        self._left, self._at = max(1.0, per_second), 0.0
        self._used, self._day = 0, -1

    def take(self, calls: int, now: float, unix_s: float) -> bool:
        """Whether so many calls may be made now; all or none."""
        burst = max(1.0, self._per_second)
        self._left = min(burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        day = int(unix_s // _DAY_S)
        if day != self._day:
            self._used, self._day = 0, day
        if self._per_day is not None and self._used + calls > self._per_day:
            return False
        # More calls at once than a second allows are let go when the bucket is full.
        if self._left < min(calls, burst):
            return False
        self._left -= calls
        self._used += calls
        return True

    def today(self, unix_s: float) -> tuple[int, int | None]:
        """Calls that were made today, and how many may be."""
        return (self._used if int(unix_s // _DAY_S) == self._day else 0), self._per_day


class EnginePrice(NamedTuple):
    """What a vendor charges, in pico-yuan."""

    request_pico: int = 0
    character_pico: int = 0
    """Of what is sent, beside the request."""
    withdrawn: bool = True
    """Whether requests count that were given up before their answers: the vendor has them."""

    def of(self, engine: str, sizes: Sequence[int]) -> tuple[EngineCost, ...]:
        """The cost of requests of so many characters; none where nothing is charged."""
        cost_pico = len(sizes) * self.request_pico + sum(sizes) * self.character_pico
        return (EngineCost(engine, len(sizes), cost_pico),) if cost_pico else ()


class CloudEngine:
    """See `core.ports.ModerationEngine`."""

    def __init__(
        self,
        name: str,
        vendor: ModerationVendor,
        client: HttpClient,
        credential: Callable[[], str | None],
        quota: CallQuota,
        cache: VerdictCache,
        clock: EngineClock,
        price: EnginePrice = EnginePrice(),
    ) -> None:
        """
        Args:
            credential: an `id:secret`; None while there is none.
        """
        self._name, self._vendor, self._client = name, vendor, client
        self._credential, self._quota, self._cache = credential, quota, cache
        self._clock, self._price = clock, price
        self.health = Health()
        self._record = EngineRecord()
        self._keys: tuple[str, KeyPair] | None = None
        self.refresh()

    @property
    def name(self) -> str:
        """See `core.ports.ModerationEngine`."""
        return self._name

    @property
    def takes_images(self) -> bool:
        """See `core.ports.ModerationEngine`."""
        return self._vendor.takes_images

    def refresh(self) -> None:
        """Read the credential again. Off the hot path."""
        value = self._credential()
        if value is None:
            self._keys = None
        elif self._keys is None or self._keys[0] != value:
            try:
                self._keys = value, key_pair(value)
            except ApiError:
                self._keys = None

    def secrets(self) -> frozenset[str]:
        """What no text may hold."""
        return frozenset() if self._keys is None else frozenset(self._keys[1])

    def status(self, vendor: str, zone: str) -> EngineStatus:
        """How it is, and what it did lately."""
        now, unix_s = self._clock.monotonic(), self._clock.unix_time()
        sums, record = self._record.sums(now), self._record
        today, a_day = self._quota.today(unix_s)
        return EngineStatus(
            self._name, vendor, self.health.state(now), zone,
            round(self.health.ready_in_s(now), 3), self._keys is not None, sums.answered,
            dict(sums.errors), sums.withdrawn, sums.from_memory, dict(sums.waits),
            record.last_error, record.last_error_s, today, a_day,
        )  # fmt: skip

    async def screen(
        self,
        texts: Sequence[str],
        direction: Direction,
        context: EngineContext,
        images: Sequence[str] = (),
    ) -> EngineVerdict:
        """See `core.ports.ModerationEngine`."""
        try:
            return await self._screen(texts, direction, context, images)
        except Unanswered as error:
            costs = self._price.of(self._name, error.answered)
            raise EngineFailed(self._name, error.failure, error.detail, costs=costs) from error

    async def _screen(
        self,
        texts: Sequence[str],
        direction: Direction,
        context: EngineContext,
        images: Sequence[str],
    ) -> EngineVerdict:
        questions = self._questions(texts, direction, context, images)
        now = self._clock.monotonic()
        found = [self._cached(question, now) for question in questions]
        open_ones = [at for at, verdict in enumerate(found) if verdict is None]
        self._record.remembered(now, len(found) - len(open_ones))
        if open_ones:
            asked = [questions[at] for at in open_ones]
            answers = await self._ask(asked, direction, context)
            now = self._clock.monotonic()
            for at, answer in zip(open_ones, answers, strict=True):
                found[at] = answer
                self._keep(questions[at], answer, now)
        findings: dict[RiskFinding, None] = {}
        ids: dict[str, None] = {}
        for question, verdict in zip(questions, found, strict=True):
            assert verdict is not None, "it was at hand or asked for"
            findings.update(dict.fromkeys(in_place(question.piece, verdict.findings)))
            ids[verdict.request_id] = None
        return EngineVerdict(
            self._name,
            tuple(findings),
            ",".join(list(filter(None, ids))[:_REQUEST_IDS_MAX]),
            self._price.of(self._name, [len(questions[at].piece.words) for at in open_ones]),
        )

    def _questions(
        self,
        texts: Sequence[str],
        direction: Direction,
        context: EngineContext,
        images: Sequence[str],
    ) -> list[_Question]:
        """
        Raises:
            Unanswered: more than the engine takes.
        """
        vendor = self._vendor
        if images and not self.takes_images:
            raise wrong_request("no images")
        questions: list[_Question] = []
        for piece in pieces_of(texts, vendor.limit(direction)):
            key = None
            # Of a stream, a verdict is of what came before, too.
            if not context.session or direction is Direction.INPUT:
                digest = self._cache.digest_of(piece.words)
                key = VerdictKey(
                    self._name, direction, context.tenant, context.policy_version, digest
                )
            make = partial(vendor.text_request, piece.words)
            questions.append(_Question(piece, make, key))
            if len(questions) + len(images) > PIECES_MAX:
                raise wrong_request("too long")
        for number, url in enumerate(images, len(texts)):
            make = partial(vendor.image_request, url)
            questions.append(_Question(Piece(number, 0, ""), make, None))
        return questions

    def _cached(self, question: _Question, now: float) -> PieceVerdict | None:
        if question.key is None:
            return None
        return self._cache.get(question.key, question.piece.words, now)

    def _keep(self, question: _Question, answer: PieceVerdict, now: float) -> None:
        if question.key is not None:
            self._cache.put(question.key, question.piece.words, answer, now)

    async def _ask(
        self, questions: Sequence[_Question], direction: Direction, context: EngineContext
    ) -> list[PieceVerdict]:
        """Ask for everything at once; the breaker counts it as one attempt.

        Raises:
            Unanswered: the first that failed.
        """
        keys = self._admit(len(questions))
        self.health.begin()
        clock, record = self._clock, self._record
        began, sizes = clock.monotonic(), [len(one.piece.words) for one in questions]
        tasks: list[asyncio.Task[PieceVerdict]] = []
        try:
            async with asyncio.timeout(context.deadline_s), asyncio.TaskGroup() as group:
                for question in questions:
                    exchange = self._exchange(question, direction, context, keys)
                    tasks.append(group.create_task(exchange))
        except TimeoutError:
            failure = Unanswered(EngineFailure.TIMEOUT, f"{context.deadline_s:g} s")
        except ExceptionGroup as group_of:
            first = group_of.exceptions[0]
            if not isinstance(first, Unanswered):
                self.health.withdrawn()
                raise first from None
            failure = first
        except BaseException:
            self.health.withdrawn()
            record.withdrawn(clock.monotonic())
            if context.owe is not None and self._price.withdrawn:
                for cost in self._price.of(self._name, sizes):
                    context.owe(cost)
            raise
        else:
            now = clock.monotonic()
            self.health.succeeded(now)
            record.answered(now, now - began)
            return [task.result() for task in tasks]
        now = clock.monotonic()
        failure.answered = [
            size for task, size in zip(tasks, sizes, strict=False) if _is_answered(task)
        ]
        self.health.failed(failure.outcome, now, None, clock.random())
        record.failed(failure.failure, failure.detail, now, clock.unix_time())
        raise failure

    def _admit(self, calls: int) -> KeyPair:
        """
        Raises:
            Unanswered: it is not to be asked now.
        """
        clock = self._clock
        now, unix_s = clock.monotonic(), clock.unix_time()
        if self._keys is None:
            why, failure = NotAsked.NO_CREDENTIAL, EngineFailure.REFUSED
            detail = "no credential"
        elif not self.health.allows(now):
            why, failure = NotAsked.BREAKER, EngineFailure.UNREACHABLE
            detail = f"breaker {self.health.state(now)}"
        elif not self._quota.take(calls, now, unix_s):
            why, failure, detail = NotAsked.QUOTA, EngineFailure.THROTTLED, "own quota"
        else:
            return self._keys[1]
        self._record.failed(why, "", now, unix_s)
        raise Unanswered(failure, detail)

    async def _exchange(
        self, question: _Question, direction: Direction, context: EngineContext, keys: KeyPair
    ) -> PieceVerdict:
        """One request and what it says.

        Raises:
            Unanswered: nothing.
        """
        clock, wait_s = self._clock, context.deadline_s
        asking = Asking(direction, context, keys, clock.unix_time(), clock.nonce())
        try:
            request = question.make(asking)
            sent = _bytes_of(request)
        except ValueError as error:
            raise wrong_request("not to be encoded") from error
        status = 0
        try:
            waits = Waits(wait_s, wait_s, wait_s, wait_s, wait_s)
            reply = await self._client.open(request.origin, sent, waits, CONNECTIONS_MAX)
            status = reply.status
            return request.read(status, await reply.read(_REPLY_BYTES_MAX))
        except TimedOut as error:
            raise Unanswered(EngineFailure.TIMEOUT, error.phase) from error
        except BadReply as error:
            raise Unanswered(EngineFailure.GARBAGE, "no HTTP") from error
        except ClientError as error:
            raise Unanswered(EngineFailure.UNREACHABLE, type(error).__name__) from error
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            failure = EngineFailure.UNREACHABLE if status >= 500 else EngineFailure.GARBAGE
            raise Unanswered(failure, f"HTTP {status}") from error


def _is_answered(task: asyncio.Task[PieceVerdict]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _bytes_of(request: VendorRequest) -> bytes:
    head = encode_lines((
        f"POST {request.target} HTTP/1.1", f"host: {request.origin.authority}",
        *(f"{name}: {value}" for name, value in request.headers),
        f"content-length: {len(request.body)}",
    ))  # fmt: skip
    return b"%b\r\n%b" % (head, request.body)


class _Question(NamedTuple):
    """One request to be made, and where its answer belongs."""

    piece: Piece
    make: Callable[[Asking], VendorRequest]
    key: VerdictKey | None
