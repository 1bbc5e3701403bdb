"""Changes to an upstream's answer, chosen by a seed: what clouds, proxies and bugs do to it."""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.vendors.strict.vendor import Answer

Path = tuple[Any, ...]
_FORGIVEN = frozenset(
    {
        "usage", "Usage", "created", "Created", "model", "object", "request_id", "RequestId",
        "stop_sequence", "role", "Role",
    }
)  # fmt: skip
"""An answer is an answer without these, and with nonsense in them."""


class Mutation(NamedTuple):
    """A changed answer."""

    name: str
    answer: Answer
    harmless: bool
    """All that was said is still there: it must arrive."""
    counts: bool
    """What it cost is still said as it was."""
    cut: bool = False
    """It breaks off: it may not look complete."""


def mutated(answer: Answer, other_form: Answer, seed: int) -> Mutation:
    """One change, always the same for a seed.

    Args:
        other_form: the same answer as JSON where a stream was asked for, and the other way round.
    """
    rng = random.Random(seed)
    streamed = "event-stream" in dict(answer.headers)["content-type"]
    if rng.random() < 0.03:
        return Mutation("in the other form", other_form, True, False)
    if rng.random() < 0.35:
        named = _FRAMING if streamed else _BODIES
        name = rng.choice(sorted(named))
        return named[name](answer, rng)
    return _in_json(answer, rng, streamed)


# --- one field ------------------------------------------------------------------------------


def _in_json(answer: Answer, rng: random.Random, streamed: bool) -> Mutation:
    if not streamed:
        body = json.loads(answer.pieces[0])
        path, how, changed = change(body, rng)
        pieces: tuple[bytes, ...] = (_encode(changed),)
    else:
        at = rng.choice([n for n, piece in enumerate(answer.pieces) if b"{" in piece])
        head, _, data = answer.pieces[at].partition(b"data:")
        body = json.loads(data)
        path, how, changed = change(body, rng)
        frame = head + b"data: " + _encode(changed) + b"\n\n"
        pieces = (*answer.pieces[:at], frame, *answer.pieces[at + 1 :])
    where = ".".join(map(str, path))
    added = how == "extra" and "input" not in path  # to what a tool is given, it would be content
    return Mutation(
        f"{how} {where}", answer._replace(pieces=pieces), _forgiven(path) or added,
        added or not _counts(path),
    )  # fmt: skip


def _forgiven(path: Path) -> bool:
    keys = [key for key in path if isinstance(key, str)]
    if not keys:
        return False
    if keys[-1] in ("id", "Id"):
        return "tool_calls" not in keys and "ToolCalls" not in keys and "content" not in keys and (
            "content_block" not in keys
        )  # fmt: skip
    return bool(_FORGIVEN & set(keys)) and keys[0] != "output"


def _counts(path: Path) -> bool:
    """Whether a change there may change what is counted."""
    return path == () or any(
        key in ("usage", "Usage", "choices", "Choices", "message", "Response", "output", "type")
        for key in path
    )


def change(body: Any, rng: random.Random) -> tuple[Path, str, Any]:
    """One place of a JSON value changed: where, how, and the new value."""
    body = copy.deepcopy(body)
    paths = list(_paths(body, ()))
    path = rng.choice(paths)
    how = rng.choice(("drop", "null", "retype", "reorder", "extra"))
    *parents, last = path
    holder = body
    for key in parents:
        holder = holder[key]
    value = holder[last]
    if how == "reorder" and not (isinstance(value, list | dict) and len(value) > 1):
        how = "retype"
    if how == "extra" and not isinstance(value, dict):
        how = "null"
    match how:
        case "drop":
            del holder[last]
        case "null":
            holder[last] = None
        case "retype":
            holder[last] = rng.choice(_others(value))
        case "reorder":
            turned = value[::-1] if isinstance(value, list) else dict(reversed(value.items()))
            holder[last] = turned
        case "extra":
            value["x_new"] = {"some": ["thing", 1.5, None]}
    return tuple(path), how, body


