"""Rows of tenants: the latest of each, within a number for all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Row = TypeVar("Row")


class TenantRows(Generic[Key, Row]):
    """Rows by tenant and key. Where all is full, the tenant with most of them gives up its oldest:
    nobody loses a row to another who has fewer."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._held = 0
        self._rows: dict[str, OrderedDict[Key, Row]] = {}

    def __len__(self) -> int:
        return self._held

    def get(self, tenant: str, key: Key) -> Row | None:
        """The row, if it is held."""
        rows = self._rows.get(tenant)
        return None if rows is None else rows.get(key)

    def of(self, tenant: str) -> Mapping[Key, Row]:
        """All of one tenant, the oldest first."""
        return self._rows.get(tenant, OrderedDict())

    def items(self) -> Iterator[tuple[Key, Row]]:
        """All, tenant by tenant."""
        for rows in self._rows.values():
            yield from rows.items()

    def keep(self, tenant: str, key: Key, row: Row) -> None:
        """Hold a row as the tenant's latest."""
        rows = self._rows.setdefault(tenant, OrderedDict())
        self._held += key not in rows
        rows[key] = row
        rows.move_to_end(key)
        while self._held > self._rows_max:
            most = max(self._rows, key=lambda name: len(self._rows[name]))
            self.take(most, next(iter(self._rows[most])))

    def take(self, tenant: str, key: Key) -> Row | None:
        """The row, which is held no more."""
        rows = self._rows.get(tenant)
        if rows is None or key not in rows:
            return None
        row = rows.pop(key)
        self._held -= 1
        if not rows:
            del self._rows[tenant]
        return row
