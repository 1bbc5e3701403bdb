"""Tool calls by identity: index, id and name decide together which call a piece belongs to.

Upstreams number streamed calls in many ways: properly, all with 0 (Ollama), not at all (Gemini);
they leave ids out, give another one with each piece, repeat the name or the whole call, and write
arguments as an object. Here each call gets a number and an id of its own, once, for streams and
for whole answers alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
CALLS_MAX = 1_024
"""Of one answer; what comes beyond is left out."""
_STRUCTURE = re.compile(r'["{}\[\]]|\\.|\\\Z', re.DOTALL)
_SCALAR_CHARS_MAX = 1_024
"""Of arguments that are neither an object nor a list."""
_NAMED = frozenset({"index", "id", "type", "function", "custom"})


class _Piece(NamedTuple):
    """One entry of `tool_calls`, as far as it could be read."""

    place: int | None
    """What it says its index is."""
    id: str
    name: str
    arguments: str
    custom: bool
    more: dict[str, Any]
    """Fields that are not known here, as Gemini's `extra_content`."""

    @property
    def empty(self) -> bool:
        return not (self.id or self.name or self.arguments or self.more)


class _ToolCall:
    """One call, as far as it has come."""

    __slots__ = ("_carried", "_complete", "_depth", "_inside", "_nested", "_pieces", "_spoilt",
                 "announced", "custom", "given_id", "given_index", "held", "id", "more", "name",
                 "number", "size")  # fmt: skip

    def __init__(self, number: int, piece: _Piece) -> None:
        self.number = number
        self.given_index = piece.place
        self.given_id = piece.id
        self.id = ""
        self.name = piece.name
        self.custom = piece.custom
        self._pieces: list[str] = []
        self.size = 0
        """Characters of its arguments."""
        self._depth, self._inside, self._nested, self._carried = 0, False, False, ""
        self._spoilt = False
        self._complete: bool | None = False
        """Whether the arguments are a JSON value; None while that is to be looked at."""
        self.announced = False
        self.held = False
        """Whether it is given out in one piece at the end: a freeform tool's call, the text of
        which stands inside of JSON."""
        self.more: dict[str, Any] = {}

    @property
    def arguments(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def says(self, arguments: str) -> bool:
        """Whether these are its arguments so far."""
        return len(arguments) == self.size and arguments == self.arguments

    def add(self, arguments: str) -> None:
        """Take more of its arguments. Each piece is looked at once: some upstreams name the call
        with every piece, and each time it matters whether the call was complete before."""
        if not arguments:
            return
        self._pieces.append(arguments)
        self.size += len(arguments)
        if self._spoilt or arguments.isspace():
            return
        if self._nested and not self._depth:
            # A value was over, and something comes after it: that is none, whatever follows.
            self._spoilt, self._complete = True, False
            return
        text = self._carried + arguments
        self._carried = ""
        for found in _STRUCTURE.finditer(text):
            sign = found[0]
            if sign == '"':
                self._inside = not self._inside
            elif sign == "\\":
                self._carried = sign
            elif not self._inside and len(sign) == 1:
                self._nested = True
                self._depth += 1 if sign in "{[" else -1
        self._complete = None if not self._depth and not self._inside else False

    @property
    def complete(self) -> bool:
        """Whether its arguments are a JSON value."""
        if self._complete is None:
            short = self._nested or self.size <= _SCALAR_CHARS_MAX
            self._complete = short and is_json(self.arguments)
        return self._complete


class ToolCalls:
    """The tool calls of one choice of one answer."""

    __slots__ = ("_by_id", "_by_index", "_calls", "_freeform", "_names", "_seed")

    def __init__(
        self,
        seed: str,
        freeform: frozenset[str] = frozenset(),
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """
        Args:
            seed: makes ids unique that are made here; the call's own id.
            freeform: names of the caller's freeform tools that the upstream knows as functions.
            names: the caller's names of tools that the upstream knows by others.
        """
        self._names = names
        self._seed = "".join(c for c in seed if c.isascii() and c.isalnum())[-20:]
        self._freeform = freeform
        self._calls: list[_ToolCall] = []
        self._by_id: dict[str, _ToolCall] = {}
        self._by_index: dict[int, _ToolCall] = {}

    def __bool__(self) -> bool:
        return bool(self._calls)

    @property
    def complete(self) -> bool:
        """Whether no call is cut off within its arguments."""
        return all(
            call.custom or call.complete or not call.arguments.strip() for call in self._calls
        )

    def take(self, given: Any) -> list[dict[str, Any]]:
        """The entries of one delta, canonical: numbered, with an id and a name at first."""
        pieces = self._pieces_of(given)
        if len(pieces) > 1 and len({piece.place for piece in pieces}) == 1:
            # One number for all says nothing.
            pieces = [piece._replace(place=None) for piece in pieces]
        made: list[dict[str, Any]] = []
        for at, piece in enumerate(pieces):
            call = self._of(piece, len(pieces) - at)
            if call is not None:
                self._add(call, piece, made)
        return made

    def whole(self, given: Any) -> list[dict[str, Any]]:
        """The calls of a whole answer: each entry is one, but for one that is repeated."""
        made: list[dict[str, Any]] = []
        seen: set[tuple[str, str, str]] = set()
        for piece in self._pieces_of(given):
            same = (piece.id, piece.name, piece.arguments)
            if not piece.name or (piece.id and same in seen) or len(made) >= CALLS_MAX:
                continue
            seen.add(same)
            call = self._new(piece)
            call.add(piece.arguments)
            entry = self._entry(call, self._said(call))
            entry.pop("index")
            made.append(entry | piece.more)
        return made

    def _pieces_of(self, given: Any) -> list[_Piece]:
        pieces, names = _pieces_of(given), self._names
        if names:
            return [piece._replace(name=names.get(piece.name, piece.name)) for piece in pieces]
        return pieces

    def finish(self) -> list[dict[str, Any]]:
        """The answer is over: what was held, and `{}` for calls without arguments."""
        made = []
        for call in self._calls:
            if not call.announced:
                call.announced = True
                made.append(self._entry(call, self._said(call)) | call.more)
            elif not call.custom and not call.arguments.strip():
                call.add("{}")
                made.append(_more(call, "{}"))
        return made

    def _of(self, piece: _Piece, from_end: int) -> _ToolCall | None:
        """The call that a piece belongs to, a new one, or None for one that says nothing new."""
        if piece.empty:
            return None
        known = self._known(piece, from_end)
        if known is None:
            return self._new(piece) if len(self._calls) < CALLS_MAX else None
        if piece.name and known.says(piece.arguments) and known.complete:
            return None  # the whole call once more
        return known

    def _known(self, piece: _Piece, from_end: int) -> _ToolCall | None:
        last = self._calls[-1] if self._calls else None
        if piece.id:
            found = self._by_id.get(piece.id)
            if found is not None:
                return found if _continues_id(found, piece) else None
            if piece.place is None:
                return last if not piece.name else None
            found = self._by_index.get(piece.place)
            if found is None or not piece.name:
                return found  # some give each piece an id of its own
            waits = not found.given_id and not found.complete
            return found if waits and found.name in ("", piece.name) else None
        if piece.place is not None:
            found = self._by_index.get(piece.place)
            if found is not None:
                return found if _continues(found, piece) else None
            unnumbered = last is not None and last.given_index is None and not piece.name
            return last if unnumbered else None
        if piece.name:
            return last if last is not None and _continues(last, piece) else None
        return self._calls[-from_end] if from_end <= len(self._calls) else last

    def _new(self, piece: _Piece) -> _ToolCall:
        call = _ToolCall(len(self._calls), piece)
        self._calls.append(call)
        call.id = piece.id if piece.id not in self._by_id else ""
        call.id = call.id or f"call_{self._seed}_{call.number}"
        self._by_id[call.id] = call
        if piece.place is not None:
            self._by_index[piece.place] = call
        call.held = not call.custom and call.name in self._freeform
        return call

    def _add(self, call: _ToolCall, piece: _Piece, made: list[dict[str, Any]]) -> None:
        if piece.id and not call.given_id:
            call.given_id = piece.id
            if not call.announced and piece.id not in self._by_id:
                call.id = piece.id
            self._by_id.setdefault(piece.id, call)
        if piece.name and not call.name:
            call.name = piece.name
            call.held = not call.custom and call.name in self._freeform
        call.add(piece.arguments)
        call.more |= piece.more
        if call.announced:
            if piece.arguments or piece.more:
                made.append(_more(call, piece.arguments) | piece.more)
        elif call.name and not call.held:
            call.announced = True
            made.append(self._entry(call, call.arguments) | call.more)

    def _said(self, call: _ToolCall) -> str:
        """All that a call was given, as its kind writes it."""
        text = call.arguments
        if call.held:
            call.custom = True
            return _input_of(text)
        return text if call.custom else text.strip() or "{}"

    @staticmethod
    def _entry(call: _ToolCall, said: str) -> dict[str, Any]:
        head = {"index": call.number, "id": call.id}
        if call.custom:
            return {**head, "type": "custom", "custom": {"name": call.name, "input": said}}
        return {**head, "type": "function", "function": {"name": call.name, "arguments": said}}


def _more(call: _ToolCall, said: str) -> dict[str, Any]:
    if call.custom:
        return {"index": call.number, "custom": {"input": said}}
    return {"index": call.number, "function": {"arguments": said}}


def _continues(call: _ToolCall, piece: _Piece) -> bool:
    """Whether a piece without an id of its own goes on with a call of its number."""
    if not piece.name or not call.name:
        return True
    if piece.name != call.name:
        return False
    # The name again: with each piece, or a second call of the same function.
    return not call.complete or not piece.arguments or call.says(piece.arguments)


def _continues_id(call: _ToolCall, piece: _Piece) -> bool:
    """Whether a piece with a call's id belongs to it: some give all calls the same."""
    if not piece.name:
        return True
    if call.name and piece.name != call.name:
        return False
    if piece.place is not None and call.given_index is not None:
        return piece.place == call.given_index
    return not call.complete or not piece.arguments or call.says(piece.arguments)


def _pieces_of(given: Any) -> list[_Piece]:
    entries = given if isinstance(given, list) else [given]
    return [_piece_of(entry) for entry in entries if isinstance(entry, dict)]


def _piece_of(entry: dict[str, Any]) -> _Piece:
    index = entry.get("index")
    if isinstance(index, str) and index.isdecimal():
        index = int(index)
    function = entry.get("function")
    custom = entry.get("custom")
    own = isinstance(custom, dict) and not isinstance(function, dict)
    said = custom if own else function
    if not isinstance(said, dict):
        said = {}
    name = said.get("name")
    return _Piece(
        index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else None,
        _word(entry.get("id")),
        name if isinstance(name, str) else "",
        text_of(said.get("input" if own else "arguments")),
        own,
        {k: v for k, v in entry.items() if k not in _NAMED and v is not None},
    )


def _word(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def text_of(arguments: Any) -> str:
    """Arguments as the text they should be: objects are written as JSON."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else _encode(arguments).decode()


def is_json(text: str) -> bool:
    """Whether a text is a whole JSON value."""
    if not text or text[-1] not in '}]"le0123456789 \n':
        return False
    try:
        _decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return False
    return True


def _input_of(arguments: str) -> str:
    """The text that a freeform tool was called with, out of the function's arguments."""
    try:
        found = _decode(arguments)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return arguments
    if isinstance(found, dict) and isinstance(found.get("input"), str):
        return str(found["input"])
    return found if isinstance(found, str) else arguments
