"""Screening writer: a stream's events wait here until no word that is blocked can be in them."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple, Protocol

import msgspec

from tokenschain.core.call import Call, ResponseWriter
from tokenschain.core.formats.openai_chat import wire_usage
from tokenschain.core.formats.screened_texts import (
    AnswerPart,
    AnswerPiece,
    PieceKind,
    TextId,
    json_rewritten,
    last_chunks,
)
from tokenschain.core.moderation.stream import (
    Judge,
    OutputRules,
    TextScreener,
    edited,
    screen_whole,
)
from tokenschain.core.moderation.verdict import Action, RiskFinding
from tokenschain.core.pricing.catalog import Usage
from tokenschain.gateway.moderation.forwarding_writer import ForwardingWriter

HELD_CHARACTERS_MAX = 1_000_000
"""Of an answer that waits here: a longer one is blocked, as nothing can be said of it."""
KEPT_CHARACTERS_MAX = 100_000
"""Of a text that flows, for reviewers: what is found behind them is kept without its text."""
TEXTS_MAX = 4_096
"""Texts of one answer: choices, calls, and what else is apart in it."""


class _Text(Protocol):
    """One text of the answer; see `TextScreener`."""

    blocked: RiskFinding | None
    cleared: int
    findings: list[RiskFinding]

    def feed(self, text: str) -> None: ...

    def flush(self) -> None: ...

    def end(self) -> None: ...


class _Gathered:
    """A text that is looked at when all of it is there, as JSON where it is some."""

    __slots__ = ("_pieces", "_rules", "_size", "blocked", "cleared", "findings", "instead")

    def __init__(self, rules: OutputRules) -> None:
        self._rules = rules
        self._pieces: list[str] = []
        self._size = 0
        self.blocked: RiskFinding | None = None
        self.cleared = 0
        self.findings: list[RiskFinding] = []
        self.instead: str | None = None
        """What is written in place of all of it."""

    def feed(self, text: str) -> None:
        self._pieces.append(text)
        self._size += len(text)

    def flush(self) -> None:
        """It ends with its choice only."""

    def end(self) -> None:
        if self.cleared == self._size:
            return
        self.cleared = self._size
        text = "".join(self._pieces)
        made = json_rewritten(text, self._edit)
        if made is None:
            made = self._edit(text)
        if made != text:
            self.instead = made

    def _edit(self, text: str) -> str:
        made, found, blocked = screen_whole(text, self._rules)
        self.findings += found
        self.blocked = self.blocked or blocked
        return made


class _Mark(NamedTuple):
    """Up to where a text must be cleared before an event may leave."""

    screened: _Text
    start: int
    end: int
    piece: AnswerPiece


class _Held(NamedTuple):
    data: bytes
    part: AnswerPart
    marks: list[_Mark]

    @property
    def size(self) -> int:
        """In characters."""
        return sum(mark.end - mark.start for mark in self.marks)


class ScreeningWriter(ForwardingWriter[ResponseWriter]):
    """See `core.call.ResponseWriter`; passes on what may leave."""

    __slots__ = (
        "_ended", "_flowing", "_gathers", "_held_characters", "_keeps", "_last", "_lengths",
        "_live", "_log", "_open", "_queue", "_shadow", "_shadow_texts", "_texts", "_waits", "over",
        "released_bytes",
    )  # fmt: skip

    def __init__(
        self,
        inner: ResponseWriter,
        live: OutputRules | None,
        shadow: OutputRules | None,
        *,
        gathers: bool,
        keeps: bool = False,
    ) -> None:
        """
        Args:
            live: what is held back by; None: nothing is, and `shadow` only watches.
            gathers: whether the answer's text is JSON, and leaves as a whole.
            keeps: whether reviewers may be shown the texts.
        """
        super().__init__(inner)
        self._live, self._shadow, self._gathers = live, shadow, gathers
        self._waits = live is not None and live.held == "full"
        """Whether nothing leaves before the end."""
        self._keeps = keeps and live is not None
        self._queue: deque[_Held] = deque()
        self._held_characters = 0
        self._texts: dict[TextId, _Text] = {}
        self._shadow_texts: dict[TextId, TextScreener] = {}
        self._lengths: dict[TextId, int] = {}
        self._log: dict[TextId, list[str]] = {}
        self._flowing: dict[int, TextId] = {}
        """The text that flows last, by choice."""
        self._open: dict[int, None] = {}
        """Choices that have begun and not ended."""
        self._ended: set[int] = set()
        self._last = b""
        self.released_bytes = 0
        """Of text."""
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the answer is blocked."""

    # --- see `core.call.ResponseWriter` -------------------------------------------------------

    def write(self, data: bytes) -> None:
        self._write_events(data)

    def native(self, data: bytes, chunks: list[bytes]) -> None:
        raise AssertionError("an answer that is screened is not relayed")

    def event(self, data: bytes) -> None:
        if self.over.done():
            return
        part = AnswerPart(data)
        marks = []
        for piece in part.pieces:
            marks.append(self._take(piece))
        for index in part.ends:
            self._end_choice(index)
        self._last = data
        held = _Held(data, part, marks)
        self._queue.append(held)
        self._held_characters += held.size
        if self._release():
            self.block()

    # --- texts -------------------------------------------------------------------------------

    def _take(self, piece: AnswerPiece) -> _Mark:
        """Screen a piece of a text."""
        choice = piece.of[0]
        if choice not in self._ended:
            self._open[choice] = None
        of = piece.of
        if piece.kind is PieceKind.COMPLETE:
            of = (*of, len(self._texts))
        elif piece.kind is PieceKind.FLOWING:
            before = self._flowing.get(choice)
            if before is not None and before != of:
                self._texts[before].flush()
            self._flowing[choice] = of
        text = self._texts.get(of)
        if text is None:
            if len(self._texts) >= TEXTS_MAX:
                raise ValueError("an answer of too many texts")
            text = self._texts[of] = self._new_text(piece)
            self._lengths[of] = 0
        start = self._lengths[of]
        self._lengths[of] = start + len(piece.text)
        text.feed(piece.text)
        if piece.kind is PieceKind.COMPLETE:
            text.end()
        self._watch(of, piece)
        return _Mark(text, start, start + len(piece.text), piece)

    def _new_text(self, piece: AnswerPiece) -> _Text:
        if self._live is None:
            return _Unscreened()
        if piece.kind is PieceKind.GATHERED or (self._gathers and piece.of[-1] == "content"):
            return _Gathered(self._live)
        return TextScreener(self._live)

    def _watch(self, of: TextId, piece: AnswerPiece) -> None:
        """What shadow policies and engines see of it."""
        if self._shadow is not None:
            watching = self._shadow_texts.get(of)
            if watching is None:
                watching = self._shadow_texts[of] = TextScreener(self._shadow)
            watching.feed(piece.text)
        if self._waits or (self._keeps and self._lengths[of] <= KEPT_CHARACTERS_MAX):
            self._log.setdefault(of, []).append(piece.text)

    def texts(self) -> list[str]:
        """The answer's texts, where all of it is held."""
        return ["".join(pieces) for pieces in self._log.values()]

    def _end_choice(self, index: int) -> None:
        self._open.pop(index, None)
        self._ended.add(index)
        for of, text in self._texts.items():
            if of[0] == index:
                text.end()

    # --- what leaves -------------------------------------------------------------------------

    def _release(self) -> bool:
        """Pass on what may leave; whether the answer is blocked."""
        blocked = any(text.blocked is not None for text in self._texts.values())
        queue = self._queue
        while queue and not self._waits:
            held = queue[0]
            for mark in held.marks:
                screened = mark.screened
                hit = screened.blocked
                if hit is not None and isinstance(screened, _Gathered):
                    return True  # a part of it would be of no use, and its places are no text's
                if hit is not None and hit.span is not None:
                    if hit.span[0] >= mark.end:
                        continue  # nothing more follows that it could be the beginning of
                    if isinstance(screened, TextScreener) and hit.span[0] > mark.start:
                        screened.edits.append((hit.span[0], mark.end, ""))
                        self._pass(held)
                    return True
                if screened.cleared < mark.end:
                    return blocked
            queue.popleft()
            self._held_characters -= held.size
            self._pass(held)
        return blocked or self._held_characters > HELD_CHARACTERS_MAX

    def _pass(self, held: _Held) -> None:
        changed = False
        for screened, start, end, piece in held.marks:
            text = piece.text
            if isinstance(screened, _Gathered):
                if screened.instead is not None:
                    text = screened.instead if start == 0 else ""
            elif isinstance(screened, TextScreener) and screened.edits:
                edits = [one for one in screened.edits if one[1] > start and one[0] < end]
                if edits:
                    text = edited(text, edits, start)
            self.released_bytes += len(text.encode())
            if text != piece.text:
                piece.put(text)
                changed = True
        self._inner.event(held.part.written() if changed else held.data)

    def end(self) -> None:
        """The answer is over: what is still held may leave, if nothing is in it."""
        if self.over.done():
            return
        for text in self._texts.values():
            text.end()
        if any(text.blocked is not None for text in self._texts.values()):
            if not self._waits:
                self._release()
            self.block()
            return
        while self._queue:
            self._pass(self._queue.popleft())

    def block(self) -> None:
        """Nothing more leaves."""
        for held in self._queue:
            # The caller has not heard of these ends.
            self._ended.difference_update(held.part.ends)
            self._open.update(dict.fromkeys(held.part.ends))
        self._queue.clear()
        if not self.over.done():
            self.over.set_result(None)

    def close_blocked(self, usage: Usage | None, call: Call) -> None:
        """Say how a blocked answer ended."""
        said = None
        if usage is not None and (call.parsed.wants_usage or not self._inner.takes_raw):
            said = wire_usage(usage)
        choices = list(self._open) or ([] if self._ended else [0])
        for chunk in last_chunks(self._last, choices, said):
            self._inner.event(chunk)

    # --- what was found ----------------------------------------------------------------------

    def judged(self) -> list[tuple[RiskFinding, Action]]:
        """What was found, and what became of it."""
        if self._live is None:
            return []
        judge = self._live.judge
        return [(one, judge(one)) for text in self._texts.values() for one in text.findings]

    def found_in(self) -> list[tuple[str, list[RiskFinding], Judge]]:
        """The texts that something was found in, for reviewers."""
        if not self._keeps or self._live is None:
            return []
        judge = self._live.judge
        return [
            # Within JSON, a place is one in a string of it.
            ("".join(self._log[of]), [_without_place(one) for one in text.findings]
             if isinstance(text, _Gathered) else text.findings, judge)
            for of, text in self._texts.items()
            if text.findings and of in self._log
        ]  # fmt: skip

    def judged_in_shadow(self) -> list[tuple[RiskFinding, Action]]:
        """What shadow policies would have found."""
        if self._shadow is None:
            return []
        found = []
        for text in self._shadow_texts.values():
            text.end()
            found += [(one, self._shadow.judge(one)) for one in text.findings]
        return found


def _without_place(one: RiskFinding) -> RiskFinding:
    return msgspec.structs.replace(one, span=None)


class _Unscreened:
    """A text that leaves as it comes."""

    __slots__ = ("blocked", "cleared", "findings")

    def __init__(self) -> None:
        self.blocked: RiskFinding | None = None
        self.cleared = 0
        self.findings: list[RiskFinding] = []

    def feed(self, text: str) -> None:
        self.cleared += len(text)

    def flush(self) -> None: ...

    def end(self) -> None: ...
