"""The audit log under load: does sealing keep up with 5,000 calls a second, on one core?

    python -m bench.audit [--rate 5000] [--seconds 180] [--suites ...] [--stores ...]

A process enters calls as the ledger does, in batches of the journal's size, at a steady pace;
another seals them second by second as control does, and nothing else. Of that one CPU time and
memory are read from the kernel, and what waits from the database. At the end the whole log is
exported and verified offline: each call is in it once. PostgreSQL runs as it is installed
(fsync on), beside the sealer; its own CPU time is not the sealer's and stands in a row of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine
from tests.servers import Postgres

from tokenschain.cli import audit_verify
from tokenschain.control.audit import bundle, log, pending
from tokenschain.control.audit.log import SealingJob, SegmentSealer
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord, CallRecord
from tokenschain.infra.control_channel.protocol import BATCH_RECORDS_MAX
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.note_keys import NoteSecret
from tokenschain.infra.security.suite import INTERNATIONAL

INTERVAL_S = 1.0
SAMPLE_S = 5.0
GATEWAYS, UPSTREAMS, KEYS = 4, 6, 2_000
WARM_UP_S = 20.0
"""Before memory is compared: by then every cache is as large as it gets."""
_SPAWN = get_context("spawn")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Sample(NamedTuple):
    """A moment of a run."""

    at_s: float
    cpu_s: float
    """Of the sealer so far."""
    rss_mb: float
    waiting: int
    """Records that are in no segment yet."""


class Run(NamedTuple):
    """What was measured on one store with one suite."""

    samples: list[Sample]
    calls: int
    entered_s: float
    store_cpu_s: float
    """Of PostgreSQL, for entering and sealing."""
    segments: int
    bundle_mb: float
    verify_s: float
    verified: bool

    def core_share(self) -> float:
        """Of one core, while calls came in."""
        first, last = self.samples[0], self.samples[-1]
        return (last.cpu_s - first.cpu_s) / (last.at_s - first.at_s)

    def rss_mb_per_minute(self) -> float:
        """Slope of the sealer's memory after the warm-up, by least squares."""
        warm_s = min(WARM_UP_S, self.samples[-1].at_s / 2)
        later = [one for one in self.samples if one.at_s >= warm_s]
        middle_s = sum(one.at_s for one in later) / len(later)
        middle_mb = sum(one.rss_mb for one in later) / len(later)
        spread = sum((one.at_s - middle_s) ** 2 for one in later)
        together = sum((one.at_s - middle_s) * (one.rss_mb - middle_mb) for one in later)
        return 60 * together / spread if spread else 0.0


# --- the processes ---------------------------------------------------------------------------


def batches(count: int) -> Iterator[list[CallRecord]]:
    """So many calls, in batches: each its own id and number, and the gateways take turns."""
    numbers = [0] * GATEWAYS
    for at in range(0, count, BATCH_RECORDS_MAX):
        gateway = at // BATCH_RECORDS_MAX % GATEWAYS
        made = []
        for number in range(at, min(at + BATCH_RECORDS_MAX, count)):
            numbers[gateway] += 1
            made.append(_call(number, f"gateway-{gateway}", numbers[gateway]))
        yield made


def _call(number: int, gateway: str, sequence: int) -> CallRecord:
    key, upstream = number % KEYS, f"cloud{number % UPSTREAMS}"
    return CallRecord(
        f"req_{number:028x}",
        time.time_ns() // 1_000_000,
        "chat/completions",
        tenant=f"tenant{key % 50}",
        project=f"project{key % 200}",
        environment="production",
        key_id=f"key_{key:020d}",
        model_asked="model-fast",
        model_served=f"model-{number % 20}",
        upstream=upstream,
        status=200,
        outcome="ok",
        usage_source="provider",
        prompt_tokens=number % 4_000,
        completion_tokens=number % 800,
        cost_pico=number * 10**6,
        currency="CNY",
        charge_pico=number * 10**6,
        charge_currency="CNY",
        price_version="bench",
        charge_version="bench",
        snapshot_version="r1234",
        total_ms=1_234.5,
        gateway=gateway,
        sequence=sequence,
        attempts=[AttemptRecord(upstream, 0.1, 80.0, 300.0, "ok")],
    )


def enter(url: str, rate: int, count: int) -> None:
    """The process that enters calls, no faster than the rate."""
    engine = db.connect(url)
    zones = {f"cloud{number}": "cn" for number in range(UPSTREAMS)}
    began, done = time.monotonic(), 0
    for batch in batches(count):
        # As it came over the wire: the ledger has each record decoded anew.
        calls = call_record.decode_list(call_record.encode(batch))
        with engine.begin() as connection:
            pending.add_calls(connection, calls, zones)
        done += len(batch)
        time.sleep(max(0.0, began + done / rate - time.monotonic()))


