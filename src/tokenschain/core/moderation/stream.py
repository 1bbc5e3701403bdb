"""Screening of a text that comes in pieces: held back by what may still become a hit.

A piece may leave when no word that begins in it, or before it, can still end in what follows: the
last L - 1 normalized characters stay, L being the longest word. A word that counts only in its
context stays until its context is there. Positions are characters of the text as it was written.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Literal

from msgspec.structs import replace

from tokenschain.core.moderation import personal_data
from tokenschain.core.moderation.packs import CONTEXT_CHARACTERS, Entry, counts_here
from tokenschain.core.moderation.personal_data import Replacements
from tokenschain.core.moderation.rules import Rules, finding, is_written_so
from tokenschain.core.moderation.stream_decoding import LATIN, StreamDecoding
from tokenschain.core.moderation.verdict import Action, RiskFinding

SENTENCE_CHARACTERS_MAX = 240
"""A sentence without an end is looked at in parts of as much."""
OVERLAP_CHARACTERS = 60
"""Of those parts: the longest personal data but addresses, as it may be written."""
CLASSIFIED_BEFORE_CHARACTERS = 60
"""As much of what came before is seen by the classifier with each sentence."""
_SENTENCE_END = re.compile(r"[。！？；!?;]+[”’」』）)\"']*|\n+|\.(?=\s)")

Judge = Callable[[RiskFinding], Action]
"""What the policy makes of a finding."""
Edit = tuple[int, int, str]
"""From and to in the text as it was written, and what stands there instead."""


class OutputRules:
    """What an answer is screened for."""

    __slots__ = (
        "classify", "cuts", "held", "judge", "replacement", "replacements", "rules", "sentences",
    )  # fmt: skip

    def __init__(
        self,
        rules: Rules,
        judge: Judge,
        *,
        held: Literal["holdback", "sentence", "full"] = "holdback",
        cuts: Callable[[str], list[tuple[RiskFinding, str]]] | None = None,
        classify: Callable[[str], list[RiskFinding]] | None = None,
        replacements: Replacements | None = None,
        replacement: str = "***",
    ) -> None:
        """
        Args:
            cuts: the personal data in a text, and what stands instead of it.
            classify: what the local classifier says of a text, with the place of each finding.
            replacements: tokens of the request that are turned back.
        """
        self.rules, self.judge, self.held, self.classify = rules, judge, held, classify
        self.cuts, self.replacements, self.replacement = cuts, replacements, replacement
        self.sentences = held == "sentence" or cuts is not None or classify is not None


class TextScreener:
    """One text of an answer: what came, what may leave, and what was found."""

    __slots__ = (
        "_before", "_decoding", "_norm_base", "_norm_end", "_pending", "_pieces", "_raw_end",
        "_rules", "_safe_end", "_seen", "_tail", "_texts", "_waiting", "_whole", "_window",
        "blocked", "cleared", "edits", "findings",
    )  # fmt: skip

    def __init__(self, rules: OutputRules, *, whole: bool = False) -> None:
        """
        Args:
            whole: nothing leaves before its end, whatever the policy says: it is JSON, or a part
                of it would be of no use.
        """
        self._rules = rules
        self._whole = whole or rules.held == "full"
        self._pieces: deque[tuple[int, int, str]] = deque()
        """What is kept of the text: where each piece begins, as written and normalized."""
        self._waiting: deque[tuple[int, int]] = deque()
        """Of pieces that may not leave yet: where each ends, normalized and as written."""
        self._safe_end = 0
        self._window = ""
        """What is kept, normalized; it begins at `_norm_base`."""
        self._norm_base = self._norm_end = self._raw_end = 0
        self._pending: list[tuple[int, int, Entry]] = []
        self._decoding: StreamDecoding | None = None
        self._texts: list[str] = []
        """All of it, where it is decoded as a whole."""
        if len(rules.rules.keywords) and not self._whole:
            self._decoding = StreamDecoding(rules.rules)
        self._tail = ""
        """What was not looked through for personal data; it begins at `_seen`."""
        self._seen = 0
        self._before = ""
        self.cleared = 0
        """So many characters may leave, with the edits among them made."""
        self.edits: list[Edit] = []
        self.findings: list[RiskFinding] = []
        self.blocked: RiskFinding | None = None

    def feed(self, text: str) -> None:
        """Take the next piece."""
        rules, decoding = self._rules, self._decoding
        if decoding is None:
            self._texts.append(text)
        elif decoding.is_open or LATIN.search(text) is not None:
            for one in decoding.feed(text, self._raw_end, self._kept, self.cleared):
                self._found(one)
        elif text:
            decoding.last = text
        normal = rules.rules.normalizer.normal(text)
        self._pieces.append((self._raw_end, self._norm_end, text))
        self._raw_end += len(text)
        self._norm_end += len(normal)
        self._waiting.append((self._norm_end, self._raw_end))
        keywords = rules.rules.keywords
        window = self._window = self._window + normal
        if normal:
            since = len(window) - len(normal)
            first = max(0, since - keywords.held_back)
            for start, end, entries in keywords.find(window[first:], since - first):
                at = self._norm_base + first
                self._pending += [(at + start, at + end, entry) for entry in entries]
        if self._pending:
            self._judge_words(final=False)
        if rules.sentences or rules.replacements is not None:
            self._tail += text
            if not self._whole:
                self._look_through(final=False)
        self._clear()

    def end(self) -> None:
        """Nothing follows."""
        if self._pending:
            self._judge_words(final=True)
        for one in self._decoded():
            self._found(one)
        if self._tail:
            self._look_through(final=True)
        self.cleared = self._raw_end

    def flush(self) -> None:
        """Something else follows: what came may leave, though it may still become a hit."""
        if not self._whole:
            self.end()

    def _kept(self) -> str:
        return "".join(piece[2] for piece in self._pieces)

    def _decoded(self) -> list[RiskFinding]:
        """What is encoded in what came, now that nothing follows."""
        if self._decoding is not None:
            return self._decoding.end()
        if not self._texts:
            return []
        text, self._texts = "".join(self._texts), []
        return self._rules.rules.decoded_words(text)

    # --- words -------------------------------------------------------------------------------

    def _judge_words(self, *, final: bool) -> None:
        window, base, left = self._window, self._norm_base, []
        raw = offsets = None
        for start, end, entry in self._pending:
            if not final and end + entry.follows_max > self._norm_end:
                left.append((start, end, entry))
                continue
            if not counts_here(entry, window, start - base, end - base):
                continue
            if raw is None or offsets is None:
                raw = self._kept()
                offsets = self._rules.rules.normalizer.offsets(raw)
            first = self._pieces[0]
            at = first[1]
            begin, stop = offsets[start - at], offsets[end - 1 - at] + 1
            if entry.latin and not final and stop == len(raw):
                left.append((start, end, entry))
            elif is_written_so(entry, raw, begin, stop):
                self._found(finding(entry, (first[0] + begin, first[0] + stop)))
        self._pending = left

    def _found(self, one: RiskFinding) -> None:
        action = self._rules.judge(one)
        self.findings.append(one)
        if action is Action.BLOCK:
            self.blocked = self.blocked or one
        elif action is Action.MASK and one.span is not None:
            start, end = one.span
            self.edits.append((start, end, "*" * (end - start)))
        elif action is Action.REPLACE and one.span is not None:
            self.edits.append((*one.span, self._rules.replacement))

    # --- personal data and tokens ------------------------------------------------------------

    def _look_through(self, *, final: bool) -> None:
        """Look through what is complete by now: sentences, or what holds no open token."""
        rules, tail = self._rules, self._tail
        done = len(tail) if final else self._complete(tail)
        if not done:
            return
        text, self._tail = tail[:done], tail[done:]
        if rules.cuts is not None:
            for one, instead in rules.cuts(text):
                assert one.span is not None, "personal data has a place"
                start, end = one.span
                moved = (self._seen + start, self._seen + end)
                self.findings.append(one)
                if rules.judge(one) is Action.BLOCK:
                    self.blocked = self.blocked or one
                elif instead:
                    self.edits.append((*moved, instead))
        if rules.classify is not None:
            # By itself and with what came before: neither may hide what is in the other.
            for before in dict.fromkeys(("", self._before)):
                for one in rules.classify(before + text):
                    assert one.span is not None, "the classifier says where"
                    start, end = (self._seen - len(before) + at for at in one.span)
                    if end > self._seen:
                        self._found(replace(one, span=(max(self._seen, start), end)))
            self._before = (self._before + text)[-CLASSIFIED_BEFORE_CHARACTERS:]
        if rules.replacements is not None:
            for start, end, value in rules.replacements.edits(text):
                self.edits.append((self._seen + start, self._seen + end, value))
        self._seen += done

    def _complete(self, tail: str) -> int:
        if self._rules.sentences:
            done = 0
            for match in _SENTENCE_END.finditer(tail):
                done = match.end()
            if not done and len(tail) > SENTENCE_CHARACTERS_MAX:
                done = len(tail) - OVERLAP_CHARACTERS
        else:
            done = len(tail)
        if self._rules.replacements is not None:
            done = min(done, personal_data.open_token(tail))
        return done

    # --- what may leave ----------------------------------------------------------------------

    def _clear(self) -> None:
        rules, decoding, pieces = self._rules, self._decoding, self._pieces
        safe = self._norm_end - rules.rules.keywords.held_back
        if self._pending:
            safe = min(safe, *[start for start, _, _ in self._pending])
        if decoding is not None:
            safe -= decoding.behind
        keep = max(0, safe - CONTEXT_CHARACTERS - rules.rules.keywords.held_back)
        while len(pieces) > 1 and pieces[1][1] <= keep:
            pieces.popleft()
        first = pieces[0][1]
        if first > self._norm_base:
            self._window = self._window[first - self._norm_base :]
            self._norm_base = first
        waiting = self._waiting
        while waiting and waiting[0][0] <= safe:
            self._safe_end = waiting.popleft()[1]
        cleared = self._safe_end
        if decoding is not None and decoding.safe < cleared:
            cleared = decoding.safe
        if rules.sentences or rules.replacements is not None:
            cleared = min(cleared, self._seen)
        if cleared > self.cleared and not self._whole:
            self.cleared = cleared


def screen_whole(
    text: str, rules: OutputRules
) -> tuple[str, list[RiskFinding], RiskFinding | None]:
    """A text that is all there: as it may leave, what was found, and what blocks it."""
    screener = TextScreener(rules, whole=True)
    screener.feed(text)
    screener.end()
    for one in rules.rules.alike(text):
        screener.findings.append(one)
        if rules.judge(one) is Action.BLOCK:
            screener.blocked = screener.blocked or one
    return edited(text, screener.edits), screener.findings, screener.blocked


def edited(text: str, edits: list[Edit], offset: int = 0) -> str:
    """A text with its edits made; those that overlap count once.

    Args:
        offset: where the text begins, by the positions of the edits; what is replaced in a text
            before it was written there.
    """
    end = offset + len(text)
    made, at = [], offset
    for start, stop, instead in sorted(edits):
        if stop <= at or start >= end:
            continue
        if start >= at:
            made.append(text[at - offset : start - offset])
        if len(instead) == stop - start:
            made.append(instead[max(at, start) - start : min(stop, end) - start])
        elif start >= offset:
            made.append(instead)
        at = min(stop, end)
    made.append(text[at - offset :])
    return "".join(made)
