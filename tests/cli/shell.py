"""Commands as a shell runs them, in this process."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from tokenschain import cli
from tokenschain.cli import output
from tokenschain.infra import hardening


class Done(NamedTuple):
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, str]]:
        """Of a list that is not for a terminal."""
        head, *lines = (line.split("\t") for line in self.out.splitlines())
        return [dict(zip(head, line, strict=True)) for line in lines]


Shell = Callable[..., Done]


@contextmanager
def shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **environment: str
) -> Iterator[Shell]:
    """Runs commands with nothing of this machine's settings."""
    for name in [name for name in os.environ if name.startswith("TOKENSCHAIN_")]:
        monkeypatch.delenv(name)
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # Of processes of their own: here it would harden the tests, too.
    monkeypatch.setattr(hardening, "harden", lambda: None)

    def run(*arguments: str, given: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", ["tokenschain", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        found = capsys.readouterr()
        assert "Traceback" not in found.err
        return Done(int(ended.value.code or 0), found.out, found.err)

    yield run


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> Iterator[None]:
    """Standard output is a terminal of so many columns."""
    with monkeypatch.context() as patched:
        patched.setattr(output.console, "_force_terminal", True)
        patched.setattr(output.console, "_width", width)
        patched.setenv("NO_COLOR", "1")
        yield
