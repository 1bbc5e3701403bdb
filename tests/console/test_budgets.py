"""What a page may cost control: computing time, and memory while many are open."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable

from tests.console.test_pages import PATHS
from tests.console.visitors import House
from tokenschain.infra.telemetry import resident_bytes

PAGE_CPU_S = 0.025
"""Of control for one page, with what the test's client takes, on a machine of the usual speed."""
USUAL_S = 0.009
"""What `_work` takes on such a machine."""
OPEN_PAGES = 50
POLLS = 6
GROWTH_BYTES_MAX = 8 * 1_048_576


def test_a_page_takes_little_computing_time(house: House) -> None:
    browser = house.browser("alpha", "owner")
    slow, measured = {}, 0
    for path in PATHS:
        if browser.get(path).status_code != 200:  # it is of something that has to be named
            continue
        measured += 1
        spent = _least(lambda path=path: browser.get(path), 5)  # type: ignore[misc]
        if spent > PAGE_CPU_S * max(1.0, _least(_work, 3) / USUAL_S):
            slow[path] = round(spent, 4)
    assert measured >= 20 and not slow


def test_memory_stays_as_it_is_while_many_pages_are_open(house: House) -> None:
    browsers = [house.browser("alpha", "viewer") for _ in range(OPEN_PAGES)]

    def poll() -> None:
        for browser in browsers:
            assert browser.get("/console", hx_request="true").status_code == 200

    poll()
    poll()
    before = resident_bytes()
    for _ in range(POLLS):
        poll()
    assert resident_bytes() - before <= GROWTH_BYTES_MAX


def _least(run: Callable[[], object], tries: int) -> float:
    """Computing time of the best of several tries, in seconds."""
    found = []
    for _ in range(tries):
        began = time.process_time()
        run()
        found.append(time.process_time() - began)
    return min(found)


def _work() -> int:
    """A measure of the machine by what pages are made of: rows read, objects made, texts written.

    A loop of numbers alone told machines apart that serve pages alike, and did not tell those that
    do not: of two, the faster one at that took half as long again for the same pages.
    """
    database = sqlite3.connect(":memory:")
    database.execute("create table calls (id integer primary key, model text, cost integer)")
    rows = [(number, f"model-{number % 9}", number * 7) for number in range(400)]
    database.executemany("insert into calls values (?, ?, ?)", rows)
    written = 0
    for least in range(0, 400, 10):
        found = database.execute("select * from calls where cost > ?", (least * 7,)).fetchall()
        made = [{"id": one, "model": model, "cost": cost} for one, model, cost in found]
        written += len(json.dumps(json.loads(json.dumps(made))))
    database.close()
    return written
