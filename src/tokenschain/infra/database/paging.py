"""Keyset pagination: one page of a query, and the cursor where the next begins."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, Connection, Select, tuple_

from tokenschain.core.errors import ApiError

PAGE_MAX = 200
"""Rows of one page."""
ROUNDS_MAX = 50
"""Pages that are read for one of `seen_page`."""
CURSOR_CHARACTERS_MAX = 500
_NUMBER_MAX = 2**62


class Page(NamedTuple):
    """How much of a list, and from where."""

    limit: int
    after: list[str | int] | None
    """Of the last row of the page before: what the list is ordered by."""


class Rows(NamedTuple):
    """The rows of one page."""

    rows: list[dict[str, Any]]
    next_cursor: str | None
    """Where the next page begins; None when there is none."""
    order: tuple[str, ...] = ()
    """The columns that the list is ordered by."""


def page_of(limit: int, cursor: str) -> Page:
    """A page as a caller asks for it.

    Raises:
        ApiError: `invalid_value`: the cursor is not one of ours.
    """
    if not cursor:
        return Page(limit, None)
    try:
        after = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if not isinstance(after, list) or not all(isinstance(x, (str, int)) for x in after):
            raise ValueError
        if any(isinstance(x, int) and abs(x) > _NUMBER_MAX for x in after):
            raise ValueError
        if any(isinstance(x, str) and "\x00" in x for x in after):
            raise ValueError
    except (ValueError, binascii.Error, RecursionError):
        raise ApiError("invalid_value", "The cursor is not one of ours.", param="cursor") from None
    return Page(limit, after)


def after_of(page: Page, order: Sequence[Column[Any]]) -> tuple[str | int, ...] | None:
    """Where a page goes on, checked to be of the kinds that the list is ordered by.

    Raises:
        ApiError: `invalid_value`: the cursor is of another list.
    """
    if page.after is None:
        return None
    kinds = [column.type.python_type for column in order]
    if [type(value) for value in page.after] != kinds:
        raise ApiError("invalid_value", "The cursor is of another list.", param="cursor")
    return tuple(page.after)


def read_page(
    db: Connection,
    query: Select[Any],
    page: Page,
    order: Sequence[Column[Any]],
    *,
    newest: bool = False,
    tenant: str | None = None,
) -> Rows:
    """The rows of one page of a list.

    Args:
        order: what the list is ordered by; together they tell any two rows apart.
        newest: from the highest down.
        tenant: only this tenant's rows.

    Raises:
        ApiError: `invalid_value`: the cursor is of another list.
    """
    if tenant is not None:
        query = query.where(order[0].table.c.tenant == tenant)
    after = after_of(page, order)
    if after is not None:
        here = tuple_(*order)
        query = query.where(here < after if newest else here > after)
    query = query.order_by(*(column.desc() if newest else column for column in order))
    rows = [dict(row) for row in db.execute(query.limit(page.limit)).mappings()]
    return Rows(rows, cursor_after(rows, page, order), tuple(column.name for column in order))


def seen_page(
    read: Callable[[Page], Rows], page: Page, is_seen: Callable[[dict[str, Any]], bool]
) -> Rows:
    """A page of what somebody may see of a list: neither its length nor its cursor tells how much
    more there is, or what, up to some thousands of rows that are passed over.

    Args:
        read: a page of all of it, with its `order`.
    """
    rows: list[dict[str, Any]] = []
    found, rounds = read(page), 1
    while True:
        for row in found.rows:
            if is_seen(row):
                rows.append(row)
                if len(rows) == page.limit:
                    return Rows(rows, cursor_of([row[name] for name in found.order]))
        if found.next_cursor is None or rounds == ROUNDS_MAX:
            return Rows(rows, found.next_cursor)
        found, rounds = read(page_of(PAGE_MAX, found.next_cursor)), rounds + 1


def cursor_after(
    rows: Sequence[dict[str, Any]], page: Page, order: Sequence[Column[Any]]
) -> str | None:
    """Where the page after these rows begins; None when they are fewer than were asked for."""
    if len(rows) < page.limit:
        return None
    return cursor_of([rows[-1][column.name] for column in order])


def cursor_of(last: list[str | int]) -> str:
    """The cursor of the page after these values, which are what a list is ordered by."""
    return base64.urlsafe_b64encode(json.dumps(last).encode()).decode()
