"""Budgets of bytes and connections."""

from __future__ import annotations

import pytest

from tokenschain.wire.budgets import BudgetExceeded, ByteBudget, ConnectionTable, network_of


def test_a_budget_is_bounded_for_all_and_for_each_and_given_back_exactly() -> None:
    budget = ByteBudget(10, 6)
    budget.take("a", 6)
    with pytest.raises(BudgetExceeded) as own:
        budget.take("a", 1)
    assert own.value.by_address
    budget.take("b", 4)
    with pytest.raises(BudgetExceeded) as of_all:
        budget.take("c", 1)
    assert not of_all.value.by_address
    budget.give_back("a", 2)
    budget.take("c", 2)
    for who, amount in (("a", 4), ("b", 4), ("c", 2)):
        budget.give_back(who, amount)
    assert budget.held == 0 and not budget._by_address


def test_who_comes_through_a_proxy_is_bound_by_the_total_alone() -> None:
    budget = ByteBudget(10, 6)
    budget.take("", 10)
    with pytest.raises(BudgetExceeded):
        budget.take("", 1)


@pytest.mark.parametrize(
    ("address", "counted_as"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2001:db8::9", "2001:db8:0:0::/64"),
        ("fe80::1%eth0", "fe80:0:0:0::/64"),
        ("::1", "0:0:0:0::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_caller_is_counted_by_its_network(address: str, counted_as: str) -> None:
    assert network_of(address) == counted_as


class Line:
    """A connection that is idle, or is not."""

    def __init__(self, *, idle: bool = True) -> None:
        self.idle = idle
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


def test_one_more_connection_takes_the_place_of_the_oldest_idle_one_of_its_address() -> None:
    table: ConnectionTable[Line] = ConnectionTable(100, 3)
    busy, old, young, others = Line(idle=False), Line(), Line(), Line()
    for line in (busy, old, young):
        assert table.admit(line, "a")
    assert table.admit(others, "b") and table.admit(Line(), "a")
    assert old.aborted and not (busy.aborted or young.aborted or others.aborted)
    assert len(table) == 4


def test_where_all_are_busy_there_is_no_room() -> None:
    table: ConnectionTable[Line] = ConnectionTable(100, 2)
    for _ in range(2):
        assert table.admit(Line(idle=False), "a")
    assert not table.admit(Line(), "a") and table.admit(Line(), "b")


def test_a_full_table_makes_room_where_most_are_held() -> None:
    table: ConnectionTable[Line] = ConnectionTable(10, 9)
    many, one = [Line() for _ in range(9)], Line()
    assert table.admit(one, "b") and all(table.admit(line, "a") for line in many)
    assert table.admit(Line(), "c")
    assert many[0].aborted and not one.aborted and len(table) == 10


def test_what_is_over_leaves_nothing_behind() -> None:
    table: ConnectionTable[Line] = ConnectionTable(10, 9)
    lines = [Line() for _ in range(5)]
    for line in lines:
        table.admit(line, "a")
    for line in (*lines, *lines):
        table.dismiss(line)
    assert len(table) == 0 and not table._shares
