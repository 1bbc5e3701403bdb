"""Templates: filled with what the platform has, in both languages, and every gap marked."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from tests.security.platform import Platform, platform
from tokenschain.control.compliance import template_facts
from tokenschain.core.compliance.templates import (
    TEMPLATES,
    DataProcessor,
    Language,
    LastDraw,
    TemplateFacts,
    TemplateName,
    fill,
)
from tokenschain.core.snapshot import ModelRoute, Offer, Snapshot, Upstream
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy
from tokenschain.infra.config.moderation import (
    ModerationEngineSettings,
    ModerationReviewSettings,
    ModerationSettings,
)
from tokenschain.infra.database.engine import reading

GAP = {"zh": "【待补充：", "en": "[TO BE ADDED: "}
NOTHING = TemplateFacts(
    day="2026-11-28", version="1", service_url="", models=(), processors=(), policies=(),
    filings=(), notice_zh="", notice_en="", labels=(), kept={}, record_days=180,
    crypto_suite="gm", request_days=30, incidents=0, last_draw=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("templates")) as made:
        spec = {"number": "N-17", "models": ["big"], "source": "notice", "kind": "algorithm",
                "title": "Ranking", "filer": "Example Ltd"}  # fmt: skip
        assert made.operator("PUT", "/filings/algo", {"spec": spec}).status_code == 200
        qwen = Upstream("qwen", "alibaba", "https://models.example/v1", zone="cn", region="cn-x")
        made.app.state.context.publisher.snapshot = Snapshot(
            "1", {"qwen": qwen}, {"big": ModelRoute("big", "chat", (Offer("qwen", "big"),))},
            filings={"big": "F-9"},
            moderation={
                "open": ModerationPolicy(state="active", audience="public", engines=("tianyu",)),
                "off": ModerationPolicy(state="shadow"),
            },
        )  # fmt: skip
        yield made


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_each_gap_is_marked_and_listed(
    house: Platform, name: TemplateName, language: Language
) -> None:
    found = house.operator("GET", f"/compliance/templates/{name}?language={language}").json()
    assert found["markdown"].count(GAP[language]) == len(found["missing"]) > 0
    assert all(f"{GAP[language]}{one}" in found["markdown"] for one in found["missing"])
    other = GAP["zh" if language == "en" else "en"]
    assert other not in found["markdown"]


def test_what_the_platform_has_stands_in_the_report(house: Platform) -> None:
    text = house.operator("GET", "/compliance/templates/algorithm-assessment?language=en").json()
    said = text["markdown"]
    for words in (
        "Example Ltd", "N-17", "Ranking", "| big | chat | qwen | F-9 |",
        "| qwen | alibaba | models.example | cn-x | cn | big |", "moderation/tianyu",
        "| open | platform | public |",
    ):  # fmt: skip
        assert words in said, words
    assert "| off |" not in said, "what is not in force is not claimed"


def test_nothing_is_made_up_where_nothing_is_known() -> None:
    report = fill("algorithm-assessment", NOTHING, "en")
    for what in (
        "Operator",
        "Filing number",
        "In service since",
        "Address of the service",
        "the models that are served",
        "who processes data",
        "moderation: no policy is in force",
        "how content is labelled: there is no rule",
    ):
        assert any(what in one for one in report.missing), what
    assert "kept for 180 days; crypto suite gm" in report.markdown


def test_transfers_abroad_ask_for_their_legal_basis_and_names_stay_text() -> None:
    abroad = DataProcessor("us*1*", "custom", "api.example", "us", "abroad", ("m",))
    found = fill("processors", NOTHING._replace(processors=(abroad,)), "en")
    assert "legal basis of the transfer abroad" in found.missing
    assert "us\\*1\\*" in found.markdown and "us*1*" not in found.markdown


def test_a_draw_that_does_not_pass_is_said_so() -> None:
    draw = LastDraw("m", "2026-11-28", passes=False, asked=1_600)
    report = fill("algorithm-assessment", NOTHING._replace(last_draw=draw), "zh").markdown
    assert "1600 题" in report and "未达到" in report


def test_who_may_not_read_and_what_is_no_template_is_refused(house: Platform) -> None:
    assert house.operator("GET", "/compliance/templates/certificate").status_code == 404
    owner = house.person("acme", "owner")
    assert owner("GET", "/compliance/templates/user-notice").status_code == 403


def test_of_a_review_the_engines_are_the_processors_with_their_vendors(house: Platform) -> None:
    context = house.app.state.context
    engine = ModerationEngineSettings(
        vendor="tencent-tianyu", credential="env:T", region="ap-guangzhou", zone="cn"
    )
    review = ModerationReviewSettings(engines=("one", "other"))
    moderation = ModerationSettings(
        engines={"one": engine, "other": engine}, reviews={"twice": review}
    )
    settings = msgspec.structs.replace(context.settings, moderation=moderation)
    policies = {
        "tried": ModerationPolicy(state="share", share=0.1, engines=("twice",)),
        "watches": ModerationPolicy(state="shadow", engines=("nobody",)),
    }
    snapshot = Snapshot("1", {}, {}, moderation=policies)
    with reading(house.engine) as db:
        found = template_facts.read(db, settings, snapshot, {}, 0.0)
    assert found.processors == [
        DataProcessor(f"moderation/{name}", "tencent-tianyu", "", "ap-guangzhou", "cn", ())
        for name in ("one", "other")
    ]
