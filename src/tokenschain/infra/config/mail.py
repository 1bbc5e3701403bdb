"""Settings of alerts and mails."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tokenschain.infra.config.value_types import Network, Reference


class AlertsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Where alerts may be sent."""

    networks: Annotated[
        tuple[Network, ...],
        Meta(
            description="Private networks that alerts may be sent to, as `10.2.0.0/16`; public "
            "addresses always may."
        ),
    ] = ()


class SmtpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The mail server for alerts."""

    host: Annotated[
        str | None, Meta(description="Name of the mail server for alerts by e-mail.")
    ] = None  # fmt: skip
    port: Annotated[
        int,
        Meta(ge=1, le=65_535, description="Port of the mail server; 465 speaks TLS at once."),
    ] = 587
    user: Annotated[
        str | None, Meta(description="Name to sign in to the mail server with.")
    ] = None  # fmt: skip
    password: Annotated[
        Reference | None,
        Meta(description="Where the password is: `env:NAME`, `file:PATH` or `sealed:NAME`."),
    ] = None
    sender: Annotated[str, Meta(description="Sender's address of alerts by e-mail.")] = (
        "tokenschain@localhost"
    )
    tls: Annotated[
        bool, Meta(description="Whether to insist on STARTTLS, or on TLS at port 465.")
    ] = True  # fmt: skip
