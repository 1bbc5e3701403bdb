"""Budgets of bytes and connections: a bound for all callers together and one for each address."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import Generic, Protocol, TypeVar

_LOOKED_AT_MAX = 64
"""Connections, or addresses, that are looked at to make room for one more."""


class BudgetExceeded(Exception):
    """There is no room for more."""

    def __init__(self, *, by_address: bool) -> None:
        super().__init__("no room")
        self.by_address = by_address
        """Whether it is the address's own share that is used up."""


class ByteBudget:
    """Bytes that callers make us hold, counted exactly; an address that holds none costs
    nothing."""

    __slots__ = ("_by_address", "_each_max", "_total_max", "held")

    def __init__(self, total_max: int, each_max: int) -> None:
        """
        Args:
            each_max: for one address; the empty address is bound by `total_max` alone.
        """
        self._total_max = total_max
        self._each_max = each_max
        self._by_address: dict[str, int] = {}
        self.held = 0

    def take(self, address: str, amount: int) -> None:
        """
        Raises:
            BudgetExceeded: nothing was taken.
        """
        holds = self._by_address.get(address, 0) + amount
        if address and holds > self._each_max:
            raise BudgetExceeded(by_address=True)
        if self.held + amount > self._total_max:
            raise BudgetExceeded(by_address=False)
        self.held += amount
        self._by_address[address] = holds

    def give_back(self, address: str, amount: int) -> None:
        """Return part or all of what was taken."""
        self.held -= amount
        holds = self._by_address[address] - amount
        if holds:
            self._by_address[address] = holds
        else:
            del self._by_address[address]


def network_of(address: str) -> str:
    """What counts as one address: an IPv6 caller commands all of a /64 (RFC 6177), and an IPv4
    address written as an IPv6 one is itself. What is no address counts as it is."""
    if ":" not in address:
        return address
    try:
        parsed = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    groups = parsed.exploded.split(":")[:4]
    return ":".join(group.lstrip("0") or "0" for group in groups) + "::/64"


class Closable(Protocol):
    """A connection that may have to make room."""

    @property
    def idle(self) -> bool: ...
    def abort(self) -> None: ...


_C = TypeVar("_C", bound=Closable)


class ConnectionTable(Generic[_C]):
    """Open connections by address. Where there are too many, a new one takes the place of an
    idle one: of its own address, or of the one with most of those looked at."""

    def __init__(self, total_max: int, each_max: int) -> None:
        """
        Args:
            each_max: for one address; the empty address is bound by `total_max` alone.
        """
        self._total_max = total_max
        self._each_max = each_max
        self._shares: dict[str, dict[_C, None]] = {}
        self._share_of: dict[_C, str] = {}

    def __len__(self) -> int:
        return len(self._share_of)

    def __iter__(self) -> Iterator[_C]:
        return iter(self._share_of)

    def admit(self, connection: _C, share: str) -> bool:
        """Take a connection on; false where there is no room for it."""
        mine = self._shares.get(share)
        if mine is not None and share and len(mine) >= self._each_max:
            if not self._make_room(mine):
                return False
        elif len(self._share_of) >= self._total_max and not self._make_room(self._largest()):
            return False
        self._shares.setdefault(share, {})[connection] = None
        self._share_of[connection] = share
        return True

    def dismiss(self, connection: _C) -> None:
        """A connection is over; nothing if it was never taken on."""
        share = self._share_of.pop(connection, None)
        if share is not None:
            mine = self._shares[share]
            del mine[connection]
            if not mine:
                del self._shares[share]

    def _largest(self) -> dict[_C, None]:
        """The largest of some shares; who was looked at comes last the next time."""
        largest: dict[_C, None] = {}
        for _ in range(min(_LOOKED_AT_MAX, len(self._shares))):
            share = next(iter(self._shares))
            self._shares[share] = looked_at = self._shares.pop(share)
            if len(looked_at) > len(largest):
                largest = looked_at
        return largest

    def _make_room(self, share: dict[_C, None]) -> bool:
        """Close an idle connection of a share, the oldest of those looked at."""
        for _ in range(min(_LOOKED_AT_MAX, len(share))):
            connection = next(iter(share))
            if connection.idle:
                self.dismiss(connection)
                connection.abort()
                return True
            del share[connection]
            share[connection] = None
        return False
