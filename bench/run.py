"""Measures the relay on one pinned core, side by side with going direct and with peers.

    python -m bench.run [--rounds N] [--load SHARE] [--peers] [--calls-only] [--quick] [--publish]

Whatever is measured has core 0 to itself, before all else that would run there; the mock
upstream, the load generator and control share core 1, where control has to yield to the other
two. CPU is the gateway process's own (user and system), so everything it does is in it: the wire,
key check, metering, the journal and its shipping. nginx, which only passes calls on, is always
among the targets: CPU as a multiple of nginx's in the same round is the figure to compare machines
by. What is compared so is called in short turns, one target after the other and again, so that a
noisy second hits all of them; two cores may well be one core's two threads, and then whatever runs
on the other slows down the one that is measured. All else is measured one target after the other
in each round. The table shows medians of the rounds; a peer whose turn it is not is stopped
(SIGSTOP).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.progress import Progress
from sqlalchemy import insert
from tests.stack import Stack

from bench import report
from bench.peers import KEY, NGINX, PEERS, Peer, Run
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import api_keys

HERE = Path(__file__).parent
BUILD = HERE / "build"
GATEWAY_CORE, LOAD_CORE = 0, 1
CONNECTIONS = 32
STREAMS = 200
LEDGER_WAIT_MAX_S = 300.0
PACE_MS, DELAY_MS = 20, 60
TURNS = 6
"""Of each target in a round, for what is compared with nginx by CPU per call."""
BURST_STREAMS = 16
PEER_START_MAX_S = 180.0
WARM_UPS_MAX, WARM_SHARE = 20, 0.97
"""A peer is warm when a round of calls costs hardly less than the one before."""
CANDIDATES, RULES = 300, 50
KEYS = 100_000
SWAPS, SWAP_RATE = 40, 500
FIRST = ("chrt", "--fifo", "1") if os.geteuid() == 0 else ()
PRICES = {"currency": "CNY", "input": "1", "output": "2"}
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Target(NamedTuple):
    """Something that answers chat calls; `where` gives path and model of a variant."""

    name: str
    port: int
    key: str
    where: Callable[[str], tuple[str, str]]
    pid: int | None
    headers: Callable[[str], str] = lambda _: ""
    settle: Callable[[], object] = lambda: None
    """Waits until work left over from the last phase is done."""
    calls_per_s: float = 20_000.0
    """About what it can do, so that slow targets get fewer calls."""
    pauses: bool = False
    """Stopped while others are measured."""

    @property
    def speed(self) -> float:
        """Calls a second by which it is given work."""
        return min(self.calls_per_s, 20_000.0)

    def pause(self, stop: bool) -> None:
        """Stop its processes, or let them go on."""
        if self.pauses and self.pid is not None:
            for each in tree(self.pid):
                os.kill(each, signal.SIGSTOP if stop else signal.SIGCONT)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += tree(int(child))
    return found


def cpu_s(pid: int) -> float:
    """User and system time of a process tree's threads, as the scheduler counts it.

    The sums of `stat` are in ticks of 10 ms, which is a tenth of a short turn of nginx.
    """
    total_ns = 0
    for each in tree(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns / 1e9


def rss_mb(pid: int) -> float:
    """Resident memory of a process tree."""
    return sum(
        int(Path(f"/proc/{each}/statm").read_text().split()[1]) * _PAGE / 1e6 for each in tree(pid)
    )


def pin(pid: int, core: int) -> None:
    """Keep a process tree and its threads on one core, where they go before all others."""
    for each in tree(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})
            if FIRST:
                os.sched_setscheduler(int(task.name), os.SCHED_RR, os.sched_param(1))


class Bench:
    """One run: owns the processes and the results."""

    def __init__(self, rounds: int, scale: float, calls_only: bool, folder: Path) -> None:
        """
        Args:
            scale: of the number of calls and the time; 1.0 for figures to publish.
            calls_only: leave out what is about latency and memory.
        """
        self.rounds = rounds
        self.scale = scale
        self.calls_only = calls_only
        self.folder = folder
        self.samples: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self.single: dict[str, dict[str, float]] = defaultdict(dict)
        self.mock_port = 9_100
        self.mock = subprocess.Popen([*FIRST, BUILD / "mock", str(self.mock_port)])
        self.answered: dict[str, int] = defaultdict(int)

    def body(self, model: str, size: int, stream: bool) -> Path:
        """A request body of about that many bytes."""
        path = self.folder / f"{model}-{size}-{stream}.json"
        if not path.exists():
            words = "All happy families are alike; every unhappy family is unhappy in its own way. "
            text = (words * (size // len(words) + 1))[: size - 200]
            ask: dict[str, Any] = {
                "model": model,
                "messages": [
                    {"role": "system", "content": "You are a helpful assistant."},
                    {"role": "user", "content": text},
                ],
                "max_tokens": 64,
            }
            if stream:
                ask |= {"stream": True, "stream_options": {"include_usage": True}}
            path.write_text(json.dumps(ask, separators=(",", ":")))
        return path

    def chat(self, model: str) -> Path:
        """The body of 1 KB, for another model."""
        path = self.folder / f"{model}.json"
        if not path.exists():
            ask = json.loads(self.body("m", 1_024, False).read_text())
            path.write_text(json.dumps({**ask, "model": model}, separators=(",", ":")))
        return path

    def load(
        self,
        target: Target,
        variant: str,
        size: int,
        mode: str,
        *numbers: int,
        asked: tuple[str, Path] | None = None,
    ) -> Any:
        """Run the generator once; adds `cpu_us` per call and per event.

        Args:
            asked: path and body, where not those of chat.
        """
        path, model = target.where(variant)
        body = self.body(model, size, mode in ("stream", "abort"))
        if asked is not None:
            path, body = asked
        command = [*FIRST, BUILD / "load", str(target.port), path, target.key, body, mode]
        before = cpu_s(target.pid) if target.pid else 0.0
        done = subprocess.run(
            [*command, *map(str, numbers)],
            env=os.environ | {"LOAD_HEADERS": target.headers(variant)},
            capture_output=True, check=True, text=True, timeout=600,
        )  # fmt: skip
        found = json.loads(done.stdout)
        spent = (cpu_s(target.pid) if target.pid else 0.0) - before
        found["cpu_us_call"] = spent / max(1, found["done"]) * 1e6
        found["cpu_us_event"] = spent / max(1, found["events"]) * 1e6
        if found["bad_status"] or (mode != "abort" and found["errors"] > found["done"] * 0.001):
            raise SystemExit(f"{target.name} {variant} {mode}: {found}")
        if mode != "abort":
            self.answered[target.name] += found["done"]
        return found

    def compare(self, targets: dict[Target, Sequence[str]]) -> None:
        """CPU per call of all targets, in turns.

        Args:
            targets: the models that each is asked for beside `m`.
        """
        sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        for _ in range(TURNS):
            for target, models in targets.items():
                target.pause(False)
                calls = max(200, int(target.speed * 3 * self.scale)) // TURNS
                for model in ("1k", *models):
                    asked = None if model == "1k" else (target.where("")[0], self.chat(model))
                    found = self.load(target, "", 1_024, "closed", CONNECTIONS, calls, asked=asked)
                    done = found["done"]
                    for at, more in enumerate(
                        (done, found["seconds"], found["cpu_us_call"] * done)
                    ):
                        sums[target.name, model][at] += more
                target.settle()  # what is left to ship must not fall upon the next one's turn
                target.pause(True)
        for (name, model), (done, seconds, cpu_us) in sums.items():
            self.samples[name][f"cpu_us_{model}"].append(cpu_us / done)
            if model == "1k":
                self.samples[name]["calls_per_s"].append(done / seconds)

    def measure(self, target: Target) -> None:
        """All other figures of one target, once."""
        samples = self.samples[target.name]
        calls = max(200, int(target.speed * self.scale))
        large = self.load(target, "", 32_768, "closed", CONNECTIONS, calls)
        samples["cpu_us_32k"].append(large["cpu_us_call"])
        burst = self.load(target, "", 1_024, "stream", BURST_STREAMS, max(1, int(3 * self.scale)))
        samples["cpu_us_event_burst"].append(burst["cpu_us_event"])
        target.settle()  # what the closed loop left to ship must not count as latency
        for rate in () if self.calls_only else (200, 1_000):
            if target.calls_per_s > rate * 1.3:
                seconds = max(2, int(6 * self.scale))
                found = self.load(target, f"d{DELAY_MS}", 1_024, "open", rate, seconds)
                samples[f"p50_ms_{rate}"].append(found["p50_ms"])
                samples[f"p99_ms_{rate}"].append(found["p99_ms"])
        seconds = max(3, int(8 * self.scale))
        found = self.load(target, f"p{PACE_MS}", 1_024, "stream", STREAMS, seconds)
        samples["cpu_us_event"].append(found["cpu_us_event"])
        if found["event_p99_ms"]:  # the peer passed the mock's send times on
            samples["event_p99_ms"].append(found["event_p99_ms"])
        samples["events_per_s"].append(found["events"] / found["seconds"])


def mock_upstreams(bench: Bench) -> list[dict[str, Any]]:
    """The mock as many upstreams: fast, slow, paced, of another vendor, and many of one model."""
    variants = ("", f"d{DELAY_MS}", f"p{PACE_MS}")
    upstreams: list[dict[str, Any]] = [
        {
            "id": f"mock{variant}",
            "base_url": f"http://127.0.0.1:{bench.mock_port}/{variant + '/' if variant else ''}v1",
            "models": [f"m{variant}"],
            "prices": {f"m{variant}": PRICES},
        }
        for variant in variants
    ]
    upstreams.append(
        {
            "id": "mockdashscope",
            "provider": "alibaba-native",
            "base_url": f"http://127.0.0.1:{bench.mock_port}/api/v1",
            "models": ["mdashscope"],
            "prices": {"mdashscope": PRICES},
        }
    )
    for number in range(CANDIDATES):
        names = ("many", "three") if number < 3 else ("many",)
        upstreams.append(
            {
                "id": f"candidate{number}",
                "base_url": f"http://127.0.0.1:{bench.mock_port}/v1",
                "models": dict.fromkeys(names, "m"),
                "prices": {"m": PRICES | {"input": str(1 + number / 100)}},
            }
        )
    upstreams.append(
        {
            "id": "mockhit",
            "base_url": f"http://127.0.0.1:{bench.mock_port}/v1",
            "models": ["hit"],
            "prices": {"hit": PRICES},
        }
    )
    return upstreams


def start_gateway(bench: Bench, name: str, crowd: bool = False) -> tuple[Stack, Target]:
    """Control on the load's core, the gateway on its own; measures the start.

    Args:
        crowd: with ten limits that every call falls under, and many other keys.
    """
    never = {"language": "zh", "tags": ["contract"], "prompt_tokens_min": 100_000}
    rules = [{"model": "m", "when": never} for _ in range(RULES - 1)] + [{"model": "many"}]
    stack = Stack(
        bench.folder / name,
        "http://unused",
        upstreams=mock_upstreams(bench),
        journal={"ship_interval_s": 0.5},
        routing={"models": {"ruled": rules}},
        cache={"mode_overrides": {"model/hit": "exact"}},
    )
    if crowd:
        add_keys(stack, KEYS)
    stack.start("control")
    if crowd:
        add_limits(stack)
    began = time.perf_counter()
    stack.spawn("gateway")
    while True:
        try:
            urllib.request.urlopen(f"{stack.url}/readyz", timeout=1).close()
            break
        except OSError:
            time.sleep(0.002)
    bench.single[name]["start_s"] = time.perf_counter() - began
    pid = stack.processes["gateway"].pid
    pin(pid, GATEWAY_CORE)
    bench.single[name]["rss_mb_start"] = rss_mb(pid)
    return stack, Target(
        name, stack.port, stack.key,
        lambda variant: ("/v1/chat/completions", f"m{variant}"), pid,
        settle=lambda: wait_for_ledger(
            stack, bench.answered[name], 0 if crowd else bench.answered["responses"]
        ),
    )  # fmt: skip


def add_keys(stack: Stack, count: int) -> None:
    """Put keys into the database, as an installation of many users has them."""
    now = int(time.time())
    engine = db.connect(f"sqlite:///{stack.folder / 'data' / 'tokenschain.db'}")
    with engine.begin() as connection:
        for at in range(0, count, 10_000):
            rows = [
                {
                    "id": f"key_{number:020d}",
                    "key_hash": hashlib.sha256(f"bench {number}".encode()).hexdigest(),
                    "prefix": "sk-tc-bench",
                    "name": f"user {number}",
                    "tenant": f"tenant{number % 100}",
                    "project": f"project{number % 1_000}",
                    "environment": "production",
                    "models": '["m", "three"]' if number % 2 else None,
                    "disconnect": "cancel",
                    "created_at_s": now,
                }
                for number in range(at, at + 10_000)
            ]
            connection.execute(insert(api_keys), rows)
    engine.dispose()


def add_limits(stack: Stack) -> None:
    """Ten limits of every kind that all calls of the benchmark fall under."""
    huge = 10**12
    rates: list[dict[str, Any]] = [
        {"measure": "requests", "window_s": 1},
        {"measure": "requests", "per": ["tenant"]},
        {"measure": "tokens", "per": ["project"]},
        {"measure": "tokens", "window_s": 3_600, "per": ["key_id"]},
        {"measure": "spend", "amount": 9 * 10**15, "per": ["tenant", "model"]},
        {"measure": "concurrent", "match": {"tenant": "default"}},
    ]
    budgets: list[dict[str, Any]] = [
        {"measure": "spend", "amount": 10**18, "period": "day", "per": ["key_id"]},
        {"measure": "spend", "amount": 10**18, "period": "month", "match": {"tenant": "default"}},
        {"measure": "tokens", "amount": 10**15, "per": ["project", "environment"]},
        {"measure": "requests", "period": "total"},
    ]
    for number, limit in enumerate([*rates, *budgets]):
        kind = "rate" if limit in rates else "budget"
        body = {"kind": kind, "amount": huge} | limit
        reply = stack.admin("PUT", f"/api/v1/limits/bench{number}", json=body)
        assert reply.status_code == 200, reply.text


def measure_swaps(bench: Bench, target: Target, stack: Stack) -> None:
    """What callers notice while the configuration changes again and again.

    Four times a second a key is made, and every second time a limit changes too; the 99.9th
    percentile of answers is compared with that of runs without changes.
    """
    assert target.pid is not None
    found = bench.single[target.name]
    seconds = max(2, int(SWAPS * bench.scale) // 4)

    def tail_ms(change: bool) -> float:
        ended = threading.Event()

        def keep_changing() -> None:
            for number in range(SWAPS):
                if ended.wait(0.25):
                    return
                stack.admin("POST", "/api/v1/keys", json={"name": f"swap {number}"})
                if number % 2:
                    body = {"kind": "rate", "measure": "requests", "amount": 10**12 + number}
                    stack.admin("PUT", "/api/v1/limits/swap", json=body)

        changing = threading.Thread(target=keep_changing)
        if change:
            changing.start()
        answer = bench.load(target, "", 1_024, "open", SWAP_RATE, seconds)
        ended.set()
        if change:
            changing.join()
        return float(answer["p999_ms"])

    quiet = [tail_ms(False) for _ in range(bench.rounds)]
    busy = [tail_ms(True) for _ in range(bench.rounds)]
    found["quiet_p999_ms"] = statistics.median(quiet)
    found["swap_p999_ms"] = statistics.median(busy)


def measure_models(bench: Bench, target: Target, *models: str) -> None:
    """CPU of calls to models with rules or a cached answer."""
    for model in models:
        calls = int(20_000 * bench.scale)
        asked = ("/v1/chat/completions", bench.chat(model))
        found = bench.load(target, "", 0, "closed", CONNECTIONS, calls, asked=asked)
        bench.samples[target.name][f"cpu_us_{model}"].append(found["cpu_us_call"])


def measure_translations(bench: Bench, target: Target) -> None:
    """CPU of calls that come in or go out in another form than OpenAI's chat."""
    chat = json.loads(bench.body("m", 1_024, False).read_text())
    system, user = (message["content"] for message in chat["messages"])
    forms = {
        "messages": ("/v1/messages", {"system": system, "messages": chat["messages"][1:]}),
        "responses": ("/v1/responses", {"instructions": system, "input": user}),
        "dashscope": ("/v1/chat/completions", chat),
    }
    samples = bench.samples[target.name]
    measure_models(bench, target, "ruled", "hit")
    for name, (path, form) in forms.items():
        fields = {**form, "model": "mdashscope" if name == "dashscope" else "m"}
        if name == "messages":
            fields["max_tokens"] = 64
        body = bench.folder / f"{name}.json"
        body.write_text(json.dumps(fields, separators=(",", ":")))
        calls = int(20_000 * bench.scale)
        found = bench.load(target, "", 0, "closed", CONNECTIONS, calls, asked=(path, body))
        samples[f"cpu_us_{name}"].append(found["cpu_us_call"])
        if name == "responses":  # stored, as they are by default
            bench.answered[name] += found["done"]
        if name != "dashscope":
            fields |= {"stream": True, "model": f"mp{PACE_MS}"}
            body.write_text(json.dumps(fields, separators=(",", ":")))
            seconds = max(3, int(5 * bench.scale))
            found = bench.load(target, "", 0, "stream", STREAMS, seconds, asked=(path, body))
            samples[f"cpu_us_event_{name}"].append(found["cpu_us_event"])


