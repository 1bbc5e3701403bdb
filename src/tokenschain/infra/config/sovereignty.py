"""Settings of data sovereignty: where data of this deployment may go at all."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, field

from tokenschain.core.compliance.transfers import Basis
from tokenschain.core.snapshot.zones import NONE, ZONES, Sovereignty, Zone

HostName = Annotated[str, Meta(pattern=r"^(\*\.)?[^\s/:*]+\Z", max_length=253)]


class SovereigntySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where data of this deployment may go at all, whatever else is configured."""

    mode: Annotated[
        Sovereignty,
        Meta(
            description="`domestic-only`: nothing goes abroad; `zone:NAME`: only to one zone; "
            "`air-gapped`: only to machines of your own at private addresses; `none`: wherever "
            "the rules of routing allow. Each process holds to its own."
        ),
    ] = NONE
    hosts: Annotated[
        dict[HostName, Zone],
        Meta(
            description="Zones of machines that are no upstreams, by host name or `*.DOMAIN`: of "
            "webhooks, mail and identity servers, shared stores. Under a mode, what has no zone "
            f"and no private address is not connected to. Zones: {', '.join(ZONES)}."
        ),
    ] = field(default_factory=dict)
    transfer_basis: Annotated[
        dict[str, Basis],
        Meta(
            description="By tenant, or `*` for the others, on what legal basis data goes abroad: "
            "`exempt` stops it at 100,000 people a year or one with sensitive data, `contract` "
            "(standard contract or certification) at 1,000,000 or 10,000, `assessment` never; "
            "`count` only counts, as where nothing is said."
        ),
    ] = field(default_factory=dict)
    sensitive_classes: Annotated[
        tuple[str, ...],
        Meta(
            description="Data classes that moderation finds, whose people count as people with "
            "sensitive personal information."
        ),
    ] = ()
