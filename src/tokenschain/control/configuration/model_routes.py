"""Model routes: which upstreams serve which models, from configuration and catalog."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from functools import partial
from itertools import chain
from typing import NamedTuple

import msgspec

from tokenschain.control.configuration import configuration, tenant_rules
from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.kinds import OfferSpec
from tokenschain.control.configuration.resources import Kind, NamedInVain, Owned, Problem
from tokenschain.core.pricing.catalog import (
    MICRO_PER_UNIT,
    Catalog,
    ModelInfo,
    Price,
    PriceTier,
    Provider,
)
from tokenschain.core.routing.near_names import did_you_mean
from tokenschain.core.snapshot import (
    UPSTREAM_ID_CHARACTERS_MAX,
    Alias,
    ModelRoute,
    Offer,
    Routing,
    TenantConfiguration,
    Upstream,
    own_id,
)
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry
from tokenschain.core.snapshot.zones import NONE
from tokenschain.infra import catalog_file
from tokenschain.infra.config import PriceSettings, Settings, UpstreamSettings
from tokenschain.wire.client import Origin

ENGINE = "engine"
EMBEDDER = "embedder"
EMBEDDING_MODEL = "multilingual-e5-small"
KINDS = ("chat", "embedding", "rerank")
_ENGINE_ABILITIES = ("tools", "json_schema")
"""Of the embedded engine's models; what is not here, as `vision`, they cannot do."""
_OWN_PRICE = Price("CNY", (PriceTier(0, 0, 0),), "own-engine/1")
"""Calls to our own engine cost nothing a token; machines are accounted elsewhere."""


class Routes(NamedTuple):
    """What gateways route calls by, and what of the configuration is of no use."""

    upstreams: dict[str, Upstream]
    models: dict[str, ModelRoute]
    aliases: dict[str, Alias]
    tenants: dict[str, TenantConfiguration]
    routing: Routing
    problems: tuple[Problem, ...]
    """What is named in one was left out, or leads nowhere."""


def of_settings(settings: Settings, catalog: Catalog) -> Routes:
    """What the settings alone would give."""
    return build(configuration.of_settings(settings), settings, catalog, ())


def build(
    given: Configuration, settings: Settings, catalog: Catalog, discovered: Iterable[str]
) -> Routes:
    """All upstreams, and every model name with its offers in the configuration's order.

    Args:
        settings: of this platform's own engine, and whether models without a price are served.
        discovered: models that an engine under `engine.url` says it serves.
    """
    table = _Table({}, {"": _Names({}, {}, {})}, [])
    _add_own_engine(table, settings, discovered)
    by_provider = _by_provider(catalog)
    _add_upstreams(table, given, settings, catalog, by_provider)
    _add_models(table, given, settings, by_provider)
    models = table.models_of("")
    aliases = _aliases(catalog, table.upstreams, models, given.virtual_names)
    known_later = bool(settings.engine.url)
    virtual = _virtual_models(table, given, aliases, known_later)
    fields = {name: getattr(given.routing, name) for name in Routing.__struct_fields__}
    fields["models"] = virtual.pop("", {})
    fields["policy_overrides"] = tenant_rules.policies(given)
    fields["own_upstreams"] = tenant_rules.own_upstreams(given)
    fields["residency"] = tenant_rules.residency(given, settings.sovereignty.mode)
    fields["sovereignty"] = {}
    routing = Routing(**fields)
    tenants = {
        tenant: TenantConfiguration(table.models_of(tenant), virtual.get(tenant, {}))
        for tenant in sorted({*table.names, *virtual} - {""})
    }
    return Routes(table.upstreams, models, aliases, tenants, routing, tuple(table.problems))


def _by_provider(catalog: Catalog) -> dict[str, dict[str, ModelInfo]]:
    found: dict[str, dict[str, ModelInfo]] = {}
    for info in catalog.models:
        found.setdefault(info.provider, {})[info.model] = info
    return found


