"""`make pictures`: the console's main pages as pictures, of a platform whose calls are made up.

Each run shows the same: numbers come of one seed, and the clock begins at `NOW`. Ids differ.
"""

from __future__ import annotations

import base64
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from playwright.sync_api import Browser as Chromium

from tests.console.served import chromium, served
from tests.console.test_static_files import CACHE
from tests.console.visitors import House, ScriptedGateway, unseen
from tests.house.tree import ROOT
from tests.records import record
from tests.security.platform import Platform, platform
from tokenschain.console.app import Console, ConsoleSettings
from tokenschain.console.playground import Playground
from tokenschain.console.rendering import CloudProvider
from tokenschain.control import gateways, revisions
from tokenschain.control.upstream_health import RECENT_S
from tokenschain.core import call_record
from tokenschain.core.call_record import AttemptRecord, CallRecord, RouteRecord
from tokenschain.core.gateway_status import GatewayStatus, KeyStatus, UpstreamStatus
from tokenschain.core.pricing.catalog import PICO_PER_UNIT, DatedPrice, Price, PriceTier
from tokenschain.core.snapshot import ModelRoute, Offer, Snapshot, Upstream
from tokenschain.infra.security.suite import INTERNATIONAL

FOLDER = ROOT / "docs" / "images" / "console"
NOW = datetime.fromisoformat("2026-11-27T16:42:00+08:00").timestamp()
HOURS, CALLS_AN_HOUR = 48, 400
"""How far back calls go, and how many the busiest hour has."""
QUALITY = 82
BYTES_MAX = 150_000
WIDTH, HEIGHT = 1_440, 900
TENANT, PROJECT = "storefront", "assistant"
RESCUED = "req_rescued"
"""The call whose drawer is shown."""


class Sold(NamedTuple):
    """A model, its price in yuan per million tokens, and how fast and how often it is called."""

    owner: str
    input: float
    output: float
    first_token_ms: float
    weight: int
    upstreams: tuple[str, ...]


MODELS = {
    "deepseek-v3.2": Sold("deepseek", 2, 3, 420, 30, ("volcano", "deepseek", "siliconflow")),
    "qwen3-max": Sold("alibaba", 6, 24, 610, 22, ("bailian", "siliconflow")),
    "kimi-k2": Sold("moonshotai", 4, 16, 540, 14, ("moonshot", "volcano")),
    "glm-4.6": Sold("zhipu", 2, 8, 480, 12, ("zhipu",)),
    "qwen3-235b-a22b": Sold("alibaba", 2, 8, 380, 10, ("bailian", "siliconflow")),
    "minimax-m2": Sold("minimax", 2.1, 8.4, 450, 7, ("siliconflow",)),
}
PROVIDERS = {
    "bailian": "aliyun", "deepseek": "deepseek", "moonshot": "moonshot",
    "siliconflow": "siliconflow", "volcano": "volcano", "zhipu": "zhipu",
}  # fmt: skip
BREAKERS = {"siliconflow": "open"}
DOWN = {"siliconflow": "down: connection refused"}


class Picture(NamedTuple):
    """One picture of one page."""

    name: str
    path: str
    language: str = "en"
    theme: str = "light"
    width: int = WIDTH


PICTURES = (
    Picture("overview-en", ""),
    Picture("overview-zh", "", "zh"),
    Picture("overview-zh-dark", "", "zh", "dark"),
    Picture("call-en", f"/calls?call={RESCUED}"),
    Picture("call-zh", f"/calls?call={RESCUED}", "zh"),
    Picture("models-en", "/models"),
    Picture("routing-en", "/routing"),
    Picture("wallet-en", f"/wallet?tenant={TENANT}"),
    Picture("wallet-zh", f"/wallet?tenant={TENANT}", "zh"),
    Picture("system-en", "/system"),
    Picture("night-zh", "/night", "zh", "dark", 480),
)


def _price(input_yuan: float, output_yuan: float) -> Price:
    return Price("CNY", (PriceTier(round(input_yuan * 1e6), round(output_yuan * 1e6)),), "list")


def _snapshot() -> Snapshot:
    models = {
        name: ModelRoute(
            name, "chat",
            tuple(
                Offer(upstream, name, _price(sold.input * (1 + n / 10), sold.output * (1 + n / 10)),
                      context_window=131_072, abilities=("tools", "json"))
                for n, upstream in enumerate(sold.upstreams)
            ),
            sold.owner,
        )
        for name, sold in MODELS.items()
    }  # fmt: skip
    upstreams = {
        name: Upstream(name, provider, f"https://{name}.example/v1", zone="cn")
        for name, provider in PROVIDERS.items()
    }
    sell: dict[str, tuple[DatedPrice, ...]] = {
        name: (DatedPrice(0, _price(s.input * 1.1, s.output * 1.1)),) for name, s in MODELS.items()
    }
    return Snapshot("", upstreams, models, sell=sell)


