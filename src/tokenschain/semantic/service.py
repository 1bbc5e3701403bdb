"""Semantic cache service: look-ups, learning and metrics over HTTP on loopback.

A process of its own, since embedding a question takes tens of milliseconds, which in a gateway
would hold every stream up.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec

from tokenschain.core.cache.semantic_protocol import (
    CLUSTERS_PATH,
    DROP_PATH,
    FIND_PATH,
    HEALTH_PATH,
    LEARN_PATH,
    METRICS_PATH,
    PAIRS_PATH,
    REPORT_PATH,
    AskClusters,
    Drop,
    Find,
    Finding,
    Learn,
    PairsTaught,
    TeachPairs,
)
from tokenschain.core.cache.store import decode_entry, encode_entry
from tokenschain.core.errors import ApiError
from tokenschain.infra.control_channel.protocol import SIGNATURE_HEADER
from tokenschain.infra.control_channel.signatures import BadSignature, Signatures, Signed
from tokenschain.infra.off_loop import WorkThread
from tokenschain.infra.security.secrets import same
from tokenschain.semantic.error_bound import LABELS_MIN
from tokenschain.semantic.matcher import Matcher, MatchResult, Unclear, answer_in, tenant_of
from tokenschain.semantic.remote import Judge
from tokenschain.wire.exchange import Exchange, Request

LEARN_WAIT_MAX_S = 5.0
"""How long learning waits behind look-ups, which callers wait for."""
EXACT_MAX = 10_000
"""Exact hits that one message may report."""
JUDGING_MAX = 16
"""Pairs of answers that the judge compares at once; more are not judged."""
_BYTES = b"content-type: application/msgpack\r\n"
_TEXT = b"content-type: text/plain; version=0.0.4; charset=utf-8\r\n"
METRICS = {
    "tokenschain_semantic_false_hit_rate": "Share of wrong answers of all cache hits, as far as "
    "was checked.",
    "tokenschain_semantic_false_hit_rate_low": "Lower end of its 95 % interval.",
    "tokenschain_semantic_false_hit_rate_high": "Upper end of its 95 % interval.",
    "tokenschain_semantic_checked": "Would-be hits that were answered upstream to check them.",
    "tokenschain_semantic_served": "Semantic hits.",
    "tokenschain_semantic_pairs": "Pairs of questions compared; below 150 nothing is served.",
    "tokenschain_semantic_threshold": "Hit confidence from which answers are served; NaN: none "
    "are.",
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
_pairs = msgspec.msgpack.Decoder(TeachPairs).decode
_encode = msgspec.msgpack.Encoder().encode
_Result = TypeVar("_Result")


class SemanticService:
    """Answers gateways and control; see `core.cache.semantic_protocol`."""

    def __init__(
        self,
        matcher: Matcher,
        signatures: Signatures,
        report: Callable[[str, str], None],
        metrics_token: str,
        judge: Judge | None = None,
        *,
        judge_decides: bool = False,
    ) -> None:
        """
        Args:
            signatures: of the requests of gateways and control, and of the answers.
            report: told of faults: `(path, why)`.
            metrics_token: who reads metrics shows it.
            judge: compares two answers where their numbers and embeddings do not tell.
            judge_decides: it is also asked, while a caller waits, whether a cached answer in
                doubt may be served.
        """
        self._matcher = matcher
        self._signatures = signatures
        self._report = report
        self._metrics_token = metrics_token
        self._judge = judge
        self._decides = judge_decides
        # One thread: the models are not to be used from two, and one core is enough.
        self._thread = WorkThread("questions")
        self._finding = self._judging = 0
        self._waiting_feedback: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ways: dict[str, Callable[[bytes], Awaitable[bytes]]] = {
            FIND_PATH: self._find, LEARN_PATH: self._learn, DROP_PATH: self._drop,
            REPORT_PATH: self._reports, CLUSTERS_PATH: self._groups,
            PAIRS_PATH: self._teach,
        }  # fmt: skip

    def __call__(self, exchange: Exchange) -> None:
        """See `wire.exchange.Handler`."""
        request = exchange.request
        path = request.path.decode("latin-1")
        if path == HEALTH_PATH:
            exchange.reply(200, _JSON, b'{"status":"ok"}')
            return
        if path == METRICS_PATH:
            given = request.headers.get(b"authorization", b"").decode("latin-1")
            if same(given.removeprefix("Bearer "), self._metrics_token):
                exchange.reply(200, _TEXT, self.metrics())
            else:
                _refuse(exchange, ApiError("invalid_api_key", "Metrics need their token."))
            return
        checking = self._start(self._check(exchange, path))
        if path == FIND_PATH:
            exchange.watcher = _Waiting(checking)

    def at_head(self, exchange: Exchange) -> bool:
        """Refuse who has not signed before the body is read; see `HttpServer.at_head`."""
        request = exchange.request
        path = request.path.decode("latin-1")
        try:
            self._signatures.check_head(request.method, path, _signature_of(request))
        except BadSignature as error:
            _refuse(exchange, error)
            return False
        return True

    async def _check(self, exchange: Exchange, path: str) -> None:
        request = exchange.request
        check = self._signatures.check
        try:
            signed = await check(request.method, path, request.body, _signature_of(request))
        except BadSignature as error:
            _refuse(exchange, error)
            return
        if path in self._ways:
            await self._answer(exchange, path, signed)
        else:
            _refuse(exchange, ApiError("not_found", "There is no such path."))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _answer(self, exchange: Exchange, path: str, signed: Signed) -> None:
        if path != FIND_PATH:
            await self._turn()
        try:
            body = await self._ways[path](exchange.request.body)
        except msgspec.DecodeError as error:
            _refuse(exchange, ApiError("invalid_value", f"The body is not read: {error}."))
        except ApiError as error:
            _refuse(exchange, error)
        except Exception as error:  # noqa: BLE001 - the gateway counts a miss, nothing worse
            self._report(path, repr(error))
            _refuse(exchange, ApiError("internal_error", "The comparison failed."))
        else:
            line = f"{SIGNATURE_HEADER}: {signed.answer(200, body)}\r\n".encode()
            exchange.reply(200, _BYTES + line, body)

    async def _turn(self) -> None:
        """Let look-ups go first: a caller waits for those, and for nothing else. One other
        request runs after each look-up, or under steady load nothing would be learned."""
        if not self._finding:
            return
        mine = asyncio.get_running_loop().create_future()
        self._waiting_feedback.append(mine)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(mine, LEARN_WAIT_MAX_S)

    def _found(self) -> None:
        self._finding -= 1
        while self._waiting_feedback:
            one = self._waiting_feedback.popleft()
            if not one.done():
                one.set_result(None)
                if self._finding:
                    break

    async def in_thread(self, work: Callable[..., _Result], *given: Any, group: str = "",
                        **more: Any) -> _Result:  # fmt: skip
        """Run something that uses the models, or what was learned, in the one thread.

        Args:
            group: for whom; tenants take turns, and so do the kinds of work of one.

        Raises:
            ApiError: `overloaded`: too much of the tenant's waits already.
        """
        turn = (tenant_of(group), getattr(work, "__name__", ""))
        return await self._thread.in_turn(functools.partial(work, *given, **more), turn)

    async def _find(self, body: bytes) -> bytes:
        asked = _find(body)
        self._finding += 1
        try:
            found, learning = await self.in_thread(self._look, asked, group=asked.group)
        finally:
            self._found()
        doubt, judge = found.doubt, self._judge
        if doubt is not None and judge is not None and self._decides:
            cached = doubt.entry
            fits = await judge.fits(cached.question, answer_in(cached), asked.question)
            if fits and await self.in_thread(
                self._matcher.approve,
                asked.namespace,
                asked.group,
                asked.question,
                doubt,
                group=asked.group,
            ):
                found = found._replace(key=doubt.key, entry=cached)
        entry = b"" if found.entry is None else encode_entry(found.entry)
        return _encode(Finding(found.hit_confidence, found.key, entry, learning))

    def _look(self, asked: Find) -> tuple[MatchResult, bool]:
        """What was found, and whether the group is still learning."""
        error_bound = self._matcher.error_bound_of(asked.group)
        for _ in range(min(asked.exact, EXACT_MAX)):
            error_bound.record_exact_hit()
        found = self._matcher.find(asked.namespace, asked.group, asked.question)
        return found, error_bound.learning

    async def _learn(self, body: bytes) -> bytes:
        said = _learn(body)
        found = await self.in_thread(
            self._matcher.learn, said.namespace, said.group, said.key, said.question,
            decode_entry(said.entry), said.false_hit_rate_max, group=said.group,
        )  # fmt: skip
        if not isinstance(found, Unclear):
            return _encode(found)
        if self._judge is not None and self._judging < JUDGING_MAX:
            self._start(self._let_judge(self._judge, found))
        return _encode(None)

    async def _let_judge(self, judge: Judge, unclear: Unclear) -> None:
        """Runs beside the request, which is already answered; the judge has its own limits."""
        self._judging += 1
        try:
            right = await judge.same(unclear.question, unclear.cached, unclear.fresh)
            if right is not None:
                await self.in_thread(
                    self._matcher.judged, unclear, group=unclear.group, right=right
                )
        finally:
            self._judging -= 1

    async def _drop(self, body: bytes) -> bytes:
        said = _drop(body)
        await self.in_thread(
            self._matcher.drop,
            said.group,
            said.namespace,
            said.key,
            said.false_hit_rate_max,
            group=said.group,
        )
        return _encode(None)

    async def _teach(self, body: bytes) -> bytes:
        """Pair by pair: look-ups go between."""
        asked = _pairs(body)
        group = asked.group
        bound = await self.in_thread(self._matcher.error_bound_of, group, group=group)
        learned = 0
        for pair in asked.pairs:
            learned += await self.in_thread(
                self._matcher.teach, group, pair, asked.false_hit_rate_max, group=group
            )
            await self._turn()
        await self.in_thread(bound.refit, group=group)
        unlike = len(asked.pairs) - learned
        return _encode(PairsTaught(learned, unlike, bound.pairs, LABELS_MIN, bound.threshold))

    async def _reports(self, _: bytes) -> bytes:
        return _encode(await self.in_thread(self._matcher.reports))

    async def _groups(self, body: bytes) -> bytes:
        asked = _clusters(body)
        return _encode(
            await self.in_thread(
                self._matcher.clusters,
                asked.tenant,
                asked.keys,
                asked.count_max,
                group=asked.tenant,
            )
        )

    def metrics(self) -> bytes:
        """What was measured of each group, as Prometheus reads it."""
        lines = [f"# HELP {name} {meaning}" for name, meaning in METRICS.items()]
        lines += [f"# TYPE {name} gauge" for name in METRICS]
        for one in self._matcher.reports():
            values = (
                one.false_hit_rate, one.low, one.high, one.checked, one.served, one.pairs,
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


class _Waiting:
    """Ends a look-up whose caller has stopped waiting; see `wire.exchange.Watcher`."""

    def __init__(self, look_up: asyncio.Task[None]) -> None:
        self._look_up = look_up

    def caller_left(self, reason: str) -> None:
        self._look_up.cancel(reason)

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass


def _signature_of(request: Request) -> str:
    return request.headers.get(SIGNATURE_HEADER.encode(), b"").decode("latin-1")


def _refuse(exchange: Exchange, error: ApiError) -> None:
    exchange.reply(error.status, _JSON, error.body())