def _add_upstreams(
    table: _Table,
    given: Configuration,
    settings: Settings,
    catalog: Catalog,
    by_provider: Mapping[str, dict[str, ModelInfo]],
) -> None:
    providers = {provider.id: provider for provider in catalog.providers}
    fees = _OwnUpstreamFees(given)
    for whose, entry in given.upstreams.items():
        provider = providers.get(entry.provider)
        base_url = entry.base_url or (provider.base_url if provider is not None else None)
        if not base_url:
            field, why = _no_address(entry, catalog)
            because = ("provider",) if field == "base_url" else ()
            problem = Problem(Kind.UPSTREAM, *whose, field, why, because=because)
            table.problems.append(problem)
            continue
        zone = entry.zone or _zone_of(provider, whose, base_url)
        if zone is None and not whose.tenant and _has_zone_rules(given, settings):
            why = (
                "set zone, since rules say where data may go and the catalog does not say where "
                f"the machines of provider {entry.provider} are"
            )
            problem = Problem(Kind.UPSTREAM, *whose, "zone", why, because=("provider", "base_url"))
            table.problems.append(problem)
        published = _published(entry, whose, base_url, zone or "", fees)
        if published is None:
            why = (
                "choose a shorter name: with its tenant's it has 64 characters at most, and no `/`"
            )
            table.problems.append(Problem(Kind.UPSTREAM, *whose, "name", why))
            continue
        if published.id in table.upstreams:
            why = "the embedded engine has this name; choose another"
            table.problems.append(Problem(Kind.UPSTREAM, *whose, "name", why))
            continue
        table.upstreams[published.id] = published
        known = _known(provider or Provider(entry.provider, ""), by_provider)
        for name, served in _names(entry, known).items():
            found = known.get(served)
            set_here = _price(entry.prices.get(served), f"settings/{entry.id}/{served}")
            price = set_here or (found.price if found is not None else None)
            if price is None and not whose.tenant and settings.unpriced_models == "refuse":
                continue
            kind = entry.kinds.get(served) or (found.kind if found is not None else "chat")
            if kind in KINDS:
                vendor = found.vendor if found is not None else entry.provider
                offer = _offer(published.id, served, price, found)
                table.names_of(whose.tenant).add(name, kind, vendor, offer)


def _has_zone_rules(given: Configuration, settings: Settings) -> bool:
    """Whether anything says where data may go."""
    routing = given.routing
    return bool(routing.residency or routing.sovereignty) or settings.sovereignty.mode != NONE


def _zone_of(provider: Provider | None, whose: Owned, base_url: str) -> str | None:
    """Where a provider's machines are. A tenant's own upstream is there only if it leads to them:
    a tenant does not say itself where its data goes."""
    if provider is None:
        return None
    if whose.tenant and not _leads_to(provider, base_url):
        return None
    return provider.zone


def _leads_to(provider: Provider, base_url: str) -> bool:
    try:
        return bool(provider.base_url) and Origin.of(base_url) == Origin.of(provider.base_url or "")
    except ValueError:
        return False


def _add_models(
    table: _Table,
    given: Configuration,
    settings: Settings,
    by_provider: Mapping[str, dict[str, ModelInfo]],
) -> None:
    """Models with offers of their own; one takes the place of what its upstream sells by that
    name already."""
    names = table.names_of("")
    for name, spec in given.models.items():
        for offer in spec.offers:
            upstream = given.upstreams.get(Owned("", offer.upstream))
            if upstream is None or offer.upstream not in table.upstreams:
                continue  # what is wrong with the upstream is said elsewhere
            served = offer.model or name
            found = by_provider.get(upstream.provider, {}).get(served)
            made = _offer_of(name, offer, served, found)
            if made.price is None:
                price = _price(upstream.prices.get(served), f"settings/{upstream.id}/{served}")
                made = msgspec.structs.replace(made, price=price)
            if made.price is None and settings.unpriced_models == "refuse":
                at = f"offers[{spec.offers.index(offer)}].price"
                why = f"{at}: the catalog has no price for `{served}` there: set it"
                table.problems.append(Problem(Kind.MODEL, "", name, at, why))
                continue
            before = names.offers.setdefault(name, [])
            before[:] = [one for one in before if one.upstream != offer.upstream]
            owner = spec.owned_by or (found.vendor if found is not None else upstream.provider)
            names.add(name, spec.kind, owner, made)
        if names.offers.get(name):
            names.kinds[name] = spec.kind
            names.owners[name] = spec.owned_by or names.owners[name]
        else:
            names.offers.pop(name, None)


def _offer_of(name: str, spec: OfferSpec, served: str, found: ModelInfo | None) -> Offer:
    """An offer as it is set, and as the catalog knows it for the rest."""
    known = _offer(spec.upstream, served, found.price if found is not None else None, found)
    return Offer(
        spec.upstream,
        served,
        _price(spec.price, f"model/{name}/{spec.upstream}") or known.price,
        spec.output_tokens_max or known.output_tokens_max,
        spec.context_window or known.context_window,
        spec.abilities if spec.abilities is not None else known.abilities,
    )


def _no_address(entry: UpstreamSettings, catalog: Catalog) -> tuple[str, str]:
    """The field that is wrong, and why."""
    known = entry.provider in {provider.id for provider in catalog.providers}
    near = [] if known else catalog_file.near_providers(entry.provider, catalog.providers)
    if near:
        return "provider", (
            f"the catalog has no provider {entry.provider}; did you mean "
            f"{' or '.join(near)}? Else set base_url"
        )
    return "base_url", (
        f"set base_url, since the catalog has no address for provider {entry.provider}"
    )


