"""Discovery of models: an upstream's own list beside what is configured, and what is tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from tokenschain.control.configuration.changes import Configurator, State
from tokenschain.control.configuration.kinds import UpstreamSpec
from tokenschain.control.configuration.resources import ResourceKey
from tokenschain.core.snapshot import ModelRoute, Upstream, own_id
from tokenschain.core.upstream_report import Trial


class Subject(NamedTuple):
    """What is tested."""

    upstream: Upstream
    trial: Trial | None
    """None where no model of it is served, or not the one that was asked for."""


class Comparison(NamedTuple):
    """An upstream's own list of models, beside what is configured."""

    missing: tuple[str, ...]
    """Configured here, and not in its list."""
    new: tuple[str, ...]
    """In its list, not configured, and with a price that is known."""
    unpriced: tuple[str, ...]
    """In its list, and without a price here."""
    proposed: list[str] | dict[str, str] | None
    """What `models` would be with the new and without the missing; None: as it is."""


def subject(state: State, key: ResourceKey, model: str) -> Subject | None:
    """What to test of an upstream; None where it has no address to go to.

    Args:
        model: that is called, as callers name it or the vendor does; empty: one that chats, if
            there is one.
    """
    name = own_id(key.tenant, key.name)
    upstream = state.routes.upstreams.get(name)
    if upstream is None:
        return None
    trials = [
        (route.kind != "chat", Trial(route.kind, offer))
        for route in _routes(state, key.tenant).values()
        for offer in route.offers
        if offer.upstream == name and model in ("", route.name, offer.model)
    ]
    return Subject(upstream, min(trials, key=lambda one: one[0])[1] if trials else None)


def compare(
    configurator: Configurator, state: State, key: ResourceKey, listed: Sequence[str]
) -> Comparison:
    """Compare the models that an upstream lists with those that are configured."""
    spec = state.resources[key].spec
    assert isinstance(spec, UpstreamSpec)
    configured = _served(state, key)
    missing = tuple(name for name in configured if name not in listed)
    others = [name for name in listed if name not in configured]
    # What would be served if all were configured has a price.
    every = msgspec.structs.replace(spec, models=tuple(listed))
    resources = {**state.resources, key: state.resources[key]._replace(spec=every)}
    priced = _served(configurator.state_of(resources), key)
    new = tuple(name for name in others if name in priced)
    unpriced = tuple(name for name in others if name not in priced)
    return Comparison(missing, new, unpriced, _proposed(spec, configured, missing, new))


def _proposed(
    spec: UpstreamSpec, configured: Sequence[str], missing: Sequence[str], new: Sequence[str]
) -> list[str] | dict[str, str] | None:
    if not missing and not new:
        return None
    if isinstance(spec.models, Mapping):
        kept = {ours: theirs for ours, theirs in spec.models.items() if theirs not in missing}
        found = kept | {name: name for name in new if name not in kept}
        return None if found == spec.models else found
    before = list(configured if spec.models is None else spec.models)
    after = [name for name in before if name not in missing] + list(new)
    return None if after == before else after


def _served(state: State, key: ResourceKey) -> list[str]:
    """The models of an upstream that are served, by its own names."""
    name = own_id(key.tenant, key.name)
    routes = _routes(state, key.tenant).values()
    offers = (offer for route in routes for offer in route.offers)
    return list(dict.fromkeys(offer.model for offer in offers if offer.upstream == name))


def _routes(state: State, tenant: str) -> Mapping[str, ModelRoute]:
    if not tenant:
        return state.routes.models
    own = state.routes.tenants.get(tenant)
    return {} if own is None else own.models
