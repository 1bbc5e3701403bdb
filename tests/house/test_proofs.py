"""`make proofs` runs every test that `PROOFS=full` makes longer."""

from __future__ import annotations

import re
from pathlib import Path

from tests.house.tree import ROOT

_LONGER = re.compile(r'environ(\.get\(|\[)"PROOFS"|from tests\.proofs import')
_ASKED_BY_TESTS = "proofs.py"


def test_make_proofs_has_every_longer_test() -> None:
    (listed,) = re.findall(r"^PROOFS := (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)
    places = [Path(one) for one in listed.split()]
    assert all((ROOT / one).exists() for one in places)
    longer = [
        path.relative_to(ROOT)
        for path in (ROOT / "tests").rglob("*.py")
        if path.name != _ASKED_BY_TESTS and _LONGER.search(path.read_text("utf-8"))
    ]
    assert len(longer) > 10
    for path in longer:
        assert any(path == one or one in path.parents for one in places), path
