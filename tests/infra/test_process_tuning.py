"""Process tuning: what it is for is seen in a process of its own."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import gc, sys
from tokenschain.infra import process_tuning
process_tuning.tune()
before = gc.get_stats()[0]["collections"]
kept = [[] for _ in range(10_000)]
print(gc.get_stats()[0]["collections"] - before, gc.get_freeze_count() > 0, sys.getswitchinterval())
"""


def test_ten_thousand_objects_are_made_without_a_look_for_cycles() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, check=True)
    looks, frozen, switch_interval_s = done.stdout.split()
    assert (looks, frozen) == (b"0", b"True")
    assert float(switch_interval_s) < 0.005, "of the default"