def _call(chance: random.Random, number: int, at_ms: int) -> CallRecord:
    """One call: most succeed, some are cached, rescued, limited or fail."""
    name = chance.choices(list(MODELS), [one.weight for one in MODELS.values()])[0]
    sold, kind = MODELS[name], chance.random()
    wait_ms = sold.first_token_ms * chance.lognormvariate(0, 0.35)
    prompt, completion = chance.randint(80, 2_400), chance.randint(20, 700)
    cost = round(PICO_PER_UNIT * (sold.input * prompt + sold.output * completion) / 1e6)
    whole_ms = wait_ms + completion * chance.uniform(6, 14)
    served_by = sold.upstreams[0]
    fields: dict[str, object] = {
        "started_ms": at_ms, "tenant": TENANT, "project": PROJECT, "environment": "production",
        "model_asked": name, "model_served": name, "upstream": served_by, "streamed": True,
        "prompt_tokens": prompt, "completion_tokens": completion, "cost_pico": cost,
        "charge_pico": round(cost * 1.1), "first_token_ms": wait_ms, "total_ms": whole_ms,
        "cache": "miss", "attempts": [AttemptRecord(served_by, 2.0, wait_ms, whole_ms, "ok")],
    }  # fmt: skip
    if kind < 0.27:
        fields |= {"cache": "hit-semantic", "upstream": "", "attempts": [], "cost_pico": 0,
                   "charge_pico": 0, "saved_pico": cost, "saved_tokens": prompt + completion,
                   "cache_key": f"{number:032x}", "first_token_ms": 7.0, "total_ms": 19.0}  # fmt: skip
    elif kind < 0.31 and len(sold.upstreams) > 1:
        other = sold.upstreams[1]
        fields |= {"upstream": other, "first_token_ms": wait_ms + 900, "total_ms": whole_ms + 900,
                   "attempts": [AttemptRecord(served_by, 2.0, 310.0, 870.0, "upstream_failed"),
                                AttemptRecord(other, 900.0, wait_ms + 900, whole_ms + 900, "ok")]}  # fmt: skip
    elif kind < 0.314:
        fields |= {"outcome": "upstream_failed", "status": 502, "completion_tokens": 0,
                   "cost_pico": 0, "charge_pico": 0,
                   "attempts": [AttemptRecord(served_by, 2.0, None, wait_ms, "upstream_failed")]}  # fmt: skip
    return record(number, event_id=f"req_{chance.getrandbits(64):016x}", **fields)


def _calls() -> Iterator[CallRecord]:
    chance, numbers = random.Random(7), count()
    for hour in range(HOURS):
        busy = 0.5 + 0.5 * (1 - abs(12 - (hour + 7) % 24) / 12)
        for _ in range(round(CALLS_AN_HOUR * busy * chance.uniform(0.85, 1.1))):
            back_s = (HOURS - 1 - hour) * 3_600 + chance.uniform(2, 3_500)
            yield _call(chance, next(numbers), round((NOW - back_s) * 1e3))
    for second in range(1, 60, 3):  # those that are live
        yield _call(chance, next(numbers), round((NOW - second) * 1e3))
    shown = _call(random.Random(8), next(numbers), round((NOW - 5) * 1e3))
    shown.event_id, shown.model_asked, shown.model_served = RESCUED, "kimi-k2", "kimi-k2"
    shown.outcome, shown.status, shown.cache, shown.upstream = "ok", 200, "miss", "volcano"
    shown.first_token_ms, shown.total_ms = 2_500.0, 4_920.0
    shown.prompt_tokens, shown.cached_tokens, shown.completion_tokens = 1_101, 770, 104
    shown.cost_pico = shown.charge_pico = 6_068_000_000
    shown.attempts = [
        AttemptRecord("moonshot", 2.0, 380.0, 1_450.0, "upstream_failed"),
        AttemptRecord("volcano", 1_455.0, 2_500.0, 4_915.0, "ok"),
    ]
    shown.route = [RouteRecord("moonshot", 540, 6e9, 0.11, meets_slo=True),
                   RouteRecord("volcano", 655, 6.4e9, 0.38, meets_slo=True)]  # fmt: skip
    shown.route_reason = "failover"
    yield shown