def _paths(value: Any, path: Path) -> Any:
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if (
        isinstance(value, list)
    ) else ()  # fmt: skip
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _others(value: Any) -> list[Any]:
    match value:
        case bool():
            return ["true", 1, None, []]
        case int() | float():
            return [str(value), float(value) + 0.5, -1, 10**30, [], {}, "many", True]
        case str():
            return [7, 1.5, True, [], {}, [value], {"text": value}]
        case list():
            return [{}, "x", 7, [None], [[]], [7]]
        case dict():
            return [[], "x", 7, [value]]
    return [7, "x", [], {}]


def _encode(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


# --- the whole body -------------------------------------------------------------------------

Change = Callable[[Answer, random.Random], Mutation]


def _typed(answer: Answer, content_type: str) -> Answer:
    return answer._replace(headers=(("content-type", content_type),))


def _whole_cut(answer: Answer, rng: random.Random) -> Mutation:
    body = answer.pieces[0]
    cut = body[: rng.randrange(len(body))]
    return Mutation("cut", answer._replace(pieces=(cut,)), False, False, True)


def _whole_pieces(answer: Answer, _: random.Random) -> Mutation:
    body = answer.pieces[0]
    return Mutation(
        "in single bytes", answer._replace(pieces=tuple(bytes([b]) for b in body)), True, True
    )


def _whole_page(answer: Answer, _: random.Random) -> Mutation:
    page = _typed(answer, "text/html")._replace(pieces=(b"<html><h1>502 Bad Gateway</h1></html>",))
    return Mutation("a page", page, False, False, True)


def _whole_gzip(answer: Answer, _: random.Random) -> Mutation:
    headers = (*answer.headers, ("content-encoding", "gzip"))
    packed = Answer(answer.status, headers, (gzip.compress(b"".join(answer.pieces)),))
    return Mutation("gzip", packed, True, True)


def _padded(answer: Answer, _: random.Random) -> Mutation:
    pieces = (b"\n\n  ", *answer.pieces, b"\n\n")
    return Mutation("blank lines around", answer._replace(pieces=pieces), True, True)


def _bom(answer: Answer, _: random.Random) -> Mutation:
    return Mutation("BOM", answer._replace(pieces=(b"\xef\xbb\xbf", *answer.pieces)), False, False)


def _mislabelled(answer: Answer, rng: random.Random) -> Mutation:
    kind = rng.choice(("text/plain", "application/octet-stream", "application/json; charset=utf8"))
    return Mutation(f"labelled {kind}", _typed(answer, kind), True, True)


_BODIES: dict[str, Change] = {
    "cut": _whole_cut,
    "pieces": _whole_pieces,
    "page": _whole_page,
    "gzip": _whole_gzip,
    "padded": _padded,
    "bom": _bom,
    "label": _mislabelled,
    "nothing": lambda a, _: Mutation("nothing", a._replace(pieces=()), False, False, True),
    "empty object": lambda a, _: Mutation("{}", a._replace(pieces=(b"{}",)), False, False, True),
    "array": lambda a, _: Mutation("[]", a._replace(pieces=(b"[]",)), False, False, True),
    "invalid utf-8": lambda a, _: Mutation(
        "invalid UTF-8", a._replace(pieces=(a.pieces[0][:-2] + b"\xff" + a.pieces[0][-2:],)),
        False, False,
    ),
}  # fmt: skip


# --- frames ---------------------------------------------------------------------------------


def _finish_at(pieces: tuple[bytes, ...]) -> int:
    """The first frame that says that the answer is complete."""
    marks = (b'"stop"', b'"tool_calls"}', b'"finish_reason": "tool_calls"', b'"end_turn"',
             b'"tool_use", "stop_sequence"', b'"FinishReason": "tool_calls"')  # fmt: skip
    for at, piece in enumerate(pieces):
        if any(mark in piece for mark in marks):
            return at
    return len(pieces)


def _frames_cut(answer: Answer, rng: random.Random) -> Mutation:
    body = b"".join(answer.pieces)
    kept = b"".join(answer.pieces[: _finish_at(answer.pieces)])
    at = rng.randrange(1, len(body))
    return Mutation(
        f"cut at {at}", answer._replace(pieces=(body[:at],)), False, False, at <= len(kept)
    )


def _frames_dropped(answer: Answer, rng: random.Random) -> Mutation:
    at = rng.randrange(len(answer.pieces))
    pieces = answer.pieces[:at] + answer.pieces[at + 1 :]
    ends = answer.pieces[at] == b"data: [DONE]\n\n"
    return Mutation(f"frame {at} dropped", answer._replace(pieces=pieces), ends, ends)


def _frames_swapped(answer: Answer, rng: random.Random) -> Mutation:
    pieces = list(answer.pieces)
    at = rng.randrange(len(pieces) - 1)
    pieces[at], pieces[at + 1] = pieces[at + 1], pieces[at]
    return Mutation(f"frame {at} swapped", answer._replace(pieces=tuple(pieces)), False, False)


def _frames_doubled(answer: Answer, rng: random.Random) -> Mutation:
    at = rng.randrange(len(answer.pieces))
    pieces = (*answer.pieces[:at], answer.pieces[at], *answer.pieces[at:])
    return Mutation(f"frame {at} doubled", answer._replace(pieces=pieces), False, False)


def _put(name: str, frame: bytes, harmless: bool) -> Change:
    def put(answer: Answer, rng: random.Random) -> Mutation:
        at = rng.randrange(len(answer.pieces))
        pieces = (*answer.pieces[:at], frame, *answer.pieces[at:])
        return Mutation(f"{name} at {at}", answer._replace(pieces=pieces), harmless, harmless)

    return put


def _frames_bytes(answer: Answer, rng: random.Random) -> Mutation:
    body = b"".join(answer.pieces)
    size = rng.choice((1, 2, 5, 1_000_000))
    pieces = tuple(body[at : at + size] for at in range(0, len(body), size))
    return Mutation(f"in pieces of {size}", answer._replace(pieces=pieces), True, True)


def _frames_lines(answer: Answer, _: random.Random) -> Mutation:
    pieces = tuple(piece.replace(b"\n", b"\r\n") for piece in answer.pieces)
    return Mutation("CRLF", answer._replace(pieces=pieces), True, True)


def _frames_tight(answer: Answer, _: random.Random) -> Mutation:
    pieces = tuple(piece.replace(b"data: ", b"data:") for piece in answer.pieces)
    return Mutation("no space", answer._replace(pieces=pieces), True, True)


def _frames_end(answer: Answer, _: random.Random) -> Mutation:
    """The last line feeds are missing."""
    pieces = (*answer.pieces[:-1], answer.pieces[-1].rstrip(b"\n"))
    return Mutation("no line feed at the end", answer._replace(pieces=pieces), True, True)


_FRAMING: dict[str, Change] = {
    "cut": _frames_cut,
    "dropped": _frames_dropped,
    "swapped": _frames_swapped,
    "doubled": _frames_doubled,
    "empty data": _put("empty data", b"data:\n\n", True),
    "empty data with a space": _put("empty data", b"data: \n\n", True),
    "comment": _put("comment", b": keep-alive\n\n", True),
    "retry": _put("retry", b"retry: 3000\n\n", True),
    "error": _put("error", b'data: {"error": {"message": "boom", "code": "x"}}\n\n', False),
    "code": _put("code", b'data: {"code": "Boom", "message": "boom"}\n\n', False),
    "nonsense": _put("nonsense", b"data: nonsense\n\n", False),
    "half emoji": _put(
        "half emoji", b'data: {"choices": [{"index": 0, "delta": {"content": "\\ud83d"}}]}\n\n',
        False,
    ),
    "bytes": _frames_bytes,
    "lines": _frames_lines,
    "tight": _frames_tight,
    "end": _frames_end,
    "gzip": _whole_gzip,
    "label": _mislabelled,
    "nothing": lambda a, _: Mutation("nothing", a._replace(pieces=()), False, False, True),
    "page": _whole_page,
}  # fmt: skip
