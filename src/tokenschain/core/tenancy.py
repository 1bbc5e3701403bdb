"""Who calls: tenant > project > environment > key."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Disconnect(StrEnum):
    """What happens upstream when the caller leaves in the middle of an answer."""

    CANCEL = "cancel"
    """Close the upstream at once; unseen usage is estimated and flagged so."""
    DRAIN = "drain"
    """Read the answer to its end, so that the usage on the bill is exact."""


class KeyGrant(msgspec.Struct, frozen=True):
    """What one API key may do. The key itself is nowhere; only its hash is."""

    key_id: str
    tenant: str
    project: str
    environment: str
    models: tuple[str, ...] | None = None
    """Model names the key may use; None means all."""
    expires_at_s: float | None = None
    """Unix time after which the key is refused."""
    revoked: bool = False
    disconnect: Disconnect = Disconnect.CANCEL


def may_use(grant: KeyGrant, model: str) -> bool:
    """Whether the key may call the model."""
    return grant.models is None or model in grant.models
