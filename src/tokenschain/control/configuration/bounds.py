"""Bounds of the configuration: how much of it a tenant, and the whole platform, may have.

All of it is in every gateway's memory, and is built anew at each change.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec

from tokenschain.control.configuration.model_routes import Routes
from tokenschain.control.configuration.resources import Kind, ResourceKey
from tokenschain.control.configuration.store import StoredResource
from tokenschain.core.errors import ApiError

RESOURCES_MAX = 20_000
"""Of a whole platform."""
SNAPSHOT_BYTES_MAX = 67_108_864
"""A quarter of what gateways take in at once."""


class TenantShare(NamedTuple):
    """What a tenant has of the configuration."""

    resources: int
    upstreams: int
    names: int
    """Of models, at each of its upstreams, and of virtual models."""
    spec_bytes: int
    """Of all its specs, as JSON of what differs from the defaults."""


TENANT_MAX = TenantShare(resources=1_000, upstreams=50, names=2_000, spec_bytes=1_048_576)
_WORDS = (
    "resources", "upstreams of its own",
    "model names, those at each of its upstreams and virtual ones together", "bytes of specs",
)  # fmt: skip


class Measured(NamedTuple):
    """What is measured: resources, and what gateways route by then."""

    resources: Mapping[ResourceKey, StoredResource]
    routes: Routes


def check(before: Measured, after: Measured, tenants: Collection[str]) -> None:
    """Insist on the bounds; what has grown beyond them otherwise may still shrink.

    Args:
        tenants: whose resources change.

    Raises:
        ApiError: `conflict`.
    """
    if len(after.resources) > max(RESOURCES_MAX, len(before.resources)):
        raise ApiError("conflict", f"There may be at most {RESOURCES_MAX} resources.")
    owners = frozenset(tenants) - {""}
    had = _shares(before, owners)
    for tenant, share in _shares(after, owners).items():
        for most, words, now, then in zip(TENANT_MAX, _WORDS, share, had[tenant], strict=True):
            if now > max(most, then):
                raise ApiError(
                    "conflict",
                    f"A tenant may have at most {most} {words}; {tenant} would have {now}.",
                )


def _shares(size: Measured, tenants: Collection[str]) -> dict[str, TenantShare]:
    found = dict.fromkeys(tenants, TenantShare(0, 0, 0, 0))
    for key, resource in size.resources.items():
        if key.tenant in found:
            one = found[key.tenant]
            found[key.tenant] = TenantShare(
                one.resources + 1,
                one.upstreams + (key.kind is Kind.UPSTREAM),
                one.names + (key.kind is Kind.VIRTUAL_MODEL),
                one.spec_bytes + len(msgspec.json.encode(resource.values)),
            )
    for tenant, one in found.items():
        own = size.routes.tenants.get(tenant)
        offers = () if own is None else (len(route.offers) for route in own.models.values())
        found[tenant] = one._replace(names=one.names + sum(offers))
    return found
