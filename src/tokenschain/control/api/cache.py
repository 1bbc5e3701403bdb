"""Admin API: the response cache, what it did and what it is to forget.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from fastapi import APIRouter, Depends, Query
from pydantic import Field, model_validator

from tokenschain.control.api.bodies import AnswerBody, Example, Items, RequestBody
from tokenschain.control.api.context import (
    AdminRoute,
    IntMoment,
    Label,
    MaybeLabel,
    NameQuery,
    Permission,
    RequestContext,
)
from tokenschain.control.api.model_names import ModelName
from tokenschain.control.api.request_checks import dimensions_of
from tokenschain.control.cache import rules_and_stats
from tokenschain.control.cache.semantic_client import SemanticProcesses
from tokenschain.control.identity import organization
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.cache.semantic_protocol import (
    PAIR_BYTES_MAX,
    PAIRS_MAX,
    QUESTION_CHARACTERS_MAX,
    LabelledPair,
    pair_bytes,
)
from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import ModelDirectory
from tokenschain.core.tenancy import PLATFORM
from tokenschain.infra.database.engine import reading

DAY_S = 86_400
CLUSTERS_MAX = 200
router = APIRouter(prefix="/api/v1/cache", route_class=AdminRoute, tags=["cache"])
Reading = Annotated[RequestContext, Depends(Permission("cache:read", Extent.TENANT))]
Dropping = Annotated[RequestContext, Depends(Permission("cache:write", Extent.TENANT))]
Judging = Annotated[RequestContext, Depends(Permission("cache:write", Extent.PART))]
Inspecting = Annotated[RequestContext, Depends(Permission("cache:inspect", Extent.TENANT))]


def _moments(from_s: IntMoment = None, until_s: IntMoment = None) -> tuple[int, int]:
    """From when until when, in ms; the last day by default."""
    now = int(time.time())
    return (
        (now - DAY_S if from_s is None else from_s) * 1_000,
        (now + DAY_S if until_s is None else until_s) * 1_000,
    )


Moments = Annotated[tuple[int, int], Depends(_moments)]


class Flush(RequestBody):
    """What is dropped: everything of a tenant, or one part of it; of all tenants without one."""

    example: ClassVar[Example] = {"tenant": "acme", "tag": "page=prices", "dry_run": True}
    tenant: MaybeLabel = ""
    project: MaybeLabel = ""
    model: Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f]*$")] = ""
    tag: Annotated[str, Field(max_length=128, pattern=r"^([^,=\x00-\x1f]+=[^,\x00-\x1f]+)?$")] = ""
    entry: Annotated[str, Field(pattern=r"^([0-9a-f]{32})?$")] = ""
    dry_run: bool = False

    @model_validator(mode="after")
    def _one_part(self) -> "Flush":
        if sum(map(bool, (self.project, self.model, self.tag, self.entry))) > 1:
            raise ValueError("name one of: project, model, tag, entry")
        if (self.project or self.tag or self.entry) and not self.tenant:
            raise ValueError("name the tenant it belongs to")
        return self

    @property
    def part(self) -> tuple[str, str]:
        """The kind of the part, and which."""
        for name in ("project", "model", "tag", "entry"):
            value = getattr(self, name)
            if value:
                return name, value
        return "", ""


class Feedback(RequestBody):
    """Feedback on a response that came from the cache."""

    example: ClassVar[Example] = {
        "request_id": "req_0123456789",
        "right": False,
        "comment": "of last year",
    }
    request_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w-]+$")]
    right: bool
    comment: Annotated[str, Field(max_length=1_000)] = ""


class Pair(RequestBody):
    """Two questions, and whether one answer is right for both (`y` 1) or not (0)."""

    example: ClassVar[Example] = {"a": "How do I reset it?", "b": "how to reset it", "y": 1}
    a: Annotated[str, Field(min_length=1, max_length=QUESTION_CHARACTERS_MAX)]
    b: Annotated[str, Field(min_length=1, max_length=QUESTION_CHARACTERS_MAX)]
    y: Literal[0, 1]


class PairsToLearn(RequestBody):
    """Pairs of questions from which the semantic cache learns before there are calls."""

    example: ClassVar[Example] = {
        "tenant": "acme",
        "project": "faq",
        "model": "qwen-plus",
        "pairs": [
            {"a": "How do I reset it?", "b": "how to reset it", "y": 1},
            {"a": "Can I return it in 3 days?", "b": "Can I return it in 30 days?", "y": 0},
        ],
    }
    tenant: Label
    project: Label
    model: ModelName
    pairs: Annotated[list[Pair], Field(min_length=1, max_length=PAIRS_MAX)]

    @model_validator(mode="after")
    def _few_bytes(self) -> "PairsToLearn":
        size = sum(pair_bytes(pair.a, pair.b) for pair in self.pairs)
        if size > PAIR_BYTES_MAX:
            raise ValueError(
                f"the questions of `pairs` take {size:,} bytes of at most {PAIR_BYTES_MAX:,}: "
                "send fewer at a time"
            )
        return self


class Learned(AnswerBody):
    """What came of pairs, at the process that knows least."""

    learned: int
    unlike: int
    """Pairs so unlike that they would never be compared: they tell nothing."""
    pairs: int
    """Compared so far, those of calls included."""
    pairs_needed: int
    """Before these nothing is served."""
    threshold: float | None
    """Hit confidence from which answers are served; null: none are."""
    processes: int
    """Processes that learned them."""


class Flushed(AnswerBody):
    """What a flush is worth: how often such responses were served in the last day, and how
    many different ones."""

    hits_last_day: int
    answers_last_day: int
    flushed_until: float | None
    """Unix time; null for a dry run."""


class Judged(AnswerBody):
    """What became of a response that feedback was given on."""

    entry: str
    cache: str
    dropped: bool


class CacheStats(AnswerBody):
    """What the cache did for calls that went well, of one outcome; with the fields asked for by
    `group_by`."""

    tenant: str | None = None
    model: str | None = None
    reason: str | None = None
    hour: str | None = None
    """When it began, UTC."""
    cache: str
    calls: int
    saved_tokens: int
    saved_pico: int
    currency: str


class HitAge(AnswerBody):
    """Hits by the age of the answer."""

    age_s_max: int
    hits: int
    share_within: float
    """Share of hits that would be left if answers were kept no longer than that."""


class ThresholdChoice(AnswerBody):
    """What agreeing on a share of wrong answers would have done."""

    false_hit_rate_max: float
    threshold: float | None
    """Null: nothing would be given."""
    false_hit_rate: float
    hits: int
    saved_pico: dict[str, int]


class ThresholdPreview(AnswerBody):
    """What was measured of one project's and model's semantic hits."""

    tenant: str
    project: str
    model: str
    false_hit_rate_max: float
    """As configured."""
    false_hit_rate: float
    """Measured, and its 95 % interval."""
    false_hit_rate_low: float
    false_hit_rate_high: float
    checked: int
    served: int
    pairs: int
    """Pairs of questions compared so far; the latest 2,000 count."""
    pairs_needed: int
    """Before these nothing is served: `x-tc-cache: miss:learning`."""
    threshold: float | None
    exact_hits: int
    lookups: int
    choices: list[ThresholdChoice]


class QueryCluster(AnswerBody):
    """Questions that ask the same, and their answer."""

    project: str
    model: str
    queries: list[str]
    answer: str
    entry: str
    lookups: int
    hits: int
    misses: int
    saved_pico: dict[str, int]


@router.post("/flush")
def flush(asked: Dropping, wanted: Flush) -> Flushed:
    """Give none of these answers again; gateways obey within a second.

    With `dry_run` it only says what that is worth.
    """
    asked.need(wanted.tenant or PLATFORM)
    part, value = wanted.part
    since_ms = int((time.time() - DAY_S) * 1_000)
    worth = rules_and_stats.hits_of(asked.db, since_ms, wanted.tenant, part, value)
    until = None
    if not wanted.dry_run:
        until = rules_and_stats.flush(asked.db, wanted.tenant, part, value)
        asked.note(wanted.tenant, f"{part}/{value}")
    return Flushed(
        hits_last_day=worth["hits"], answers_last_day=worth["answers"], flushed_until=until
    )


@router.get("/stats")
def stats(
    asked: Reading,
    when: Moments,
    tenant: NameQuery = None,
    group_by: Annotated[
        str, Query(max_length=100, examples=["tenant,model,reason"])
    ] = "tenant,model,reason",
) -> Items[CacheStats]:
    """Read what the cache did and saved, by outcome and some of tenant, model, reason and hour.

    Of the last day by default; the hours that the time touches are whole.
    """
    whose = asked.tenant(tenant)
    asked.need(whose or PLATFORM)
    names = dimensions_of(group_by, rules_and_stats.DIMENSIONS)
    from_s, until_s = (moment_ms // 1_000 for moment_ms in when)
    rows = rules_and_stats.stats(asked.db, whose, from_s, until_s, names)
    return Items[CacheStats](data=[CacheStats(**row) for row in rows])


@router.get("/hit-ages")
def hit_ages(
    asked: Reading,
    when: Moments,
    tenant: NameQuery = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
) -> Items[HitAge]:
    """Read the age of cached responses when they were served; what another `ttl_s` would keep."""
    whose = asked.tenant(tenant)
    asked.need(whose or PLATFORM)
    rows = rules_and_stats.hit_ages(asked.db, whose, model, *when)
    return Items[HitAge](data=[HitAge(**row) for row in rows])


@router.get("/threshold-preview")
def threshold_preview(
    asked: Reading, when: Moments, tenant: NameQuery = None
) -> Items[ThresholdPreview]:
    """Preview what other shares of wrong answers would give, and read what was measured.

    One row for each project and model whose questions are compared: the measured share of wrong
    answers with its 95 % interval, and `choices` by `false_hit_rate_max`: the threshold, the share
    of wrong answers to expect there, and what it would have done for the calls of that time (the
    last day by default): `hits` of the `lookups` that no identical question had answered, and
    `saved_pico` by currency.
    """
    whose = asked.tenant(tenant)
    asked.need(whose or PLATFORM)
    rows = []
    for one in _from_processes(asked, SemanticProcesses.reports):
        group = rules_and_stats.Group.of(one.group)
        if whose is not None and group.tenant != whose:
            continue
        thresholds = [preview.threshold for preview in one.previews]
        found = rules_and_stats.threshold_preview(asked.db, group, thresholds, *when)
        choices = [
            ThresholdChoice(
                false_hit_rate_max=preview.false_hit_rate_max,
                threshold=preview.threshold,
                false_hit_rate=preview.false_hit_rate,
                **choice,
            )
            for preview, choice in zip(one.previews, found["choices"], strict=True)
        ]
        rows.append(
            ThresholdPreview(
                **group._asdict(), false_hit_rate_max=one.false_hit_rate_max,
                false_hit_rate=one.false_hit_rate, false_hit_rate_low=one.low,
                false_hit_rate_high=one.high, checked=one.checked, served=one.served,
                pairs=one.pairs, pairs_needed=one.pairs_needed,
                threshold=one.threshold, exact_hits=found["exact_hits"],
                lookups=found["lookups"], choices=choices,
            )
        )  # fmt: skip
    return Items[ThresholdPreview](data=rows)


@router.get("/query-clusters")
def query_clusters(
    asked: Inspecting,
    when: Moments,
    tenant: NameQuery = None,
    limit: Annotated[int, Query(ge=1, le=CLUSTERS_MAX)] = 50,
) -> Items[QueryCluster]:
    """Read the frequent questions of a tenant's callers, their wordings and the savings.

    Candidates for a list of frequent questions, and for warming the cache. Only of projects whose
    questions are looked up semantically, as far as the processes that compare them remember. Who
    reads this is written down.
    """
    whose = asked.tenant(tenant)
    if whose is None:
        raise ApiError("invalid_value", "Name the tenant.", param="tenant")
    asked.need(whose)
    asked.note(whose, "query-clusters")
    given = rules_and_stats.most_given(asked.db, whose, *when)
    keys = [bytes.fromhex(key) for key in given]
    clusters = _from_processes(asked, lambda semantic: semantic.clusters(whose, keys, limit))
    rows = rules_and_stats.query_clusters(clusters, given)[:limit]
    return Items[QueryCluster](data=[QueryCluster(**row) for row in rows])


@router.post("/pairs")
def learn_pairs(asked: Dropping, wanted: PairsToLearn) -> Learned:
    """Teach the semantic cache from pairs of questions, before it has compared those of calls.

    Each pair counts as one that a call brought: the first question as if its answer were cached,
    the second as asked. At most 20 at a time, whose questions take at most 16,000 bytes;
    `tokenschain cache learn` sends a whole file.
    """
    asked.need(wanted.tenant)
    with reading(asked.context.engine) as db:
        if not organization.find(db, "project", wanted.tenant, wanted.project):
            raise ApiError("not_found", "There is no such project.", param="project")
    snapshot = asked.context.publisher.snapshot
    directory = ModelDirectory(snapshot, wanted.tenant)
    model = directory.named(wanted.model)
    if all(model != name for name, _ in directory.names()):
        raise ApiError("model_not_found", f"The model `{model}` is not served.", param="model")
    if snapshot.cache.mode_of(wanted.tenant, wanted.project, model) != "semantic":
        raise ApiError(
            "conflict",
            "Questions are not compared by meaning there: set `cache.mode` to `semantic` first.",
            param="model",
        )
    group = f"{wanted.tenant}/{wanted.project}/{model}"
    pairs = [LabelledPair(pair.a, pair.b, pair.y == 1) for pair in wanted.pairs]
    most = snapshot.cache.false_hit_rate_max_of(wanted.tenant, wanted.project, model)
    told = _from_processes(
        asked, lambda semantic: semantic.teach(wanted.tenant, group, pairs, most)
    )
    if not told:
        raise ApiError(
            "server_busy",
            "No process that compares questions answers in time: see whether `tokenschain "
            "semantic` runs, or send fewer pairs.",
        )
    asked.note(wanted.tenant, f"pairs/{group}", {"pairs": len(pairs)})
    least = min(told, key=lambda one: one.pairs)
    return Learned(
        learned=least.learned, unlike=least.unlike, pairs=least.pairs,
        pairs_needed=least.pairs_needed, threshold=least.threshold, processes=len(told),
    )  # fmt: skip


Told = TypeVar("Told")


def _from_processes(
    asked: RequestContext, question: Callable[[SemanticProcesses], Coroutine[Any, Any, list[Told]]]
) -> list[Told]:
    """Ask the processes that compare questions, from a worker thread."""
    semantic = asked.context.semantic
    return [] if semantic is None else asked.wait_for(question, semantic)


@router.post("/feedback")
def feedback(asked: Judging, said: Feedback) -> Judged:
    """Report whether a cached response was right; a wrong one is dropped within a second.

    It counts against the false-hit rate. `request_id` is the `x-request-id` of the answer.
    """
    row = rules_and_stats.call_of(asked.db, said.request_id)
    if row is None or not asked.permitted(row.tenant, project=row.project):
        raise ApiError("not_found", "There is no such call.", param="request_id")
    if not row.cache_key:
        raise ApiError(
            "invalid_value", "This answer did not come from the cache.", param="request_id"
        )
    if not said.right:
        rules_and_stats.flush(asked.db, row.tenant, "entry", row.cache_key)
    detail = {"right": said.right, "comment": said.comment, "cache": row.cache}
    asked.note(row.tenant, f"entry/{row.cache_key}", detail)
    return Judged(entry=row.cache_key, cache=row.cache, dropped=not said.right)
