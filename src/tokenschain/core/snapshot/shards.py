"""Shards: the keys of callers as published, apart from the rest, so that a change of one is not a
change of all."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tokenschain.core.tenancy import KeyGrant

SHARDS = 256
"""Keys are published by the first byte of their hash."""
Shard = Mapping[bytes, msgspec.Raw]
"""The keys of one shard, not decoded yet."""
NO_SHARD: Shard = {}
_decode = msgspec.msgpack.Decoder(dict[bytes, msgspec.Raw]).decode
decode_grant = msgspec.msgpack.Decoder(KeyGrant).decode


def decode_shard(payload: bytes) -> Shard:
    """The keys of one shard; none for no bytes.

    Raises:
        msgspec.DecodeError: the bytes are no shard.
    """
    return _decode(payload) if payload else NO_SHARD


def encode_shard(grants: Mapping[bytes, KeyGrant]) -> bytes:
    """Keys of one shard, by the SHA-256 of each; the same keys always give the same bytes."""
    encode = msgspec.msgpack.encode
    return encode({digest: msgspec.Raw(encode(grants[digest])) for digest in sorted(grants)})