def _furnish(made: Platform) -> None:
    """One tenant with a key, deposits, budgets and the upstreams it calls."""
    for kind, name, more in (
        ("tenant", TENANT, {}),
        ("project", PROJECT, {}),
        ("environment", "production", {"project": PROJECT}),
    ):
        made.operator("POST", "/organization/units",
                      {"kind": kind, "tenant": TENANT, "name": name} | more)  # fmt: skip
    made.operator("POST", "/keys",
                  {"tenant": TENANT, "project": PROJECT, "name": "assistant"})  # fmt: skip
    for n, amount in enumerate(("5000", "12000")):
        paid = {"amount": amount, "reference": f"ICBC 2026-11-{3 + n:02}"}
        made.operator("POST", f"/wallets/{TENANT}/deposits", paid)
    spend = {"kind": "budget", "measure": "spend", "per": []}
    for name, most, period, match in (
        ("storefront", 240, "month", {"tenant": TENANT}),
        ("assistant", 60, "day", {"tenant": TENANT, "project": PROJECT}),
    ):
        limit = {"amount": most * PICO_PER_UNIT, "period": period, "match": match}
        made.operator("PUT", f"/limits/{name}", spend | limit)
    for name, provider in PROVIDERS.items():
        prices = {m: {"input": str(s.input), "output": str(s.output)}
                  for m, s in MODELS.items() if name in s.upstreams}  # fmt: skip
        spec = {"provider": provider, "base_url": f"https://{name}.example/v1", "zone": "cn",
                "models": list(prices), "prices": prices}  # fmt: skip
        made.operator("PUT", f"/upstreams/{name}", {"spec": spec})


def _call_and_report(made: Platform) -> None:
    """Two days of calls, and what two gateways say of themselves."""
    key = str(made.rows("SELECT id FROM api_keys")[0][0])
    context = made.app.state.context
    late_ms, gone_ms = (NOW - RECENT_S) * 1e3, (NOW - 2 * RECENT_S) * 1e3
    calls = [one for one in _calls() if one.upstream not in DOWN or one.started_ms < gone_ms]
    for call in calls:
        call.key_id = key
    for late in (False, True):
        entered = [one for one in calls if (one.started_ms >= late_ms) is late]
        context.ledger.ingest([call_record.encode(call) for call in entered])
    context.publisher.snapshot = _snapshot()
    context.publisher.health = dict.fromkeys(PROVIDERS, "up") | DOWN
    with made.engine.begin() as connection:
        context.publisher.revision = revisions.current(connection)
    for n in range(2):
        told = tuple(
            UpstreamStatus(name, BREAKERS.get(name, "closed"), running=2 * n + len(name) % 4,
                           keys=(KeyStatus(1, "ready"), KeyStatus(2, "ready")))
            for name in PROVIDERS
        )  # fmt: skip
        gateways.note(made.engine, GatewayStatus(
            f"gateway-{n + 1}-0", 0, 1, "0.1.0", NOW, context.publisher.revision, 0.2, 40_960, 256_000_000, 0.4, told,
        ))  # fmt: skip


@contextmanager
def made_up(folder: Path) -> Iterator[House]:
    """A console over two days of calls of one tenant, with what it paid and what bounds it."""
    with platform(folder) as made:
        _furnish(made)
        _call_and_report(made)
        settings = ConsoleSettings(
            None, False, "https://api.example.cn/v1", CACHE,
            (CloudProvider("deepseek", "DeepSeek", True),),
        )  # fmt: skip
        gateway = ScriptedGateway()
        console = Console(made.app, settings, INTERNATIONAL, unseen,
                          Playground(gateway, made.app.state.context.sealer))  # fmt: skip
        yield House(made, console, CACHE, gateway)


def take(browser: Chromium, base: str, token: str, picture: Picture) -> bytes:
    """The picture, as WebP."""
    tab = browser.new_page(viewport={"width": picture.width, "height": HEIGHT},
                           reduced_motion="reduce")  # fmt: skip
    wanted = {"tc": token, "tc_lang": picture.language, "tc_theme": picture.theme}
    tab.context.add_cookies(
        [{"name": name, "value": value, "url": base} for name, value in wanted.items()]
    )
    tab.goto(f"{base}/console{picture.path}", wait_until="load")
    tab.wait_for_timeout(1_500)
    options = {"format": "webp", "quality": QUALITY}
    shot = tab.context.new_cdp_session(tab).send("Page.captureScreenshot", options)
    tab.close()
    return base64.b64decode(shot["data"])


@contextmanager
def still(at_s: float) -> Iterator[None]:
    """The clock shows this time, and goes on."""
    ahead_s = at_s - time.time()
    real = time.time
    with (
        mock.patch("time.time", lambda: real() + ahead_s),
        mock.patch("time.time_ns", lambda: round((real() + ahead_s) * 1e9)),
    ):
        yield


def main() -> None:
    """Write each picture into docs."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, still(NOW), made_up(Path(folder)) as house:
        token = house.platform.person("*", "owner").token
        with served(house.console) as base, chromium() as browser:
            for picture in PICTURES:
                shot = take(browser, base, token, picture)
                if len(shot) > BYTES_MAX:
                    sys.exit(f"{picture.name} has {len(shot):,} bytes of {BYTES_MAX:,}")
                (FOLDER / f"{picture.name}.webp").write_bytes(shot)


if __name__ == "__main__":
    main()
