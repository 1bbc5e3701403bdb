"""Known clients' request shapes: three turns with a tool, a picture and a document, to any vendor.

Each request's history is what the answers before it said, as the client itself would send it. No
vendor refuses; nothing is lost; what a vendor cannot take (a document, a picture) is refused with
its name or said to be left out, and the conversation then goes on without it.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.translation.answers import Unreadable, hear
from tests.translation.client_shapes import CLIENTS, Client
from tests.translation.conversations import PDF, PNG, Call, Turn, missing, read_back, write
from tests.translation.lab import Lab, Result

VENDORS = (
    "deepseek", "alibaba", "zhipu", "moonshot", "volcengine-ark", "mistral", "anthropic",
    "anthropic-adaptive", "openai", "openai-reasoning", "hunyuan-native", "dashscope-native",
)  # fmt: skip
WANTED = [("look_up", {"of": "巴黎"}), ("look_up", {"of": "Rome"})]
ASKS = "What is in it? " + " ".join(
    f"[[call {name} {json.dumps(arguments, ensure_ascii=False)}]]" for name, arguments in WANTED
)
RESULTS = ("晴, 21 °C 🌤", "rain\n{\"mm\": 3}")  # fmt: skip
_FILES = ("file", "document", "input_file", "pdf")
_PICTURES = ("image", "image_url", "input_image", "vision")


class Problem(AssertionError):
    """What a client's user would see go wrong."""


def converse(lab: Lab, client: Client, vendor: str, streamed: bool) -> None:
    """All three turns."""
    strict = lab.vendors[vendor]
    user = Turn("user", (ASKS,), (PNG,), PDF)
    turns = [user]
    got = _ask(lab, client, vendor, turns, streamed)
    for _ in range(2):  # one at a time is refused
        for names, without in ((_FILES, {"document": ""}), (_PICTURES, {"images": ()})):
            refused = got.status == 400 and not got.faults and not strict.refused
            if refused and any(name in json.dumps(got.error).lower() for name in names):
                turns = [turns[0]._replace(**without)]  # type: ignore[arg-type]
                got = _ask(lab, client, vendor, turns, streamed)
    heard = _check(lab, client, vendor, turns, got, streamed)
    said = [(name, arguments) for _, name, arguments in heard.calls]
    if said != WANTED or len({id for id, _, _ in heard.calls}) != len(WANTED):
        raise Problem(f"turn 1: the calls are {heard.calls}")
    if heard.finish not in ("tool_calls", "tool_use", "completed"):
        raise Problem(f"turn 1: it ends with {heard.finish}")
    calls = tuple(
        Call(id, name, arguments, result)
        for (id, name, arguments), result in zip(heard.calls, RESULTS, strict=True)
    )
    turns.append(Turn("assistant", (), calls=calls))
    heard = _check(lab, client, vendor, turns, _ask(lab, client, vendor, turns, streamed), streamed)
    if not heard.text.startswith("Echo: "):
        raise Problem(f"turn 2: it says {heard.text!r}")
    turns += [Turn("assistant", (heard.text,)), Turn("user", ("谢谢。And tomorrow?",))]
    heard = _check(lab, client, vendor, turns, _ask(lab, client, vendor, turns, streamed), streamed)
    if "谢谢。And tomorrow?" not in heard.text:
        raise Problem(f"turn 3: it says {heard.text!r}")


def _ask(lab: Lab, client: Client, vendor: str, turns: list[Turn], streamed: bool) -> Result:
    lab.vendors[vendor].reset()
    body: dict[str, Any] = copy.deepcopy(write(client.api, turns))
    if streamed:
        body["stream"] = True
    client.dress(body)
    return lab.ask(f"/v1/{client.api}", body | {"model": vendor}, **client.headers)


def _check(
    lab: Lab, client: Client, vendor: str, turns: list[Turn], got: Result, streamed: bool
) -> Any:
    """One answer, and what the vendor was told for it."""
    strict = lab.vendors[vendor]
    turn = f"turn {len(turns) // 2 + 1}"
    if got.faults:
        raise Problem(f"{turn}: a fault of our own: {got.faults[0]!r}")
    if strict.refused:
        raise Problem(f"{turn}: the vendor refuses: {strict.refused[0]}")
    if got.status != 200:
        raise Problem(f"{turn}: HTTP {got.status}: {got.body[:300]!r}")
    sent = got.sent[-1]
    lost = missing(turns, read_back(strict.vendor.wire, sent), strict.vendor.sees)
    if lost:
        raise Problem(f"{turn}: lost: {lost[0]}")
    said = [e for n in ("adapted", "dropped", "emulated") for e in got.says(f"x-tc-{n}")]
    if any(one.document for one in turns) and PDF not in json.dumps(sent) and not _told(
        said, _FILES
    ):  # fmt: skip
        raise Problem(f"{turn}: the document is left out without a word: {said}")
    pictures = any(one.images for one in turns)
    if pictures and not strict.vendor.sees and not _told(said, _PICTURES):
        raise Problem(f"{turn}: the picture is left out without a word: {said}")
    try:
        heard = hear(client.api, got.body, streamed)
    except Unreadable as error:
        raise Problem(f"{turn}: unreadable: {error}") from error
    if heard.error is not None:
        raise Problem(f"{turn}: {heard.error}")
    record: Any = got.record
    if (record.prompt_tokens, record.completion_tokens) != strict.counted[-1]:
        raise Problem(f"{turn}: the vendor counted {strict.counted[-1]}, the record another")
    return heard


def _told(said: list[str], names: tuple[str, ...]) -> bool:
    return any(name in entry for name in names for entry in said) or any(
        "content[" in entry for entry in said
    )


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.label.replace("/", "-"))
def test_a_clients_conversation_works_at_any_vendor(
    shared_lab: Lab, client: Client, vendor: str
) -> None:
    shared_lab.fresh()
    for streamed in (False, True):
        converse(shared_lab, client, vendor, streamed)