def seal(url: str, suite: str) -> None:
    """The process that seals, until it is told to end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    engine = db.connect(url)
    secret = NoteSecret(INTERNATIONAL, "x" * 43, suite)
    sealer = SegmentSealer(engine, INTERNATIONAL, secret, INTERVAL_S)
    asyncio.run(SealingJob(lambda: sealer, INTERVAL_S, _said).run())


def _said(event: str, /, why: str = "", **_: object) -> None:
    print(event, why, file=sys.stderr, flush=True)


# --- a run -----------------------------------------------------------------------------------


def measured(
    url: str, suite: str, rate: int, seconds: float, folder: Path, store_pid: int | None
) -> Run:
    """Enter and seal for so long; then verify what was sealed."""
    engine = db.connect(url)
    db.migrate(engine)
    count = int(rate * seconds)
    store_began_s = _tree_cpu_s(store_pid) if store_pid else 0.0
    sealing = _SPAWN.Process(target=seal, args=(url, suite))
    entering = _SPAWN.Process(target=enter, args=(url, rate, count))
    sealing.start()
    assert sealing.pid is not None
    while not _segments(engine):
        time.sleep(0.1)
    entering.start()
    began = time.monotonic()
    samples = [_sample(engine, sealing.pid, began)]
    while entering.is_alive():
        entering.join(SAMPLE_S)
        samples.append(_sample(engine, sealing.pid, began))
    assert entering.exitcode == 0
    entered_s = time.monotonic() - began
    while _sample(engine, sealing.pid, began).waiting:
        time.sleep(0.2)
    store_s = _tree_cpu_s(store_pid) - store_began_s if store_pid else 0.0
    sealing.terminate()
    sealing.join()
    path = folder / "log.tar"
    secret = NoteSecret(INTERNATIONAL, "x" * 43, suite)
    with path.open("wb") as file:
        found = bundle.write(engine, INTERNATIONAL, secret, file, 0, 2**62)
    engine.dispose()
    verify_began = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    report = audit_verify.report_of(str(path), secret.public_key(found.log))
    verify_s = resource.getrusage(resource.RUSAGE_SELF).ru_utime - verify_began
    is_whole = report["verified"] and report["records"] == count
    size_mb = path.stat().st_size / 1e6
    path.unlink()
    return Run(samples, count, entered_s, store_s, found.size, size_mb, verify_s, is_whole)


def _segments(engine: Engine) -> int:
    with db.reading(engine) as connection:
        return log.size_of(connection)


def _sample(engine: Engine, pid: int, began: float) -> Sample:
    with db.reading(engine) as connection:
        waiting = log.waiting_count(connection)
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Sample(time.monotonic() - began, _cpu_s(pid), pages * _PAGE / 1e6, waiting)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    # utime, stime, and those of children that ended.
    return sum(map(int, fields[11:15])) / _TICKS


def _tree_cpu_s(pid: int) -> float:
    found = _cpu_s(pid)
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        found += sum(map(_tree_cpu_s, map(int, children.read_text().split())))
    return found


@contextmanager
def store(name: str, folder: Path) -> Iterator[tuple[str, int | None]]:
    """A fresh database, and the process that has it where it is one of its own."""
    if name == "sqlite":
        yield f"sqlite:///{folder / 'log.db'}", None
        return
    server = Postgres({})
    try:
        yield server.database(), server.process.pid
    finally:
        server.close()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--suites", nargs="+", default=["international", "gm", "dual"])
    parser.add_argument("--stores", nargs="+", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    console = Console(width=140)
    rows: dict[str, list[str]] = {}
    wrong = []
    for name in options.stores:
        for suite in options.suites:
            with (
                tempfile.TemporaryDirectory(prefix="bench-audit-") as folder,
                store(name, Path(folder)) as (url, pid),
            ):
                run = measured(url, suite, options.rate, options.seconds, Path(folder), pid)
            for one in run.samples:
                console.print(f"{name} {suite} {msgspec.json.encode(one).decode()}", style="dim")
            rows[f"{name}, {suite}"] = shown(run)
            waiting_max = max(one.waiting for one in run.samples)
            if not run.verified or waiting_max > 10 * options.rate:
                wrong.append(f"{name} {suite}: {waiting_max} waited, verified: {run.verified}")
    table = Table("", *rows, title=f"{options.rate:,} calls a second for {options.seconds:.0f} s")
    for at, title in enumerate(ROWS):
        table.add_row(title, *(cells[at] for cells in rows.values()))
    console.print(table)
    if wrong:
        raise SystemExit("\n".join(wrong))


ROWS = (
    "calls entered, a second", "sealer, share of a core", "store, share of a core",
    "waiting, mean", "waiting, at most", "waiting, last 3 samples", "memory of the sealer, MB",
    "its slope, MB a minute", "segments", "bundle, MB", "verified offline",
    "calls verified a second",
)  # fmt: skip


def shown(run: Run) -> list[str]:
    """A run as the cells of a column."""
    waiting = [one.waiting for one in run.samples[1:]] or [0]
    store_share = run.store_cpu_s / run.entered_s
    return [
        f"{run.calls / run.entered_s:,.0f}",
        f"{100 * run.core_share():.0f} %",
        f"{100 * store_share:.0f} %" if store_share else "in both processes",
        f"{sum(waiting) / len(waiting):,.0f}",
        f"{max(waiting):,}",
        ", ".join(f"{one:,}" for one in waiting[-3:]),
        f"{run.samples[-1].rss_mb:.0f}",
        f"{run.rss_mb_per_minute():+.2f}",
        f"{run.segments:,}",
        f"{run.bundle_mb:.0f}",
        "yes" if run.verified else "no",
        f"{run.calls / run.verify_s:,.0f}" if run.verify_s else "",
    ]


if __name__ == "__main__":
    main()
