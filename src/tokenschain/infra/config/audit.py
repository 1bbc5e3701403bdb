"""Settings of the sealed audit log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

_WITNESS = r"^https?://\S+ [^\s+]+\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44,160}={0,2}$"


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
