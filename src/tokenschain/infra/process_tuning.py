"""Process tuning: memory allocator, garbage collector and interpreter, as many calls need them."""

from __future__ import annotations

import ctypes
import gc
import sys

_GC_THRESHOLDS = (20_000, 20, 20)
"""A call allocates some hundred objects, nearly all freed by count; the default of
700 would look for cycles several times a call's worth of work."""
_SWITCH_INTERVAL_S = 0.0005
"""How long the loop waits for the interpreter while long bodies are read in their thread; the
default of 5 ms would be had at every turn."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGE_BLOCK_BYTES = 262_144


def tune() -> None:
    """To be done once everything is loaded."""
    # glibc raises these two by itself as large blocks are freed, and then keeps what
    # ten-megabyte bodies leave behind.
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)
    libc.mallopt(_M_TRIM_THRESHOLD, 4 * _LARGE_BLOCK_BYTES)
    tune_collector()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def tune_collector() -> None:
    """Look for cycles seldom, and never in what is there by now: it stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
