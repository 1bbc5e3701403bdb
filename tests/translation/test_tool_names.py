"""Tool names that a vendor does not take: another name there, the caller's own in the answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.translation.answers import hear
from tests.translation.conversations import WRITERS, Turn, write
from tests.translation.lab import Lab
from tests.vendors.strict.table import VENDORS

LONG = "mcp__plugin_with_a_long_name__tool_with_a_long_name_" + "x" * 40
NAMES = {"messages": (LONG, f"{LONG}y", "3d_view"), "chat/completions": ("3d_view", "4d_view"),
         "responses": ("3d_view", "4d_view")}  # fmt: skip


def _tools(api: str, names: tuple[str, ...]) -> list[dict[str, Any]]:
    body = write(api, [Turn("user", ("Hi",))])
    return [json.loads(json.dumps(body["tools"][0]).replace("look_up", name)) for name in names]


def _names_sent(sent: dict[str, Any]) -> list[str]:
    tools = sent.get("tools") or sent.get("Tools") or sent.get("parameters", {}).get("tools")
    found = []
    for tool in tools or ():
        holder = tool.get("function") or tool.get("Function") or tool
        found.append(holder.get("name") or holder.get("Name"))
    return found


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("api", WRITERS)
def test_a_tool_is_called_by_the_callers_own_name(
    lab: Lab, api: str, vendor: str, streamed: bool
) -> None:
    strict = lab.vendors[vendor]
    more: dict[str, Any] = {"model": vendor, "tools": _tools(api, NAMES[api])}
    if streamed:
        more["stream"] = True
    strict.reset()
    lab.ask(f"/v1/{api}", write(api, [Turn("user", ("Hi",))]) | more)
    assert not strict.refused, strict.refused
    names = _names_sent(strict.received[-1])
    assert len(set(names)) == len(NAMES[api])
    said = " ".join(f'[[call {name} {{"of": "x"}}]]' for name in names)
    got = lab.ask(f"/v1/{api}", write(api, [Turn("user", (said,))]) | more)
    assert not strict.refused and got.status == 200, got.body
    heard = hear(api, got.body, streamed)
    assert [name for _, name, _ in heard.calls] == list(NAMES[api])
