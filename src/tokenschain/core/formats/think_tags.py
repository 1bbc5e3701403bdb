"""Think tags: reasoning that stands in `<think>` tags of the content, told from the answer."""

from __future__ import annotations

_OPEN, _CLOSE = "<think>", "</think>"


class TagSplitter:
    """Content with a leading `<think>` part, cut anywhere, into reasoning and answer."""

    __slots__ = ("_held", "_state")

    def __init__(self) -> None:
        self._state = "before"
        self._held = ""

    def feed(self, text: str, *, ended: bool) -> tuple[str, str]:
        """Returns what of the text is reasoning and what is answer, as far as is certain."""
        text = self._held + text
        self._held = ""
        reasoning = ""
        if self._state == "before":
            stripped = text.lstrip()
            if stripped.startswith(_OPEN):
                self._state = "inside"
                text = stripped[len(_OPEN) :]
            elif _OPEN.startswith(stripped) and not ended:
                self._held = text
                return "", ""
            else:
                self._state = "after"
        if self._state == "inside":
            at = text.find(_CLOSE)
            if at < 0:
                keep = 0 if ended else _overlap(text, _CLOSE)
                self._held = text[len(text) - keep :]
                return text[: len(text) - keep], ""
            reasoning, text = text[:at], text[at + len(_CLOSE) :]
            self._state = "between"
        if self._state == "between":
            # The newlines that part the two belong to neither.
            text = text.lstrip("\n")
            if text:
                self._state = "after"
        return reasoning, text


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of the text may be the beginning of the tag."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if text.endswith(tag[:size]):
            return size
    return 0
