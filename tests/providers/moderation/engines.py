"""Engines for tests: the real ones against simulated clouds, and plain ones that say what they are
told."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import Sequence

from tests.vendors.moderation_clouds import CREDENTIAL, PROJECT
from tokenschain.core.moderation.verdict import (
    Direction,
    EngineContext,
    EngineCost,
    EngineFailed,
    EngineFailure,
    EngineVerdict,
    Level,
    RiskFinding,
)
from tokenschain.providers.moderation.alibaba_green import AlibabaGreen
from tokenschain.providers.moderation.baidu_censor import BaiduCensor
from tokenschain.providers.moderation.cloud_engine import (
    CallQuota,
    CloudEngine,
    EngineClock,
    EnginePrice,
)
from tokenschain.providers.moderation.huawei_moderation import HuaweiModeration
from tokenschain.providers.moderation.tencent_tianyu import TencentTianyu
from tokenschain.providers.moderation.vendor import ModerationVendor
from tokenschain.providers.moderation.verdict_cache import VerdictCache
from tokenschain.wire.client import HttpClient

LONG_S = 20.0
"""Long enough for an answer on the slowest machine."""
NAMES = ("alibaba", "tencent", "baidu", "huawei")
PRICE_PICO = 750_000_000


def vendor(name: str, url: str) -> ModerationVendor:
    vendors: dict[str, ModerationVendor] = {
        "alibaba": AlibabaGreen(base_url=url),
        "tencent": TencentTianyu(base_url=url, image_base_url=url),
        "baidu": BaiduCensor(base_url=url),
        "huawei": HuaweiModeration(PROJECT, base_url=url),
    }
    return vendors[name]


def clock(monotonic: object = time.monotonic, unix_time: object = time.time) -> EngineClock:
    numbers = itertools.count(time.time_ns())
    return EngineClock(monotonic, unix_time, random.random, lambda: f"{next(numbers):032x}")  # type: ignore[arg-type]


def engine(
    name: str,
    url: str,
    client: HttpClient,
    *,
    credential: str | None = CREDENTIAL,
    quota: CallQuota | None = None,
    at: EngineClock | None = None,
    price: EnginePrice = EnginePrice(PRICE_PICO),
) -> CloudEngine:
    cache = VerdictCache(lambda data: hashlib.sha256(data).digest(), str.lower)
    return CloudEngine(
        name,
        vendor(name, url),
        client,
        lambda: credential,
        quota or CallQuota(10_000),
        cache,
        at or clock(),
        price,
    )


def context(deadline_s: float = LONG_S, session: str = "", tenant: str = "bank") -> EngineContext:
    return EngineContext("call-1", tenant, session, "u-1", deadline_s, "7")


class Scripted:
    """A plain engine: `level` of one category, or a failure, or silence."""

    takes_images = False

    def __init__(
        self,
        name: str,
        level: Level = Level.NONE,
        fails: EngineFailure | None = None,
        *,
        silent: bool = False,
        category: str = "values/other",
    ) -> None:
        self.name, self._level, self._fails = name, level, fails
        self._silent, self._category = silent, category
        self.asked = self.cancelled = 0
        self.reached = asyncio.Event()

    async def screen(
        self,
        texts: Sequence[str],
        direction: Direction,
        asked_for: EngineContext,
        images: Sequence[str] = (),
    ) -> EngineVerdict:
        self.asked += 1
        self.reached.set()
        if self._silent:
            try:
                await asyncio.sleep(3_600)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        await asyncio.sleep(0)
        if self._fails is not None:
            raise EngineFailed(self.name, self._fails, "code")
        found = (RiskFinding(self._category, self._level),) if self._level else ()
        return EngineVerdict(
            self.name, found, f"id-{self.name}", (EngineCost(self.name, 1, PRICE_PICO),)
        )
