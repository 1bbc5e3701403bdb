"""The ledger's ingest beside open pages of the console: `python -m bench.console [--turns 8]`.

One control process has both: events enter the ledger in a thread, as gateways ship them, and
browsers poll the console over sockets, each every two seconds. Short turns alone and beside the
pages take each other's place, so that a machine that is busier for a while is so for both.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.console.served import served
from tests.console.visitors import unseen
from tests.security.platform import Platform, platform

from bench.stores import synthetic_payloads
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.infra.control_channel.protocol import BATCH_RECORDS_MAX
from tokenschain.infra.database import engine as database
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.infra.telemetry import resident_bytes

PAGES, POLL_S = 50, 2.0
TURN_S = 5.0
EVENTS_A_TURN = 60_000
"""More than a turn enters."""
PATHS = ("/console/live", "/console/calls")


def main() -> None:
    """Print the share of ingest that is left beside the pages, and what memory did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=8, help="Of each kind.")
    parser.add_argument("--poll", help=argparse.SUPPRESS)
    parser.add_argument("--token", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.poll:
        _poll(given.poll, given.token)
        return
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder)) as made:
        settings = ConsoleSettings(
            None, False, "http://127.0.0.1:8000/v1", Path(folder) / "browser"
        )
        console = Console(made.app, settings, INTERNATIONAL, unseen)
        token = made.person("*", "owner").token
        with served(console) as base:
            _measure(made, base, token, given.turns)


def _measure(made: Platform, base: str, token: str, turns: int) -> None:
    today = int(time.time() // 86_400)
    database.ensure_days(made.engine, range(today - 1, today + 2))
    _turn(made, 0, today)  # what is learned first
    shares, memory = [], []
    for number in range(turns):
        alone = _turn(made, 2 * number + 1, today)
        pages = subprocess.Popen(
            [sys.executable, "-m", "bench.console", "--poll", base, "--token", token],
            stdout=subprocess.PIPE,
        )
        assert pages.stdout is not None
        pages.stdout.readline()  # all of them are open
        beside = _turn(made, 2 * number + 2, today)
        pages.terminate()
        pages.wait()
        shares.append(beside / alone)
        memory.append(resident_bytes() / 1e6)
        print(f"{alone:8,.0f}/s alone {beside:8,.0f}/s beside {PAGES} pages: {shares[-1]:.1%}, "
              f"{memory[-1]:.0f} MB")  # fmt: skip
    print(f"median {statistics.median(shares):.1%} of ingest alone; memory {memory[0]:.0f} to "
          f"{memory[-1]:.0f} MB")  # fmt: skip


def _turn(made: Platform, seed: int, day: int) -> float:
    """Events entered a second."""
    payloads = synthetic_payloads(EVENTS_A_TURN, seed, day)
    ledger, entered, began = made.app.state.context.ledger, 0, time.perf_counter()
    while time.perf_counter() - began < TURN_S and entered < len(payloads):
        entered += ledger.ingest(payloads[entered : entered + BATCH_RECORDS_MAX])
    return entered / (time.perf_counter() - began)


def _poll(base: str, token: str) -> None:
    """Open pages until somebody ends this process: each asks again every two seconds."""
    parts = urlsplit(base)
    assert parts.hostname is not None
    headers = {"cookie": f"tc={token}; tc_lang=en", "hx-request": "true", "hx-target": "results"}
    pages = [http.client.HTTPConnection(parts.hostname, parts.port) for _ in range(PAGES)]
    turn, told = 0, False
    while True:
        for at, page in enumerate(pages):
            due = time.monotonic() + POLL_S / PAGES
            page.request("GET", PATHS[at % len(PATHS)], headers=headers)
            reply = page.getresponse()
            reply.read()
            if reply.status != 200:
                sys.exit(f"a page answered {reply.status}")
            time.sleep(max(0.0, due - time.monotonic()))
        turn += 1
        if not told:
            print("open", flush=True)
            told = True


if __name__ == "__main__":
    main()