def _known(
    provider: Provider, by_provider: Mapping[str, dict[str, ModelInfo]]
) -> dict[str, ModelInfo]:
    """What the catalog knows of a provider's models, by name."""
    known = by_provider.get(provider.id, {})
    if provider.chat_models_of is not None:
        shared = by_provider.get(provider.chat_models_of, {})
        known = {name: info for name, info in shared.items() if info.kind == "chat"} | known
    return known


class _Names(NamedTuple):
    """Offers, kind and owner of each model name."""

    offers: dict[str, list[Offer]]
    kinds: dict[str, str]
    owners: dict[str, str]

    def add(self, name: str, kind: str, owner: str, offer: Offer) -> None:
        """Add an offer; a name's kind and owner are its first offer's."""
        self.kinds.setdefault(name, kind)
        self.owners.setdefault(name, owner)
        self.offers.setdefault(name, []).append(offer)


class _Table(NamedTuple):
    """Upstreams by id; model names by tenant, the platform's under none; what is wrong."""

    upstreams: dict[str, Upstream]
    names: dict[str, _Names]
    problems: list[Problem]

    def names_of(self, tenant: str) -> _Names:
        """A tenant's model names."""
        return self.names.setdefault(tenant, _Names({}, {}, {}))

    def models_of(self, tenant: str) -> dict[str, ModelRoute]:
        """What is served by a tenant's own upstreams, or by the platform's."""
        found = self.names.get(tenant)
        if found is None:
            return {}
        return {
            name: ModelRoute(name, found.kinds[name], tuple(offers), found.owners[name])
            for name, offers in sorted(found.offers.items())
        }


def _add_own_engine(table: _Table, settings: Settings, discovered: Iterable[str]) -> None:
    """The engine at `engine.url` with what it says it serves, or the embedded one."""
    owner = "own engine"
    if settings.engine.url:
        table.upstreams[ENGINE] = Upstream(ENGINE, "custom", settings.engine.url, zone="own")
        for name in discovered:
            table.names_of("").add(name, "chat", owner, Offer(ENGINE, name, _OWN_PRICE))
    elif settings.engine.enabled:
        key = f"file:{settings.engine_key_path}"
        host = settings.engine.host
        chat = f"http://{host}:{settings.engine.port}/v1"
        embed = f"http://{host}:{settings.engine.embedder_port}/v1"
        table.upstreams[ENGINE] = Upstream(ENGINE, "local", chat, (key,), zone="own")
        table.upstreams[EMBEDDER] = Upstream(EMBEDDER, "local", embed, (key,), zone="own")
        model = settings.engine.model
        offer = Offer(ENGINE, model, _OWN_PRICE, abilities=_ENGINE_ABILITIES)
        table.names_of("").add(model, "chat", owner, offer)
        embedding = Offer(EMBEDDER, EMBEDDING_MODEL, _OWN_PRICE)
        table.names_of("").add(EMBEDDING_MODEL, "embedding", owner, embedding)


def _offer(upstream: str, model: str, price: Price | None, info: ModelInfo | None) -> Offer:
    if info is None:
        return Offer(upstream, model, price)
    return Offer(
        upstream, model, price, info.output_tokens_max, info.context_window, _abilities(info)
    )


def _aliases(
    catalog: Catalog,
    upstreams: Mapping[str, Upstream],
    models: Mapping[str, ModelRoute],
    virtual: Container[str],
) -> dict[str, Alias]:
    """Other names that callers know the models by which are served; a name in use is no alias."""
    served: dict[tuple[str, str], str] = {}
    for name, route in models.items():
        for offer in route.offers:
            key = (upstreams[offer.upstream].provider, offer.model)
            if key not in served or name == offer.model:
                served[key] = name
    found: dict[str, Alias] = {}
    for alias in catalog.aliases:
        model = served.get((alias.provider, alias.model))
        if model is not None and alias.name not in models and alias.name not in virtual:
            found.setdefault(alias.name, Alias(model, alias.thinking))
    return found


