"""Manifest: what a published configuration consists of, and in which formats."""

from __future__ import annotations

import msgspec

SNAPSHOT_FORMAT = 3
"""Raised when the meaning of a published field changes. A gateway serves by its own format only:
it would ignore a renamed field, and with it the restriction that the field holds."""
KEYS_FORMAT = 3
"""Raised, together with `SNAPSHOT_FORMAT`, when the meaning of a field of keys or restrictions
changes: while it is a gateway's own, they come into force there though the rest is of no use."""
VERSION_CHARACTERS = 16
"""Of the digest that names a configuration."""


class EarlierRouting(msgspec.Struct, frozen=True):
    """What a gateway serves by of which only keys and restrictions are of the manifest's
    revision."""

    revision: int
    """Of the routing."""
    restrictions: str
    """The part with those, which hold beside the snapshot."""


class Manifest(msgspec.Struct, frozen=True):
    """What a configuration consists of; parts are named by the SHA-256 of their bytes."""

    version: str
    snapshot: str
    shards: tuple[str, ...]
    """`SHARDS` of them; empty where there is no key."""
    format: int = 1
    """`SNAPSHOT_FORMAT` of the control that published it; the first format did not say."""
    revision: int = 0
    """Rises with every change in control's database; a gateway takes no older one."""
    at_ms: int = 0
    """Unix time when it was published."""
    keys_format: int = 0
    """`KEYS_FORMAT` of the control that published it."""
    earlier_routing: EarlierRouting | None = None
    """Of what a gateway keeps where it could not use all of what control published."""

    @property
    def parts(self) -> frozenset[str]:
        """The names of all its parts."""
        earlier = self.earlier_routing
        more = () if earlier is None else (earlier.restrictions,)
        return frozenset((self.snapshot, *self.shards, *more)) - {""}

    @property
    def routing_revision(self) -> int:
        """The revision of all but keys and restrictions."""
        return self.revision if self.earlier_routing is None else self.earlier_routing.revision
