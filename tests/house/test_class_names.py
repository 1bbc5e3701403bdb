"""One name, one class: no two public classes of the source have the same name."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.house.tree import modules, name_of, parsed

SHOWN = "the admin API's schema of what the other class computes"
ON_THE_WIRE = "OpenAI's wire format, and the canonical form that is read from it"
TO_BE_RENAMED = "two meanings: one of them needs another name"
TWICE = {
    "Attempt": SHOWN,
    "Binding": SHOWN,
    "Function": ON_THE_WIRE,
    "Message": ON_THE_WIRE,
    "Metering": SHOWN,
    "Origin": TO_BE_RENAMED,
    "Part": ON_THE_WIRE,
    "Place": TO_BE_RENAMED,
    "Policy": TO_BE_RENAMED,
    "Rerated": SHOWN,
    "Target": TO_BE_RENAMED,
    "ThresholdPreview": SHOWN,
    "Tool": ON_THE_WIRE,
    "ToolCall": ON_THE_WIRE,
}


def test_no_two_public_classes_have_one_name() -> None:
    found = defaultdict(list)
    for path in modules():
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(name_of(path))
    twice = {name: places for name, places in found.items() if len(places) > 1}
    assert len(found) > 200
    assert {name: places for name, places in twice.items() if name not in TWICE} == {}
    assert TWICE.keys() - twice.keys() == set(), "it stands once now: take it off"
