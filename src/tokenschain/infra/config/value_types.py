"""Types of single settings: ports, addresses, networks, references to secrets."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

REFERENCE_PATTERN = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:.+|sealed:[A-Za-z0-9][A-Za-z0-9._-]*)\Z"
UPSTREAM_CREDENTIAL_PATTERN = (
    REFERENCE_PATTERN.removesuffix(r")\Z") + r"|stored:[A-Za-z0-9][A-Za-z0-9._-]*)\Z"
)
SECRET = Meta(extra={"secret": True})
"""What holds a secret, or its place, where somebody may write the secret itself: a value that is
wrong is not repeated."""
Port = Annotated[int, Meta(ge=0, le=65_535)]
# Never in a union with a list: msgspec 0.22 frees the pattern of such a string too often.
Reference = Annotated[str, Meta(pattern=REFERENCE_PATTERN), SECRET]
"""Where a secret is: `env:NAME`, `file:PATH` or `sealed:NAME`."""
UpstreamCredential = Annotated[str, Meta(pattern=UPSTREAM_CREDENTIAL_PATTERN), SECRET]
"""A `Reference`, or `stored:NAME` for a credential in control's database."""
HttpUrl = Annotated[str, Meta(pattern=r"^https?://\S+\Z")]
PUBLIC_PLACE = r"^https?://[^\s/?#@]+(/[^\s?#]*)?\Z"
"""An address that is shown and kept for good: it has no password, and no query with one."""
NETWORK = Meta(extra={"network": True})
Network = Annotated[str, NETWORK]
"""A network as `10.0.0.0/8`."""
HOLDS_PASSWORD = Meta(extra={"holds_password": True})
"""An address with the password of what it leads to: never shown whole."""

GuardedOperation = Literal[
    "calls:export",
    "content:erase",
    "content:export",
    "content:open",
    "credentials",
    "holds:release",
    "keys",
    "moderation",
    "roles",
    "separation",
]
"""What may take a second person; see `control.identity.approvals`."""
