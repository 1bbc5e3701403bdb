"""Moderation engines of the settings: each vendor's module by name, and reviews of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tokenschain.core.log_events import Reporter
from tokenschain.core.moderation.arbitration import ArbitrationRule, OnFailure
from tokenschain.core.moderation.engine_events import EngineEvent, EngineEventKind
from tokenschain.core.moderation.engine_record import EngineStatus
from tokenschain.core.ports import ModerationEngine
from tokenschain.infra.config.moderation import ModerationEngineSettings, ModerationSettings
from tokenschain.providers.moderation import (
    alibaba_green,
    baidu_censor,
    huawei_moderation,
    tencent_tianyu,
)
from tokenschain.providers.moderation.cloud_engine import (
    CallQuota,
    CloudEngine,
    EngineClock,
    EnginePrice,
)
from tokenschain.providers.moderation.review import ReviewedByEngines, Reviewer
from tokenschain.providers.moderation.vendor import ModerationVendor
from tokenschain.providers.moderation.verdict_cache import VerdictCache
from tokenschain.wire.client import HttpClient

_PICO = 10**12
_PRICED_CALLS, _PRICED_CHARACTERS = 10_000, 1_000
CALLS_PER_SECOND: Mapping[str, int] = {
    "alibaba-green": alibaba_green.CALLS_PER_SECOND,
    "tencent-tianyu": tencent_tianyu.CALLS_PER_SECOND,
    "baidu-censor": baidu_censor.CALLS_PER_SECOND,
    "huawei-moderation": huawei_moderation.CALLS_PER_SECOND,
}


class ModerationEngines(Mapping[str, ModerationEngine]):
    """Every engine and review by its name."""

    def __init__(
        self,
        settings: ModerationSettings,
        client: HttpClient,
        secret_of: Callable[[str], str | None],
        cache: VerdictCache,
        clock: EngineClock,
        report: Reporter,
    ) -> None:
        """
        Args:
            secret_of: the secret behind a reference; None while it cannot be had.
        """
        self._settings = settings
        self._clouds = {
            name: CloudEngine(
                name,
                vendor_of(one),
                client,
                _Secret(one.credential, secret_of),
                CallQuota(
                    one.calls_per_second or CALLS_PER_SECOND[one.vendor], one.calls_per_day or None
                ),
                cache,
                clock,
                price_of(one),
            )
            for name, one in settings.engines.items()
        }
        tell = EventReporter(report)
        # One engine alone is a review, too: its failures are audit events as well.
        self._reviewed: dict[str, ModerationEngine] = {
            name: ReviewedByEngines(
                [self._reviewer(name, settings)],
                ArbitrationRule.STRICTER,
                tell,
                clock.monotonic,
                dual=False,
            )
            for name in settings.engines
        }
        self._zones = {name: frozenset((one.zone,)) for name, one in settings.engines.items()}
        for name, review in settings.reviews.items():
            self._zones[name] = frozenset(settings.engines[one].zone for one in review.engines)
            self._reviewed[name] = ReviewedByEngines(
                [self._reviewer(engine, settings) for engine in review.engines],
                ArbitrationRule(review.arbitration),
                tell,
                clock.monotonic,
                dual=review.verdicts > 1,
            )

    def __getitem__(self, name: str) -> ModerationEngine:
        return self._reviewed[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._reviewed)

    def __len__(self) -> int:
        return len(self._reviewed)

    def zones(self, name: str) -> frozenset[str]:
        """Where the texts go that an engine or a review is given; `` for a zone not known."""
        return self._zones.get(name, frozenset())

    def refresh(self) -> None:
        """Read the credentials again. Off the hot path."""
        for engine in self._clouds.values():
            engine.refresh()

    def statuses(self) -> list[EngineStatus]:
        """How each cloud's engine is, by name."""
        settings = self._settings.engines
        return [
            engine.status(settings[name].vendor, settings[name].zone)
            for name, engine in sorted(self._clouds.items())
        ]

    def secrets(self) -> frozenset[str]:
        """What no text may hold, for callers or in the log."""
        return frozenset().union(*(engine.secrets() for engine in self._clouds.values()))

    def _reviewer(self, name: str, settings: ModerationSettings) -> Reviewer:
        on_failure = settings.engines[name].on_failure
        return Reviewer(self._clouds[name], OnFailure(on_failure) if on_failure else None)


class EventReporter:
    """Audit events of engines as events of the log, where they are counted, too."""

    def __init__(self, report: Reporter) -> None:
        self._report = report

    def __call__(self, event: EngineEvent) -> None:
        known = {"engine": event.engine, "call": event.call_id, "tenant": event.tenant}
        why = " ".join(filter(None, (event.failure, event.detail)))
        match event.kind:
            case EngineEventKind.FAILED:
                self._report("moderation_engine_failed", why, **known)
            case EngineEventKind.HEDGED:
                self._report("moderation_engine_hedged", **known)
            case EngineEventKind.SINGLE:
                self._report("moderation_single_verdict", **known)
            case EngineEventKind.DISPUTED:
                self._report("moderation_disputed", why, category=event.category, **known)
            case EngineEventKind.NO_VERDICT:
                self._report("moderation_no_verdict", why, **known)


class _Secret:
    """A credential by its reference."""

    def __init__(self, reference: str, secret_of: Callable[[str], str | None]) -> None:
        self._reference, self._secret_of = reference, secret_of

    def __call__(self) -> str | None:
        return self._secret_of(self._reference)


def vendor_of(one: ModerationEngineSettings) -> ModerationVendor:
    """The vendor's service as it is set up."""
    url, region = one.base_url or "", one.region
    match one.vendor:
        case "alibaba-green":
            return alibaba_green.AlibabaGreen(region or "cn-shanghai", url)
        case "tencent-tianyu":
            image_url = one.image_base_url or ""
            return tencent_tianyu.TencentTianyu(
                region or "ap-guangzhou", url, image_url, one.strategy, one.image_strategy
            )
        case "baidu-censor":
            return baidu_censor.BaiduCensor(url, one.strategy)
        case "huawei-moderation":
            return huawei_moderation.HuaweiModeration(
                one.project, region or "cn-north-4", url, one.strategy
            )


def price_of(one: ModerationEngineSettings) -> EnginePrice:
    """What the vendor charges by the contract."""
    return EnginePrice(
        int(one.price_cny * _PICO / _PRICED_CALLS),
        int(one.price_cny_per_1000_characters * _PICO / _PRICED_CHARACTERS),
        one.charges_withdrawn,
    )
