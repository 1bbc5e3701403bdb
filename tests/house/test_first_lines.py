"""The first line of each module says what it is, in the words that somebody would search for."""

from __future__ import annotations

import pytest

from tests.house.tree import SOURCE, first_line, modules, name_of

SEARCHES = {
    "response cache": "gateway/cache/lookup.py",
    "circuit breaker": "core/routing/health.py",
    "single flight": "gateway/cache/lookup.py",
    "health check": "gateway/dispatch/health_probes.py",
    "load shedding": "core/routing/admission.py",
    "SSRF": "infra/egress.py",
    "rate limit": "core/limits.py",
    "virtual model": "core/routing/virtual_models.py",
}
"""What somebody would search for, and the module that must be found by its first line."""
LINE_CHARACTERS_MIN = 10


@pytest.mark.parametrize("words", SEARCHES)
def test_a_search_finds_the_module_by_its_first_line(words: str) -> None:
    assert words.lower() in first_line(SOURCE / SEARCHES[words]).lower()


def test_each_module_has_a_first_line_of_its_own() -> None:
    lines: dict[str, list[str]] = {}
    for path in modules():
        if path.read_text("utf-8").strip():
            lines.setdefault(first_line(path), []).append(name_of(path))
    assert not [names for line, names in lines.items() if len(line) < LINE_CHARACTERS_MIN]
    assert not {line: names for line, names in lines.items() if len(names) > 1}
