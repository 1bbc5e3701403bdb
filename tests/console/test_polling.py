"""Polling: parts shared by those who may see the same, and pages that ask less often when many."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from starlette.responses import Response

from tests.console.visitors import Browser, House, unseen
from tests.security.platform import INTERNATIONAL
from tokenschain.console.admin_api import AdminApi
from tokenschain.console.polling import (
    AFTER_HEADER,
    CORE_SHARE_MAX,
    KEPT_MAX,
    POLLED,
    WINDOW_S,
    WORKERS_SHARE,
    PollPace,
    SharedParts,
)
from tokenschain.console.visit import Preferences, SignedInReader, SignedOut, Visit

LIVE = "/console/live"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def poll(browser: Browser, path: str = LIVE, **more: str) -> httpx.Response:
    return browser.get(path, hx_request="true", hx_target="part", x_tc_poll="1", **more)


# --- how often -----------------------------------------------------------------------------


def _run(pace: PollPace, clock: Clock, spent: Clock, pages: int, cost_s: float) -> list[float]:
    """By how much pauses grow while so many pages ask, each poll at that cost."""
    found = []
    for _ in range(20):
        pause_s = 2.0 * pace.slowdown
        for _ in range(max(1, round(pages * WINDOW_S / pause_s))):
            with pace.measured():
                spent.now_s += cost_s / WORKERS_SHARE
        clock.now_s += WINDOW_S
        with pace.measured():
            pass
        found.append(pace.slowdown)
    return found


def test_many_pages_ask_less_often_and_take_no_more_than_the_share_of_a_core() -> None:
    clock, spent = Clock(), Clock()
    pace = PollPace(spent, clock)
    settled = _run(pace, clock, spent, 50, 0.006)[-1]
    assert 50 * 0.006 / (2.0 * settled) == pytest.approx(CORE_SHARE_MAX, rel=0.1)
    assert _run(pace, clock, spent, 100, 0.006)[-1] == pytest.approx(2 * settled, rel=0.1)


def test_a_lone_page_asks_as_often_as_ever_and_so_it_does_when_others_have_left() -> None:
    clock, spent = Clock(), Clock()
    pace = PollPace(spent, clock)
    assert set(_run(pace, clock, spent, 1, 0.05)) == {1.0}
    assert _run(pace, clock, spent, 200, 0.02)[-1] > 10
    assert _run(pace, clock, spent, 1, 0.005)[-1] == pytest.approx(1.0, abs=0.01)


def test_polls_at_the_same_time_are_not_counted_twice() -> None:
    clock, spent = Clock(), Clock()
    pace = PollPace(spent, clock)
    with pace.measured(), pace.measured():
        spent.now_s += 0.06 * WINDOW_S / WORKERS_SHARE
        clock.now_s += WINDOW_S
    assert pace.slowdown == pytest.approx(1.5)  # half the way to twice as long


# --- what is shared ------------------------------------------------------------------------


def _visit(**query: str) -> Visit:
    async def nowhere(*_: object) -> None: ...

    api = AdminApi(nowhere, unseen, "", "", wait_max_s=1.0)
    visit = Visit(LIVE, query, Preferences("en", "auto"), api, "r", fragment="x", is_poll=True)
    visit.reader = SignedInReader("someone", "alpha", [])
    return visit


def test_a_part_is_drawn_once_for_all_who_ask_at_the_same_time_and_again_a_pause_later() -> None:
    clock, drawn = Clock(), []

    async def draw() -> Response:
        drawn.append(1)
        await asyncio.sleep(0)
        return Response(f"part {len(drawn)}")

    async def run() -> None:
        parts = SharedParts(INTERNATIONAL, clock)
        answers = await asyncio.gather(
            *(parts.answer(_visit(), "", draw, packed=False) for _ in range(9))
        )
        assert {bytes(one.body) for one in answers} == {b"part 1"} and len(drawn) == 1
        assert answers[0].headers[AFTER_HEADER] == "2000"
        same = await parts.answer(_visit(), answers[0].headers["etag"], draw, packed=True)
        assert (same.status_code, same.body, len(drawn)) == (304, b"", 1)
        clock.now_s += POLLED[LIVE]
        later = await parts.answer(_visit(), answers[0].headers["etag"], draw, packed=False)
        assert (later.status_code, later.body) == (200, b"part 2")
        for number in range(3 * KEPT_MAX):
            await parts.answer(_visit(tenant=f"t{number}"), "", draw, packed=False)
        assert len(parts._kept) == KEPT_MAX

    asyncio.run(run())


def test_what_goes_wrong_for_one_is_not_told_to_others_and_not_kept() -> None:
    tries = []

    async def ends() -> Response:
        tries.append(1)
        await asyncio.sleep(0)
        raise SignedOut

    async def draws() -> Response:
        return Response("fine")

    async def run() -> None:
        parts = SharedParts(INTERNATIONAL)
        first, second = await asyncio.gather(
            parts.answer(_visit(), "", ends, packed=False),
            parts.answer(_visit(), "", draws, packed=False),
            return_exceptions=True,
        )
        assert isinstance(first, SignedOut)
        assert isinstance(second, Response) and second.body == b"fine"
        with pytest.raises(SignedOut):
            await parts.answer(_visit(), "", ends, packed=False)
        assert len(tries) == 2

    asyncio.run(run())


# --- who sees what -------------------------------------------------------------------------


def test_tenants_roles_and_languages_side_by_side_see_their_own(house: House) -> None:
    alpha, beta = house.browser("alpha", "viewer"), house.browser("beta", "viewer")
    for _ in range(2):  # the second time each is kept
        assert "alpha-model" in poll(alpha).text and "beta-model" not in poll(alpha).text
        assert "beta-model" in poll(beta).text and "alpha-model" not in poll(beta).text
        # An address that names the other's tenant is a part of its own, and refused.
        assert "beta-model" not in poll(alpha, f"{LIVE}?tenant=beta").text
        assert "beta-model" in poll(beta, f"{LIVE}?tenant=beta").text
    chinese = house.browser("alpha", "viewer", "zh")
    assert "成功" in poll(chinese).text and "成功" not in poll(alpha).text
    # Who may not read calls gets none, whoever had them drawn a moment ago.
    finance = house.browser("alpha", None)  # type: ignore[arg-type]
    assert "alpha-model" not in poll(finance).text
    narrow = house.browser("alpha", "viewer", project="p2")
    assert "alpha-model" not in poll(narrow).text and "alpha-model" in poll(alpha).text


def test_people_with_the_same_rights_share_a_part_for_a_pause(house: House) -> None:
    one, other = (house.browser("theta", "viewer") for _ in range(2))
    first = poll(one)
    house.enter(tenant="theta", model_asked="theta-model")
    assert poll(other).headers["etag"] == first.headers["etag"]
    known = poll(one, if_none_match=first.headers["etag"])
    assert (known.status_code, known.content) == (304, b"")
    assert "theta-model" in other.get(LIVE, hx_request="true").text  # what no page asks again for
    patience = time.monotonic() + 30
    while "theta-model" not in poll(other).text:
        assert time.monotonic() < patience
        time.sleep(0.1)


def test_whose_sign_in_ended_or_who_lost_a_role_gets_no_part_that_was_kept(house: House) -> None:
    person = house.platform.person("alpha", "viewer")
    browser, colleague = house.as_person(person.token), house.browser("alpha", "viewer")
    assert "alpha-model" in poll(browser).text
    (held,) = house.platform.operator("GET", f"/users/{person.id}").json()["bindings"]
    assert house.platform.operator("DELETE", f"/bindings/{held['id']}").status_code == 200
    assert "alpha-model" not in poll(browser).text and "alpha-model" in poll(colleague).text
    gone = house.platform.person("alpha", "viewer")
    leaving = house.as_person(gone.token)
    assert "alpha-model" in poll(leaving).text
    gone("DELETE", "/sessions")
    reply = poll(leaving)
    assert reply.headers["hx-redirect"].startswith("/console/sign-in") and not reply.content


def test_every_page_that_asks_again_says_how_often(house: House) -> None:
    operator = house.browser("*", "owner")
    for path, pause_s in POLLED.items():
        reply = poll(operator, path)
        if reply.status_code == 404:  # of an upstream that has to be named
            assert path.endswith("/upstream")
            continue
        assert reply.status_code == 200, path
        assert float(reply.headers[AFTER_HEADER]) >= pause_s * 1_000, path
        page = operator.get("/console" if path == LIVE else path).text
        assert f'data-live="{pause_s}"' in page and 'hx-trigger="poll"' in page, path
