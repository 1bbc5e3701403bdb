"""The security page: every test that it names is there, and every row of the OWASP lists has one."""

from __future__ import annotations

import re

import pytest

from tests.house.tree import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
FILES = sorted(set(re.findall(r"`(tests/[\w/]+\.py)`", PAGE)))
OWASP = [*(f"API{number}" for number in range(1, 11)), *(f"LLM{n:02}" for n in range(1, 11))]


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_each_test_that_the_page_names_is_there(path: str, name: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), f"{path} has no {name}"


def test_each_file_that_the_page_names_is_there() -> None:
    assert len(FILES) > 30
    assert not [path for path in FILES if not (ROOT / path).is_file()]


def test_each_promise_and_each_risk_has_a_test() -> None:
    assert len(NAMED) > 30
    for risk in OWASP:
        rows = re.findall(rf"^\| {risk} .*$", PAGE, re.MULTILINE)
        assert len(rows) == 1 and "::test_" in rows[0], risk
    promises = PAGE.split("## What is promised")[1].split("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10 and all("::test_" in row for row in rows)


def test_the_policy_leads_to_the_page_and_back() -> None:
    assert "docs/security.md" in (ROOT / "SECURITY.md").read_text("utf-8")
    assert "../SECURITY.md" in PAGE


def test_every_locked_dependency_has_a_hash() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text("utf-8")
        packages = re.split(r"\n(?=[A-Za-z0-9][\w.\[\]-]*==)", "\n" + text)[1:]
        assert len(packages) > 30
        assert not [p.split(" ")[0] for p in packages if "--hash=sha256:" not in p], name
