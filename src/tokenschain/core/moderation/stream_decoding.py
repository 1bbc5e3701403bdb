"""Decoding of a text that comes in pieces: what may be some encoded word waits until it is decoded,
or is clearly none.

Ordinary text costs one look at the characters of each piece. Once something looks encoded, a
stretch of text is kept and decoded again every `LOOK_CHARACTERS`, with what stands before it, until
as much ordinary text follows as a word is long. So the work is linear in the length of the text.
"""

from __future__ import annotations

import binascii
import codecs
import re
import string
import sys
from collections.abc import Callable

from tokenschain.core.moderation.decoding import (
    APART,
    AROUND_CHARACTERS,
    DECODED_BYTES_MAX,
    HAN,
    HAN_WORD_MIN,
    WORD_MIN,
    decodings,
)
from tokenschain.core.moderation.packs import CONTEXT_CHARACTERS
from tokenschain.core.moderation.rules import Rules, decoded_finding
from tokenschain.core.moderation.verdict import RiskFinding

LOOK_CHARACTERS = 64
"""So many characters of a stretch are waited for until it is decoded again."""
BEFORE_CHARACTERS = 256
"""As much of what came before a stretch is decoded with it."""
LATIN = re.compile(r"[0-9A-Za-z%&\\<=+/_@$!-]")
"""Without one of these, and with nothing open, nothing is encoded in a piece."""
_CODED = string.ascii_letters + string.digits + "+/_-"
_RUN = re.compile(rf"[A-Za-z0-9+/_-]{{{HAN_WORD_MIN},}}")
_NEVER_FIRST = frozenset("ghijklmnopqrstuv+/_-")
"""No text in UTF-8 has base64 that begins so, nor hexadecimal."""
_DIGITS = "[0-9a-fA-F]"
_SIGN = re.compile(
    rf"(?:%(?:{_DIGITS}{{1,8}}|\Z))+"
    r"|&(?:#?[0-9A-Za-z]{1,31};?(?:#?[0-9A-Za-z]{1,31};?)?|#?\Z)"
    rf"|(?:\\(?:x{_DIGITS}{{0,2}}|u(?:\{{{_DIGITS}{{0,6}}\}}?|{_DIGITS}{{0,4}})|U{_DIGITS}{{0,8}}|\Z))+"
    rf"|(?<=[Uu])\+{_DIGITS}{{0,6}}(?:[\s,]?[Uu]\+{_DIGITS}{{0,6}})*(?:[\s,]?[Uu]?\Z)?"
    r"|(?:=(?:[0-9A-F]{1,2}|\r?\n|\r?\Z))+"
    r"|<(?=(!--.{0,200}?(?:-->|\Z)|[/!A-Za-z][^<>]{0,200}>?|\Z))"
    rf"|[{HAN}](?:(?:[A-Za-z]{{1,2}}|\d{{1,2}})(?:[{HAN}]|\Z))+"
    r"|(?:[A-Za-z](?=[0-9@$!])|[0-9@$!](?=[A-Za-z]))+"
)
"""What may be encoded, once or twice, or the beginning of it at the end of a text; see `decoding`.
It takes no character that another may begin with."""

_HINT = re.compile(rf"[%&\\<=+0-9@$!{HAN}]")
_OTHER = re.compile(rf"[%&\\<=+A-Za-z{HAN}]")
_PAIR = re.compile(rf"[%&\\<=+]|[0-9@$!{HAN}][A-Za-z]|[A-Za-z{HAN}][0-9@$!]")
"""Without one of each, no sign is there: cheaper to look for, one after the other."""


