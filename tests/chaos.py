"""Mixed load on a whole cluster while its parts are killed and its stores hang.

Three gateways, control, PostgreSQL and Redis, as real processes. What dies is started again, as
a supervisor would. Callers behave as the official SDKs do: what breaks is asked again, twice at
most, of whichever gateway the balancer in front picks.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from redis import Redis

from tests.servers import Postgres, RedisStack
from tests.stack import PRICES, Stack
from tests.upstreams import UpstreamSimulator
from tokenschain.core.limits import HOLDER_TTL_S

TRIES = 3
ASK_MAX_S = 20.0
WORDS, PAUSE_S, DELAY_S = 8, 0.02, 0.05
KILL_EVERY_S = (4.0, 12.0)
SETTLE_MAX_S = 90.0


@dataclass
class Tried:
    """One try of a call."""

    name: str
    kind: str
    """`whole`, `stream`, `retried` (the first upstream fails) or `aborted`."""
    at_s: float
    request_id: str = ""
    outcome: str = "broken"
    """`ok`, `left` (on purpose), an HTTP status, or `broken`."""
    took_s: float = 0.0


@dataclass
class Report:
    """What came of it."""

    calls: int = 0
    answered: int = 0
    tries: list[Tried] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    duplicates: int = 0
    missing: list[str] = field(default_factory=list)
    """Calls whose callers have the whole answer and the ledger has not."""
    wrong_tokens: list[tuple[str, int, int]] = field(default_factory=list)
    """Whole answers whose tokens in the ledger are not what the upstream produced."""
    tokens_ledger: int = 0
    tokens_upstream: int = 0
    """Of the whole answers."""
    left_tokens: tuple[int, int] = (0, 0)
    """Of streams that callers left: in the ledger, and produced upstream."""
    torn_tokens: int = 0
    """Produced for tries that a kill tore from a gateway's hands; no ledger can know them."""
    spent_is_charged: bool = False
    held_at_once: int = -1
    promised: int = -1
    p99_ms: dict[str, float] = field(default_factory=dict)
    log_bytes: int = 0
    connections: int = 0

    @property
    def success(self) -> float:
        """Share of calls that were answered in the end, those left on purpose aside."""
        return self.answered / max(1, self.calls)


