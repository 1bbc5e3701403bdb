"""JSON merge patches (RFC 7396)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def merge_patch(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """An object as a patch leaves it: null takes a field away, in what is new as in what was."""
    found = dict(before)
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, Mapping):
            there = found.get(name)
            found[name] = merge_patch(there if isinstance(there, Mapping) else {}, value)
        else:
            found[name] = value
    return found
