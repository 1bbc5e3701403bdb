"""Snapshot as bytes: blocks of at most some 64 KB, so that a large one is read a block at a time.

A gateway that decodes a configuration of thousands of models at once would serve nobody meanwhile.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any, Literal

import msgspec
from msgspec import Raw

from tokenschain.core.pricing.catalog import DatedPrice
from tokenschain.core.snapshot import (
    Alias,
    ModelRoute,
    Snapshot,
    TenantConfiguration,
    Upstream,
)
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry

BLOCK_BYTES = 65_536
"""Decoded in about a millisecond."""
_Section = Literal["upstreams", "models", "virtual_models", "aliases", "sell"]
_ENTRIES = tuple[VirtualModelEntry, ...]
_ITEMS: dict[_Section, msgspec.msgpack.Decoder[Any]] = {
    "upstreams": msgspec.msgpack.Decoder(dict[str, Upstream]),
    "models": msgspec.msgpack.Decoder(dict[str, ModelRoute]),
    "virtual_models": msgspec.msgpack.Decoder(dict[str, _ENTRIES]),
    "aliases": msgspec.msgpack.Decoder(dict[str, Alias]),
    "sell": msgspec.msgpack.Decoder(dict[str, tuple[DatedPrice, ...]]),
}


class _Block(msgspec.Struct, array_like=True):
    """Some items of one mapping."""

    section: _Section
    tenant: str
    items: Raw


_encode = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Snapshot).decode
_decode_block = msgspec.msgpack.Decoder(_Block).decode
_decode_blocks = msgspec.msgpack.Decoder(list[memoryview]).decode


def encode(snapshot: Snapshot) -> bytes:
    """The same snapshot always gives the same bytes."""
    head = msgspec.structs.replace(
        snapshot,
        upstreams={},
        models={},
        routing=msgspec.structs.replace(snapshot.routing, models={}),
        aliases={},
        sell={},
        tenants=dict.fromkeys(snapshot.tenants, TenantConfiguration()),
    )
    return _encode([_encode(head), *_blocks_of(snapshot)])


def _blocks_of(snapshot: Snapshot) -> Iterator[bytes]:
    yield from _blocks("upstreams", "", snapshot.upstreams)
    yield from _blocks("models", "", snapshot.models)
    yield from _blocks("virtual_models", "", snapshot.routing.models)
    yield from _blocks("aliases", "", snapshot.aliases)
    yield from _blocks("sell", "", snapshot.sell)
    for tenant, own in snapshot.tenants.items():
        yield from _blocks("models", tenant, own.models)
        yield from _blocks("virtual_models", tenant, own.virtual_models)


def _blocks(section: _Section, tenant: str, items: Mapping[str, object]) -> Iterator[bytes]:
    block: dict[str, Raw] = {}
    size = 0
    for name, item in items.items():
        block[name] = raw = Raw(_encode(item))
        size += len(bytes(raw))
        if size >= BLOCK_BYTES:
            yield _encode(_Block(section, tenant, Raw(_encode(block))))
            block, size = {}, 0
    if block:
        yield _encode(_Block(section, tenant, Raw(_encode(block))))


def decode_in_steps(payload: bytes) -> Generator[None, None, Snapshot]:
    """The snapshot, as the generator's value; between steps others may go on.

    Raises:
        msgspec.DecodeError: the bytes are no snapshot of `SNAPSHOT_FORMAT`.
    """
    blocks = _decode_blocks(payload)
    if not blocks:
        raise msgspec.DecodeError("the snapshot is empty")
    head = _decode_head(blocks[0])
    found: dict[tuple[str, str], dict[str, Any]] = {}
    size = 0
    for raw in blocks[1:]:
        size += len(raw)
        if size > BLOCK_BYTES:
            size = 0
            yield
        block = _decode_block(raw)
        items = _ITEMS[block.section].decode(block.items)
        there = found.setdefault((block.section, block.tenant), items)
        if there is not items:
            there |= items

    def of(section: _Section, tenant: str = "") -> dict[str, Any]:
        return found.get((section, tenant), {})

    return msgspec.structs.replace(
        head,
        upstreams=of("upstreams"),
        models=of("models"),
        routing=msgspec.structs.replace(head.routing, models=of("virtual_models")),
        aliases=of("aliases"),
        sell=of("sell"),
        tenants={
            tenant: TenantConfiguration(of("models", tenant), of("virtual_models", tenant))
            for tenant in head.tenants
        },
    )


def decode(payload: bytes) -> Snapshot:
    """The snapshot, at once; see `decode_in_steps`."""
    steps = decode_in_steps(payload)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            snapshot: Snapshot = end.value
            return snapshot
