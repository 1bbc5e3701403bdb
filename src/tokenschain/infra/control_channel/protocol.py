"""Control channel protocol: paths, headers and limits."""

from __future__ import annotations

import msgspec

from tokenschain.core.limits import LeaseRequest
from tokenschain.core.snapshot.manifest import KEYS_FORMAT

SNAPSHOT_PATH = f"/internal/v{KEYS_FORMAT}/snapshot"
"""Named by the format of keys: a gateway that could not read them is told 404 and keeps what it
serves by. One that knows no more than them takes those."""
PARTS_PATH = "/internal/v1/parts"
LEASES_PATH = "/internal/v1/leases"
JOURNAL_PATH = "/internal/v1/journal"
RESPONSES_PATH = "/internal/v1/responses"
CONTENTS_PATH = "/internal/v1/contents"
APPEALS_PATH = "/internal/v1/appeals"
GATEWAYS_PATH = "/internal/v1/gateways"
SIGNATURE_HEADER = "x-tc-signature"
BATCH_BYTES_MAX = 1_048_576
BATCH_RECORDS_MAX = 2_000
PARTS_ASKED_MAX = 64
"""Parts in one answer: a shard of 100,000 keys has some 60 KB."""


class LeaseBatch(msgspec.Struct, frozen=True):
    """What a gateway asks of control."""

    holder: str
    requests: tuple[LeaseRequest, ...]
    stream: str
    """Which of the holder's sequences this is of; each counts by itself."""
    sequence: int
    """Rises with every request of a stream: one that does not draws nothing."""
