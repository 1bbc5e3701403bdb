"""Virtual models as published: entries and their conditions."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

TOKENS_MAX = 2**31
"""Of one request: more than any model takes."""


class When(msgspec.Struct, frozen=True, gc=False):
    """Conditions of an entry; all that are given must hold."""

    language: Annotated[
        Literal["zh", "en", "ja", "ko", "ru", "ar"] | None,
        Meta(description="Language of the last message."),
    ] = None
    tags: Annotated[
        tuple[str, ...],
        Meta(description="Words that `x-tc-tags` must hold, all of them, as `subject=math`."),
    ] = ()
    needs: Annotated[
        tuple[Literal["tools", "vision", "json_schema"], ...],
        Meta(description="What the call must use, all of `tools`, `vision`, `json_schema` named."),
    ] = ()
    prompt_tokens_min: Annotated[
        int, Meta(ge=0, le=TOKENS_MAX, description="Smallest prompt, in estimated tokens.")
    ] = 0
    prompt_tokens_max: Annotated[
        Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None,
        Meta(description="Largest prompt, in estimated tokens."),
    ] = None


class VirtualModelEntry(msgspec.Struct, frozen=True, gc=False):
    """One line of a virtual model."""

    model: Annotated[str, Meta(description="Name of a model that is served.")]
    upstream: Annotated[
        str | None, Meta(description="Id of the only upstream that is asked; any by default.")
    ] = None
    weight: Annotated[
        Annotated[int, Meta(ge=0, le=1_000_000)] | None,
        Meta(description="Share of the turns among neighbouring entries with weights."),
    ] = None
    when: Annotated[
        When | None,
        Meta(description="Conditions; entries whose conditions hold are asked before those that "
                         "have none."),
    ] = None  # fmt: skip
