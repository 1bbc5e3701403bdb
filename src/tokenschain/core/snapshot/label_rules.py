"""Label rules as published: how answers say that AI made them (GB 45438-2025)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Explicit = Literal["none", "start", "end"]
Implicit = Literal["off", "on"]
TEXT_CHARACTERS_MAX = 100
# The standard asks for the element "AI" and the element "made".
TextZh = Annotated[
    str,
    Meta(
        pattern=r"^[^\r\n]*(人工智能|AI)[^\r\n]*(生成|合成)[^\r\n]*\Z",
        max_length=TEXT_CHARACTERS_MAX,
    ),
]
TextEn = Annotated[str, Meta(pattern=r"^[^\r\n]*\Z", max_length=TEXT_CHARACTERS_MAX)]
Producer = Annotated[str, Meta(pattern=r"^[\w-]*\Z", max_length=64)]
EXPLICIT_MEANS = "Where the answer's text has the notice: `start`, `end`, or `none`."
IMPLICIT_MEANS = "Whether answers carry the label's metadata, as the header `x-tc-aigc`."
TEXT_ZH_MEANS = (
    "The notice in Chinese; one line that names 人工智能 or AI, and after it 生成 or 合成."
)
TEXT_EN_MEANS = "The notice in English, after the Chinese; empty: none."
PRODUCER_MEANS = "`ContentProducer` of the metadata: the code of who offers the service."


class LabelRule(msgspec.Struct, frozen=True):
    """How answers are labelled."""

    explicit: Annotated[Explicit, Meta(description=EXPLICIT_MEANS)] = "none"
    implicit: Annotated[Implicit, Meta(description=IMPLICIT_MEANS)] = "off"
    text_zh: Annotated[TextZh, Meta(description=TEXT_ZH_MEANS)] = "内容由人工智能生成"
    text_en: Annotated[TextEn, Meta(description=TEXT_EN_MEANS)] = "AI-generated content"
    producer: Annotated[Producer, Meta(description=PRODUCER_MEANS)] = ""

    @property
    def labels(self) -> bool:
        """Whether anything is done."""
        return self.explicit != "none" or self.implicit == "on"

    @property
    def notice(self) -> str:
        """The notice itself: one line."""
        return " / ".join(filter(None, (self.text_zh, self.text_en)))


def rule_for(rules: Mapping[str, LabelRule], tenant: str, project: str) -> LabelRule | None:
    """The rule for a project's calls, the narrowest first; None where nothing is labelled."""
    for scope in (f"tenant/{tenant}/project/{project}", f"tenant/{tenant}", "*"):
        if scope in rules:
            return rules[scope] if rules[scope].labels else None
    return None
