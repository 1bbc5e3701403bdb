"""Property: a legal conversation, at any API, reaches any vendor whole and is answered.

The path is the product's own from the caller's bytes to the vendor's and back (see `lab`); the
vendor is a strict one. Never a refusal by the vendor, never a lost text, tool call, result or
picture; the caller's cap holds; the record counts what the vendor counted. Derandomized: the same
cases each time; `PROOFS=full` tries 10,000.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.translation.answers import hear
from tests.translation.conversations import PNG, WRITERS, Call, Turn, missing, read_back, write
from tests.translation.lab import PRICE, Lab
from tests.vendors.strict.table import VENDORS
from tokenschain.core.pricing.catalog import Usage, cost_of

FULL = os.environ.get("PROOFS") == "full"
PAIRS = [(api, vendor) for api in WRITERS for vendor in VENDORS]
EXAMPLES = (10_000 if FULL else 800) // len(PAIRS) + 1

_texts = st.one_of(
    st.sampled_from(
        ["Hello 世界🌏!", "What is the weather?", "line\nbreak\t\"quoted\" \\u0041 \\", "说中文", "é\u0301",
         "👨‍👩‍👧‍👦 family", "\u202eright to left", "\x7f\x01 control", "JSON, please: {\"a\": 1}", "[DONE]",
         "data: x\n\nevent: y", "x" * 3_000]
    ),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
)  # fmt: skip
_blank = st.sampled_from(["", " ", "\n\n"])
_ids = st.sampled_from(
    ["call_abcdefghijklmnopqrstuvwx", "toolu_01ABCdefGHIjklMNOpqrSTUv", "functions.look_up:0",
     "abcdefgh1", "0", "call_" + "x" * 70, "chatcmpl-tool-0123456789abcdef", "调用_1", "a b"]
)  # fmt: skip
_names = st.sampled_from(
    ["look_up", "get-weather", "Read", "mcp__files__read_text_file", "_x", "3d_view",
     "mcp__plugin_with_a_long_name__tool_with_a_long_name_" + "x" * 40]
)  # fmt: skip
_values = st.one_of(_texts, st.integers(-5, 2**40), st.booleans(), st.none(), st.floats(0, 1))
_arguments = st.dictionaries(st.sampled_from(["of", "城市", "a b", "n"]), _values, max_size=3)


class Asked(NamedTuple):
    """A conversation, and how it is asked."""

    turns: list[Turn]
    stream: bool = False
    effort: str | None = None
    choice: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    output_max: int | None = None
    parallel: bool | None = None
    tools: str = "all"
    """`all`, `none` (though the history has calls), or how schemas are written: `empty`, `absent`."""


@st.composite
def _calls(draw: st.DrawFn) -> tuple[Call, ...]:
    made: list[Call] = []
    used: set[str] = set()
    for _ in range(draw(st.integers(0, 3))):
        id = draw(_ids)
        if id not in used:
            used.add(id)
            result = draw(st.one_of(_texts, _blank))
            image = PNG if draw(st.integers(0, 7)) == 0 else ""
            made.append(Call(id, draw(_names), draw(_arguments), result, image))
    return tuple(made)


@st.composite
def _turns(draw: st.DrawFn) -> list[Turn]:
    turns: list[Turn] = []
    for _ in range(draw(st.integers(0, 2))):
        role = draw(st.sampled_from(["system", "developer"]))
        turns.append(Turn(role, (draw(_texts),), in_parts=draw(st.booleans())))
    begins = draw(st.integers(0, 9))
    if begins == 0 and turns:
        return turns  # nothing but what the system says
    if begins == 1:
        turns.append(Turn("assistant", ("How can I help?",)))
    turns.append(Turn("user", (draw(_texts), "Go on."), in_parts=draw(st.booleans())))
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["user", "assistant", "calls", "calls", "system"]))
        texts = tuple(draw(st.lists(st.one_of(_texts, _texts, _blank), max_size=2)))
        in_parts = draw(st.booleans())
        if kind == "calls":
            calls = draw(_calls())
            said = texts if calls else texts or ("Well.",)
            turns.append(Turn("assistant", said, calls=calls, in_parts=in_parts))
        elif kind == "user":
            images = (PNG,) if draw(st.integers(0, 3)) == 0 else ()
            turns.append(Turn("user", texts or ("And?",), images, in_parts=in_parts))
        elif kind == "system":
            turns.append(Turn("system", (draw(_texts),), in_parts=in_parts))
        else:
            turns.append(Turn("assistant", texts or ("Well.",), in_parts=in_parts))
    goes_on = turns[-1].role == "assistant" and draw(st.integers(0, 4)) == 0
    if turns[-1].role != "user" and not turns[-1].calls and not goes_on:
        turns.append(Turn("user", (draw(_texts), "So?")))
    return turns


_asked = st.builds(
    Asked,
    _turns(),
    st.booleans(),
    st.sampled_from([None, None, None, "low", "high"]),
    st.sampled_from([None, None, "auto", "none", "required", "look_up"]),
    st.sampled_from([None, None, 0.0, 0.7, 1.0]),
    st.sampled_from([None, None, 0.9]),
    st.sampled_from([None, 50, 3_000, 200_000]),
    st.sampled_from([None, None, False, True]),
    st.sampled_from(["all", "all", "all", "none", "empty", "absent"]),
)


def legal(api: str, asked: Asked) -> Asked:
    """The same within what the API itself takes."""
    if asked.tools == "none":
        asked = asked._replace(choice=None, parallel=None)
    if api != "messages":
        # Names end at 64 characters; results are texts in chat.
        shorter = [
            turn._replace(
                calls=tuple(
                    call._replace(
                        name=call.name[:64], image=call.image if api == "responses" else ""
                    )
                    for call in turn.calls
                )
            )
            for turn in asked.turns
        ]
        return asked._replace(turns=shorter)
    turns = []
    first = next((turn for turn in asked.turns if turn.role in ("user", "assistant")), None)
    if first is None or first.role != "user":
        turns.append(Turn("user", ("Hello.",)))
    for turn in asked.turns:
        kept = tuple(text for text in turn.texts if text.strip())
        if kept or turn.images or turn.calls:
            turns.append(turn._replace(texts=kept))
    ids: set[str] = set()
    for at, turn in enumerate(turns):
        calls = []
        for call in turn.calls:
            clean = "".join(c if c.isascii() and c.isalnum() else "_" for c in call.id)
            while clean in ids:
                clean += "x"
            ids.add(clean)
            calls.append(call._replace(id=clean))
        turns[at] = turn._replace(calls=tuple(calls))
    if asked.tools == "none" and any(turn.calls for turn in turns):
        asked = asked._replace(tools="all")  # refused there
    forced = asked.choice in ("required", "look_up")
    last = turns[-1]
    goes_on = last.role == "assistant" and not last.calls
    if goes_on:
        turns[-1] = last._replace(texts=(*last.texts[:-1], last.texts[-1].rstrip()))
    effort = None if forced or goes_on else asked.effort
    if goes_on and effort is None and asked.choice in ("required", "look_up"):
        asked = asked._replace(choice=None)
    return asked._replace(turns=turns, effort=effort, output_max=asked.output_max or 4_096)


def body_of(api: str, asked: Asked) -> dict[str, Any]:
    """The request of a conversation at an API."""
    body = write(api, asked.turns)
    _tool_schemas(asked.tools, body)
    if asked.stream:
        body["stream"] = True
    for name in ("temperature", "top_p"):
        if getattr(asked, name) is not None:
            body[name] = getattr(asked, name)
    cap = {"chat/completions": "max_completion_tokens", "messages": "max_tokens",
           "responses": "max_output_tokens"}[api]  # fmt: skip
    if asked.output_max is not None:
        body[cap] = asked.output_max
    _choose(api, asked, body)
    if asked.effort is not None:
        if api == "chat/completions":
            body["reasoning_effort"] = asked.effort
        elif api == "responses":
            body["reasoning"] = {"effort": asked.effort}
        else:
            body["output_config"] = {"effort": asked.effort}
    return body


def _tool_schemas(how: str, body: dict[str, Any]) -> None:
    if how == "none":
        del body["tools"]
    for tool in body.get("tools", ()):
        holder = tool.get("function", tool)
        if "parameters" in holder and how == "absent":
            del holder["parameters"]
        elif "parameters" in holder and how == "empty":
            holder["parameters"] = {}


def _choose(api: str, asked: Asked, body: dict[str, Any]) -> None:
    named = asked.choice == "look_up"
    if api == "messages":
        kind = {"required": "any", "look_up": "tool", None: "auto"}.get(asked.choice, asked.choice)
        choice = {"type": kind} | ({"name": "look_up"} if named else {})
        if asked.parallel is False and kind != "none":
            choice["disable_parallel_tool_use"] = True
        if asked.choice is not None or asked.parallel is False:
            body["tool_choice"] = choice
        return
    if asked.choice is not None:
        function = {"name": "look_up"}
        chosen: Any = {"type": "function"} | (
            {"function": function} if api == "chat/completions" else function
        )
        body["tool_choice"] = chosen if named else asked.choice
    if asked.parallel is not None:
        body["parallel_tool_calls"] = asked.parallel


def judge(lab: Lab, api: str, vendor: str, asked: Asked) -> str:
    """What went wrong; empty when all is well."""
    asked = legal(api, asked)
    strict = lab.vendors[vendor]
    strict.reset()
    got = lab.ask(f"/v1/{api}", body_of(api, asked) | {"model": vendor})
    if got.faults:
        return f"a fault of our own: {got.faults[0]!r}"
    if strict.refused:
        return f"the vendor refuses: {strict.refused[0]}"
    pictures = any(t.images or any(c.image for c in t.calls) for t in asked.turns)
    if got.status == 400 and pictures and not strict.vendor.sees:
        named = "image" in str(got.error) or "vision" in str(got.error)
        return "" if named else f"a picture is refused without its name: {got.error}"
    if got.status != 200:
        return f"HTTP {got.status}: {got.body[:300]!r}"
    lost = missing(asked.turns, read_back(strict.vendor.wire, got.sent[-1]), strict.vendor.sees)
    if lost:
        return f"lost: {lost[0]}"
    said = [e for n in ("adapted", "dropped", "emulated") for e in got.says(f"x-tc-{n}")]
    if pictures and not strict.vendor.sees and not any("image" in e or "[" in e for e in said):
        return f"a picture is left out without a word: {said}"
    return _cap(asked, got.sent[-1], said) or _answer(api, asked, got, strict)


_CAPS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "MaxTokens")


def _cap(asked: Asked, sent: dict[str, Any], said: list[str]) -> str:
    """A caller's cap is never raised, and never lost without a word."""
    if asked.output_max is None:
        return ""
    fields = sent | sent.get("parameters", {})
    caps = [fields[name] for name in _CAPS if fields.get(name) is not None]
    if not caps and not any(name in entry for name in _CAPS for entry in said):
        return f"the cap of {asked.output_max} is lost without a word: {said}"
    if caps and min(caps) > asked.output_max:
        return f"the cap of {asked.output_max} became {caps}"
    return ""


