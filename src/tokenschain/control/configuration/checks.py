"""Checks of a whole configuration: all that is wrong with it in one pass, with near names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from tokenschain.control.configuration.configuration import Configuration
from tokenschain.control.configuration.kinds import SINGLE, UpstreamSpec
from tokenschain.control.configuration.model_routes import EMBEDDER, ENGINE, Routes
from tokenschain.control.configuration.resources import Kind, Owned, Problem, ResourceKey
from tokenschain.core.routing.near_names import did_you_mean
from tokenschain.core.snapshot import TOKEN_PROVIDERS
from tokenschain.core.snapshot.routing_policy import POLICIES
from tokenschain.infra.config.validation import Values
from tokenschain.infra.egress import is_local
from tokenschain.wire.client import Origin

STORED = "stored:"
_PLATFORM_FIELDS = ("zone", "call_fee_micro_cny")
"""Of a tenant's own upstream: what only the platform sets."""


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
    ]


def consequences(before: Configuration, after: Configuration) -> Iterator[Problem]:
    """What is right, and needs something that no configuration gives."""
    if after.compares_meanings and not before.compares_meanings:
        yield Problem(
            Kind.CACHE_RULES, "", SINGLE, "mode",
            "questions are compared by the process `tokenschain semantic`, one beside each "
            "gateway: start it, where it does not run yet (`tokenschain up` starts it when it is "
            "started the next time). Until then they are misses.",
        )  # fmt: skip


def reference_problems(
    given: Configuration, routes: Routes, organization: Organization
) -> list[Problem]:
    """Rules for tenants, projects and models that there are none of: they would hold for nobody.

    Names may be given before what they name is there, so that the settings file may have these.
    """
    served = {*routes.models, *routes.aliases, *given.virtual_names}
    projects = {project for _, project in organization.projects}
    found = []
    routing, cache = given.routing, given.cache
    key, of_cache = ResourceKey(Kind.ROUTING, "", SINGLE), ResourceKey(Kind.CACHE_RULES, "", SINGLE)
    rules: list[tuple[ResourceKey, str, Iterable[str]]] = [
        (key, "policy_overrides", routing.policy_overrides),
        (key, "residency", routing.residency),
        (key, "own_upstream_fees_micro_cny", routing.own_upstream_fees_micro_cny),
        (key, "own_upstreams", [f"tenant/{tenant}" for tenant in routing.own_upstreams]),
        (of_cache, "mode_overrides", cache.mode_overrides),
        (of_cache, "false_hit_rate_max", cache.false_hit_rate_max),
    ]
    for tenant, own in given.tenant_routing.items():
        key = ResourceKey(Kind.ROUTING, tenant, SINGLE)
        rules += [(key, "policy_overrides", own.policy_overrides),
                  (key, "residency", own.residency)]  # fmt: skip
    for tenant, kept in given.tenant_cache.items():
        key = ResourceKey(Kind.CACHE_RULES, tenant, SINGLE)
        rules += [(key, "mode_overrides", kept.mode_overrides),
                  (key, "false_hit_rate_max", kept.false_hit_rate_max)]  # fmt: skip
    known: Collection[str]
    for key, field, scopes in rules:
        for scope in scopes:
            tenant, part, name = _parts(scope, key.tenant)
            if tenant and tenant not in organization.tenants:
                kind, name, known = "tenant", tenant, organization.tenants
            elif part == "project":
                kind = "project"
                known = {p for t, p in organization.projects if t == tenant} if tenant else projects
            elif part == "model":
                kind, known = "model", served | _own_names(given, routes, tenant)
            else:
                continue
            if name not in known:
                why = f"{field}.{scope}: there is no {kind} `{name}`{did_you_mean(name, known)}"
                found.append(Problem(*key, f"{field}.{scope}", why))
    owners = {tenant for tenant, _ in (*given.upstreams, *given.virtual_models)}
    for tenant in sorted(owners - organization.tenants - {""}):
        found += [
            Problem(kind, tenant, name, "tenant", f"there is no tenant `{tenant}`")
            for kind, named in ((Kind.UPSTREAM, given.upstreams),
                                (Kind.VIRTUAL_MODEL, given.virtual_models))
            for whose, name in named if whose == tenant
        ]  # fmt: skip
    return found


def _own_names(given: Configuration, routes: Routes, tenant: str) -> set[str]:
    own = routes.tenants.get(tenant)
    return set() if own is None else {*own.models, *own.virtual_models}


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
                known = [one for tenant, one in given.credentials if tenant == whose.tenant]
                why = f"credential: there is no credential `{name}`{did_you_mean(name, known)}"
                yield Problem(*key, "credential", why)
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
        yield Problem(*key, "auth", why)


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


def _all_stored(values: Mapping[str, object]) -> bool:
    given = values.get("credential") or ()
    references = given if isinstance(given, list | tuple) else (given,)
    return all(str(one).startswith(STORED) for one in references)


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
    upstreams = [name for tenant, name in given.upstreams if not tenant]
    known = frozenset(upstreams)
    for name, spec in given.models.items():
        for number, offer in enumerate(spec.offers):
            if offer.upstream not in known:
                at = f"offers[{number}].upstream"
                why = f"{at}: there is no upstream `{offer.upstream}`"
                why += did_you_mean(offer.upstream, upstreams)
                yield Problem(Kind.MODEL, "", name, at, why)


def _of_virtual_models(given: Configuration, routes: Routes) -> Iterator[Problem]:
    """Entries that name a virtual model, or an upstream that there is none of."""
    names = set(given.virtual_models)
    for whose, entries in given.virtual_models.items():
        key = ResourceKey(Kind.VIRTUAL_MODEL, *whose)
        for number, entry in enumerate(entries):
            at = f"entries[{number}]"
            upstream = entry.upstream
            if upstream is not None and not (
                upstream in (ENGINE, EMBEDDER)
                or Owned("", upstream) in given.upstreams
                or Owned(whose.tenant, upstream) in given.upstreams
            ):
                # A tenant is told of its own alone.
                mine = {name for tenant, name in given.upstreams if tenant == whose.tenant}
                why = f"{at}.upstream: there is no upstream `{upstream}`"
                why += did_you_mean(upstream, mine)
                yield Problem(*key, f"{at}.upstream", why)
            if entry.model in routes.models:
                continue
            found = _reached(given.virtual_models, names, whose, entry.model)
            if found is None:
                continue
            why = f"{at}.model: `{entry.model}` is a virtual model; name models that are served"
            if whose in found:
                why = f"{at}.model: `{entry.model}` leads back to `{whose.name}`, a cycle"
            yield Problem(*key, f"{at}.model", why)


def _reached(
    virtual: Mapping[Owned, Iterable[object]], names: Collection[Owned], whose: Owned, model: str
) -> set[Owned] | None:
    """The virtual models that one leads to; None where `model` is none."""
    own, shared = Owned(whose.tenant, model), Owned("", model)
    first = own if own in names else shared
    if first not in names:
        return None
    found, left = {first}, [first]
    while left:
        for entry in virtual[left.pop()]:
            name = getattr(entry, "model", "")
            for one in (Owned(whose.tenant, name), Owned("", name)):
                if one in names and one not in found:
                    found.add(one)
                    left.append(one)
    return found


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
            near = did_you_mean(name, known) or f"; known: {', '.join(sorted(known))}"
            why = f"{field}: there is no policy `{name}`{near}"
            yield Problem(Kind.ROUTING, tenant, SINGLE, field, why)