class StreamDecoding:
    """What may be encoded in one text."""

    __slots__ = (
        "_base", "_buffer", "_check_at", "_code_at", "_due", "_is_none", "_known", "_looked",
        "_rules", "_run", "_run_at", "_run_end", "_sign_at", "_sign_end", "behind", "is_open",
        "last", "safe",
    )  # fmt: skip

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self.last = ""
        """The last piece."""
        self._run = ""
        """Characters of base64 that the text ends with, unless they are clearly no code."""
        self._is_none = False
        """Whether they are clearly none."""
        self._run_at = self._check_at = 0
        self._code_at = self._run_end = -1
        """Where the last one began and ended that may be some."""
        self._buffer = ""
        """The stretch and what stands before it, from `_base` on; empty where none is open."""
        self._base = 0
        self._sign_at = self._sign_end = self._looked = self._due = 0
        """Places in it: of the last thing that looked encoded, and how far it was decoded."""
        self._known: set[tuple[str, int, int]] = set()
        self.is_open = False
        """Whether the next piece is to be fed whatever it holds."""
        self.safe = sys.maxsize
        """What stands behind this place may not leave."""
        self.behind = 0
        """Nor may so many normalized characters at the end."""

    def feed(
        self, text: str, at: int, before: Callable[[], str], cleared: int
    ) -> list[RiskFinding]:
        """Take the next piece; what was found, by its place in the whole text.

        Args:
            at: where the piece begins.
            before: what stands before it.
            cleared: what has left.
        """
        if not text:
            return []
        self._follow_run(text, at)
        if self._buffer:
            self._buffer += text
        else:
            joined = self.last[-1:] + text
            self.last = text
            if (
                self._run_end < 0
                and len(self._run) < HAN_WORD_MIN
                and (
                    _HINT.search(joined) is None
                    or _OTHER.search(joined) is None
                    or _PAIR.search(joined) is None
                    or _SIGN.search(joined) is None
                )
            ):
                self.is_open = bool(self._run) or self._is_none
                return []
            self._buffer = before()[-BEFORE_CHARACTERS:] + text
            self._base = at + len(text) - len(self._buffer)
            self._sign_at = self._sign_end = 0
            self._looked = len(self._buffer) - len(text)
            self._due = self._looked + self._rules.keywords.held_back
            self.is_open, self.safe = True, cleared
        return self._settle(final=False) if len(self._buffer) >= self._due else []

    def end(self) -> list[RiskFinding]:
        """Nothing follows."""
        if self._run:
            self._end_run(self._run_at + len(self._run))
        found = self._settle(final=True) if self._buffer else []
        self.last, self._run, self._is_none, self._run_end = "", "", False, -1
        self.behind, self.is_open = 0, False
        return found

    # --- runs of base64 and hexadecimal ------------------------------------------------------

    @property
    def _is_long_run(self) -> bool:
        return len(self._run) >= HAN_WORD_MIN

    def _follow_run(self, text: str, at: int) -> None:
        """See whether the characters at the end may be some code."""
        kept = text.rstrip(_CODED)
        if kept:
            if self._run and len(self._run) + len(kept) >= HAN_WORD_MIN:
                lead = len(text) - len(text.lstrip(_CODED))
                self._run += text[:lead]
                self._end_run(at + lead)
            if len(kept) > HAN_WORD_MIN:
                for match in _RUN.finditer(text, 0, len(kept)):
                    if is_code(match.group(), ended=True):
                        self._code_at, self._run_end = at + match.start(), at + match.end()
            self._run, self._run_at, self._check_at = text[len(kept) :], at + len(kept), 0
            self._is_none = False
        elif self._is_none:
            return
        else:
            if not self._run:
                self._run_at, self._check_at = at, 0
            self._run += text
        size = len(self._run)
        if size < HAN_WORD_MIN:
            if self._run[:1] in _NEVER_FIRST:
                self._run, self._is_none, size = "", True, 0
            self.behind = size
            return
        self.behind = 0
        if size >= self._check_at:
            self._check_at = size + 1 + size // 4
            if size > DECODED_BYTES_MAX or not is_code(self._run):
                self._run, self._is_none = "", True

    def _end_run(self, end: int) -> None:
        if self._is_long_run and is_code(self._run, ended=True):
            self._code_at, self._run_end = self._run_at, end
        self._run = ""

    # --- the stretch -------------------------------------------------------------------------

    def _settle(self, *, final: bool) -> list[RiskFinding]:
        """Decode what is complete by now; the stretch ends with enough of ordinary text."""
        buffer, end = self._buffer, len(self._buffer)
        complete = self._run_at - self._base if self._is_long_run else end
        complete, self._sign_at, sign_end = _open_sign(buffer, self._sign_at, complete)
        self._sign_end = max(self._sign_end, sign_end)
        if self._code_at < self._base + complete < self._run_end:
            complete = self._code_at - self._base
        ordinary = buffer[max(self._sign_end, self._run_end - self._base) :]
        held_back, normal = self._rules.keywords.held_back, self._rules.normalizer.normal
        missing = held_back - len(normal(ordinary))
        closes = final or (complete == end and missing <= 0)
        if final or end - complete > DECODED_BYTES_MAX:
            complete = end
        # Nothing closes sooner; and what is long and open is not gone through with every piece.
        self._due = end + max(missing, (end - complete) // 8)
        if not closes and complete - self._looked < LOOK_CHARACTERS:
            return []
        found, safe, cut, waits = self._decode(buffer[:complete], final=final)
        self._looked = complete
        if final or (closes and not waits):
            self._buffer, self.safe, self._run_end = "", sys.maxsize, -1
            self.is_open = bool(self._run) or self._is_none
            self.last = buffer[-1:]
            return found
        self.safe = self._base + safe
        self._buffer, self._base = buffer[cut:], self._base + cut
        self._sign_at, self._sign_end = max(0, self._sign_at - cut), max(0, self._sign_end - cut)
        self._looked -= cut
        self._due = max(self._due, end + (complete - cut) // 8) - cut
        return found

    def _decode(self, text: str, *, final: bool) -> tuple[list[RiskFinding], int, int, bool]:
        """What is in a text decoded, up to where it can hold no beginning of a word, from where on
        it is to be decoded again, and whether what follows decides on something in it."""
        found: list[RiskFinding] = []
        views = list(decodings(text))
        ended = min(len(text), self._run_at - self._base) if self._run else len(text)
        waits = False
        for view in views:
            at, size = _ended(view.text), len(view.text)
            # The character before, too: by it a code may begin that was none as it was written.
            if at < size and view.span(max(0, at - 1), size) is not None:
                ended, waits = min(ended, view.written(at, at + 1)[0]), True
        safe = self._before_held(text[:ended])
        for view in views:
            for one in self._rules.words(view.text):
                assert one.span is not None, "words have a place"
                span = view.span(*one.span)
                if span is None:
                    continue
                if not final and one.span[1] + CONTEXT_CHARACTERS > len(view.text):
                    safe, waits = min(safe, span[0]), True
                    continue
                place = (one.label, self._base + span[0], self._base + span[1])
                if place not in self._known:
                    self._known.add(place)
                    found.append(decoded_finding(one, place[1:]))
            held = self._before_held(view.text[: view.until(ended)])
            if held < len(view.text):
                safe = min(safe, view.written(held, held + 1)[0])
        kept = max(0, safe - AROUND_CHARACTERS)
        return found, safe, min([kept, *(view.begin(kept) for view in views)]), waits

    def _before_held(self, text: str) -> int:
        """Where at least as many normalized characters begin as are held back."""
        held_back, normal = self._rules.keywords.held_back, self._rules.normalizer.normal
        size = held_back
        while size < len(text) and len(normal(text[-size:])) < held_back:
            size *= 2
        return max(0, len(text) - size)


def _open_sign(text: str, since: int, ended: int) -> tuple[int, int, int]:
    """Go through the signs of a text: where the first begins that what follows may belong to, or
    `ended`; from where they are to be gone through again; and where the last ends.

    Args:
        ended: behind it is what is not decoded yet.
    """
    again_at, last_end, size, is_open = since, 0, len(text), False
    for match in _SIGN.finditer(text, since):
        end = match.end(match.lastindex or 0)
        last_end = max(last_end, end)
        if not is_open:
            again_at = match.start()
            if text[again_at] == "+":  # of `U+`
                again_at -= 1
            if again_at < ended and (end > ended or end == size):
                ended, is_open = again_at, True
    return ended, again_at, last_end


def _ended(text: str) -> int:
    """Up to where a decoded text is over: what is encoded in the rest may go on."""
    size = len(text)
    if text.endswith(APART):
        return size  # nothing near its end was encoded
    run = len(text.rstrip(_CODED))
    ended = run if size - run <= DECODED_BYTES_MAX and is_code(text[run:]) else size
    return _open_sign(text, max(0, size - BEFORE_CHARACTERS), ended)[0]


def is_code(run: str, *, ended: bool = False) -> bool:
    """Whether some characters may be the beginning of a text in base64 or hexadecimal.

    Args:
        ended: nothing follows: they may be one.
    """
    size = len(run)
    if not size or run[0] in _NEVER_FIRST:
        return False
    if ended and (run.isdecimal() or (size < WORD_MIN and run[0] not in "56")):
        return False
    if size < 4:
        return True
    if not run.strip(string.hexdigits) and _begins_text(bytes.fromhex(run[: size & ~1])):
        return True
    return _begins_text(binascii.a2b_base64(run[: size & ~3].translate(_STANDARD)))


_STANDARD = {ord("-"): "+", ord("_"): "/"}
_REPLACED = "\ufffd"


def _begins_text(data: bytes) -> bool:
    # A third of what an exception costs; words of English come this way.
    made, _ = codecs.utf_8_decode(data, "replace", False)
    return made.count(_REPLACED) == data.count(_REPLACED.encode())
