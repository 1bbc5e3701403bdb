"""Half an emoji, invalid UTF-8 and odd characters in requests: repaired or refused by name."""

from __future__ import annotations

import json

import pytest

from tests.translation.conversations import WRITERS, Call, Turn, write
from tests.translation.lab import Lab
from tests.vendors.strict.table import VENDORS

MARK = "half emoji here"
PLACES = {
    "system": [Turn("system", (MARK,)), Turn("user", ("Go on.",))],
    "user": [Turn("user", (MARK,))],
    "parts": [Turn("user", (MARK, "Go on."))],
    "assistant": [Turn("user", ("Hi",)), Turn("assistant", (MARK,)), Turn("user", ("Go on.",))],
    "arguments": [
        Turn("user", ("Hi",)),
        Turn("assistant", (), calls=(Call("call_1", "look_up", {"of": MARK}, "found"),)),
    ],
    "result": [
        Turn("user", ("Hi",)),
        Turn("assistant", (), calls=(Call("call_1", "look_up", {}, MARK),)),
    ],
}
BYTES = {
    "high half": rb"\ud83d",
    "low half": rb"\ude00",
    "halves turned round": rb"\ude00\ud83d",
    "invalid UTF-8": b"\xff\xfe",
    "cut UTF-8": "🌏".encode()[:2],
    "surrogate in UTF-8": b"\xed\xa0\xbd",
}


@pytest.mark.parametrize("what", BYTES)
@pytest.mark.parametrize("api", WRITERS)
def test_what_is_no_unicode_is_repaired_or_refused_here(lab: Lab, api: str, what: str) -> None:
    problems = []
    for place, turns in PLACES.items():
        body = json.dumps(write(api, turns) | {"model": "?"}).encode()
        said = BYTES[what]
        inner = place == "arguments" and api != "messages"  # JSON in a string
        if inner and said.startswith(b"\\"):
            said = said.replace(b"\\", b"\\\\")
        for vendor, strict in lab.vendors.items():
            if vendor not in VENDORS:
                continue
            strict.reset()
            raw = body.replace(b'"model": "?"', f'"model": "{vendor}"'.encode())
            got = lab.ask(f"/v1/{api}", raw.replace(b"here", said))
            if got.faults or strict.refused or got.status not in (200, 400):
                why = got.faults or strict.refused or got.status
                problems.append(f"{place} {vendor}: {why}")
            elif got.status == 400 and "emoji" in str(got.error):
                problems.append(f"{place} {vendor}: quotes what was sent: {got.error}")
    assert not problems, problems[:5]
