"""Property: whatever a vendor's way to write its answer, each API gives the answer that was meant.

Tool calls are told apart by index, id and name together; stop reasons follow the content; ids that
are missing are made; thinking is shown by whatever name it comes. The writing is OpenAI-like, with
the liberties that clouds take (Gemini's missing indexes, Ollama's index 0, `finish_reason: stop`
after a call, arguments as an object, null for nothing). `PROOFS=full` tries 10,000.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.translation.answers import Unreadable, hear
from tests.translation.conversations import WRITERS, Turn, write
from tests.translation.lab import GATHERED, Lab
from tests.vendors.strict.anthropic import SIGNATURE
from tests.vendors.strict.vendor import Answer, AnthropicWire
from tests.vendors.strict.vendor import event as wire_event

VENDORS = ("openai", "deepseek", "moonshot", GATHERED)
FULL = os.environ.get("PROOFS") == "full"
EXAMPLES = (10_000 if FULL else 900) // (len(VENDORS) * len(WRITERS)) + 1
FINISHES = {
    "chat/completions": ("tool_calls", "stop"),
    "messages": ("tool_use", "end_turn"),
    "responses": ("completed", "completed"),
}


class Meant(NamedTuple):
    """One answer, and how its vendor writes it."""

    calls: list[tuple[str, str, dict[str, Any]]]
    """Id, name, arguments."""
    text: str = ""
    reasoning: str = ""
    streamed: bool = False
    index: str = "own"
    """`own`, `missing` or `zero`."""
    ids: str = "first"
    """`first` (with the first piece), `every` or `none`."""
    names: str = "first"
    """`first` or `every`."""
    finish: str = "right"
    """`right`, `stop`, `calls` or `missing`."""
    pieces: int = 5
    """Characters of arguments in a piece; 0: a call in one piece."""
    interleaved: bool = False
    as_object: bool = False
    """Whether arguments come as an object; whole answers only."""
    text_last: bool = False
    nulls: bool = False
    """Whether what is not there is said to be null."""
    told: str = "reasoning_content"
    empty: str = "{}"
    """How no arguments are written: `{}`, nothing or null."""
    refusal: str = ""
    """Said in place of everything else."""


_words = st.sampled_from(["Hello 世界🌏!", 'It is "21" °C.\n', "x" * 100, "a", "é", "👨‍👩‍👧"])
_values = st.one_of(_words, st.integers(-9, 9), st.none(), st.lists(_words, max_size=2))
_one = st.tuples(
    st.sampled_from(["call_1", "call_2", "functions.look_up:0", "调用", "x" * 60]),
    st.sampled_from(["look_up", "get_time"]),
    st.dictionaries(st.sampled_from(["of", "城市"]), _values, max_size=2),
)
_meant = st.builds(
    Meant,
    st.lists(_one, max_size=3, unique_by=lambda call: call[0]),
    st.one_of(st.just(""), _words),
    st.one_of(st.just(""), _words),
    st.booleans(),
    st.sampled_from(["own", "missing", "zero"]),
    st.sampled_from(["first", "every", "none"]),
    st.sampled_from(["first", "every"]),
    st.sampled_from(["right", "stop", "calls", "missing"]),
    st.sampled_from([0, 1, 5]),
    st.booleans(), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from(["reasoning_content", "reasoning"]),
    st.sampled_from(["{}", "", "null"]),
    st.one_of(st.just(""), st.just(""), st.just(""), _words),
)  # fmt: skip


def unambiguous(meant: Meant) -> Meant:
    """The same, but for writings that nobody could tell apart."""
    if meant.index != "own":
        meant = meant._replace(interleaved=False)
        if meant.ids == "none" and len({name for _, name, _ in meant.calls}) < len(meant.calls):
            # Neither a number nor an id nor a name: only whole calls are calls of their own.
            meant = meant._replace(pieces=0, empty="{}")
        if meant.ids == "none":
            # The same call twice may be one that is said twice.
            different = {f"{name} {said}": (id, name, said) for id, name, said in meant.calls}
            meant = meant._replace(calls=list(different.values()))
        if meant.ids == "none" and meant.index == "zero":
            meant = meant._replace(names="first")
        if meant.names == "every" and meant.ids != "every":
            meant = meant._replace(names="first")
    if meant.refusal:
        return meant._replace(calls=[], text="", reasoning="", finish="right")
    if not meant.calls:
        meant = meant._replace(text=meant.text or "Hello")
    return meant


# --- how it is written ----------------------------------------------------------------------


def _arguments(meant: Meant, arguments: dict[str, Any]) -> str | None:
    if not arguments:
        return None if meant.empty == "null" else meant.empty
    return json.dumps(arguments, ensure_ascii=False)


def _finish(meant: Meant) -> str | None:
    right = "tool_calls" if meant.calls else "stop"
    return {"right": right, "stop": "stop", "calls": "tool_calls", "missing": None}[meant.finish]


def whole(meant: Meant) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": meant.text or None}
    if meant.nulls:
        message |= {"refusal": None, "annotations": None, "tool_calls": None, "audio": None}
    if meant.refusal:
        message["refusal"] = meant.refusal
    if meant.reasoning:
        message[meant.told] = meant.reasoning
    if meant.calls or meant.finish == "calls":
        message["tool_calls"] = [_whole_call(meant, *call) for call in meant.calls]
    choice = {"index": 0, "message": message, "finish_reason": _finish(meant) or "stop"}
    return {"id": "r1", "object": "chat.completion", "created": 1_760_000_000, "model": "m",
            "choices": [choice]}  # fmt: skip


def _whole_call(meant: Meant, id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    said: Any = arguments if meant.as_object else _arguments(meant, arguments)
    made: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": said}}
    return made if meant.ids == "none" else {"id": id, **made}


def deltas(meant: Meant) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": None if meant.nulls else ""}
    for at in range(0, len(meant.reasoning), 4):
        yield {meant.told: meant.reasoning[at : at + 4]}
    for at in range(0, len(meant.refusal), 4):
        yield {"refusal": meant.refusal[at : at + 4]}
    text = [{"content": meant.text[at : at + 4]} for at in range(0, len(meant.text), 4)]
    calls = [list(_pieces(meant, at, *call)) for at, call in enumerate(meant.calls)]
    if not meant.text_last:
        yield from text
    if meant.interleaved:
        for number in range(max(map(len, calls), default=0)):
            for pieces in calls:
                if number < len(pieces):
                    yield {"tool_calls": [pieces[number]]}
    else:
        for pieces in calls:
            for piece in pieces:
                yield {"tool_calls": [piece]}
    if meant.text_last:
        yield from text


def _pieces(
    meant: Meant, at: int, id: str, name: str, arguments: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    said = _arguments(meant, arguments)
    cut = [said] if not meant.pieces or not said else [
        "", *(said[n : n + meant.pieces] for n in range(0, len(said), meant.pieces)),
    ]  # fmt: skip
    for number, piece in enumerate(cut):
        made: dict[str, Any] = {"function": {"arguments": piece}}
        if meant.index != "missing":
            made["index"] = at if meant.index == "own" else 0
        first = number == 0
        if meant.ids == "every" or (first and meant.ids == "first"):
            made |= {"id": id, "type": "function"}
        if meant.names == "every" or first:
            made["function"]["name"] = name
        elif meant.nulls:
            made["function"]["name"] = None
            made.setdefault("id", None)
        yield made


def stream(meant: Meant) -> Iterator[bytes]:
    head = {"id": "r1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    for delta in deltas(meant):
        yield _frame(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    if meant.finish != "missing":
        last = {"index": 0, "delta": {}, "finish_reason": _finish(meant)}
        yield _frame(head | {"choices": [last]})
    yield b"data: [DONE]\n\n"


def _frame(chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n"


# --- what must be heard ---------------------------------------------------------------------


def judge(lab: Lab, api: str, vendor: str, meant: Meant) -> str:
    """What went wrong; empty when all is well."""
    meant = unambiguous(meant)

    def alter(answer: Answer) -> Answer:
        if "event-stream" in dict(answer.headers)["content-type"]:
            return Answer(200, answer.headers, tuple(stream(meant)))
        return Answer(200, answer.headers, (json.dumps(whole(meant)).encode(),))

    lab.vendors[vendor].reset()
    lab.alter = alter
    body = write(api, [Turn("user", ("Go on.",))])
    try:
        more = {"stream": True} if meant.streamed else {}
        got = lab.ask(f"/v1/{api}", body | more | {"model": vendor})
    finally:
        lab.alter = None
    if got.faults:
        return f"a fault of our own: {got.faults[0]!r}"
    # An end that is not said may be an end or a break: then an honest error is as good.
    unsaid = meant.finish == "missing" and _written_as_stream(meant, vendor)
    if got.status != 200:
        broken = unsaid and got.record is not None and got.record.error == "upstream_interrupted"
        return "" if broken else f"HTTP {got.status}: {got.body[:200]!r}"
    try:
        heard = hear(api, got.body, meant.streamed)
    except Unreadable as error:
        return f"unreadable: {error}"
    if heard.error is not None:
        return "" if unsaid else f"an error: {heard.error}"
    if meant.refusal:
        told = heard.refusal or (heard.text if api == "messages" else "")
        return "" if told == meant.refusal else f"refusal: {heard}"
    calls = [(name, arguments or {}) for _, name, arguments in heard.calls]
    if calls != [(name, arguments) for _, name, arguments in meant.calls]:
        return f"calls: {calls}"
    if heard.text != meant.text:
        return f"text: {heard.text!r}"
    if heard.reasoning != meant.reasoning:
        return f"thinking: {heard.reasoning!r}"
    relayed = api == "chat/completions" and meant.finish == "calls"  # a word of no consequence
    if heard.finish != FINISHES[api][0 if meant.calls else 1] and not (relayed and not heard.calls):
        return f"it ends with {heard.finish}"
    return _ids(meant, [id for id, _, _ in heard.calls])


def _written_as_stream(meant: Meant, vendor: str) -> bool:
    return meant.streamed or vendor == GATHERED


def _ids(meant: Meant, ids: list[str]) -> str:
    if meant.ids != "none":
        wanted = [id for id, _, _ in meant.calls]
        return "" if ids == wanted else f"ids: {ids}"
    good = len(set(ids)) == len(ids) and all(isinstance(id, str) and id for id in ids)
    return "" if good else f"ids: {ids}"


_PARIS, _ROME = ("call_1", "look_up", {"of": "巴黎"}), ("call_2", "look_up", {"of": "Rome"})
KEPT = (
    Meant([_PARIS, _ROME], streamed=True, index="missing", pieces=0),  # Gemini's
    Meant([_PARIS, _ROME], streamed=True, index="zero", pieces=0),  # Ollama's
    Meant([_PARIS], finish="stop"),
    Meant([_PARIS], finish="stop", streamed=True),
    Meant([], "Hello", finish="calls"),
    Meant([], "Hello", finish="calls", streamed=True),
    Meant([_PARIS], as_object=True),
    Meant([_PARIS, _ROME], ids="none"),
    Meant([_PARIS, _ROME], ids="none", streamed=True),
    Meant([("call_1", "look_up", {})], empty="null", streamed=True),
    Meant([_PARIS, _ROME], "Text", streamed=True, interleaved=True, text_last=True),
    Meant([], "Hello", "Hm.", told="reasoning"),
    Meant([], "Hello", "Hm.", told="reasoning", streamed=True),
    Meant([_PARIS], "Hello", streamed=True, finish="missing"),
    Meant([], refusal="I cannot."),
    Meant([], refusal="I cannot.", streamed=True),
)


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("api", WRITERS)
def test_an_answer_is_given_as_it_was_meant(shared_lab: Lab, api: str, vendor: str) -> None:
    shared_lab.fresh()

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(_meant)
    def holds(meant: Meant) -> None:
        found = judge(shared_lab, api, vendor, meant)
        assert not found, f"{found}\n{unambiguous(meant)}"

    for kept in KEPT:
        holds = example(kept)(holds)
    holds()


# --- Anthropic's blocks ---------------------------------------------------------------------

_block = st.one_of(
    st.tuples(st.just("text"), _words),
    st.tuples(st.just("thinking"), _words),
    st.tuples(st.just("redacted_thinking"), st.just("RUVZ")),
    st.tuples(st.just("tool_use"), _one),
)


class Blocks(NamedTuple):
    """An answer of Anthropic's."""

    blocks: list[tuple[str, Any]]
    streamed: bool = False
    stop: str = "end_turn"
    pings: bool = False


