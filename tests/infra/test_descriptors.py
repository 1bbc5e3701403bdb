"""The limit of open files."""

from __future__ import annotations

import resource
import subprocess
import sys

from tokenschain.infra import descriptors

RAISE = """
import resource
from tokenschain.infra import descriptors
resource.setrlimit(resource.RLIMIT_NOFILE, (100, {hard}))
print(descriptors.raise_limit(), descriptors.for_callers())
"""


def in_a_process(hard: int) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", RAISE.format(hard=hard)], capture_output=True, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def test_the_soft_limit_is_raised_to_the_hard_one_and_a_part_is_kept_from_callers() -> None:
    assert in_a_process(400) == [400, 300]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard >= 8_192:
        assert in_a_process(8_192) == [8_192, 8_192 - descriptors.RESERVED_MAX]
