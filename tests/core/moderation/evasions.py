"""A blocked word as somebody writes it who does not want it found."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Callable
from urllib.parse import quote

TRADITIONAL = str.maketrans("违规测试词", "違規測試詞")


def between(filler: str) -> Callable[[str], str]:
    """With something between its characters."""
    return filler.join


def each(form: Callable[[str], str]) -> Callable[[str], str]:
    """With each character in another form."""
    return lambda word: "".join(map(form, word))


def second(form: Callable[[str], str]) -> Callable[[str], str]:
    """With its second character in another form."""
    return lambda word: word[0] + form(word[1]) + word[2:]


FILLERS = {
    "spaces": " ", "wide spaces": "\u3000", "stars": "*", "lines": "\n", "bars": "|", "dots": "·",
    "underscores": "_", "zero width": "\u200b", "joiners": "\u200d", "right to left": "\u202e",
    "isolates": "\u2066", "emoji style": "\ufe0f", "combining": "\u0336", "enclosing": "\u20e3",
    "tags": "\U000e0041", "emoji": "🙂", "families": "👩\u200d👧", "skin": "👍🏽",
    "soft hyphens": "\u00ad", "braille blanks": "\u2800", "hangul fillers": "\u3164",
    "Mongolian": "\u180e", "musical": "\U0001d173", "variation": "\U000e0101", "markdown": "**",
}  # fmt: skip
_MARKUP: dict[str, Callable[[str], str]] = {
    "tags of HTML": between("<b></b>"), "comments": between("<!-- a -->"), "letters": between("x"),
    "digits": between("7"), "letters by two": between("ab"),
}  # fmt: skip
_ENCODED: dict[str, Callable[[str], str]] = {
    "entities": each(lambda one: f"&#{ord(one)};"),
    "entities of one": second(lambda one: f"&#x{ord(one):X};"),
    "open entities": each(lambda one: f"&#{ord(one)}"),
    "URL": quote, "URL of one": second(quote), "URL in GBK": lambda word: quote(word.encode("gbk")),
    "URL in URL": lambda word: quote(quote(word)),
    "escapes": each(lambda one: f"\\u{ord(one):04x}"),
    "escapes of one": second(lambda one: f"\\u{ord(one):04X}"),
    "escapes in braces": each(lambda one: f"\\u{{{ord(one):x}}}"),
    "long escapes": each(lambda one: f"\\U{ord(one):08x}"),
    "bytes": lambda word: "".join(f"\\x{one:02x}" for one in word.encode()),
    "code points": lambda word: " ".join(f"U+{ord(one):04X}" for one in word),
    "quoted printable": lambda word: quopri.encodestring(word.encode()).decode(),
    "hexadecimal": lambda word: word.encode().hex(),
    "base64": lambda word: base64.b64encode(word.encode()).decode(),
    "base64 for URLs": lambda word: base64.urlsafe_b64encode(word.encode()).decode().rstrip("="),
    "base64 in base64": lambda word: base64.b64encode(base64.b64encode(word.encode())).decode(),
    "base64 in URL": lambda word: quote(base64.b64encode(word.encode()).decode()),
    "escapes in base64": lambda word: base64.b64encode(ascii(word).encode()).decode(),
}  # fmt: skip
BETWEEN = {name: between(filler) for name, filler in FILLERS.items()}
"""What a stream is screened for as well, character by character."""
BETWEEN["traditional"] = lambda word: word.translate(TRADITIONAL)
IN_WHOLE_TEXTS = _MARKUP | _ENCODED
EVASIONS = BETWEEN | IN_WHOLE_TEXTS
LATIN: dict[str, Callable[[str], str]] = {
    "circles": each(lambda one: chr(ord(one) - 97 + 0x24D0)),
    "black circles": each(lambda one: chr(ord(one) - 97 + 0x1F150)),
    "black squares": each(lambda one: chr(ord(one) - 97 + 0x1F170)),
    "flags": each(lambda one: chr(ord(one) - 97 + 0x1F1E6)),
    "mathematical": each(lambda one: chr(ord(one) - 97 + 0x1D41A)),
    "full width": each(lambda one: chr(ord(one) + 0xFEE0)),
    "Cyrillic": lambda word: word.translate(str.maketrans("aceopxy", "асеорху")),
    "Greek": lambda word: word.translate(str.maketrans("abeinotux", "αβειηοτυχ")),
    "small capitals": lambda word: word.translate(str.maketrans("abdegimnort", "ᴀʙᴅᴇɢɪᴍɴᴏʀᴛ")),
    "leet": lambda word: word.translate(str.maketrans("aeost", "43057")),
    "signs": lambda word: word.translate(str.maketrans("as", "@$")),
    "accents": each(lambda one: one + "\u0301"), "capitals": str.upper, "spaced": between(" "),
    "base64": _ENCODED["base64"], "entities": _ENCODED["entities"], "hexadecimal": _ENCODED["hexadecimal"],
}  # fmt: skip
"""Of a word of Latin letters."""