def _answer(api: str, asked: Asked, got: Any, strict: Any) -> str:
    heard = hear(api, got.body, asked.stream)
    if heard.error is not None:
        return f"an error in the answer: {heard.error}"
    if not heard.text.startswith(("Echo:", "{}")):
        return f"the answer is {heard.text[:80]!r}"
    record, counted = got.record, strict.counted[-1]
    if (record.prompt_tokens, record.completion_tokens) != counted:
        return f"counted {counted}, recorded {record.prompt_tokens}, {record.completion_tokens}"
    if record.charge_pico != cost_of(Usage(*counted), PRICE):
        return f"charged {record.charge_pico} for {counted}"
    return "" if record.outcome == "ok" else f"recorded as {record.outcome}"


_ONE = Call("functions.look_up:0", "look_up", {"of": "x"}, "found")
KEPT = (
    # Found once; stays tried.
    Asked([Turn("user", ("Go on.",)), Turn("assistant", (), calls=(_ONE,))]),
    Asked([Turn("user", ("Go on.",)), Turn("assistant", (), calls=(_ONE,)), Turn("user", ("So?",))]),
    Asked([Turn("developer", ("Be kind.",), in_parts=True), Turn("user", ("Go on.",))], stream=True),
    Asked([Turn("user", ("Go on.",)), Turn("assistant", ("",)), Turn("user", (" ",)),
           Turn("user", ("So?",))]),
    Asked([Turn("user", ("Go on.",)), Turn("assistant", (), calls=(_ONE._replace(image=PNG),))]),
    Asked([Turn("user", ("Go on.",)), Turn("assistant", ("I look.",), calls=(_ONE,))],
          effort="low", choice="required", output_max=50),
    Asked([Turn("user", ("Go on.",))], temperature=0.7, top_p=0.9, output_max=200_000),
)  # fmt: skip


@pytest.mark.parametrize(("api", "vendor"), PAIRS)
def test_a_legal_conversation_reaches_any_vendor_whole(
    shared_lab: Lab, api: str, vendor: str
) -> None:
    shared_lab.fresh()

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(_asked)
    def holds(asked: Asked) -> None:
        found = judge(shared_lab, api, vendor, asked)
        assert not found, f"{found}\n{json.dumps(legal(api, asked), ensure_ascii=False)}"

    for kept in KEPT:
        holds = example(kept)(holds)
    holds()