def soak(bench: Bench, target: Target) -> None:
    """Memory over many calls and many streams that the caller cuts."""
    assert target.pid is not None
    found = bench.single[target.name]
    calls, aborts = int(200_000 * bench.scale), int(10_000 * bench.scale)
    bench.load(target, "", 1_024, "closed", CONNECTIONS, calls // 20)
    bench.load(target, f"p{PACE_MS}", 1_024, "abort", STREAMS, aborts // 20, 3)
    found["rss_mb_warm"] = rss_mb(target.pid)
    bench.load(target, "", 1_024, "closed", CONNECTIONS, calls)
    found["rss_mb_after_calls"] = rss_mb(target.pid)
    bench.load(target, f"p{PACE_MS}", 1_024, "abort", STREAMS, aborts, 3)
    found["rss_mb_after_aborts"] = rss_mb(target.pid)


def start_peer(bench: Bench, peer: Peer) -> tuple[subprocess.Popen[bytes], Target]:
    """Start a peer on the gateway's core, wait until it answers, and warm it up."""
    began = time.perf_counter()
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    log = bench.folder / f"{peer.name}.log"
    process = subprocess.Popen(
        peer.command(Run(BUILD, bench.folder, bench.mock_port, peer.port)),
        env=environment | peer.environment(bench.folder),
        stdout=log.open("wb"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    pin(process.pid, GATEWAY_CORE)
    port = peer.port
    while True:
        try:
            port = port or _printed_port(log)
            urllib.request.urlopen(f"http://127.0.0.1:{port}{peer.ready}", timeout=5).close()
            break
        except urllib.error.HTTPError:
            break  # it has no such path, but it answers
        except OSError:
            if time.perf_counter() - began > PEER_START_MAX_S or process.poll() is not None:
                for each in tree(process.pid):
                    os.kill(each, signal.SIGKILL)
                raise SystemExit(
                    f"{peer.name} did not start:\n{log.read_text()[-2_000:]}"
                ) from None
            time.sleep(0.05)
    bench.single[peer.name]["start_s"] = time.perf_counter() - began
    pin(process.pid, GATEWAY_CORE)
    bench.single[peer.name]["rss_mb_start"] = rss_mb(process.pid)
    target = Target(
        peer.name, port, KEY,
        lambda variant: (peer.path, f"{peer.model}{variant}"),
        process.pid, lambda _: peer.headers(bench.mock_port),
        calls_per_s=peer.calls_per_s, pauses=True,
    )  # fmt: skip
    warm_up(bench, target)
    target.pause(True)
    return process, target


def _printed_port(log: Path) -> int:
    """The port that a peer chose and printed.

    Raises:
        ConnectionError: it has not yet.
    """
    found = re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text(errors="replace"))
    if found is None:
        raise ConnectionError
    return int(found[1])


def warm_up(bench: Bench, target: Target) -> None:
    """Call until a call costs what it cost before: what starts late must not count."""
    before = float("inf")
    for _ in range(WARM_UPS_MAX):
        calls = max(200, int(target.calls_per_s))
        now = bench.load(target, "", 1_024, "closed", CONNECTIONS, calls)["cpu_us_call"]
        if now > before * WARM_SHARE:
            return
        before = now


def wait_for_ledger(stack: Stack, expected: int, stored: int) -> int:
    """Wait until every call that was answered is in the ledger, and every response stored."""
    deadline = time.monotonic() + LEDGER_WAIT_MAX_S
    while True:
        count = int(stack.rows("select sum(calls) c from usage_hourly")[0]["c"] or 0)
        responses = stack.rows("select count(*) c from stored_responses")[0]["c"]
        if count >= expected and responses >= stored:
            return count
        if time.monotonic() > deadline:
            raise SystemExit(f"the ledger has {count} of {expected} calls")
        time.sleep(0.2)


def main() -> None:
    """Run the benchmark and write its table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="add gateways in Go, Rust and others")
    parser.add_argument("--calls-only", action="store_true", help="CPU only: no latency, no memory")
    parser.add_argument("--quick", action="store_true", help="a tenth of the load, one round")
    parser.add_argument("--load", type=float, default=1.0, help="share of the usual load")
    parser.add_argument("--publish", action="store_true", help="put the table into relay.md")
    options = parser.parse_args()
    if (os.cpu_count() or 1) < 2:
        raise SystemExit("this needs two cores: one for the gateway, one for the load")
    os.sched_setaffinity(0, {LOAD_CORE})
    folder = Path(tempfile.mkdtemp(prefix="tokenschain-bench-"))
    rounds = 1 if options.quick else options.rounds
    scale = 0.1 if options.quick else options.load
    bench = Bench(rounds, scale, options.calls_only, folder)
    processes: list[subprocess.Popen[bytes]] = []
    stacks: list[Stack] = []
    try:
        stack, ours = start_gateway(bench, "tokenschain")
        stacks.append(stack)
        crowded, limited = start_gateway(bench, "10 limits, 100,000 keys", crowd=True)
        stacks.append(crowded)
        direct = Target(
            "direct", bench.mock_port, "none",
            lambda variant: (f"/{variant + '/' if variant else ''}v1/chat/completions", "m"), None,
        )  # fmt: skip
        targets = [direct, limited, ours]
        for peer in (NGINX, *(PEERS if options.peers else ())):
            process, target = start_peer(bench, peer)
            processes.append(process)
            targets.append(target)
        several = {ours: ("three", "many"), limited: ("three", "many")}
        for target in several:
            warm_up(bench, target)
        with Progress() as progress:
            work = progress.add_task("measuring", total=rounds * (len(targets) + 1) + 2)
            for _ in range(rounds):
                bench.compare({target: several.get(target, ()) for target in targets})
                progress.advance(work)
                for target in targets:
                    target.pause(False)
                    bench.measure(target)
                    target.pause(True)
                    progress.advance(work)
                measure_translations(bench, ours)
            if not options.calls_only:
                measure_swaps(bench, limited, crowded)
                progress.advance(work)
                soak(bench, ours)
                progress.advance(work)
        answered = bench.answered[ours.name]
        rows = wait_for_ledger(stack, answered, bench.answered["responses"])
        print(f"ledger: {rows:,} rows for {answered:,} answers read to the end and the cut streams")
    finally:
        for process in processes:
            for each in tree(process.pid):
                os.kill(each, signal.SIGKILL)
        bench.mock.kill()
        for stack in stacks:
            stack.close()
        shutil.rmtree(folder, ignore_errors=True)
    asked = f"medians of {rounds} rounds" if rounds > 1 else "one round"
    if scale != 1.0:
        asked += f", {scale:.0%} of the load"
    report.write(bench.samples, bench.single, asked, options.publish)


if __name__ == "__main__":
    main()
