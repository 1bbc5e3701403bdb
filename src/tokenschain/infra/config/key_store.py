"""Settings of the key store: what keeps the master key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tokenschain.infra.config.value_types import HttpUrl, Reference

_PLAIN = r"^[A-Za-z0-9._:/-]*\Z"
KeyStoreKind = Literal["file", "passphrase", "alibaba-kms", "tencent-kms", "huawei-kms", "sdf"]


class KeyStoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps the master key, `secrets.master_key_file`: see the guide to cryptography."""

    kind: Annotated[
        KeyStoreKind,
        Meta(
            description="Whether the file holds the key in clear (`file`), or wrapped: by a "
            "passphrase, a cloud's key management, or a cryptographic device (`sdf`, GM/T 0018)."
        ),
    ] = "file"
    passphrase: Annotated[
        Reference | None,
        Meta(description="Where the passphrase is: `env:NAME` or `file:PATH`."),
    ] = None
    credential: Annotated[
        Reference | None,
        Meta(
            description="Where the cloud's key pair is, of the form `id:secret`: `env:NAME` or "
            "`file:PATH`."
        ),
    ] = None
    key: Annotated[
        str, Meta(pattern=_PLAIN, description="The cloud's name of the key that wraps.")
    ] = ""
    region: Annotated[
        str,
        Meta(
            pattern=_PLAIN,
            description="Region of the cloud's key management, as `cn-hangzhou`, `ap-guangzhou` "
            "or `cn-north-4`.",
        ),
    ] = ""
    project: Annotated[
        str, Meta(pattern=_PLAIN, description="For Huawei: the id of the project.")
    ] = ""
    base_url: Annotated[
        HttpUrl | None,
        Meta(description="Address in place of the cloud's own, as of a VPC endpoint."),
    ] = None
    library: Annotated[
        Path | None, Meta(description="The device's library, as `/opt/vendor/libsdf.so`.")
    ] = None
    key_index: Annotated[
        int,
        Meta(ge=1, le=65_535, description="Number of the device's key encryption key."),
    ] = 1
