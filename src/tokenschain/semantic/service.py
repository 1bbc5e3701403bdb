"""The process that compares questions: gateways ask it over loopback, their loops never wait."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from tokenschain.core.caching import decode_entry, encode_entry
from tokenschain.core.errors import ApiError
from tokenschain.core.meaning import (
    DROP_PATH,
    FIND_PATH,
    HEALTH_PATH,
    LEARN_PATH,
    METRICS_PATH,
    Drop,
    Find,
    Finding,
    Learn,
)
from tokenschain.infra import secrets
from tokenschain.semantic.matcher import Matcher
from tokenschain.wire.server import Exchange

LEARN_WAIT_MAX_S = 5.0
"""How long what was answered afresh waits behind callers who ask."""
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
_JSON = b"content-type: application/json\r\n"
_find = msgspec.msgpack.Decoder(Find).decode
_drop = msgspec.msgpack.Decoder(Drop).decode
_learn = msgspec.msgpack.Decoder(Learn).decode
_encode = msgspec.msgpack.Encoder().encode


class Service:
    """Answers gateways; see `core.meaning`."""

    def __init__(self, matcher: Matcher, secret: str, report: Callable[[str, str], None]) -> None:
        """
        Args:
            secret: signs what gateways ask.
            report: told of faults: what was asked, and why it failed.
        """
        self._matcher = matcher
        self._secret = secret
        self._report = report
        # One thread: the models are not to be used from two, and one core is enough.
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._finding = 0
        self._no_find = asyncio.Event()
        self._no_find.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ways: dict[str, Callable[[bytes], bytes]] = {
            FIND_PATH: self._find, LEARN_PATH: self._learn, DROP_PATH: self._drop,
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
            task = asyncio.get_running_loop().create_task(self._answer(exchange, path))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            _refuse(exchange, ApiError("not_found", "There is no such path."))

    async def _answer(self, exchange: Exchange, path: str) -> None:
        loop = asyncio.get_running_loop()
        if path == FIND_PATH:
            self._finding += 1
            self._no_find.clear()
        else:
            # A caller waits for a find and for nothing else.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEARN_WAIT_MAX_S):
                    await self._no_find.wait()
        try:
            body = await loop.run_in_executor(self._thread, self._ways[path], exchange.request.body)
        except msgspec.DecodeError as error:
            _refuse(exchange, ApiError("invalid_value", f"The body is not read: {error}."))
        except Exception as error:  # noqa: BLE001 - whoever asked has a miss, nothing worse
            self._report(path, repr(error))
            _refuse(exchange, ApiError("internal_error", "The comparison failed."))
        else:
            exchange.reply(200, _BYTES, body)
        finally:
            if path == FIND_PATH:
                self._finding -= 1
                if not self._finding:
                    self._no_find.set()

    def _find(self, body: bytes) -> bytes:
        asked = _find(body)
        bound = self._matcher.bound_of(asked.group)
        for _ in range(min(asked.exact, 10_000)):
            bound.exact()
        found = self._matcher.find(asked.space, asked.group, asked.question)
        entry = b"" if found.entry is None else encode_entry(found.entry)
        return _encode(Finding(found.likeness, found.key, entry))

    def _learn(self, body: bytes) -> bytes:
        said = _learn(body)
        entry = decode_entry(said.entry)
        right = self._matcher.learn(
            said.space, said.group, said.key, said.question, entry, said.wrong_max
        )
        return _encode(right)

    def _drop(self, body: bytes) -> bytes:
        said = _drop(body)
        self._matcher.drop(said.group, said.space, said.key, said.wrong_max)
        return _encode(None)

    def metrics(self) -> bytes:
        """What was measured of each group, as Prometheus reads it."""
        lines = [f"# HELP {name} {meaning}" for name, meaning in METRICS.items()]
        lines += [f"# TYPE {name} gauge" for name in METRICS]
        for group, (wrong, threshold, served) in self._matcher.wrongness().items():
            values = (
                wrong.estimate, wrong.low, wrong.high, wrong.labels, served,
                math.nan if threshold is None else threshold,
            )  # fmt: skip
            label = group.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
            lines += [
                f'{name}{{group="{label}"}} {value:g}'
                for name, value in zip(METRICS, values, strict=True)
            ]
        return "\n".join((*lines, "")).encode()


def _refuse(exchange: Exchange, error: ApiError) -> None:
    exchange.reply(error.status, _JSON, error.body())
