"""The ledger's ingest beside open pages of the console: `python -m bench.console [--turns 12]`.

One control process has both: events enter the ledger in a thread, as gateways ship them, and
browsers have pages open that ask again over sockets, as their templates and the answers say. Short
turns alone and beside the pages follow each other, so that a machine that is busier for a while is
so for both.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.console.served import served
from tests.console.visitors import unseen
from tests.security.platform import Platform, platform

from bench.stores import TENANTS, synthetic_payloads
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.console.polling import AFTER_HEADER, POLL_HEADER
from tokenschain.infra.control_channel.protocol import BATCH_RECORDS_MAX
from tokenschain.infra.database import engine as database
from tokenschain.infra.security.suite import INTERNATIONAL
from tokenschain.infra.telemetry import resident_bytes

PAGES, PEOPLE, OPERATORS = 50, 10, 2
"""Of ten people two are the platform's; the others are of as many tenants."""
OPEN = ("/console", "/console", "/console", "/console/routing", "/console/alerts")
OPEN_BY_OPERATORS = ("/console", "/console/routing", "/console/alerts", "/console/system",
                     "/console/night")  # fmt: skip
"""The pages that one person has open at the same time."""
SETTLE_S, TURN_S = 15.0, 3.0
SPAN_MS = 60_000
"""That events are of: gateways ship what was just now, and figures of each minute are kept."""
_LIVE = re.compile(r'id="([\w-]+)" hx-get="([^"]+)" hx-trigger="poll"[^>]* data-live="([\d.]+)"')


def main() -> None:
    """Print the share of ingest that is left beside the pages, and what memory did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=12, help="Of each kind.")
    parser.add_argument("--pages-at", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pages_at:
        _keep_open(given.pages_at, json.loads(sys.stdin.readline()))
        return
    with tempfile.TemporaryDirectory() as folder, platform(Path(folder)) as made:
        settings = ConsoleSettings(
            None, False, "http://127.0.0.1:8000/v1", Path(folder) / "browser"
        )
        console = Console(made.app, settings, INTERNATIONAL, unseen)
        operators = [made.person("*", "owner").token for _ in range(OPERATORS)]
        others = [
            made.person(f"tenant{n % TENANTS}", "viewer").token for n in range(PEOPLE - OPERATORS)
        ]
        with served(console) as base:
            _measure(made, base, [*operators, *others], given.turns)


def _measure(made: Platform, base: str, tokens: list[str], turns: int) -> None:
    today = int(time.time() // 86_400)
    database.ensure_days(made.engine, range(today - 1, today + 2))
    _turn(made, 0, today)  # what is learned first
    pages = subprocess.Popen(
        [sys.executable, "-m", "bench.console", "--pages-at", base],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert pages.stdin is not None and pages.stdout is not None
    pages.stdin.write(json.dumps(tokens) + "\n")
    pages.stdin.flush()
    pages.stdout.readline()  # all of them are open
    _turn(made, 1, today, SETTLE_S)
    shares, cores, memory = [], [], [resident_bytes() / 1e6]
    for number in range(turns):
        pages.send_signal(signal.SIGSTOP)
        alone = _turn(made, 2 * number + 2, today)
        before = resident_bytes() / 1e6
        pages.send_signal(signal.SIGCONT)
        beside = _turn(made, 2 * number + 3, today)
        shares.append(beside.entered_per_s / alone.entered_per_s)
        cores.append(beside.cores_of_others - alone.cores_of_others)
        memory.append(resident_bytes() / 1e6)
        print(f"{alone.entered_per_s:8,.0f}/s alone {beside.entered_per_s:8,.0f}/s beside {PAGES} "
              f"pages: {shares[-1]:.1%}; pages take {cores[-1]:.1%} of a core; "
              f"memory {before:.0f} then {memory[-1]:.0f} MB", flush=True)  # fmt: skip
    pages.terminate()
    said, _ = pages.communicate()
    print(said.strip())
    print(f"median {statistics.median(shares):.1%} of ingest alone; "
          f"pages take {statistics.median(cores):.1%} of a core; memory {memory[0]:.0f} to "
          f"{memory[-1]:.0f} MB")  # fmt: skip


class _Turn(NamedTuple):
    entered_per_s: float
    """In a second of entering; making events up is not counted."""
    cores_of_others: float
    """What all other threads of control took: beside pages those that answer them."""


def _turn(made: Platform, seed: int, day: int, for_s: float = TURN_S) -> _Turn:
    ledger, entered, spent_s = made.app.state.context.ledger, 0, 0.0
    began_s, own_s, all_s = time.perf_counter(), time.thread_time(), time.process_time()
    while spent_s < for_s:
        payloads = synthetic_payloads(BATCH_RECORDS_MAX, seed << 20 | entered, day, SPAN_MS)
        began = time.perf_counter()
        entered += ledger.ingest(payloads)
        spent_s += time.perf_counter() - began
    others_s = (time.process_time() - all_s) - (time.thread_time() - own_s)
    return _Turn(entered / spent_s, others_s / (time.perf_counter() - began_s))


class _Page:
    """An open page with the part of it that asks again."""

    def __init__(self, browser: http.client.HTTPConnection, path: str, token: str) -> None:
        self._browser = browser
        self._cookie = {"cookie": f"tc={token}; tc_lang=en", "accept-encoding": "gzip"}
        browser.request("GET", path, headers={"cookie": self._cookie["cookie"]})
        found = _LIVE.search(browser.getresponse().read().decode())
        assert found is not None, f"{path} asks for nothing again"
        self._target, address, pause = found.groups()
        self._address, self.pause_s = address.replace("&amp;", "&"), float(pause)
        self._etag = ""
        self.due_s = time.monotonic() + random.random() * self.pause_s

    def ask(self) -> int:
        """Ask as the page's script does; returns the status."""
        lines = self._cookie | {"hx-request": "true", "hx-target": self._target, POLL_HEADER: "1"}
        if self._etag:
            lines["if-none-match"] = self._etag
        self._browser.request("GET", self._address, headers=lines)
        reply = self._browser.getresponse()
        reply.read()
        self._etag = reply.headers["etag"]
        self.pause_s = int(reply.headers[AFTER_HEADER]) / 1_000
        self.due_s = time.monotonic() + self.pause_s
        return reply.status


def _keep_open(base: str, tokens: list[str]) -> None:
    """Open pages until somebody ends this process, each asking again when it is due."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    parts = urlsplit(base)
    assert parts.hostname is not None
    pages = []
    for number, token in enumerate(tokens):
        browser = http.client.HTTPConnection(parts.hostname, parts.port)
        paths = OPEN_BY_OPERATORS if number < OPERATORS else OPEN
        pages += [_Page(browser, path, token) for path in paths]
    assert len(pages) == PAGES
    print("open", flush=True)
    statuses = {200: 0, 304: 0}
    try:
        while True:
            page = min(pages, key=lambda one: one.due_s)
            late_s = time.monotonic() - page.due_s
            if late_s > max(TURN_S / 2, page.pause_s / 2):  # this process was held meanwhile
                for one in pages:
                    one.due_s = time.monotonic() + random.random() * one.pause_s
                continue
            time.sleep(max(0.0, -late_s))
            statuses[page.ask()] += 1
    finally:
        asked = sum(statuses.values())
        pause_s = statistics.median(one.pause_s for one in pages)
        print(f"{asked:,} polls, {statuses[304] / asked:.0%} of them unchanged; "
              f"median pause at the end {pause_s:.1f} s")  # fmt: skip


if __name__ == "__main__":
    main()