class Chaos:
    """One run."""

    def __init__(
        self,
        folder: Path,
        postgres: Postgres,
        redis: RedisStack,
        seconds: float,
        calls_per_s: float,
    ) -> None:
        self.postgres, self.redis = postgres, redis
        self.seconds, self.calls_per_s = seconds, calls_per_s
        self.upstream = UpstreamSimulator()
        self.upstream.remembers = False
        clouds = [
            {
                "id": f"cloud{n}",
                "base_url": self.upstream.base_url,
                "models": ["sim-chat"],
                "prices": {"sim-chat": PRICES},
            }
            for n in range(3)
        ]
        self.stack = Stack(
            folder, "http://unused", gateways=3, upstreams=clouds,
            database={"url": postgres.database()}, redis={"url": redis.url},
        )  # fmt: skip
        self.report = Report()
        self._began = 0.0
        self._ending = threading.Event()
        self._chance = random.Random(5)

    def run(self) -> Report:
        """Start, load, break, settle, count."""
        self.stack.start()
        try:
            self._set_limits()
            self._began = time.monotonic()
            keeper = threading.Thread(target=self._keep_up)
            breaker = threading.Thread(target=self._break)
            keeper.start()
            breaker.start()
            asyncio.run(self._load())
            breaker.join()
            self._settle()
            self._ending.set()
            keeper.join()
            self._count()
        finally:
            self._ending.set()
            self.postgres.resume()
            self.redis.resume()
            self.stack.close()
            self.upstream.close()
        return self.report

    def _set_limits(self) -> None:
        """Limits of every kind, none of which is in the way; when their owners are gone, calls
        go on: that is this cluster's policy."""
        for name, body in {
            "rpm": {"kind": "rate", "measure": "requests", "amount": 10**8},
            "tpm": {"kind": "rate", "measure": "tokens", "amount": 10**9, "per": ["key_id"]},
            "busy": {"kind": "rate", "measure": "concurrent", "amount": 10_000},
            "month": {
                "kind": "budget",
                "measure": "spend",
                "amount": 10**15,
                "on_unavailable": "allow",
            },
        }.items():
            reply = self.stack.admin("PUT", f"/api/v1/limits/{name}", json=body)
            assert reply.status_code == 200, reply.text
        time.sleep(1.0)

    # --- load ---------------------------------------------------------------------------

    async def _load(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
        async with (
            httpx.AsyncClient(timeout=ASK_MAX_S, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            number = 0
            while (now := time.monotonic() - self._began) < self.seconds:
                due = int(now * self.calls_per_s)
                while number < due:
                    group.create_task(self._call(client, number))
                    number += 1
                await asyncio.sleep(0.01)

    async def _call(self, client: httpx.AsyncClient, number: int) -> None:
        kind = ("whole", "stream", "whole", "stream", "retried", "stream", "whole", "aborted")[
            number % 8
        ]
        first = self._chance.randrange(len(self.stack.urls))
        for again in range(TRIES):
            tried = Tried(f"{number}-{again}", kind, time.monotonic() - self._began)
            self.report.tries.append(tried)
            # As any balancer does: what did not answer is not asked again at once.
            await self._try(client, tried, self.stack.urls[(first + again) % len(self.stack.urls)])
            if tried.outcome in ("ok", "left"):
                break
            await asyncio.sleep(0.25 * 2**again)
        if kind != "aborted":
            self.report.calls += 1
            self.report.answered += tried.outcome == "ok"

    async def _try(self, client: httpx.AsyncClient, tried: Tried, gateway: str) -> None:
        sim: dict[str, Any] = {"id": tried.name, "tokens": WORDS, "delay_s": DELAY_S}
        streams = tried.kind in ("stream", "aborted")
        if streams:
            sim["pause_s"] = PAUSE_S
        if tried.kind == "retried":
            sim["fail_first"] = True
        body = {
            "model": "sim-chat",
            "messages": [{"role": "user", "content": "hello"}],
            "max_tokens": 50,
            "stream": streams,
            "x_sim": sim,
        }
        url = f"{gateway}/v1/chat/completions"
        began = time.monotonic()
        try:
            async with client.stream("POST", url, json=body, headers=self.stack.headers) as reply:
                tried.request_id = reply.headers.get("x-request-id", "")
                text = ""
                async for piece in reply.aiter_text():
                    text += piece
                    if tried.kind == "aborted" and text.count("word") >= 3:
                        tried.outcome = "left"
                        return
                if reply.status_code != 200:
                    tried.outcome = str(reply.status_code)
                elif not streams or "[DONE]" in text:
                    tried.outcome = "ok"
                    tried.took_s = time.monotonic() - began
        except httpx.HTTPError:
            pass

    # --- what breaks -----------------------------------------------------------------------

    def _at(self, share: float) -> None:
        self._ending.wait(max(0.0, share * self.seconds - (time.monotonic() - self._began)))

    @property
    def pauses(self) -> dict[str, tuple[float, float]]:
        """When which store hangs, as shares of the run: 60 s and 30 s of ten minutes."""
        return {"postgres": (0.3, 0.4), "redis": (0.55, 0.6)}

    def _break(self) -> None:
        """Kill something every few seconds; let the stores hang once each."""
        stores: dict[str, Postgres | RedisStack] = {"postgres": self.postgres, "redis": self.redis}
        hangs = [
            threading.Thread(target=self._hang, args=(stores[name], *when))
            for name, when in self.pauses.items()
        ]
        for hang in hangs:
            hang.start()
        self._at(0.1)
        chance = random.Random(7)
        scale = min(1.0, self.seconds / 120)
        while time.monotonic() - self._began < 0.95 * self.seconds:
            name = chance.choice([*self.stack.gateway_names, "control"])
            begin, end = self.pauses["redis"]
            if not begin <= (time.monotonic() - self._began) / self.seconds <= end:
                # Latency while Redis hangs is measured; a kill in between would be in it.
                self.stack.processes[name].kill()
                self.report.kills[name.partition("-")[0]] += 1
            self._ending.wait(chance.uniform(*KILL_EVERY_S) * scale)
        for hang in hangs:
            hang.join()

    def _hang(self, store: Postgres | RedisStack, begin: float, end: float) -> None:
        self._at(begin)
        store.pause()
        self._at(end)
        store.resume()

    def _keep_up(self) -> None:
        """Start again what died."""
        while not self._ending.wait(0.1):
            for name, process in list(self.stack.processes.items()):
                if process.poll() is not None:
                    self.stack.spawn(name)

    # --- what came of it ----------------------------------------------------------------------

    def _settle(self) -> None:
        """Wait until every whole answer is in the ledger and nothing is held any more; an answer
        whose caller left is in no ledger when its gateway was killed in the same moment."""
        expected = {t.request_id for t in self.report.tries if t.outcome == "ok"}
        deadline = time.monotonic() + SETTLE_MAX_S
        while time.monotonic() < deadline:
            try:
                known = {row["event_id"] for row in self.stack.rows("select event_id from ledger")}
                if expected <= known and self._held() == 0:
                    break
            except Exception:
                pass
            time.sleep(1.0)

    def _held(self) -> int:
        """Calls at once that Redis counts as running: those of gateways heard of lately."""
        with Redis.from_url(self.redis.url) as client:
            seconds, micros = client.time()
            since_ms = (seconds - HOLDER_TTL_S) * 1e3 + micros / 1e3
            held = [
                value.split()
                for key in client.scan_iter("*busy*")
                if client.type(key) == b"hash"
                for value in client.hvals(key)
            ]
            return sum(int(count) for count, seen_ms in held if int(seen_ms) >= since_ms)

    def _count(self) -> None:
        report = self.report
        rows = self.stack.rows(
            "select event_id, outcome, completion_tokens, charge_pico from ledger"
        )
        by_id = {row["event_id"]: row for row in rows}
        report.rows, report.duplicates = len(rows), len(rows) - len(by_id)
        produced = self.upstream.produced
        left = [0, 0]
        for tried in report.tries:
            row = by_id.get(tried.request_id)
            made = produced.get(tried.name, 0)
            if tried.outcome == "ok":
                if row is None:
                    report.missing.append(tried.request_id)
                    continue
                report.tokens_ledger += row["completion_tokens"]
                report.tokens_upstream += made
                if row["completion_tokens"] != made:
                    report.wrong_tokens.append((tried.request_id, row["completion_tokens"], made))
            elif row is None:
                report.torn_tokens += made
            else:
                left[0] += row["completion_tokens"]
                left[1] += made
        report.left_tokens = left[0], left[1]
        used = self.stack.admin("GET", "/api/v1/limits/month").json()["used"][0]
        report.spent_is_charged = used["spent"] == sum(int(r["charge_pico"] or 0) for r in rows)
        report.promised = used["promised"]
        report.held_at_once = self._held()
        report.log_bytes = (self.stack.folder / "log").stat().st_size
        found = self.stack.rows("select count(*) n from pg_stat_activity where usename = 'tc'")
        report.connections = found[0]["n"]
        begin, end = self.pauses["redis"]
        times: dict[str, list[float]] = {"before": [], "while Redis hangs": []}
        for tried in report.tries:
            if tried.outcome == "ok" and tried.kind == "whole":
                share = tried.at_s / self.seconds
                if share < 0.1:
                    times["before"].append(tried.took_s)
                elif begin <= share < end:
                    times["while Redis hangs"].append(tried.took_s)
        for name, values in times.items():
            if values:
                report.p99_ms[name] = sorted(values)[int(len(values) * 0.99)] * 1e3
