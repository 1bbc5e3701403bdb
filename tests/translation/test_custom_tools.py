"""Freeform (custom) tools, as Codex's `apply_patch`: called, answered and gone on with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.translation.answers import events_in
from tests.translation.lab import Lab
from tests.vendors.strict.table import VENDORS

PATCH = "*** Begin Patch\n*** Add File: 你好.txt\n+\"hello\"\n*** End Patch"  # fmt: skip
TOOL = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/s"},
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_freeform_tool_is_called_and_its_answer_goes_back(
    lab: Lab, vendor: str, streamed: bool
) -> None:
    strict = lab.vendors[vendor]
    strict.reset()
    arguments = json.dumps({"input": PATCH}, ensure_ascii=False)
    user = {"role": "user", "content": f"Do it. [[call apply_patch {arguments}]]"}
    body: dict[str, Any] = {
        "model": vendor, "input": [user], "tools": [TOOL], "store": False, "stream": streamed,
    }  # fmt: skip
    got = lab.ask("/v1/responses", body)
    assert got.status == 200 and not got.faults and not strict.refused, got.body
    item = _called(got.body, streamed)
    assert (item["type"], item["name"]) == ("custom_tool_call", "apply_patch")
    assert item["input"] == PATCH
    answer = {"type": "custom_tool_call_output", "call_id": item["call_id"], "output": "done 好"}
    strict.reset()
    got = lab.ask("/v1/responses", body | {"input": [user, item, answer]})
    assert got.status == 200 and not got.faults and not strict.refused, got.body
    sent = json.dumps(strict.received[-1], ensure_ascii=False)
    assert "done 好" in sent and "Add File: 你好.txt" in sent


def _called(body: bytes, streamed: bool) -> dict[str, Any]:
    if not streamed:
        response = json.loads(body)
    else:
        events = list(events_in(body))
        response = events[-1][1]["response"]
        pieces = "".join(
            data["delta"]
            for kind, data in events
            if kind == "response.custom_tool_call_input.delta"
        )
        assert pieces == PATCH
    calls: list[dict[str, Any]] = [
        item for item in response["output"] if item["type"].endswith("_call")
    ]
    assert len(calls) == 1, response["output"]
    return calls[0]
