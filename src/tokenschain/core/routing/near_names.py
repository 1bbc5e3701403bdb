"""Near names: what somebody may have meant who asked for a model that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NAMES_MAX = 3
SHARE_MIN = 0.6
"""Least likeness, as `difflib` measures it."""
ASKED_CHARS_MAX = 100
"""A longer name is a mistake of another kind; comparing costs the square of it."""
COMPARED_MAX = 1_000


def near_names(asked: str, known: Iterable[str]) -> tuple[str, ...]:
    """The names most like the one that was asked for, the likest first.

    Letters' case, and a vendor or path before the name (`deepseek/deepseek-chat`), do not count.
    """
    wanted = asked[:ASKED_CHARS_MAX].lower().rpartition("/")[2]
    if not wanted or len(asked) > ASKED_CHARS_MAX:
        return ()
    by_form: dict[str, str] = {}
    for name in known:
        if len(by_form) >= COMPARED_MAX:
            break
        by_form.setdefault(name.lower().rpartition("/")[2], name)
    near = difflib.get_close_matches(wanted, by_form, NAMES_MAX, SHARE_MIN)
    return tuple(by_form[form] for form in near)


def did_you_mean(asked: str, known: Iterable[str], most: int = NAMES_MAX) -> str:
    """The end of a sentence about a name that there is none of; empty where none is near."""
    near = near_names(asked, known)[:most]
    return f"; did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""
