"""Amplification: bodies of few bytes and many parts are refused before they are read in full."""

from __future__ import annotations

import json

import pytest

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_body import read_body
from tokenschain.core.formats.json_bounds import REQUEST_BOUNDS

TEXT = {"type": "text", "text": "a"}
HOSTILE = {
    "messages": {"messages": [{"role": "user", "content": "a"}] * (REQUEST_BOUNDS.objects + 1)},
    "parts": {"messages": [{"role": "user", "content": [TEXT] * (REQUEST_BOUNDS.objects + 1)}]},
    "tools": {"tools": [{}] * (REQUEST_BOUNDS.objects + 1)},
    "metadata": {"metadata": {str(n): "" for n in range(REQUEST_BOUNDS.texts)}},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : ")])
def test_a_body_of_too_many_parts_is_refused(name: str, separators: tuple[str, str]) -> None:
    body = json.dumps({"model": "m", **HOSTILE[name]}, separators=separators).encode()
    with pytest.raises(ApiError, match="more than") as refused:
        read_body(body)
    assert refused.value.status == 400


def test_code_and_quoted_json_in_a_text_are_no_parts() -> None:
    text = 'f() { return "\\"; } ' * 300_000
    body = json.dumps({"messages": [{"role": "user", "content": text}]}).encode()
    assert read_body(body).fields


def test_many_parts_below_the_bound_pass() -> None:
    parts = [TEXT] * (REQUEST_BOUNDS.objects - 2)
    assert read_body(json.dumps({"messages": [{"content": parts}]}).encode()).fields
