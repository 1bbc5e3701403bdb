"""Virtual models: rules that resolve a name to models by language, tags, needs and length.

A virtual model is a list of entries. Those whose conditions hold are asked first, in order; then
those without conditions, in order. Entries with weights beside each other share their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

from tokenschain.core.formats.openai_chat import Api, ParsedRequest
from tokenschain.core.routing.language import asked_text, language_of
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry, When
from tokenschain.core.tags import Tags


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
        return language_of(asked_text(self._parsed.fields))


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
    entries: Sequence[VirtualModelEntry], traits: CallTraits, random: Callable[[], float]
) -> list[VirtualModelEntry]:
    """The entries to ask, in order.

    Args:
        random: uniform in [0, 1), for entries with weights.
    """
    chosen = [e for e in entries if e.when is not None and holds(e.when, traits)]
    chosen += [e for e in entries if e.when is None]
    made: list[VirtualModelEntry] = []
    at = 0
    while at < len(chosen):
        end = at + 1
        if chosen[at].weight is not None:
            while end < len(chosen) and chosen[end].weight is not None:
                end += 1
        made += _by_lot(chosen[at:end], random) if end - at > 1 else chosen[at:end]
        at = end
    return made


def _by_lot(
    entries: list[VirtualModelEntry], random: Callable[[], float]
) -> list[VirtualModelEntry]:
    """Weighted order without replacement (Efraimidis and Spirakis, 2006)."""
    return sorted(entries, key=lambda e: -(max(random(), 1e-12) ** (1 / max(e.weight or 0, 1e-9))))
