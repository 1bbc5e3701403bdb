"""What is counted by values that callers choose is bounded."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes import BODY, GRANT, call_of
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api, parse
from tokenschain.core.limits import Rate
from tokenschain.core.snapshot import ModelRoute, Plan, Served, Snapshot
from tokenschain.core.tags import tags_of
from tokenschain.gateway.quota import reservation
from tokenschain.gateway.quota.reservation import LOOKED_AT, LimitQuota

VALUES = 200
PLAN = Plan(ModelRoute("m", "chat", ()), ())


class Quota:
    """A limit of two requests a minute for each value of a tag."""

    def __init__(self) -> None:
        self.now = 0.0
        served = Served(
            Snapshot("1", {}, {}, rates=(Rate("r", "requests", 2, 60, per=("tag:user",)),))
        )
        self.made = LimitQuota(
            served, lambda: self.now, lambda: self.now, lambda _: 1.0, None, None, lambda: 1  # type: ignore[arg-type]
        )  # fmt: skip

    def ask(self, user: str) -> bool:
        call = call_of(BODY)
        call.parsed = parse(Api.CHAT, BODY)
        call.tags = tags_of(b"user=" + user.encode(), ())
        try:
            waits = self.made.reserve(call, GRANT, PLAN)
            if waits is not None:
                asyncio.run(waits)
        except ApiError as error:
            assert error.code == "rate_limit_exceeded"
            return False
        return True


@pytest.fixture
def quota(monkeypatch: pytest.MonkeyPatch) -> Quota:
    monkeypatch.setattr(reservation, "VALUES_MAX", VALUES)
    return Quota()


def test_a_flood_of_tags_is_counted_as_one_beyond_its_bound_and_who_was_there_keeps_his(
    quota: Quota,
) -> None:
    served = [quota.ask(f"u{number}") for number in range(VALUES + 50)]
    assert served == [True] * (VALUES + 2) + [False] * 48, "the others share one count"
    assert quota.ask("u3") and not quota.ask("u3")
    assert len(quota.made._meters) == VALUES + 1


class Looked(dict[tuple[str, str], tuple[str, str]]):
    """The counts by tags; knows how often one of them was looked at."""

    times = 0

    def pop(self, *key: Any) -> Any:
        self.times += 1
        return super().pop(*key)


def test_counts_that_hold_nothing_make_room_without_a_sweep(quota: Quota) -> None:
    for number in range(VALUES):
        quota.ask(f"old{number}")
    quota.now = 200.0
    looked = quota.made._by_tags = Looked(quota.made._by_tags)
    for number in range(VALUES):
        before = looked.times
        assert quota.ask(f"new{number}")
        assert looked.times - before <= LOOKED_AT
    left = [subject for _, subject in quota.made._meters if subject.startswith("old")]
    assert not left and len(quota.made._by_tags) == VALUES
    assert sum(quota.made._values.values()) == VALUES
