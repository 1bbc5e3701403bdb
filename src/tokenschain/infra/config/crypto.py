"""Settings of cryptography."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta


class CryptoSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Algorithms: see the guide to cryptography."""

    suite: Annotated[
        Literal["international", "gm", "dual"],
        Meta(
            description="Algorithms that processes write with: SHA-256 and AES-256-GCM, or SM3 and "
            "SM4-GCM (`gm`). What the other wrote is read by either. `dual` writes as "
            "`international` and signs the audit log with Ed25519 and with SM2."
        ),
    ] = "international"
