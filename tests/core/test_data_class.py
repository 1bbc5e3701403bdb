"""Order of data classes: the highest grade decides, classes without a grade hold beside it."""

from __future__ import annotations

from itertools import combinations

from tokenschain.core.data_class import GRADES, in_force, may_be_kept
from tokenschain.core.tenancy import KeyGrant


def test_of_any_grades_the_highest_holds() -> None:
    assert in_force(()) == frozenset()
    for size in range(1, len(GRADES) + 1):
        for names in combinations(GRADES, size):
            assert in_force(reversed(names)) == {names[-1]}


def test_classes_without_a_grade_hold_beside_it() -> None:
    assert in_force(("abroad", "general", "core")) == {"abroad", "core"}
    assert in_force(("abroad", "bank")) == {"abroad", "bank"}


def test_only_general_data_may_be_kept() -> None:
    assert may_be_kept(()) and may_be_kept(("general",))
    assert not any(may_be_kept(("general", name)) for name in (*GRADES[1:], "abroad"))


def test_a_keys_own_class_counts_with_what_is_found() -> None:
    key = KeyGrant("k", "t", "p", "e", data_class="important")
    assert key.of_classes({"sensitive"}).data_class == "important"
    assert key.of_classes({"core", "abroad"}).data_class == "abroad+core"
    assert KeyGrant("k", "t", "p", "e").of_classes({"general"}).data_class == "general"
