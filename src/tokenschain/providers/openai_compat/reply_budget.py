"""Budget of upstreams' answers: what all running calls hold of them is bounded, and each tenant's.

One answer has bounds of its own; a tenant with an upstream of its own could have many at once.
Counted is what is kept before a caller has it: bodies that are read whole, events that are not
complete, streams that are gathered. It is given back when the call is over.
"""

from __future__ import annotations

import sys

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.wire.budgets import BudgetExceeded, ByteBudget


class ReplyBudget:
    """How many bytes of answers may be held."""

    def __init__(self, total_max: int) -> None:
        """
        Args:
            total_max: for all calls; those of one tenant may hold half of it.
        """
        self._bytes = ByteBudget(total_max, total_max // 2)

    @property
    def held(self) -> int:
        """Bytes that running calls hold now."""
        return self._bytes.held

    def hold(self, call: Call, amount: int) -> None:
        """Count more bytes that are kept for a call.

        Raises:
            ApiError: `overloaded`: there is no room; nothing was counted.
        """
        if call.held is None:
            call.held = _Held(self._bytes, "" if call.caller is None else call.caller.tenant)
        call.held.grow(amount)


class _Held:
    """See `core.call.HeldBytes`."""

    __slots__ = ("_amount", "_budget", "_tenant")

    def __init__(self, budget: ByteBudget, tenant: str) -> None:
        self._budget = budget
        self._tenant = tenant
        self._amount = 0

    def grow(self, amount: int) -> None:
        try:
            self._budget.take(self._tenant, amount)
        except BudgetExceeded as full:
            raise ApiError(
                "overloaded",
                "Too much of upstreams' answers is being held; try again.",
                retry_after_s=1,
            ) from full
        self._amount += amount

    def release(self) -> None:
        amount, self._amount = self._amount, 0
        if amount:
            self._budget.give_back(self._tenant, amount)


UNBOUNDED = ReplyBudget(sys.maxsize)
"""For what no caller makes: tests of upstreams."""
