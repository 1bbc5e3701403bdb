"""Shared load: the prompt tokens that other gateways have sent to an upstream and wait for.

Each gateway tells the others what of its own has changed and counts theirs as if it had sent it,
so that choice and admission need not ask who sent what. A state machine without a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from tokenschain.core.routing.selection import Endpoint

EndpointKey = tuple[str, str]
"""An upstream's id and a model's."""
Row = tuple[str, str, int]
"""An upstream's id, a model's, and the prompt tokens there that no first token has come for."""
RETELL_S = 0.5
"""What has not changed is told again after this, so that silence means gone."""
FRESH_S = 2.0
"""What a gateway told holds this long; one that was killed takes nothing back."""
HOLDERS_MAX, ROWS_MAX = 1_000, 10_000


class SharedLoad:
    """One gateway's view of the load of all of them."""

    def __init__(self, endpoints: Callable[[], Mapping[EndpointKey, Endpoint]]) -> None:
        self._endpoints = endpoints
        self._told: dict[EndpointKey, int] = {}
        self._retold_at = 0.0
        self._heard: dict[str, tuple[float, dict[EndpointKey, int]]] = {}

    @property
    def others(self) -> int:
        """Gateways that have told something of late."""
        return len(self._heard)

    def changes(self, now: float) -> list[Row]:
        """What the others do not know yet of this gateway's own calls."""
        again = now - self._retold_at >= RETELL_S
        if again:
            self._retold_at = now
            self._forget(now)
        rows: list[Row] = []
        others = self.others
        for key, endpoint in self._endpoints().items():
            if others or endpoint.others:
                endpoint.others = others
                self._count((key,))
            own = int(endpoint.prefill_tokens - endpoint.elsewhere_tokens)
            if own != self._told.get(key, 0) or (own and again):
                self._told[key] = own
                rows.append((*key, own))
        return rows[:ROWS_MAX]

    def heard(self, holder: str, rows: Iterable[Row], now: float) -> None:
        """Another gateway told what has changed there."""
        if holder not in self._heard and len(self._heard) >= HOLDERS_MAX:
            return
        of_holder = self._heard.get(holder, (now, {}))[1]
        self._heard[holder] = now, of_holder
        keys = []
        for upstream, model, tokens in rows:
            key = (upstream, model)
            if tokens > 0:
                if len(of_holder) < ROWS_MAX:
                    of_holder[key] = tokens
            else:
                of_holder.pop(key, None)
            keys.append(key)
        self._count(keys)

    def alone(self) -> None:
        """There is no way to the others any more: what they told is of no use."""
        self._forget(float("inf"))

    def _forget(self, now: float) -> None:
        for holder, (at, rows) in list(self._heard.items()):
            if now - at > FRESH_S:
                del self._heard[holder]
                self._count(rows)

    def _count(self, keys: Iterable[EndpointKey]) -> None:
        endpoints = self._endpoints()
        for key in keys:
            endpoint = endpoints.get(key)
            if endpoint is not None:
                endpoint.send_elsewhere(sum(rows.get(key, 0) for _, rows in self._heard.values()))
