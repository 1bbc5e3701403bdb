"""Virtual models: rules that resolve a name to models by language, tags, needs and length.

A virtual model is a list of entries. Those whose conditions hold are asked first, in order; then
those without conditions, in order. Entries with weights beside each other share their turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property

import msgspec

from tokenschain.core.formats.openai_chat import Api, ParsedRequest
from tokenschain.core.snapshot.virtual_models import Entry, When
from tokenschain.core.tags import Tags

_SCANNED_BYTES_MAX = 16_384
_SCRIPTS = {
    "ja": re.compile("[\u3040-\u30ff]"),
    "ko": re.compile("[\uac00-\ud7af]"),
    "zh": re.compile("[\u4e00-\u9fff]"),
    "ru": re.compile("[\u0400-\u04ff]"),
    "ar": re.compile("[\u0600-\u06ff]"),
    "en": re.compile("[A-Za-z]+"),
}
"""What is counted for each; a Latin word counts as one, as an ideograph does."""
_SHARE_MIN = 0.2


class CallTraits:
    """What a call says that rules may ask about; worked out when first asked for."""

    def __init__(self, parsed: ParsedRequest, tags: Tags) -> None:
        self.prompt_tokens = parsed.prompt_tokens_estimate
        self.tags = tags
        self._parsed = parsed

    @cached_property
    def needs(self) -> frozenset[str]:
        return needs_of(self._parsed)

    @cached_property
    def language(self) -> str:
        text = b""
        for name in ("messages", "prompt", "input", "query"):
            raw = self._parsed.fields.get(name)
            if raw is not None:
                text = bytes(raw)[-_SCANNED_BYTES_MAX:]
                break
        return language_of(text[max(0, text.rfind(b'"content"') + 9) :])


def needs_of(parsed: ParsedRequest) -> frozenset[str]:
    """Abilities that a call cannot do without."""
    if parsed.api is not Api.CHAT:
        return frozenset()
    found = set()
    if "tools" in parsed.fields and bytes(parsed.fields["tools"]) not in (b"null", b"[]"):
        found.add("tools")
    if b'"image_url"' in bytes(parsed.fields.get("messages", b"")):
        found.add("vision")
    if b'"json_schema"' in bytes(parsed.fields.get("response_format", b"")):
        found.add("json_schema")
    return frozenset(found)


def language_of(json_text: bytes) -> str:
    """The language of a piece of JSON, by its script; empty when nothing is written in it."""
    try:
        text = msgspec.json.decode(b'"' + json_text.split(b'"')[1] + b'"', type=str)
    except (msgspec.DecodeError, IndexError):
        text = json_text.decode("utf-8", "ignore")
    counts = {name: len(pattern.findall(text)) for name, pattern in _SCRIPTS.items()}
    total = sum(counts.values())
    if not total:
        return ""
    for name, count in counts.items():  # kana decide before ideographs
        if count >= _SHARE_MIN * total and name != "en":
            return name
    return "en"


def holds(when: When, traits: CallTraits) -> bool:
    """Whether an entry's conditions hold; what is cheap to know is asked first."""
    tokens = traits.prompt_tokens
    if tokens < when.prompt_tokens_min:
        return False
    if when.prompt_tokens_max is not None and tokens > when.prompt_tokens_max:
        return False
    if when.tags and not traits.tags.include(when.tags):
        return False
    if when.needs and not traits.needs.issuperset(when.needs):
        return False
    return when.language is None or when.language == traits.language


def ordered(
    entries: Sequence[Entry], traits: CallTraits, random: Callable[[], float]
) -> list[Entry]:
    """The entries to ask, in order.

    Args:
        random: uniform in [0, 1), for entries with weights.
    """
    chosen = [e for e in entries if e.when is not None and holds(e.when, traits)]
    chosen += [e for e in entries if e.when is None]
    made: list[Entry] = []
    at = 0
    while at < len(chosen):
        end = at + 1
        if chosen[at].weight is not None:
            while end < len(chosen) and chosen[end].weight is not None:
                end += 1
        made += _by_lot(chosen[at:end], random) if end - at > 1 else chosen[at:end]
        at = end
    return made


def _by_lot(entries: list[Entry], random: Callable[[], float]) -> list[Entry]:
    """Weighted order without replacement (Efraimidis and Spirakis, 2006)."""
    return sorted(entries, key=lambda e: -(max(random(), 1e-12) ** (1 / max(e.weight or 0, 1e-9))))
