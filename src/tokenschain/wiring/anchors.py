"""Wiring of where checkpoints of the audit log are anchored."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from tokenschain.control.audit.anchors import (
    AnchorPlace,
    Evidence,
    Kind,
    NotAnchored,
    TimestampAuthority,
)
from tokenschain.core.audit import witnessing
from tokenschain.infra.config.groups import Settings
from tokenschain.infra.security.secrets import SecretMissing
from tokenschain.providers.object_lock import NotKept, ObjectLockBucket
from tokenschain.wire.client import HttpClient


class _LockedObjects:
    """See `AnchorPlace`: each checkpoint is an object under lock."""

    kind: Kind = "object"

    def __init__(self, bucket: ObjectLockBucket, clock: Callable[[], float]) -> None:
        self.name = bucket.url
        self._bucket = bucket
        self._clock = clock

    async def keep(self, note: str, size: int) -> Evidence:
        """See `AnchorPlace`."""
        log = witnessing.origin_of(note).rpartition("/")[2]
        at_s = int(self._clock())
        try:
            kept = await self._bucket.put(f"{log}-{size:012d}-{at_s}.note", note.encode())
        except (NotKept, SecretMissing) as error:
            raise NotAnchored(str(error)) from None
        return Evidence(at_s, msgspec.json.encode(kept._asdict()))


def anchor_places(
    settings: Settings,
    client: HttpClient,
    secret_of: Callable[[str], str],
    clock: Callable[[], float],
) -> list[AnchorPlace]:
    """The places of the settings."""
    found: list[AnchorPlace] = [
        TimestampAuthority(url, client) for url in settings.audit.timestamp_urls
    ]
    bucket = settings.audit.object_lock
    if bucket is not None:
        kept = ObjectLockBucket(
            bucket.url, bucket.region, bucket.retain_days, lambda: secret_of(bucket.credential),
            client, clock,
        )  # fmt: skip
        found.append(_LockedObjects(kept, clock))
    return found
