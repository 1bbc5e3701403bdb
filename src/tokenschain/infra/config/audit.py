"""Settings of the sealed audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from tokenschain.infra.config.value_types import PUBLIC_PLACE, Reference

_WITNESS = r"^https?://\S+ [^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44,160}={0,2}$"


class ObjectLockSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket with object lock, where checkpoints of the log are put."""

    url: Annotated[
        str,
        Meta(
            pattern=PUBLIC_PLACE,
            description="Address of the bucket, with a path before the names of objects if wanted: "
            "`https://ENDPOINT/BUCKET/PATH`. It must have been made with object lock.",
        ),
    ]
    credential: Annotated[
        Reference,
        Meta(
            description="Where its key pair is, of the form `id:secret`: `env:NAME`, `file:PATH` "
            "or `sealed:NAME`. It puts objects, and reads them with their retention; no more."
        ),
    ]
    region: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9][a-z0-9-]{0,62}\Z",
            description="Region that requests are signed for.",
        ),
    ] = "us-east-1"
    retain_days: Annotated[
        int,
        Meta(
            ge=1,
            le=36_500,
            description="Days for which an object cannot be deleted, by its owner either.",
        ),
    ] = 1_096


class AuditSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The sealed audit log: see the guide to it."""

    sealing: Annotated[
        bool,
        Meta(
            description="Whether calls and changes are sealed into the audit log. Where it is off, "
            "changes wait until it is on again, and calls are left out; the log says so."
        ),
    ] = True
    interval_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=60,
            description="Seconds from one segment to the next; where nothing happens, a minute.",
        ),
    ] = 1.0
    key_file: Annotated[
        Path | None,
        Meta(
            description="File with the secret that the signing key is made of; by default made in "
            "`data_dir`. All controls need the same one."
        ),
    ] = None
    witnesses: Annotated[
        tuple[Annotated[str, Meta(pattern=_WITNESS)], ...],
        Meta(
            description="Witnesses that cosign the log's checkpoints, each as `URL KEY`, with the "
            "key that `tokenschain witness create` printed. One that does not answer stops nothing."
        ),
    ] = ()
    witness_quorum: Annotated[
        int,
        Meta(
            ge=0,
            le=64,
            description="How many of the witnesses must have cosigned within ten minutes; with "
            "fewer there is an alert. 0: all of them.",
        ),
    ] = 0
    timestamp_urls: Annotated[
        tuple[Annotated[str, Meta(pattern=PUBLIC_PLACE)], ...],
        Meta(
            description="Time stamp authorities (RFC 3161) that stamp the log's checkpoints: what "
            "was in the log by then is proved without this platform's keys."
        ),
    ] = ()
    object_lock: Annotated[
        ObjectLockSettings | None,
        Meta(description="Object storage that keeps the log's checkpoints under object lock."),
    ] = None
    anchor_interval_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="Seconds from one checkpoint that is time-stamped or put into object "
            "storage to the next; without one for a day there is an alert.",
        ),
    ] = 3_600.0

    @property
    def anchor_credential(self) -> str | None:
        """Where the key pair of the object storage is."""
        return None if self.object_lock is None else self.object_lock.credential
