"""Shares circuit-breaker state and load between gateways (Redis pub/sub), and who tries next.

Decisions stay each gateway's own and never wait for this. What is told arrives within
milliseconds or not at all; without the others a gateway finds out by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

import msgspec

from tokenschain.core.backoff import Backoff
from tokenschain.core.log_events import Reporter
from tokenschain.core.routing.health import Health
from tokenschain.core.routing.shared_load import Row, SharedLoad

TELL_S = 0.05
"""How often the others are told of load, where it has changed: a burst of prompts takes longer."""
LOOK_S = 0.1
"""How often open breakers are looked at for a trial that is due."""
TRIAL_S = 5.0
"""A claimed trial that was not made may be claimed again after this: longer than the 3.5 s
an upstream may take to its first token."""
RETRY_S = 1.0
NEWS_MAX = 1_000
"""Waiting to be told; more is dropped."""


class News(msgspec.Struct, frozen=True, array_like=True):
    """One thing to tell."""

    holder: str
    upstream: str
    kind: str
    """`open`, `closed` or `rests`; of a key, its state."""
    for_s: float = 0.0
    key: int = 0
    """The number of one of the upstream's keys; 0 when the whole upstream is meant."""


class LoadNews(msgspec.Struct, frozen=True, array_like=True):
    """Prompt tokens of one gateway's calls, where they have changed: `core.routing.shared_load`.

    A list where other news has an upstream's name: neither can be taken for the other.
    """

    holder: str
    rows: list[Row]


class HealthChannel(Protocol):
    """The way to the other gateways."""

    async def publish(self, message: bytes) -> None:
        """Send to all gateways; raises when there is no way."""

    def listen(self) -> AsyncIterator[bytes]:
        """What is told, until there is no way; now and then nothing, when nothing is told."""

    async def claim(self, name: str, for_s: float) -> bool:
        """Be the only one for a while; false when another is."""

    async def release(self, name: str) -> None:
        """Let another be the one."""


class SharedHealth:
    """One gateway's end of the channel."""

    def __init__(
        self,
        channel: HealthChannel,
        failures: tuple[type[Exception], ...],
        healths: Callable[[], Mapping[str, Health]],
        clock: Callable[[], float],
        report: Reporter,
        holder: str,
        key_heard: Callable[[str, int, str, float], None],
        load: SharedLoad | None = None,
    ) -> None:
        """
        Args:
            failures: what `channel` raises when there is no way.
            healths: of all upstreams, by id.
            report: told when another's word opened or closed a breaker or gave it a rest, and
                when the way to the others is lost or back.
            key_heard: told what another says of a key: upstream, number, state, for how long.
            load: what this gateway and the others have sent; None: not shared.
        """
        self._channel = channel
        self._failures = failures
        self._healths = healths
        self._clock = clock
        self._report = report
        self._holder = holder
        self._key_heard = key_heard
        self._load = load
        self._queue: asyncio.Queue[News] = asyncio.Queue(NEWS_MAX)
        self._claims: dict[str, float] = {}
        self._backoff = Backoff(clock, RETRY_S, name="redis", report=report)

    def publish(self, upstream: str, kind: str, for_s: float = 0.0, key: int = 0) -> None:
        """Let the others know, soon."""
        if not self._queue.full():
            self._queue.put_nowait(News(self._holder, upstream, kind, for_s, key))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            why = ""
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._publish())
                    group.create_task(self._listen())
                    group.create_task(self._claim_trials())
                    group.create_task(self._tell_load())
            except* self._failures as errors:
                self._alone()
                why = str(errors.exceptions[0]) or type(errors.exceptions[0]).__name__
            await asyncio.sleep(self._backoff.failed(why))

    def _alone(self) -> None:
        """The others cannot be asked: each gateway makes its own trials."""
        self._claims.clear()
        if self._load is not None:
            self._load.alone()
        for health in self._healths().values():
            health.shares_trials, health.may_try = False, True
        while not self._queue.empty():
            self._queue.get_nowait()

    async def _publish(self) -> None:
        while True:
            news = await self._queue.get()
            await self._channel.publish(msgspec.msgpack.encode(news))
            if (
                news.kind in ("open", "closed")
                and self._claims.pop(news.upstream, None) is not None
            ):
                await self._channel.release(news.upstream)

    async def _listen(self) -> None:
        async for message in self._channel.listen():
            self._backoff.answered()
            if not message:
                continue
            if self._heard_load(message):
                continue
            try:
                news = msgspec.msgpack.decode(message, type=News)
            except msgspec.DecodeError:
                continue  # of a newer gateway, perhaps
            if news.holder == self._holder:
                continue
            if news.key:
                self._key_heard(news.upstream, news.key, news.kind, news.for_s)
                continue
            health = self._healths().get(news.upstream)
            if health is None:
                continue
            was_open = health.is_open
            now = self._clock()
            rested = now < health.cooldown_until
            health.heard(news.kind, news.for_s, now)
            if health.is_open != was_open or (news.kind == "rests" and not rested):
                self._report(
                    f"breaker_{news.kind}_elsewhere",
                    upstream=news.upstream, by=news.holder, retry_in_s=round(news.for_s, 1),
                )  # fmt: skip

    def _heard_load(self, message: bytes) -> bool:
        """Whether another, or this gateway itself, told its load; it is counted."""
        try:
            told = msgspec.msgpack.decode(message, type=LoadNews)
        except msgspec.DecodeError:
            return False
        if self._load is not None and told.holder != self._holder:
            self._load.heard(told.holder, told.rows, self._clock())
        return True

    async def _tell_load(self) -> None:
        while self._load is not None:
            rows = self._load.changes(self._clock())
            if rows:
                await self._channel.publish(msgspec.msgpack.encode(LoadNews(self._holder, rows)))
            await asyncio.sleep(TELL_S)

    async def _claim_trials(self) -> None:
        while True:
            now = self._clock()
            for name, health in list(self._healths().items()):
                health.shares_trials = True
                if not health.is_open:
                    self._claims.pop(name, None)
                elif health.may_try:
                    if not health.tries and now - self._claims.get(name, now) >= TRIAL_S:
                        # No call came that could have tried it.
                        health.may_try = False
                        self._claims.pop(name, None)
                elif now >= health.reopens_at - LOOK_S and await self._channel.claim(name, TRIAL_S):
                    self._claims[name] = now
                    health.may_try = True
            await asyncio.sleep(LOOK_S)
