"""Lock on a folder that one process owns, with its id in it; gone with the process."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path


def hold(folder: Path) -> int:
    """Own a folder for as long as the descriptor that is given is open.

    Raises:
        BlockingIOError: another live process owns it; the text says which.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(lock, 20, 0).decode("ascii", "replace") or "another"
        os.close(lock)
        why = f"in use by process {owner}: end it, or set another data_dir"
        raise BlockingIOError(errno.EWOULDBLOCK, why, str(folder)) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock
