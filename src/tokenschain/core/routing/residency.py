"""Data residency of one call: which rules apply, where its data may go, and how to say no."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import Routing
from tokenschain.core.snapshot.routing_policy import scopes
from tokenschain.core.snapshot.zones import EVERYBODY, ZONES, Rules, Sovereignty, under
from tokenschain.core.tenancy import CLASSES_APART, KeyGrant


def rules_for(rows: Rules, caller: KeyGrant, models: Iterable[str]) -> dict[str, frozenset[str]]:
    """Zones by each rule that applies to a call: data goes only where all of them say.

    Args:
        models: the names that it is called by, and the one that is served.
    """
    names = {
        EVERYBODY,
        *(s for model in models for s in scopes(caller.tenant, caller.project, model)),
    }
    found: dict[str, frozenset[str]] = {n: frozenset(rows[n]) for n in names if n in rows}
    if caller.data_class:
        # A class that is no longer known may go nowhere.
        for name in caller.data_class.split(CLASSES_APART):
            own = f"tenant/{caller.tenant}/class/{name}"
            if own in rows:
                found[own] = frozenset(rows[own])
            if own not in rows or f"class/{name}" in rows:
                found[f"class/{name}"] = frozenset(rows.get(f"class/{name}", ()))
    return found


def confined(routing: Routing, modes: Mapping[str, Sovereignty]) -> Routing:
    """Routing under further modes, by whose data it is."""
    residency = under(routing.residency, modes) if modes else routing.residency
    return msgspec.structs.replace(routing, residency=residency)


def refusal(rules: Mapping[str, frozenset[str]], model: str) -> ApiError:
    """No upstream of the model is where the call's data may go."""
    allowed = frozenset.intersection(*rules.values()) if rules else frozenset()
    zones = ", ".join(f"`{zone}`" for zone in ZONES if zone in allowed) or "nowhere"
    # The model's own name among the rules is the caller's word, and may be long.
    told = ", ".join(f"`{name[:100]}`" for name in sorted(rules))
    return ApiError(
        "no_upstream",
        f"Where this call's data may go, no upstream serves `{model[:100]}`. It may go to "
        f"{zones}, by the rules for {told}. Call a model that is served there, or have an "
        "upstream there added; the rules are `routing.residency` and `routing.sovereignty`.",
        param="model",
    )
