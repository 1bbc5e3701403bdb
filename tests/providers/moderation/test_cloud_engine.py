"""Cloud moderation engines against simulators that check signature, limits and fields, and the
vendors' own SDKs against the same simulators."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
import pytest

from tests.providers.moderation.engines import LONG_S, NAMES, PRICE_PICO, clock, context, engine
from tests.vendors.moderation_clouds import (
    ACCESS,
    ATTACK,
    DOUBTFUL,
    GRAVE,
    SECRET,
    Cloud,
    ModerationClouds,
    moderation_clouds,
)
from tests.waiting import until
from tokenschain.core.moderation.risks import CATEGORIES
from tokenschain.core.moderation.verdict import (
    Direction,
    EngineCost,
    EngineFailed,
    EngineFailure,
    EngineVerdict,
    Level,
)
from tokenschain.core.routing.health import CONSECUTIVE_FAILURES_MAX
from tokenschain.providers.moderation import (
    alibaba_green,
    baidu_censor,
    huawei_moderation,
    tencent_tianyu,
)
from tokenschain.providers.moderation.cloud_engine import (
    PIECES_MAX,
    CallQuota,
    CloudEngine,
    EnginePrice,
)
from tokenschain.wire.client import HttpClient

T = TypeVar("T")
POLITICS, ADS = "values/national_security", "commercial/other"
PICTURE = "data:image/png;base64," + base64.b64encode(b"a bad picture").decode()
HARMLESS_PICTURE = "data:image/png;base64," + base64.b64encode(b"a picture").decode()


@pytest.fixture(scope="module")
def _running() -> Iterator[ModerationClouds]:
    with moderation_clouds() as clouds:
        yield clouds


@pytest.fixture
def clouds(_running: ModerationClouds) -> Iterator[ModerationClouds]:
    yield _running
    _running.heal()


def cloud(clouds: ModerationClouds, name: str) -> Cloud:
    found = getattr(clouds, name)
    assert isinstance(found, Cloud)
    return found


def with_engine(
    name: str, clouds: ModerationClouds, work: Callable[[CloudEngine], Awaitable[T]], **options: Any
) -> T:
    async def run() -> T:
        client = HttpClient()
        try:
            return await work(engine(name, clouds.url, client, **options))
        finally:
            client.close()

    return asyncio.run(run())


def screened(
    name: str,
    clouds: ModerationClouds,
    *texts: str,
    direction: Direction = Direction.INPUT,
    session: str = "",
    images: tuple[str, ...] = (),
) -> EngineVerdict:
    asked = context(session=session)
    return with_engine(name, clouds, lambda one: one.screen(texts, direction, asked, images))


def failure(name: str, clouds: ModerationClouds, *texts: str, **options: Any) -> EngineFailed:
    deadline_s = options.pop("deadline_s", LONG_S)
    with pytest.raises(EngineFailed) as caught:
        with_engine(
            name,
            clouds,
            lambda one: one.screen(texts, Direction.INPUT, context(deadline_s)),
            **options,
        )
    return caught.value


# --- what each finds -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_each_vendor_says_what_it_finds_in_our_words(name: str, clouds: ModerationClouds) -> None:
    text = f"一二三{GRAVE}四五"
    found = screened(name, clouds, "早上好", text, f"买{DOUBTFUL}")
    assert [(f.category, f.text) for f in found.findings if f.text == 1] == [(POLITICS, 1)]
    assert [(f.category, f.text) for f in found.findings if f.text == 2] == [(ADS, 2)]
    grave, doubtful = found.findings
    assert (grave.level, doubtful.level) == (Level.HIGH, Level.MEDIUM)
    assert grave.span == (3, 3 + len(GRAVE)) and text[slice(*grave.span)] == GRAVE
    assert 0.85 < grave.score <= 1 and grave.label and GRAVE not in grave.label
    assert found.engine == name and found.request_id
    assert found.costs == (EngineCost(found.engine, 3, 3 * PRICE_PICO),)


@pytest.mark.parametrize("name", NAMES)
def test_harmless_texts_have_no_findings(name: str, clouds: ModerationClouds) -> None:
    for direction in Direction:
        assert screened(name, clouds, "今天天气很好", direction=direction).findings == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_long_text_is_seen_whole(name: str, clouds: ModerationClouds) -> None:
    for at in (0, 1_999, 9_995, 19_000):
        text = "好" * at + GRAVE + "好" * (19_990 - at)
        (found, *more) = screened(name, clouds, text).findings
        assert found.span == (at, at + len(GRAVE)) and more == []


def test_every_label_of_every_vendor_has_one_of_our_categories() -> None:
    for vendor in (alibaba_green, tencent_tianyu, baidu_censor, huawei_moderation):
        assert set(vendor.CATEGORIES.values()) <= CATEGORIES
        assert "values/other" in CATEGORIES, "for labels that nobody knows"


def test_attacks_and_personal_data_are_found_by_alibaba(clouds: ModerationClouds) -> None:
    found = screened("alibaba", clouds, f"{ATTACK}, 电话 13800138000").findings
    assert {(f.category, f.level) for f in found} == {
        ("attack/jailbreak", Level.HIGH),
        ("rights/personal_information", Level.MEDIUM),
    }


@pytest.mark.parametrize("name", ["alibaba", "tencent"])
def test_images_are_looked_at_by_address_and_as_data(name: str, clouds: ModerationClouds) -> None:
    harmless = ("https://example.com/good.png", HARMLESS_PICTURE)
    assert screened(name, clouds, "看图", images=harmless).findings == ()
    bad = ("https://example.com/bad.png", HARMLESS_PICTURE, PICTURE)
    found = screened(name, clouds, "看图", images=bad)
    assert [(f.text, f.level, f.category) for f in found.findings] == [
        (1, Level.HIGH, "values/violence_obscenity"),
        (3, Level.HIGH, "values/violence_obscenity"),
    ]


@pytest.mark.parametrize("name", ["baidu", "huawei"])
def test_images_are_refused_by_who_does_not_take_them(name: str, clouds: ModerationClouds) -> None:
    with pytest.raises(EngineFailed, match="no images"):
        screened(name, clouds, "看图", images=(PICTURE,))


@pytest.mark.parametrize("name", ["alibaba", "tencent"])
def test_the_pieces_of_a_stream_are_seen_together(name: str, clouds: ModerationClouds) -> None:
    async def stream(one: CloudEngine) -> list[Level]:
        found = []
        for piece in (GRAVE[:2], GRAVE[2:], "以及更多"):
            asked = context(session="s-1")
            found.append((await one.screen((piece,), Direction.OUTPUT, asked)).level)
        return found

    levels = with_engine(name, clouds, stream)
    assert levels[:2] == [Level.NONE, Level.HIGH]
    assert len(cloud(clouds, name).requests) == 3, "a verdict of a stream is not kept"


# --- who signs as the SDKs do --------------------------------------------------------------------


def _last(clouds: ModerationClouds, name: str) -> tuple[str, dict[str, str], bytes]:
    return cloud(clouds, name).requests[-1]


def test_our_request_to_alibaba_is_the_sdks(clouds: ModerationClouds) -> None:
    from alibabacloud_green20220302 import models
    from alibabacloud_green20220302.client import Client
    from alibabacloud_tea_openapi.models import Config

    assert screened("alibaba", clouds, f"你好 a+b&c~* {GRAVE}").level is Level.HIGH
    path, headers, body = _last(clouds, "alibaba")
    form = dict(parse_qsl(body.decode()))
    endpoint = clouds.url.removeprefix("http://")
    sdk = Client(Config(access_key_id=ACCESS, access_key_secret=SECRET, endpoint=endpoint,
                        protocol="HTTP"))  # fmt: skip
    answer = sdk.text_moderation_plus(
        models.TextModerationPlusRequest(form["Service"], form["ServiceParameters"])
    )
    assert answer.body.data.risk_level == "high", "the simulator takes the SDK's signature, too"
    sdk_path, sdk_headers, sdk_body = _last(clouds, "alibaba")
    assert (path, body) == (sdk_path, sdk_body)
    assert json.loads(form["ServiceParameters"])["content"] == f"你好 a+b&c~* {GRAVE}"
    _same_headers(headers, sdk_headers, but={"x-acs-date", "x-acs-signature-nonce"},
                  only_sdk={"x-acs-credentials-provider"})  # fmt: skip

    screened("alibaba", clouds, images=(PICTURE,))
    path, _, body = _last(clouds, "alibaba")
    form = dict(parse_qsl(body.decode()))
    sdk.multi_modal_guard_for_base_64(models.MultiModalGuardForBase64Request(
        image_base_64str=form["ImageBase64Str"], service="img_query_security_check",
        service_parameters=form["ServiceParameters"],
    ))  # fmt: skip
    sdk_path, _, sdk_body = _last(clouds, "alibaba")
    assert (path, body) == (sdk_path, sdk_body)


def test_our_request_to_tencent_is_the_sdks(clouds: ModerationClouds) -> None:
    from tencentcloud.common.common_client import CommonClient
    from tencentcloud.common.credential import Credential
    from tencentcloud.common.profile.client_profile import ClientProfile
    from tencentcloud.common.profile.http_profile import HttpProfile
    from tencentcloud.tms.v20201229 import models, tms_client

    endpoint = clouds.url.removeprefix("http://")
    profile = ClientProfile(httpProfile=HttpProfile(protocol="http", endpoint=endpoint))
    keys = Credential(ACCESS, SECRET)

    answer = screened("tencent", clouds, f"你好{GRAVE}", direction=Direction.OUTPUT, session="s-9")
    assert answer.level is Level.HIGH
    path, headers, body = _last(clouds, "tencent")
    request = models.TextModerationRequest()
    request.from_json_string(body.decode())
    answer = tms_client.TmsClient(keys, "ap-guangzhou", profile).TextModeration(request)
    assert answer.Suggestion == "Block", "the simulator takes the SDK's signature, too"
    sdk_path, sdk_headers, sdk_body = _last(clouds, "tencent")
    assert path == sdk_path and json.loads(body) == json.loads(sdk_body)
    only_sdk = {"x-tc-traceid", "x-tc-requestclient"}
    _same_headers(headers, sdk_headers, but={"x-tc-timestamp"}, only_sdk=only_sdk)

    screened("tencent", clouds, images=(PICTURE,))
    path, headers, body = _last(clouds, "tencent")
    image = CommonClient("ims", "2020-12-29", keys, "ap-guangzhou", profile)
    found = image.call_json("ImageModeration", json.loads(body))
    assert found["Response"]["Suggestion"] == "Block"
    sdk_path, sdk_headers, sdk_body = _last(clouds, "tencent")
    assert path == sdk_path and json.loads(body) == json.loads(sdk_body)
    _same_headers(headers, sdk_headers, but={"x-tc-timestamp"}, only_sdk=only_sdk)


def _same_headers(
    ours: dict[str, str], sdk: dict[str, str], *, but: set[str], only_sdk: set[str]
) -> None:
    """What says anything of the call: HTTP's own headers, and the SDK's of itself, do not."""

    def told(headers: dict[str, str]) -> dict[str, str]:
        names = {n for n in headers if n.startswith("x-")} | {"host", "content-type"}
        return {name: headers[name] for name in names - but - only_sdk}

    assert told(ours) == told(sdk)
    assert ours.keys() >= but
    scheme, _, _ = ours["authorization"].partition(",")
    assert scheme.split(" ")[:1] == sdk["authorization"].split(" ")[:1]


# --- what goes wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("down", EngineFailure.UNREACHABLE),
        ("broken", EngineFailure.UNREACHABLE),
        ("garbage", EngineFailure.GARBAGE),
        ("unjust", EngineFailure.REFUSED),
        ("slow", EngineFailure.TIMEOUT),
    ],
)
def test_each_fault_is_a_failure_of_its_kind(
    name: str, fault: str, expected: EngineFailure, clouds: ModerationClouds
) -> None:
    cloud(clouds, name).fault = fault
    error = failure(name, clouds, "早上好", deadline_s=0.3 if fault == "slow" else LONG_S)
    assert (error.engine, error.failure) == (name, expected)
    assert SECRET not in str(error) and ACCESS not in str(error) and "早上好" not in str(error)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_secret_and_a_missing_one_are_refused(name: str, clouds: ModerationClouds) -> None:
    for credential in (f"{ACCESS}:wrong", "nobody:x"):
        assert failure(name, clouds, "x", credential=credential).failure is EngineFailure.REFUSED
    cloud(clouds, name).requests.clear()
    for credential in (None, "no pair"):
        error = failure(name, clouds, "x", credential=credential)
        assert (error.failure, error.detail) == (EngineFailure.REFUSED, "no credential")
    assert not cloud(clouds, name).requests


@pytest.mark.parametrize("name", NAMES)
def test_a_clock_that_is_wrong_is_refused_by_the_vendor(
    name: str, clouds: ModerationClouds
) -> None:
    wrong = clock(unix_time=lambda: 1_764_000_000.0)
    assert failure(name, clouds, "x", at=wrong).failure is EngineFailure.REFUSED


@pytest.mark.parametrize("name", NAMES)
def test_a_throttled_engine_rests(name: str, clouds: ModerationClouds) -> None:
    cloud(clouds, name).left = 1

    async def three(one: CloudEngine) -> list[str]:
        heard = []
        for number in range(3):
            try:
                await one.screen((f"第{number}",), Direction.INPUT, context())
                heard.append("ok")
            except EngineFailed as error:
                heard.append(f"{error.failure} {error.detail}")
        return heard

    first, second, third = with_engine(name, clouds, three)
    assert first == "ok" and second.startswith("throttled")
    assert third == "unreachable breaker resting"
    assert len(cloud(clouds, name).requests) == 2


def test_a_broken_engine_is_left_alone_and_tried_again(clouds: ModerationClouds) -> None:
    now = [0.0]
    clouds.tencent.fault = "down"

    async def ask(one: CloudEngine) -> None:
        for number in range(CONSECUTIVE_FAILURES_MAX + 2):
            with pytest.raises(EngineFailed):
                await one.screen((f"第{number}",), Direction.INPUT, context())
        assert len(clouds.tencent.requests) == CONSECUTIVE_FAILURES_MAX
        clouds.tencent.fault = ""
        now[0] += 5.0
        assert (await one.screen((GRAVE,), Direction.INPUT, context())).level is Level.HIGH

    with_engine("tencent", clouds, ask, at=clock(monotonic=lambda: now[0]))


def test_a_request_that_one_vendor_does_not_take_says_nothing_of_others(
    clouds: ModerationClouds,
) -> None:
    async def ask(one: CloudEngine) -> None:
        for _ in range(5):
            with pytest.raises(EngineFailed) as caught:
                await one.screen(("\ud800",), Direction.INPUT, context())
            assert caught.value.failure is EngineFailure.REFUSED
        assert (await one.screen(("x",), Direction.INPUT, context())).level is Level.NONE

    for name in NAMES:
        with_engine(name, clouds, ask)


def test_a_text_of_too_many_pieces_is_not_passed(clouds: ModerationClouds) -> None:
    error = failure("alibaba", clouds, "好" * 2_000 * PIECES_MAX)
    assert (error.failure, error.detail) == (EngineFailure.REFUSED, "too long")
    assert not clouds.alibaba.requests


def test_our_own_quota_is_kept(clouds: ModerationClouds) -> None:
    now = [0.0]

    async def ask(one: CloudEngine) -> list[str]:
        heard = []
        for number, at in enumerate((0.0, 0.1, 0.2, 0.6, 0.7, 90_000.0)):
            now[0] = at
            try:
                await one.screen((f"第{number}",), Direction.INPUT, context())
                heard.append("ok")
            except EngineFailed as error:
                heard.append(error.detail)
        return heard

    at = clock(monotonic=lambda: now[0])._replace(nonce=clock().nonce)
    full = "own quota"
    assert with_engine("huawei", clouds, ask, at=at, quota=CallQuota(2)) == [
        "ok", "ok", full, "ok", full, "ok",
    ]  # fmt: skip
    cloud(clouds, "huawei").requests.clear()
    heard = with_engine("huawei", clouds, ask, at=at, quota=CallQuota(100, per_day=4))
    assert heard == ["ok", "ok", "ok", "ok", full, full]


def test_what_an_engine_did_is_counted_by_how_it_ended(clouds: ModerationClouds) -> None:
    async def ask(one: CloudEngine) -> None:
        for text in ("一", "一", "二"):
            await one.screen((text,), Direction.INPUT, context())
        clouds.tencent.fault = "slow"
        leaving = asyncio.ensure_future(one.screen(("三",), Direction.INPUT, context()))
        await asyncio.to_thread(until, lambda: len(clouds.tencent.requests) == 3)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        clouds.tencent.awake.set()
        clouds.tencent.fault = "unjust"
        for text in ("四", "五"):  # the second is not asked: it rests
            with pytest.raises(EngineFailed):
                await one.screen((text,), Direction.INPUT, context())
        found = one.status("tencent-tianyu", "cn")
        assert (found.answered, found.from_memory, found.withdrawn) == (2, 1, 1)
        assert found.errors == {"refused": 1, "breaker": 1}
        assert found.breaker == "resting" and found.ready_in_s > 0
        assert sum(found.waits.values()) == 2
        assert (found.requests_today, found.requests_a_day) == (4, 9)
        assert found.last_error == "breaker" and found.last_error_s > 0

    with_engine("tencent", clouds, ask, quota=CallQuota(10_000, 9))


def test_characters_are_charged_where_the_contract_says_so(clouds: ModerationClouds) -> None:
    async def ask(one: CloudEngine) -> tuple[EngineCost, ...]:
        texts = ("十个字的一段文本呀呀", GRAVE)
        return (await one.screen(texts, Direction.INPUT, context())).costs

    found = with_engine("baidu", clouds, ask, price=EnginePrice(5, 7))
    assert found == (EngineCost("baidu", 2, 2 * 5 + (10 + len(GRAVE)) * 7),)


@pytest.mark.parametrize("charged", [True, False])
def test_what_is_withdrawn_is_owed_where_the_vendor_charges_it(
    clouds: ModerationClouds, charged: bool
) -> None:
    owed: list[EngineCost] = []

    async def ask(one: CloudEngine) -> None:
        clouds.tencent.fault = "slow"
        asked = msgspec.structs.replace(context(), owe=owed.append)
        leaving = asyncio.ensure_future(one.screen(("四个字呀",), Direction.INPUT, asked))
        await asyncio.to_thread(until, lambda: len(clouds.tencent.requests) == 1)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        clouds.tencent.awake.set()

    with_engine("tencent", clouds, ask, price=EnginePrice(5, 7, withdrawn=charged))
    assert owed == ([EngineCost("tencent", 1, 5 + 4 * 7)] if charged else [])


def test_an_engine_without_a_key_pair_says_so(clouds: ModerationClouds) -> None:
    async def ask(one: CloudEngine) -> None:
        with pytest.raises(EngineFailed):
            await one.screen(("一",), Direction.INPUT, context())
        found = one.status("baidu-censor", "")
        assert not found.credential and found.errors == {"no_credential": 1}

    with_engine("baidu", clouds, ask, credential=None)


def test_the_same_text_is_asked_about_once(clouds: ModerationClouds) -> None:
    async def ask(one: CloudEngine) -> list[int]:
        costs: list[tuple[EngineCost, ...]] = []
        for texts in (("问题", GRAVE), ("问题", GRAVE, "再问"), (GRAVE,)):
            costs.append((await one.screen(texts, Direction.INPUT, context())).costs)
        other = context(tenant="clinic")
        costs.append((await one.screen((GRAVE,), Direction.INPUT, other)).costs)
        return [sum(each.cost_pico for each in of_call) for of_call in costs]

    costs = with_engine("alibaba", clouds, ask)
    assert costs == [2 * PRICE_PICO, PRICE_PICO, 0, PRICE_PICO]
    assert len(clouds.alibaba.requests) == 4


def test_a_failure_is_not_kept(clouds: ModerationClouds) -> None:
    async def ask(one: CloudEngine) -> Level:
        clouds.alibaba.fault = "garbage"
        with pytest.raises(EngineFailed):
            await one.screen((GRAVE,), Direction.INPUT, context())
        clouds.alibaba.fault = ""
        return (await one.screen((GRAVE,), Direction.INPUT, context())).level

    assert with_engine("alibaba", clouds, ask) is Level.HIGH


def test_a_caller_who_leaves_is_no_failure_of_the_engine(clouds: ModerationClouds) -> None:
    clouds.alibaba.fault = "slow"

    async def ask(one: CloudEngine) -> None:
        for _ in range(CONSECUTIVE_FAILURES_MAX + 1):
            leaving = asyncio.ensure_future(one.screen(("x",), Direction.INPUT, context()))
            await asyncio.sleep(0.02)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        assert one.health.state(0.0) == "closed"

    with_engine("alibaba", clouds, ask)
