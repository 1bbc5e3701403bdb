"""Admin routes of the cache: what it did, and what it is to forget."""

import time
from collections.abc import Callable
from typing import Annotated, Any

from anyio import from_thread
from fastapi import APIRouter, Depends, Query
from pydantic import Field, model_validator

from tokenschain.control.api.context import (
    Asked,
    Body,
    IntMoment,
    MaybeLabel,
    NameQuery,
    TransactionRoute,
)
from tokenschain.control.cache import rules_and_stats
from tokenschain.control.cache.semantic_client import Insight
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM

DAY_S = 86_400
QUESTIONS_MAX = 200
router = APIRouter(prefix="/api/v1/cache", route_class=TransactionRoute)


def _moments(from_s: IntMoment = None, until_s: IntMoment = None) -> tuple[int, int]:
    """From when until when, in ms; the last day by default."""
    now = int(time.time())
    return (
        (now - DAY_S if from_s is None else from_s) * 1_000,
        (now + DAY_S if until_s is None else until_s) * 1_000,
    )


Moments = Annotated[tuple[int, int], Depends(_moments)]


class Flush(Body):
    """What is dropped: everything of a tenant, or one part of it; of all tenants without one."""

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


@router.post("/flush")
def flush(asked: Asked, wanted: Flush) -> dict[str, Any]:
    """Give none of these answers again; gateways obey within a second.

    `hits_last_day` and `answers_last_day` say what that is worth: how often such answers were
    given again in the last day, and how many different ones. With `dry_run` that is all.
    """
    asked.need("cache:write", wanted.tenant or PLATFORM)
    part, value = wanted.part
    since_ms = int((time.time() - DAY_S) * 1_000)
    worth = rules_and_stats.hits_of(asked.db, since_ms, wanted.tenant, part, value)
    answer: dict[str, Any] = {
        "hits_last_day": worth["hits"], "answers_last_day": worth["answers"], "flushed_until": None,
    }  # fmt: skip
    if not wanted.dry_run:
        answer["flushed_until"] = rules_and_stats.flush(asked.db, wanted.tenant, part, value)
        asked.note("cache:write", wanted.tenant, f"{part}/{value}")
    return answer


@router.get("/stats")
def stats(asked: Asked, when: Moments, tenant: NameQuery = None) -> dict[str, Any]:
    """What the cache did, by tenant, model, outcome and reason, and what it saved; of the last
    day by default."""
    whose = asked.tenant(tenant, "cache:read")
    asked.need("cache:read", whose or PLATFORM)
    return {"data": rules_and_stats.stats(asked.db, whose, *when)}


@router.get("/hit-ages")
def hit_ages(
    asked: Asked,
    when: Moments,
    tenant: NameQuery = None,
    model: Annotated[str | None, Query(max_length=256)] = None,
) -> dict[str, Any]:
    """How old answers were that were given again; `share_within` is the share of hits that would
    be left if answers were kept no longer than `age_s_max`."""
    whose = asked.tenant(tenant, "cache:read")
    asked.need("cache:read", whose or PLATFORM)
    return {"data": rules_and_stats.hit_ages(asked.db, whose, model, *when)}


@router.get("/threshold-preview")
def threshold_preview(asked: Asked, when: Moments, tenant: NameQuery = None) -> dict[str, Any]:
    """What was measured of the answers given by meaning, and what would come of agreeing on
    another share of wrong ones.

    One row for each project and model whose questions are compared: the measured share of wrong
    answers with its 95 % interval, and `choices` by `wrong_max`: the threshold, the share of wrong
    answers to expect there, and what it would have done for the calls of that time (the last day
    by default): `hits` of the `lookups` that no identical question had answered, and
    `saved_pico` by currency.
    """
    whose = asked.tenant(tenant, "cache:read")
    asked.need("cache:read", whose or PLATFORM)
    rows = []
    for one in _from_processes(asked, Insight.reports):
        group = rules_and_stats.Group.of(one.group)
        if whose is not None and group.tenant != whose:
            continue
        thresholds = [preview.threshold for preview in one.previews]
        found = rules_and_stats.threshold_preview(asked.db, group, thresholds, *when)
        choices = [
            {
                "wrong_max": preview.false_hit_rate_max,
                "threshold": preview.threshold,
                "wrong": preview.false_hit_rate,
            }
            | choice
            for preview, choice in zip(one.previews, found["choices"], strict=True)
        ]
        rows.append(
            group._asdict()
            | {"agreed": one.false_hit_rate_max, "wrong": one.false_hit_rate, "wrong_low": one.low,
               "wrong_high": one.high, "checked": one.checked, "served": one.served,
               "threshold": one.threshold, "exact": found["exact"], "lookups": found["lookups"],
               "choices": choices}
        )  # fmt: skip
    return {"data": rows}


@router.get("/query-clusters")
def query_clusters(
    asked: Asked,
    when: Moments,
    tenant: NameQuery = None,
    limit: Annotated[int, Query(ge=1, le=QUESTIONS_MAX)] = 50,
) -> dict[str, Any]:
    """What a tenant's callers ask again and again, in whose words, what they are answered and
    what that saves: candidates for a list of frequent questions, and for warming the cache.

    Only of projects whose questions are compared by meaning, as far as the processes that compare
    them remember. Who reads this is written down.
    """
    whose = asked.tenant(tenant, "cache:inspect")
    if whose is None:
        raise ApiError("invalid_value", "Name the tenant.", param="tenant")
    asked.need("cache:inspect", whose)
    asked.note("cache:inspect", whose, "query-clusters")
    given = rules_and_stats.most_given(asked.db, whose, *when)
    keys = [bytes.fromhex(key) for key in given]
    clusters = _from_processes(asked, Insight.clusters, whose, keys, limit)
    return {"data": rules_and_stats.query_clusters(clusters, given)[:limit]}


def _from_processes(asked: Asked, question: Callable[..., Any], *given: Any) -> list[Any]:
    """Ask the processes that compare questions, from a worker thread."""
    insight = asked.context.insight
    if insight is None:
        return []
    found: list[Any] = from_thread.run(question, insight, *given)
    return found


class Feedback(Body):
    """What somebody says of an answer that came from the cache."""

    request_id: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[\w-]+$")]
    right: bool
    comment: Annotated[str, Field(max_length=1_000)] = ""


@router.post("/feedback")
def feedback(asked: Asked, said: Feedback) -> dict[str, Any]:
    """Say whether an answer given again was right; a wrong one is dropped within a second, and
    counts against what is served by meaning.

    `request_id` is the `x-request-id` of the answer.
    """
    row = rules_and_stats.call_of(asked.db, said.request_id)
    if row is None or not asked.may("cache:write", row.tenant, project=row.project):
        raise ApiError("not_found", "There is no such call.", param="request_id")
    if not row.cache_key:
        raise ApiError(
            "invalid_value", "This answer did not come from the cache.", param="request_id"
        )
    if not said.right:
        rules_and_stats.flush(asked.db, row.tenant, "entry", row.cache_key)
    detail = {"right": said.right, "comment": said.comment, "cache": row.cache}
    asked.note("cache:write", row.tenant, f"entry/{row.cache_key}", detail)
    return {"entry": row.cache_key, "cache": row.cache, "dropped": not said.right}
