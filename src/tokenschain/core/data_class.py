"""Order of data classes: of several that hold for one call, the highest decides.

The grades are those of GB/T 43697-2024 (general, important, core); personal information and
sensitive personal information (PIPL, article 28) stand above general and below important data.
Classes of an operator's own have no place in the order: each holds beside the highest grade.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Grade = Literal["general", "personal", "sensitive", "important", "core"]
GRADES: tuple[Grade, ...] = ("general", "personal", "sensitive", "important", "core")
"""From the lowest to the highest."""


def in_force(names: Iterable[str]) -> frozenset[str]:
    """Of the classes that hold for a call, the highest grade, and those without a grade."""
    names = frozenset(names)
    grade = max(names.intersection(GRADES), key=GRADES.index, default=None)
    return names.difference(GRADES) | ({grade} if grade is not None else frozenset())


def is_raised(before: str, after: str) -> bool:
    """Whether one class, or none, is replaced by one that is as high or higher."""
    return before in ("", after) or (
        before in GRADES and after in GRADES and GRADES.index(before) <= GRADES.index(after)
    )


def may_be_kept(names: Iterable[str]) -> bool:
    """Whether a call of these classes may be cached and stored."""
    return in_force(names) <= {GRADES[0]}
