"""Response cache rules as published: mode, TTL, false-hit rate."""

from __future__ import annotations

from typing import Literal

import msgspec

from tokenschain.core.snapshot.routing_policy import narrowest

WRONG_MAX = 0.01
"""Share of wrong answers among those given from the cache, where nothing else was agreed."""


Mode = Literal["off", "exact", "semantic"]


class CacheRules(msgspec.Struct, frozen=True):
    """How answers are given a second time; see `infra.config.CacheSettings` for the units."""

    mode: Mode = "off"
    policies: dict[str, Mode] = {}
    """By `tenant/NAME`, `project/NAME` or `model/NAME`; a model's beats a project's, that a
    tenant's."""
    scope: Literal["project", "user"] = "project"
    ttl_s: float = 86_400.0
    temperature_max: float = 0.3
    entry_bytes_max: int = 262_144
    memory_bytes_max: int = 67_108_864
    tenant_share: float = 0.5
    writes_per_minute: int = 600
    tool_calls: bool = False
    hit_price: float = 0.0
    wrong_max: dict[str, float] = {}
    replay_chars_per_s: float = 0.0
    flushed: dict[str, float] = {}
    """What was stored until then is no longer given: Unix times by `flush_name`."""

    def mode_of(self, tenant: str, project: str, model: str) -> Mode:
        """The mode in force for a call."""
        return narrowest(self.policies, tenant, project, model, self.mode)

    def wrong_max_of(self, tenant: str, project: str, model: str) -> float:
        """The share of wrong answers agreed for a call."""
        agreed = self.wrong_max
        return narrowest(agreed, tenant, project, model, agreed.get("*", WRONG_MAX))

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
