"""File descriptors: the limit of the process, raised at start, and what of it callers may use."""

from __future__ import annotations

import errno
import resource

WANTED = 1_048_576
"""More is not asked for, even where the hard limit is none."""
RESERVED_MAX = 1_024
RESERVED_SHARE = 4
"""A quarter, though no more than `RESERVED_MAX`, is left to upstreams, journal and control."""
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE})
"""Numbers of `OSError`: no descriptor is left, in the process or on the machine."""


def raise_limit() -> int:
    """Raise the soft limit to the hard one (RLIMIT_NOFILE); returns what is in force.

    Debian's soft limit of 1,024 is for programs that call select(); none of ours does.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED if hard == resource.RLIM_INFINITY else min(hard, WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return limit()


def limit() -> int:
    """How many descriptors this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return WANTED if soft == resource.RLIM_INFINITY else soft


def for_callers() -> int:
    """How many of them callers' connections may use."""
    most = limit()
    return max(1, most - min(RESERVED_MAX, most // RESERVED_SHARE))
