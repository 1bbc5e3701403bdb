"""The process that compares questions: gateways ask it over loopback, their loops never wait."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from tokenschain.core.cache.semantic_protocol import (
    CLUSTERS_PATH,
    DROP_PATH,
    FIND_PATH,
    HEALTH_PATH,
    LEARN_PATH,
    METRICS_PATH,
    REPORT_PATH,
    AskClusters,
    Drop,
    Find,
    Finding,
    Learn,
)
from tokenschain.core.cache.store import decode_entry, encode_entry
from tokenschain.core.errors import ApiError
from tokenschain.infra.security import secrets
from tokenschain.semantic.matcher import Found, Matcher, Unclear, answer_in
from tokenschain.semantic.remote import Judge
from tokenschain.wire.server import Exchange

LEARN_WAIT_MAX_S = 5.0
"""How long what was answered afresh waits behind callers who ask."""
EXACT_MAX = 10_000
"""Answers to the very same question that one message may report."""
JUDGING_MAX = 16
"""Pairs of answers before the judge at once; more are not judged."""
SIGNATURE_HEADER = b"x-tc-signature"
_BYTES = b"content-type: application/msgpack\r\n"
_TEXT = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
METRICS = {
    "tokenschain_semantic_wrong_share": "Share of wrong answers of all given from the cache, "
    "as far as was checked.",
    "tokenschain_semantic_wrong_share_low": "Lower end of its 95 % interval.",
    "tokenschain_semantic_wrong_share_high": "Upper end of its 95 % interval.",
    "tokenschain_semantic_checked": "Would-be hits that were answered afresh to check them.",
    "tokenschain_semantic_served": "Answers given by meaning.",
    "tokenschain_semantic_threshold": "Likeness from which answers are given; NaN: none are.",
}
JUDGE_METRICS = {
    "tokenschain_semantic_judge_asked_total": "Calls to the judge.",
    "tokenschain_semantic_judge_failed_total": "Calls to the judge that gave no verdict.",
}
_JSON = b"content-type: application/json\r\n"
_find = msgspec.msgpack.Decoder(Find).decode
_drop = msgspec.msgpack.Decoder(Drop).decode
_learn = msgspec.msgpack.Decoder(Learn).decode
_clusters = msgspec.msgpack.Decoder(AskClusters).decode
_encode = msgspec.msgpack.Encoder().encode
_Result = TypeVar("_Result")


class Service:
    """Answers gateways; see `core.cache.semantic_protocol`."""

    def __init__(
        self,
        matcher: Matcher,
        secret: str,
        report: Callable[[str, str], None],
        judge: Judge | None = None,
        *,
        judge_decides: bool = False,
    ) -> None:
        """
        Args:
            secret: signs what gateways and control ask.
            report: told of faults: what was asked, and why it failed.
            judge: asked whether two answers say the same where that cannot be told here.
            judge_decides: it is also asked, while a caller waits, whether a kept answer in doubt
                may be given.
        """
        self._matcher = matcher
        self._secret = secret
        self._report = report
        self._judge = judge
        self._decides = judge_decides
        # One thread: the models are not to be used from two, and one core is enough.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._finding = self._judging = 0
        self._lessons: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ways: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            FIND_PATH: self._find, LEARN_PATH: self._learn, DROP_PATH: self._drop,
            REPORT_PATH: self._reports, CLUSTERS_PATH: self._groups,
        }  # fmt: skip

    def __call__(self, exchange: Exchange) -> None:
        """See `wire.server.Handler`."""
        request = exchange.request
        path = request.path.decode("latin-1")
        if path == HEALTH_PATH:
            exchange.reply(200, _JSON, b'{"status":"ok"}')
            return
        if path == METRICS_PATH:
            exchange.reply(200, _TEXT, self.metrics())
            return
        signature = request.headers.get(SIGNATURE_HEADER, b"").decode("latin-1")
        signed = f"{path}\n".encode() + request.body
        if not secrets.signed_by(self._secret, signed, signature):
            _refuse(exchange, ApiError("invalid_api_key", "The signature is wrong."))
        elif path in self._ways:
            self._start(self._answer(exchange, path))
        else:
            _refuse(exchange, ApiError("not_found", "There is no such path."))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: Exchange, path: str) -> None:
        if path != FIND_PATH:
            await self._turn()
        try:
            body = await self._ways[path](exchange.request.body)
        except msgspec.DecodeError as error:
            _refuse(exchange, ApiError("invalid_value", f"The body is not read: {error}."))
        except Exception as error:  # noqa: BLE001 - whoever asked has a miss, nothing worse
            self._report(path, repr(error))
            _refuse(exchange, ApiError("internal_error", "The comparison failed."))
        else:
            exchange.reply(200, _BYTES, body)

    async def _turn(self) -> None:
        """A caller waits for a find and for nothing else, so all else waits for one to end; one
        after each, or where callers never cease nothing would be learned."""
        if not self._finding:
            return
        mine = asyncio.get_running_loop().create_future()
        self._lessons.append(mine)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(mine, LEARN_WAIT_MAX_S)

    def _found(self) -> None:
        self._finding -= 1
        while self._lessons:
            one = self._lessons.popleft()
            if not one.done():
                one.set_result(None)
                if self._finding:
                    break

    async def in_thread(self, work: Callable[..., _Result], *given: Any, **more: Any) -> _Result:
        """Let the one thread do something that uses the models, or what was learned."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, functools.partial(work, *given, **more))

    async def _find(self, body: bytes) -> bytes:
        asked = _find(body)
        self._finding += 1
        try:
            found = await self.in_thread(self._look, asked)
        finally:
            self._found()
        doubt, judge = found.doubt, self._judge
        if doubt is not None and judge is not None and self._decides:
            kept = doubt.entry
            fits = await judge.fits(kept.question, answer_in(kept), asked.question)
            if fits and await self.in_thread(
                self._matcher.confirmed, asked.namespace, asked.group, asked.question, doubt
            ):
                found = found._replace(key=doubt.key, entry=kept)
        entry = b"" if found.entry is None else encode_entry(found.entry)
        return _encode(Finding(found.likeness, found.key, entry))

    def _look(self, asked: Find) -> Found:
        bound = self._matcher.bound_of(asked.group)
        for _ in range(min(asked.exact, EXACT_MAX)):
            bound.exact()
        return self._matcher.find(asked.namespace, asked.group, asked.question)

    async def _learn(self, body: bytes) -> bytes:
        said = _learn(body)
        found = await self.in_thread(
            self._matcher.learn, said.namespace, said.group, said.key, said.question,
            decode_entry(said.entry), said.wrong_max,
        )  # fmt: skip
        if not isinstance(found, Unclear):
            return _encode(found)
        if self._judge is not None and self._judging < JUDGING_MAX:
            self._start(self._let_judge(self._judge, found))
        return _encode(None)

    async def _let_judge(self, judge: Judge, unclear: Unclear) -> None:
        """Nobody waits for this; the judge has its own limits."""
        self._judging += 1
        try:
            right = await judge.agree(unclear.question, unclear.kept, unclear.fresh)
            if right is not None:
                await self.in_thread(self._matcher.judged, unclear, right=right)
        finally:
            self._judging -= 1

    async def _drop(self, body: bytes) -> bytes:
        said = _drop(body)
        await self.in_thread(
            self._matcher.drop, said.group, said.namespace, said.key, said.wrong_max
        )
        return _encode(None)

    async def _reports(self, _: bytes) -> bytes:
        return _encode(await self.in_thread(self._matcher.reports))

    async def _groups(self, body: bytes) -> bytes:
        asked = _clusters(body)
        return _encode(
            await self.in_thread(self._matcher.clusters, asked.tenant, asked.keys, asked.count_max)
        )

    def metrics(self) -> bytes:
        """What was measured of each group, as Prometheus reads it."""
        lines = [f"# HELP {name} {meaning}" for name, meaning in METRICS.items()]
        lines += [f"# TYPE {name} gauge" for name in METRICS]
        for one in self._matcher.reports():
            values = (
                one.wrong, one.low, one.high, one.checked, one.served,
                math.nan if one.threshold is None else one.threshold,
            )  # fmt: skip
            label = one.group.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
            lines += [
                f'{name}{{group="{label}"}} {value:g}'
                for name, value in zip(METRICS, values, strict=True)
            ]
        if self._judge is not None:
            counts = (self._judge.asked, self._judge.failed)
            for (name, meaning), count in zip(JUDGE_METRICS.items(), counts, strict=True):
                lines += [f"# HELP {name} {meaning}", f"# TYPE {name} counter", f"{name} {count}"]
        return "\n".join((*lines, "")).encode()


def _refuse(exchange: Exchange, error: ApiError) -> None:
    exchange.reply(error.status, _JSON, error.body())