_blocks = st.builds(
    Blocks,
    st.lists(_block, min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from(["end_turn", "max_tokens", "stop_sequence", "refusal", "pause_turn"]),
    st.booleans(),
)
STOPS = {
    "chat/completions": {
        "end_turn": "stop", "stop_sequence": "stop", "pause_turn": "stop", "max_tokens": "length",
        "refusal": "content_filter", "tool_use": "tool_calls",
    },
    "responses": {"max_tokens": "incomplete", "refusal": "incomplete"},
}  # fmt: skip


def _stop(answer: Blocks) -> str:
    calls = any(kind == "tool_use" for kind, _ in answer.blocks)
    return "tool_use" if calls and answer.stop == "end_turn" else answer.stop


def _made(answer: Blocks) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for number, (kind, said) in enumerate(answer.blocks):
        match kind:
            case "text":
                made.append({"type": kind, "text": said})
            case "thinking":
                made.append({"type": kind, "thinking": said, "signature": SIGNATURE})
            case "redacted_thinking":
                made.append({"type": kind, "data": said})
            case _:
                _, name, arguments = said
                made.append(
                    {"type": kind, "id": f"toolu_{number}", "name": name, "input": arguments}
                )
    return made


def _anthropic(answer: Blocks) -> Answer:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-haiku-4-5",
        "content": _made(answer), "stop_reason": _stop(answer),
        "stop_sequence": "END" if answer.stop == "stop_sequence" else None,
        "usage": {"input_tokens": 5, "output_tokens": 7},
    }  # fmt: skip
    if not answer.streamed:
        return Answer(200, (("content-type", "application/json"),), (json.dumps(message).encode(),))
    wire = AnthropicWire()
    empty = message | {"content": [], "stop_reason": None, "stop_sequence": None}
    frames = [wire_event("message_start", message=empty)]
    for index, block in enumerate(_made(answer)):
        if answer.pings:
            frames.append(wire_event("ping"))
        frames += wire.block_events(index, block)
    stop = {name: message[name] for name in ("stop_reason", "stop_sequence")}
    frames.append(wire_event("message_delta", delta=stop, usage={"output_tokens": 7}))
    frames.append(wire_event("message_stop"))
    return Answer(200, (("content-type", "text/event-stream"),), tuple(frames))


