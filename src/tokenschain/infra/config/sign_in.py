"""Settings of single sign-on with an OpenID Connect provider."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from tokenschain.infra.config.value_types import Network, Reference


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
