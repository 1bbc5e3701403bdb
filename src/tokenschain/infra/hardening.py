"""Process hardening: private files, no core dumps, a data folder of its own, lean environments."""

from __future__ import annotations

import ctypes
import os
import resource
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

_OWNER_ONLY = 0o077
"""Umask of all processes: journal, database and secrets are no other user's."""
_PR_SET_DUMPABLE = 4
_OWN_FILES = ("tokenschain.db", "gateway", "secrets", "models", "semantic")
"""What the platform makes in its data folder."""
_VARIABLES_MAX = 1_000
_PASSED = frozenset(
    ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM", "COLUMNS",
     "NO_COLOR", "FORCE_COLOR", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "SSL_CERT_FILE",
     "SSL_CERT_DIR", "INVOCATION_ID", "JOURNAL_STREAM", "GLIBC_TUNABLES")
)  # fmt: skip
_PASSED_GROUPS = (
    "LC_", "XDG_", "PYTHON", "COVERAGE_", "MALLOC_", "OMP_", "OPENBLAS_", "OTEL_", "CUDA_",
    "NVIDIA_", "ASCEND_", "HIP_", "ROCR_", "GGML_", "LLAMA_",
)  # fmt: skip
"""What programs, libraries and accelerators are told by; none of it is a secret."""


class FolderRefused(Exception):
    """Others own the data folder or may enter it; the text says what to do."""


def harden() -> None:
    """Make this process' new files private, and keep its memory out of dumps and debuggers."""
    os.umask(_OWNER_ONLY)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def make_own(folder: Path, report: Callable[..., None]) -> None:
    """Insist that a data folder is this user's alone, where there is one.

    One that is the platform's already, or empty, is closed to others; any other is refused, since
    closing `/tmp` would stop other programs.

    Args:
        report: told `(event, **details)` when it is closed.

    Raises:
        FolderRefused: it stays open to others.
    """
    try:
        found = folder.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        raise FolderRefused(f"data_dir {folder} is no folder: set data_dir to one")
    if found.st_uid != os.geteuid():
        raise FolderRefused(
            f"data_dir {folder} belongs to another user: chown it to the user that TokensChain "
            "runs as, or set data_dir to a folder of its own"
        )
    if not stat.S_IMODE(found.st_mode) & _OWNER_ONLY:
        return
    entries = [path.name for path in folder.iterdir()]
    if entries and not any(name in _OWN_FILES for name in entries):
        raise FolderRefused(
            f"other users may look into data_dir {folder}, and it holds files that are not the "
            f"platform's: chmod 700 {folder}, or set data_dir to a folder of its own"
        )
    folder.chmod(0o700)
    report("data_dir_closed", folder=str(folder), mode=f"{stat.S_IMODE(found.st_mode):o}")


def open_to_others(folder: Path) -> list[Path]:
    """Files and folders below that others may read or change, if they get there. Models are no
    secret: there, only what others may change."""
    found = []
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            models = "models" in path.relative_to(folder).parts[:1]
            bits = stat.S_IWGRP | stat.S_IWOTH if models else _OWNER_ONLY
            if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & bits:
                found.append(path)
    return found


def variables_in(references: Iterable[str | None]) -> set[str]:
    """The variables that references to secrets name, as `env:NAME`."""
    return {ref.removeprefix("env:") for ref in references if ref and ref.startswith("env:")}


def is_passed_to_all(name: str) -> bool:
    """Whether every process is handed on a variable, as programs and libraries are told by it."""
    return name in _PASSED or name.startswith(_PASSED_GROUPS)


def secret_variables(environment: Mapping[str, str], settings_prefix: str) -> tuple[str, ...]:
    """Variables that are set and were handed on for a secret in them: neither settings, nor what
    every process gets."""
    return tuple(
        name
        for name, value in sorted(environment.items())
        if value and not is_passed_to_all(name) and not name.startswith(settings_prefix)
    )[:_VARIABLES_MAX]


def lean_environment(
    environment: Mapping[str, str],
    settings_prefix: str,
    withheld: Iterable[str],
    references: Iterable[str | None],
) -> dict[str, str]:
    """What a child needs of our environment.

    Args:
        settings_prefix: variables that are settings begin with it.
        withheld: beginnings of those that are none of its business.
        references: where it finds its secrets; `env:NAME` among them passes the variable.
    """
    withheld = tuple(withheld)
    named = variables_in(references)
    return {
        name: value
        for name, value in environment.items()
        if name in named
        or is_passed_to_all(name)
        or (name.startswith(settings_prefix) and not name.startswith(withheld))
    }