def judge_blocks(lab: Lab, api: str, answer: Blocks) -> str:
    """What went wrong; empty when all is well."""
    lab.vendors["anthropic"].reset()
    lab.alter = lambda _: _anthropic(answer)
    body = write(api, [Turn("user", ("Go on.",))])
    try:
        more = {"stream": True} if answer.streamed else {}
        got = lab.ask(f"/v1/{api}", body | more | {"model": "anthropic"})
    finally:
        lab.alter = None
    if got.faults or got.status != 200:
        return f"HTTP {got.status}: {got.faults or got.body[:200]!r}"
    try:
        heard = hear(api, got.body, answer.streamed)
    except Unreadable as error:
        return f"unreadable: {error}"
    text = "".join(said for kind, said in answer.blocks if kind == "text")
    thought = "".join(said for kind, said in answer.blocks if kind == "thinking")
    calls = [said[1:] for kind, said in answer.blocks if kind == "tool_use"]
    if (heard.text, heard.reasoning) != (text, thought):
        return f"text {heard.text!r}, thinking {heard.reasoning!r}"
    if [(name, arguments) for _, name, arguments in heard.calls] != calls:
        return f"calls: {heard.calls}"
    stop = _stop(answer)
    wanted = stop if api == "messages" else STOPS[api].get(stop, "completed")
    if wanted == "stop" and calls:
        wanted = "tool_calls"  # the content decides
    return "" if heard.finish == wanted else f"ends with {heard.finish}, not {wanted}"


@pytest.mark.parametrize("api", WRITERS)
def test_anthropics_blocks_are_given_as_they_were_meant(shared_lab: Lab, api: str) -> None:
    shared_lab.fresh()

    @settings(
        max_examples=EXAMPLES, derandomize=True, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(_blocks)
    def holds(answer: Blocks) -> None:
        found = judge_blocks(shared_lab, api, answer)
        assert not found, f"{found}\n{answer}"

    holds()
