"""What a page may cost: control's computing time and memory, and the browser's elements."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable

import pytest

from tests.console.test_pages import PATHS
from tests.console.visitors import Browser, House, Page
from tokenschain.console.polling import POLLED
from tokenschain.infra.telemetry import resident_bytes

PAGE_CPU_S = 0.025
"""Of control for one page, with what the test's client takes, on a machine of the usual speed."""
USUAL_S = 0.009
"""What `_work` takes on such a machine."""
ELEMENTS_MAX = 1_500
LISTED = 80
"""More keys, limits and changes than a page lists."""
OPEN_PAGES = 50
POLLS = 4
GROWTH_BYTES_MAX = 8 * 1_048_576


@pytest.fixture(scope="module")
def browsers(house: House) -> dict[str, Browser]:
    """Of an owner and of the platform's operator, before a house with lists that are full."""
    for n in range(LISTED):
        key = {"tenant": "alpha", "project": "p1", "name": f"key {n}"}
        house.platform.operator("POST", "/keys", key)
        limit = {"measure": "requests", "amount": 9, "match": {"tenant": "alpha"}, "kind": "rate"}
        house.platform.operator("PUT", f"/limits/rate-{n}", limit)
    return {tenant: house.browser(tenant, "owner") for tenant in ("alpha", "*")}


def test_a_page_takes_little_computing_time(browsers: dict[str, Browser]) -> None:
    slow, measured = {}, 0
    for tenant, browser in browsers.items():
        for path in PATHS:
            # Some are of something that has to be named; a table of 5,000 lines is no page.
            if browser.get(path).status_code != 200 or path.endswith("/export"):
                continue
            measured += 1
            spent = _least(lambda path=path, one=browser: one.get(path), 3)  # type: ignore[misc]
            if spent > PAGE_CPU_S and spent > PAGE_CPU_S * _least(_work, 3) / USUAL_S:
                slow[tenant, path] = round(spent, 4)
    assert measured >= 45 and not slow


def test_a_page_with_full_lists_has_few_elements(browsers: dict[str, Browser]) -> None:
    many = {}
    for tenant, browser in browsers.items():
        for path in PATHS:
            elements = len(Page(browser.get(path).text).tags)
            if elements > ELEMENTS_MAX:
                many[tenant, path] = elements
    assert not many


def test_memory_stays_as_it_is_while_many_pages_are_open(house: House) -> None:
    browsers = [house.browser("alpha", "viewer") for _ in range(OPEN_PAGES)]
    asks = {"hx_request": "true", "x_tc_poll": "1"}

    def poll() -> None:
        for number, browser in enumerate(browsers):
            browser.get(list(POLLED)[number % len(POLLED)], **asks)
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
