"""The life of a call on fakes: what happens in which order, and who is tried next."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes import FakeHouse
from tokenschain.core.errors import ApiError
from tokenschain.gateway.pipeline import serve


def down(code: str = "upstream_unreachable") -> ApiError:
    return ApiError(code, "down")


def test_a_failed_upstream_is_followed_by_the_next_one() -> None:
    house = FakeHouse(first=down(), second=["a", "b"])
    asyncio.run(serve(house.call(), house.steps))
    assert house.log == ["open first", "open second", "a", "settle ok", "close b"]


def test_an_upstream_that_blames_the_call_ends_it() -> None:
    house = FakeHouse(first=down("invalid_request"), second=["a"])
    asyncio.run(serve(house.call(), house.steps))
    assert house.log == ["open first", "settle invalid_request", "close invalid_request"]


def test_when_all_fail_the_last_failure_is_told() -> None:
    house = FakeHouse(first=down(), second=down("upstream_timeout"))
    asyncio.run(serve(house.call(), house.steps))
    assert house.log[-2:] == ["settle upstream_timeout", "close upstream_timeout"]


def test_without_room_in_the_journal_no_upstream_is_troubled() -> None:
    house = FakeHouse(first=["a"])
    house.room = down("journal_full")
    asyncio.run(serve(house.call(), house.steps))
    assert house.log == ["settle journal_full", "close journal_full"]


def test_a_bad_body_is_settled_as_what_it_is() -> None:
    house = FakeHouse(first=["a"])
    asyncio.run(serve(house.call(b"{"), house.steps))
    assert house.log == ["settle invalid_json", "close invalid_json"]


def test_a_fault_of_our_own_is_recorded_as_one_and_goes_up() -> None:
    house = FakeHouse(first=ZeroDivisionError("secret inside"))
    call = house.call()
    with pytest.raises(ZeroDivisionError):
        asyncio.run(serve(call, house.steps))
    assert house.log == ["open first", "settle internal_error"]
    assert call.error is not None and "secret" not in call.error.message
