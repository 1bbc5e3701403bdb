"""Moderation policies as published: for whom, what is screened, what becomes of findings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tokenschain.core.moderation.packs import PackWord
from tokenschain.core.moderation.personal_data import DataAction, DataKind
from tokenschain.core.moderation.verdict import Action, ClassifierThresholds, Direction, Level

PolicyScope = Annotated[
    str, Meta(pattern=r"^(\*|project/[^/]+|tenant/[^/]+(/project/[^/]+)?)\Z", max_length=150)
]
"""Whose calls: everybody's, a tenant's, or those of a project."""
ActionName = Literal["pass", "review", "mask", "replace", "block"]
CategoryScope = Annotated[str, Meta(pattern=r"^[a-z]+/([a-z_]+|\*)\Z")]
"""A category, as `values/terrorism`, or all of a group, as `discrimination/*`."""
POLICIES_MAX = 200
WORDS_MAX = 500
MESSAGE_ZH = "内容不符合安全要求，已停止处理。"
MESSAGE_EN = "The content does not meet the safety requirements."
MESSAGE = f"{MESSAGE_ZH} {MESSAGE_EN}"


Sector = Literal["", "finance", "health", "education", "minors", "government"]
FAILS_CLOSED: frozenset[str] = frozenset(("finance", "minors", "government"))
"""Sectors in which an engine without a verdict blocks, whatever the audience."""


class LevelActions(msgspec.Struct, frozen=True):
    """What becomes of a finding, by its level."""

    high: ActionName = "block"
    medium: ActionName = "review"
    low: ActionName = "pass"

    def of(self, level: Level) -> Action:
        if level is Level.HIGH:
            return Action[self.high.upper()]
        return Action[(self.medium if level is Level.MEDIUM else self.low).upper()]


StreamMode = Literal["holdback", "sentence", "full"]
STREAM_MODES: tuple[StreamMode, ...] = ("holdback", "sentence", "full")
"""The one that holds back most last: of several policies, it holds."""


class OffenderLimits(msgspec.Struct, frozen=True):
    """From how many blocked calls on an end user is suspended, and for how long."""

    in_a_row: Annotated[int, Meta(ge=1, le=100)] = 3
    a_day: Annotated[int, Meta(ge=1, le=1_000)] = 5
    suspend_hours: Annotated[int, Meta(ge=1, le=720)] = 24


class ModerationPolicy(msgspec.Struct, frozen=True):
    """What is screened for a part of the organization; where several hold, the strictest does."""

    scope: Annotated[
        PolicyScope,
        Meta(
            description="Whose calls: `*`, `tenant/NAME`, `project/NAME` or "
            "`tenant/NAME/project/NAME`; in a tenant's own policy `*` or `project/NAME`."
        ),
    ] = "*"
    state: Annotated[
        Literal["shadow", "share", "active"],
        Meta(
            description="`shadow`: findings go on record and nothing else happens; `share`: in "
            "force for a share of the API keys, shadow for the others; `active`: in force."
        ),
    ] = "shadow"
    share: Annotated[
        float,
        Meta(ge=0, le=1, description="For `share`: of how many API keys; the same each time."),
    ] = 0.1
    directions: Annotated[
        tuple[Literal["input", "output"], ...],
        Meta(min_length=1, max_length=2, description="What is screened."),
    ] = ("input", "output")
    audience: Annotated[
        Literal["public", "internal", "overseas"],
        Meta(description="Whom the application serves; decides what an engine's failure means."),
    ] = "public"
    sector: Annotated[
        Sector,
        Meta(
            description="The sector that the application is for: sets defaults, which what the "
            "policy says itself goes before; `effective` shows which they are."
        ),
    ] = ""
    require_filed: Annotated[
        bool,
        Meta(
            description="Whether answers come only from models with a filing or registration "
            "number in force (`filings`); calls of others are refused. Embeddings and rerankings "
            "generate nothing, and need none."
        ),
    ] = False
    actions: Annotated[
        LevelActions, Meta(description="What becomes of findings, by level; see below.")
    ] = LevelActions()
    category_actions: Annotated[
        dict[CategoryScope, LevelActions],
        Meta(description="The same for a category, or for a group as `discrimination/*`."),
    ] = {}
    personal_data: Annotated[
        dict[DataKind, DataAction],
        Meta(
            description="What becomes of personal data in requests, by kind: `allow`, `mask`, "
            "`hash`, `token`, `reversible` (the model gets a token, the answer the value again) "
            "or `block`."
        ),
    ] = {}
    personal_data_in_answers: Annotated[
        dict[DataKind, Literal["allow", "mask", "block"]],
        Meta(description="What becomes of personal data in answers, by kind."),
    ] = {}
    data_classes: Annotated[
        dict[DataKind, Annotated[str, Meta(pattern=r"^[\w-]{1,32}\Z")]],
        Meta(
            description="The data class of a request in which personal data of a kind is found: it "
            "goes only where `routing.residency` lets `class/NAME` go, and is neither cached nor "
            "stored unless it is `general`. Of `general`, `personal`, `sensitive`, `important` and "
            "`core`, in this order, the highest holds, be it the class of its key; classes of "
            "other names hold beside it."
        ),
    ] = {}
    words: Annotated[
        tuple[PackWord, ...],
        Meta(max_length=WORDS_MAX, description="Words beside those of packs; see below."),
    ] = ()
    packs: Annotated[
        tuple[str, ...],
        Meta(max_length=50, description="Names of keyword packs; `*` for all that are installed."),
    ] = ("*",)
    classifier: Annotated[
        ClassifierThresholds | None,
        Meta(
            description="From which probability on (`medium`, `high`) the local classifier's "
            "opinion that a text is offensive is a finding of that level; unset: it is not asked."
        ),
    ] = None
    stream: Annotated[
        StreamMode,
        Meta(
            description="How a streamed answer is held back: by the characters that may begin a "
            "word (`holdback`), to the end of the sentence, or all of it."
        ),
    ] = "holdback"
    media: Annotated[
        Literal["pass", "block"],
        Meta(
            description="What becomes of pictures, sound and files in requests that nothing has "
            "screened; pictures that an engine has screened pass, texts in files are screened."
        ),
    ] = "pass"
    engines: Annotated[
        tuple[str, ...],
        Meta(max_length=3, description="Engines that screen beside the local rules, in order."),
    ] = ()
    input: Annotated[
        Literal["before", "beside"],
        Meta(
            description="When engines screen a request: `before` an upstream is asked, or `beside` "
            "it: the request is sent, and the answer held until the verdict is there. Local rules "
            "come first in any case; where policies differ, `before` holds."
        ),
    ] = "before"
    engine_failure: Annotated[
        Literal["", "block", "local"],
        Meta(
            description="What an engine without a verdict means: the call is blocked, or the local "
            "rules decide. By default blocked, but `local` for an `internal` audience outside "
            "`finance`, `minors` and `government`."
        ),
    ] = ""
    keep_texts: Annotated[
        bool,
        Meta(
            description="Whether what was found is kept for the review queue, sealed, with the "
            "text around it; else reviewers see categories and rules only."
        ),
    ] = False
    second_review: Annotated[
        bool, Meta(description="Whether a decision needs a second person who decides the same.")
    ] = False
    review_hours: Annotated[
        int, Meta(ge=1, le=720, description="Within how many hours a case is to be decided.")
    ] = 24
    offenders: Annotated[
        OffenderLimits | None,
        Meta(
            description="After how many blocked calls, `in_a_row` or `a_day`, an end user (`user` "
            "or `safety_identifier` of the call) is suspended for `suspend_hours`; unset: never."
        ),
    ] = None
    engine_wait_max_s: Annotated[
        float, Meta(ge=0.05, le=10, description="The longest that a verdict may take, in seconds.")
    ] = 0.3
    replacement: Annotated[
        str, Meta(max_length=100, description="What stands instead of what is replaced.")
    ] = "***"
    message: Annotated[
        str,
        Meta(max_length=500, description="What a caller is told of a blocked request; both "
             "languages by default."),
    ] = MESSAGE  # fmt: skip
    message_zh: Annotated[
        str,
        Meta(
            max_length=240,
            description="The Chinese half of that text, where `message` is not set; the platform's "
            "own if unset.",
        ),
    ] = ""
    message_en: Annotated[
        str, Meta(max_length=240, description="The English half of it, in the same way.")
    ] = ""

    def action_on(self, category: str, level: Level) -> Action:
        """What becomes of a finding."""
        group = category.partition("/")[0] + "/*"
        actions = self.category_actions.get(category) or self.category_actions.get(group)
        return (actions or self.actions).of(level)

    def screens(self, direction: Direction) -> bool:
        return direction.value in self.directions

    @property
    def fails_closed(self) -> bool:
        """Whether an engine without a verdict blocks the call."""
        if self.engine_failure:
            return self.engine_failure == "block"
        return self.audience != "internal" or self.sector in FAILS_CLOSED


def policies_for(
    policies: Mapping[str, ModerationPolicy], tenant: str, project: str
) -> list[tuple[str, ModerationPolicy]]:
    """The policies that hold for a project's calls, by name."""
    scopes = {"*", f"tenant/{tenant}", f"project/{project}", f"tenant/{tenant}/project/{project}"}
    return [(name, policy) for name, policy in policies.items() if policy.scope in scopes]


def in_force(policy: ModerationPolicy, position: float) -> bool:
    """Whether a policy is in force for a key, and does not only watch.

    Args:
        position: of the key among all, from 0 to 1: the same each time.
    """
    if policy.state == "share":
        return position < policy.share
    return policy.state == "active"


def strictest(actions: Iterable[Action]) -> Action:
    """The strictest of several."""
    return max(actions, default=Action.PASS)
