"""Checks of a whole configuration: all that is wrong with it in one pass, with near names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import NamedTuple
from urllib.parse import urlsplit

from tokenschain.control.configuration import filing_checks
from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.kinds import SINGLE, UpstreamSpec
from tokenschain.control.configuration.model_routes import EMBEDDER, ENGINE, Routes
from tokenschain.control.configuration.resources import (
    Kind,
    NamedInVain,
    Owned,
    Problem,
    ResourceKey,
)
from tokenschain.core.routing.near_names import did_you_mean
from tokenschain.core.snapshot import TOKEN_PROVIDERS
from tokenschain.core.snapshot.routing_policy import POLICIES
from tokenschain.infra.config import declared
from tokenschain.infra.config.validation import Values
from tokenschain.infra.egress import is_local
from tokenschain.wire.client import Origin

STORED = "stored:"
_POLICY = NamedInVain(Kind.ROUTING, "", SINGLE, "custom_policies")
_PLATFORM_FIELDS = ("zone", "call_fee_micro_cny")
"""Of a tenant's own upstream: what only the platform sets."""
_ADDRESS_FIELDS = ("provider", "base_url", "token_url")
"""Where an upstream leads, which is what the platform's fields were set for."""


class Organization(NamedTuple):
    """Tenants and projects that there are, closed ones too."""

    tenants: frozenset[str]
    projects: frozenset[Owned]


def problems(given: Configuration, routes: Routes) -> list[Problem]:
    """What is wrong with a configuration by itself."""
    return [
        *routes.problems,
        *_of_upstreams(given),
        *_of_models(given),
        *_of_virtual_models(given, routes),
        *_of_policies(given),
        *filing_checks.problems(given),
    ]


def consequences(before: Configuration, after: Configuration) -> Iterator[Problem]:
    """What is right, and needs something that no configuration gives."""
    if after.compares_meanings and not before.compares_meanings:
        yield Problem(
            Kind.CACHE_RULES, "", SINGLE, "mode",
            "questions are compared by the process `tokenschain semantic`, one beside each "
            "gateway: `tokenschain up` starts it now, and where gateways run by themselves it is "
            "yours to start. Until it answers, `x-tc-cache` says `miss:unavailable`.",
        )  # fmt: skip
    yield from filing_checks.consequences(before, after)


def reference_problems(
    given: Configuration, routes: Routes, organization: Organization
) -> list[Problem]:
    """Rules for tenants, projects and models that there are none of: they would hold for nobody.

    Names may be given before what they name is there, so that the settings file may have these.
    """
    known = _Known(given, routes, organization)
    found = []
    routing, cache = given.routing, given.cache
    key, of_cache = ResourceKey(Kind.ROUTING, "", SINGLE), ResourceKey(Kind.CACHE_RULES, "", SINGLE)
    rules: list[tuple[ResourceKey, str, Iterable[str]]] = [
        (key, "policy_overrides", routing.policy_overrides),
        (key, "residency", routing.residency),
        (key, "sovereignty", routing.sovereignty),
        (key, "own_upstream_fees_micro_cny", routing.own_upstream_fees_micro_cny),
        (key, "own_upstreams", [f"tenant/{tenant}" for tenant in routing.own_upstreams]),
        (of_cache, "mode_overrides", cache.mode_overrides),
        (of_cache, "false_hit_rate_max", cache.false_hit_rate_max),
    ]
    for tenant, own in given.tenant_routing.items():
        key = ResourceKey(Kind.ROUTING, tenant, SINGLE)
        rules += [(key, "policy_overrides", own.policy_overrides),
                  (key, "residency", own.residency),
                  (key, "sovereignty", own.sovereignty)]  # fmt: skip
    for tenant, kept in given.tenant_cache.items():
        key = ResourceKey(Kind.CACHE_RULES, tenant, SINGLE)
        rules += [(key, "mode_overrides", kept.mode_overrides),
                  (key, "false_hit_rate_max", kept.false_hit_rate_max)]  # fmt: skip
    rules += [
        (ResourceKey(Kind.LABEL_RULES, tenant, SINGLE), "overrides", chosen.overrides)
        for tenant, chosen in given.tenant_labels.items()
    ]
    rules += [
        (ResourceKey(Kind.RECEIPT_RULES, tenant, SINGLE), "overrides", sent.overrides)
        for tenant, sent in given.tenant_receipts.items()
    ]
    agreed = [f"tenant/{tenant}" for tenant in given.labels.agreed]
    rules.append((ResourceKey(Kind.LABEL_RULES, "", SINGLE), "agreed", agreed))
    among: list[Collection[str]]
    for key, field, scopes in rules:
        for scope in scopes:
            tenant, part, name = _parts(scope, key.tenant)
            if tenant and tenant not in organization.tenants:
                kind, name, among = "tenant", tenant, [organization.tenants]
            elif part == "project":
                kind, among = "project", known.projects(tenant)
            elif part == "model":
                kind, among = "model", known.models(tenant)
            else:
                continue
            if not any(name in names for names in among):
                why = f"{field}.{scope}: there is no {kind} `{name}`"
                vain = NamedInVain(Kind.MODEL, tenant, name) if kind == "model" else None
                near = _near(name, *among)
                found.append(Problem(*key, f"{field}.{scope}", why, vain, hint=near))
    owners = {tenant for tenant, _ in (*given.upstreams, *given.virtual_models)}
    for tenant in sorted(owners - organization.tenants - {""}):
        found += [
            Problem(kind, tenant, name, "tenant", f"there is no tenant `{tenant}`")
            for kind, named in ((Kind.UPSTREAM, given.upstreams),
                                (Kind.VIRTUAL_MODEL, given.virtual_models))
            for whose, name in named if whose == tenant
        ]  # fmt: skip
    return found


