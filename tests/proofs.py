"""Long proofs: cases by number, each the same wherever a run begins."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator

FULL = os.environ.get("PROOFS") == "full"
FROM = int(os.environ.get("PROOFS_FROM", "0"))
"""The number of the case to begin with, where a run was broken off."""
SEED = os.environ.get("PROOFS_SEED", "20")
_SAID_EVERY_S = 10.0


def numbered(name: str, count: int) -> Iterator[tuple[int, random.Random]]:
    """Cases, each with its own randomness; a full run says how far it is."""
    began = said = time.monotonic()
    for number in range(FROM if FULL else 0, count):
        yield number, random.Random(f"{SEED} {name} {number}")
        if FULL and (time.monotonic() - said > _SAID_EVERY_S or number == count - 1):
            said = time.monotonic()
            done = f"{name}: {number + 1} of {count} in {said - began:.0f} s"
            print(f"{done}; goes on with PROOFS_FROM={number + 1}", file=sys.__stderr__, flush=True)
