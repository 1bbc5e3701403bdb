"""Response cache rules as published: mode, TTL, false-hit rate."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tokenschain.core.snapshot.data_classes import ClassCache, names_in, strictest_cache
from tokenschain.core.snapshot.routing_policy import RuleScope, narrowest

FALSE_HIT_RATE_MAX = 0.01
"""Share of wrong answers among those given from the cache, where nothing else was agreed."""


TTL_MAX_S = 2_592_000
"""The longest that an answer may be kept."""


Mode = Literal["off", "exact", "semantic"]


class CacheRules(msgspec.Struct, frozen=True):
    """Which responses are cached, for whom and for how long."""

    mode: Annotated[
        Mode,
        Meta(
            description="`off`; `exact`: the same request gets the same answer; `semantic`: so "
            "does a question that means the same."
        ),
    ] = "off"
    mode_overrides: Annotated[
        dict[RuleScope, Mode],
        Meta(
            description="Modes by `tenant/NAME`, `project/NAME` or `model/NAME`; a model's beats a "
            "project's, that a tenant's."
        ),
    ] = {}
    scope: Annotated[
        Literal["project", "user"],
        Meta(
            description="Who shares answers: everyone of a `project` and environment, or each "
            "`user` (the request's `user`, else its key) alone."
        ),
    ] = "project"
    ttl_s: Annotated[
        float,
        Meta(
            gt=0,
            le=TTL_MAX_S,
            description="Seconds that an answer stays in the cache, plus or minus a tenth. "
            "Questions about the present (today, latest, weather, prices) get 300 s at most.",
        ),
    ] = 86_400.0
    temperature_max: Annotated[
        float,
        Meta(ge=0, le=2, description="Calls that ask for a higher temperature are not cached."),
    ] = 0.3
    entry_bytes_max: Annotated[
        int, Meta(ge=1_024, description="Largest answer that is kept, in bytes.")
    ] = 262_144
    memory_bytes_max: Annotated[
        int, Meta(ge=1_048_576, description="Memory for answers in each gateway worker, in bytes.")
    ] = 67_108_864
    tenant_share: Annotated[
        float, Meta(gt=0, le=1, description="Share of that memory that one tenant may fill.")
    ] = 0.5
    writes_per_minute: Annotated[
        int, Meta(ge=1, description="How many answers one API key may add a minute.")
    ] = 600
    tool_calls: Annotated[
        bool, Meta(description="Whether answers that call tools are kept.")
    ] = False  # fmt: skip
    hit_price: Annotated[
        float,
        Meta(
            ge=0,
            le=1,
            description="What a customer pays for an answer from the cache, as a share of the "
            "usual price.",
        ),
    ] = 0.0
    false_hit_rate_max: Annotated[
        dict[RuleScope, Annotated[float, Meta(gt=0, le=0.2)]],
        Meta(
            description="Highest share of wrong answers among semantic hits, by `tenant/NAME`, "
            "`project/NAME`, `model/NAME` or `*`; 0.01 where nothing is set."
        ),
    ] = {}
    replay_chars_per_s: Annotated[
        float,
        Meta(
            ge=0,
            description="Pace at which a cached answer is streamed, in characters a second; 0 "
            "sends it at once.",
        ),
    ] = 0.0
    flushed: dict[str, float] = {}
    """What was stored until then is no longer given: Unix times by `flush_name`."""

    classes: dict[str, ClassCache] = {}
    """What is kept of those data classes that are not kept as others."""

    def of_classes(self, tenant: str, joined: str) -> ClassCache:
        """What may be kept of a call of classes, as its key's grant has them."""
        given = self.classes
        names = names_in(joined)
        keys = (key for name in names for key in (name, f"{tenant}/{name}"))
        return strictest_cache(given[key] for key in keys if key in given)

    @property
    def compares_meanings(self) -> bool:
        """Whether anyone's questions are compared by meaning."""
        return "semantic" in (self.mode, *self.mode_overrides.values())

    def mode_of(self, tenant: str, project: str, model: str) -> Mode:
        """The mode in force for a call."""
        return narrowest(self.mode_overrides, tenant, project, model, self.mode)

    def false_hit_rate_max_of(self, tenant: str, project: str, model: str) -> float:
        """The highest share of wrong answers agreed for a call."""
        agreed = self.false_hit_rate_max
        return narrowest(agreed, tenant, project, model, agreed.get("*", FALSE_HIT_RATE_MAX))

    def flushed_at(self, tenant: str, project: str, model: str) -> float:
        """When the last answers that a call could get were dropped."""
        flushed = self.flushed
        if not flushed:
            return 0.0
        names = (
            flush_name(""), flush_name(tenant), flush_name(tenant, "project", project),
            flush_name("", "model", model), flush_name(tenant, "model", model),
        )  # fmt: skip
        return max(flushed.get(name, 0.0) for name in names)


def flush_name(tenant: str, part: str = "", value: str = "") -> str:
    """What is dropped: of one tenant or of all, everything or one `project`, `model`, `tag`
    (as `name=value`) or `entry` (its key in hex)."""
    return f"{tenant}/{part}/{value}"