class _Known:
    """The names that rules may be for: of everybody, and of each tenant."""

    def __init__(self, given: Configuration, routes: Routes, organization: Organization) -> None:
        self._served = {*routes.models, *routes.aliases, *given.virtual_names}
        self._own = routes.tenants
        self._projects: dict[str, set[str]] = {"": set()}
        for tenant, project in organization.projects:
            self._projects[""].add(project)
            self._projects.setdefault(tenant, set()).add(project)

    def models(self, tenant: str) -> list[Collection[str]]:
        """Names that a tenant's calls may have."""
        own = self._own.get(tenant)
        return [self._served] if own is None else [self._served, own.models, own.virtual_models]

    def projects(self, tenant: str) -> list[Collection[str]]:
        """A tenant's projects; without one, everybody's."""
        return [self._projects.get(tenant, ())]


def _near(name: str, *among: Iterable[str]) -> Callable[[], str]:
    """Near names, when they are asked for."""
    return lambda: did_you_mean(name, chain(*among))


def _parts(scope: str, tenant: str) -> tuple[str, str, str]:
    """Tenant, part and name that a rule is for, as `tenant/acme/project/faq`."""
    first, _, rest = scope.partition("/")
    if first != "tenant":
        return tenant, first, rest
    named, _, inner = rest.partition("/")
    part, _, name = inner.partition("/")
    return named, part, name


# --- each kind ---------------------------------------------------------------------------


def _of_upstreams(given: Configuration) -> Iterator[Problem]:
    for whose, spec in given.upstreams.items():
        key = ResourceKey(Kind.UPSTREAM, *whose)
        for reference in spec.credential:
            if not reference.startswith(STORED):
                continue
            name = reference.removeprefix(STORED)
            if Owned(whose.tenant, name) not in given.credentials:
                why = f"credential: there is no credential `{name}`"
                vain = NamedInVain(Kind.CREDENTIAL, whose.tenant, name)
                near = _near(name, _own(given.credentials, whose.tenant))
                yield Problem(*key, "credential", why, vain, hint=near)
        yield from _of_gateways(key, spec)
        if whose.tenant:
            yield from _of_own_upstream(key, spec)


def _of_gateways(key: ResourceKey, spec: UpstreamSpec) -> Iterator[Problem]:
    """What gateways could not ask: one such upstream would keep every change from them."""
    for field, url in (("base_url", spec.base_url), ("token_url", spec.token_url)):
        if url:
            try:
                Origin.of(url)
            except ValueError as error:
                yield Problem(*key, field, f"{field}: it is no address of a server: {error}")
    if spec.auth == "token" and spec.provider.removesuffix("-intl") not in TOKEN_PROVIDERS:
        known = " and ".join(TOKEN_PROVIDERS)
        why = f"auth: provider {spec.provider} has no token service; those that have: {known}"
        yield Problem(*key, "auth", why, because=("provider",))


def _of_own_upstream(key: ResourceKey, spec: UpstreamSpec) -> Iterator[Problem]:
    """A tenant's own upstream leads out to the internet, and nowhere inside."""
    for field, url in (("base_url", spec.base_url), ("token_url", spec.token_url)):
        if url and not _is_public(url):
            why = f"{field}: a tenant's own upstream has an https address that is public"
            yield Problem(*key, field, why)


def platform_fields(before: Values, after: Mapping[str, object]) -> list[str]:
    """The fields of a tenant's own upstream that a change sets and that are the platform's own:
    where data goes, what a call is charged, and keys that the gateway's machine holds."""
    found = [name for name in _PLATFORM_FIELDS if before.get(name) != after.get(name)]
    if before != after and not (_all_stored(before) and _all_stored(after)):
        found.append("credential")
    return found


