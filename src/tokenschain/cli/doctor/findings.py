"""What the checks of `doctor` find: a verdict, one line that says it, and how to mend it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    """Calls are served; somebody should look."""
    FAIL = "fail"
    """Something does not work, or will not at the next start."""


class CheckResult(NamedTuple):
    """What one check says of one thing."""

    check: str
    verdict: Verdict
    said: str
    """One line, without secrets."""
    mend: str = ""


class Findings:
    """Collects what one check finds."""

    def __init__(self, check: str) -> None:
        self._check = check
        self._found: list[CheckResult] = []

    def ok(self, said: str) -> None:
        """All is well."""
        self._found.append(CheckResult(self._check, Verdict.OK, said))

    def warn(self, said: str, mend: str = "") -> None:
        """Somebody should look."""
        self._found.append(CheckResult(self._check, Verdict.WARN, said, mend))

    def fail(self, said: str, mend: str = "") -> None:
        """Something does not work."""
        self._found.append(CheckResult(self._check, Verdict.FAIL, said, mend))

    def __iter__(self) -> Iterator[CheckResult]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def worst(findings: Iterable[CheckResult]) -> Verdict:
    """The verdict on all together."""
    verdicts = {finding.verdict for finding in findings}
    return next((v for v in (Verdict.FAIL, Verdict.WARN) if v in verdicts), Verdict.OK)
