"""Model register: which numbers hold on a day, and what is left of a plan by them."""

from __future__ import annotations

import datetime

import pytest

from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import (
    Candidate,
    ModelRoute,
    Offer,
    Plan,
    Snapshot,
    Upstream,
    restrictions,
)
from tokenschain.core.snapshot.filings import (
    Filing,
    FilingKind,
    filed_part,
    number_used,
    numbers_in_force,
)

TODAY = datetime.date(2026, 11, 28)


def filing(number: str, *models: str, kind: FilingKind = "generative-ai", **more: str) -> Filing:
    return Filing(number=number, models=models, source="notice", kind=kind, **more)  # type: ignore[arg-type]


def plan(name: str, *others: str) -> Plan:
    def tier(model: str) -> Plan:
        offer = Offer(f"at-{model}", f"their-{model}")
        return Plan(
            ModelRoute(model, "chat", (offer,)), (Candidate(Upstream(offer.upstream), offer),)
        )

    first = tier(name)
    return Plan(first.route, first.candidates, tuple(map(tier, others)))


@pytest.mark.parametrize(
    ("filed_on", "ended_on", "holds"),
    [
        ("", "", True),
        ("2026-11-28", "", True),
        ("2026-11-29", "", False),
        ("2026-01-01", "2026-11-28", False),
        ("2026-01-01", "2026-11-29", True),
    ],
)
def test_a_number_holds_from_the_day_of_filing_to_the_day_of_the_end(
    filed_on: str, ended_on: str, holds: bool
) -> None:
    found = numbers_in_force([filing("1", "m", filed_on=filed_on, ended_on=ended_on)], TODAY)
    assert found == ({"m": "1"} if holds else {})


def test_a_filing_goes_before_a_registration_and_an_algorithm_alone_is_not_enough() -> None:
    given = [
        filing("r", "m", "n", kind="registration"),
        filing("f", "m"),
        filing("a", "m", "n", "o", kind="algorithm"),
    ]
    assert numbers_in_force(given, TODAY) == {"m": "f", "n": "r"}


def test_only_filed_models_are_left_of_a_plan_in_their_order() -> None:
    whole = plan("a", "b", "c")
    assert filed_part({"a": "1", "b": "2", "c": "3"}, whole) is whole
    left = filed_part({"b": "2", "c": "3"}, whole)
    assert [one.route.name for one in (left, *left.others)] == ["b", "c"]
    assert number_used({"b": "2", "c": "3"}, left, "at-c", "their-c") == "3"
    assert number_used({"b": "2", "c": "3"}, left, "", "kept") == "2", "from the cache"
    assert number_used({"b": "2", "c": "3"}, left, "", "") == "", "nothing answered"


def test_a_plan_without_a_filed_model_is_refused_by_name() -> None:
    with pytest.raises(ApiError) as refused:
        filed_part({"virtual": "1"}, plan("a", "b"))
    assert refused.value.code == "model_not_filed" and refused.value.status == 403
    assert "`a`, `b`" in str(refused.value)


def test_numbers_hold_where_the_rest_of_a_configuration_is_of_no_use() -> None:
    later = restrictions.of_snapshot(Snapshot("2", {}, {}, filings={"m": "1"}))
    kept = restrictions.decode(restrictions.encode(later))
    before = Snapshot("1", {}, {}, filings={"ended": "0"})
    assert restrictions.restricted(before, kept, "2").filings == {"m": "1"}