def platform_set(values: Values) -> list[str]:
    """The fields of a tenant's own upstream that the platform has set."""
    found = [name for name in _PLATFORM_FIELDS if values.get(name)]
    return found if _all_stored(values) else [*found, "credential"]


def address_fields(before: Values, after: Mapping[str, object]) -> list[str]:
    """The fields that a change of an upstream has lead elsewhere."""
    fields = declared.fields_of(UpstreamSpec)
    return [
        name
        for name in _ADDRESS_FIELDS
        if before.get(name, fields[name].default) != after.get(name, fields[name].default)
    ]


def references_in(values: Mapping[str, object]) -> set[str]:
    """What an upstream's values name as its keys, as they were given: one, or several."""
    given = values.get("credential") or ()
    return set(map(str, given if isinstance(given, list | tuple) else (given,)))


def _all_stored(values: Mapping[str, object]) -> bool:
    return all(one.startswith(STORED) for one in references_in(values))


def _is_public(url: str) -> bool:
    """Whether an address is https, and not plainly an inner one; names are resolved, and checked
    again, when a call goes there (`infra.egress.outside_client`)."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    if parts.scheme != "https" or not host or parts.username:
        return False
    return not is_local(host)


def _of_models(given: Configuration) -> Iterator[Problem]:
    known = [name for tenant, name in given.upstreams if not tenant]
    there = frozenset(known)
    for name, spec in given.models.items():
        for number, offer in enumerate(spec.offers):
            if offer.upstream not in there:
                at = f"offers[{number}].upstream"
                why = f"{at}: there is no upstream `{offer.upstream}`"
                vain = NamedInVain(Kind.UPSTREAM, "", offer.upstream)
                near = _near(offer.upstream, known)
                yield Problem(Kind.MODEL, "", name, at, why, vain, hint=near)


def _of_virtual_models(given: Configuration, routes: Routes) -> Iterator[Problem]:
    """Entries that name a virtual model, or an upstream that there is none of."""
    sold = {(model, offer.upstream) for model, route in routes.models.items()
            for offer in route.offers}  # fmt: skip
    for whose, entries in given.virtual_models.items():
        key = ResourceKey(Kind.VIRTUAL_MODEL, *whose)
        for number, entry in enumerate(entries):
            at = f"entries[{number}]"
            upstream = entry.upstream
            if upstream is not None and not (
                upstream in (ENGINE, EMBEDDER)
                or Owned(whose.tenant, upstream) in given.upstreams
                # A tenant may know who sells a model that it may call, and else of its own alone.
                or (whose.tenant and (_served(routes, entry.model), upstream) in sold)
            ):
                why = f"{at}.upstream: there is no upstream `{upstream}`"
                near = _near(upstream, _own(given.upstreams, whose.tenant))
                vain = NamedInVain(Kind.UPSTREAM, whose.tenant, upstream)
                yield Problem(*key, f"{at}.upstream", why, vain, hint=near)
            # No virtual model leads to another, so that none leads back to itself.
            if entry.model not in routes.models and given.is_virtual(whose.tenant, entry.model):
                why = f"{at}.model: `{entry.model}` is a virtual model; name models that are served"
                vain = NamedInVain(Kind.VIRTUAL_MODEL, whose.tenant, entry.model)
                yield Problem(*key, f"{at}.model", why, vain)


def _served(routes: Routes, model: str) -> str:
    """The model that a name or alias stands for."""
    alias = routes.aliases.get(model)
    return model if alias is None else alias.model


def _own(names: Iterable[Owned], tenant: str) -> Iterator[str]:
    """A tenant's own among all names."""
    return (name for whose, name in names if whose == tenant)


def _of_policies(given: Configuration) -> Iterator[Problem]:
    known = {*POLICIES, *given.routing.custom_policies}
    named: list[tuple[str, str, str]] = [("", "policy", given.routing.policy)]
    named += [("", f"policy_overrides.{at}", n) for at, n in given.routing.policy_overrides.items()]
    for tenant, spec in given.tenant_routing.items():
        if spec.policy is not None:
            named.append((tenant, "policy", spec.policy))
        named += [(tenant, f"policy_overrides.{at}", n) for at, n in spec.policy_overrides.items()]
    for tenant, field, name in named:
        if name not in known:
            why = f"{field}: there is no policy `{name}`"
            near = partial(_policies, name, known)
            yield Problem(Kind.ROUTING, tenant, SINGLE, field, why, _POLICY, hint=near)


def _policies(name: str, known: Collection[str]) -> str:
    return did_you_mean(name, known) or f"; known: {', '.join(sorted(known))}"
