"""Counts the gateway's instructions per call by callgrind: figures that no load moves.

    python -m bench.instructions [--only NAME ...] [--profile NAME] [--update] [--suite gm]

The parts are a gateway worker's own, wired as in production; only sockets are in memory, and a
lease of a budget is granted without asking control. Each case runs in a process of its own that
is forked from one that has loaded everything: 200 calls after a warm-up, over eight connections.
Kernel time is not in the figures. `instructions.json` holds the budget; over it by more than
`TOLERANCE` is a failure, and `--update` writes what was measured. The suite `gm` is compared with
the budget, which is of the suite `international`, and may have `GM_TIMES_MAX` times as many.

`--profile` shows, without callgrind, how many bytecodes each Python function runs in a call, and
with it the C functions that most instructions go to.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from tokenschain.core.cache.semantic_protocol import FIND_PATH, LEARN_PATH, Finding
from tokenschain.core.limits import Budget, Lease, LeaseRequest, Rate, Selector
from tokenschain.core.pricing.catalog import Price, PriceTier
from tokenschain.core.snapshot import (
    ModelRoute,
    Offer,
    Snapshot,
    Upstream,
)
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.core.snapshot.shards import SHARDS, encode_shard
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.quota.leases import Draw
from tokenschain.infra import process_tuning
from tokenschain.infra.config.crypto import CryptoSettings
from tokenschain.infra.config.groups import CacheSettings, Settings
from tokenschain.infra.security.suite import GM, INTERNATIONAL, SUITES, suite_named
from tokenschain.wire import server
from tokenschain.wiring.gateway import GatewayWorker

HERE = Path(__file__).parent
BUDGET = HERE / "instructions.json"
GM_TIMES_MAX = 2.0
_SUITE_VARIABLE = "BENCH_SUITE"
LIBRARY = HERE / "build" / "callgrind.so"
TOLERANCE = 0.03
CALLS, WARM_UP, CONNECTIONS = 200, 96, 8
WARM_UP_EACH = 8
"""Calls of the warm-up for each candidate: what is made at first use is no call's cost."""
KEYS = 100_000
KEY = b"sk-tc-bench"
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
SHORT_STREAM, LONG_STREAM, EVENTS_PER_READ = 10, 110, 10
TOP = 90


class Case(NamedTuple):
    """One kind of call."""

    path: str = CHAT
    size: int = 1_024
    """About so many bytes of body."""
    candidates: int = 1
    crowd: bool = False
    """Whether there are ten limits and 100,000 keys."""
    cache: str = "off"
    events: int = 0
    """Of a streamed answer."""
    repeats: bool = False
    """Whether all calls ask the same."""


CASES = {
    "plain": Case(),
    "candidates_3": Case(candidates=3),
    "candidates_300": Case(candidates=300),
    "limits_10": Case(crowd=True),
    "hit_exact": Case(cache="exact", repeats=True),
    "miss_semantic": Case(cache="semantic"),
    "anthropic": Case(path=MESSAGES),
    "responses": Case(path=RESPONSES),
    "stream_short": Case(events=SHORT_STREAM),
    "stream_long": Case(events=LONG_STREAM),
    "body_32k": Case(size=32_768),
    "full": Case(candidates=3, crowd=True),
}
DERIVED = {"event": ("stream_long", "stream_short")}
"""What one event more of a burst costs."""
HIDDEN = {"stream_long"}


# --- what is asked and answered -----------------------------------------------------------


