"""Which upstreams may serve a call, best first."""

from __future__ import annotations

from tokenschain.core.calls import Call
from tokenschain.core.chat import Door
from tokenschain.core.snapshot import Plan, Served
from tokenschain.core.tenancy import KeyGrant

_KINDS = {Door.EMBEDDINGS: "embedding", Door.RERANK: "rerank"}


class ListedOrder:
    """Candidates in the order the snapshot lists them."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def plan(self, call: Call, caller: KeyGrant) -> Plan:
        """See `core.ports.Routing.plan`."""
        kind = _KINDS.get(call.ask.door, "chat")
        return self._served.plan(caller, call.ask.model, kind)