def _virtual_models(
    table: _Table,
    given: Configuration,
    aliases: Mapping[str, Alias],
    known_later: bool,
) -> dict[str, dict[str, tuple[VirtualModelEntry, ...]]]:
    """The virtual models by tenant and name, aliases in them resolved.

    Args:
        known_later: whether models may turn up that are not known yet.
    """
    served, nothing = table.names_of("").offers, dict[str, list[Offer]]()
    found: dict[str, dict[str, tuple[VirtualModelEntry, ...]]] = {}
    for (tenant, name), entries in given.virtual_models.items():
        own = table.names[tenant].offers if tenant in table.names else nothing
        known = (served, aliases, own)
        # A tenant's name goes before the platform's, but not before its own upstreams' models.
        if name in own:
            why = "there is a model of this name; choose another"
            table.problems.append(Problem(Kind.VIRTUAL_MODEL, tenant, name, "name", why))
        for number, entry in enumerate(entries):
            model = entry.model
            # Of those that name a virtual model, `checks` says more.
            if not (known_later or given.is_virtual(tenant, model) or _is_in(known, model)):
                near = partial(_nearest, model, known)
                at, why = f"entries[{number}].model", f"no upstream serves the model `{model}`"
                vain = NamedInVain(Kind.MODEL, tenant, model)
                problem = Problem(Kind.VIRTUAL_MODEL, tenant, name, at, why, vain, hint=near)
                table.problems.append(problem)
        found.setdefault(tenant, {})[name] = tuple(
            _resolved(table, tenant, entry, aliases) for entry in entries
        )
    return found


def _is_in(known: Iterable[Container[str]], name: str) -> bool:
    return any(name in names for names in known)


def _nearest(name: str, known: Iterable[Iterable[str]]) -> str:
    return did_you_mean(name, chain.from_iterable(known), 1)


def _resolved(
    table: _Table, tenant: str, entry: VirtualModelEntry, aliases: Mapping[str, Alias]
) -> VirtualModelEntry:
    """An entry as published: by the model's own name, and by the id of its upstream."""
    own = tenant in table.names and entry.model in table.names[tenant].offers
    if entry.model in aliases and not (tenant and own):
        entry = msgspec.structs.replace(entry, model=aliases[entry.model].model)
    if tenant and entry.upstream is not None and own_id(tenant, entry.upstream) in table.upstreams:
        entry = msgspec.structs.replace(entry, upstream=own_id(tenant, entry.upstream))
    return entry


class _OwnUpstreamFees:
    """What each tenant is charged for a call that an upstream of its own answered.

    One fee for all of a tenant's, so that nobody avoids it by making another upstream: what is
    agreed with the tenant by name, else the highest that the platform has set at any of them,
    else what holds for everybody.
    """

    def __init__(self, given: Configuration) -> None:
        self._agreed = given.routing.own_upstream_fees_micro_cny
        self._set: dict[str, int] = {}
        for whose, entry in given.upstreams.items():
            self._set[whose.tenant] = max(self._set.get(whose.tenant, 0), entry.call_fee_micro_cny)

    def of(self, tenant: str) -> int:
        """In millionths of a yuan."""
        fee = self._agreed.get(f"tenant/{tenant}")
        return fee if fee is not None else self._set.get(tenant) or self._agreed.get("*", 0)


def _published(
    entry: UpstreamSettings, whose: Owned, base_url: str, zone: str, fees: _OwnUpstreamFees
) -> Upstream | None:
    """An upstream of the settings as gateways know it; None where its name is none."""
    if "/" in whose.name or len(own_id(*whose)) > UPSTREAM_ID_CHARACTERS_MAX:
        return None
    given = {name: getattr(entry, name) for name in Upstream.__struct_fields__}
    given["id"], given["tenant"] = own_id(*whose), whose.tenant
    given["base_url"] = base_url
    given["credentials"] = tuple(_credential(whose.tenant, one) for one in entry.credential)
    given["zone"] = zone
    if whose.tenant:
        given["call_fee_micro_cny"] = fees.of(whose.tenant)
    return Upstream(**given)


def _credential(tenant: str, reference: str) -> str:
    """A reference as gateways look it up: a stored credential's with whose it is."""
    kind, _, name = reference.partition(":")
    return f"stored:{tenant}/{name}" if kind == "stored" else reference


def _abilities(info: ModelInfo) -> tuple[str, ...] | None:
    """What the catalog is sure of; JSON schema is emulated where it is missing."""
    if info.confidence == "low" or not info.abilities:
        return None
    return (*info.abilities, "json_schema")


def _names(entry: UpstreamSettings, known: Mapping[str, ModelInfo]) -> dict[str, str]:
    """Callers' names to the upstream's names."""
    if entry.models is None:
        return {name: name for name in known}
    if isinstance(entry.models, dict):
        return entry.models
    return {name: name for name in entry.models}


def _price(found: PriceSettings | None, version: str) -> Price | None:
    if found is None:
        return None
    cached = found.cached_input
    tier = PriceTier(
        int(found.input * MICRO_PER_UNIT),
        int(found.output * MICRO_PER_UNIT),
        None if cached is None else int(cached * MICRO_PER_UNIT),
    )
    return Price(found.currency, (tier,), version)
