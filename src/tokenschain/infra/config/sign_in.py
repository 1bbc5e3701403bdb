"""Settings of how people come in: single sign-on by OpenID Connect, and signing up."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from tokenschain.infra.config.value_types import HttpUrl, Network, Reference


class OidcSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Single sign-on by OpenID Connect."""

    issuer: Annotated[
        str | None,
        Meta(description="Issuer URL of the OpenID Connect provider that people sign in with."),
    ] = None
    networks: Annotated[
        tuple[Network, ...],
        Meta(description="Private networks that the provider may be in, as `10.2.0.0/16`."),
    ] = ()
    client_id: Annotated[
        str, Meta(description="Client id of this platform at the provider.")
    ] = "tokenschain"  # fmt: skip
    client_secret: Annotated[
        Reference | None,
        Meta(description="Where the client secret is: `env:NAME`, `file:PATH` or `sealed:NAME`."),
    ] = None
    groups_claim: Annotated[
        str, Meta(description="Claim that lists a person's groups.")
    ] = "groups"  # fmt: skip
    roles: Annotated[
        dict[str, str],
        Meta(
            description="Groups at the provider to roles here, as `group: role@tenant`, or "
            "`role@*` for all tenants."
        ),
    ] = {}
    email_verified_required: Annotated[
        bool,
        Meta(
            description="Whether people are refused for whose address the provider does not vouch "
            "(`email_verified`). Without it, no account that is there already is joined."
        ),
    ] = True

    def __post_init__(self) -> None:
        for given in self.roles.values():
            if not re.fullmatch(r"[A-Za-z0-9-]+@(\*|[\w.@-]+)", given):
                raise ValueError(f"`roles`: {given[:60]!r} is not of the form `role@tenant`")


CREDIT_MAX = 1_000_000
"""Yuan of free credit: beyond what anyone gives to strangers."""


class SignUpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Signing up by anyone (SaaS mode)."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether anyone may make an account and a tenant of their own; needs "
            "`smtp.host`, since addresses are confirmed by mail."
        ),
    ] = False
    terms_url: Annotated[
        HttpUrl | None,
        Meta(
            description="Address of the terms of service, of this version: who signs up accepts "
            "them, and the audit log keeps which."
        ),
    ] = None
    credit: Annotated[
        Decimal, Meta(description="Free credit of a new tenant, in yuan; 0 for none.")
    ] = Decimal(0)
    credit_days: Annotated[
        int, Meta(ge=1, le=3_660, description="Days after which what is left of it ends.")
    ] = 30
    requests_per_minute: Annotated[
        int, Meta(ge=1, description="Requests a minute of a new tenant, by a limit of its own.")
    ] = 60
    tokens_per_minute: Annotated[
        int, Meta(ge=1, description="Tokens a minute of a new tenant, by a limit of its own.")
    ] = 100_000
    per_day_max: Annotated[
        int, Meta(ge=1, description="Most sign-ups a day in all, confirmed or not.")
    ] = 200
    per_network_per_day_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Most sign-ups a day from one network: an IPv4 address, or a /64 of IPv6.",
        ),
    ] = 5
    domains_refused: Annotated[
        tuple[str, ...],
        Meta(
            description="Domains of addresses that are not taken, with all below them, as those of "
            "disposable mail."
        ),
    ] = ()

    def __post_init__(self) -> None:
        if not self.credit.is_finite() or not 0 <= self.credit <= CREDIT_MAX:
            raise ValueError(f"`credit` must be 0 to {CREDIT_MAX}")