def request_of(case: Case, number: int) -> bytes:
    """One caller's request, with the headers that OpenAI's SDK sends."""
    words = "All happy families are alike; every unhappy family is unhappy in its own way. "
    text = (words * (case.size // len(words) + 1))[: case.size - 200]
    if not case.repeats:
        text = f"{number:08d} {text}"
    ask: dict[str, Any] = {"model": "m"}
    if case.path == RESPONSES:
        ask |= {"instructions": "You are a helpful assistant.", "input": text, "store": False}
        ask["max_output_tokens"] = 64
    else:
        ask["messages"] = [{"role": "user", "content": text}]
        ask["max_tokens"] = 64
        if case.path == MESSAGES:
            ask["system"] = "You are a helpful assistant."
        else:
            ask["messages"].insert(0, {"role": "system", "content": "You are a helpful assistant."})
    if case.events:
        ask |= {"stream": True, "stream_options": {"include_usage": True}}
    body = json.dumps(ask, separators=(",", ":")).encode()
    return (
        b"POST %b HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nauthorization: Bearer %b\r\n"
        b"content-type: application/json\r\naccept: application/json\r\n"
        b"user-agent: OpenAI/Python 1.99.1\r\ncontent-length: %d\r\n\r\n%b"
        % (case.path.encode(), KEY, len(body), body)
    )


_USAGE = {"prompt_tokens": 210, "completion_tokens": 64, "total_tokens": 274}
_ANSWER = {
    "id": "chatcmpl-0123456789",
    "object": "chat.completion",
    "created": 1_700_000_000,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Happiness is one, unhappiness many. " * 8},
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
}


def _reply(kind: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (
        kind, len(body), body,
    )  # fmt: skip


def _event(delta: dict[str, str], finish: str | None = None, **more: object) -> bytes:
    chunk = {
        "id": "chatcmpl-0123456789",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    }
    return b"data: %b\n\n" % json.dumps(chunk | more, separators=(",", ":")).encode()


def _stream(events: int) -> list[bytes]:
    """The reads that a streamed answer comes in, each with so many events."""
    pieces = [_event({"role": "assistant", "content": ""})]
    pieces += [_event({"content": f"word{number} "}) for number in range(events - 3)]
    pieces += [_event({}, "stop"), _event({}, None, choices=[], usage=_USAGE)]
    reads = [
        b"".join(pieces[at : at + EVENTS_PER_READ]) for at in range(0, events, EVENTS_PER_READ)
    ]
    reads[-1] += b"data: [DONE]\n\n"
    chunks = [b"%x\r\n%b\r\n" % (len(read), read) for read in reads]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    chunks[0] = head + chunks[0]
    chunks[-1] += b"0\r\n\r\n"
    return chunks


# --- sockets in memory --------------------------------------------------------------------


class _Transport(asyncio.Transport):
    """As much of a transport as the wire uses."""

    def __init__(self, written: Callable[[bytes], None]) -> None:
        super().__init__()
        self.write = written  # type: ignore[assignment,method-assign]

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...
    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class _Upstream:
    """Answers requests on every connection that the gateway opens."""

    def __init__(self, loop: asyncio.AbstractEventLoop, events: int) -> None:
        self._loop = loop
        whole = _reply(b"application/json", json.dumps(_ANSWER, separators=(",", ":")).encode())
        self._reads = _stream(events) if events else [whole]
        self._finding = _reply(b"application/msgpack", msgspec.msgpack.encode(Finding()))
        self._semantic = tuple(f"POST {path} ".encode() for path in (FIND_PATH, LEARN_PATH))

    async def connect(self, origin: object, connection: asyncio.Protocol) -> None:
        """In the place of `HttpClient._connect`."""
        soon, reads = self._loop.call_soon, self._reads

        def written(request: bytes) -> None:
            if request.startswith(self._semantic):
                soon(connection.data_received, self._finding)
                return
            for read in reads:
                soon(connection.data_received, read)

        connection.connection_made(_Transport(written))


class _Caller:
    """One connection of a caller: sends a request as soon as the last answer is complete."""

    def __init__(self, worker: GatewayWorker, loop: asyncio.AbstractEventLoop) -> None:
        self._soon = loop.call_soon
        self._connection = server._Connection(worker._server)
        self._requests: list[bytes] = []
        self._done: asyncio.Future[None] | None = None
        self._connection.connection_made(_Transport(self._written))

    def run(self, requests: Sequence[bytes]) -> asyncio.Future[None]:
        """Done when all are answered."""
        self._requests = list(reversed(requests))
        self._done = asyncio.get_running_loop().create_future()
        self._soon(self._connection.data_received, self._requests.pop())
        return self._done

    def _written(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 "):
            if not data.startswith(b"HTTP/1.1 200 "):
                raise SystemExit(f"not answered: {data.decode(errors='replace')}")
            if b"transfer-encoding" in data:
                return
        elif not data.endswith(b"\r\n0\r\n\r\n"):
            return
        if self._requests:
            self._soon(self._connection.data_received, self._requests.pop())
        else:
            assert self._done is not None
            self._done.set_result(None)


# --- the gateway --------------------------------------------------------------------------


async def _grant_all(requests: Sequence[LeaseRequest]) -> Sequence[Lease]:
    return [Lease(max(0, request.want), 10**17) for request in requests]


class _Worker(GatewayWorker):
    """A gateway worker without a control to ask."""

    def _draws(self, stream: str) -> Draw:
        return _grant_all


_LIMITS = (
    Rate("second", "requests", 10**12, 1),
    Rate("tenant", "requests", 10**12, per=("tenant",)),
    Rate("project", "tokens", 10**12, per=("project",)),
    Rate("key", "tokens", 10**12, 3_600, per=("key_id",)),
    Rate("spend", "spend", 9 * 10**15, per=("tenant", "model")),
    Rate("at-once", "concurrent", 10**12, match=Selector(tenant="tenant0")),
)
_BUDGETS = (
    Budget("key-day", "spend", 10**18, "day", per=("key_id",)),
    Budget("tenant-month", "spend", 10**18, "month", match=Selector(tenant="tenant0")),
    Budget("tokens", "tokens", 10**15, per=("project", "environment")),
    Budget("all", "requests", 10**12, "total"),
)


def _snapshot(case: Case) -> Snapshot:
    names = [f"candidate{number}" for number in range(case.candidates)]
    upstreams = {name: Upstream(name, base_url="http://127.0.0.1:9100/v1") for name in names}
    offers = tuple(
        Offer(name, "m", Price("CNY", (PriceTier(1_000_000 + at * 10_000, 2_000_000),), name))
        for at, name in enumerate(names)
    )
    return Snapshot(
        "bench",
        upstreams,
        {"m": ModelRoute("m", "chat", offers)},
        rates=_LIMITS if case.crowd else (),
        budgets=_BUDGETS if case.crowd else (),
        cache=CacheRules(mode=case.cache, writes_per_minute=10**9),  # type: ignore[arg-type]
    )


def _suite() -> str:
    """Set for the process under callgrind by the one that starts it."""
    return os.environ.get(_SUITE_VARIABLE, INTERNATIONAL.name)


def _shards(count: int) -> list[bytes]:
    """Keys as control publishes them, the benchmark's among them."""
    shards: list[dict[bytes, KeyGrant]] = [{} for _ in range(SHARDS)]
    for number in range(count):
        digest = suite_named(_suite()).digest(KEY if not number else b"bench %d" % number)
        shards[digest[0]][digest] = KeyGrant(
            f"key_{number:020d}",
            f"tenant{number % 100}",
            f"project{number % 1_000}",
            "production",
            models=("m", "three") if number % 2 else None,
        )
    return [encode_shard(shard) if shard else b"" for shard in shards]


async def _run(case: Case, shards: list[bytes], measured: Callable[[bool], None]) -> None:
    """Serve one case's calls; `measured` is told when those that count begin and end."""
    random.seed(1)  # which of many candidates are looked at
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="instructions-") as folder:
        cache = CacheSettings(mode=case.cache)  # type: ignore[arg-type]
        crypto = CryptoSettings(suite=_suite())  # type: ignore[arg-type]
        worker = _Worker(Settings(data_dir=Path(folder), cache=cache, crypto=crypto), 0)
        worker._client._connect = _Upstream(loop, case.events).connect  # type: ignore[method-assign]
        worker._served.replace(_snapshot(case))
        for number, shard in enumerate(shards):
            worker._served.replace_shard(number, shard)
        worker._served.version = "bench"
        worker._server.loop = loop
        worker._server.date_line = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        background = [asyncio.create_task(worker._budgets.run())]
        if worker._semantic is not None:
            background.append(asyncio.create_task(worker._semantic.run()))
        callers = [_Caller(worker, loop) for _ in range(CONNECTIONS)]

        async def calls(requests: Sequence[bytes]) -> None:
            runs = [caller.run(requests[at::CONNECTIONS]) for at, caller in enumerate(callers)]
            await asyncio.gather(*runs)

        first = max(WARM_UP, WARM_UP_EACH * case.candidates)
        requests = [request_of(case, number) for number in range(first + CALLS)]
        await calls(requests[:first])
        if (sweeper := worker._client._sweeper) is not None:
            sweeper.cancel()  # the slower the machine, the more of its rounds fall upon each call
        gc.collect()
        measured(True)
        await calls(requests[first:])
        measured(False)
        for task in background:
            task.cancel()
        worker._journal.close()


# --- counting -----------------------------------------------------------------------------


def _count(names: Sequence[str]) -> None:
    """In the process under callgrind: run each case in a fork of it."""
    library = ctypes.CDLL(str(LIBRARY))
    one, many = _shards(1), None
    process_tuning.tune_collector()
    for name in names:
        case = CASES[name]
        if case.crowd and many is None:
            many = _shards(KEYS)
        child = os.fork()
        if not child:
            status = 1
            try:

                def measured(begins: bool, name: str = name) -> None:
                    if begins:
                        library.count_begin()
                    else:
                        library.count_end(name.encode())

                uvloop.run(_run(case, (case.crowd and many) or one, measured))
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            raise SystemExit(f"{name} failed")


def _counted(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Run the cases under callgrind; gives the file with each one's counts."""
    command = [
        "valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet",
        f"--callgrind-out-file={folder}/out.%p",
        sys.executable, "-m", "bench.instructions", "--inside", ",".join(names),
    ]  # fmt: skip
    done = subprocess.run(
        command, env=os.environ | {"PYTHONHASHSEED": "0", "LD_PRELOAD": str(LIBRARY)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    found = {}
    for path in folder.glob("out.*"):
        with path.open(encoding="latin-1") as file:
            head = file.read(2_000)
        trigger = re.search(r"Client Request: (\w+)", head)
        if trigger:
            found[trigger[1]] = path
    return found


def _total(path: Path) -> int:
    text = path.read_text("latin-1")
    found = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
    assert found is not None, path
    return int(found[1])


def measure(names: Sequence[str]) -> dict[str, int]:
    """Instructions per call of each case, and what is derived from them."""
    with tempfile.TemporaryDirectory(prefix="callgrind-") as folder:
        counts = {
            name: _total(path) // CALLS for name, path in _counted(names, Path(folder)).items()
        }
    for name, (more, less) in DERIVED.items():
        if more in counts and less in counts:
            counts[name] = (counts[more] - counts[less]) // (LONG_STREAM - SHORT_STREAM)
    return {name: count for name, count in counts.items() if name not in HIDDEN}


# --- what is shown ------------------------------------------------------------------------


def report(found: dict[str, int], budget: dict[str, int], console: Console) -> bool:
    """Show the table; whether all stay within the budget."""
    table = Table("case", "instructions", "budget", "change", "to plain")
    order = [name for name in (*CASES, *DERIVED) if name in found and name != "full"]
    over = []
    for name in [*order, *(["full"] if "full" in found else [])]:
        count, allowed = found[name], budget.get(name, 0)
        change = count / allowed - 1 if allowed else 0.0
        if change > TOLERANCE:
            over.append(name)
        share = f"{count / found['plain']:.2f}" if "plain" in found else ""
        table.add_row(name, f"{count:,}", f"{allowed:,}", f"{change:+.1%}", share)
    console.print(table)
    for name in over:
        console.print(f"{name} is over its budget by more than {TOLERANCE:.0%}")
    last = "full" if "full" in found else next(reversed(found))
    console.print(f"{last} {found[last]} (budget {budget.get(last, 0)})", highlight=False)
    return not over


def _bytecodes(case: Case) -> None:
    """Print what each Python function does in a call."""
    entered: Counter[object] = Counter()
    run: Counter[object] = Counter()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        code = frame.f_code
        if event == "call":
            entered[code] += 1
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            run[code] += 1
        return trace

    def measured(begins: bool) -> None:
        sys.settrace(trace if begins else None)

    uvloop.run(_run(case, _shards(KEYS if case.crowd else 1), measured))
    table = Table("bytecodes a call", "entered a call", "function")
    for code, count in run.most_common(TOP * 3):
        place = f"{Path(code.co_filename).name}:{code.co_firstlineno}"  # type: ignore[attr-defined]
        name = f"{code.co_qualname} ({place})"  # type: ignore[attr-defined]
        table.add_row(f"{count / CALLS:.0f}", f"{entered[code] / CALLS:.2f}", name)
    Console(width=140).print(table)
    print(f"{sum(run.values()) / CALLS:.0f} bytecodes a call")


def _c_functions(name: str) -> None:
    """Print the C functions that a call's instructions go to."""
    with tempfile.TemporaryDirectory(prefix="callgrind-") as folder:
        path = _counted([name], Path(folder))[name]
        shown = subprocess.run(
            ["callgrind_annotate", "--threshold=90", path], capture_output=True, text=True,
            check=True,
        )  # fmt: skip
        total = _total(path)
        lines = [line for line in shown.stdout.splitlines() if re.match(r"\s*[\d,]+ \(", line)]
        for line in lines[: TOP + 1]:
            print(line[:150])
        print(f"{name} {total // CALLS}")


def _report_gm(found: dict[str, int], budget: dict[str, int]) -> int:
    times = {name: count / budget[name] for name, count in found.items()}
    for name, ratio in times.items():
        print(f"{name:16} {found[name]:>10,} {ratio:6.2f} times the budget")
    return int(max(times.values()) > GM_TIMES_MAX)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=[*CASES, *DERIVED], help="these cases")
    parser.add_argument("--profile", choices=list(CASES), help="where a case's instructions go")
    parser.add_argument("--update", action="store_true", help="write the budget")
    parser.add_argument("--suite", choices=[suite.name for suite in SUITES], help="by this suite")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        _count(options.inside.split(","))
        return 0
    if options.profile:
        _bytecodes(CASES[options.profile])
        _c_functions(options.profile)
        return 0
    if options.suite:
        os.environ[_SUITE_VARIABLE] = options.suite
    wanted = options.only or list(CASES)
    names = [name for each in wanted for name in DERIVED.get(each, (each,))]
    found = measure(list(dict.fromkeys(names)))
    budget: dict[str, int] = json.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    if options.suite == GM.name:
        return _report_gm(found, budget)
    if options.update:
        budget = {
            name: (budget | found)[name] for name in (*CASES, *DERIVED) if name in budget | found
        }
        BUDGET.write_text(json.dumps(budget, indent=2) + "\n")
    good = report(found, budget, Console(width=100))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
